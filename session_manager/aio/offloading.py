"""What is too much for an event loop: values that take more than a millisecond or two to be checked, counted or copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from session_manager.history.tokens import estimate_tokens
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["are_heavy", "is_long"]

#: So many messages take less than a millisecond or two, if they are short.
_MESSAGES = 100
#: How much a value may weigh: 1 for each string, number, list or object in it, and for each so many characters.
_LIMIT, _CHARACTERS = 1000, 256


#: Of so many short messages a context takes less than a millisecond or two.
_LONG = 500


def are_heavy(values: Iterable[object], *, messages: int = _MESSAGES) -> bool:
    """Say whether an event loop must not wait for what is to be done with these messages, or parts of them.

    Looks at no more of them than it takes to know. What is no JSON value is not looked into.

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
    """Say whether an event loop must not wait for a context to be made."""
    if count is not estimate_tokens or (session is not None and len(session.messages) > _LONG):
        return True
    return are_heavy([*(() if session is None else session.messages), *added], messages=_LONG)
