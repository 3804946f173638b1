"""A copy of a database, page by page, as it is at one moment, while others write to it.

The connection that reads holds a transaction, so that every page is of that moment, and the copy never begins anew. It makes no
writer wait. The copy is one file, outside of WAL mode: it has nothing beside it, and a medium that is read-only can hold it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

from session_manager.stores.sqlite.connecting import Connect, Opener

__all__ = ["Counts", "copy_pages"]

#: How many pages are copied before the progress is told.
_PAGES = 2048

#: Where the header says how a database is written and read, and that it is not in WAL mode (https://www.sqlite.org/fileformat2.html#file_format_version_numbers).
_MODES = 18, b"\1\1"

_COUNT = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM messages), (SELECT count(*) FROM archive)"

#: How many sessions, messages and archived messages a database has.
Counts = tuple[int, int, int]


def copy_pages(
    source: sqlite3.Connection, path: str, progress: Callable[[int, int], object] | None, connect: Connect
) -> Counts:
    """Copy a database into an empty file, which is not durable then.

    :param source: a connection that reads; it is left in a transaction.
    :param progress: called with how many pages are done, and how many there are.
    :raises sqlite3.Error: if a page cannot be read or written.
    """
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def tell(_: int, left: int, pages: int) -> None:
        if progress is not None:
            progress(pages - left, pages)

    opener = Opener(path, read_only=False, busy_timeout=0, connect=connect)
    with closing(opener._connection("mode=rw")) as target:
        target.execute("PRAGMA journal_mode = OFF").fetchone()
        target.execute("PRAGMA synchronous = OFF")
        source.backup(target, pages=_PAGES, progress=tell)
    # Only a new connection knows that the pages say WAL mode, and that is not to be: nothing of SQLite's need lie beside the copy.
    with open(path, "r+b", buffering=0) as file:
        file.seek(_MODES[0])
        file.write(_MODES[1])
    with closing(opener._connection("mode=ro")) as target:
        sessions, messages, archived = target.execute(_COUNT).fetchone()
    return sessions, messages, archived
