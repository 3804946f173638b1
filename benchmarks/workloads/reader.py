"""Reading from RAM while other threads save."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.floors import bare_replace
from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["reader"]

_MESSAGES = 1_000
_SAVED = ("saved-1", "saved-2")
_SAVED_MESSAGES = 50
_READS = 200
_PAUSE = 0.0005


def reader(place: Place) -> Iterator[Case]:
    """Read 1,000 messages in RAM while two threads save other sessions of 50 KB, against idle."""
    with place.directory() as path, SessionManager(os.path.join(path, "chats")) as manager:
        source = texts()
        fill(manager, "read", _MESSAGES, source)
        for key in _SAVED:
            fill(manager, key, _SAVED_MESSAGES, source)

        def busy() -> list[float]:
            with _working(lambda key, number: _save(manager, key, number)):
                return _reads(manager)

        def bare() -> list[float]:
            with _working(lambda key, _: _replace(path, key)):
                return _reads(manager)

        contestants = {"idle": lambda: _reads(manager), "busy": busy, "bare": bare}
        figures = [
            Figure("median beside two saves", "busy", "idle"),
            Figure("p99 beside two saves", "busy", "idle", Target(2), statistic="p99"),
            Figure("p99 beside two threads of bare system calls", "bare", "idle", statistic="p99"),
        ]
        yield Case("beside two saves", contestants, figures, place.rounds(60))


def _reads(manager: SessionManager) -> list[float]:
    seconds = []
    for _ in range(_READS):
        time.sleep(_PAUSE)
        seconds.append(timed(lambda: manager.get_history("read")))
    return seconds


def _save(manager: SessionManager, key: str, number: int) -> None:
    manager.set_summary(key, f"state {number}")
    manager.save(key)


def _replace(path: str, key: str) -> None:
    """Replace a file of the same size, in a directory of its own."""
    place = os.path.join(path, f"bare-{key}")
    os.makedirs(place, exist_ok=True)
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        bare_replace(directory, "floor", [b"x" * (_SAVED_MESSAGES * 1_100)])
    finally:
        os.close(directory)


@contextmanager
def _working(step: Callable[[str, int], None]) -> Iterator[None]:
    """Work on the other sessions over and over for a block, on each in its own thread."""
    stop = threading.Event()

    def work(key: str) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            step(key, number)

    threads = [threading.Thread(target=work, args=(key,)) for key in _SAVED]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
