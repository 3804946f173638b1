"""The repair of a history in three steps: drop strays, move each result to its call, drop reasoning that led nowhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from session_manager.history.pairing import (
    Pairing,
    Place,
    calls_come_last,
    is_of_the_model,
    is_reasoning,
    pair,
    results_come_first,
    turn_starts,
)
from session_manager.history.problems import head, problems
from session_manager.history.tool_calls import (
    Call,
    Shape,
    blocks,
    calls,
    interrupted,
    is_call_block,
    is_result_block,
    results,
)
from session_manager.model.message import Message

__all__ = ["mended", "repair"]

_ITEM_SHAPES = {Shape.ITEMS, Shape.CUSTOM}


def mended(messages: list[Message]) -> list[Message]:
    """Repair a history that has problems, with the least change: see `repair`."""
    pairing = pair(messages)
    while strays := pairing.orphans | pairing.twice:
        messages = [message for message in _without(messages, strays) if message is not None]
        pairing = pair(messages)
    return _without_lone_reasoning(_Placing(messages, pairing).done())


def _without(messages: list[Message], out: set[Place]) -> list[Message | None]:
    """Take some results out of their messages. A message that holds nothing else becomes `None`."""
    slots: defaultdict[int, set[int]] = defaultdict(set)
    for index, slot in out:
        slots[index].add(slot)
    return [_less(message, slots[index]) if index in slots else message for index, message in enumerate(messages)]


def _less(message: Message, slots: set[int]) -> Message | None:
    if message.role != "user":
        return None
    left = [block for slot, block in enumerate(blocks(message)) if slot not in slots]
    return _changed(message, left) if left else None


def _without_lone_reasoning(messages: list[Message]) -> list[Message]:
    kept: list[Message] = []
    for message in reversed(messages):
        if not is_reasoning(message) or (kept and is_of_the_model(kept[-1])):
            kept.append(message)
    return kept[::-1]


def _changed(message: Message, content: list[Any]) -> Message:
    return Message._restore(
        {**message._object, "content": content},
        message.created_at,
        message._metadata,
        message.ref,
        message.position,
        message.turn,
    )


def _made(value: dict[str, Any], like: Message) -> Message:
    return Message._restore(value, like.created_at)


class _Placing:
    """Puts each result in its place: late results are moved, missing ones are made."""

    def __init__(self, messages: list[Message], pairing: Pairing) -> None:
        self.messages = messages
        self.pairing = pairing
        #: Messages to come before the one at an index.
        self.before: defaultdict[int, list[Message]] = defaultdict(list)
        #: Blocks to come behind the results that a message starts with.
        self.blocks: defaultdict[int, list[Any]] = defaultdict(list)
        #: The end of the last run of calls and results.
        self.stop = 0

    def done(self) -> list[Message]:
        for index, made in self.pairing.calls.items():
            wanting = [call for call in made if not self._has_its_result(index, call)]
            if not wanting:
                continue
            if made[0].shape is Shape.BLOCKS:
                self._place_blocks(index, wanting)
            else:
                self.before[self._behind(index, made[0].shape)] += [self._result(index, call) for call in wanting]
        left = _without(self.messages, self.pairing.late)
        done: list[Message] = []
        for index, message in enumerate(left):
            done += self.before[index]
            if message is not None:
                done.append(self._in_order(index, message))
        return done + self.before[len(left)]

    def _has_its_result(self, index: int, call: Call) -> bool:
        result = self.pairing.answered.get((index, call.slot))
        return result is not None and result not in self.pairing.late

    def _behind(self, index: int, shape: Shape) -> int:
        """Return the place of new results for a message's calls: behind the existing ones."""
        if self.stop <= index:
            self.stop = index + 1
            while self.stop < len(self.messages) and self._goes_on(self.messages[self.stop], shape):
                self.stop += 1
        return self.stop

    def _goes_on(self, message: Message, shape: Shape) -> bool:
        if shape in _ITEM_SHAPES:
            shapes = {call.shape for call in calls(message)} | {result.shape for result in results(message)}
            return bool(shapes & _ITEM_SHAPES)
        return message.role in ("tool", "function")

    def _result(self, index: int, call: Call) -> Message:
        late = self.pairing.answered.get((index, call.slot))
        if late is not None:
            return self.messages[late[0]]
        return _made(interrupted(self.messages[index], call), self.messages[index])

    def _place_blocks(self, index: int, wanting: list[Call]) -> None:
        wanted, homes = [], set()
        for call in wanting:
            place = self.pairing.answered.get((index, call.slot))
            if place is None:
                wanted.append(interrupted(self.messages[index], call))
            else:
                wanted.append(blocks(self.messages[place[0]])[place[1]])
            homes.add(place and place[0])
        if self.pairing.in_place(index + 1):
            self.blocks[index + 1] += wanted
            return
        home = homes.pop() if len(homes) == 1 else None
        if home is not None and len(blocks(self.messages[home])) == len(wanted):
            self.before[index + 1].append(self.messages[home])
        else:
            self.before[index + 1].append(_made({"role": "user", "content": wanted}, self.messages[index]))

    def _in_order(self, index: int, message: Message) -> Message:
        """Return a message with its calls last, or its results first, and further blocks behind these."""
        content = list(blocks(message))
        made = self.pairing.calls.get(index)
        if made and made[0].shape is Shape.BLOCKS and not calls_come_last(message):
            return _changed(message, sorted(content, key=is_call_block))
        if index in self.pairing.results and self.pairing.in_place(index):
            added = self.blocks[index]
            if added or not results_come_first(message):
                its = [block for block in content if is_result_block(block)]
                return _changed(message, its + added + [block for block in content if not is_result_block(block)])
        return message


def repair(messages: Sequence[Message], *, user_first: bool = False) -> list[Message]:
    """Return a valid history with the least change; of a valid one the same messages.

    * A result without a call, or for an answered call, is left out; of a message with other blocks, only that block.
    * A call without a result gets one, in its own shape, which says that it was interrupted.
    * A late result is moved to its place: the tool did answer.
    * Blocks are put in Anthropic's order. A reasoning item without its follower is left out.

    ``problems(repair(x)) == []`` for every `x`, and a second repair changes nothing. A changed message keeps its position, time,
    ref and metadata. A new message has the time of its call, and no position.

    :param user_first: whether the history must start with a user message. Messages before the first turn are then left out,
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
        start = next(iter(turn_starts(valid)), len(valid))
        del valid[first:start]
    return valid
