"""Turns, safe cuts and token budgets: where a history may be cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from session_manager.arguments import check_callable
from session_manager.history.pairing import (
    pair,
    starts,
    turn_starts,
)
from session_manager.history.repair import repair
from session_manager.history.tokens import counted, estimate_tokens
from session_manager.model.message import Message

__all__ = ["fit", "safe_start", "turns"]

#: How many messages of the end are looked at first, where the end is asked for.
_FIRST_TAIL = 64


def turns(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """Return a history in turns, in order; together they are the whole history.

    What comes before the first turn (system messages, a greeting, the rest of a turn that was cut) is the first
    element then. What a turn is, is at the top of the module.

    >>> said = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello!")]
    >>> [[message.role for message in turn] for turn in turns([*said, Message("user", "Bye")])]
    [['system'], ['user', 'assistant'], ['user']]
    """
    bounds = sorted({0, *turn_starts(messages), len(messages)})
    return [messages[start:stop] for start, stop in itertools.pairwise(bounds)]


def safe_start(messages: Sequence[Message], keep_last: int) -> int:
    """Return where to cut a history: ``messages[safe_start(messages, n):]`` is whole turns, at least `n` messages.

    It is the shortest such end of the history: it never parts a turn, or a call from its result, and never keeps a turn
    more than that takes. A cut there makes no new problem; what was wrong in the turns that are kept stays.

    * ``keep_last <= 0``: nothing is kept, the index is the length.
    * If the turns together do not have that many messages (there are fewer, one is gigantic and the rest leads it, or there is
      no user message at all), everything is kept: the index is 0.

    >>> said = [Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"), Message("assistant", "Bye!")]
    >>> [safe_start(said, keep_last) for keep_last in range(6)]
    [4, 2, 2, 0, 0, 0]
    """
    if keep_last <= 0:
        return len(messages)
    last = len(messages) - keep_last
    for start in _tails(messages):
        if start <= last:
            return next((start + one for one in reversed(turn_starts(messages[start:])) if start + one <= last), 0)
    return 0


def fit(
    messages: Sequence[Message], max_tokens: int, count: Callable[[Message], int] = estimate_tokens
) -> list[Message]:
    """Return the longest valid end of a history that is within a budget.

    The history is repaired, and cut where a turn starts, or nowhere. If the last turn alone is over the budget, nothing is
    left.

    :param max_tokens: the budget; what `count` says of the messages is added up.
    :param count: how many tokens a message is, 0 or more; called from the last message on, once for each that it takes
        to know. An estimate if it is missing; give tiktoken's, or a provider's, to be exact.
    :raises TypeError: if `count` is not callable.
    :raises InvalidMessageError: if it returns anything but an int of 0 or more.

    >>> said = [Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"), Message("assistant", "Bye!")]
    >>> [message.content for message in fit(said, 3, count=lambda message: 1)]
    ['Bye', 'Bye!']
    """
    check_callable(count, "count")
    totals = [0]  # of the last 0, 1, 2, … messages of the repaired history
    valid: list[Message] = []
    for start in _tails(messages):
        valid = repair(messages[start:])
        while len(totals) <= len(valid) and totals[-1] <= max_tokens:
            totals.append(totals[-1] + counted(count, valid[-len(totals)]))
        if totals[-1] > max_tokens:
            break
    cuts = [len(valid), *reversed(turn_starts(valid)), 0]
    best = len(valid)
    for cut in cuts:
        if len(valid) - cut < len(totals) and totals[len(valid) - cut] <= max_tokens:
            best = cut
    return valid[best:]


def _tails(messages: Sequence[Message]) -> Iterator[int]:
    """Yield where longer and longer ends of a history start, the last one at 0.

    Each but the last starts with a turn, and has no result that may belong to a call before it. So what `pair`, `repair` and
    `starts` say of it alone, they say of it in the whole history; and what is asked of its end costs the same
    however long the history is.
    """
    size = _FIRST_TAIL
    while size < len(messages):
        offset = len(messages) - size
        pairing = pair(part := messages[offset:])
        start = next(iter(starts(part, pairing)), None)
        if start is not None and all(index < start for index, _ in pairing.orphans):
            yield offset + start
        size *= 2
    yield 0
