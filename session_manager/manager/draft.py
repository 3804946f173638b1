"""The draft of a turn: what its block adds, and what else it changes, before any other call sees it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from typing import Final

from session_manager.errors import InvalidMessageError
from session_manager.frozen import Part
from session_manager.manager.edits import editing, position_of, truncating
from session_manager.model.changes import Change, Remove, Replace, apply
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["LAST", "Draft", "Last"]


class Last(enum.Enum):
    """The type of `LAST`."""

    LAST = "last"

    def __repr__(self) -> str:
        return "LAST"


#: The last turn of a session, for ``turn(key, replacing=LAST)``.
LAST: Final = Last.LAST


class Draft(Part):
    """What one turn does. It is made over the durable session that the turn has seen, and nothing else is.

    Messages that it adds have no positions yet: they come behind all others.
    """

    #: The durable session that the changes are made over; `None` as long as the turn only adds.
    base: Session | None = None
    #: That session with the changes.
    session: Session | None = None
    #: What is changed besides adding, in order.
    changes: tuple[Change, ...] = ()
    #: The messages that are added.
    added: tuple[Message, ...] = ()
    #: The refs of those that are added only if they are not there.
    absent: frozenset[str] = frozenset()

    def start(self, base: Session) -> None:
        """Begin to change a session, as it is durable."""
        self.base = self.session = base

    def change(self, change: Change | None) -> bool:
        """Make a change; say whether it has an effect."""
        assert self.session is not None
        after = self.session if change is None else apply(self.session, change)
        if change is None or after is self.session:
            return False
        self.session, self.changes = after, (*self.changes, change)
        return True

    def add(self, messages: tuple[Message, ...], *, if_absent: bool = False) -> None:
        """Add messages behind all others.

        :param if_absent: only those whose refs are not there when the turn ends. The messages that the turn adds are there.
        :raises InvalidMessageError: if a message has the ref of one that is added only if it is not there; nothing has changed.
        """
        if not if_absent:
            if self.absent and not self.absent.isdisjoint(one.ref for one in messages):
                raise InvalidMessageError("ref", "is that of a message that this turn adds with if_absent=True")
            self.added = (*self.added, *messages)
            return
        mine = {one.ref for one in self.added}
        new = {one.ref: one for one in reversed(messages) if one.ref not in mine}
        self.added = (*self.added, *(one for one in messages if new.get(one.ref) is one))
        self.absent = self.absent.union(ref for ref in new if ref is not None)

    def remove(self, where: int | str, at: datetime) -> Message | None:
        """Remove a message, and return it; `None` if it is not there. By its ref, it may be one that the turn adds."""
        index = self._added(where)
        if index is not None:
            one = self.added[index]
            self.added = (*self.added[:index], *self.added[index + 1 :])
            return one
        assert self.session is not None
        position = position_of(where)(self.session)
        message = None if position is None else self.session.at(position)
        if position is not None:
            self.change(Remove(at=at, position=position))
        return message

    def edit(
        self, where: int | str, message: Message, check: Callable[[Message], None], at: datetime, *, keep_time: bool
    ) -> bool:
        """Replace a message; say whether it was there. By its ref, it may be one that the turn adds. See `editing`."""
        index = self._added(where)
        if index is not None:
            new = message._in_place_of(self.added[index], keep_time=keep_time)
            check(new)
            self.added = (*self.added[:index], new, *self.added[index + 1 :])
            return True
        assert self.session is not None
        edit = editing(at, position_of(where), message, check, keep_time=keep_time)(self.session)
        self.change(edit)
        return edit is not None

    def truncate(self, keep_last: int, at: datetime) -> int:
        """Drop all but the last messages, the added ones counted; return how many were dropped."""
        assert self.session is not None
        before = len(self.session.messages) + len(self.added)
        self.change(truncating(at, max(keep_last - len(self.added), 0), whole_turns=False)(self.session))
        if keep_last < len(self.added):
            self.added = self.added[len(self.added) - keep_last :]
        return before - len(self.session.messages) - len(self.added)

    def replace(self, messages: tuple[Message, ...], at: datetime) -> None:
        """Replace all messages, also those that the turn adds."""
        self.change(Replace(at=at, messages=messages))
        self.added = ()

    def remove_end(self, start: int, at: datetime) -> list[Message]:
        """Remove the messages from an index on, and return them. They do not go to the archive."""
        assert self.session is not None
        gone = self.session.messages[start:].to_list()
        for message in reversed(gone):  # the last one first: that copies nothing
            assert message.position is not None
            self.change(Remove(at=at, position=message.position))
        return gone

    def start_of(self, which: str | Last, count: int = 1) -> int | None:
        """Return the index where a turn starts, or the last few turns; `None` if there is none."""
        from session_manager.history.last_turns import last_turns, turn_of

        assert self.session is not None
        messages = self.session.messages
        if isinstance(which, str):
            return turn_of(messages, which)
        start = last_turns(messages, count)
        return start if start < len(messages) else None

    def _added(self, where: int | str) -> int | None:
        """Return the index of the last added message that has a ref."""
        if not isinstance(where, str):
            return None
        return next((index for index in range(len(self.added) - 1, -1, -1) if self.added[index].ref == where), None)
