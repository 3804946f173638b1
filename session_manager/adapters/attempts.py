"""Attempts of a call that meets other writers: a conflict is tried again, and the last one is raised.

A conflict that no attempt gets over, such as one of an unsaved change of the program's own, must come out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from session_manager.errors import ConflictError
from session_manager.manager.pauses import ATTEMPTS

__all__ = ["ATTEMPTS", "retried"]


@contextlib.contextmanager
def retried(attempt: int) -> Iterator[None]:
    """Have a conflict tried again, unless that was the last attempt.

    :param attempt: its number, from 0 to `ATTEMPTS` - 1.
    """
    try:
        yield
    except ConflictError:
        if attempt == ATTEMPTS - 1:
            raise
