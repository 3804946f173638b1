"""A database in which SQLite cannot write any more: all of it that is whole becomes a new one, in its place.

The new database is built beside the old one, from the whole rows (`session_manager.stores.sqlite.salvage`). It takes the old
one's place in one step, while no program has it open, as a restored backup does (`session_manager.stores.sqlite.restoring`).
The damaged one is kept under another name.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

from session_manager.errors import InvalidStorageError, StorageError, StorageLockedError, UnsupportedFormatError
from session_manager.model.ids import random_id
from session_manager.model.times import utc_now
from session_manager.stores.contract import Commit
from session_manager.stores.files.staging import Staging
from session_manager.stores.salvaged import Salvaged
from session_manager.stores.sqlite.restoring import replace_database
from session_manager.stores.sqlite.salvage import Carved
from session_manager.stores.sqlite.store import SQLiteStore

__all__ = ["carved", "is_page_damage", "rebuild"]


def is_page_damage(error: Exception) -> bool:
    """Say whether an error tells of damaged pages, and not of rows, locks or a full disk."""
    if isinstance(error, UnsupportedFormatError | StorageLockedError):
        return False
    if isinstance(error, InvalidStorageError):
        return "is not a SQLite database" in error.reason or "is not the one of this format" in error.reason
    cause = error.__cause__
    return type(cause) is sqlite3.DatabaseError or "schema is damaged" in str(error)


def carved(path: str) -> Carved | None:
    """Return the sessions on the pages of a database that cannot be opened; `None` if it is none of this library's.

    :raises StorageError: if it cannot be read.
    """
    if not os.path.isfile(path) or not os.path.exists(f"{path}.lock"):
        return None
    try:
        return Carved(path)
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error


def rebuild(there: Carved, done: Callable[[Salvaged], None]) -> str | None:
    """Put all that is whole in the place of a damaged database; return the path under which that one is kept.

    :param there: its pages. No program must write to it meanwhile.
    :param done: called with each session that is in the new one.
    :raises StorageLockedError: if a program has it open.
    :raises StorageError: if the new one cannot be written; the old one stays.
    """
    path, before = there.path, _signature(there.path)
    try:
        staging = Staging(path, "salvaging")
    except OSError as error:
        raise StorageError(path, f"cannot be written anew: {error.strerror}") from error
    try:
        staging.remove_abandoned()
        new = os.path.join(staging.path, "sessions.db")
        with closing(SQLiteStore(new)) as store:
            _write_all(store, there, done)
        if _signature(path) != before:
            raise StorageLockedError(path)
        return replace_database(path, new, utc_now())[0]
    finally:
        staging.discard()
        staging.close()


def _write_all(store: SQLiteStore, there: Carved, done: Callable[[Salvaged], None]) -> None:
    for key in there.keys():  # noqa: SIM118 - no dict
        found = there.salvage(key)
        if found is not None and not found.is_empty:
            _write(store, found)
            done(found)


def _write(store: SQLiteStore, found: Salvaged) -> None:
    archived = tuple((one.position or 0, one) for _, one in found.archive)
    store.write(Commit(found.session, (), None, archived=archived, token=random_id()))


def _signature(path: str) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for end in ("", "-wal"):
        try:
            status = os.stat(path + end)
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found
