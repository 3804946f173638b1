"""Moving in: sessions of other programs become sessions of a storage.

>>> import pathlib, tempfile
>>> from session_manager.importers import import_sessions
>>> from session_manager.stores.memory import MemoryStore
>>> store = MemoryStore()
>>> with tempfile.TemporaryDirectory() as directory:
...     file = pathlib.Path(directory, "support.json")
...     _ = file.write_text('{"messages": [{"role": "user", "content": "Hello!"}]}')
...     report = import_sessions(file, store)
>>> report.sessions, report.messages, list(store.keys())
(1, 1, ['support'])
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from session_manager.importers.adopting import adopt as adopt
    from session_manager.importers.formats import FORMATS as FORMATS
    from session_manager.importers.importing import import_sessions as import_sessions
    from session_manager.importers.report import ImportedFile as ImportedFile
    from session_manager.importers.report import ImportReport as ImportReport
    from session_manager.importers.report import Skipped as Skipped
    from session_manager.importers.writing import OnConflict as OnConflict

#: Where the names are that are imported when they are asked for.
_HOMES = {
    "FORMATS": "formats",
    "ImportReport": "report",
    "ImportedFile": "report",
    "OnConflict": "writing",
    "adopt": "adopting",
    "Skipped": "report",
    "import_sessions": "importing",
}

if not _typing.TYPE_CHECKING:  # else every name would be one of this module's
    __all__ = sorted(_HOMES)  # noqa: PLE0605 - type checkers go by the aliases above

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(_importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
