r"""Exported sessions as JSON: what the exporters write, and the importers read back without a loss.

Both forms have all of a session: key, generation, revision, times, summary, metadata, expiry, refs, the messages with their
positions, and the archived messages. ``FORMAT`` is the number of the format. Readers refuse a newer one.

**A document** is one object. The tag is its first field::

    {"session_manager":1,"key":"telegram:42","generation":"9f…","created":"2026-01-02T03:04:05Z","updated":"…","summary":"",
     "metadata":{…},"end":7,"refs":[…],"revision":3,"expires_after":null,
     "messages":[{"position":0,"created_at":"…","message":{…},"metadata":{…},"ref":"…","turn":"…"}],
     "archive":[…]}

The fields are those of `session_manager.converter` for a `Session`, and for a `Message`: ``message`` is the provider's object, or an
`Item` in its wrapper, and ``metadata``, ``ref`` and ``turn`` may be missing. ``archive`` has the archived messages likewise. It
is missing if they were not asked for.

**A line** is the fine-tuning form of OpenAI chat, with a second field for all that this form does not have::

    {"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello!"}],
     "session_manager":{"format":1,"key":"telegram:42","generation":"9f…",…,"expires_after":null,
      "messages":[{"position":0,"created_at":"…","archived":true},
                  {"position":1,"created_at":"…","message":{"type":"session_manager.item","item":{…}}},
                  {"position":2,"created_at":"…","metadata":{…},"ref":"…","turn":"…"}]}}

* The outer ``messages`` has the object of each message that has a ``role``, exactly as it is kept, oldest first.
* The inner ``messages`` has a note on **each** message of the session, oldest first. A note with ``message`` is all of a message
  that has no role (an item, or a record such as OpenAI's ``function_call``). Each other note belongs to the next object
  of the outer ``messages``.
* ``archived`` is true if the message is in the archive, and missing if it is in the history.
* ``archive`` beside ``key`` is false if the archived messages were not asked for, and missing otherwise.
* The other fields are those of a document.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from session_manager.codec.converter import converter
from session_manager.codec.json import encode_json, lent
from session_manager.codec.lines import encode_messages
from session_manager.errors import InvalidDataError
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.view import View

__all__ = ["FORMAT", "TAG", "Exported", "document", "line", "of_document", "of_line"]

#: The field that tells our exports from other JSON.
TAG: Final = "session_manager"
#: The format that this version writes, and the newest that it reads.
FORMAT: Final = 1

_PIECE = 64 * 1024
_position = operator.attrgetter("position")


@attrs.frozen
class Exported:
    """A session with its archived messages."""

    session: Session
    #: The archived messages, by position; `None`: they were not asked for.
    archive: tuple[Message, ...] | None = None

    @property
    def messages(self) -> Iterator[tuple[Message, bool]]:
        """All messages by position, each with whether it is archived."""
        archived = [(one, True) for one in self.archive or ()]
        current = [(one, False) for one in self.session.messages]
        return iter(sorted(archived + current, key=lambda pair: pair[0].position or 0))


def document(exported: Exported) -> Iterator[bytes]:
    """Return the document of a session, a message a line, in pieces of some 64 KiB; without a line end behind it."""
    yield encode_json({TAG: FORMAT, **_state(exported.session)})[:-1] + b',"messages":['
    yield from _list(exported.session.messages)
    if exported.archive is not None:
        yield b',"archive":['
        yield from _list(exported.archive)
    yield b"}"


def _list(messages: Sequence[Message]) -> Iterator[bytes]:
    if messages:
        yield b"\n"
        yield from encode_messages(messages, b",\n")
        yield b"\n"
    yield b"]"


def _state(session: Session) -> dict[str, Any]:
    """Return all of a session but its messages, as JSON-ready data."""
    state = converter.unstructure(session._with(messages=View()))
    del state["messages"], state["archived"]
    return {name: lent({name: value})[name] for name, value in state.items()}


class _Note(msgspec.Struct, omit_defaults=True, gc=False):
    position: int
    created_at: Any
    archived: bool = False
    message: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    ref: str | None = None
    turn: str | None = None


def line(exported: Exported) -> Iterator[bytes]:
    """Return the line of a session, in pieces of some 64 KiB; without a line end."""
    yield b'{"messages":['
    yield from _joined(lent(one._object) for one, _ in exported.messages if _is_chat(one))
    kept = {} if exported.archive is not None else {"archive": False}
    yield b'],"%b":' % TAG.encode()
    yield encode_json({"format": FORMAT, **_state(exported.session), **kept})[:-1] + b',"messages":['
    yield from _joined(_note(one, is_archived=is_archived) for one, is_archived in exported.messages)
    yield b"]}}"


def _is_chat(message: Message) -> bool:
    return "role" in message._object


def _note(message: Message, *, is_archived: bool) -> _Note:
    value = None if _is_chat(message) else lent(message._object)
    metadata = dict(message._metadata) or None
    return _Note(message.position or 0, message.created_at, is_archived, value, metadata, message.ref, message.turn)


def _joined(values: Iterable[Any]) -> Iterator[bytes]:
    lines: list[bytes] = []
    size, between = 0, b""
    for value in values:
        encoded = encode_json(value)
        lines.append(encoded)
        size += len(encoded)
        if size >= _PIECE:
            yield between + b",".join(lines)
            lines, size, between = [], 0, b","
    if lines:
        yield between + b",".join(lines)


def of_document(value: Mapping[str, Any]) -> Exported:
    """Return the session of a document that is decoded.

    :raises InvalidDataError: with the place of the first field that is missing, unknown or wrong.
    """
    rest = dict(value)
    _check_format(rest.pop(TAG, None), TAG)
    archive = rest.pop("archive", None)
    archived = None if archive is None else tuple(_structured("archive", archive))
    return _checked(rest, archived)


def of_line(value: Mapping[str, Any]) -> Exported:
    """Return the session of a line that is decoded.

    :raises InvalidDataError: with the place of the first field that is missing, unknown or wrong; or if there are more
        objects in the outer ``messages``, or fewer, than notes on them.
    """
    inner, objects = value.get(TAG), value.get("messages")
    if not isinstance(inner, Mapping):
        raise InvalidDataError(TAG, f"must be an object, not {type(inner).__name__}")
    if not isinstance(objects, list):
        raise InvalidDataError("messages", f"must be a list, not {type(objects).__name__}")
    rest = dict(inner)
    _check_format(rest.pop("format", None), f"{TAG}.format")
    has_archive = rest.pop("archive", True)
    if not isinstance(has_archive, bool):
        raise InvalidDataError(f"{TAG}.archive", "must be true or false")
    noted = _paired(rest.get("messages"), objects)
    archive = [one for one, is_archived in noted if is_archived]
    rest["messages"] = [one for one, is_archived in noted if not is_archived]
    archived = tuple(_structured(f"{TAG}.messages", archive)) if has_archive or archive else None
    return _checked(rest, archived)


def _paired(notes: Any, objects: Sequence[Any]) -> list[tuple[dict[str, Any], bool]]:
    """Return the messages of a line as a document has them, each with whether it is archived."""
    if not isinstance(notes, list) or not all(isinstance(note, dict) for note in notes):
        raise InvalidDataError(f"{TAG}.messages", "must be a list of objects")
    wanted = sum("message" not in note for note in notes)
    if wanted != len(objects):
        reason = f"{wanted:,} notes on {len(objects):,} messages: add or remove a message in both lists"
        raise InvalidDataError(f"{TAG}.messages", reason)
    left = iter(objects)
    found = []
    for index, note in enumerate(notes):
        one = {**note} if "message" in note else {**note, "message": next(left)}
        is_archived = one.pop("archived", False)
        if not isinstance(is_archived, bool):
            raise InvalidDataError(f"{TAG}.messages[{index}].archived", "must be true or false")
        found.append((one, is_archived))
    return found


def _check_format(found: Any, place: str) -> None:
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise InvalidDataError(place, "must be the number of a format")
    if found > FORMAT:
        raise InvalidDataError(place, f"is format {found}, of a newer version; this one reads {FORMAT}")


def _structured(place: str, messages: Any) -> list[Message]:
    failure = None
    try:
        return converter.structure(messages, list[Message])
    except InvalidDataError as error:
        failure = InvalidDataError(f"{place}{error.path}" if error.path else place, error.reason)
    raise failure


def _checked(state: dict[str, Any], archive: tuple[Message, ...] | None) -> Exported:
    if "archived" in state:
        raise InvalidDataError("archived", "there is no such field")
    session = converter.structure({**state, "archived": len(archive or ())}, Session)
    positions = [_position(one) for one in archive or ()]
    if any(one is None or one >= session.end for one in positions) or sorted(set(positions)) != positions:
        raise InvalidDataError("archive", "positions must increase, and be less than end")
    if not set(positions).isdisjoint(map(_position, session.messages)):
        raise InvalidDataError("archive", "a message is in the session and in its archive")
    return Exported(session, archive)
