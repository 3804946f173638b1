"""zeroclaw's JSONL: a file for each session, with one ``{"role", "content"}`` on each line.

The source is ``crates/zeroclaw-infra/src/session_store.rs`` of zeroclaw-labs/zeroclaw. The file is named after the key, in
which zeroclaw has replaced characters. The key cannot be had back, so the session's key is the file's name. There are no times:
the messages get that of the file. ``NAME.trim_breadcrumb`` beside it tells whether the first message is a note that older ones
were trimmed; that becomes metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

import attrs

from session_manager.importers.draft import Draft
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, objects_in
from session_manager.importers.zeroclaw_content import message_object
from session_manager.model.json_value import JsonObject

__all__ = ["read"]


@attrs.frozen
class _Line:
    role: str
    content: str
    rest: JsonObject


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - it has no times
    """Read the session of a file."""
    draft = Draft(key=file.stem, last=file.modified)
    for number, found in objects_in(file):
        if isinstance(found, Flaw):
            draft.flaw(found.reason, number)
            continue
        line = draft.record(found, _Line, number)
        if line is not None:
            draft.add({**message_object(line.role, line.content), **line.rest}, line=number)
    trimmed = file.beside(f"{file.stem}.trim_breadcrumb")
    metadata = {} if trimmed is None else {"zeroclaw": {"trim_breadcrumb": trimmed[:1] == b"1"}}
    yield from draft.finished(metadata=metadata, updated=file.modified)
