"""picoclaw's sessions of one file: a JSON object with ``key``, ``messages``, ``summary``, ``created`` and ``updated``.

``pkg/session/manager.go`` (github.com/sipeed/picoclaw) writes them with Go's ``json.MarshalIndent``. The key is in the file; its name
has ``_`` for ``:``, and does not count. A time has nanoseconds and an offset; Go's zero time means that it is unknown, and then the
other one counts, or that of the file. ``messages`` may be null.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import attrs

from session_manager.errors import InvalidDataError
from session_manager.importers.picoclaw import Found, messages_of, time_or_flaw
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, object_in, reason_of, record_of
from session_manager.model.json_value import JsonObject

__all__ = ["read"]


@attrs.frozen
class _Session:
    key: str
    rest: JsonObject
    messages: list[Any] | None = None
    summary: str | None = None
    created: str | None = None
    updated: str | None = None


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - Go names it
    """Read the session of a file."""
    value = object_in(file.whole())
    if isinstance(value, Flaw):
        yield value
        return
    try:
        session, reasons = record_of(value, _Session)
    except InvalidDataError as error:
        yield Flaw(reason=reason_of(error))
        return
    if not session.key:
        yield Flaw(reason="key: is empty")
        return
    created = time_or_flaw(session.created, "created", reasons.append)
    updated = time_or_flaw(session.updated, "updated", reasons.append) or created or file.modified
    found, flaws = messages_of(
        [Found(one, f"messages[{index}]") for index, one in enumerate(session.messages or ())], session.key, updated
    )
    yield from (Flaw(reason=reason, key=session.key) for reason in reasons)
    yield from flaws
    yield ImportedSession(
        key=session.key,
        messages=[message for _, message in found],
        summary=session.summary or "",
        metadata=session.rest,
        created=created or updated,
        updated=updated,
    )
