"""All of a damaged session that is whole, and what is wrong with the rest."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from session_manager.codec.fragments import converted
from session_manager.model.ids import random_id
from session_manager.model.json_value import within_levels
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.times import utc_now
from session_manager.model.view import View

__all__ = ["Expected", "Flaw", "Salvaged", "in_order", "session_of_fields"]

#: What ids of generations are made of.
_GENERATION = re.compile(r"[!#-\[\]-~]{1,160}")


@attrs.frozen
class Flaw:
    """A damaged place."""

    #: The file, or the database.
    path: str
    #: The byte in the file, if it has a place.
    offset: int | None
    #: What is wrong, without any text of the session.
    reason: str


@attrs.frozen
class Expected:
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


def in_order(messages: Iterable[Message]) -> list[Message]:
    """Return as many messages as possible whose positions increase: a damaged position leaves only its own message out."""
    there = list(messages)
    ends: list[int] = []
    last: list[int] = []
    before: list[int | None] = []
    for number, message in enumerate(there):
        assert message.position is not None
        place = bisect_left(ends, message.position)
        before.append(last[place - 1] if place else None)
        ends[place : place + 1], last[place : place + 1] = [message.position], [number]
    kept: list[Message] = []
    number_of = last[-1] if last else None
    while number_of is not None:
        kept.append(there[number_of])
        number_of = before[number_of]
    return kept[::-1]


def _time(value: object, default: datetime) -> datetime:
    found: datetime = converted(value, datetime, default)
    return found if found.tzinfo is timezone.utc else default


def session_of_fields(key: str, fields: dict[str, Any], messages: Sequence[Message]) -> Session:
    """Return a session of the fields that a damaged file still tells; the rest is as its messages have it, or new."""
    last = messages[-1].position if messages else -1
    assert last is not None
    created = _time(fields.get("created"), messages[0].created_at if messages else utc_now())
    updated = _time(fields.get("updated"), messages[-1].created_at if messages else created)
    generation = converted(fields.get("generation"), str, "")
    metadata = converted(fields.get("metadata"), dict, {})
    after: timedelta = converted(fields.get("expires_after"), timedelta, timedelta())
    return Session(
        key=key,
        generation=generation if _GENERATION.fullmatch(generation) else random_id(),
        created=created,
        updated=updated,
        messages=View(messages),
        summary=converted(fields.get("summary"), str, ""),
        metadata=metadata if within_levels(metadata) else {},
        end=max(converted(fields.get("end"), int, 0), last + 1),
        refs=converted(fields.get("refs"), tuple[str, ...], ()),
        revision=max(converted(fields.get("revision"), int, 0), 0),
        expires_after=after if after > timedelta() else None,
    )
