"""Times of other programs: texts with nanoseconds, naive ones, and numbers of seconds or milliseconds since 1970."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from session_manager.errors import InvalidDataError

__all__ = ["milliseconds", "seconds", "time_of"]

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,9})\d*)?\s?(?:([Zz])|([+-])(\d\d):?(\d\d)(?::\d\d)?)?\Z",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: The day of Go's zero time, which means that a time is unknown: in UTC or east of it, and west of it.
_ZERO_DAYS = ("0001-01-01", "0000-12-31")


def time_of(value: Any, field: str, zone: tzinfo | None = None) -> datetime | None:
    """Return the time that a text tells, aware, in UTC, cut to microseconds; `None` if it is null, empty or Go's zero time.

    :param value: ISO 8601 or RFC 3339, with ``T`` or a space, any number of digits after the second, with or without an offset.
    :param field: what it is called in an error.
    :param zone: the zone of a time without an offset; `None`: this machine's.
    :raises InvalidDataError: if it is no time, or out of range in UTC.
    """
    if value is None or value == "":
        return None
    match = _TIME.match(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidDataError(field, "is not a time")
    day, clock, second, fraction, utc, sign, hours, minutes = match.groups()
    if day in _ZERO_DAYS:
        return None
    text = f"{day}T{clock}{second or ':00'}.{(fraction or '0')[:6].ljust(6, '0')}"
    try:
        time = datetime.fromisoformat(text)
        if utc or sign:
            offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
            time = time.replace(tzinfo=timezone.utc)
            return time + offset if sign == "-" else time - offset
        return (time.astimezone() if zone is None else time.replace(tzinfo=zone)).astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        failure = InvalidDataError(field, "is not a time")
    raise failure


def seconds(value: Any, field: str) -> datetime | None:
    """Return the time of a number of seconds since 1970, aware, in UTC; `None` if it is null or zero.

    :param field: what it is called in an error.
    :raises InvalidDataError: if it is no finite number, or out of range.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidDataError(field, "is not a number of seconds")
    try:
        return _EPOCH + timedelta(seconds=value) if value else None
    except OverflowError:
        failure = InvalidDataError(field, "is out of range")
    raise failure


def milliseconds(value: Any, field: str) -> datetime | None:
    """Return the time of a number of milliseconds since 1970, as `seconds` does."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        try:
            return _EPOCH + timedelta(milliseconds=value) if value else None
        except OverflowError:
            failure = InvalidDataError(field, "is out of range")
        raise failure
    return seconds(value, field)
