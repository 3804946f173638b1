"""What the sessions are made of: differing texts of about 1 KB."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from session_manager import SessionManager

__all__ = ["fill", "texts"]

_LENGTH = 1000
_DIFFERENT = 2000
_PROSE = """the user asked for a flight to Lisbon on Friday, and the agent found three of them with one stop in Madrid;
she said "the earliest, please" and wanted an aisle seat, no luggage: it paid, and sent the receipt"""


def texts() -> Iterator[str]:
    """Give texts for ever, always the same ones in the same order."""
    source = random.Random(1)
    words = _PROSE.split(" ")
    some = [" ".join(source.choices(words, k=_LENGTH // 4))[:_LENGTH] for _ in range(_DIFFERENT)]
    return itertools.cycle(some)


def fill(manager: SessionManager, key: str, count: int, source: Iterator[str]) -> None:
    """Append so many messages to a session, those of the user and of the assistant in turn."""
    for number in range(count):
        manager.add_message(key, "assistant" if number % 2 else "user", next(source))
