"""The order of sessions in lists: the most recent first, or by key; and pages of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from heapq import heapify, heappop, nlargest
from itertools import islice
from operator import attrgetter
from typing import Literal, Protocol, TypeVar

__all__ = ["LAST", "Listed", "Order", "Timed", "in_order", "page", "place", "recency", "recent_first", "time_at"]

#: ``"recent"``: the session with the most recent message first; without messages its last change counts. Equally recent ones
#: by key. Damaged sessions, whose times are unknown, come last. ``"key"``: by key, in Python's order of texts.
Order = Literal["recent", "key"]

#: The place of a session whose times are unknown: behind all others.
LAST = 2**63 - 1

_KEY = attrgetter("key")
#: Stands for a time that is not known: before all others.
_NEVER = datetime.min.replace(tzinfo=timezone.utc)
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
    if order == "key":
        return sorted((info for info in infos if after is None or info.key > after.key), key=_KEY)[:limit]
    timed = [(info.last_message_at or info.updated or _NEVER, info) for info in infos]
    if after is not None:
        last, start = after.last_message_at or after.updated or _NEVER, place(after, order)
        timed = [one for one in timed if one[0] < last or (one[0] == last and place(one[1], order) > start)]
    if limit is not None and limit < len(timed):
        # Only the sessions of the page are sorted, and those that are as recent as its last one.
        least = nlargest(limit, [time for time, _ in timed])[-1]
        timed = [one for one in timed if one[0] >= least]
    found = sorted((info for _, info in timed), key=_KEY)
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
        infos = map(describe, _ascending([key for key in keys if after is None or key > after.key], limit))
        return list(islice((info for info in infos if info is not None), limit))
    return in_order((info for info in map(describe, keys) if info is not None), order, after, limit)


def _ascending(keys: list[str], limit: int | None) -> Iterator[str]:
    """Iterate over keys in order. The first ones, so many as a page has, are given before the rest is sorted."""
    if limit is not None:
        heapify(keys)
        for _ in range(min(limit, len(keys))):
            yield heappop(keys)
    yield from sorted(keys)
