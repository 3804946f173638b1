"""What an operator does with a storage: look at it, check it, and put it right.

Every function takes the storage as a URL or path, as `session_manager.open_store` does, or as an open `Store`. One that only
reads opens it read-only, beside the program that writes to it. One that takes long tells you how far it is, by ``progress``.

>>> from session_manager import SessionManager, operations
>>> from session_manager.stores.memory import MemoryStore
>>> store = MemoryStore()
>>> with SessionManager(store) as m:
...     _ = m.add_message("telegram:42", "user", "Hello!")
>>> operations.stats(store).messages
1
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from session_manager.operations import quarantine as quarantine
    from session_manager.operations.accepting import AcceptedEdits as AcceptedEdits
    from session_manager.operations.accepting import accept_edits as accept_edits
    from session_manager.operations.backing_up import backup as backup
    from session_manager.operations.checking import verify as verify
    from session_manager.operations.compaction import CompactReport as CompactReport
    from session_manager.operations.compaction import compact as compact
    from session_manager.operations.erasing import ErasedSession as ErasedSession
    from session_manager.operations.erasing import EraseReport as EraseReport
    from session_manager.operations.erasing import erase as erase
    from session_manager.operations.holding import Holder as Holder
    from session_manager.operations.holding import holder as holder
    from session_manager.operations.restoring import Restored as Restored
    from session_manager.operations.restoring import restore as restore
    from session_manager.operations.salvaging import Gap as Gap
    from session_manager.operations.salvaging import SalvagedSession as SalvagedSession
    from session_manager.operations.salvaging import SalvageReport as SalvageReport
    from session_manager.operations.salvaging import salvage as salvage
    from session_manager.operations.statistics import Group as Group
    from session_manager.operations.statistics import Stats as Stats
    from session_manager.operations.statistics import stats as stats
    from session_manager.operations.verification import Backup as Backup
    from session_manager.operations.verification import verify_backup as verify_backup
    from session_manager.stores.copying import CopyReport as CopyReport
    from session_manager.stores.copying import copy as copy

#: Where the names are that are imported when they are asked for.
_HOMES = {
    "AcceptedEdits": "operations.accepting",
    "accept_edits": "operations.accepting",
    "Backup": "operations.verification",
    "CompactReport": "operations.compaction",
    "CopyReport": "stores.copying",
    "EraseReport": "operations.erasing",
    "ErasedSession": "operations.erasing",
    "Gap": "operations.salvaging",
    "Group": "operations.statistics",
    "Holder": "operations.holding",
    "SalvageReport": "operations.salvaging",
    "SalvagedSession": "operations.salvaging",
    "Restored": "operations.restoring",
    "Stats": "operations.statistics",
    "backup": "operations.backing_up",
    "compact": "operations.compaction",
    "copy": "stores.copying",
    "erase": "operations.erasing",
    "holder": "operations.holding",
    "salvage": "operations.salvaging",
    "restore": "operations.restoring",
    "stats": "operations.statistics",
    "verify": "operations.checking",
    "verify_backup": "operations.verification",
}

#: Modules that are imported when they are asked for.
_MODULES = ("quarantine",)

if not _typing.TYPE_CHECKING:  # else every name would be one of this module's
    __all__ = sorted([*_HOMES, *_MODULES])  # noqa: PLE0605 - type checkers go by the aliases above

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return _importlib.import_module(f"{__name__}.{name}")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(_importlib.import_module(f"session_manager.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
