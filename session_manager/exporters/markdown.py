"""The format ``md``: a transcript in Markdown.

Each message has a heading, and what it says is a quotation, which is shown as Markdown. Calls, results and thoughts are blocks of code.
"""

from __future__ import annotations

from collections.abc import Iterator

from session_manager.codec.exported import Exported
from session_manager.exporters.entries import Entry, Part, entries, facts, legible, one_line
from session_manager.exporters.plain_text import attached
from session_manager.exporters.quoting import code_span, escaped, fenced, quoted
from session_manager.history.attachments import Attachment

__all__ = ["written"]

_TITLES = {"call": "Call", "result": "Result", "thought": "Thought", "data": "Data"}


def written(exported: Exported) -> Iterator[bytes]:
    """Return the transcript of a session, in pieces."""
    lines = [f"# {escaped(one_line(exported.session.key))}", ""]
    lines += [f"* {escaped(name)}: {escaped(value)}" for name, value in facts(exported)]
    if exported.session.summary:
        lines += ["", "## Summary", "", quoted(legible(exported.session.summary))]
    yield ("\n".join(lines) + "\n").encode()
    for entry in entries(exported):
        yield f"\n{_entry(entry)}\n".encode()


def _entry(entry: Entry) -> str:
    name = f" ({escaped(entry.name)})" if entry.name else ""
    archived = " · archived" if entry.is_archived else ""
    head = f"## {escaped(entry.role)}{name} · #{entry.position} · {entry.time:%Y-%m-%d %H:%M:%S}{archived}"
    return "\n\n".join([head, *(block for part in entry.parts for block in _blocks(part, entry.role))])


def _blocks(part: Part, role: str) -> Iterator[str]:
    if part.kind in _TITLES:
        yield f"**{_TITLES[part.kind]}**" + (f" {code_span(part.name)}" if part.name else "")
    for one in part.said:
        if isinstance(one, Attachment):
            yield quoted(escaped(attached(one)))
        elif part.kind == "text":
            yield quoted(one, keeps_lines=role == "user")
        else:
            yield fenced(one, "json" if part.kind in ("call", "data") and one[:1] in "{[" else "")
