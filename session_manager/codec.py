r"""JSON bytes: how a message, and the state of a session, are encoded.

**A message** is one line, UTF-8, without a line feed in it::

    {"position":0,"created_at":"2026-01-02T03:04:05.000006Z","message":{…},"metadata":{…},"ref":"…","turn":"…"}

``message`` is the provider's object. ``metadata``, ``ref`` and ``turn`` are absent when there is none. Times are
RFC 3339, UTC, with microseconds unless they are zero. A message with a lone surrogate, which UTF-8
does not have, is written in ASCII with ``\uXXXX`` escapes, that line only.

**A state** is what a file says of a session before its messages: see `State`.

Readers ignore fields that they do not know. What an older reader would misread needs a new format.
Nothing here raises an error that holds text of a session: `DecodeError` carries a place and a reason.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from itertools import chain, repeat
from typing import Any, NoReturn, TypeVar

import msgspec

from session_manager.event_loops import give_way, gives_way, giving_way, pieces
from session_manager.json_value import MAX_LEVELS, within_levels
from session_manager.model import Message, Session
from session_manager.view import View

__all__ = [
    "DecodeError",
    "Line",
    "State",
    "are_plain",
    "checked_messages",
    "decode_json",
    "decode_lines",
    "decode_messages",
    "decode_state",
    "decoder_of",
    "encode_json",
    "encode_message",
    "encode_messages",
    "encode_state",
    "encoded_size",
    "flaw_of",
    "session_of",
]

T = TypeVar("T")

_ONLY_STR = frozenset((str,))
_object_of = operator.attrgetter("message")
_zone_of = operator.attrgetter("created_at.tzinfo")
_metadata_of = operator.attrgetter("metadata")


class DecodeError(Exception):
    """Bytes that are not what they should be.

    :param offset: where, in bytes from the start of what was to be decoded.
    :param reason: what is wrong, without any of the text.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(offset, reason)
        self.offset = offset
        self.reason = reason


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """A message and its place in a session, as it is written."""

    position: int
    created_at: datetime
    message: dict[str, Any]
    metadata: dict[str, Any] | None = None
    ref: str | None = None
    turn: str | None = None

    def __repr__(self) -> str:
        return f"<line of position {self.position}>"


class State(msgspec.Struct, kw_only=True):
    """What is stored of a session besides its messages, in the order in which it is written."""

    key: str
    generation: str
    revision: int
    created: datetime
    updated: datetime
    #: When the last message was written; null if there is none. Lists and expiry need no more.
    last_message_at: datetime | None = None
    #: The first message's position, or ``end``.
    start: int
    end: int
    refs: tuple[str, ...] = ()
    summary: str = ""
    metadata: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies an empty default
    #: How many messages there are.
    count: int
    #: How many messages its archive holds at least; absent if none.
    archived: int | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        return f"<state of {self.key[:80]!a}: {self.count} messages, revision {self.revision}>"


#: How many bytes of messages are encoded at once, and decoded in a thread that lets others in: less than a millisecond's
#: work; and of how many messages.
_PIECE = 64 * 1024
_MESSAGES = 200
_TOO_DEEP = "is nested too deeply"
_CONTAINERS = frozenset((dict, list))
_encode_into = msgspec.json.Encoder().encode_into
_decode_line = msgspec.json.Decoder(Line).decode
_decode_lines = msgspec.json.Decoder(list[Line]).decode
_decode_state = msgspec.json.Decoder(State).decode
_decode_any = msgspec.json.Decoder().decode


def encode_json(value: Any) -> bytes:
    """Return a checked JSON value, or a struct of them, in one line of UTF-8."""
    buffer = bytearray()
    try:
        _encode_into(value, buffer)  # msgspec's `encode` ends the process where there is no memory: this raises
        return bytes(buffer)
    except UnicodeEncodeError:
        pass
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def decode_json(data: bytes | memoryview) -> Any:
    """Return the JSON value that some bytes encode, strictly (no NaN, no infinity).

    :raises DecodeError: if they encode none.
    """
    return _decoded(_decode_any, lambda value: value, data)


def encode_message(message: Message) -> bytes:
    """Return the line of a message that has a position, without a line end."""
    metadata = dict(message._metadata) or None
    assert message.position is not None
    return encode_json(
        Line(message.position, message.created_at, _lent(message._object), metadata, message.ref, message.turn)
    )


