"""The format ``text``: a transcript in plain text.

Each message has a line with its speaker, time and number. What it says is indented by four columns, so that no text can pass for
such a line.
"""

from __future__ import annotations

from collections.abc import Iterator

from session_manager.codec.exported import Exported
from session_manager.exporters.entries import Entry, Part, entries, facts, legible, one_line
from session_manager.history.attachments import Attachment

__all__ = ["attached", "written"]

_INDENT = "    "
_MARKS = {"text": "", "thought": "thought", "call": "call", "result": "result", "file": "", "data": "data"}


def written(exported: Exported) -> Iterator[bytes]:
    """Return the transcript of a session, in pieces."""
    lines = [one_line(exported.session.key), *(f"{name}: {value}" for name, value in facts(exported)), ""]
    if exported.session.summary:
        lines += ["summary", *_indented(legible(exported.session.summary)), ""]
    yield "\n".join(lines).encode()
    for entry in entries(exported):
        yield f"\n{_entry(entry)}\n".encode()


def _entry(entry: Entry) -> str:
    name = f" ({entry.name})" if entry.name else ""
    archived = "  archived" if entry.is_archived else ""
    head = f"{entry.role}{name}  #{entry.position}  {entry.time:%Y-%m-%d %H:%M:%S}{archived}"
    return "\n".join([head, *(line for part in entry.parts for line in _part(part))])


def _part(part: Part) -> Iterator[str]:
    mark = " ".join(filter(None, (_MARKS[part.kind], part.name)))
    if mark:
        yield f"{_INDENT}[{mark}]"
    for one in part.said:
        yield from _indented(attached(one) if isinstance(one, Attachment) else one)


def _indented(text: str) -> list[str]:
    return [f"{_INDENT}{line}".rstrip() for line in text.split("\n")]


def attached(one: Attachment) -> str:
    """Return what is said of an image or a file."""
    media = one_line(one.media) or "an image or a file"
    return f"[{media}: {one_line(one.url)}]" if one.url else f"[{media}]"
