"""Turns counted from the end of a history, and turns found by the delivery that they answer."""

from __future__ import annotations

from collections.abc import Sequence

from session_manager.history.cuts import tails
from session_manager.history.pairing import turn_starts
from session_manager.model.message import Message

__all__ = ["last_turns", "turn_of"]


def last_turns(messages: Sequence[Message], count: int) -> int:
    """Return the index where the last turns of a history start; its length if it has no turn.

    Messages that were written in one turn, with a ref, belong together, also if several users' messages are among them.
    What precedes the first turn (a system message, a greeting) belongs to none.

    :param count: how many turns, from 1; if there are fewer, all of them.
    """
    found: list[int] = []
    for start in tails(messages):
        found = [start + one for one in turn_starts(messages[start:]) if not _goes_on(messages, start + one)]
        if len(found) >= count:
            break
    return found[-count:][0] if found else len(messages)


def turn_of(messages: Sequence[Message], ref: str) -> int | None:
    """Return the index where a turn starts; `None` if nothing is there of it.

    :param ref: the delivery that it answers, or the ref of a message in it.
    """
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].turn == ref:
            return next(first for first in range(index, -1, -1) if not _goes_on(messages, first))
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].ref == ref:
            return max(
                (one for one in turn_starts(messages[: index + 1]) if not _goes_on(messages, one)), default=index
            )
    return None


def _goes_on(messages: Sequence[Message], index: int) -> bool:
    """Say whether a message was written in the same turn as the one before it."""
    turn = messages[index].turn
    return index > 0 and turn is not None and turn == messages[index - 1].turn
