"""Histories that a model's provider accepts: what is wrong with one, how to repair it, where to cut it.

Pure functions on sequences of messages. They change nothing and touch no store.

* `Rules` say what a provider accepts: `OPENAI_CHAT`, `OPENAI_RESPONSES`, `ANTHROPIC`, `GEMINI`, `BEDROCK`, `STRICT_TEMPLATES`, and
  `BY_SHAPE`, the default: each message by the rules of its own shape.
* `problems` finds what a provider refuses; `repair` mends it.
* `turns`, `safe_start` and `fit` cut a history without parting a call from its result.
* `estimate_tokens` estimates the tokens of a message.
* `Shape` says how a message carries its calls and results; `register_shape` adds yours.
"""

from session_manager.history.context import ContextOptions
from session_manager.history.cuts import fit, safe_start, turns
from session_manager.history.problems import Problem, problems
from session_manager.history.repair import repair
from session_manager.history.roles import head
from session_manager.history.rules import (
    ANTHROPIC,
    BEDROCK,
    BY_SHAPE,
    GEMINI,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    STRICT_TEMPLATES,
    Empty,
    Rules,
    SystemPlace,
    Unique,
)
from session_manager.history.shapes import Call, Result, Shape, Where, register_shape, shape_of
from session_manager.history.tokens import estimate_tokens

__all__ = [
    "ANTHROPIC",
    "BEDROCK",
    "BY_SHAPE",
    "GEMINI",
    "OPENAI_CHAT",
    "OPENAI_RESPONSES",
    "STRICT_TEMPLATES",
    "Call",
    "ContextOptions",
    "Empty",
    "Problem",
    "Result",
    "Rules",
    "Shape",
    "SystemPlace",
    "Unique",
    "Where",
    "estimate_tokens",
    "fit",
    "head",
    "problems",
    "register_shape",
    "repair",
    "safe_start",
    "shape_of",
    "turns",
]
