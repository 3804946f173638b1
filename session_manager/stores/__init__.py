"""The stores, how a URL becomes one, and how sessions move between them."""

import typing as _typing

from session_manager.late import late as _late

if _typing.TYPE_CHECKING:
    from session_manager.stores.copying import CopyReport as CopyReport
    from session_manager.stores.copying import copy as copy
    from session_manager.stores.urls import open_store as open_store

#: Where the names are that are imported when they are asked for.
_HOMES = {"CopyReport": "copying", "copy": "copying", "open_store": "urls"}

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
