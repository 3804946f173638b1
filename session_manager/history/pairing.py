"""Pairs of calls and results, in a history of any quality. All modules of `history` share this reading.

`Where` says where a provider takes the result of a call. A result there is *in place*. It answers the newest call that it names,
or the calls in order if several of that name are open. So ids may repeat from turn to turn, and parallel calls may be answered
in any order. A result that names no call answers the next open one, if its shape pairs by place (Ollama). A result whose call is
not open any more is *late*. A result whose call has one already is *twice* there. A result without a call is *an orphan*.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

import msgspec

from session_manager.frozen import Frozen, Part
from session_manager.history.rules import BY_SHAPE, Rules
from session_manager.history.shapes import Call, Result, Shape, Where, role_of, shape_of
from session_manager.history.shapes.items import is_item, is_of_the_model, is_reasoning
from session_manager.model.message import Message

__all__ = [
    "Pairing",
    "Place",
    "is_plain",
    "is_users",
    "lone_reasoning",
    "only_results",
    "pair",
    "plain_starts",
    "starts",
    "turn_starts",
]

#: A call or a result: the index of its message, and its slot there.
Place = tuple[int, int]


class Pairing(Frozen, frozen=True):
    """The calls and results of a history, by the index of their message, and their pairs."""

    calls: dict[int, list[Call]] = msgspec.field(default_factory=dict)
    results: dict[int, list[Result]] = msgspec.field(default_factory=dict)
    #: Where the user speaks, and does not only bring results, in order.
    users: list[int] = msgspec.field(default_factory=list)
    #: The result of each answered call.
    answered: dict[Place, Place] = msgspec.field(default_factory=dict)
    #: The call of each result that has one.
    answers: dict[Place, Place] = msgspec.field(default_factory=dict)
    #: Results whose call is not open any more.
    late: set[Place] = msgspec.field(default_factory=set)
    #: Results whose call has one already.
    twice: set[Place] = msgspec.field(default_factory=set)
    #: Results without a call.
    orphans: set[Place] = msgspec.field(default_factory=set)
    #: Calls that come once more, beside an answered call of their name.
    again: set[Place] = msgspec.field(default_factory=set)

    def in_place(self, index: int) -> list[Result]:
        """Return the results in a message that answer a call which is open there."""
        return [one for one in self.results.get(index, ()) if self.is_in_place((index, one.slot))]

    def is_in_place(self, result: Place) -> bool:
        """Whether a result answers a call which is open there."""
        return result in self.answers and result not in self.late


class _Open(Part):
    """The open calls at a point of the reading: each is in a batch, by where its result must be."""

    #: How many messages there were, without items that no model sees.
    index: int = 0
    #: The number of the message whose `Where.BEHIND` calls are open.
    behind: int | None = None
    #: How many user messages there were.
    turn: int = 0
    #: Messages of one role in a row are a run: its number and its role, and whether it holds more than results.
    run: int = 0
    role: str | None = None
    mixed: bool = False

    def step(self, role: str | None) -> None:
        self.index += 1
        if role != "tool":
            self.behind = None
        if role != self.role or role not in ("user", "assistant"):
            self.run, self.role, self.mixed = self.run + 1, role, False

    def batch(self, where: Where) -> int:
        """Return the batch of a call that is made here."""
        if where is Where.BEHIND or where is Where.NEXT:
            return self.index
        return self.run if where is Where.JOINED else self.turn

    def is_in_place(self, where: Where, batch: int) -> bool:
        """Say whether a result here answers a batch of calls in place."""
        if where is Where.BEHIND:
            return self.behind == batch
        if where is Where.NEXT:
            return self.index == batch + 1
        return where is not Where.JOINED or (self.run == batch + 1 and not self.mixed)


#: Where a result may come in a later turn.
_LATER: Final = (Where.AFTER, Where.OWN)


class _Batch(Part):
    """The newest calls of one name."""

    number: int
    where: Where
    #: Those without a result: the first one, and behind it maybe others.
    left: deque[Place] = msgspec.field(default_factory=deque)
    #: Calls of earlier turns, where a result may still come: the last one has none, and before it maybe others.
    older: list[Place] = msgspec.field(default_factory=list)

    def is_open(self, answered: Container[Place]) -> bool:
        """Say whether a call of the newest turn is without a result."""
        while self.left and self.left[0] in answered:
            self.left.popleft()
        return bool(self.left)

    def take(self, answered: Container[Place]) -> Place | None:
        """Return the call that the next result answers; `None` if all have theirs."""
        if self.is_open(answered):
            return self.left.popleft()
        while self.older and self.older[-1] in answered:
            self.older.pop()
        return self.older.pop() if self.older else None


def _older(batch: _Batch | None, where: Where) -> list[Place]:
    if batch is None or where not in _LATER:
        return []
    batch.older += batch.left
    return batch.older


def pair(messages: Iterable[Message], rules: Rules = BY_SHAPE) -> Pairing:
    """Return the pairs of a history. Never raises, whatever is in the messages."""
    return _Reading(rules).read(messages)


class _Reading:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.pairing = Pairing()
        self.open = _Open()
        self.named: dict[tuple[str, str | None], _Batch] = {}
        #: Calls that are open right behind their message, and results there which name none.
        self.behind: list[Place] = []
        self.unnamed: list[Place] = []

    def read(self, messages: Iterable[Message]) -> Pairing:
        for index, message in enumerate(messages):
            if is_plain(message):
                self._step(message.role)
                self.open.mixed = True
                if message.role == "user":
                    self.open.turn += 1
                    self.pairing.users.append(index)
            elif not is_item(value := message._object):
                self._read(index, shape_of(message), value)
        self._by_place()
        self.pairing.again.difference_update(self.pairing.answered)
        return self.pairing

    def _step(self, role: str | None) -> None:
        self.open.step(role)
        if self.open.behind is None and (self.behind or self.unnamed):
            self._by_place()

    def _read(self, index: int, shape: Shape, value: dict[str, Any]) -> None:
        role, found, made = shape.role(value), shape.results(value), shape.calls(value)
        self._step("tool" if found and role is None and self.rules.results is Where.BEHIND else role)
        if made and role == "assistant":
            self._make(index, value, made)
        if found:
            self.pairing.results[index] = found
            for result in found:
                self._answer((index, result.slot), result)
        says_more = not found or len(found) < len(shape.parts(value) or (0,))
        self.open.mixed |= says_more
        if role == "user":
            self.open.turn += 1
            if says_more:
                self.pairing.users.append(index)
        if made and role != "assistant":
            self._make(index, value, made)

    def _make(self, index: int, value: dict[str, Any], made: list[Call]) -> None:
        self.pairing.calls[index] = made
        if any(self._where(call) is Where.BEHIND for call in made):
            self.open.behind = self.open.index
        times = Counter(call.id for call in made) if len(made) > 1 else {}
        seen: set[tuple[str, str]] = set()
        for call in made:
            if call.id is not None and times.get(call.id, 0) > 1:
                its = call.id, repr(call.shape.call_at(value, call.slot))
                if its in seen:
                    self.pairing.again.add((index, call.slot))
                    continue
                seen.add(its)
            where = self._where(call)
            number = self.open.batch(where)
            for key in call.keys:
                batch = self.named.get(key)
                if batch is None or batch.number != number:
                    batch = self.named[key] = _Batch(number, where, older=_older(batch, where))
                if key[1] == call.id is not None and batch.is_open(self.pairing.answered):
                    self.pairing.again.add((index, call.slot))
                batch.left.append((index, call.slot))
            if where is Where.BEHIND:
                self.behind.append((index, call.slot))

    def _where(self, call: Call) -> Where:
        return call.where if call.where is Where.OWN else self.rules.results or call.where

    def _answer(self, place: Place, result: Result) -> None:
        if result.by_place:
            self.unnamed.append(place)
            return
        batch = next((self.named[key] for key in result.keys if key in self.named), None)
        in_place = batch is not None and self.open.is_in_place(batch.where, batch.number)
        if batch is None or (not in_place and not any(name for _, name in result.keys)):
            self.pairing.orphans.add(place)
            return
        if (call := batch.take(self.pairing.answered)) is None:
            self.pairing.twice.add(place)
            return
        self._join(call, place)
        if not in_place:
            self.pairing.late.add(place)

    def _join(self, call: Place, result: Place) -> None:
        self.pairing.answered[call] = result
        self.pairing.answers[result] = call

    def _by_place(self) -> None:
        left = [call for call in self.behind if call not in self.pairing.answered]
        for call, result in zip(left, self.unnamed, strict=False):
            self._join(call, result)
        self.behind, self.unnamed = [], []


def is_plain(message: Message) -> bool:
    """Say whether a message is a user's or an assistant's text and nothing else, as most are."""
    value = message._held
    if isinstance(value, str):
        return value in ("user", "assistant")
    return len(value) == 2 and type(value.get("content")) is str and value.get("role") in ("user", "assistant")


def only_results(message: Message) -> bool:
    """Say whether a message brings results and nothing else."""
    value, shape = message._object, shape_of(message)
    found = len(shape.results(value))
    return found > 0 and found == len(shape.parts(value) or (0,))


def starts(pairing: Pairing) -> list[int]:
    """Return where turns start: at user messages that hold more than results, and part no call from its result."""
    if not pairing.answers:
        return pairing.users
    change: defaultdict[int, int] = defaultdict(int)
    for (index, _), (call, _) in pairing.answers.items():
        change[call + 1] += 1
        change[index + 1] -= 1
    found, parted, users = [], 0, set(pairing.users)
    for index in sorted(change.keys() | users):
        parted += change.get(index, 0)
        if not parted and index in users:
            found.append(index)
    return found


def is_users(message: Message) -> bool:
    """Say whether the user speaks in a message, and does not only bring results."""
    if is_plain(message):
        return message.role == "user"
    return role_of(message) == "user" and not only_results(message)


def lone_reasoning(messages: Sequence[Message]) -> list[int]:
    """Return the indexes of reasoning items that no item of the model follows."""
    return [
        index
        for index, message in enumerate(messages)
        if is_reasoning(message._object)
        and (index + 1 == len(messages) or not is_of_the_model(messages[index + 1]._object))
    ]


def turn_starts(messages: Sequence[Message], rules: Rules = BY_SHAPE) -> list[int]:
    """Return where the turns of a history start, in order."""
    found = plain_starts(messages)
    return starts(pair(messages, rules)) if found is None else found


def plain_starts(messages: Iterable[Message]) -> list[int] | None:
    """Return where the turns of a history start that is plain (`is_plain`) from end to end; `None` of another one."""
    found = []
    for index, message in enumerate(messages):
        role: Any = message._held
        if type(role) is dict:  # perhaps the content comes first
            if not is_plain(message):
                return None
            role = role["role"]
        if role == "user":
            found.append(index)
        elif role != "assistant":
            return None
    return found
