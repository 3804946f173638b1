"""nanobot's JSONL: a line of metadata, perhaps one with the provider's state, and a line for each message.

The source is ``nanobot/session/manager.py`` of HKUDS/nanobot.

* The key is in the first line; in older files, it is the file's name, in base64url or with ``_`` for the first ``:``.
* Times are local and name no zone.
* Messages before ``last_archived`` (formerly ``last_consolidated``) are no longer sent to a model: they go to the archive.
  ``_last_summary`` of the metadata is the summary of them.
* ``role``, ``content``, ``tool_calls``, ``tool_call_id``, ``name``, ``reasoning_content`` and ``thinking_blocks`` are what
  nanobot sends. Whatever else a message has is its metadata.
* Messages of commands (``_command``) are never sent. Each becomes an item.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import attrs

from session_manager.importers.draft import Draft
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, objects_in
from session_manager.importers.times import time_of
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject

__all__ = ["read"]

_SENT = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "thinking_blocks")


@attrs.frozen
class _Header:
    """The line of metadata."""

    rest: JsonObject = EMPTY_OBJECT
    kind: str = attrs.field(default="metadata", alias="_type")
    key: str | None = None
    metadata: JsonObject = EMPTY_OBJECT
    created_at: Any = None
    updated_at: Any = None
    last_archived: Any = None
    last_consolidated: Any = None

    @property
    def archived(self) -> int:
        """How many messages are no longer in the history, as it says."""
        told = (self.last_archived, self.last_consolidated)
        return next((one for one in told if type(one) is int), 0)


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:
    """Read the session of a file.

    :param zone: the zone of its times.
    """
    draft = Draft(key=_key_of(file.stem), last=file.modified)
    header: _Header | None = None
    state: Any = None
    skipped: list[int] = []
    for number, found in objects_in(file):
        if isinstance(found, Flaw):
            draft.flaw(found.reason, number)
            skipped.append(len(draft.messages))
        elif found.get("_type") == "metadata":
            header = draft.record(found, _Header, number) or header
            if header is not None and header.key:
                draft.key = header.key
        elif found.get("_type") == "provider_state":
            state = found.get("state")
        elif not _added(draft, found, number, zone):
            skipped.append(len(draft.messages))
    header = header or _Header()
    created = draft.told(lambda: time_of(header.created_at, "created_at", zone))
    updated = draft.told(lambda: time_of(header.updated_at, "updated_at", zone))
    archived = _left(header.archived, len(draft.messages), skipped)
    metadata, summary = _metadata(header, state)
    yield from draft.finished(metadata=metadata, summary=summary, archived=archived, created=created, updated=updated)


def _key_of(stem: str) -> str:
    """Return the key that a file is named after."""
    try:
        key = base64.b64decode(stem + "=" * (-len(stem) % 4), "-_", validate=True).decode()
        if base64.urlsafe_b64encode(key.encode()).decode().rstrip("=") == stem and key.isprintable():
            return key
    except ValueError:
        pass
    return stem.replace("_", ":", 1)


def _added(draft: Draft, value: dict[str, Any], number: int, zone: tzinfo | None) -> bool:
    """Add a message; return whether it is one."""
    at = draft.told(lambda: time_of(value.get("timestamp"), "timestamp", zone), number)
    if value.get("_command"):
        return draft.add_item(value, line=number, at=at)
    told = {name: one for name, one in value.items() if name in _SENT}
    rest = {name: one for name, one in value.items() if name not in _SENT and (name != "timestamp" or at is None)}
    return draft.add(told, line=number, at=at, metadata=rest)


def _left(archived: int, count: int, skipped: list[int]) -> int:
    """Return how many of the messages that could be read are archived.

    :param archived: how many lines are.
    :param skipped: how many messages were before each line that could not be read.
    """
    for place in skipped:
        archived -= place < archived
    return archived if 0 <= archived <= count else 0


def _metadata(header: _Header, state: Any) -> tuple[dict[str, Any], str]:
    """Return the metadata of a session, and its summary."""
    metadata = dict(header.metadata)
    last = metadata.get("_last_summary")
    summary = ""
    if isinstance(last, dict) and isinstance(last.get("text"), str):
        summary = last["text"]
        metadata["_last_summary"] = {name: one for name, one in last.items() if name != "text"}
    elif isinstance(last, str):
        summary = str(metadata.pop("_last_summary"))
    more = dict(header.rest)
    if state is not None:
        more["provider_state"] = state
    return {**metadata, **({"nanobot": more} if more else {})}, summary
