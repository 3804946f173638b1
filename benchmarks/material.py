"""What the sessions are made of: differing texts of about 1 KB."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator

from benchmarks.harness import timed
from session_manager import SessionManager

__all__ = ["Chat", "fill", "texts"]

_DIFFERENT = 2000
_PROSE = """the user asked for a flight to Lisbon on Friday, and the agent found three of them with one stop in Madrid;
she said "the earliest, please" and wanted an aisle seat, no luggage: it paid, and sent the receipt"""


def texts(length: int = 1000) -> Iterator[str]:
    """Give texts of so many characters for ever, always the same ones in the same order."""
    return itertools.cycle(_some(length))


@functools.cache
def _some(length: int) -> list[str]:
    source = random.Random(1)
    words = _PROSE.split(" ")
    return [" ".join(source.choices(words, k=length // 3))[:length] for _ in range(_DIFFERENT)]


def fill(manager: SessionManager, key: str, count: int, source: Iterator[str]) -> None:
    """Append so many messages to a session, those of the user and of the assistant in turn."""
    for number in range(count):
        manager.add_message(key, "assistant" if number % 2 else "user", next(source))


class Chat:
    """A session of so many messages that is saved, and each of whose further saves can be measured."""

    def __init__(self, manager: SessionManager, key: str, count: int) -> None:
        self._manager = manager
        self._key = key
        self._texts = texts()
        fill(manager, key, count, self._texts)
        manager.save(key)

    def save(self) -> float:
        """Measure the save of one more message."""
        fill(self._manager, self._key, 1, self._texts)
        return timed(lambda: self._manager.save(self._key))

    def save_twice(self) -> list[float]:
        """Measure a save that follows one of its own kind, so that it does not pay for what others left to the disk."""
        self.save()
        return [self.save()]
