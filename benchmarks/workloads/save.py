"""Saving one new message as a snapshot, in sessions of several sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.floors import PAUSE, bare_replace, compute
from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from benchmarks.storages import path_of, url
from session_manager import SessionManager

__all__ = ["save"]

_SIZES = {10: 400, 100: 400, 1_000: 200, 10_000: 100}
_KEY = "session"
_PIECE = 64 * 1024
_TARGET = Target(1.2)


def save(place: Place) -> Iterator[Case]:
    """Save one new message of 1 KB in a snapshot of 10 to 10,000, against the bare system calls."""
    for count in place.sizes(_SIZES):
        with place.directory() as path, SessionManager(url("snapshot", path)) as manager:
            contest = _Contest(manager, path, count)
            what = f"1 of {count:,} messages"
            figures = [
                Figure(what, "save", "system calls"),
                Figure(f"{what}, to a floor that pauses", "save", "after a pause", _TARGET),
            ]
            contestants = {
                "save": contest.save,
                "system calls": contest.system_calls,
                "after a pause": contest.paused,
            }
            yield Case(what, contestants, figures, place.rounds(_SIZES[count]))
            contest.close()


class _Contest:
    """A session whose saves, and the same bytes whose bare replacements, are measured.

    Each measured one follows one of its own kind, so that neither pays for what the other left to the disk.

    :param count: how many messages the session has. When it is a tenth longer, it is truncated.
    """

    def __init__(self, manager: SessionManager, path: str, count: int) -> None:
        self._manager = manager
        self._file = path_of("snapshot", path, _KEY)
        self._count = count
        self._texts = texts()
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._buffers: list[bytes] = []
        fill(manager, _KEY, count - 2, self._texts)

    def save(self) -> list[float]:
        """Measure the save of one message."""
        if len(self._manager.get_history(_KEY)) >= self._count * 1.1 - 2:
            self._manager.truncate_history(_KEY, self._count - 2)
            self._buffers = []
        self._add_and_save()
        seconds = self._add_and_save()
        self._follow()
        return [seconds]

    def system_calls(self) -> list[float]:
        """Measure writing the bytes of the last save."""
        self._replace()
        return [self._replace()]

    def paused(self) -> list[float]:
        """Measure the same, after as much computing as before a save."""
        self._replace()
        compute(PAUSE)
        return [self._replace()]

    def close(self) -> None:
        """Close what is open."""
        os.close(self._directory)

    def _add_and_save(self) -> float:
        fill(self._manager, _KEY, 1, self._texts)
        return timed(lambda: self._manager.save(_KEY))

    def _replace(self) -> float:
        return timed(lambda: bare_replace(self._directory, "floor", self._buffers))

    def _follow(self) -> None:
        """Let the buffers be as long as the file is now."""
        with open(self._file, "rb") as file:
            file.seek(sum(map(len, self._buffers)))
            while piece := file.read(_PIECE):
                self._buffers.append(piece)
