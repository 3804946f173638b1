"""Maps of refs: where the message of a ref is, in a long session in RAM, without a walk through its history.

A map is built when a session is first asked for a ref that none of its last messages has. Messages that were added since are
put into it when it is asked again, so that adding and saving cost nothing. A change that may make it wrong drops it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from session_manager.frozen import Part
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.eviction import Budget
from session_manager.model.batch import Batch
from session_manager.model.changes import Append, Change, Edit, Remove, SetSummary, Truncate, UpdateMetadata
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["FEW", "SHORT", "RefMap", "RefMaps", "last_with", "mapped"]

#: So many of the last messages are looked at one by one.
FEW = 64
#: So many messages are put into a map by a thread that holds the lock.
SHORT = 256
#: Measured by `tracemalloc`: an item of a dict, and a position.
_ITEM = 60


class RefMap(Part):
    """The refs of all messages before a position, and the turns that added these."""

    end: int = 0
    #: Of each ref the position of the last message that has it.
    refs: dict[str, int] = msgspec.field(default_factory=dict)
    #: Of each turn the position of the last message that it added.
    turns: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many bytes of RAM it takes."""
        return _ITEM * (len(self.refs) + len(self.turns))

    def grow(self, newer: RefMap) -> None:
        """Take over a map of the messages behind these."""
        if self.end == 0:
            self.refs, self.turns = newer.refs, newer.turns
        else:
            self.refs.update(newer.refs)
            self.turns.update(newer.turns)
        self.end = newer.end


def mapped(messages: Sequence[Message], end: int) -> RefMap:
    """Return the map of some messages.

    :param end: the position behind the last of them.
    """
    refs = {one.ref: one.position for one in messages if one.ref is not None and one.position is not None}
    turns = {one.turn: one.position for one in messages if one.turn is not None and one.position is not None}
    return RefMap(end, refs, turns)


def last_with(messages: Sequence[Message], ref: str) -> Message | None:
    """Return the last of some messages that has a ref, looking at one after another; `None` if none has."""
    return next((one for one in reversed(messages) if one.ref == ref), None)


class RefMaps(Part):
    """The maps of sessions in RAM. Every method requires the lock of what is in RAM."""

    #: Counts their bytes, if there is a limit.
    _budget: Budget | None = None
    by_key: dict[str, RefMap] = msgspec.field(default_factory=dict)

    def of(self, key: str) -> RefMap:
        """Return the map of a session that is in RAM: one without messages if there is none. It is kept up from now on."""
        return self.by_key.setdefault(key, RefMap())

    def grow(self, key: str, refs: RefMap, newer: RefMap) -> None:
        """Put further messages into a session's map."""
        refs.grow(newer)
        if self._budget is not None and self.by_key.get(key) is refs:
            self._budget.note_map(key, refs.size)

    def put(self, key: str, old: Entry | None, new: Entry, change: Change | None) -> None:
        """Take note that an entry takes another's place, before it does: drop a map that may be wrong now.

        :param change: the change that led to it, if it was one.
        """
        if key in self.by_key and not (old is not None and _stays_right(old.session, new.session, change)):
            self.drop(key)

    def drop(self, key: str) -> None:
        """Forget the map of a session."""
        if self.by_key.pop(key, None) is not None and self._budget is not None:
            self._budget.note_map(key, 0)

    def find(self, key: str, session: Session, ref: str) -> Message | None:
        """Return the last message of a session in RAM that has a ref; `None` if there is none.

        It walks through the history if there is no map, or one that lacks many messages.
        """
        found = last_with(session.messages.last(FEW), ref)
        if found is not None or len(session.messages) <= FEW:
            return found
        refs = self.by_key.get(key)
        if refs is None:
            return last_with(session.messages, ref)
        newer = session.messages[session.index(refs.end) :]
        if len(newer) > SHORT:
            return last_with(session.messages, ref)
        self.grow(key, refs, mapped(newer, session.end))
        position = refs.refs.get(ref)
        return None if position is None else session.at(position)


def _stays_right(old: Session, new: Session, change: Change | None) -> bool:
    """Say whether what a map says of one session is true of another: each ref of it leads to the last message that has it.

    A message that is gone takes the ones before it along. Messages at new positions are not in the map yet.
    """
    if new.messages is old.messages:
        return True
    match change:
        case Append() | Truncate(spare=None):
            return True
        case Batch(changes=changes):
            return all(isinstance(one, Append | SetSummary | UpdateMetadata) for one in changes)
        case Edit(position=position, message=message):
            there = old.at(position)
            return there is None or message.ref in (None, there.ref)
        case Remove(position=position):
            there = old.at(position)
            return there is None or (there.ref is None and there.turn is None)
        case _:
            return False
