"""Turns, safe cuts and token budgets: where a history may be cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import attrs

from session_manager.arguments import check_callable
from session_manager.history.pairing import (
    is_of_the_model,
    is_reasoning,
    pair,
    starts,
    turn_starts,
)
from session_manager.history.problems import head
from session_manager.history.repair import repair
from session_manager.history.tokens import counted, estimate_tokens
from session_manager.history.tool_calls import calls
from session_manager.model.message import Message

__all__ = ["Cut", "cut", "fit", "safe_start", "tails", "turns"]

#: How many messages a search from the end of a history looks at first.
_FIRST_TAIL = 64


def turns(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """Return a history in turns, in order; together they are the whole history.

    Messages before the first turn (system messages, a greeting, the rest of a cut turn) are the first element.
    `session_manager.history.problems` defines a turn.

    >>> said = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello!")]
    >>> [[message.role for message in turn] for turn in turns([*said, Message("user", "Bye")])]
    [['system'], ['user', 'assistant'], ['user']]
    """
    bounds = sorted({0, *turn_starts(messages), len(messages)})
    return [messages[start:stop] for start, stop in itertools.pairwise(bounds)]


def safe_start(messages: Sequence[Message], keep_last: int) -> int:
    """Return where to cut a history: ``messages[safe_start(messages, n):]`` is whole turns, at least `n` messages.

    It is the shortest such end of the history. It parts no turn, and no call from its result. A cut there makes no new problem;
    problems in the kept turns stay.

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
    for start in tails(messages):
        if start <= last:
            return next((start + one for one in reversed(turn_starts(messages[start:])) if start + one <= last), 0)
    return 0


@attrs.frozen
class Cut:
    """The messages of a history that may go, by their indexes: from `start` to before `stop`."""

    start: int
    stop: int
    #: Whether they are a part of one turn, whose first message and newest rounds stay.
    in_turn: bool = False


def cut(messages: Sequence[Message], keep_last: int) -> Cut | None:
    """Return the messages that may go while at least the last `keep_last` messages stay; `None` if none may.

    Whole turns go if one ends there: all messages before `safe_start`, but for leading system and developer messages. If none
    ends there, one turn has become too long, such as one question with 300 tool calls. Then its first part may go, but for its
    first message, the question. The kept part begins where the model goes on: behind the results of all earlier calls, never
    right behind a reasoning item, and in a turn with reasoning items at one. So each call keeps its result, and each reasoning
    item keeps everything that it led to. A cut there makes no new problem.

    >>> def use(name: str) -> list[Message]:
    ...     call = {"id": name, "type": "function", "function": {"name": "now", "arguments": "{}"}}
    ...     return [Message("assistant", None, tool_calls=[call]), Message("tool", "12:00", tool_call_id=name)]
    >>> said = [Message("user", "What time is it?"), *use("a"), *use("b"), *use("c"), Message("assistant", "Noon.")]
    >>> cut(said, keep_last=3)
    Cut(start=1, stop=5, in_turn=True)
    >>> cut([*said, Message("user", "Thanks.")], keep_last=1)
    Cut(start=0, stop=8, in_turn=False)
    """
    first, stop = head(messages), safe_start(messages, keep_last)
    if stop > first:
        return Cut(first, stop)
    pairing = pair(messages)
    asked = first < len(messages) and first in starts(messages, pairing)
    start = first + 1 if asked else first
    last, is_open = len(messages) - keep_last, [0] * (len(messages) + 1)
    for (answer, _), (call, _) in pairing.answers.items():
        is_open[call + 1] += 1
        is_open[answer + 1] -= 1
    parted, reasons, found = 0, False, None
    for index in range(min(last, len(messages) - 1) + 1):
        parted += is_open[index]
        if index > start and not parted and _goes_on(messages, index, reasons=reasons):
            found = index
        reasons = reasons or (index >= start and is_reasoning(messages[index]))
    return None if found is None else Cut(start, found, in_turn=True)


def _goes_on(messages: Sequence[Message], index: int, *, reasons: bool) -> bool:
    """Say whether the model goes on by itself at a message.

    :param reasons: whether there are reasoning items before it, which may have led to it.
    """
    message = messages[index]
    if is_reasoning(message):
        return not is_reasoning(messages[index - 1])
    return not reasons and is_of_the_model(message) and (message.role is not None or bool(calls(message)))


def fit(
    messages: Sequence[Message], max_tokens: int, count: Callable[[Message], int] = estimate_tokens
) -> list[Message]:
    """Return the longest valid end of a history that is within a budget.

    The history is repaired, and cut only where a turn starts. If the last turn alone is over the budget, the result is empty.

    :param max_tokens: the budget, for the sum of `count` over the messages.
    :param count: returns the tokens of a message, 0 or more. It is called once for each message, from the last one on, until
        the budget is reached. An estimate by default; give tiktoken's, or a provider's, to be exact.
    :raises TypeError: if `count` is not callable.
    :raises InvalidMessageError: if it returns anything but an int of 0 or more.

    >>> said = [Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"), Message("assistant", "Bye!")]
    >>> [message.content for message in fit(said, 3, count=lambda message: 1)]
    ['Bye', 'Bye!']
    """
    check_callable(count, "count")
    totals = [0]  # the sums over the last 0, 1, 2, … messages of the repaired history
    valid: list[Message] = []
    for start in tails(messages):
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


def tails(messages: Sequence[Message]) -> Iterator[int]:
    """Yield where longer and longer ends of a history start, the last one at 0.

    Each end but the last starts with a turn, and has no result that may belong to an earlier call. So `pair`, `repair` and
    `starts` give the same for the end alone as for the whole history. Questions about the end then cost the same, however long
    the history is.
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
