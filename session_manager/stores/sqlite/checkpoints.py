"""Checkpoints: when the write-ahead log of a database is moved into it. SQLite's own are switched off."""

from __future__ import annotations

import logging
import os
import sqlite3

__all__ = ["Checkpoints"]

_log = logging.getLogger("session_manager")

#: A longer log is moved into the database.
_CHECKPOINT_BYTES = 4 * 1024 * 1024
#: The size of the log is looked at whenever so much may have been written: other processes write to it, and to the same pages.
_LOOK_BYTES = 512 * 1024
#: A changed row takes roughly two pages in the log: its own and one of an index.
_BYTES_PER_CHANGE = 2 * 4096
_TRUNCATE_SECONDS = 0.25


class Checkpoints:
    """The checkpoints of one open database. The caller holds the lock between processes.

    :param path: the database.
    :param busy_timeout: that of the connection that writes, in seconds.
    """

    def __init__(self, path: str, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._changes = 0
        self._size = 0
        #: Whether a reader prevented that the log was emptied.
        self._truncate_again = False
        self._look_again(0)

    def begin_with_another_writer(self) -> None:
        """Note that a new connection writes, which counts its changes from 0."""
        self._changes = 0
        self._look_again(0)

    def is_log_long(self) -> bool:
        """Say whether an earlier process left a log that should be moved."""
        return self._log_size() > _CHECKPOINT_BYTES

    def make(self, writer: sqlite3.Connection, *, truncate: bool) -> bool:
        """Move a long log into the database, as far as possible.

        :param writer: the connection that writes.
        :param truncate: move a short log as well, and leave it empty. If a reader prevents that, a later call tries again.
        :returns: whether the log is empty now.
        """
        truncate = truncate or self._truncate_again
        changes = writer.total_changes
        if not truncate and (changes - self._changes) * _BYTES_PER_CHANGE < _CHECKPOINT_BYTES:
            self._look_again(changes)
            if self._log_size() - self._size < _CHECKPOINT_BYTES:
                return False
        wait = 0.0 if self._truncate_again else _TRUNCATE_SECONDS
        try:
            writer.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
            mode = "TRUNCATE" if truncate else "PASSIVE"
            busy = writer.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0]
            self._truncate_again = truncate and bool(busy)
        except sqlite3.Error as error:
            _log.warning("%s: no checkpoint: %s", self._path, error)
        finally:
            writer.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout * 1000)}")
        self._changes, self._size = changes, self._log_size()
        self._look_again(changes)
        return self._size == 0

    def _look_again(self, changes: int) -> None:
        """Note how many changes there are at a look at the log, and when the next look is due."""
        bytes_left = min(_LOOK_BYTES, _CHECKPOINT_BYTES)
        #: From how many changes on `make` may do something.
        self.due = 0 if self._truncate_again else changes + bytes_left // _BYTES_PER_CHANGE

    def _log_size(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0
