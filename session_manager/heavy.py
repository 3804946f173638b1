"""What is too much for an event loop: values that take more than a millisecond or two to be checked, counted or copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from session_manager.model import Message

__all__ = ["are_heavy"]

#: So many messages take less than a millisecond or two, if they are short.
_MESSAGES = 100
#: How much a value may weigh: 1 for each string, number, list or object in it, and for each so many characters.
_LIMIT, _CHARACTERS = 1000, 256


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
