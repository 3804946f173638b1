"""zeroclaw's ``sessions.db``: the messages of all sessions in one table, and what is known of each session in another one.

The source is ``crates/zeroclaw-infra/src/session_sqlite.rs`` of zeroclaw-labs/zeroclaw, whose later versions add columns
(``name``; ``state``, ``turn_id``, ``turn_started_at``; ``agent_alias``; ``channel_id``, ``room_id``, ``sender_id``; a tree by
``msg_id``, ``parent_id`` and ``active_leaf``). A database of any version is read. Of a tree, the branch that ends in
``active_leaf`` is the session. Each other branch is a session of its own: ``KEY:ID``, by the id of its last message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timezone, tzinfo
from typing import Any

import attrs

from session_manager.errors import StorageError
from session_manager.importers.branches import branches_of
from session_manager.importers.draft import Draft
from session_manager.importers.reading import Flaw, ImportedSession, SourceDatabase, SourceFile
from session_manager.importers.times import time_of
from session_manager.importers.zeroclaw_content import message_object
from session_manager.model.json_value import JsonObject

__all__ = ["read"]

#: The columns of a session that its own fields have.
_TOLD = ("session_key", "created_at", "last_activity", "message_count")
_KEYS = (
    "SELECT session_key FROM session_metadata "
    "UNION SELECT session_key FROM sessions WHERE session_key NOT IN (SELECT session_key FROM session_metadata)"
)


@attrs.frozen
class _Row:
    """A row of ``sessions``: a message."""

    id: int
    role: str
    content: str
    rest: JsonObject
    created_at: Any = None
    msg_id: str | None = None
    parent_id: str | None = None
    session_key: Any = None


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - times are in UTC
    """Read the sessions of a database."""
    database = file.database()
    for table, wanted in (
        ("sessions", {"id", "session_key", "role", "content"}),
        ("session_metadata", {"session_key"}),
    ):
        if not wanted <= set(database.columns(table)):
            yield Flaw(reason=f"the table {table} is not zeroclaw's")
            return
    for row in database.rows(_KEYS):
        key = row["session_key"]
        if not isinstance(key, str):
            yield Flaw(reason="session_key: is not text")
            continue
        try:
            yield from _session(file, database, key)
        except StorageError as error:
            yield Flaw(reason=error.reason, key=key)


def _session(file: SourceFile, database: SourceDatabase, key: str) -> Iterator[ImportedSession | Flaw]:
    """Read the branches of a session; most have one."""
    about = next(iter(database.rows("SELECT * FROM session_metadata WHERE session_key = ?", (key,))), {})
    draft = Draft(key=key, last=file.modified)
    created = draft.told(lambda: time_of(about.get("created_at"), "created_at", timezone.utc))
    updated = draft.told(lambda: time_of(about.get("last_activity"), "last_activity", timezone.utc))
    rows = []
    for row in database.rows("SELECT * FROM sessions WHERE session_key = ? ORDER BY id", (key,)):
        message = draft.record(row, _Row, row["id"] if isinstance(row["id"], int) else None)
        if message is not None:
            rows.append(message)
    metadata = _metadata(about)
    ways = _ways(rows, about.get("active_leaf"))
    yield from draft.flaws
    for name, way in ways:
        one = Draft(key=f"{key}:{name}" if name else key, last=created or file.modified)
        for found in way:
            _add(one, found)
        branch = {"branch_of": key, "branch": name} if name else {}
        yield from one.finished(metadata={**metadata, **branch}, created=created, updated=None if name else updated)


def _ways(rows: list[_Row], active: Any) -> list[tuple[str, list[_Row]]]:
    """Return the branches and their names; the name of the current one is empty."""
    parents = {row.msg_id: row.parent_id for row in rows if row.msg_id}
    if not parents or not isinstance(active, str):
        return [("", rows)]
    found = []
    for index, branch in enumerate(branches_of(parents, active)):
        ids = set(branch.ids)
        found.append((branch.leaf if index else "", [row for row in rows if not row.msg_id or row.msg_id in ids]))
    return found


def _add(draft: Draft, row: _Row) -> None:
    at = draft.told(lambda: time_of(row.created_at, "created_at", timezone.utc), row.id)
    told = {"msg_id": row.msg_id, "parent_id": row.parent_id, **row.rest}
    kept = {name: value for name, value in told.items() if value is not None}
    draft.add(message_object(row.role, row.content), line=row.id, at=at, metadata=kept)


def _metadata(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the database says of a session, besides its times."""
    return {name: value for name, value in about.items() if name not in _TOLD and value is not None}
