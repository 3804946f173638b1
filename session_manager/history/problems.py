"""Histories that a model's provider accepts: what is wrong with one, where to cut it, how to mend it.

Pure functions on sequences of messages. They change nothing and touch no store. They raise nothing, whatever is in the messages,
except for a counter that returns no number.

**A valid history.** Providers refuse a request in which calls and results do not fit together, and they refuse it each time.
`problems` finds what the strictest provider of each shape refuses (the shapes are in `tool_calls`):

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
  messages). Anthropic and Google refuse that ("first message must use the "user" role"). OpenAI and most others do not. You
  must ask for this check, because the repair drops the greeting of a bot that speaks first.

Flaws inside of one message are not checked: a missing id, two parallel calls with one id, a field too many. Nor is an id that
comes again in another turn, or the absence of a reasoning item that once preceded another item.
``docs/adr/0011-a-late-result-is-moved-and-a-greeting-stays.md`` says where these rules come from.

**Turns.** A turn is a user message and all its answers, up to the next user message that starts one. Each user message starts
a turn, even right after another, so that a group chat without answers can be cut anywhere. Two kinds of user message start
none: one that only brings results, and one between a call and its result (a user wrote while the tool was running). So no turn
parts a call from its result, and no cut at a turn makes a new problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from session_manager.as_dict import AsDict
from session_manager.history.pairing import Pairing, calls_come_last, lone_reasoning, pair, results_come_first, starts
from session_manager.history.tool_calls import Shape
from session_manager.model.message import Message

__all__ = ["Problem", "head", "problems"]


@attrs.frozen
class Problem(AsDict):
    """A flaw of a history that a provider refuses."""

    #: The index of the message in the sequence, from 0.
    index: int
    #: The message's position in its session; `None` if it has none.
    position: int | None
    #: The reason in words; never text of a message.
    reason: str


def problems(messages: Sequence[Message], *, user_first: bool = False) -> list[Problem]:
    """Return all that a provider would refuse in a history, in order; an empty list if it is valid.

    The top of the module lists the checks.

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
