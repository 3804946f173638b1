"""Messages and parts that say nothing, and cache marks that are too many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import is_
from typing import Any

from session_manager.history.check import Check, Found
from session_manager.history.rules import Empty, Rules
from session_manager.history.shapes import CHAT, UNKNOWN, Shape, shape_of
from session_manager.history.shapes.items import is_item
from session_manager.model.message import Message

__all__ = ["CACHE_MARKS", "CONTENTS", "ITEMS"]

#: Fields that say nothing by themselves. A message with another field is not empty, whatever the field means.
_SILENT = frozenset(
    (
        *("role", "name", "id", "type", "status", "phase", "model"),
        *("invalid_tool_calls", "additional_kwargs", "response_metadata", "usage_metadata"),
        *("meta", "metadata", "usage", "stop_reason", "stop_sequence", "finish_reason", "created_at", "timestamp"),
    )
)


def _find(messages: Sequence[Message], rules: Rules) -> Found:
    found = []
    for index, message in enumerate(messages):
        if message._text and not message._text.isspace():
            continue
        value = message._object
        content = value.get("content")
        if type(content) is str and content and not content.isspace() and "tool_calls" not in value:
            continue
        shape = shape_of(message)
        its = rules.of(shape)
        if _says_nothing(value, shape, its):
            if _becomes(value, shape, its, is_last=index == len(messages) - 1) is not Empty.ALLOW:
                found.append((index, "a message that says nothing"))
        elif _lean(value, shape, its) is not value:
            found.append((index, "an empty text, or an empty list of tool calls, beside other parts"))
    return found


def _mend(messages: list[Message], rules: Rules) -> list[Message]:
    flawed = {index for index, _ in _find(messages, rules)}
    return [
        kept
        for index, message in enumerate(messages)
        if (kept := _mended(message, rules) if index in flawed else message) is not None
    ]


def _mended(message: Message, rules: Rules) -> Message | None:
    value, shape = message._object, shape_of(message)
    its = rules.of(shape)
    if not _says_nothing(value, shape, its):
        return message._with_object(_lean(value, shape, its))
    if _becomes(value, shape, its, is_last=False) is Empty.DROP:
        return None
    if isinstance(shape.parts(value), list):
        # An empty list tells nothing of its shape.
        form = its.shape if its.shape is not None and shape is CHAT else shape
        return message._with_object(shape.with_content(value, [form.text_part(its.placeholder)]))
    return message._with_object(shape.with_content(value, its.placeholder))


def _becomes(value: dict[str, Any], shape: Shape, rules: Rules, *, is_last: bool) -> Empty:
    role = shape.role(value)
    if role == "user":
        return rules.empty_user
    if role != "assistant" or (is_last and rules.may_end_empty and shape.content(value) in ("", [])):
        return Empty.ALLOW
    return rules.empty_assistant


def _says_nothing(value: dict[str, Any], shape: Shape, rules: Rules) -> bool:
    if shape is UNKNOWN or any(
        given and field not in _SILENT and field != shape.field for field, given in value.items()
    ):
        return False
    parts = shape.parts(value)
    if parts is None:
        content = shape.content(value)
        if content is not None and not (isinstance(content, str) and _is_blank(content, rules)):
            return False
    elif not all(shape.is_text(part) and _is_blank(part.get("text") or "", rules) for part in parts):
        return False
    return not shape.calls(value) and not shape.results(value)


def _lean(value: dict[str, Any], shape: Shape, rules: Rules) -> dict[str, Any]:
    """Return a message without what is empty in it beside other parts; the same object if there is nothing."""
    if rules.drop_empty_calls and shape is CHAT and value.get("tool_calls") == []:
        value = {field: given for field, given in value.items() if field != "tool_calls"}
    drops = dict(zip(("assistant", "user"), rules.drop_empty_parts, strict=True)).get(shape.role(value) or "", False)
    parts = shape.parts(value)
    if not drops or not parts or shape.is_signed(value):
        return value
    left = _lean_parts(parts, shape, rules)
    return value if left is parts or not left else shape.with_content(value, left)


def _lean_parts(parts: Sequence[Any], shape: Shape, rules: Rules) -> Sequence[Any]:
    """Return parts without empty texts, in results as well; the same object if there are none."""
    texts = [part.get("text") or "" if shape.is_text(part) else None for part in parts]
    if rules.blank_beside_words and any(text and not text.isspace() for text in texts):
        is_kept = [text is None or bool(text) for text in texts]
    else:
        is_kept = [text is None or not _is_blank(text, rules) for text in texts]
    left = [_lean_result(part, shape, rules) for part, kept in zip(parts, is_kept, strict=True) if kept]
    return parts if len(left) == len(parts) and all(map(is_, left, parts)) else left


def _lean_result(part: Any, shape: Shape, rules: Rules) -> Any:
    inner = shape.result_parts(part)
    left = _lean_parts(inner, shape, rules) if inner else inner
    return part if left is inner or left is None else shape.with_result_parts(part, list(left))


def _is_blank(text: str, rules: Rules) -> bool:
    return not (text.strip() if rules.blank_is_empty else text)


def _find_items(messages: Sequence[Message], _: Rules) -> Found:
    return [(index, "an object that is no message") for index, one in enumerate(messages) if is_item(one._object)]


def _mend_items(messages: list[Message], _: Rules) -> list[Message]:
    return [message for message in messages if not is_item(message._object)]


#: Messages for a model: a session may hold other objects (`session_manager.Item`), which are never sent.
ITEMS = Check(_find_items, _mend_items)
#: Messages that say something.
CONTENTS = Check(_find, _mend)


def _find_marks(messages: Sequence[Message], rules: Rules) -> Found:
    if rules.max_cache_marks is None:
        return []
    counts = [(index, _marks(message)) for index, message in enumerate(messages)]
    surplus = sum(count for _, count in counts) - rules.max_cache_marks
    found = []
    for index, count in counts:
        if surplus > 0 and count:
            found.append((index, "more cache marks than the provider takes"))
            surplus -= count
    return found


def _marks(message: Message) -> int:
    return 0 if type(message._object.get("content")) is str else sum(1 for _ in _marked(message))


def _marked(message: Message) -> Iterator[dict[str, Any]]:
    """Yield the parts of a message that have a mark, also those in results."""
    parts = message._object.get("content")
    left = parts[::-1] if isinstance(parts, list) else []
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if "cache_control" in part or "cachePoint" in part:
                yield part
            if isinstance(inner := part.get("content"), list):
                left.extend(reversed(inner))


def _mend_marks(messages: list[Message], rules: Rules) -> list[Message]:
    assert rules.max_cache_marks is not None
    surplus = sum(map(_marks, messages)) - rules.max_cache_marks
    for index, _ in _find_marks(messages, rules):
        message = messages[index]
        gone = {id(part) for part, _ in zip(_marked(message), range(surplus), strict=False)}
        surplus -= len(gone)
        shape = shape_of(message)
        parts = _unmarked(shape.parts(message._object) or (), gone)
        messages[index] = message._with_object(shape.with_content(message._object, parts))
    return messages


def _unmarked(parts: Sequence[Any], gone: set[int]) -> list[Any]:
    return [_without_mark(part, gone) for part in parts if id(part) not in gone or "cachePoint" not in part]


def _without_mark(part: Any, gone: set[int]) -> Any:
    if id(part) in gone:
        left = {field: value for field, value in part.items() if field != "cache_control"}
    elif isinstance(part, dict):
        left = part
    else:
        return part
    inner = left.get("content")
    return {**left, "content": _unmarked(inner, gone)} if isinstance(inner, list) else left


#: Not more cache marks than the provider takes: the newest stay.
CACHE_MARKS = Check(_find_marks, _mend_marks)
