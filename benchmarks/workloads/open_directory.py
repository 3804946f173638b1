"""Opening a large directory, and reading one session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager
from session_manager.files import Files
from session_manager.stores.snapshot import SnapshotStore

__all__ = ["open_directory"]

_SESSIONS = 10_000
_MESSAGES = 3
_KEY = "session-5000"
_TARGET = Target(0.050, "seconds")

_SUBJECT = """
import sys, time
from session_manager import SessionManager
started = time.perf_counter()
manager = SessionManager(sys.argv[1])
history = manager.get_history(sys.argv[2])
print(time.perf_counter() - started)
"""
_FLOOR = """
import os, sys, time
import msgspec
started = time.perf_counter()
names = os.listdir(sys.argv[1])
with open(os.path.join(sys.argv[1], sys.argv[2] + ".session.json"), "rb") as file:
    value = msgspec.json.decode(file.read())
print(time.perf_counter() - started)
"""


def open_directory(place: Place) -> Iterator[Case]:
    """Open a directory of 10,000 sessions and read one, against listing it and decoding one file."""
    with place.directory() as path:
        _build(path)
        figures = [
            Figure("in a fresh process", "fresh process", "bare process", _TARGET),
            Figure("a fresh manager", "fresh manager", "bare", _TARGET),
        ]
        contestants = {
            "bare process": lambda: [float(place.python(_FLOOR, path, _KEY))],
            "fresh process": lambda: [float(place.python(_SUBJECT, path, _KEY))],
            "bare": lambda: [timed(lambda: _read_bare(path))],
            "fresh manager": lambda: _read(path),
        }
        yield Case(f"{_SESSIONS:,} sessions", contestants, figures, place.rounds(100))


class _Unsynced(Files):
    """A directory that is filled in seconds rather than minutes."""

    def sync(self, fd: int) -> None:
        pass


def _build(path: str) -> None:
    source = texts()
    store = SnapshotStore(path, files=_Unsynced)
    with SessionManager(store) as manager:
        for number in range(_SESSIONS):
            fill(manager, f"session-{number}", _MESSAGES, source)
    store.close()
    os.sync()


def _read(path: str) -> list[float]:
    started: list[SessionManager] = []

    def read() -> None:
        started.append(SessionManager(path))
        started[0].get_history(_KEY)

    seconds = timed(read)
    started[0].close()
    return [seconds]


def _read_bare(path: str) -> object:
    names = os.listdir(path)
    with open(os.path.join(path, f"{_KEY}.session.json"), "rb") as file:
        return names, msgspec.json.decode(file.read())
