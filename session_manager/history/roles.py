"""Who may speak when: system messages, the first and the last message, neighbours of one role, reasoning that led nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from session_manager.history.check import Check, Found
from session_manager.history.pairing import is_plain, is_users, lone_reasoning, pair, starts, turn_starts
from session_manager.history.rules import Rules, SystemPlace
from session_manager.history.shapes import (
    AI_SDK,
    BEDROCK,
    BLOCKS,
    CHAT,
    CUSTOM,
    FUNCTION,
    ITEMS,
    UNKNOWN,
    Shape,
    calls,
    role_of,
    shape_of,
    texts_of,
)
from session_manager.history.shapes.items import is_compaction, is_of_the_model, is_reasoning
from session_manager.model.message import Message

__all__ = ["ENDS", "NEIGHBOURS", "REASONING", "STARTS", "SYSTEM", "head", "joined", "merged"]


def head(messages: Sequence[Message]) -> int:
    """Return how many system and developer messages lead a history: they belong to no turn."""
    count = 0
    while count < len(messages) and _is_system(messages[count]):
        count += 1
    return count


# System messages


def _find_system(messages: Sequence[Message], rules: Rules) -> Found:
    if rules.system is SystemPlace.ANYWHERE:
        return []
    apart = rules.system is SystemPlace.APART
    return [
        (index, "a system message among the others")
        for index, message in enumerate(messages)
        if _is_system(message) and (apart or index > 0 or message.role not in (None, "system"))
    ]


def _is_system(message: Message) -> bool:
    return not is_plain(message) and role_of(message) == "system"


def _mend_system(messages: list[Message], rules: Rules) -> list[Message]:
    """Leave leading system messages out if they go apart; join all of them in the first one otherwise."""
    first = head(messages)
    if rules.system is SystemPlace.APART:
        # The conversation goes on behind a later one: what it says is kept as the user's.
        return [_as(message, "user") if _is_system(message) else message for message in messages[first:]]
    system = [_as(message, "system") for message in messages if _is_system(message)]
    return [*_one(merged(system)), *(message for message in messages if not _is_system(message))]


def _one(system: list[Message]) -> list[Message]:
    """Return system messages of several shapes as one, in the shape of the first: the others are texts in it."""
    shape = shape_of(system[0])
    return merged([system[0], *(one._with_object(shape.made("system", _text(one))) for one in system[1:])])


def _text(message: Message) -> str:
    return "\n\n".join(part for part in texts_of(message) if isinstance(part, str))


def _as(message: Message, role: str) -> Message:
    if message.role == role or message._object.get("type") == role:
        return message
    return message._with_object(shape_of(message).with_role(message._object, role))


# The first and the last message


def _find_start(messages: Sequence[Message], rules: Rules) -> Found:
    first = head(messages)
    if not rules.user_first or first == len(messages) or _is_foreign(messages[first]):
        return []
    if is_compaction(messages[first]._object):
        return []
    if starts(pair(messages, rules))[:1] == [first]:
        return []
    return [(first, "the history does not start with a user message")]


def _is_foreign(message: Message) -> bool:
    """Say whether nothing is known of a message, which is then passed on."""
    return shape_of(message) is UNKNOWN or role_of(message) not in ("system", "user", "assistant", "tool", None)


def _mend_start(messages: list[Message], rules: Rules) -> list[Message]:
    first = head(messages)
    asked = (at for at in range(first, len(messages)) if is_users(messages[at]))
    start = next((start for start in turn_starts(messages, rules) if start >= first), None)
    if start is None:  # A user wrote while a tool was running.
        start = next(asked, len(messages))
    start = next((at for at in range(first, start) if is_compaction(messages[at]._object)), start)
    return [message for at, message in enumerate(messages) if not first <= at < start or _is_foreign(message)]


def _find_end(messages: Sequence[Message], rules: Rules) -> Found:
    if rules.may_end_with_assistant or not messages:
        return []
    last = messages[-1]
    if role_of(last) != "assistant" or calls(last):
        return []
    return [(len(messages) - 1, "the history ends with the assistant's words")]


def _mend_end(messages: list[Message], rules: Rules) -> list[Message]:
    while _find_end(messages, rules):
        messages.pop()
    return messages


# Neighbours of one role


def _find_neighbours(messages: Sequence[Message], rules: Rules) -> Found:
    if not (rules.alternate or rules.calls_follow_user):
        return []
    return [
        (index, "a second message of one role in a row")
        for index in range(1, len(messages))
        if _must_join(messages[index - 1], messages[index], rules)
    ]


def _must_join(one: Message, other: Message, rules: Rules, *, calls_later: bool = False) -> bool:
    """Say whether two neighbours must be one message.

    :param calls_later: whether the second one will get calls, from a message behind it.
    """
    role = role_of(one)
    if role not in ("user", "assistant") or role != role_of(other):
        return False
    if not rules.alternate and (role == "user" or not (calls_later or calls(other))):
        return False
    return _common(one, other) is not None


def _mend_neighbours(messages: list[Message], rules: Rules) -> list[Message]:
    """Join each row of neighbours at once. What is behind a message decides whether it is joined, so the last one is first."""
    rows: list[list[Message]] = []
    for message in reversed(messages):
        if rows and _must_join(message, rows[-1][-1], rules, calls_later=len(rows[-1]) > 1):
            rows[-1].append(message)
        else:
            rows.append([message])
    return [message for row in reversed(rows) for message in merged(row[::-1])]


def merged(messages: list[Message]) -> list[Message]:
    """Return messages with neighbours joined, where their shapes have a common form.

    Each pass joins pairs, so that the text of many messages is not copied for each of them.
    """
    while True:
        kept: list[Message] = []
        is_single = False
        for message in messages:
            both = joined(kept[-1], message) if is_single else None
            kept[len(kept) - (both is not None) :] = [message if both is None else both]
            is_single = both is None
        if len(kept) == len(messages):
            return kept
        messages = kept


def joined(one: Message, other: Message) -> Message | None:
    """Return two messages as one, which says what both say; `None` if their shapes have no common form.

    The parts of both stay as they are. Two texts become one, with an empty line between them.
    """
    first, second = one._object, other._object
    shape = _common(one, other)
    if shape is None:
        return None
    texts = shape.content(first), shape.content(second)
    if all(text is None or isinstance(text, str) for text in texts):
        content: Any = "\n\n".join(filter(None, texts)) or texts[0]
    else:
        content = [*_parts(texts[0], shape), *_parts(texts[1], shape)]
    made = shape.with_content({**second, **first}, content)
    return one._with_object(shape.with_calls(made, first, second))


def _common(message: Message, behind: Message) -> Shape | None:
    """Return the shape that two messages have together. A text of OpenAI chat fits into the parts of others."""
    first, second = message._object, behind._object
    one, other = shape_of(message), shape_of(behind)
    if one is other:
        return None if one in (UNKNOWN, FUNCTION, ITEMS, CUSTOM) else one
    for plain, its, value in ((one, other, first), (other, one, second)):
        if plain is CHAT and its in (BLOCKS, BEDROCK, AI_SDK) and not plain.calls(value):
            return its if its is not BEDROCK or not isinstance(value.get("content"), list) else None
    return None


def _parts(content: Any, shape: Shape) -> list[Any]:
    if isinstance(content, str):
        return [shape.text_part(content)] if content else []
    return list(content) if isinstance(content, list) else []


# Reasoning


def _find_reasoning(messages: Sequence[Message], rules: Rules) -> Found:
    if not rules.reasoning_leads:
        return []
    return [(index, "a reasoning item without the item that it led to") for index in lone_reasoning(messages)]


def _mend_reasoning(messages: list[Message], _: Rules) -> list[Message]:
    kept: list[Message] = []
    for message in reversed(messages):
        if not is_reasoning(message._object) or (kept and is_of_the_model(kept[-1]._object)):
            kept.append(message)
    return kept[::-1]


SYSTEM = Check(_find_system, _mend_system)
STARTS = Check(_find_start, _mend_start)
ENDS = Check(_find_end, _mend_end)
NEIGHBOURS = Check(_find_neighbours, _mend_neighbours)
REASONING = Check(_find_reasoning, _mend_reasoning)
