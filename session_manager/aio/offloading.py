"""Heavy work, which must not run in an event loop: checks, counts and copies that take more than a millisecond or two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from session_manager.history.tokens import estimate_tokens
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["are_heavy", "is_long"]

#: How many short messages take less than a millisecond or two.
_MESSAGES = 100
#: The largest weight of a value: 1 for each string, number, list or object in it, and 1 for each so many characters.
_LIMIT, _CHARACTERS = 1000, 256


#: How many short messages a context may have to be made in less than a millisecond or two.
_LONG = 500


def are_heavy(values: Iterable[object], *, messages: int = _MESSAGES) -> bool:
    """Say whether work on these messages, or parts of them, is too heavy for an event loop.

    Looks at no more of them than it must, and not into values that are no JSON.

    :param messages: how many there may be, at most.
    """
    left = list(values)
    if len(left) > messages:
        return True
    weight = 0
    while left and weight < _LIMIT:
        value = left.pop()
        weight += 1
        if isinstance(value, str):
            weight += len(value) // _CHARACTERS
        elif isinstance(value, Message):
            left.append(value._object)
        elif isinstance(value, Mapping):
            weight += len(value)
            left.extend(value.values() if weight < _LIMIT else ())
        elif isinstance(value, (list, tuple)):
            weight += len(value)
            left.extend(value if weight < _LIMIT else ())
    return weight >= _LIMIT


def is_long(session: Session | None, added: Sequence[Message], count: Callable[[Message], int]) -> bool:
    """Say whether making a context is too heavy for an event loop."""
    if count is not estimate_tokens or (session is not None and len(session.messages) > _LONG):
        return True
    return are_heavy([*(() if session is None else session.messages), *added], messages=_LONG)
