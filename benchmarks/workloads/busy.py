"""Saving beside a thread of Python that never waits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Case, Contestant, Figure, Target
from benchmarks.material import Chat
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, url
from benchmarks.workloads.log import LogContest
from session_manager import SessionManager

__all__ = ["busy"]

_MESSAGES = 100
_SAVES = 5
_INTERVALS = 2


def busy(place: Place) -> Iterator[Case]:
    """Save one new message beside a CPU-bound thread, against a write and a sync beside it; 2 switch intervals."""
    targets = {"log": Target(_INTERVALS * sys.getswitchinterval(), of="value")}
    with place.directory() as path, SessionManager(url("log", path)) as manager:
        contest = LogContest(manager, path, _MESSAGES)
        for scheme in SCHEMES:
            with place.directory() as other, SessionManager(url(scheme, other)) as saving:
                chat = Chat(saving, "session", _MESSAGES)
                figure = Figure(f"{scheme}: a save", "save", "write and sync", targets.get(scheme))
                contestants = {"save": _beside(chat.save_twice), "write and sync": _beside(contest.system_calls)}
                yield Case(figure.name, contestants, [figure], place.rounds(20))
        contest.close()


def _beside(run: Contestant) -> Contestant:
    def runs() -> list[float]:
        with _computing():
            return [seconds for _ in range(_SAVES) for seconds in run()]

    return runs


@contextmanager
def _computing() -> Iterator[None]:
    """Keep a thread of Python busy for a block."""
    started, stop = threading.Event(), threading.Event()

    def compute() -> None:
        started.set()
        number = 0
        while not stop.is_set():
            number = (number * 1103515245 + 12345) % 2147483648

    thread = threading.Thread(target=compute)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()
