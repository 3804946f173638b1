"""What a message says, in pieces that are drawn differently: texts, thoughts, calls, results and files, in any shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import attrs

from session_manager.history.attachments import Attachment
from session_manager.history.shapes import CUSTOM, ITEMS, calls, results, role_of, shape_of, texts_of
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
    #: The name of the tool that is called; of a result as far as the message says it.
    name: str = ""
    #: The id of the call, or of the call that the result answers; `None` if there is none.
    id: str | None = attrs.field(default=None, eq=False, repr=False)
    #: The texts and attachments that it is made of, in order.
    parts: tuple[str | Attachment, ...] = attrs.field(default=(), eq=False, repr=False)


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
    if brought := results(message):
        return [_result(texts_of(message), brought[0].id)]
    made = calls(message)
    if made and shape in (ITEMS, CUSTOM):
        return [_item_call(texts_of(message), message._object.get("type"), made[0].id)]
    if made and "name" in message._object:  # the speaker's, and no tool's
        rest = {field: value for field, value in message._object.items() if field != "name"}
        message = message._with_object(rest)
    found = _with_ids(_read(texts_of(message), is_calling=bool(made)), [call.id for call in made])
    if "role" not in message._object and _thinks(message._object):
        return [_thought(one) for one in found]
    thoughts = {message._object.get(field) for field in _THOUGHT_FIELDS if _is_text(message._object.get(field))}
    return [_thought(one) if one.text in thoughts else one for one in found]


def _of_parts(message: Message, shape: PartsShape) -> Iterator[Piece]:
    calling, bringing = ({one.slot: one.id for one in found} for found in (calls(message), results(message)))
    for slot, part in enumerate(shape.parts(message._object) or ()):
        said = texts(shape.with_content({"role": "user"}, [part]))
        if slot in bringing:
            yield _result(said, bringing[slot])
        elif shape._is_thought(part) or _thinks(part):
            yield from map(_thought, _read(said, is_calling=False))
        else:
            yield from _with_ids(_read(said, is_calling=slot in calling), [calling.get(slot)])


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
    its_id = part["toolCallId"] if isinstance(part["toolCallId"], str) else None
    arguments = next((one for one in given if isinstance(one, Data)), None)
    text = "" if arguments is None else arguments.text
    yield Piece("call", text, name, its_id, (text,))
    if rest := [one for one in given if one is not arguments]:
        yield _result(rest, its_id)


def _thinks(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(kind, str) and kind in _THINKING


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _thought(piece: Piece) -> Piece:
    return attrs.evolve(piece, kind="thought") if piece.kind == "text" else piece


def _result(said: Iterable[Part], id: str | None) -> Piece:
    found = list(said)
    name = next((one.text for one in found if isinstance(one, Name)), "")
    parts = [one for one in found if not isinstance(one, Name)]
    whole = tuple(one if isinstance(one, Attachment) else _text_of(one) for one in parts)
    return Piece("result", "\n".join(map(_text_of, parts)), name, id, whole)


def _item_call(said: Iterable[Part], kind: object, id: str | None) -> Piece:
    """Return the call that a record of OpenAI Responses is, whatever fields it has. Without a name, its type is the name."""
    parts = list(said)
    names = [one.text for one in parts if isinstance(one, Name)]
    given = [_text_of(one) for one in parts if not isinstance(one, Name)]
    name = names[0] if names else str(kind).removesuffix("_call")
    return Piece("call", "\n".join(given), name, id, tuple(given))


def _with_ids(found: Iterable[Piece], ids: Sequence[str | None]) -> list[Piece]:
    """Return pieces in which each call has its id. The ids are those of the calls in their order."""
    made = list(found)
    named = [piece for piece in made if piece.kind == "call"]
    if len(named) != len(ids):
        return made
    left = iter(ids)
    return [attrs.evolve(piece, id=next(left)) if piece.kind == "call" else piece for piece in made]


def _read(said: Iterable[Part], *, is_calling: bool) -> Iterator[Piece]:
    """Read the parts of a text: a name and data next to each other are a call, in any order."""
    name: str | None = None
    data: Data | None = None
    for one in said:
        if isinstance(one, Name):
            if data is not None:
                yield _call(data, one.text)
                data = None
                continue
            if name is not None and is_calling:
                yield Piece("call", "", name)
            name = one.text
            continue
        if data is not None:
            yield _call(data, "")
            data = None
        if isinstance(one, Data):
            if name is None and is_calling:
                data = one
            else:
                yield _call(one, name or "")
                name = None
        elif one:
            yield Piece("file" if isinstance(one, Attachment) else "text", _text_of(one), parts=(one,))
    yield from _left(name if is_calling else None, data)


def _left(name: str | None, data: Data | None) -> Iterator[Piece]:
    if data is not None:
        yield _call(data, "")
    if name is not None:
        yield Piece("call", "", name)


def _call(data: Data, name: str) -> Piece:
    return Piece("call", data.text, name, None, (data.text,))


def _text_of(one: Part) -> str:
    if isinstance(one, Attachment):
        return f"an image or a file, about {one.tokens:,} tokens"
    return one if isinstance(one, str) else one.text
