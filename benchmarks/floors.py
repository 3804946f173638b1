"""The floors of saves: the bare system calls, or statements, that write the same bytes as durably."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

from benchmarks.harness import timed
from benchmarks.material import texts

__all__ = ["PAUSE", "BareDatabase", "BareLog", "append_alone", "bare_replace", "bare_replaces", "compute"]

#: How many seconds a floor pauses: about as long as a save and the call before it compute.
PAUSE = 50e-6
#: How many files are open at once, and how many are synced at once.
_OPEN, _SYNCING = 250, 8

_SETTINGS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
PRAGMA foreign_keys = ON;
PRAGMA cell_size_check = ON;
PRAGMA mmap_size = 0;
CREATE TABLE sessions (id INTEGER PRIMARY KEY, key TEXT UNIQUE, revision INTEGER, state TEXT, checksum INTEGER);
INSERT INTO sessions (key, revision, state, checksum) VALUES ('session', 0, '', 0);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER, position INTEGER, line TEXT, checksum INTEGER,
    UNIQUE (session, position)
);
"""


def compute(seconds: float) -> None:
    """Compute in Python for so long, as a caller does between two writes.

    A sync after a pause takes longer than one right after another: a floor without pauses is one that no program reaches.
    """
    end = time.perf_counter() + seconds
    made: list[dict[str, str]] = []
    while time.perf_counter() < end:
        made = [{str(number): f"{number}"} for number in range(10)] + made[:100]


def bare_replace(directory: int, name: str, buffers: Sequence[bytes], *, syncs: bool = True) -> None:
    """Replace a file durably, by the system calls that this takes and nothing else."""
    _write(directory, ".floor", buffers, syncs=syncs)
    os.replace(".floor", name, src_dir_fd=directory, dst_dir_fd=directory)
    if syncs:
        os.fsync(directory)


def bare_replaces(directory: int, names: Sequence[str], buffers: Sequence[bytes]) -> None:
    """Replace many files durably: some threads write and sync them, then all are renamed, and the directory is synced once.

    The old files are closed afterwards, so that no rename waits until what they take on the disk is freed.
    """
    for start in range(0, len(names), _OPEN):
        some = names[start : start + _OPEN]
        with ThreadPoolExecutor(_SYNCING) as pool:
            list(pool.map(lambda name: _write(directory, f".floor-{name}", buffers, syncs=True), some))
        with ExitStack() as old:
            for name in some:
                with suppress(FileNotFoundError):
                    old.callback(os.close, os.open(name, os.O_RDONLY, dir_fd=directory))
                os.replace(f".floor-{name}", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def _write(directory: int, name: str, buffers: Sequence[bytes], *, syncs: bool) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    left = sum(map(len, buffers)) - os.writev(fd, buffers)
    if left:
        raise OSError(f"{left} bytes were not written")
    if syncs:
        os.fsync(fd)
    os.close(fd)


#: Makes the write-ahead log as long as that of a database in use, which is written over, and not grown, by each commit.
_LONG_LOG = """
CREATE TABLE filler AS SELECT randomblob(4194304) AS data;
DROP TABLE filler;
PRAGMA wal_checkpoint(PASSIVE);
"""
#: As many bytes as the state of a session has.
_STATE = "x" * 320


class BareLog:
    """A file that is appended to, by one `write` and one `fdatasync` a record."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, record: bytes, *, syncs: bool = True) -> float:
        """Measure one record."""

        def step() -> None:
            os.write(self._fd, record)
            if syncs:
                os.fdatasync(self._fd)

        return timed(step)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def append_alone(path: str, record: bytes) -> None:
    """Append a record durably to a file that is opened and looked at for it: the system calls of a log's save."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fstat(fd)
    os.write(fd, record)
    os.fstat(fd)
    os.fdatasync(fd)
    os.close(fd)


class BareDatabase:
    """Tables with the settings of the store, to which rows of the same size are added, one a transaction.

    Besides the `INSERT`, a transaction has what no correct store can do without: the session's row is changed to its next
    revision if it is at the one that the writer knows.
    """

    def __init__(self, path: str, *, syncs: bool = True) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(_SETTINGS)
        if not syncs:
            self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_LONG_LOG)
        self._position = 0
        self._texts = texts()

    def insert(self) -> float:
        """Measure one row."""
        self._position += 1
        line = f'{{"position":{self._position},"message":{{"role":"user","content":"{next(self._texts)}"}}}}'
        return timed(lambda: self._insert(line))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _insert(self, line: str) -> None:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(
                "UPDATE sessions SET revision = revision + 1, state = ?, checksum = 0 WHERE key = 'session' AND revision = ?",
                (_STATE, self._position - 1),
            )
            if cursor.rowcount != 1:
                raise ValueError("another writer changed the floor")
            cursor.execute(
                "INSERT INTO messages (session, position, line, checksum) VALUES (1, ?, ?, 0)", (self._position, line)
            )
            cursor.execute("COMMIT")
