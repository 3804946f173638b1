"""Exact comparison of sessions. ``==`` on messages compares only their objects; here everything counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from session_manager.model.message import Item, Message
from session_manager.model.session import Session

__all__ = ["difference", "message_difference", "value_difference"]

_SESSION = ("key", "generation", "created", "updated", "summary", "start", "end", "refs", "revision", "expires_after")
_MESSAGE = ("created_at", "ref", "position", "turn")
_SHOWN = 200


def difference(found: Session | None, expected: Session | None) -> str:
    """Say in what two sessions, or `None`, differ: ``""`` if they are the same in everything.

    ``True``, ``1`` and ``1.0`` are three values, ``0.0`` and ``-0.0`` two. The order of an object's keys does not count.
    """
    if found is None or expected is None:
        return "" if found is expected else f"{found!r}, not {expected!r}"
    return next(_differences(found, expected), "")


def _differences(found: Session, expected: Session) -> Iterator[str]:
    yield from _in_fields(_SESSION, found, expected)
    if text := value_difference("metadata", dict(found._metadata), dict(expected._metadata)):
        yield text
    if len(found.messages) != len(expected.messages):
        yield f"{len(found.messages)} messages, not {len(expected.messages)}"
    for number, (one, other) in enumerate(zip(found.messages, expected.messages, strict=False)):
        if text := message_difference(one, other):
            yield f"messages[{number}].{text}"


def message_difference(found: Message, expected: Message) -> str:
    """Say in what two messages differ: ``""`` if they are the same in everything."""
    return next(_between_messages(found, expected), "")


def _between_messages(found: Message, expected: Message) -> Iterator[str]:
    yield from _in_fields(_MESSAGE, found, expected)
    if text := value_difference("metadata", dict(found._metadata), dict(expected._metadata)):
        yield text
    if isinstance(found, Item) != isinstance(expected, Item):
        yield f"type: {type(found).__name__}, not {type(expected).__name__}"
    if text := value_difference("to_dict()", found.to_dict(), expected.to_dict()):
        yield text


def _in_fields(fields: tuple[str, ...], found: object, expected: object) -> Iterator[str]:
    for field in fields:
        one, other = repr(getattr(found, field)), repr(getattr(expected, field))
        if one != other:
            yield f"{field}: {_short(one)}, not {_short(other)}"


def value_difference(place: str, found: Any, expected: Any) -> str:
    """Say in what two JSON values differ: ``""`` if they are the same in everything.

    :param place: the name of the values in the result.
    """
    one, other = repr(_in_order(found)), repr(_in_order(expected))
    return "" if one == other else f"{place}: {_short(one)}, not {_short(other)}"


def _in_order(value: Any) -> Any:
    """Return a JSON value whose objects have their keys in order: then its `repr` tells all else apart."""
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    return [_in_order(item) for item in value] if isinstance(value, list) else value


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
