"""What processes do that `multiprocessing` starts: they import this module, and no test."""

from __future__ import annotations

import contextlib

from session_manager import SessionExistsError, SessionManager, SessionNotFoundError


def take_turns(url, who, count):
    """Take turns of one session."""
    with SessionManager(url) as m:
        for number in range(count):
            with m.turn("shared", f"{who}-{number}") as turn:
                turn.add_message("user", f"{who} {number}")


def rename_often(url, who, count):
    """Rename one session, there and back, and go on with it."""
    with SessionManager(url) as m:
        for _ in range(count):
            for one, other in (("a", "b"), ("b", "a")):
                with contextlib.suppress(SessionExistsError, SessionNotFoundError):
                    m.rename(one, other)
                    m.add_message(other, "user", f"{who}")
                    m.save(other)
