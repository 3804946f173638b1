"""What a message says: its texts, names, arguments, results, images and files, in one walk over its JSON object.

The count of tokens and the search both go by this walk. It knows the fields that hold none of these
(`session_manager.history.fields`), and reads everything else, so that a shape which it does not know is read whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from session_manager.history.attachments import (
    Attachment,
    attached,
    charge_of,
    decoded,
    has_base64,
    is_attachment,
    is_encoded,
)
from session_manager.history.fields import Holds, holds_otherwise, is_block, kind_of, known
from session_manager.model.message import ITEM_TYPE
from session_manager.model.packed import is_packed_bytes

__all__ = ["Attachment", "Data", "Name", "Part", "plain_text", "texts"]

# Looked up for each field of each message: an enumeration's members cost more.
_TEXT, _LABEL = Holds.TEXT, Holds.LABEL


class Name(msgspec.Struct, frozen=True):
    """The name of a tool or a speaker, or the definition of a tool: a model reads it, a search does not."""

    text: str


class Data(msgspec.Struct, frozen=True):
    """Arguments, or a result, given as a JSON value, or as the text of one."""

    value: Any

    @property
    def text(self) -> str:
        """The text that a model reads."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)

    def strings(self) -> Iterator[str]:
        """Yield names of fields, texts and numbers, in order; of a text that is no JSON, the text. Packed bytes are left out.

        >>> list(Data('{"city": "Lisbon", "nights": 3}').strings())
        ['city', 'Lisbon', 'nights', '3']
        """
        left = [_parsed(self.value) if isinstance(self.value, str) else self.value]
        while left:
            value = left.pop()
            if isinstance(value, str):
                yield value
            elif isinstance(value, dict):
                if is_packed_bytes(value):
                    continue
                left += [one for item in reversed(value.items()) for one in reversed(item)]
            elif isinstance(value, list):
                left += reversed(value)
            elif value is not None and not isinstance(value, bool):
                yield str(value)


#: What a message says is texts, and these.
Part: TypeAlias = str | Name | Data | Attachment


def texts(value: Mapping[str, Any]) -> Iterator[Part]:
    """Yield what a message says, in order.

    Left out are labels (roles, types, ids, states), signatures, encrypted text, and what no provider gives to a model. A call
    that stands there twice, or reasoning that does, is yielded once. Raises nothing, whatever is in the message.

    :param value: the JSON object of a message.

    >>> list(texts({"role": "tool", "tool_call_id": "call_1", "content": "12:00"}))
    ['12:00']
    >>> list(texts({"type": "function_call", "call_id": "call_1", "name": "time", "arguments": '{"zone": "UTC"}'}))
    [Name(text='time'), Data(value='{"zone": "UTC"}')]
    """
    if value.get("type") == ITEM_TYPE and isinstance(value.get("item"), dict):
        yield Data(value["item"])
        return
    calls: set[tuple[str, bool]] = set()
    left: list[Any] = [dict(value)]
    while left:
        one = left.pop()
        if isinstance(one, (str, Name, Data, Attachment)):
            yield one
        elif isinstance(one, dict):
            if _CALLING.isdisjoint(one) or not _is_again(one, calls):
                left += reversed(_said(one))
        elif isinstance(one, list):
            left += reversed(one)


_PLAIN: Final = frozenset(("role", "content", "tool_call_id"))


def plain_text(value: Mapping[str, Any]) -> str | None:
    """Return the text of a message that says nothing else, as most do; `None` if it may. It is what `texts` yields.

    >>> plain_text({"role": "user", "content": "Hi!"}), plain_text({"role": "user", "content": "Hi!", "name": "anna"})
    ('Hi!', None)
    """
    content = value.get("content")
    return content if type(content) is str and value.keys() <= _PLAIN else None


#: Fields that a call has.
_CALLING: Final = frozenset(("function", "arguments", "input", "args", "tool_kwargs"))
_IDS: Final = ("id", "toolCallId", "tool_call_id", "call_id")


def _is_again(value: Mapping[str, Any], calls: set[tuple[str, bool]]) -> bool:
    """Say whether a call was read already: LangChain's messages have each in up to three fields."""
    named = next((given for field in _IDS if isinstance(given := value.get(field), str) and given), None)
    if named is None:
        return False
    call = named, "output" in value or "result" in value
    if call in calls:
        return True
    calls.add(call)
    return False


