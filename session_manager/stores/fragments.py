"""A session made of the parts of a damaged one that are whole."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from session_manager.codec.fragments import converted
from session_manager.model.ids import random_id
from session_manager.model.json_value import within_levels
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.times import utc_now
from session_manager.model.view import View

__all__ = ["in_order", "session_of_fields"]

#: What ids of generations are made of.
_GENERATION = re.compile(r"[!#-\[\]-~]{1,160}")


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
