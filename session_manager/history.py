"""Histories that a model's provider accepts: what is wrong with one, where to cut it, how to mend it.

Pure functions on sequences of messages. Nothing is changed, nothing stored is touched, and nothing raises, whatever is in
the messages; a counter that does not count does.

**What a valid history is.** Providers refuse a request, the same one for good, in which calls and results do not fit
together. `problems` finds what the strictest of those that take a shape refuses (the shapes are in `tool_calls`):

* *A call without its result*, where its result must be. OpenAI chat: "An assistant message with 'tool_calls' must be
  followed by tool messages responding to each 'tool_call_id'". Anthropic: "`tool_use` ids were found without
  `tool_result` blocks immediately after". OpenAI Responses: "No tool output found for function call".
* *A result without its call*. OpenAI chat: "messages with role 'tool' must be a response to a preceeding message with
  'tool_calls'". Anthropic: "unexpected `tool_use_id` found in `tool_result` blocks". Responses: "No tool call found for
  function call output".
* *A call with two results*. OpenAI chat: "Duplicate value for 'tool_call_id'".
* *A result that is late*: in OpenAI chat after something other than a tool message, with Anthropic after the next message. (Of
  Responses items, after the next user message: OpenAI takes it, others that speak the same protocol do not.)
* *Anthropic's blocks in another order*: "Messages following `tool_use` blocks must begin with a matching number of
  `tool_result` blocks"; and text behind a ``tool_use`` block in its own message counts as standing between.
* *A reasoning item without the item that it led to*. Responses: "Item of type 'reasoning' was provided without its
  required following item". Any item of the model right after it will do.
* With ``user_first=True``, *a history that does not start with a user message* (after leading system and developer
  messages). Anthropic and Google refuse that ("first message must use the "user" role"). OpenAI and most others do not,
  and a bot that speaks first loses its words by the repair, so it has to be asked for.

What is wrong inside of one message is not looked at: a missing id, two parallel calls with one id, a field too many.
Neither is that an id comes again in another turn, or that a reasoning item is gone which once stood before another item.
Where these rules come from is in ``docs/adr/0011-a-late-result-is-moved-and-a-greeting-stays.md``.

**Turns.** A turn is a user message and all that answers it, up to the next user message that starts one. Each user message
starts a turn, also right after another, so that a group chat in which nobody answers can be cut anywhere. Two kinds
of user message do not: one that only brings results, and one between a call and its result (somebody wrote while the tool
was running). So no turn parts a call from its result, and no cut at a turn makes a new problem.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import attrs

from session_manager.arguments import check_callable
from session_manager.mending import mended
from session_manager.model import Message
from session_manager.pairing import Pairing, calls_come_last, lone_reasoning, pair, results_come_first, starts
from session_manager.tokens import counted, estimate_tokens
from session_manager.tool_calls import Shape

__all__ = ["Problem", "estimate_tokens", "fit", "head", "problems", "repair", "safe_start", "turns"]

#: How many messages of the end are looked at first, where the end is asked for.
_FIRST_TAIL = 64


@attrs.frozen
class Problem:
    """Something in a history that a provider refuses."""

    #: Which message of the sequence, from 0.
    index: int
    #: The message's position in its session; `None` if it has none.
    position: int | None
    #: What is wrong, in words; never text of a message.
    reason: str


def problems(messages: Sequence[Message], *, user_first: bool = False) -> list[Problem]:
    """Return all that a provider would refuse in a history, in order; an empty list if it is valid.

    What is checked, and what is not, is at the top of the module.

    :param user_first: whether the history must start with a user message.

    >>> asked = Message("user", "What time is it?")
    >>> calling = Message("assistant", None, tool_calls=[{"id": "call_1", "type": "function"}])
    >>> [(problem.index, problem.reason) for problem in problems([asked, calling])]
    [(1, 'tool call 1 of 1 has no result')]
    """
    pairing = pair(messages)
    found = [
        *_of_calls(pairing),
        *_of_results(pairing),
        *_of_order(messages, pairing),
        *((index, "a reasoning item without the item that it led to") for index in lone_reasoning(messages)),
    ]
    first = head(messages)
    if user_first and first < len(messages) and starts(messages, pairing)[:1] != [first]:
        found.append((first, "the history does not start with a user message"))
    found.sort(key=lambda one: one[0])
    return [Problem(index, messages[index].position, reason) for index, reason in found]


def _of_calls(pairing: Pairing) -> list[tuple[int, str]]:
    return [
        (index, f"tool call {number} of {len(made)} has no result")
        for index, made in pairing.calls.items()
        for number, call in enumerate(made, 1)
        if (index, call.slot) not in pairing.answered
    ]


def _of_results(pairing: Pairing) -> list[tuple[int, str]]:
    return [
        *((index, "a tool result without its call") for index, _ in pairing.orphans),
        *((index, "a second result for one tool call") for index, _ in pairing.twice),
        *(
            (place[0], f"a tool result late for its call in message {pairing.answers[place][0]}")
            for place in pairing.late
        ),
    ]


def _of_order(messages: Sequence[Message], pairing: Pairing) -> list[tuple[int, str]]:
    called = [index for index, made in pairing.calls.items() if made[0].shape is Shape.BLOCKS]
    answered = [index for index in pairing.results if any(r.shape is Shape.BLOCKS for r in pairing.in_place(index))]
    return [
        *((index, "tool_use blocks before others") for index in called if not calls_come_last(messages[index])),
        *((i, "tool_result blocks after others") for i in answered if not results_come_first(messages[i])),
    ]


def head(messages: Sequence[Message]) -> int:
    """Return how many system and developer messages lead a history: they belong to no turn."""
    count = 0
    while count < len(messages) and messages[count].role in ("system", "developer"):
        count += 1
    return count


def turns(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """Return a history in turns, in order; together they are the whole history.

    What comes before the first turn (system messages, a greeting, the rest of a turn that was cut) is the first
    element then. What a turn is, is at the top of the module.

    >>> said = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello!")]
    >>> [[message.role for message in turn] for turn in turns([*said, Message("user", "Bye")])]
    [['system'], ['user', 'assistant'], ['user']]
    """
    bounds = sorted({0, *_starts(messages), len(messages)})
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
            return next((start + one for one in reversed(_starts(messages[start:])) if start + one <= last), 0)
    return 0


def repair(messages: Sequence[Message], *, user_first: bool = False) -> list[Message]:
    """Return a valid history with the least change; of a valid one the same messages.

    * A result without a call, or for a call that has one, is left out (of a message with other blocks only that block).
    * A call without a result gets one, in its own shape, which says that it was interrupted.
    * A late result is moved to where it belongs: it is what the tool said.
    * Blocks are put in Anthropic's order. A reasoning item without its follower is left out.

    ``problems(repair(x)) == []`` for every `x`, and repairing twice changes nothing more. A message that is changed keeps
    its position, time, ref and metadata; a new one has the time of its call, and no position.

    :param user_first: whether it must start with a user message: what comes before the first turn is left out then,
        but for leading system and developer messages.

    >>> calling = Message("assistant", None, tool_calls=[{"id": "call_1", "type": "function"}])
    >>> [message.content for message in repair([calling, Message("user", "Well?")])]
    [None, 'Interrupted: this call has no result.', 'Well?']
    """
    valid = list(messages)
    if problems(valid):
        valid = mended(valid)
    if user_first:
        first = head(valid)
        start = next(iter(_starts(valid)), len(valid))
        del valid[first:start]
    return valid


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
    cuts = [len(valid), *reversed(_starts(valid)), 0]
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


def _starts(messages: Sequence[Message]) -> list[int]:
    return starts(messages, pair(messages))
