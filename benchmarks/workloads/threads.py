"""Saving from many threads at once, each its own session."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from benchmarks.harness import Case, Figure, Target
from benchmarks.material import fill, texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, url
from session_manager import SessionManager

__all__ = ["threads"]

_THREADS = 16
_SAVES = 20
_TARGETS = {"sqlite": Target(0.4), "log": Target(0.6)}


def threads(place: Place) -> Iterator[Case]:
    """Save from 16 threads, each its own session, against one thread: seconds a save, all in all."""
    saves = place.count(_SAVES)
    for scheme in SCHEMES:
        with place.directory() as path, SessionManager(url(scheme, path)) as manager:
            figure = Figure(
                f"{scheme}: a save by {_THREADS} threads", "many threads", "one thread", _TARGETS.get(scheme)
            )
            contestants = {
                "one thread": lambda m=manager: [_seconds_a_save(m, 1, saves)],
                "many threads": lambda m=manager: [_seconds_a_save(m, _THREADS, saves)],
            }
            yield Case(figure.name, contestants, [figure], place.rounds(20))


def _seconds_a_save(manager: SessionManager, count: int, saves: int) -> float:
    """Return how many seconds a save takes, all in all, when so many threads save sessions of their own."""
    start = threading.Barrier(count + 1)

    def save(key: str) -> None:
        source = texts()
        start.wait()
        for _ in range(saves):
            fill(manager, key, 1, source)
            manager.save(key)

    running = [threading.Thread(target=save, args=(f"session-{number}",)) for number in range(count)]
    for thread in running:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in running:
        thread.join()
    return (time.perf_counter() - started) / (count * saves)