def encode_messages(messages: Iterable[Message], separator: bytes, *, follow: bool = False) -> Iterator[bytes]:
    """Return the lines of messages that have positions, with a separator between them, in pieces of some 64 KiB.

    :param follow: whether there is a separator before the first one, too.
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
    size = len(encode_json(_lent(message._object)))
    return size + len(encode_json(dict(message._metadata))) if message._metadata else size


def _lent(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object as it is to be given to msgspec: with copies of its texts, if one of them is not ASCII.

    CPython keeps the UTF-8 of such a text in it from when msgspec asks for it, for as long as the text lives.
    """
    containers: list[Any] = [value]
    for one in containers:
        for item in one.values() if type(one) is dict else one:
            kind = type(item)
            if kind is str:
                if not item.isascii():
                    lent: dict[str, Any] = _with_copies(value)
                    return lent
            elif kind is dict or kind is list:
                containers.append(item)
    return value


def _with_copies(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _with_copies(item) for key, item in value.items()}
    if kind is list:
        return list(map(_with_copies, value))
    return value[:1] + value[1:] if kind is str else value


def decoder_of(kind: Any) -> Callable[[bytes | memoryview], Any]:
    """Return a function that decodes bytes as a value of a type, as strictly as everything here.

    It raises `DecodeError` if they encode none.
    """
    decode = msgspec.json.Decoder(kind).decode
    return lambda data: _decoded(decode, lambda value: msgspec.convert(value, kind), data)


