"""The format ``json``: all of a session in one document, a message a line.

`session_manager.codec.exported` describes it. Several sessions are a JSON array of such documents.
`session_manager.importers` read it back without a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from session_manager.codec.exported import Exported, document

__all__ = ["documents", "written"]


def written(exported: Exported) -> Iterator[bytes]:
    """Return the document of a session, in pieces."""
    yield from document(exported)
    yield b"\n"


def documents(sessions: Iterable[Exported]) -> Iterator[bytes]:
    """Return the array of the documents of sessions, in pieces."""
    between = b"[\n"
    for one in sessions:
        yield between
        yield from document(one)
        between = b",\n"
    yield b"[]\n" if between == b"[\n" else b"\n]\n"
