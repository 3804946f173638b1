"""Tool calls that lack their result, results that lack their call, and either in a wrong place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from session_manager.history.check import Check, Found
from session_manager.history.pairing import Pairing, Place, pair
from session_manager.history.rules import Rules
from session_manager.history.shapes import Call, Shape, Where, calls, results, role_of, shape_of
from session_manager.model.message import Message

__all__ = ["TOOL_CALLS"]


def _find(messages: Sequence[Message], rules: Rules) -> Found:
    pairing = pair(messages, rules)
    return [
        *_of_calls(messages, pairing),
        *((index, "a tool result without its call") for index, _ in pairing.orphans),
        *((index, "a second result for one tool call") for index, _ in pairing.twice),
        *((one[0], f"a tool result late for its call in message {pairing.answers[one][0]}") for one in pairing.late),
        *((index, "a tool call before other parts") for index in _calls_too_early(messages, pairing, rules)),
        *((index, "a tool result behind other parts") for index in _results_too_late(messages, pairing, rules)),
    ]


def _of_calls(messages: Sequence[Message], pairing: Pairing) -> Found:
    pending = _pending(messages, pairing)
    return [
        (index, "a second tool call of one id")
        if (index, call.slot) in pairing.again
        else (index, f"tool call {number} of {len(made)} has no result")
        for index, made in pairing.calls.items()
        for number, call in enumerate(made, 1)
        if (index, call.slot) not in pairing.answered and (index, call.slot) not in pending
    ]


def _pending(messages: Sequence[Message], pairing: Pairing) -> set[Place]:
    """Return the calls of the provider's own tools that it is still working on: those of the last answer.

    Anthropic's ``pause_turn`` ends an answer with such a call, and so does a program that calls tools of yours:
    https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
    """
    last = next((index for index in range(len(messages) - 1, -1, -1) if role_of(messages[index]) == "assistant"), -1)
    if last not in pairing.calls or any(role_of(one) == "user" and not results(one) for one in messages[last + 1 :]):
        return set()
    return {(last, call.slot) for call in pairing.calls[last] if call.where is Where.OWN}


def _calls_too_early(messages: Sequence[Message], pairing: Pairing, rules: Rules) -> list[int]:
    return [
        index
        for index, made in pairing.calls.items()
        if rules.of(made[0].shape).calls_last
        and not made[0].shape.is_signed(messages[index]._object)
        and _are_parts(messages[index], made)
        and not _is_end({call.slot for call in made}, _parts(messages[index]))
    ]


def _results_too_late(messages: Sequence[Message], pairing: Pairing, rules: Rules) -> list[int]:
    return [
        index
        for index, found in pairing.results.items()
        if rules.of(found[0].shape).results_first
        and role_of(messages[index]) != "assistant"
        and found[0].shape.bringing([]) is not None
        and any(pairing.is_in_place((index, one.slot)) for one in found)
        and not _is_start({one.slot for one in found}, _parts(messages[index]))
    ]


def _are_parts(message: Message, made: Sequence[Call]) -> bool:
    """Say whether calls are parts of their message's content, and not listed beside it."""
    value, parts = message._object, _parts(message)
    return all(call.slot < len(parts) and call.shape.call_at(value, call.slot) is parts[call.slot] for call in made)


def _parts(message: Message) -> Sequence[Any]:
    return shape_of(message).parts(message._object) or ()


def _is_end(slots: Collection[int], parts: Sequence[Any]) -> bool:
    return not parts or set(slots) == set(range(len(parts) - len(slots), len(parts)))


def _is_start(slots: Collection[int], parts: Sequence[Any]) -> bool:
    return not parts or set(slots) == set(range(len(slots)))


def _mend(messages: list[Message], rules: Rules) -> list[Message]:
    while True:
        pairing = pair(messages, rules)
        lone = _hopeless(messages, pairing)
        strays = pairing.orphans | pairing.twice
        if not lone and not strays:
            return _Placing(messages, pairing, rules).done()
        messages = [one for one in _without(messages, calls=lone, results=strays) if one is not None]


def _hopeless(messages: list[Message], pairing: Pairing) -> set[Place]:
    """Return the calls that go: those that come twice, and those whose result cannot be made."""
    pending = _pending(messages, pairing)
    return pairing.again | {
        (index, call.slot)
        for index, made in pairing.calls.items()
        for call in made
        if (index, call.slot) not in pairing.answered
        and (index, call.slot) not in pending
        and call.shape.interrupted(messages[index]._object, call) is None
    }