def _said(value: Mapping[str, Any]) -> list[Any]:
    """Return what the fields of an object say: parts, and objects and lists that hold more."""
    kind = kind_of(value)
    if is_attachment(kind):
        return attached(value)
    said: list[Any] = []
    table = known(kind)
    for field, one in value.items():
        if not one or not isinstance(one, (str, dict, list)):
            continue
        what = table.get(field) or holds_otherwise(field)
        if what is _TEXT:
            if not isinstance(one, str):
                said.append(Data(one) if field == "content" and _is_own(one) else one)
            elif not (field in _REPEATED and _is_repeated(value, field, one)):
                said.append(_text(value, field, one))
        elif what is not _LABEL or isinstance(one, dict):
            said += _READERS[what](value, field, one)
    return said


def _is_own(content: Any) -> bool:
    """Say whether the content of a message, mostly of a tool's, is an object of the user's own, and no provider's."""
    return isinstance(content, dict) and _PROVIDERS.isdisjoint(content)


def _text(value: Mapping[str, Any], field: str, one: str) -> str | Attachment:
    if field not in _WRITTEN and is_encoded(one, as_base64=has_base64(value, field)):
        return decoded(one, value, charge_of(value))
    return one


def _read_object(_: Mapping[str, Any], __: str, one: Any) -> list[Any]:
    return [one]


def _read_name(_: Mapping[str, Any], __: str, one: Any) -> list[Any]:
    return [Name(one)] if isinstance(one, str) else [one]


def _read_schema(_: Mapping[str, Any], __: str, one: Any) -> list[Any]:
    return [Name(Data(one).text)]


def _read_given(_: Mapping[str, Any], __: str, one: Any) -> list[Any]:
    if isinstance(one, str) or is_block(one):
        return [one]
    if isinstance(one, list) and any(is_block(each) for each in one):
        return [each if isinstance(each, str) or is_block(each) else Data(each) for each in one]
    return [Data(one)]


def _read_arguments(_: Mapping[str, Any], __: str, one: Any) -> list[Any]:
    return [Data(one)]


def _read_encoded(value: Mapping[str, Any], field: str, one: Any) -> list[Any]:
    if isinstance(one, dict):
        return attached(one, field)
    many = one if isinstance(one, list) else [one]
    return [
        decoded(each, value, charge_of(value)) if isinstance(each, str) and is_encoded(each, as_base64=True) else each
        for each in many
    ]


def _read_attached(_: Mapping[str, Any], field: str, one: Any) -> list[Any]:
    return attached(one, field) if isinstance(one, dict) else [one]


_READERS: Final[dict[Holds, Callable[[Mapping[str, Any], str, Any], list[Any]]]] = {
    Holds.LABEL: _read_object,
    Holds.ASIDE: lambda *_: [],
    Holds.NAME: _read_name,
    Holds.SCHEMA: _read_schema,
    Holds.GIVEN: _read_given,
    Holds.ARGUMENTS: _read_arguments,
    Holds.ENCODED: _read_encoded,
    Holds.ATTACHED: _read_attached,
}

#: Fields of every provider's objects that are a content.
_PROVIDERS: Final = frozenset(("type", "role", "parts"))
#: Fields that people and models write: a ``data:`` URL there is text.
_WRITTEN: Final = frozenset(("content", "text", "thinking", "reasoning", "reasoning_content", "refusal"))
#: Fields whose text others beside them may repeat: OpenRouter's and LiteLLM's reasoning, the AI SDK's parts.
_REPEATED: Final = {
    "content": ("parts",),
    "reasoning": ("reasoning_content", "reasoning_details", "parts"),
    "reasoning_content": ("reasoning_details", "thinking_blocks"),
}
_TEXTS: Final = ("text",)
_REASONING: Final = ("reasoning", "reasoning.text", "reasoning.summary", "thinking")


def _is_repeated(value: Mapping[str, Any], field: str, text: str) -> bool:
    for other in _REPEATED[field]:
        given = value.get(other)
        if given and text in (given, _joined(given, _TEXTS if field == "content" else _REASONING)):
            return True
    return False


def _joined(parts: Any, kinds: tuple[str, ...]) -> str | None:
    if not isinstance(parts, list):
        return None
    its = (part for part in parts if isinstance(part, dict) and part.get("type") in kinds)
    return "".join(next((text for name in _SAYS if isinstance(text := part.get(name), str)), "") for part in its)


_SAYS: Final = ("text", "summary", "thinking", "reasoning")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
