"""The test kit, for authors of stores and authors of bots.

* A store of your own is tested by `StoreContract`, and by `SessionMachine`.
* An adapter of your own, between a framework and a manager, is tested by `AdapterContract`.
* A bot is tested with a `Clock`, a `FaultyStore`, and `crash`.
* Hypothesis draws nasty data from `messages`, `sessions`, `keys` and `nasty_text`.

`Clock`, `FaultyStore` and `crash` need no other package. The contracts need pytest, and all others need hypothesis: install both
by ``pip install 'chat-session-manager[testing]'``.
"""

from __future__ import annotations

import sys as _sys
import typing as _typing

from session_manager.late import late as _late
from session_manager.testing.clock import Clock as Clock
from session_manager.testing.faults import FaultyStore as FaultyStore
from session_manager.testing.faults import crash as crash

if _typing.TYPE_CHECKING:
    from session_manager.testing.adapters import Adapted as Adapted
    from session_manager.testing.adapters import AdapterContract as AdapterContract
    from session_manager.testing.contract import StoreContract as StoreContract
    from session_manager.testing.machine import SessionMachine as SessionMachine
    from session_manager.testing.strategies import keys as keys
    from session_manager.testing.strategies import messages as messages
    from session_manager.testing.strategies import nasty_text as nasty_text
    from session_manager.testing.strategies import sessions as sessions

_HOMES = {
    "Adapted": "adapters",
    "AdapterContract": "adapters",
    "SessionMachine": "machine",
    "StoreContract": "contract",
    "keys": "strategies",
    "messages": "strategies",
    "nasty_text": "strategies",
    "sessions": "strategies",
}
_WITH_ASSERTS = ("adapters", "contract", "machine", "machine_base")
_NEEDED = ("hypothesis", "pytest")

if not _typing.TYPE_CHECKING:  # else every name would be one of this module's
    __all__ = sorted(["Clock", "FaultyStore", "crash", *_HOMES])  # noqa: PLE0605 - as in the package's face

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        _explain_asserts()
        try:
            value = _late(__name__, home, name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in _NEEDED:
                raise
            extra = "pip install 'chat-session-manager[testing]'"
            raise ImportError(f"{__name__}.{name} needs {missing}: {extra}", name=missing) from error
        globals()[name] = value
        return value


def _explain_asserts() -> None:
    """Let pytest, if it is running, show the values in the asserts of the kit's modules that are not imported yet."""
    pytest = _sys.modules.get("pytest")
    if pytest is not None:
        modules = [f"{__name__}.{name}" for name in _WITH_ASSERTS]
        pytest.register_assert_rewrite(*(module for module in modules if module not in _sys.modules))


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
