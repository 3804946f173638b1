"""Saving in SQLite: one new message in sessions of several sizes, and many sessions from many threads."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["sqlite"]

_SMALL, _LARGE = 10, 10_000
_TARGET = Target(1.5, "ratio")
_FLAT = Target(1.2, "ratio")
_THREADS = 16
_SAVES = 20

_FLOOR = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
PRAGMA foreign_keys = ON;
PRAGMA cell_size_check = ON;
PRAGMA mmap_size = 0;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER, position INTEGER, line TEXT, checksum INTEGER,
    UNIQUE (session, position)
);
"""


def sqlite(place: Place) -> Iterator[Case]:
    """Save one message of 1 KB in a session of 10 and of 10,000, against an INSERT and a COMMIT; and by 16 threads."""
    with place.directory() as path, SessionManager(f"sqlite:{os.path.join(path, 'chats.db')}") as manager:
        floor = _Floor(os.path.join(path, "floor.db"))
        small, large = _Contest(manager, "small", _SMALL), _Contest(manager, "large", _LARGE)
        contestants = {"insert": floor.insert, "save, 10": small.save, "save, 10,000": large.save}
        figures = [
            Figure("1 of 10 messages", "save, 10", "insert", _TARGET),
            Figure("1 of 10,000 messages", "save, 10,000", "insert", _TARGET),
            Figure("10,000 against 10", "save, 10,000", "save, 10", _FLAT),
        ]
        yield Case("one message", contestants, figures, place.rounds(400))
        floor.close()
        crowd = {"one thread": lambda: [_crowd(manager, 1)], "16 threads": lambda: [_crowd(manager, _THREADS)]}
        figure = Figure("a save by 16 threads", "16 threads", "one thread", Target(0.5, "ratio"))
        yield Case("threads", crowd, [figure], place.rounds(20))


class _Contest:
    """A session whose saves are measured, each after one of its own kind."""

    def __init__(self, manager: SessionManager, key: str, count: int) -> None:
        self._manager = manager
        self._key = key
        self._texts = texts()
        fill(manager, key, count, self._texts)
        manager.save(key)

    def save(self) -> list[float]:
        """Measure the save of one message."""
        self._add_and_save()
        return [self._add_and_save()]

    def _add_and_save(self) -> float:
        fill(self._manager, self._key, 1, self._texts)
        return timed(lambda: self._manager.save(self._key))


class _Floor:
    """A table to which rows of the same size are added, one a transaction."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(_FLOOR)
        self._position = 0
        self._texts = texts()

    def insert(self) -> list[float]:
        """Measure one row."""
        self._insert()
        return [timed(self._insert)]

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _insert(self) -> None:
        self._position += 1
        line = f'{{"position":{self._position},"message":{{"role":"user","content":"{next(self._texts)}"}}}}'
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(
                "INSERT INTO messages (session, position, line, checksum) VALUES (1, ?, ?, 0)", (self._position, line)
            )
            cursor.execute("COMMIT")


def _crowd(manager: SessionManager, threads: int) -> float:
    """Return how many seconds a save takes, all in all, when so many threads save sessions of their own."""
    start = threading.Barrier(threads + 1)

    def save(key: str) -> None:
        source = texts()
        start.wait()
        for _ in range(_SAVES):
            fill(manager, key, 1, source)
            manager.save(key)

    running = [threading.Thread(target=save, args=(f"crowd-{number}",)) for number in range(threads)]
    for thread in running:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in running:
        thread.join()
    return (time.perf_counter() - started) / (threads * _SAVES)
