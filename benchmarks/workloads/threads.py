"""Saving from many threads at once, each its own session."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.floors import append_alone
from benchmarks.harness import Case, Figure, Target
from benchmarks.material import fill, texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, url
from session_manager import SessionManager

__all__ = ["threads"]

_THREADS = 16
_SAVES = 20
_TARGETS = {"sqlite": Target(0.4), "log": Target(0.6)}
#: About as many bytes as the record of a message has.
_RECORD = b"x" * 1_450

#: Makes the step that a thread repeats, given the thread's number.
_Steps = Callable[[int], Callable[[], object]]


def threads(place: Place) -> Iterator[Case]:
    """Save from 16 threads, each its own session, against one thread: seconds a save, all in all."""
    saves = place.count(_SAVES)
    for scheme in SCHEMES:
        with place.directory() as path, SessionManager(url(scheme, path)) as manager:
            what = f"{scheme}: a save by {_THREADS} threads"
            figures = [Figure(what, "many threads", "one thread", _TARGETS.get(scheme))]
            contestants = _contestants(partial(_saving, manager), saves, "one thread", "many threads")
            if scheme == "log":
                contestants |= _contestants(partial(_calling, path), saves, "calls, one thread", "calls, many threads")
                figures.append(
                    Figure(f"log: its system calls by {_THREADS} threads", "calls, many threads", "calls, one thread")
                )
                figures.append(Figure(f"{what}, to its system calls", "many threads", "calls, many threads"))
            yield Case(what, contestants, figures, place.rounds(20))


def _contestants(steps: _Steps, saves: int, one: str, many: str) -> dict[str, Callable[[], list[float]]]:
    return {
        one: lambda: [_seconds_a_step(steps, 1, saves)],
        many: lambda: [_seconds_a_step(steps, _THREADS, saves)],
    }


def _saving(manager: SessionManager, number: int) -> Callable[[], object]:
    source = texts()

    def save() -> None:
        fill(manager, f"session-{number}", 1, source)
        manager.save(f"session-{number}")

    return save


def _calling(path: str, number: int) -> Callable[[], object]:
    return partial(append_alone, os.path.join(path, f"floor-{number}"), _RECORD)


def _seconds_a_step(steps: _Steps, count: int, saves: int) -> float:
    """Return how many seconds a step takes, all in all, when so many threads take steps of their own."""
    start = threading.Barrier(count + 1)

    def repeat(number: int) -> None:
        step = steps(number)
        start.wait()
        for _ in range(saves):
            step()

    running = [threading.Thread(target=repeat, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in running:
        thread.join()
    return (time.perf_counter() - started) / (count * saves)
