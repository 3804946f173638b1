"""Our own exports in JSON: a document for each session, one or an array of them (`session_manager.codec.exported`).

A session comes back as it was: generation, revision, positions, times, refs and archive included. An import into a storage
that has it already, or a later revision of it, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

from session_manager.codec.exported import of_document
from session_manager.importers.elements import elements
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, exact_in, object_in

__all__ = ["read"]


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - its times are UTC
    """Read the sessions of a file, one at a time."""
    for line, data in elements(file.pieces()) if file.start().startswith(b"[") else [(None, file.whole())]:
        value = object_in(data, line)
        yield value if isinstance(value, Flaw) else exact_in(value, of_document, line)
