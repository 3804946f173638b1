"""Saving one new message in a log, in sessions of several sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.floors import PAUSE, BareLog, compute
from benchmarks.harness import Case, Contestant, Figure, Target
from benchmarks.material import Chat
from benchmarks.place import Place
from benchmarks.storages import path_of, url
from session_manager import SessionManager

__all__ = ["LogContest", "log"]

_SIZES = (10, 100, 1_000, 10_000, 100_000)
_TARGET = Target(1.25)
_FLAT = Target(1.2)


def log(place: Place) -> Iterator[Case]:
    """Save one new message of 1 KB in a log of 10 to 100,000, against a write and a sync of the same bytes."""
    sizes = place.sizes(_SIZES)
    with place.directory() as path, SessionManager(url("log", path)) as manager:
        contestants: dict[str, Contestant] = {}
        figures = []
        contests = []
        for count in sizes:
            contest = LogContest(manager, path, count)
            contests.append(contest)
            subject, floor, paused = (f"{name}, {count:,}" for name in ("save", "write and sync", "after a pause"))
            contestants |= {subject: contest.save, floor: contest.system_calls, paused: contest.paused}
            figures.append(Figure(f"1 of {count:,} messages", subject, floor))
            figures.append(Figure(f"1 of {count:,} messages, to a floor that pauses", subject, paused, _TARGET))
        figures += [
            Figure(f"{count:,} against {sizes[0]}", f"save, {count:,}", f"save, {sizes[0]}", _FLAT)
            for count in sizes
            if count >= 10_000
        ]
        yield Case("one message", contestants, figures, place.rounds(400))
        for contest in contests:
            contest.close()


class LogContest:
    """A session whose saves, and the same bytes whose bare appending, are measured, each after one of its own kind."""

    def __init__(self, manager: SessionManager, path: str, count: int) -> None:
        key = f"session-{count}"
        self._chat = Chat(manager, key, count)
        self._file = path_of("log", path, key)
        self._floor = BareLog(os.path.join(path, key))
        self._record = self._saved()[1]

    def save(self) -> list[float]:
        """Measure the save of one message."""
        self._chat.save()
        seconds, self._record = self._saved()
        return [seconds]

    def system_calls(self) -> list[float]:
        """Measure writing the bytes of the last save."""
        self._floor.append(self._record)
        return [self._floor.append(self._record)]

    def paused(self) -> list[float]:
        """Measure the same, after as much computing as before a save."""
        self._floor.append(self._record)
        compute(PAUSE)
        return [self._floor.append(self._record)]

    def close(self) -> None:
        """Close what is open."""
        self._floor.close()

    def _saved(self) -> tuple[float, bytes]:
        before = os.stat(self._file).st_size
        seconds = self._chat.save()
        return seconds, b"x" * (os.stat(self._file).st_size - before)
