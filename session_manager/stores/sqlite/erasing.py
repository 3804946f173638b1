"""Erasures in a database: rows go in one transaction, and then every other copy of their text in its files.

SQLite overwrites deleted rows (``secure_delete``). But a row that was moved to another page, as the pages were balanced, leaves a
copy in the unused part of the first one, which a later deletion does not find. The index for search keeps the trigrams of deleted texts in older
segments, with their places; FTS5 overwrites them from SQLite 3.42 on (https://www.sqlite.org/fts5.html#the_secure_delete_configuration_option).
So an erasure merges the index into one segment, writes the whole database anew (``VACUUM``), and empties the log.

**Cut short.** The transaction that deletes the rows puts the key into the table ``erasures``. It stays there, at stage 0 until the database is
written anew, and at stage 1 until the log is empty.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from session_manager.errors import SaveFailedError, SessionManagerError
from session_manager.resource import Resource
from session_manager.stores.descriptions import Finding, Quarantined
from session_manager.stores.erasure import Erasure
from session_manager.stores.sqlite.database import Database
from session_manager.stores.sqlite.group_commit import GroupCommit, Request
from session_manager.stores.sqlite.quarantine import quarantined
from session_manager.stores.sqlite.schema import create_erasures, renew_index, schema_version
from session_manager.stores.sqlite.writes import erase, purge

__all__ = ["Erasures"]

_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE name = ?"
_WAITS_FOR_READER = "the log beside the database waits for a reader: end what reads the database, and erase again"
_WAITS_FOR_INDEX = (
    "the index for search cannot be written by this SQLite: erase again with one that has FTS5 and trigrams"
)
_WAITS_FOR_ROOM = "the database could not be written anew: {}: mend that, and erase again"


_UNFINISHED = "its erasure was begun, and is not finished: erase it again"


class Erasures(Resource):
    """The erasures in a database. Those of which only the log is left are finished at the opening.

    :param group: runs what is written.
    """

    def __init__(self, database: Database, group: GroupCommit) -> None:
        self._database, self._group = database, group
        #: The erasures that were not finished at the opening, and since.
        self.found: list[Finding] = []
        with contextlib.suppress(SessionManagerError, sqlite3.Error):
            self._finish()

    def _finish(self) -> None:
        begun = self._begun()
        if begun and all(begun.values()) and not self._database.read_only:
            begun = begun if self._group.alone(partial(_empty_log, self._database)) else {}
        self.found = self._findings(begun)

    def run(self, keys: Sequence[str], tell: Callable[[str], object]) -> Erasure:
        """Erase sessions, as `Store.erase` says; and finish what was cut short."""
        unfinished = self._begun()
        deleted: list[str] = []
        purged: list[Quarantined] = []
        for key in keys:
            request = Request(key, partial(_erase_rows, key=key, indexed=self._database.has_index))
            self._group.run([request])
            if request.error is not None:
                raise request.error
            is_there, kept = request.result
            deleted += [key] if is_there else []
            purged += kept
            tell(key)
        waits = self._scrubbed() if keys or unfinished else ()
        finished = () if waits else tuple(key for key in unfinished if key not in keys)
        return Erasure(sessions=tuple(deleted), quarantined=tuple(purged), finished=finished, waits=waits)

    def _scrubbed(self) -> tuple[str, ...]:
        try:
            waits = self._group.alone(partial(_scrub, self._database))
        except sqlite3.Error as error:
            raise SaveFailedError(None, f"the rest of an erasure: {error}") from error
        if not waits:
            self.found = []
        return waits

    def unfinished(self) -> list[Finding]:
        """Return the erasures that were begun, and are not finished.

        :raises StorageError: if they cannot be read.
        """
        return self._findings(self._begun())

    def _begun(self) -> dict[str, int]:
        return self._database.read(_begun)

    def _findings(self, keys: Iterable[str]) -> list[Finding]:
        return [Finding(key, self._database.path, None, _UNFINISHED) for key in keys]


def _begun(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the stage of each erasure that was begun, and is not finished, by key; begin a transaction."""
    connection.execute("BEGIN")
    if connection.execute(_HAS_TABLE, ("erasures",)).fetchone() is None:
        return {}
    rows = connection.execute("SELECT CAST(key AS BLOB), stage FROM erasures ORDER BY key").fetchall()
    return {key.decode("utf-8", "replace"): stage for key, stage in rows}


def _erase_rows(connection: sqlite3.Connection, key: str, *, indexed: bool) -> tuple[bool, list[Quarantined]]:
    """Delete all rows of a session, in a transaction, and note that its erasure was begun.

    :param indexed: whether the table ``search`` can be used.
    :returns: whether there was a session, and its rows in quarantine.
    """
    create_erasures(connection)
    connection.execute("INSERT OR REPLACE INTO erasures VALUES (?, 0)", (key,))
    is_there = connection.execute("SELECT 1 FROM sessions WHERE key = ?", (key,)).fetchone() is not None
    kept = [one for one in quarantined(connection) if one.key == key]
    connection.execute("DELETE FROM quarantine WHERE key = ?", (key,))
    if is_there:
        erase(connection, key, indexed=indexed)
    return is_there, kept


def _scrub(database: Database) -> tuple[str, ...]:
    """Leave no text of deleted rows in any file of a database. Requires the lock, and no open transaction.

    :returns: why some of it is still there; ``()`` if nothing is.
    """
    writer, indexed = database.writer, database.has_index
    if not indexed and writer.execute(_HAS_TABLE, ("search",)).fetchone() is not None:
        return (_WAITS_FOR_INDEX,)
    try:
        if indexed:
            _merge_index(database)
        writer.execute("VACUUM")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE erasures SET stage = 1")
        database.mark(writer, schema_version(writer))
        writer.execute("COMMIT")
    except sqlite3.Error as error:
        if writer.in_transaction:
            writer.execute("ROLLBACK")
        return (_WAITS_FOR_ROOM.format(error),)
    return _empty_log(database)


def _merge_index(database: Database) -> None:
    """Merge the index into one segment, which has no deleted texts; begin a damaged one anew.

    :raises sqlite3.Error: if it cannot be written.
    """
    writer = database.writer
    writer.execute("BEGIN IMMEDIATE")
    schema = schema_version(writer)
    try:
        purge(writer, indexed=True)
        writer.execute("INSERT INTO search (search) VALUES ('optimize')")
        is_damaged = writer.execute("SELECT 1 FROM garbage LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        is_damaged = True
    if is_damaged:
        writer.execute("ROLLBACK")
        writer.execute("BEGIN IMMEDIATE")
        schema = schema_version(writer)
        renew_index(writer)
    database.mark(writer, schema)
    writer.execute("COMMIT")


def _empty_log(database: Database) -> tuple[str, ...]:
    """Empty the log, and forget the erasures of stage 1. Requires the lock, and no open transaction.

    :returns: why the log is not empty; ``()`` if it is.
    :raises sqlite3.Error: if the erasures cannot be forgotten: they are finished, and look as if they were not.
    """
    if not database.checkpoint(truncate=True):
        return (_WAITS_FOR_READER,)
    writer = database.writer
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM erasures WHERE stage = 1")
    database.mark(writer, schema_version(writer))
    writer.execute("COMMIT")
    return ()
