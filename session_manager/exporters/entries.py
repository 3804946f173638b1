r"""The entries of a transcript: who said what when, for the formats that people read.

What a message says comes from `session_manager.history`, whatever its shape. Text is made fit for every file: a control
character is shown by its picture (``\x1b`` as ``␛``), and a lone surrogate, which UTF-8 does not have, as ``U+FFFD``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Final, Literal

import attrs

from session_manager.codec.exported import Exported
from session_manager.history.attachments import Attachment
from session_manager.history.pieces import Piece, pieces, speaker
from session_manager.model.message import Item, Message

__all__ = ["Entry", "Part", "entries", "facts", "legible", "one_line"]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ENDS = re.compile("\r\n?")
_PICTURES: Final = 0x2400
_LAST_C0, _DELETE, _DELETE_PICTURE = 0x1F, 0x7F, "\u2421"
#: So many characters of a name or a title are shown.
_LONGEST = 200


def legible(text: str) -> str:
    r"""Return a text that a file in UTF-8 can hold, and that steers no terminal. Its lines end with ``\n``.

    >>> legible("a\x1b[31m\r\nb")
    'a␛[31m\nb'
    """
    return _CONTROL.sub(_shown, _ENDS.sub("\n", text))


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(_PICTURES + code) if code <= _LAST_C0 else _DELETE_PICTURE if code == _DELETE else "\ufffd"


def one_line(text: str) -> str:
    r"""Return a name or a title in one legible line, cut if it is very long.

    >>> one_line("a\tb")
    'a b'
    """
    line = " ".join(legible(text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


@attrs.frozen
class Part:
    """A part of what an entry says."""

    kind: Literal["text", "thought", "call", "result", "file", "data"]
    #: The name of the tool that is called, or that answers; ``""`` if it is not known.
    name: str
    #: Legible texts and attachments, in order.
    said: tuple[str | Attachment, ...]


@attrs.frozen
class Entry:
    """A message in a transcript."""

    #: Who speaks: ``user``, ``assistant``, ``system``, ``tool``, ``item``, or what else the message says.
    role: str
    #: The speaker's name; ``""`` if there is none.
    name: str
    #: When it was written: aware, UTC.
    time: datetime
    position: int
    is_archived: bool
    parts: tuple[Part, ...]


def entries(exported: Exported) -> Iterator[Entry]:
    """Yield the entries of all messages, by position."""
    tools: dict[str, str] = {}
    for message, is_archived in exported.messages:
        yield _entry(message, tools, is_archived=is_archived)


def _entry(message: Message, tools: dict[str, str], *, is_archived: bool) -> Entry:
    if isinstance(message, Item):
        role = "item"
        parts: tuple[Part, ...] = (Part("data", "", (legible(_pretty(message.to_dict())),)),)
    else:
        found = pieces(message)
        parts = tuple(_part(piece, tools) for piece in found)
        role = (
            "tool"
            if found and all(piece.kind == "result" for piece in found)
            else one_line(speaker(message)) or "message"
        )
    name = message.name
    return Entry(
        role=role,
        name=one_line(name) if isinstance(name, str) and message.role is not None and role != "tool" else "",
        time=message.created_at,
        position=message.position or 0,
        is_archived=is_archived,
        parts=parts,
    )


def _part(piece: Piece, tools: dict[str, str]) -> Part:
    """Return a part.

    :param tools: the names of the called tools, by the ids of their calls; it learns those of this piece.
    """
    name = one_line(piece.name)
    if piece.kind == "call":
        if name and piece.id is not None:
            tools[piece.id] = name
        said = _pretty_text(piece.text)
        return Part("call" if name else "data", name, (legible(said),) if said else ())
    if piece.kind == "result" and not name and piece.id is not None:
        name = tools.get(piece.id, "")
    said_parts = tuple(one if isinstance(one, Attachment) else legible(one) for one in piece.parts)
    return Part(piece.kind, name, said_parts)


def _pretty_text(text: str) -> str:
    """Return JSON in several lines, and any other text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _pretty(value) if isinstance(value, (dict, list)) else text


def _pretty(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:  # Python 3.10 and 3.11 count the levels of C code with the caller's
        return "…"


def facts(exported: Exported) -> list[tuple[str, str]]:
    """Return what a transcript says of the session, each fact by its name."""
    session = exported.session
    found = [("Messages", f"{len(session.messages):,}")]
    if exported.archive:
        found.append(("Archived", f"{len(exported.archive):,}"))
    found += [("Created", _moment(session.created)), ("Updated", _moment(session.updated))]
    if session.expires_after is not None:
        found.append(("Expires after", f"{session.expires_after.total_seconds() / 86_400:g} days"))
    found += [(one_line(name), one_line(_plain(value))) for name, value in session._metadata.items()]
    return found


def _moment(time: datetime) -> str:
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
