"""Saving one new message in a log, in sessions of several sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["log"]

_SMALL, _LARGE = 10, 10_000
_TARGET = Target(1.2, "ratio")


def log(place: Place) -> Iterator[Case]:
    """Save one new message of 1 KB in a log of 10 and of 10,000, against a write and a sync of the same bytes."""
    with place.directory() as path, SessionManager(f"log:{os.path.join(path, 'chats')}") as manager:
        small, large = _Contest(manager, path, "small", _SMALL), _Contest(manager, path, "large", _LARGE)
        contestants = {
            "save, 10": small.save,
            "write and sync, 10": small.system_calls,
            "save, 10,000": large.save,
            "write and sync, 10,000": large.system_calls,
        }
        figures = [
            Figure("1 of 10 messages", "save, 10", "write and sync, 10", _TARGET),
            Figure("1 of 10,000 messages", "save, 10,000", "write and sync, 10,000", _TARGET),
            Figure("10,000 against 10", "save, 10,000", "save, 10", _TARGET),
        ]
        yield Case("one message", contestants, figures, place.rounds(400))
        small.close()
        large.close()


class _Contest:
    """A session whose saves, and the same bytes whose bare appending, are measured, each after one of its own kind."""

    def __init__(self, manager: SessionManager, path: str, key: str, count: int) -> None:
        self._manager = manager
        self._key = key
        self._texts = texts()
        self._log = os.path.join(path, "chats", f"{key}.session.jsonl")
        self._floor = os.open(os.path.join(path, key), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._record = b""
        fill(manager, key, count, self._texts)
        manager.save(key)
        self._add_and_save()

    def save(self) -> list[float]:
        """Measure the save of one message."""
        self._add_and_save()
        before = os.stat(self._log).st_size
        seconds = self._add_and_save()
        self._record = b"x" * (os.stat(self._log).st_size - before)
        return [seconds]

    def system_calls(self) -> list[float]:
        """Measure writing the bytes of the last save."""
        self._append()
        return [timed(self._append)]

    def close(self) -> None:
        """Close what is open."""
        os.close(self._floor)

    def _add_and_save(self) -> float:
        fill(self._manager, self._key, 1, self._texts)
        return timed(lambda: self._manager.save(self._key))

    def _append(self) -> None:
        os.write(self._floor, self._record)
        os.fdatasync(self._floor)
