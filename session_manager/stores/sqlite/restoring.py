"""A database that takes the place of another one, whole, while no program has it open.

The old database is folded into one file first: a checkpoint empties its log, and it leaves WAL mode. So no ``-wal`` lies beside
the new one, which SQLite would replay over it, at whatever moment the process is killed. SQLite leaves WAL mode only if no
other connection is open, in any process; that tells whether the database is in use. The lock of the writers is held from before
the folding until the new one is in its place. A program that waits for it then finds another file, and is refused.

A database whose header is damaged cannot be folded. It is kept with what lies beside it.

**A new epoch.** Every session gets a new generation, and the database a new mark of its last commit. A manager that has newer
states in RAM does not take a restored session for an older state of the one it knows.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime

from session_manager.codec.json import encode_json
from session_manager.errors import (
    InvalidStorageError,
    StorageError,
    StorageLockedError,
)
from session_manager.model.ids import renewed
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.placing import copy_file, kept_name, like, place
from session_manager.stores.files.process_lock import ProcessLock
from session_manager.stores.rows.decoding import DamageError, checked_state
from session_manager.stores.sqlite.connecting import Connect, Opener
from session_manager.stores.sqlite.schema import is_marked, mark, schema_version

__all__ = ["begin_epoch", "replace_database"]

#: How many seconds to wait for a program that is in the middle of a write.
_PATIENCE = 1.0
_BESIDE = ("-wal", "-journal", "-shm")
_ROWS = "SELECT id, CAST(key AS BLOB), generation, revision, state, checksum FROM sessions WHERE id > ? ORDER BY id LIMIT 500"
_RENEW = "UPDATE sessions SET generation = ?, state = ?, checksum = ? WHERE id = ?"


def replace_database(
    path: str,
    source: str,
    now: datetime,
    *,
    files: Callable[[str], Files] = Files,
    connect: Connect = sqlite3.connect,
) -> tuple[str | None, tuple[str, ...]]:
    """Put a copy of a database, of a new epoch, in the place of another one, durably.

    :param path: the real path of the place; its directory must exist.
    :param source: the database to copy: one file.
    :param now: when this is.
    :returns: the path under which the old one is kept, `None` if there was none; and the keys of damaged sessions.
    :raises StorageLockedError: if a program has the old one open.
    :raises InvalidStorageError: if what is there is no database of sessions; it is left as it is.
    :raises StorageError: if a log beside it is not its own, or something cannot be read or written. Nothing has changed.
    """
    was_ours = os.path.exists(f"{path}.lock")
    if os.path.lexists(path) and not was_ours:
        Opener(path, read_only=False, busy_timeout=0, connect=connect).identify()
    lock = ProcessLock(f"{path}.lock")
    try:
        if not lock.acquire(_PATIENCE):
            raise StorageLockedError(path)
        return _Replacing(path, now, files, connect, was_ours=was_ours).run(source)
    except sqlite3.Error as error:
        raise StorageError(path, f"cannot be restored: {error}") from error
    except OSError as error:
        raise StorageError(path, f"cannot be restored: {error.strerror}") from error
    finally:
        lock.release()
        lock.close()


class _Replacing:
    """One replacement. Requires the lock of the writers."""

    def __init__(
        self, path: str, now: datetime, files: Callable[[str], Files], connect: Connect, *, was_ours: bool
    ) -> None:
        directory, self._name = os.path.split(path)
        self._path, self._connect, self._open_files, self._was_ours = path, connect, files, was_ours
        self._files = files(directory)
        self._staged = f"{self._name}.restoring-{secrets.token_hex(8)}"
        self._kept = kept_name(self._name, now)

    def run(self, source: str) -> tuple[str | None, tuple[str, ...]]:
        done = False
        try:
            self._fold()
            damaged = self._stage(source)
            if not self._fold():
                self._keep_beside()
            is_kept = place(self._files, self._staged, self._name, self._kept)
            done = True
        finally:
            if not done:
                with contextlib.suppress(OSError):
                    self._files.unlink(self._staged)
            self._files.close_directory()
        return (os.path.join(os.path.dirname(self._path), self._kept) if is_kept else None), damaged

    def _stage(self, source: str) -> tuple[str, ...]:
        """Write the new database beside the old one, durably. What a killed restore has left there goes first."""
        for name in self._files.names():
            if name.startswith(f"{self._name}.restoring-"):
                self._files.unlink(name)
        place, name = os.path.split(source)
        there = self._open_files(place)
        try:
            copy_file(there, name, self._files, self._staged)
        finally:
            there.close_directory()
        damaged = begin_epoch(os.path.join(os.path.dirname(self._path), self._staged), self._connect)
        old = self._files.stat(self._name)
        if old is not None:
            like(self._files, self._staged, old)
        self._files.sync_file(self._staged)
        return damaged

    def _fold(self) -> bool:
        """Make one file of the old database; return whether that was possible, or there is none.

        :raises StorageLockedError: if a program has it open.
        """
        opener = Opener(self._path, read_only=False, busy_timeout=0, connect=self._connect)
        if self._files.stat(self._name) is None:
            opener._check_beside()
            return True
        try:
            opener.identify()
        except InvalidStorageError as error:
            if not self._was_ours or "not a SQLite database" not in error.reason:
                raise
            return False
        opener._check_beside()
        try:
            with closing(opener._connection("mode=rw")) as connection:
                for pragma in ("synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON"):
                    connection.execute(f"PRAGMA {pragma}")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise StorageLockedError(self._path) from error
        except sqlite3.DatabaseError:
            return False
        if mode != b"delete":
            raise StorageLockedError(self._path)
        return True

    def _keep_beside(self) -> None:
        """Move what lies beside a damaged database to the names beside the one that is kept.

        A process that is killed now leaves a damaged database without its log, as it was, and the log under the other name.
        """
        for end in _BESIDE:
            if self._files.stat(self._name + end) is not None:
                self._files.rename(self._name + end, self._kept + end)
        self._files.sync_directory()


def begin_epoch(path: str, connect: Connect = sqlite3.connect) -> tuple[str, ...]:
    """Give each session that can be read a new generation, and the database a new last commit. The file is not durable then.

    :param path: a database that no other program knows.
    :returns: the keys of the sessions that cannot be read.
    :raises sqlite3.Error: if it cannot be written; it is of no use then.
    """
    with closing(Opener(path, read_only=False, busy_timeout=0, connect=connect)._connection("mode=rw")) as connection:
        connection.execute("PRAGMA journal_mode = OFF").fetchone()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        damaged: list[str] = []
        for renewal in _renewals(connection, damaged):
            connection.execute(_RENEW, renewal)
        if is_marked(connection):
            mark(connection, schema_version(connection))
        connection.execute("COMMIT")
    return tuple(damaged)


def _renewals(connection: sqlite3.Connection, damaged: list[str]) -> Iterator[tuple[str, bytes, int, int]]:
    last = -(2**63)
    while rows := connection.execute(_ROWS, (last,)).fetchall():
        last = rows[-1][0]
        for number, name, *row in rows:
            key = name.decode("utf-8", "replace")
            try:
                state = checked_state(key, *row)
            except DamageError:
                damaged.append(key)
                continue
            state.generation = renewed(state.generation)
            data = encode_json(state)
            yield state.generation, data, zlib.crc32(data, zlib.crc32(name)), number
