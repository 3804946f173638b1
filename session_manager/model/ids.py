"""Random ids: of the generations of sessions, and of writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from session_manager.errors import InvalidMessageError

__all__ = ["Ids", "began_by_clear", "checked", "cleared", "random_id", "renewed"]

#: The characters that every format and database holds unescaped: printable ASCII, but for the space, ``"`` and the backslash.
_FITTING = re.compile(r"[!#-\[\]-~]{1,128}\Z")
_RULE = 'must be 1 to 128 printable ASCII characters without space, " and backslash'
_CLEARED = "-cleared"


def random_id() -> str:
    """Return 128 random bits in hex."""
    return os.urandom(16).hex()


def cleared(new_id: str) -> str:
    """Return the generation that a session gets when it is cleared.

    Its end tells another process so, which has not seen the session before.
    """
    return new_id + _CLEARED


def began_by_clear(generation: str) -> bool:
    """Say whether a session got its generation when it was cleared, and not when it was created."""
    return generation.endswith(_CLEARED)


def renewed(generation: str) -> str:
    """Return another generation for a session that is restored: it is no later state of any that a manager may have in RAM."""
    return cleared(random_id()) if began_by_clear(generation) else random_id()


def checked(make: Callable[[], str]) -> Callable[[], str]:
    """Return a function that gives new ids, each of them checked unless it is our own.

    :param make: as for `Ids`.
    """
    return make if make is random_id else Ids(make)


class Ids:
    """Ids of a function that the user gave, each of them checked.

    A file with an id that does not fit could not be read again, and two writes of one id could not be told apart.

    :param make: gives a new id each time; any thread may call it.
    """

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._last: str | None = None

    def __call__(self) -> str:
        """Return a new id.

        :raises InvalidMessageError: if it is no str, does not fit, or is the last one again.
        """
        new: object = self._make()
        if type(new) is not str:
            raise InvalidMessageError("random_id()", f"must be a str, not {type(new).__name__}")
        if _FITTING.match(new) is None:
            raise InvalidMessageError("random_id()", _RULE)
        if new == self._last:
            raise InvalidMessageError("random_id()", "gave the same id twice in a row")
        self._last = new
        return new
