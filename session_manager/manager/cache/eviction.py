"""How much RAM the sessions take, by estimate, and which of them was used least recently."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from sys import getsizeof
from typing import Any

from session_manager.manager.cache.entry import Entry
from session_manager.model.batch import Batch
from session_manager.model.changes import (
    Append,
    Change,
    Edit,
    Remove,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
    apply,
)
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["Budget", "measure", "weight"]

# Measured by `tracemalloc` on CPython 3.11: an entry with its pictures, and a message's own objects and place in the list.
_SESSION = 1500
_MESSAGE = 170
_REF = 70
_SHARED_NAMES = 8
_CANDIDATES = 8
_WEIGHED_ONE_BY_ONE = 32


class Budget:
    """The resident sessions' sizes and order of use. Every method requires the lock of what is in RAM.

    :param limit: in bytes, of the estimate.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._sizes: OrderedDict[str, int] = OrderedDict()
        #: Of the sessions that have a map of their refs.
        self._maps: dict[str, int] = {}

    def used(self, key: str) -> None:
        """Note that a session was used now."""
        if key in self._sizes:
            self._sizes.move_to_end(key)

    def put(self, key: str, old: Entry | None, new: Entry, change: Change | None, size: int | None) -> None:
        """Note that an entry was put in another's place, or there was none. A new one, and a change, are a use.

        :param change: what led from one to the other, if it was one change.
        :param size: what `measure` says of the new one, if that was asked already.
        """
        before = self._sizes.get(key, 0)
        if size is not None:
            after = size
        elif old is None:
            after = measure(new.session)
        else:
            after = _resized(before, old.session, new.session, change)
        self._sizes[key] = after
        self.size += after - before
        if change is not None:
            self._sizes.move_to_end(key)

    def drop(self, key: str) -> None:
        """Note that a session is not resident any more."""
        self.size -= self._sizes.pop(key, 0)

    def note_map(self, key: str, size: int) -> None:
        """Note how many bytes the map of a session's refs takes now; 0: there is none."""
        self.size += size - self._maps.pop(key, 0)
        if size:
            self._maps[key] = size

    def oldest(self) -> Iterator[str]:
        """Give the keys of sessions, least recently used first, as long as there is too much.

        A session that is still there when you ask for the next one cannot go now. It counts as used. After a few of these, no
        more keys are given.
        """
        for _ in range(min(_CANDIDATES, len(self._sizes))):
            while self.size > self.limit:
                key = next(iter(self._sizes))
                yield key
                if key in self._sizes:
                    self._sizes.move_to_end(key)
                    break


def measure(session: Session) -> int:
    """Return about how many bytes of RAM a session takes."""
    return _frame(session) + sum(map(weight, session.messages))


def _frame(session: Session) -> int:
    values = _values([session._metadata]) if session._metadata else 0
    return _SESSION + getsizeof(session.summary) + values + _REF * len(session.refs)


def _resized(before: int, old: Session, new: Session, change: Change | None) -> int:
    """Return a session's size after a change, given that before: at a cost like that of the change."""
    count, left = len(old.messages), len(new.messages)
    match change:
        case Batch():
            for one in change.changes:
                before, old = _resized(before, old, after := apply(old, one), one), after
            return before
        case Append():
            return before + sum(map(weight, new.messages.last(left - count))) + _REF * (len(new.refs) - len(old.refs))
        case Edit(position=position) | Remove(position=position):
            return before + _at(new, position) - _at(old, position)
        case SetSummary():
            return before + getsizeof(new.summary) - getsizeof(old.summary)
        case UpdateMetadata():
            return before + _noted(old, new, change)
        case Truncate() | Summarize() if left > 0 and count - left > _WEIGHED_ONE_BY_ONE:
            frame = _frame(old)
            return _frame(new) + max(before - frame, 0) * left // count
        case None if new.messages is old.messages and new.summary is old.summary and new._metadata is old._metadata:
            return before
        case _:
            return measure(new)


def _noted(old: Session, new: Session, change: UpdateMetadata) -> int:
    """Return how many bytes the metadata has grown by."""
    one, other = old._metadata, new._metadata
    if min(len(one), len(other)) <= _SHARED_NAMES:
        return _frame(new) - _frame(old)
    keys = {*change._items, *change.removed}
    return getsizeof(other) - getsizeof(one) + _some(other, keys) - _some(one, keys)


def _some(metadata: dict[str, Any], keys: Iterable[str]) -> int:
    there = [key for key in keys if key in metadata]
    values = [metadata[key] for key in there]
    return sum(map(getsizeof, there)) + _values([values]) - getsizeof(values)


def _at(session: Session, position: int) -> int:
    message = session.at(position)
    return 0 if message is None else weight(message)


def weight(message: Message) -> int:
    """Return about how many bytes of RAM a message takes."""
    said = getsizeof(message._text) if message._text is not None else _values([message._held])
    return _MESSAGE + said + (_values([message._metadata]) if message._metadata else 0)


def _values(containers: list[Any]) -> int:
    """Return how many bytes some JSON objects and lists take. Few names are as good as shared, by all that have them."""
    total = sum(map(getsizeof, containers))
    while containers:
        one = containers.pop()
        values = one
        if isinstance(one, dict):
            values = one.values()
            if len(one) > _SHARED_NAMES:
                total += sum(map(getsizeof, one))
        total += sum(map(getsizeof, values))
        containers += [value for value in values if type(value) in (dict, list)]
    return total
