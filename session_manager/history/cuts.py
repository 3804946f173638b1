"""Turns, safe cuts and token budgets: where a history may be cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from operator import is_

import attrs

from session_manager.arguments import check_callable
from session_manager.errors import ContextTooSmallError
from session_manager.history.pairing import Pairing, is_users, pair, plain_starts, starts, turn_starts
from session_manager.history.repairs import repair
from session_manager.history.roles import head
from session_manager.history.rules import BY_SHAPE, Rules, ruled
from session_manager.history.shapes import calls, role_of
from session_manager.history.shapes.items import is_compaction, is_reasoning
from session_manager.history.tokens import counted, estimate_tokens
from session_manager.model.message import Message
from session_manager.model.view import View
from session_manager.values import Value

__all__ = ["Cut", "behind_reasoning", "compaction", "cut", "fit", "fitting", "safe_start", "tails", "turns"]

#: How many messages a search from the end of a history looks at first.
_FIRST_TAIL = 64


def turns(messages: Sequence[Message], rules: Rules = BY_SHAPE) -> list[Sequence[Message]]:
    """Return a history in turns, in order; together they are the whole history.

    Messages before the first turn (system messages, a greeting, the rest of a cut turn) are the first element.
    `session_manager.history.flaws` defines a turn.

    :raises TypeError: if `rules` are none.

    >>> said = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello!")]
    >>> [[message.role for message in turn] for turn in turns([*said, Message("user", "Bye")])]
    [['system'], ['user', 'assistant'], ['user']]
    """
    bounds = sorted({0, *turn_starts(messages, ruled(rules)), len(messages)})
    return [messages[start:stop] for start, stop in itertools.pairwise(bounds)]


def safe_start(messages: Sequence[Message], keep_last: int, rules: Rules = BY_SHAPE) -> int:
    """Return where to cut a history: ``messages[safe_start(messages, n):]`` is whole turns, at least `n` messages.

    It is the shortest such end of the history. It parts no turn, and no call from its result. A cut there makes no new problem;
    problems in the kept turns stay.

    * ``keep_last <= 0``: nothing is kept, the index is the length.
    * If no whole turns leave that many messages, everything is kept: the index is 0. So it is with fewer messages, with one
      gigantic turn, and without any user message.

    :raises TypeError: if `rules` are none.

    >>> said = [Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"), Message("assistant", "Bye!")]
    >>> [safe_start(said, keep_last) for keep_last in range(6)]
    [4, 2, 2, 0, 0, 0]
    """
    ruled(rules)
    if keep_last <= 0:
        return len(messages)
    last = len(messages) - keep_last
    for start, known in _ends(messages, rules):
        if start <= last:
            found = turn_starts(messages, rules) if known is None else known
            return next((start + one for one in reversed(found) if start + one <= last), 0)
    return 0


def compaction(messages: Sequence[Message]) -> int | None:
    """Return the index of the newest ``compaction`` item, which stands for everything before it; `None` if there is none."""
    if isinstance(messages, View):
        return messages.last_where(_is_compaction)
    return next((at for at in range(len(messages) - 1, -1, -1) if _is_compaction(messages[at])), None)


def _is_compaction(message: Message) -> bool:
    return is_compaction(message._object)


def behind_reasoning(messages: Sequence[Message], start: int) -> int:
    """Return where to cut a history at `start` or before, so that no reasoning item is parted from what it led to."""
    while 0 < start < len(messages) and is_reasoning(messages[start - 1]._object):
        start -= 1
    return start


@attrs.frozen(eq=False, repr=False)
class Cut(Value):
    """The messages of a history that may go, by their indexes: from `start` to before `stop`."""

    start: int
    stop: int
    #: Whether they are a part of one turn, whose first message and newest rounds stay.
    in_turn: bool = False


def cut(messages: Sequence[Message], keep_last: int) -> Cut | None:
    """Return the messages that may go while at least the last `keep_last` messages stay; `None` if none may.

    Whole turns go if one ends there: all messages before `safe_start`. Leading system and developer messages stay. So does
    everything up to a ``compaction`` item and its answers. If none ends there, one turn has become too long, such as one
    question with 300 tool calls. Then the first part of that turn may go. Its first message, the question, stays. The kept part
    begins where the model goes on. That is behind the results of all earlier calls, and never right behind a reasoning item. In
    a turn with reasoning items, it is at such an item. So each call keeps its result, and each reasoning item keeps everything
    that it led to. A cut there makes no new problem.

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
    if (summary := compaction(messages)) is not None:
        first = max(first, _behind_answers(messages, summary + 1))
    if stop > first:
        return Cut(first, stop)
    pairing = pair(messages)
    asked = next((start for start in starts(pairing) if start >= first), None)
    start = first if asked is None else asked + 1
    rounds = [index for index in _rounds(messages, pairing, start) if index <= len(messages) - keep_last]
    return Cut(start, rounds[-1], in_turn=True) if rounds else None


def _behind_answers(messages: Sequence[Message], start: int) -> int:
    """Return the first index at `start` or behind it that parts no call from its result, as far as the same turn goes."""
    stop = next((at for at in range(start, len(messages)) if is_users(messages[at])), len(messages))
    return start + max((index + 1 for index, _ in pair(messages[start:stop]).orphans), default=0)


def _rounds(messages: Sequence[Message], pairing: Pairing, start: int) -> list[int]:
    """Return where the model goes on by itself, behind `start`, without parting a call from its result."""
    is_open = [0] * (len(messages) + 1)
    for (answer, _), (call, _) in pairing.answers.items():
        is_open[call + 1] += 1
        is_open[answer + 1] -= 1
    parted, reasons, found = 0, False, []
    for index, message in enumerate(messages):
        parted += is_open[index]
        if index > start and not parted and _goes_on(messages, index, reasons=reasons):
            found.append(index)
        reasons = reasons or (index >= start and is_reasoning(message._object))
    return found


def _goes_on(messages: Sequence[Message], index: int, *, reasons: bool) -> bool:
    """Say whether the model goes on by itself at a message.

    :param reasons: whether there are reasoning items before it, which may have led to it.
    """
    message = messages[index]
    if is_reasoning(message._object):
        return not is_reasoning(messages[index - 1]._object)
    return not reasons and (role_of(message) == "assistant" or bool(calls(message)))


def fit(
    messages: Sequence[Message],
    max_tokens: int,
    count: Callable[[Message], int] = estimate_tokens,
    rules: Rules = BY_SHAPE,
) -> list[Message]:
    """Return the longest valid end of a history that is within a budget.

    The history is repaired, and cut where a turn starts. If the last turn alone is over the budget, it is cut in itself. Its
    first message, the question, stays. Of its last messages, as many stay as fit, from a place where the model goes on. So no
    call is parted from its result.

    :param max_tokens: the budget, for the sum of `count` over the messages.
    :param count: returns the tokens of a message, 0 or more. It is called once for each message, from the last one on, until
        the budget is reached. An estimate by default; give tiktoken's, or a provider's, to be exact.
    :param rules: what the provider accepts; by default each message by the rules of its own shape.
    :raises TypeError: if `count` is not callable, or `rules` are none.
    :raises InvalidMessageError: if `count` returns anything but an int of 0 or more.
    :raises ContextTooSmallError: if the question and the last messages that belong together are over the budget.

    >>> said = [Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"), Message("assistant", "Bye!")]
    >>> [message.content for message in fit(said, 3, count=lambda message: 1)]
    ['Bye', 'Bye!']
    """
    check_callable(count, "count")
    return fitting(messages, max_tokens, count, ruled(rules), "max_tokens")


def fitting(
    messages: Sequence[Message], bound: int, count: Callable[[Message], int], rules: Rules, name: str
) -> list[Message]:
    """Return what `fit` does.

    :param name: what the bound is called in an error.
    """
    totals = [0]  # the sums over the last 0, 1, 2, … messages of the repaired history
    valid: list[Message] = []
    known: list[int] | None = None
    for start, its in _ends(messages, rules):
        end = messages[start:]
        valid = repair(end, rules)
        known = its if len(valid) == len(end) and all(map(is_, valid, end)) else None
        while len(totals) <= len(valid) and totals[-1] <= bound:
            totals.append(totals[-1] + counted(count, valid[-len(totals)]))
        if totals[-1] > bound:
            break
    if totals[-1] <= bound:
        return valid
    for start in turn_starts(valid, rules) if known is None else known:
        if len(valid) - start < len(totals) - 1:
            return valid[start:]
    sizes = {len(valid) - at: totals[at] - totals[at - 1] for at in range(1, len(totals))}
    return _end_of_turn(valid, bound, lambda at: sizes[at] if at in sizes else counted(count, valid[at]), rules, name)


def _end_of_turn(
    valid: list[Message], bound: int, size: Callable[[int], int], rules: Rules, name: str
) -> list[Message]:
    """Return the question of the last turn, and the longest end of the turn that is within the bound beside it.

    :param size: returns the tokens of the message at an index.
    """
    pairing = pair(valid, rules)
    found = starts(pairing)
    asked = found[-1] if found else next((at for at, message in enumerate(valid) if is_users(message)), None)
    ends = _rounds(valid, pairing, -1 if asked is None else asked)
    if asked is not None and (not found or asked == len(valid) - 1):
        ends.append(len(valid))
    needed = 0 if asked is None else size(asked)
    stop, best = len(valid), None
    for end in reversed(ends):
        needed += sum(map(size, range(end, stop)))
        if needed > bound:
            break
        stop = best = end
    if asked is None:
        return [] if best is None or rules.user_first else valid[best:]
    if best is not None:  # The question may bring results of calls that went.
        return repair([valid[asked], *valid[best:]], rules)
    raise ContextTooSmallError(name, bound, needed if ends else sum(map(size, range(asked, len(valid)))))


def tails(messages: Sequence[Message], rules: Rules = BY_SHAPE) -> Iterator[int]:
    """Yield where longer and longer ends of a history start, the last one at 0.

    Each end but the last starts with a turn, and has no result that may belong to an earlier call. So `pair`, `repair` and
    `starts` give the same for the end alone as for the whole history. Questions about the end then cost the same, however long
    the history is. There is one exception: an item that comes twice. If its first copy lies before the end, the later one stays.
    """
    return (start for start, _ in _ends(messages, rules))


def _ends(messages: Sequence[Message], rules: Rules) -> Iterator[tuple[int, list[int] | None]]:
    """Yield what `tails` does, each with the starts of its turns, counted from the start of the end; `None` for the last one."""
    size = _FIRST_TAIL
    while size < len(messages):
        offset = len(messages) - size
        if found := _starts_of_end(messages[offset:], rules):
            yield offset + found[0], [start - found[0] for start in found]
        size *= 2
    yield 0, None


def _starts_of_end(part: Sequence[Message], rules: Rules) -> list[int]:
    """Return where the turns of a part start; nothing if a result in these turns may belong to an earlier call."""
    if (found := plain_starts(part)) is not None:
        return found
    pairing = pair(part, rules)
    found = starts(pairing)
    is_whole = bool(found) and all(index < found[0] for index, _ in pairing.orphans | pairing.twice)
    return found if is_whole else []
