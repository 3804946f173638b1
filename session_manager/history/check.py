"""What a provider refuses of a kind, and its repair: the two halves of one check."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from session_manager.frozen import Frozen
from session_manager.history.rules import Rules
from session_manager.model.message import Message

__all__ = ["Check", "Found"]

#: Flaws: the index of a message, and the reason in words; never text of a message.
Found = list[tuple[int, str]]


class Check(Frozen, frozen=True):
    """A kind of flaw. Both functions take a history and rules, raise nothing, and change no message."""

    find: Callable[[Sequence[Message], Rules], Found]
    #: Returns the history without these flaws; other messages are the same objects.
    mend: Callable[[list[Message], Rules], list[Message]]
