"""The snapshots of picoclaw, and how they become sessions.

Each is one JSON document, written by Go::

    {"key": "telegram:42", "messages": [{"role": "user", "content": "hi"}], "summary": "",
     "created": "2026-01-02T03:04:05.123456789+01:00", "updated": "…"}

A ``*.json`` without our suffix that is not ``*.meta.json`` counts if it is an object with ``key`` and ``messages``, or does not
parse. Times are cut to microseconds. The zero time of Go, ``0001-01-01T00:00:00Z`` (at any offset), means unknown: the other
of the two times is taken, else the file's. Messages have no times there; they get the time of the session's last update. The
revision is 1, and the generation is a digest of the bytes. So a changed file is another session.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from session_manager.codec.json import DecodeError, decode_json
from session_manager.errors import InvalidMessageError, raise_alone
from session_manager.model.json_value import checked_text
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.view import View
from session_manager.stores.files.foreign import checked_key

__all__ = ["decode", "generation_of", "stem_of"]

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))\Z", re.ASCII)


#: The zero time's day, in UTC or east of it, and west of it.
_ZERO_DAYS = ("0001-01-01", "0000-12-31")


def stem_of(key: str) -> str:
    """Return the stem of the file into which picoclaw would have put a key."""
    return key.replace(":", "_").replace("/", "_").replace("\\", "_")


def generation_of(data: bytes) -> str:
    """Return the generation of the session in a file: a digest of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def decode(data: bytes, modified: datetime) -> Session:
    """Return the session of a file.

    :param data: the whole file.
    :param modified: when the file was last written, aware. It stands in for times that the file does not tell.
    :raises DecodeError: if it is not such a file.
    """
    value = decode_json(data)
    if not isinstance(value, dict) or "key" not in value or "messages" not in value:
        raise DecodeError(0, "not a session of picoclaw's")
    created, updated = _time(value, "created"), _time(value, "updated")
    known = [time for time in (created, updated) if time is not None] or [modified]
    created, updated = known[0], known[-1]
    objects = [] if value["messages"] is None else value["messages"]
    try:
        if not isinstance(objects, list):
            raise InvalidMessageError("messages", "not a list")
        messages = [Message.from_dict(one, created_at=updated) for one in objects]
        summary = checked_text(value.get("summary") or "", "summary")
    except InvalidMessageError as error:
        raise_alone(DecodeError(0, str(error)))
    return Session(
        key=checked_key(value),
        generation=generation_of(data),
        created=created,
        updated=updated,
        messages=View([message._placed(position, None) for position, message in enumerate(messages)]),
        summary=summary,
        end=len(messages),
        revision=1,
    )


def _time(value: dict[str, Any], field: str) -> datetime | None:
    """Return a time of Go's; `None` if it is unknown."""
    text = value.get(field)
    if text is None:
        return None
    match = _TIME.match(text) if isinstance(text, str) else None
    if match is not None:
        if match.group(1) in _ZERO_DAYS:
            return None
        time = _go_time(match)
        if time is not None:
            return time
    raise DecodeError(0, f"{field} is not a time")


def _go_time(match: re.Match[str]) -> datetime | None:
    day, clock, fraction, sign, hours, minutes = match.groups()
    try:
        time = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6].ljust(6, '0')}+00:00")
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return (time + offset if sign == "-" else time - offset).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
