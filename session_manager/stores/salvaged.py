"""All of a damaged session that is whole, and what is wrong with the rest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs

from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.values import Value

__all__ = ["Expected", "Flaw", "Salvaged"]


@attrs.frozen(eq=False, repr=False)
class Flaw(Value):
    """A damaged place."""

    #: The file, or the database.
    path: str
    #: The byte in the file, if it has a place.
    offset: int | None
    #: What is wrong, without any text of the session.
    reason: str


@attrs.frozen(eq=False, repr=False)
class Expected(Value):
    """The messages that a session had, as a part of the file that is whole says."""

    start: int
    end: int
    count: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Salvaged:
    """All of a session that is whole."""

    #: The session: at its stored version if nothing is wrong, else at the next one, which a write gives it.
    session: Session
    #: Its archived messages, each with the revision that dropped it.
    archive: Sequence[tuple[int, Message]] = ()
    #: What is wrong; empty if nothing is.
    flaws: Sequence[Flaw] = ()
    #: The positions of messages that may be older than they should be, or that no checksum proves.
    doubtful: frozenset[int] = frozenset()
    #: The messages that it had; `None` if nothing tells.
    expected: Expected | None = None
    #: How many messages its archive had, at least.
    archived: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to save: no message, and nothing that tells of the session."""
        return self.expected is None and not self.session.messages and not self.archive

    def agrees(self, other: Salvaged) -> bool:
        """Say whether another salvage has found the same messages. Ids and times that are made up may differ."""
        one, two = self.session, other.session
        return (
            one.revision == two.revision
            and list(one.messages) == list(two.messages)
            and [message for _, message in self.archive] == [message for _, message in other.archive]
        )

    @property
    def lost(self) -> int | None:
        """How many of its messages are missing; `None` if nothing tells."""
        return None if self.expected is None else max(self.expected.count - len(self.session.messages), 0)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The positions without a whole message, as ranges: the first and the last one. Some may have been removed before."""
        if self.lost == 0:
            return []
        there = [one.position for one in self.session.messages if one.position is not None]
        if self.expected is not None:
            there = [self.expected.start - 1, *there, self.expected.end]
        return [(one + 1, other - 1) for one, other in itertools.pairwise(there) if other - one > 1]
