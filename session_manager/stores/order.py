"""The order of sessions in lists: the most recent first, or by key; and pages of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from itertools import islice
from operator import attrgetter
from typing import Literal, Protocol, TypeVar

__all__ = ["LAST", "Listed", "Order", "Timed", "in_order", "page", "place", "recency", "recent_first", "time_at"]

#: ``"recent"``: the session with the most recent message first; without messages its last change counts. Equally recent ones
#: by key. Damaged sessions, whose times are unknown, come last. ``"key"``: by key, in Python's order of texts.
Order = Literal["recent", "key"]

#: The place of a session whose times are unknown: behind all others.
LAST = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class Timed(Protocol):
    """What knows when a session was changed."""

    @property
    def updated(self) -> datetime | None:
        """When it was last changed."""

    @property
    def last_message_at(self) -> datetime | None:
        """When its last message was written."""


class Listed(Timed, Protocol):
    """What the order needs of a session: a `Session`, or its `SessionInfo`."""

    @property
    def key(self) -> str:
        """Its name."""


I = TypeVar("I", bound=Listed)  # noqa: E741 - a listed one


def recency(info: Timed) -> datetime | None:
    """Return the time by which a session is listed, and expires: its last message's, or, without one, its last change's."""
    return info.last_message_at or info.updated


def recent_first(time: datetime | None) -> int:
    """Return a number that is smaller for a later time: minus the microseconds since 1970; `LAST` for `None`."""
    return LAST if time is None else (_EPOCH - time) // _MICROSECOND


def time_at(number: object) -> datetime | None:
    """Return the time of which `recent_first` makes a number; `None` if it is that of no time."""
    if not isinstance(number, int) or number == LAST:
        return None
    try:
        return _EPOCH - number * _MICROSECOND
    except OverflowError:
        return None


def place(info: Listed, order: Order) -> tuple[int, str]:
    """Return what sessions are sorted by. No two have the same place."""
    return (0, info.key) if order == "key" else (recent_first(info.last_message_at or info.updated), info.key)


def in_order(infos: Iterable[I], order: Order, after: Listed | None = None, limit: int | None = None) -> list[I]:
    """Return a page of descriptions of sessions.

    :param after: the last one of the page before; only what is listed behind its place is in this page.
    :param limit: how many, at most.
    """
    found = list(infos)
    if after is not None:
        start = place(after, order)
        found = [info for info in found if place(info, order) > start]
    found.sort(key=attrgetter("key"))
    if order == "recent":
        found.sort(key=_recent_first)  # equal ones stay as they are
    return found[:limit]


def _recent_first(info: Timed) -> int:
    time = info.last_message_at or info.updated
    return (
        LAST if time is None else (_EPOCH - time) // _MICROSECOND
    )  # as `recent_first`, without a call for each session


def page(
    keys: Iterable[str],
    describe: Callable[[str], I | None],
    order: Order,
    after: Listed | None = None,
    limit: int | None = None,
) -> list[I]:
    """Return a page of sessions, of which no more are described than it takes.

    :param describe: describes a session; `None`: it is left out.
    """
    if order == "key":
        start = "" if after is None else after.key
        infos = (describe(key) for key in sorted(keys) if after is None or key > start)
        return list(islice((info for info in infos if info is not None), limit))
    return in_order((info for info in map(describe, keys) if info is not None), order, after, limit)
