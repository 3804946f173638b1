"""A clock that a test sets, and that stands still otherwise."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

from session_manager.model.times import utc
from session_manager.resource import Resource

__all__ = ["Clock"]

_START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Clock(Resource):
    """A clock for `SessionManager(clock=…)`, which a test moves. Any thread may call it.

    :param start: the time that it shows first: aware.
    :raises ValueError: if that is not an aware datetime.

    >>> clock = Clock()
    >>> clock.advance(1.5).isoformat()
    '2026-01-01T00:00:01.500000+00:00'
    >>> clock() == clock()
    True
    """

    def __init__(self, start: datetime = _START) -> None:
        self._lock = threading.Lock()
        self._now = utc(start, "start")

    def __call__(self) -> datetime:
        """Return the time that it shows: aware, UTC."""
        return self._now

    def advance(self, by: float | timedelta) -> datetime:
        """Let time pass, and return the new time.

        :param by: seconds, or a timedelta; not negative.
        :raises ValueError: if it is negative (`set` puts a clock back).
        """
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise ValueError(f"time does not go back by {-step}: use set()")
        with self._lock:
            self._now += step
            return self._now

    def set(self, time: datetime) -> None:
        """Show another time, even an earlier one, as a corrected system clock does.

        :param time: aware.
        :raises ValueError: if it is not an aware datetime.
        """
        now = utc(time, "time")
        with self._lock:
            self._now = now

    def __repr__(self) -> str:
        return f"<Clock {self._now.isoformat()}>"
