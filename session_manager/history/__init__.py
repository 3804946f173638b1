"""Histories that a model's provider accepts: what is wrong with one, how to repair it, where to cut it.

Pure functions on sequences of messages. They change nothing and touch no store.

* `Rules` say what a provider accepts: `OPENAI_CHAT`, `OPENAI_RESPONSES`, `ANTHROPIC`, `GEMINI`, `BEDROCK`, `STRICT_TEMPLATES`, and
  `BY_SHAPE`, the default: each message by the rules of its own shape.
* `problems` finds what a provider refuses; `repair` mends it.
* `turns`, `safe_start` and `fit` cut a history without parting a call from its result.
* `estimate_tokens` estimates the tokens of a message.
* `Shape` says how a message carries its calls and results; `register_shape` adds yours.
"""

import typing as _typing

from session_manager.late import late as _late

if _typing.TYPE_CHECKING:
    from session_manager.history.context import ContextOptions as ContextOptions
    from session_manager.history.cuts import fit as fit
    from session_manager.history.cuts import safe_start as safe_start
    from session_manager.history.cuts import turns as turns
    from session_manager.history.flaws import Problem as Problem
    from session_manager.history.flaws import problems as problems
    from session_manager.history.repairs import repair as repair
    from session_manager.history.roles import head as head
    from session_manager.history.rules import ANTHROPIC as ANTHROPIC
    from session_manager.history.rules import BEDROCK as BEDROCK
    from session_manager.history.rules import BY_SHAPE as BY_SHAPE
    from session_manager.history.rules import GEMINI as GEMINI
    from session_manager.history.rules import OPENAI_CHAT as OPENAI_CHAT
    from session_manager.history.rules import OPENAI_RESPONSES as OPENAI_RESPONSES
    from session_manager.history.rules import STRICT_TEMPLATES as STRICT_TEMPLATES
    from session_manager.history.rules import Empty as Empty
    from session_manager.history.rules import Rules as Rules
    from session_manager.history.rules import SystemPlace as SystemPlace
    from session_manager.history.rules import Unique as Unique
    from session_manager.history.shapes import Call as Call
    from session_manager.history.shapes import Result as Result
    from session_manager.history.shapes import Shape as Shape
    from session_manager.history.shapes import Where as Where
    from session_manager.history.shapes import register_shape as register_shape
    from session_manager.history.shapes import shape_of as shape_of
    from session_manager.history.tokens import estimate_tokens as estimate_tokens

#: Where the names are that are imported when they are asked for.
_HOMES = {
    "ANTHROPIC": "rules",
    "BEDROCK": "rules",
    "BY_SHAPE": "rules",
    "Call": "shapes",
    "ContextOptions": "context",
    "Empty": "rules",
    "GEMINI": "rules",
    "OPENAI_CHAT": "rules",
    "OPENAI_RESPONSES": "rules",
    "Problem": "flaws",
    "Result": "shapes",
    "Rules": "rules",
    "STRICT_TEMPLATES": "rules",
    "Shape": "shapes",
    "SystemPlace": "rules",
    "Unique": "rules",
    "Where": "shapes",
    "estimate_tokens": "tokens",
    "fit": "cuts",
    "head": "roles",
    "problems": "flaws",
    "register_shape": "shapes",
    "repair": "repairs",
    "safe_start": "cuts",
    "shape_of": "shapes",
    "turns": "cuts",
}

if not _typing.TYPE_CHECKING:  # else every name would be one of this module's
    __all__ = sorted(_HOMES)  # noqa: PLE0605 - type checkers go by the aliases above

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = _late(__name__, home, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
