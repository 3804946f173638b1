"""OpenAI Agents SDK's SQLite: sessions in ``agent_sessions``, and their items in ``agent_messages``, as JSON.

The source is ``agents/memory/sqlite_session.py`` of openai/openai-agents-python. Items of every type come along exactly: what is
neither a message nor has a type becomes an `Item`. Times are those of SQLite's clock, in UTC, to the second.

Tables of ``AdvancedSQLiteSession`` say on which branch an item is. The branch ``main`` is the session. Each other branch is a
session of its own: ``ID:BRANCH``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timezone, tzinfo
from typing import Any

import attrs

from session_manager.errors import StorageError
from session_manager.importers.draft import Draft
from session_manager.importers.reading import Flaw, ImportedSession, SourceDatabase, SourceFile, object_in
from session_manager.importers.times import time_of
from session_manager.model.json_value import JsonObject

__all__ = ["read"]

_COLUMNS = frozenset(("id", "session_id", "message_data"))
_STRUCTURE = frozenset(("session_id", "message_id", "branch_id", "sequence_number"))
_ALL = "SELECT * FROM agent_messages WHERE session_id = ? ORDER BY id"
_BRANCH = (
    "SELECT m.* FROM agent_messages m JOIN message_structure s ON s.message_id = m.id "
    "WHERE s.session_id = ? AND s.branch_id = ? ORDER BY s.sequence_number"
)
#: Sessions of which only messages are left.
_ORPHANS = "SELECT session_id FROM agent_messages EXCEPT SELECT session_id FROM agent_sessions"
_OUTSIDE = (
    "SELECT count(*) AS count FROM agent_messages WHERE session_id = ? AND id NOT IN "
    "(SELECT message_id FROM message_structure WHERE message_id IS NOT NULL)"
)
_MAIN = "main"


@attrs.frozen
class _Row:
    id: int
    message_data: str
    rest: JsonObject
    created_at: Any = None


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - times are in UTC
    """Read the sessions of a database."""
    database = file.database()
    if not set(database.columns("agent_messages")) >= _COLUMNS or "session_id" not in database.columns(
        "agent_sessions"
    ):
        yield Flaw(reason="its tables are not those of the OpenAI Agents SDK")
        return
    has_branches = set(database.columns("message_structure")) >= _STRUCTURE
    for row in itertools.chain(database.rows("SELECT * FROM agent_sessions ORDER BY rowid"), database.rows(_ORPHANS)):
        key = row["session_id"]
        if not isinstance(key, str):
            yield Flaw(reason="session_id: is not text")
            continue
        try:
            branches = _branches(database, key) if has_branches else []
            for branch in branches or [None]:
                yield from _session(file, database, dict(row), branch)
            if branches and (count := next(iter(database.rows(_OUTSIDE, (key,))))["count"]):
                yield Flaw(reason=f"messages that are in no branch: {count:,}", key=key)
        except StorageError as error:
            yield Flaw(reason=error.reason, key=key)


def _branches(database: SourceDatabase, key: str) -> list[str | None]:
    rows = database.rows("SELECT DISTINCT branch_id FROM message_structure WHERE session_id = ?", (key,))
    names = {row["branch_id"] for row in rows if isinstance(row["branch_id"], str)}
    return sorted(names, key=lambda name: (name != _MAIN, name))


def _session(
    file: SourceFile, database: SourceDatabase, about: dict[str, Any], branch: str | None
) -> Iterator[ImportedSession | Flaw]:
    key = about["session_id"]
    is_other = branch is not None and branch != _MAIN
    draft = Draft(key=f"{key}:{branch}" if is_other else key, last=file.modified)
    created = draft.told(lambda: time_of(about.get("created_at"), "created_at", timezone.utc))
    updated = draft.told(lambda: time_of(about.get("updated_at"), "updated_at", timezone.utc))
    draft.last = created or draft.last
    rows = database.rows(_ALL, (key,)) if branch is None else database.rows(_BRANCH, (key, branch))
    for row in rows:
        _add(draft, dict(row))
    told = ("session_id", "created_at", "updated_at")
    metadata = {name: value for name, value in about.items() if name not in told and value is not None}
    if is_other:
        metadata |= {"branch_of": key, "branch": branch}
    yield from draft.finished(metadata=metadata, created=created, updated=updated)


def _add(draft: Draft, value: dict[str, Any]) -> None:
    row = draft.record(value, _Row, value["id"])
    if row is None:
        return
    at = draft.told(lambda: time_of(row.created_at, "created_at", timezone.utc), row.id)
    item = object_in(row.message_data.encode(errors="surrogatepass"), row.id)
    if isinstance(item, Flaw):
        draft.flaw(item.reason, row.id)
    elif _is_message(item):
        draft.add(item, line=row.id, at=at)
    else:
        draft.add_item(item, line=row.id, at=at)


def _is_message(item: dict[str, Any]) -> bool:
    """Say whether an object is a message or an item of a provider's."""
    role = item.get("role")
    return (
        bool(role) and isinstance(role, str)
        if "role" in item
        else bool(item.get("type")) and isinstance(item["type"], str)
    )
