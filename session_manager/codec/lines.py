r"""Messages as lines of JSON, and the rules that all of our formats share.

**A message** is one line, UTF-8, without a line feed in it::

    {"position":0,"created_at":"2026-01-02T03:04:05.000006Z","message":{…},"metadata":{…},"ref":"…","turn":"…"}

``message`` is the provider's object. ``metadata``, ``ref`` and ``turn`` are absent when there is none. Times are
RFC 3339, UTC, with microseconds unless they are zero. A message with a lone surrogate, which UTF-8
does not have, is written in ASCII with ``\uXXXX`` escapes, that line only.

**A state** is all that a file says of a session besides its messages: see `session_manager.codec.state`.

Readers ignore unknown fields. Anything that an older reader would misread needs a new format.
No error of this module holds text of a session: `DecodeError` carries a place and a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec

from session_manager.codec.json import DecodeError, decoded, encode_json, lent
from session_manager.errors import raise_alone
from session_manager.model.json_value import EMPTY_OBJECT, MAX_LEVELS, shared, within_levels
from session_manager.model.message import PLAIN, Message, trusted
from session_manager.model.view import View
from session_manager.threads import give_way, gives_way, giving_way

__all__ = [
    "Line",
    "checked_messages",
    "decode_lines",
    "decode_messages",
    "encode_message",
    "encode_messages",
    "encoded_size",
    "flaw_of",
    "lent_object",
    "message_of",
    "plain_messages",
    "size_bound",
]


_UTC = timezone.utc


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """A message and its place in a session, as files have it."""

    position: int
    created_at: datetime
    message: dict[str, Any]
    metadata: dict[str, Any] | None = None
    ref: str | None = None
    turn: str | None = None

    def __repr__(self) -> str:
        return f"<line of position {self.position}>"


#: How many bytes of messages are encoded at once, and decoded at once beside an event loop: work for less than a
#: millisecond. And how many messages.
_PIECE = 64 * 1024
_MESSAGES = 200
#: The most bytes of a character: an emoji beside a lone surrogate is written as two escapes.
_MOST_OF_A_CHARACTER = 12
#: More bytes than a value takes besides its characters, or besides the digits of a large integer. A float has up to 24.
_MOST_AROUND = 32
_CONTAINERS = frozenset((dict, list))
_decode_line = msgspec.json.Decoder(Line).decode
_decode_lines = msgspec.json.Decoder(list[Line]).decode


def lent_object(message: Message) -> dict[str, Any]:
    """Return the object of a message, to be encoded: its non-ASCII texts are copies (`session_manager.codec.json.lent`)."""
    role, text = message._held, message._text
    if text is not None and text.isascii() and type(role) is str and role.isascii():
        return {"role": role, "content": text}
    return lent(message._object)


def encode_message(message: Message) -> bytes:
    """Return the line of a message that has a position, without a line end."""
    metadata = dict(message._metadata) or None
    assert message.position is not None
    return encode_json(
        Line(message.position, message.created_at, lent_object(message), metadata, message.ref, message.turn)
    )


def encode_messages(messages: Iterable[Message], separator: bytes, *, follow: bool = False) -> Iterator[bytes]:
    """Return the lines of messages that have positions, with a separator between them, in pieces of some 64 KiB.

    :param follow: whether there is a separator also before the first one.
    """
    lines: list[bytes] = []
    size = 0
    between = separator if follow else b""
    for message in giving_way(messages):
        line = encode_message(message)
        lines.append(line)
        size += len(line)
        if size >= _PIECE:
            yield between + separator.join(lines)
            lines, size, between = [], 0, separator
    if lines:
        yield between + separator.join(lines)


def encoded_size(message: Message) -> int:
    """Return how many bytes a message's object and metadata are, encoded in UTF-8."""
    size = len(encode_json(lent_object(message)))
    return size + len(encode_json(dict(message._metadata))) if message._metadata else size


def size_bound(message: Message) -> int:
    """Return an upper bound of `encoded_size`, by counting characters instead of encoding."""
    if message._text is not None and not message._metadata:
        return _MOST_OF_A_CHARACTER * (len(message._held) + len(message._text)) + _MOST_AROUND * 8
    characters, values, digits = 0, 2, 0
    containers: list[Any] = [message._object]
    if message._metadata:
        containers.append(message._metadata)
    for one in containers:
        values += len(one)
        if type(one) is list:
            items = one
        else:
            characters += len("".join(one))
            items = one.values()
        for item in items:
            kind = type(item)
            if kind is str:
                characters += len(item)
            elif kind is dict or kind is list:
                containers.append(item)
            elif kind is int:
                digits += item.bit_length()
    return _MOST_OF_A_CHARACTER * characters + _MOST_AROUND * values + digits


