"""What a message says, in pieces that are drawn differently: texts, thoughts, calls, results and files, in any shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import attrs

from session_manager.history.attachments import Attachment
from session_manager.history.shapes import calls, results, role_of, shape_of, texts_of
from session_manager.history.shapes.parts import PartsShape
from session_manager.history.text import Data, Name, Part, texts
from session_manager.model.message import Message

__all__ = ["Piece", "pieces", "speaker"]

_THINKING = frozenset(("thinking", "redacted_thinking", "reasoning", "reasoning.text", "reasoning.summary"))
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")


@attrs.frozen
class Piece:
    """A part of what a message says."""

    kind: Literal["text", "thought", "call", "result", "file"]
    text: str
    #: The name of the tool that is called.
    name: str = ""


def speaker(message: Message) -> str:
    """Return who speaks in a message, or else the type of the item.

    >>> speaker(Message.from_dict({"role": "model", "parts": [{"text": "Hi"}]}))
    'assistant'
    >>> speaker(Message.from_dict({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}))
    'assistant'
    """
    role = role_of(message)
    if role is not None:
        return role
    if calls(message):
        return "assistant"
    if results(message):
        return "tool"
    kind = message._object.get("type")
    return kind if isinstance(kind, str) and kind else "item"


def pieces(message: Message) -> list[Piece]:
    """Return what a message says, in order, whatever its shape.

    >>> pieces(Message("user", "Hi!"))
    [Piece(kind='text', text='Hi!', name='')]
    >>> call = {"type": "function_call", "call_id": "c", "name": "time", "arguments": '{"zone": "UTC"}'}
    >>> pieces(Message.from_dict(call))
    [Piece(kind='call', text='{"zone": "UTC"}', name='time')]
    """
    shape = shape_of(message)
    if isinstance(shape, PartsShape):
        return list(_of_parts(message, shape))
    ui = message._object.get("parts")
    if isinstance(ui, list) and any(_ui_tool(part) is not None for part in ui):
        return [piece for part in ui for piece in _of_ui(part)]
    if results(message):
        return [_result(texts_of(message))]
    found = _read(texts_of(message), is_calling=bool(calls(message)))
    if "role" not in message._object and _thinks(message._object):
        return [_thought(one) for one in found]
    thoughts = {message._object.get(field) for field in _THOUGHT_FIELDS if _is_text(message._object.get(field))}
    return [_thought(one) if one.text in thoughts else one for one in found]


def _of_parts(message: Message, shape: PartsShape) -> Iterator[Piece]:
    calling, bringing = ({one.slot for one in found} for found in (calls(message), results(message)))
    for slot, part in enumerate(shape.parts(message._object) or ()):
        said = texts(shape.with_content({"role": "user"}, [part]))
        if slot in bringing:
            yield _result(said)
        elif shape._is_thought(part) or _thinks(part):
            yield from map(_thought, _read(said, is_calling=False))
        else:
            yield from _read(said, is_calling=slot in calling)


def _ui_tool(part: Any) -> str | None:
    """Return the name of the tool in a part of an AI SDK's UI message, which has a call and its result in one.

    Source: https://ai-sdk.dev/docs/reference/ai-sdk-core/ui-message
    """
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or "toolCallId" not in part:
        return None
    name = part.get("toolName")
    return name if isinstance(name, str) else kind.removeprefix("tool-")


def _of_ui(part: Any) -> Iterator[Piece]:
    said, name = texts({"parts": [part]}), _ui_tool(part)
    if name is None:
        for piece in _read(said, is_calling=False):
            yield _thought(piece) if _thinks(part) else piece
        return
    given = [one for one in said if not isinstance(one, Name)]
    arguments = next((one for one in given if isinstance(one, Data)), None)
    yield Piece("call", "" if arguments is None else arguments.text, name)
    if rest := [one for one in given if one is not arguments]:
        yield _result(rest)


def _thinks(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(kind, str) and kind in _THINKING


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _thought(piece: Piece) -> Piece:
    return attrs.evolve(piece, kind="thought") if piece.kind == "text" else piece


def _result(said: Iterable[Part]) -> Piece:
    return Piece("result", "\n".join(_text_of(one) for one in said if not isinstance(one, Name)))


def _read(said: Iterable[Part], *, is_calling: bool) -> Iterator[Piece]:
    """Read the parts of a text: a name that data follow is a call."""
    name: str | None = None
    for one in said:
        if isinstance(one, Name):
            if name is not None and is_calling:
                yield Piece("call", "", name)
            name = one.text
        elif isinstance(one, Data):
            yield Piece("call", one.text, name or "")
            name = None
        elif isinstance(one, Attachment):
            yield Piece("file", _text_of(one))
        elif one:
            yield Piece("text", one)
    if name is not None and is_calling:
        yield Piece("call", "", name)


def _text_of(one: Part) -> str:
    if isinstance(one, Attachment):
        return f"an image or a file, about {one.tokens:,} tokens"
    return one if isinstance(one, str) else one.text
