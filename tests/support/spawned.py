"""What processes do that `multiprocessing` starts: they import this module, and no test."""

from __future__ import annotations

from session_manager import SessionManager


def take_turns(url, who, count):
    """Take turns of one session."""
    with SessionManager(url) as m:
        for number in range(count):
            with m.turn("shared", f"{who}-{number}") as turn:
                turn.add_message("user", f"{who} {number}")