def decode_messages(data: bytes | memoryview) -> View[Message]:
    """Return the messages of a JSON array of message lines.

    :param data: ``[``, a line feed, lines separated by a comma and a line feed, a line feed, ``]``.
    :raises DecodeError: if a line is not a message, or positions do not increase.
    """
    try:
        lines = decode_lines(data, b",\n")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        lines = _lines_one_by_one(bytes(data))
    try:
        return View(checked_messages(lines))
    except DecodeError as error:
        raise_alone(DecodeError(_line_offset(data, error.offset), error.reason))


def decode_lines(data: bytes | memoryview, separator: bytes) -> list[Line]:
    """Decode a JSON array of message lines: in pieces beside an event loop, which gets in between.

    :param separator: a comma, and the bytes that follow each comma between two lines. If these bytes also occur inside of
        lines, a valid array may be refused.
    :raises msgspec.MsgspecError: if the array is invalid. Other errors of decoding come out as well.
    """
    lines: list[Line] = []
    start, size = 1, _PIECE
    while gives_way() and len(data) - start > size:
        piece = bytes(data[start : start + size])
        cut = piece.rfind(separator)
        if cut < 0:  # one line that is longer than a piece
            size *= 2
            continue
        lines += _decode_lines(b"[%b]" % piece[:cut])
        start, size = start + cut + 1, _PIECE
        give_way()
    return lines + _decode_lines(data if start == 1 else b"[" + bytes(data[start:]))


def checked_messages(lines: Iterable[Line]) -> list[Message]:
    """Return the messages of decoded lines.

    :raises DecodeError: if one of them is not a message, or positions do not increase; its offset is the line's number.
    """
    messages: list[Message] = []
    previous = -1
    try:
        for line in giving_way(lines):
            position = line.position
            if position <= previous:
                raise DecodeError(0, "positions do not increase")
            previous = position
            messages.append(message_of(line, position, line.turn))
    except DecodeError as error:
        raise_alone(DecodeError(len(messages), error.reason))
    return messages


def message_of(part: Any, position: int | None = None, turn: str | None = None) -> Message:
    """Return the message of a decoded line, or of another struct with its fields.

    :raises DecodeError: if it is not a message.
    """
    value, created_at, metadata = part.message, part.created_at, part.metadata
    if (*value,) == PLAIN and metadata is None and created_at.tzinfo is _UTC:  # as most are: `_restore`, written out
        role, text = value.values()
        if type(text) is str and type(role) is str and role:
            message: Message = trusted(
                Message, shared(role, role), text, created_at, EMPTY_OBJECT, part.ref, position, turn, False
            )
            return message
    if flaw := flaw_of(value, created_at, metadata):
        raise DecodeError(0, flaw)
    return Message._restore(value, created_at, metadata, part.ref, position, turn)


def plain_messages(lines: Sequence[bytes]) -> list[Message] | None:
    """Return the messages of some lines, in any order, if all are valid; otherwise `None`: look at each alone."""
    try:
        decoded = _decode_lines(b"[" + b",".join(lines) + b"]")
        return [message_of(one, one.position, one.turn) for one in decoded]
    except (DecodeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None


def flaw_of(value: dict[str, Any], created_at: datetime, metadata: dict[str, Any] | None) -> str:
    """Say why decoded parts are no message; ``""`` if they are one."""
    kind = value.get("role")
    if not kind or type(kind) is not str:
        kind = value.get("type") if "role" not in value else None
        if not kind or type(kind) is not str:
            return "a message without a role or type"
    if created_at.tzinfo is not _UTC:
        return "a time that is not UTC"
    if _CONTAINERS.isdisjoint(map(type, value.values())) and not metadata:
        return ""
    if not within_levels(value) or (metadata and not within_levels(metadata)):
        return f"more than {MAX_LEVELS} levels"
    return ""


def _lines_one_by_one(data: bytes) -> list[Line]:
    lines = []
    offset = 2
    for raw in data[2:-2].split(b",\n"):
        try:
            line = decoded(_decode_line, lambda value: msgspec.convert(value, Line), raw)
        except DecodeError as error:
            raise_alone(DecodeError(offset + error.offset, error.reason))
        lines.append(line)
        offset += len(raw) + 2
    return lines


def _line_offset(data: bytes | memoryview, number: int) -> int:
    lines = bytes(data).split(b"\n")
    return sum(len(line) + 1 for line in lines[: number + 1])