def decode_messages(data: bytes | memoryview) -> View[Message]:
    """Return the messages of a JSON array of message lines.

    :param data: ``[``, a line feed, lines separated by a comma and a line feed, a line feed, ``]``.
    :raises DecodeError: if a line is not a message, or positions do not increase.
    """
    try:
        lines = decode_lines(data, b",\n") if gives_way() else _decode_lines(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        lines = None
    if lines is None:
        lines = _lines_one_by_one(bytes(data))
    failure = None
    try:
        return View(checked_messages(lines))
    except DecodeError as error:
        failure = DecodeError(_line_offset(data, error.offset), error.reason)
    raise failure


def decode_lines(data: bytes | memoryview, separator: bytes) -> list[Line]:
    """Return the lines of a JSON array of message lines, letting others in between its pieces.

    :param separator: a comma, and what follows each comma between two lines. Where it is elsewhere, the array may seem
        to be none.
    :raises msgspec.MsgspecError: if they are none; as other errors of decoding.
    """
    lines: list[Line] = []
    start, size = 1, _PIECE
    while len(data) - start > size:
        piece = bytes(data[start : start + size])
        cut = piece.rfind(separator)
        if cut < 0:  # one line that is longer than a piece
            size *= 2
            continue
        lines += _decode_lines(b"[%b]" % piece[:cut])
        start, size = start + cut + 1, _PIECE
        give_way()
    return lines + _decode_lines(b"[" + bytes(data[start:]))


def checked_messages(lines: Sequence[Line]) -> list[Message]:
    """Return the messages of lines.

    :raises DecodeError: if one of them is not a message, or positions do not increase; its offset is the line's number.
    """
    positions = [line.position for line in lines]
    if not (are_plain(lines) and all(map(operator.lt, [-1, *positions], positions))):
        _check(lines)
    restore = Message._restore
    return [
        restore(line.message, line.created_at, line.metadata, line.ref, line.position, line.turn)
        for line in giving_way(lines)
    ]


def are_plain(lines: Sequence[Any]) -> bool:
    """Say whether decoded structs are certainly messages, as most are: with a role, a time in UTC, and no nested values.

    Each step runs in C. Of what is not plain, `flaw_of` tells.
    """
    return all(map(_are_plain, pieces(lines, _MESSAGES)))


def _are_plain(lines: Sequence[Any]) -> bool:
    objects = list(map(_object_of, lines))
    roles = [value.get("role") for value in objects]
    return (
        all(roles)
        and _ONLY_STR.issuperset(map(type, roles))
        and all(map(operator.is_, map(_zone_of, lines), repeat(timezone.utc)))
        and _CONTAINERS.isdisjoint(map(type, chain.from_iterable(map(dict.values, objects))))
        and not any(map(_metadata_of, lines))
    )


def _check(lines: Sequence[Line]) -> None:
    previous = -1
    for number, line in enumerate(giving_way(lines)):
        if line.position <= previous:
            raise DecodeError(number, "positions do not increase")
        if flaw := flaw_of(line.message, line.created_at, line.metadata):
            raise DecodeError(number, flaw)
        previous = line.position


def flaw_of(value: dict[str, Any], created_at: datetime, metadata: dict[str, Any] | None) -> str:
    """Return what keeps decoded parts from being a message; ``""`` if nothing does."""
    kind = value.get("role")
    if not kind or type(kind) is not str:
        kind = value.get("type") if "role" not in value else None
        if not kind or type(kind) is not str:
            return "a message without a role or type"
    if created_at.tzinfo is not timezone.utc:
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
            line = _decoded(_decode_line, lambda value: msgspec.convert(value, Line), raw)
        except DecodeError as error:
            failure = DecodeError(offset + error.offset, error.reason)
        else:
            lines.append(line)
            offset += len(raw) + 2
            continue
        raise failure
    return lines


def _line_offset(data: bytes | memoryview, number: int) -> int:
    lines = bytes(data).split(b"\n")
    return sum(len(line) + 1 for line in lines[: number + 1])


def encode_state(session: Session) -> State:
    """Return the state of a session."""
    return State(
        key=session.key,
        generation=session.generation,
        revision=session.revision,
        created=session.created,
        updated=session.updated,
        last_message_at=session.last_message_at,
        start=session.start,
        end=session.end,
        refs=session.refs,
        summary=session.summary,
        metadata=dict(session._metadata),
        count=len(session.messages),
        archived=session._archived or msgspec.UNSET,
    )


def decode_state(data: bytes) -> State:
    """Return the state that some bytes encode.

    :raises DecodeError: if they encode none, or an impossible one.
    """
    state: State = _decoded(_decode_state, lambda value: msgspec.convert(value, State), data)
    archived = state.archived or 0
    if min(state.revision - 1, state.start, state.count, state.end - state.start - state.count, archived) < 0:
        raise DecodeError(0, "impossible numbers")
    times = [state.created, state.updated, *([state.last_message_at] if state.last_message_at else [])]
    if any(time.tzinfo is not timezone.utc for time in times):
        raise DecodeError(0, "a time that is not UTC")
    if not within_levels(state.metadata):
        raise DecodeError(0, f"more than {MAX_LEVELS} levels")
    return state


def session_of(state: State, messages: View[Message]) -> Session:
    """Return the session of a state and its messages.

    :raises DecodeError: if they do not belong together.
    """
    first = messages[0].position if messages else state.end
    last = messages[-1].position if messages else -1
    if len(messages) != state.count or first != state.start or last is None or last >= state.end:
        raise DecodeError(0, "the header and the messages do not belong together")
    return Session(
        key=state.key,
        generation=state.generation,
        created=state.created,
        updated=state.updated,
        messages=messages,
        summary=state.summary,
        metadata=state.metadata,
        end=state.end,
        refs=state.refs,
        revision=state.revision,
        archived=state.archived or 0,
    )


def _decoded(fast: Callable[[Any], T], convert: Callable[[Any], T], data: bytes | memoryview) -> T:
    """Decode by msgspec; by the standard library what msgspec refuses (lone surrogates, some huge integers).

    What is nested too deeply for what is left of this thread's stack is decoded on a stack of its own.
    """
    try:
        return _parsed(fast, convert, data)
    except RecursionError:
        pass
    return _on_its_own_stack(partial(_parsed, fast, convert, data))


def _parsed(fast: Callable[[Any], T], convert: Callable[[Any], T], data: bytes | memoryview) -> T:
    try:
        return fast(data)
    except (msgspec.MsgspecError, ValueError):
        pass
    raw = bytes(data)
    raw = raw[: raw.find(b"\0") + 1 or len(raw)]  # no JSON has a NUL: what is wrong is there at the latest
    try:
        text = raw.decode()
        return convert(json.loads(text, parse_constant=_no_constant, parse_float=_finite))
    except json.JSONDecodeError as error:
        failure = DecodeError(len(text[: error.pos].encode()), "is not JSON")
    except msgspec.MsgspecError:
        failure = DecodeError(0, "JSON, but not what belongs here")
    except ValueError:
        failure = DecodeError(0, "is not JSON")
    raise failure


def _on_its_own_stack(decode: Callable[[], T]) -> T:
    values: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            values.append(decode())
        except RecursionError:
            failures.append(DecodeError(0, _TOO_DEEP))
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=run, name="session_manager-decode")
    is_running = False
    with contextlib.suppress(RuntimeError):  # the interpreter is ending
        thread.start()
        is_running = True
    if not is_running:
        raise DecodeError(0, _TOO_DEEP)
    thread.join()
    if failures:
        raise failures[0]
    return values[0]


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
