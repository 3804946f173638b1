"""Tool calls and their results, as a message carries them, in the shapes that people store.

===========  ==============================================  ====================================================
shape        a call is                                       its result is
===========  ==============================================  ====================================================
`CHAT`       an entry of an assistant's ``tool_calls``,      a message of role ``tool`` with that
             with an ``id`` (OpenAI chat, and most others)   ``tool_call_id``
`FUNCTION`   an assistant's ``function_call``, with a        a message of role ``function`` with that ``name``
             ``name`` (OpenAI chat before tools)
`BLOCKS`     a ``tool_use`` block in an assistant's          a ``tool_result`` block with that ``tool_use_id`` in
             ``content``, with an ``id`` (Anthropic)         the ``content`` of a user message
`ITEMS`      an item ``function_call`` with a ``call_id``    an item ``function_call_output`` with that
             (OpenAI Responses)                              ``call_id``
`CUSTOM`     an item ``custom_tool_call``, likewise          an item ``custom_tool_call_output``
===========  ==============================================  ====================================================

A message is read in one shape, the first of this table in which it has a call. What is malformed (``tool_calls`` that is
not a list, a block that is not an object) is no call, and anything else is just a message. Tools that a provider
runs itself (``server_tool_use``, ``web_search_call``) have no result of ours, and are not calls here either; nor are
the calls of a computer, a shell and the like, whose results are more than a text.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final

import attrs

from session_manager.model.message import Message

__all__ = [
    "INTERRUPTED",
    "Call",
    "Result",
    "Shape",
    "blocks",
    "calls",
    "interrupted",
    "is_call_block",
    "is_result_block",
    "results",
]

#: What the result of a call says that never got one.
INTERRUPTED: Final = "Interrupted: this call has no result."


class Shape(enum.Enum):
    """How a call and its result are written; the table is at the top of the module."""

    CHAT = "chat"
    FUNCTION = "function"
    BLOCKS = "blocks"
    ITEMS = "items"
    CUSTOM = "custom"


_CALL_ITEMS: Final = {"function_call": Shape.ITEMS, "custom_tool_call": Shape.CUSTOM}
_RESULT_ITEMS: Final = {"function_call_output": Shape.ITEMS, "custom_tool_call_output": Shape.CUSTOM}


@attrs.frozen
class Call:
    """A call that a message makes."""

    shape: Shape
    #: What its result names: an id (of `FUNCTION` the name); `None` if it is missing, empty or no string.
    id: str | None
    #: Which entry of ``tool_calls``, or block of ``content``, it is; else 0.
    slot: int


@attrs.frozen
class Result:
    """A result that a message brings."""

    shape: Shape
    #: What it names of its call; `None` if it is missing, empty or no string.
    id: str | None
    #: Which block of ``content`` it is; else 0.
    slot: int


def calls(message: Message) -> list[Call]:
    """Return the calls that a message makes, in order.

    >>> calls(Message("assistant", None, tool_calls=[{"id": "call_1", "type": "function"}]))
    [Call(shape=<Shape.CHAT: 'chat'>, id='call_1', slot=0)]
    >>> calls(Message.from_dict({"role": "assistant", "tool_calls": "none"}))
    []
    """
    value = message._object
    role = value.get("role")
    if role is None:
        shape = _CALL_ITEMS.get(value["type"])
        return [] if shape is None else [Call(shape, _id(value, "call_id"), 0)]
    if role != "assistant":
        return []
    entries = value.get("tool_calls")
    if isinstance(entries, list):
        found = [Call(Shape.CHAT, _id(one, "id"), slot) for slot, one in enumerate(entries) if isinstance(one, dict)]
        if found:
            return found
    legacy = value.get("function_call")
    if isinstance(legacy, dict):
        return [Call(Shape.FUNCTION, _id(legacy, "name"), 0)]
    return [Call(Shape.BLOCKS, _id(one, "id"), slot) for slot, one in enumerate(blocks(message)) if is_call_block(one)]


def results(message: Message) -> list[Result]:
    """Return the results that a message brings, in order.

    >>> results(Message("user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:00"}]))
    [Result(shape=<Shape.BLOCKS: 'blocks'>, id='toolu_1', slot=0)]
    """
    value = message._object
    role = value.get("role")
    if role is None:
        shape = _RESULT_ITEMS.get(value["type"])
        return [] if shape is None else [Result(shape, _id(value, "call_id"), 0)]
    if role == "tool":
        return [Result(Shape.CHAT, _id(value, "tool_call_id"), 0)]
    if role == "function":
        return [Result(Shape.FUNCTION, _id(value, "name"), 0)]
    if role != "user":
        return []
    return [
        Result(Shape.BLOCKS, _id(one, "tool_use_id"), slot)
        for slot, one in enumerate(blocks(message))
        if is_result_block(one)
    ]


def blocks(message: Message) -> Sequence[Any]:
    """Return the message's ``content`` if it is a list, else nothing. It is shared: nobody changes it."""
    content = message._object.get("content")
    return content if isinstance(content, list) else ()


def is_call_block(block: Any) -> bool:
    """Whether a block of an assistant's ``content`` is a call."""
    return isinstance(block, dict) and block.get("type") == "tool_use"


def is_result_block(block: Any) -> bool:
    """Whether a block of a user's ``content`` is a result."""
    return isinstance(block, dict) and block.get("type") == "tool_result"


def interrupted(message: Message, call: Call) -> dict[str, Any]:
    """Return a result for a call that has none: it says that the call was interrupted.

    :param message: the message that makes the call.
    :return: the object of a message in the shape of the call; of `BLOCKS` the block. It names exactly what the call
        has, and nothing if the call has nothing.

    >>> message = Message("assistant", None, tool_calls=[{"id": "call_1", "type": "function"}])
    >>> interrupted(message, calls(message)[0])
    {'role': 'tool', 'tool_call_id': 'call_1', 'content': 'Interrupted: this call has no result.'}
    """
    value = message._object
    match call.shape:
        case Shape.CHAT:
            return {"role": "tool", **_named("tool_call_id", value["tool_calls"][call.slot], "id"), **_said("content")}
        case Shape.FUNCTION:
            return {"role": "function", **_named("name", value["function_call"], "name"), **_said("content")}
        case Shape.BLOCKS:
            named = _named("tool_use_id", value["content"][call.slot], "id")
            return {"type": "tool_result", **named, **_said("content"), "is_error": True}
        case Shape.ITEMS | Shape.CUSTOM:
            kind = next(kind for kind, shape in _RESULT_ITEMS.items() if shape is call.shape)
            return {"type": kind, **_named("call_id", value, "call_id"), **_said("output")}


def _said(field: str) -> dict[str, Any]:
    return {field: INTERRUPTED}


def _named(field: str, call: dict[str, Any], its: str) -> dict[str, Any]:
    return {field: call[its]} if _id(call, its) is not None else {}


def _id(value: dict[str, Any], field: str) -> str | None:
    given = value.get(field)
    return given if isinstance(given, str) and given else None
