"""Opening a large directory, and reading one session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import build, path_of, url
from session_manager import SessionManager

__all__ = ["open_directory"]

_SESSIONS = 10_000
_MESSAGES = 3
_TARGET = Target(0.050, of="value")

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
names = os.listdir(os.path.dirname(sys.argv[1]))
with open(sys.argv[1], "rb") as file:
    value = msgspec.json.decode(file.read())
print(time.perf_counter() - started)
"""


def open_directory(place: Place) -> Iterator[Case]:
    """Open a directory of 10,000 sessions and read one, against listing it and decoding one file."""
    keys = place.keys(_SESSIONS)
    key = keys[len(keys) // 2]
    with place.directory() as path:
        build("snapshot", path, keys, _MESSAGES, texts())
        file = path_of("snapshot", path, key)
        figures = [
            Figure("in a fresh process", "fresh process", "bare process", _TARGET),
            Figure("a fresh manager", "fresh manager", "bare", _TARGET),
        ]
        contestants = {
            "bare process": lambda: [float(place.python(_FLOOR, file))],
            "fresh process": lambda: [float(place.python(_SUBJECT, url("snapshot", path), key))],
            "bare": lambda: [timed(lambda: _read_bare(file))],
            "fresh manager": lambda: _read(url("snapshot", path), key),
        }
        yield Case(f"{len(keys):,} sessions", contestants, figures, place.rounds(100))


def _read(storage: str, key: str) -> list[float]:
    started: list[SessionManager] = []

    def read() -> None:
        started.append(SessionManager(storage))
        started[0].get_history(key)

    seconds = timed(read)
    started[0].close()
    return [seconds]


def _read_bare(file: str) -> object:
    names = os.listdir(os.path.dirname(file))
    with open(file, "rb") as opened:
        return names, msgspec.json.decode(opened.read())
