"""The test kit's strategies, and further ones that only these tests need."""

from __future__ import annotations

from typing import Any

from session_manager import Item, Message, Session
from session_manager.testing.strategies import (
    NASTY_FLOATS,
    NASTY_INTS,
    NASTY_TEXTS,
    aware_times,
    json_objects,
    json_values,
    keys,
    message_objects,
    messages,
    nasty_text,
    refs,
    sessions,
    utc_times,
)
from tests.support.canary import CANARY

__all__ = [
    "CANARY",
    "NASTY_FLOATS",
    "NASTY_INTS",
    "NASTY_TEXTS",
    "aware_times",
    "facts",
    "held_text",
    "json_objects",
    "json_values",
    "keys",
    "message_objects",
    "messages",
    "nasty_text",
    "refs",
    "sessions",
    "utc_times",
    "written",
]


def facts(value: Message | Session) -> str:
    """Return all that a message or a session holds; `repr` tells ``True``, ``1``, ``1.0`` and ``-0.0`` apart."""
    if isinstance(value, Message):
        return repr(
            (type(value), value.to_dict(), value.created_at, value.metadata, value.ref, value.position, value.turn)
        )
    state = (value.key, value.generation, value.created, value.updated, value.summary, value.metadata)
    numbers = (value.start, value.end, value.refs, value.revision, value.expires_after)
    return "\n".join([repr(state), repr(numbers), *map(facts, value.messages)])


def written(message: Message) -> dict[str, Any]:
    """Return a message's object as files have it."""
    value = message.to_dict()
    return {"type": "session_manager.item", "item": value} if isinstance(message, Item) else value


def held_text(error: BaseException) -> str:
    """Return all the text that an error holds, with every error that it was raised from or beside."""
    texts: list[object] = []
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        if (one := left.pop()) is not None and id(one) not in seen:
            seen.add(id(one))
            texts += [one, repr(one), one.args, vars(one), getattr(one, "object", None), getattr(one, "doc", None)]
            left += [one.__cause__, one.__context__]
    return "\n".join(map(str, texts))
