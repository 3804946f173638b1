"""Times: aware, and in UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from session_manager.errors import InvalidMessageError, raise_alone

__all__ = ["Clock", "utc", "utc_now"]

#: Gives the time: any callable that returns an aware `datetime`.
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time of the system's clock, aware, in UTC."""
    return datetime.now(timezone.utc)


def utc(value: object, path: str) -> datetime:
    """Return an aware datetime in UTC.

    :param path: what it is called in an error.
    :raises InvalidMessageError: if it is not a `datetime`, is naive, or is out of range in UTC.
    """
    if not isinstance(value, datetime):
        raise InvalidMessageError(path, f"must be a datetime, not {type(value).__name__}")
    if value.tzinfo is timezone.utc and type(value) is datetime:
        return value
    if value.utcoffset() is None:
        raise InvalidMessageError(path, "a naive datetime: give it a timezone")
    try:
        moved = value.astimezone(timezone.utc)
    except OverflowError:
        raise_alone(InvalidMessageError(path, "out of range in UTC"))
    return datetime.combine(moved.date(), moved.time(), timezone.utc)
