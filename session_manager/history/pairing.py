"""Pairs of calls and results, in a history of any quality. All modules of `history` share this reading.

A call is open for a while, and a result in that while is *in place*:

* `CHAT`, `FUNCTION`: in the messages of role ``tool`` or ``function`` right after the call's message.
* `BLOCKS`: in the very next message.
* `ITEMS`, `CUSTOM`: until the next user message.

A result answers the newest call of its id, or the calls in order if several of that id are open. So ids may repeat from turn to
turn, and parallel calls may be answered in any order. A call and a result that both have no id belong together while the call
is open. A result whose call is not open any more is *late*. A result whose call has one already is *twice* there. A result
without a call is *an orphan*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from session_manager.history.tool_calls import (
    Call,
    Result,
    Shape,
    blocks,
    calls,
    is_call_block,
    is_result_block,
    results,
)
from session_manager.model.message import Message

__all__ = [
    "Pairing",
    "Place",
    "calls_come_last",
    "is_of_the_model",
    "is_reasoning",
    "lone_reasoning",
    "pair",
    "results_come_first",
    "starts",
    "turn_starts",
]

#: A call or a result: the index of its message, and its slot there.
Place = tuple[int, int]


@attrs.frozen(eq=False, repr=False)
class Pairing:
    """The calls and results of a history, by the index of their message, and their pairs."""

    calls: dict[int, list[Call]] = attrs.field(factory=dict)
    results: dict[int, list[Result]] = attrs.field(factory=dict)
    #: The result of each answered call.
    answered: dict[Place, Place] = attrs.field(factory=dict)
    #: The call of each result that has one.
    answers: dict[Place, Place] = attrs.field(factory=dict)
    #: Results whose call is not open any more.
    late: set[Place] = attrs.field(factory=set)
    #: Results whose call has one already.
    twice: set[Place] = attrs.field(factory=set)
    #: Results without a call.
    orphans: set[Place] = attrs.field(factory=set)

    def in_place(self, index: int) -> list[Result]:
        """Return the results in a message that answer a call which is open there."""
        return [one for one in self.results.get(index, ()) if self.is_in_place((index, one.slot))]

    def is_in_place(self, result: Place) -> bool:
        """Whether a result answers a call which is open there."""
        return result in self.answers and result not in self.late


@attrs.define(eq=False, repr=False)
class _Open:
    """The open calls at a point of the reading."""

    #: The index of the message whose `CHAT` or `FUNCTION` calls are open.
    chat: int | None = None
    #: How many user messages there were.
    turn: int = 0

    def batch(self, shape: Shape, index: int) -> int | None:
        """Return the batch of calls that a result at `index` may answer in place; `None` if none is open."""
        if shape in (Shape.CHAT, Shape.FUNCTION):
            return self.chat
        return index - 1 if shape is Shape.BLOCKS else self.turn


def pair(messages: Iterable[Message]) -> Pairing:
    """Return the pairs of a history. Never raises, whatever is in the messages."""
    pairing, open_ = Pairing(), _Open()
    # By id: the newest calls, and the unanswered ones among them.
    named: dict[tuple[Shape, str | None], tuple[int, list[Place]]] = {}
    for index, message in enumerate(messages):
        value = message._object
        role = value.get("role")
        if role not in ("tool", "function"):
            open_.chat = None
        if role in ("user", "assistant") and type(value.get("content")) is str and len(value) == 2:
            open_.turn += role == "user"
            continue
        if found := results(message):
            pairing.results[index] = found
            for result in found:
                _answer(pairing, (index, result.slot), named.get((result.shape, result.id)), open_, result)
        open_.turn += role == "user"
        if made := calls(message):
            pairing.calls[index] = made
            batch = open_.turn if made[0].shape in (Shape.ITEMS, Shape.CUSTOM) else index
            open_.chat = index if made[0].shape in (Shape.CHAT, Shape.FUNCTION) else None
            for call in made:
                key = (call.shape, call.id)
                if key not in named or named[key][0] != batch:
                    named[key] = batch, []
                named[key][1].append((index, call.slot))
    return pairing


def _answer(pairing: Pairing, place: Place, newest: tuple[int, list[Place]] | None, open_: _Open, one: Result) -> None:
    in_place = newest is not None and newest[0] == open_.batch(one.shape, place[0])
    if newest is None or (one.id is None and not in_place):
        pairing.orphans.add(place)
    elif not newest[1]:
        pairing.twice.add(place)
    else:
        call = newest[1].pop(0)
        pairing.answered[call] = place
        pairing.answers[place] = call
        if not in_place:
            pairing.late.add(place)


def starts(messages: Sequence[Message], pairing: Pairing) -> list[int]:
    """Return where turns start: at user messages that hold more than results, and part no call from its result."""
    change = [0] * (len(messages) + 1)
    for (index, _), (call, _) in pairing.answers.items():
        change[call + 1] += 1
        change[index + 1] -= 1
    found, parted = [], 0
    for index, message in enumerate(messages):
        parted += change[index]
        if not parted and message._object.get("role") == "user" and not _only_results(message):
            found.append(index)
    return found


def _only_results(message: Message) -> bool:
    content = blocks(message)
    return len(content) > 0 and all(is_result_block(block) for block in content)


def calls_come_last(message: Message) -> bool:
    """Say whether the ``tool_use`` blocks of a message come last."""
    kinds = [is_call_block(block) for block in blocks(message)]
    return kinds == sorted(kinds)


def results_come_first(message: Message) -> bool:
    """Say whether the ``tool_result`` blocks of a message come first."""
    kinds = [is_result_block(block) for block in blocks(message)]
    return kinds == sorted(kinds, reverse=True)


def lone_reasoning(messages: Sequence[Message]) -> list[int]:
    """Return the indexes of reasoning items that no item of the model follows."""
    return [
        index
        for index, message in enumerate(messages)
        if is_reasoning(message) and (index + 1 == len(messages) or not is_of_the_model(messages[index + 1]))
    ]


def is_reasoning(message: Message) -> bool:
    """Say whether a message is a ``reasoning`` item (OpenAI Responses)."""
    value = message._object
    return "role" not in value and value["type"] == "reasoning"


def is_of_the_model(message: Message) -> bool:
    """Say whether the model said, thought or did a message: such a message may follow a reasoning item."""
    value = message._object
    return value["role"] == "assistant" if "role" in value else not value["type"].endswith("_output")


def turn_starts(messages: Sequence[Message]) -> list[int]:
    """Return where the turns of a history start, in order."""
    return starts(messages, pair(messages))
