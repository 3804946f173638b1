"""The shapes of messages that the library understands, and the registry that yours join.

===============  =================================================  =====================================================
shape            a call is                                          its result is
===============  =================================================  =====================================================
`CHAT`           an entry of ``tool_calls`` of an assistant, with   a message of role ``tool`` with that ``tool_call_id``
                 an ``id`` (OpenAI chat)
`FUNCTION`       the ``function_call`` of an assistant, with a      a message of role ``function`` with that ``name``
                 ``name`` (OpenAI chat, before tools)
`BLOCKS`         a ``tool_use`` block in ``content``, with an       a ``tool_result`` block with that ``tool_use_id``
                 ``id`` (Anthropic)
`ITEMS`          an item such as ``function_call``, with a          an item such as ``function_call_output`` with that
                 ``call_id`` (OpenAI Responses)                     ``call_id``; the table is in `items`
`CUSTOM`         an item ``custom_tool_call``, likewise             an item ``custom_tool_call_output``
`GEMINI`         a ``functionCall`` in ``parts``, with an ``id``    a ``functionResponse`` in ``parts`` with that ``id``
                 or a ``name`` (Gemini)                             or ``name``
`BEDROCK`        a ``toolUse`` block in ``content``, with a         a ``toolResult`` block with that ``toolUseId``
                 ``toolUseId`` (Bedrock's Converse)
`AI_SDK`         a ``tool-call`` part in ``content``, with a        a ``tool-result`` part with that ``toolCallId``, in a
                 ``toolCallId`` (Vercel's AI SDK)                   message of role ``tool``
`LANGCHAIN`      an entry of ``tool_calls`` of type ``ai``, with    a message of type ``tool`` with that ``tool_call_id``
                 an ``id``
`LLAMA_INDEX`    a ``tool_call`` block in ``blocks``, or an entry   a message of role ``tool`` with that ``tool_call_id``
                 of ``tool_calls``, in ``additional_kwargs``        in ``additional_kwargs``
`HAYSTACK`       a ``tool_call`` part in ``content``, with an       a ``tool_call_result`` part whose ``origin`` is that
                 ``id`` or a ``tool_name``                          call
===============  =================================================  =====================================================

A message is read in one shape. What is malformed (``tool_calls`` that is not a list, a block that is not an object) is no call.
A message of no known shape is just a message, which is passed on whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from session_manager.history.shapes.chat import CHAT, FUNCTION, LANGCHAIN, LLAMA_INDEX
from session_manager.history.shapes.items import CUSTOM, ITEMS
from session_manager.history.shapes.parts import AI_SDK, BEDROCK, BLOCKS, GEMINI, HAYSTACK, of_parts
from session_manager.history.shapes.shape import INTERRUPTED, Call, Result, Shape, Where
from session_manager.history.text import Part, texts
from session_manager.model.message import Message

__all__ = [
    "AI_SDK",
    "BEDROCK",
    "BLOCKS",
    "CHAT",
    "CUSTOM",
    "FUNCTION",
    "GEMINI",
    "HAYSTACK",
    "INTERRUPTED",
    "ITEMS",
    "LANGCHAIN",
    "LLAMA_INDEX",
    "UNKNOWN",
    "Call",
    "Result",
    "Shape",
    "UnknownShape",
    "Where",
    "calls",
    "reads_as_written",
    "register_shape",
    "results",
    "role_of",
    "shape_of",
    "texts_of",
    "unregister_shape",
]


class UnknownShape(Shape):
    """No shape that is understood."""

    name = "unknown"

    def owns(self, message: Any) -> bool:
        return True


#: The shape of every message that has no other.
UNKNOWN = UnknownShape()

#: In the order in which they are asked: of messages without a role, and of those whose parts have no shape of their own.
_WITHOUT_ROLE: Final = (ITEMS, CUSTOM, LANGCHAIN, GEMINI)
_OTHERS: Final = (GEMINI, LLAMA_INDEX, FUNCTION, CHAT)
#: Those of users, which are asked first.
_registered: tuple[Shape, ...] = ()


def register_shape(shape: Shape) -> None:
    """Make `session_manager.history` understand a further shape of messages, in the whole process.

    The search and the count of tokens read its `Shape.texts`. It is asked before the shapes of the library. Register it before
    you open a storage: the index of a SQLite database keeps what it read of a message. Thread-safe; a second time changes nothing.

    :raises TypeError: if it is no `Shape`.
    """
    global _registered  # noqa: PLW0603
    if not isinstance(shape, Shape):
        raise TypeError(f"shape: must be a Shape, not {type(shape).__name__}")
    if shape not in _registered:
        _registered = (shape, *_registered)


def unregister_shape(shape: Shape) -> None:
    """Take back `register_shape`, such as in a test."""
    global _registered  # noqa: PLW0603
    _registered = tuple(one for one in _registered if one is not shape)


def shape_of(message: Message) -> Shape:
    """Return the shape of a message: `UNKNOWN` if there is none that owns it.

    >>> shape_of(Message("user", "Hi")), shape_of(Message.from_dict({"role": "model", "parts": [{"text": "Hi"}]}))
    (<Shape chat>, <Shape gemini>)
    """
    value = message._object
    for shape in _registered:
        if shape.owns(value):
            return shape
    is_message = "role" in value
    if is_message and (its := of_parts(value)) is not None:
        return its
    shapes: tuple[Shape, ...] = _OTHERS if is_message else _WITHOUT_ROLE
    for shape in shapes:
        if shape.owns(value):
            return shape
    return UNKNOWN


def reads_as_written() -> bool:
    """Say whether each text that `texts_of` yields stands in its message. A shape of yours may yield any other."""
    return not _registered


def texts_of(message: Message) -> Iterator[Part]:
    """Yield what a message says: see `session_manager.history.text.texts`."""
    value = message._object
    if _registered and (shape := shape_of(message)) in _registered:
        return shape.texts(value)
    return texts(value)


def calls(message: Message) -> list[Call]:
    """Return the calls that a message makes, in order.

    >>> [call.id for call in calls(Message("assistant", None, tool_calls=[{"id": "call_1", "type": "function"}]))]
    ['call_1']
    >>> calls(Message.from_dict({"role": "assistant", "tool_calls": "none"}))
    []
    """
    return shape_of(message).calls(message._object)


def results(message: Message) -> list[Result]:
    """Return the results that a message brings, in order.

    >>> [one.id for one in results(Message("user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:00"}]))]
    ['toolu_1']
    """
    return shape_of(message).results(message._object)


def role_of(message: Message) -> str | None:
    """Return who speaks in a message, in the words of OpenAI chat, whatever its shape calls it; `None` if it has no speaker.

    >>> role_of(Message.from_dict({"role": "model", "parts": [{"text": "Hi"}]}))
    'assistant'
    """
    return shape_of(message).role(message._object)
