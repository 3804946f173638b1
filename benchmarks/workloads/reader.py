"""Reading from RAM while other threads save."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
            with _saving(manager):
                return _reads(manager)

        contestants = {"idle": lambda: _reads(manager), "busy": busy}
        figures = [
            Figure("median beside two saves", "busy", "idle"),
            Figure("p99 beside two saves", "busy", "idle", Target(2), statistic="p99"),
        ]
        yield Case("beside two saves", contestants, figures, place.rounds(60))


def _reads(manager: SessionManager) -> list[float]:
    seconds = []
    for _ in range(_READS):
        time.sleep(_PAUSE)
        seconds.append(timed(lambda: manager.get_history("read")))
    return seconds


@contextmanager
def _saving(manager: SessionManager) -> Iterator[None]:
    """Save the other sessions over and over for a block, each in its own thread."""
    stop = threading.Event()

    def save(key: str) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            manager.set_summary(key, f"state {number}")
            manager.save(key)

    threads = [threading.Thread(target=save, args=(key,)) for key in _SAVED]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
