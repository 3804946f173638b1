"""A clock that a test moves by parts of a time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone


class Clock:
    def __init__(self):
        self.time = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def __call__(self):
        return self.time

    def advance(self, **parts):
        self.time += timedelta(**parts)