def _without(
    messages: list[Message], *, calls: Collection[Place] = (), results: Collection[Place] = ()
) -> list[Message | None]:
    """Take some calls and results out of their messages. A message that holds nothing else becomes `None`."""
    gone: defaultdict[int, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    for kind, places in enumerate((calls, results)):
        for index, slot in places:
            gone[index][kind].add(slot)
    return [_less(message, *gone[index]) if index in gone else message for index, message in enumerate(messages)]


def _less(message: Message, calls: set[int], results: set[int]) -> Message | None:
    shape = shape_of(message)
    left: dict[str, Any] | None = message._object
    if results:
        left = shape.without_results(message._object, results)
    if calls and left is not None:
        # The results that went before have moved the calls behind them.
        slots = {slot - sum(gone < slot for gone in results) for slot in calls}
        left = shape.without_calls(left, slots)
    return None if left is None else message._with_object(left)


class _Placing:
    """Puts each result in its place: late results are moved, missing ones are made."""

    def __init__(self, messages: list[Message], pairing: Pairing, rules: Rules) -> None:
        self.messages = messages
        self.pairing = pairing
        self.rules = rules
        self.pending = _pending(messages, pairing)
        #: Messages to come before the one at an index.
        self.before: defaultdict[int, list[Message]] = defaultdict(list)
        #: Parts to come behind the results that a message starts with.
        self.parts: defaultdict[int, list[Any]] = defaultdict(list)
        #: The end of the last run of calls and results.
        self.stop = 0

    def done(self) -> list[Message]:
        for index, made in self.pairing.calls.items():
            if wanting := [call for call in made if self._wants(index, call)]:
                self._place(index, wanting)
        left = _without(self.messages, results=self.pairing.late)
        early = set(_calls_too_early(self.messages, self.pairing, self.rules))
        late = set(_results_too_late(self.messages, self.pairing, self.rules))
        done: list[Message] = []
        for index, message in enumerate(left):
            done += self.before[index]
            if message is not None:
                done.append(self._in_order(index, message, early=index in early, late=index in late))
        return done + self.before[len(left)]

    def _wants(self, index: int, call: Call) -> bool:
        place = index, call.slot
        result = self.pairing.answered.get(place)
        return (result is None or result in self.pairing.late) and place not in self.pending

    def _place(self, index: int, wanting: list[Call]) -> None:
        where = self.rules.results or wanting[0].where
        if where in (Where.NEXT, Where.JOINED):
            self._place_parts(index, index + 1, wanting)
        else:
            self.before[self._behind(index, where)] += self._as_messages(index, wanting)

    def _behind(self, index: int, where: Where) -> int:
        """Return the place of new results for a message's calls: behind the existing ones."""
        if self.stop <= index:
            self.stop = index + 1
            while self.stop < len(self.messages) and self._goes_on(self.messages[self.stop], where):
                self.stop += 1
        return self.stop

    def _goes_on(self, message: Message, where: Where) -> bool:
        if where is Where.BEHIND:
            is_item = self.rules.results is Where.BEHIND and role_of(message) is None
            return role_of(message) == "tool" or (is_item and bool(results(message)))
        return any(one.where is Where.AFTER for one in calls(message)) or bool(results(message))

    def _place_parts(self, index: int, home: int, wanting: list[Call]) -> None:
        """Put results into the message at `home` if it starts with results, or into one of their own before it."""
        if self.pairing.in_place(home) and shape_of(self.messages[home]) is wanting[0].shape:
            self.parts[home] += [part for call in wanting for part in [self._part(index, call)]]
        else:
            self.before[home] += self._as_messages(index, wanting)

    def _as_messages(self, index: int, wanting: list[Call]) -> list[Message]:
        """Return messages that bring results: a late one's own message if it brings these alone, else new ones."""
        shape = wanting[0].shape
        if shape.bringing([]) is None:
            return [self._result(index, call) for call in wanting]
        places = [self.pairing.answered.get((index, call.slot)) for call in wanting]
        homes = {place and place[0] for place in places}
        home = homes.pop() if len(homes) == 1 else None
        if home is not None and len(_parts(self.messages[home])) == len(wanting):
            return [self.messages[home]]
        brought = shape.bringing([self._part(index, call) for call in wanting])
        assert brought is not None
        return [self._made(brought, index)]

    def _part(self, index: int, call: Call) -> Any:
        place = self.pairing.answered.get((index, call.slot))
        if place is None:
            return call.shape.interrupted(self.messages[index]._object, call)
        return _parts(self.messages[place[0]])[place[1]]

    def _result(self, index: int, call: Call) -> Message:
        late = self.pairing.answered.get((index, call.slot))
        if late is not None:
            return self.messages[late[0]]
        made = call.shape.interrupted(self.messages[index]._object, call)
        assert made is not None
        return self._made(made, index)

    def _made(self, value: dict[str, Any], index: int) -> Message:
        return Message._restore(value, self.messages[index].created_at)

    def _in_order(self, index: int, message: Message, *, early: bool, late: bool) -> Message:
        """Return a message with its calls last, or its results first, and further results behind these."""
        shape = shape_of(message)
        if early:
            return _sorted(message, shape, {call.slot for call in shape.calls(message._object)}, last=True)
        added = self.parts[index]
        if not late and not added:
            return message
        slots = {one.slot for one in shape.results(message._object)}
        if not late and not self.rules.of(shape).results_first:
            end = max(slots) + 1
            parts = _parts(message)
            return message._with_object(shape.with_content(message._object, [*parts[:end], *added, *parts[end:]]))
        return _sorted(message, shape, slots, added=added)


def _sorted(
    message: Message, shape: Shape, slots: set[int], *, added: Sequence[Any] = (), last: bool = False
) -> Message:
    parts = _parts(message)
    its = [parts[slot] for slot in sorted(slots)]
    others = [part for slot, part in enumerate(parts) if slot not in slots]
    ordered = [*others, *its] if last else [*its, *added, *others]
    return message._with_object(shape.with_content(message._object, ordered))


#: Calls and results that fit together, each in its place.
TOOL_CALLS = Check(_find, _mend)
