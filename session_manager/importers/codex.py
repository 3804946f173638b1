"""Codex's rollouts: a JSONL file for each thread, ``rollout-TIME-ID.jsonl``, with ``{"timestamp", "type", "payload"}`` on each line.

The source is ``RolloutItem`` in ``codex-rs/protocol/src/protocol.rs`` of openai/codex, and the lines before it had a ``payload``.

* ``response_item`` is an item of OpenAI Responses: it comes along exactly.
* ``compacted`` replaces the history. Messages before it go to the archive. What replaces them is the history, or the summary.
* Turns that were taken back (``thread_rolled_back``) are a session of their own, with all that was before them: ``ID:LINE``.
* ``session_meta`` and the last ``turn_context`` become metadata. Events that repeat items, or count tokens, are left out. Any
  other event becomes an item.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any

import attrs

from session_manager.importers.draft import Draft
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, objects_in
from session_manager.importers.times import time_of
from session_manager.model.json_value import JsonObject
from session_manager.model.message import Message

__all__ = ["read"]

#: Events that say what items say as well, or tell of progress.
_REPEATED = (
    "user_message",
    "agent_message",
    "agent_reasoning",
    "agent_reasoning_raw_content",
    "token_count",
    "task_started",
    "task_complete",
    "turn_started",
    "turn_complete",
    "item_started",
    "item_completed",
    "exec_command_begin",
    "exec_command_end",
    "mcp_tool_call_begin",
    "mcp_tool_call_end",
    "patch_apply_begin",
    "patch_apply_end",
    "web_search_begin",
    "web_search_end",
    "view_image_tool_call",
    "dynamic_tool_call_request",
)
#: Items that are not sent to OpenAI.
_UNSENT = ("ghost_snapshot",)


@attrs.frozen
class _Line:
    payload: JsonObject
    type: str
    rest: JsonObject
    timestamp: Any = None


@attrs.frozen
class _Compacted:
    rest: JsonObject
    message: str = ""
    replacement_history: list[Any] | None = None


@attrs.define
class _Rollout:
    """A file while it is read."""

    draft: Draft
    zone: tzinfo | None
    metadata: dict[str, Any] = attrs.field(factory=dict)
    created: datetime | None = None
    has_meta: bool = False
    summary: str = ""
    archived: int = 0
    #: Where the user's turns begin.
    turns: list[int] = attrs.field(factory=list)
    #: Turns that were taken back, each with all before them: the line that says so, the messages, how many of them are archived
    #: and the summary of those.
    taken_back: list[tuple[int, list[Message], int, str]] = attrs.field(factory=list)


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:
    """Read the thread of a file, and the turns that were taken back."""
    rollout = _Rollout(Draft(key=file.stem, last=file.modified), zone)
    for number, found in objects_in(file):
        if isinstance(found, Flaw):
            rollout.draft.flaw(found.reason, number)
        elif "payload" in found:
            _take(rollout, found, number)
        else:
            _take_early(rollout, found, number)
    draft = rollout.draft
    yield from draft.finished(
        metadata=rollout.metadata, summary=rollout.summary, archived=rollout.archived, created=rollout.created
    )
    for number, messages, archived, summary in rollout.taken_back:
        about = {**rollout.metadata, "branch_of": draft.key, "branch": str(number)}
        other = Draft(key=f"{draft.key}:{number}", last=draft.last, messages=messages)
        yield from other.finished(
            metadata=about, summary=summary, archived=archived, created=rollout.created, line=number
        )


def _take(rollout: _Rollout, value: dict[str, Any], number: int) -> None:
    draft = rollout.draft
    line = draft.record(value, _Line, number)
    if line is None:
        return
    at = draft.told(lambda: time_of(line.timestamp, "timestamp", rollout.zone), number)
    if line.type == "session_meta" and not rollout.has_meta:
        _take_meta(rollout, line.payload, number)
    elif line.type == "response_item":
        _add(draft, line.payload, number, at)
    elif line.type == "compacted":
        _compact(rollout, line.payload, number, at)
    elif line.type == "turn_context":
        rollout.metadata["turn_context"] = line.payload
    elif line.type == "event_msg" and line.payload.get("type") == "thread_rolled_back":
        _take_back(rollout, line.payload, number)
    elif line.type == "event_msg" and line.payload.get("type") in _REPEATED:
        if line.payload["type"] == "user_message":
            _begin_turn(rollout)
    else:
        draft.add_item(value, line=number, at=at)


def _take_early(rollout: _Rollout, value: dict[str, Any], number: int) -> None:
    """Take a line of an early version, which has the item itself, and no time."""
    if "type" not in value and "id" in value and "timestamp" in value and not rollout.has_meta:
        _take_meta(rollout, value, number)
    elif "record_type" not in value:
        if value.get("type") == "message" and value.get("role") == "user":
            rollout.turns.append(len(rollout.draft.messages))
        _add(rollout.draft, value, number, None)


def _take_meta(rollout: _Rollout, payload: dict[str, Any], number: int) -> None:
    rollout.has_meta = True
    name = payload.get("id")
    if isinstance(name, str) and name:
        rollout.draft.key = name
    rollout.created = rollout.draft.told(lambda: time_of(payload.get("timestamp"), "timestamp", rollout.zone), number)
    rollout.draft.last = rollout.created or rollout.draft.last
    told = ("id", "timestamp")
    rollout.metadata |= {field: one for field, one in payload.items() if field not in told and one is not None}


def _add(draft: Draft, item: dict[str, Any], number: int, at: datetime | None) -> None:
    if item.get("type") in _UNSENT:
        draft.add_item(item, line=number, at=at)
    else:
        draft.add(item, "payload", line=number, at=at)


def _begin_turn(rollout: _Rollout) -> None:
    """Note that the last message of the user begins a turn; those before it may be Codex's own."""
    messages = rollout.draft.messages
    found = next((index for index in range(len(messages) - 1, -1, -1) if messages[index].role == "user"), None)
    if found is not None and found not in rollout.turns:
        rollout.turns.append(found)


def _compact(rollout: _Rollout, payload: JsonObject, number: int, at: datetime | None) -> None:
    compacted = rollout.draft.record(payload, _Compacted, number, "payload")
    if compacted is None:
        return
    rollout.archived = len(rollout.draft.messages)
    rollout.turns.clear()
    rollout.summary = "" if compacted.replacement_history else compacted.message
    for index, item in enumerate(compacted.replacement_history or ()):
        if isinstance(item, dict):
            _add(rollout.draft, item, number, at)
        else:
            rollout.draft.flaw(f"payload.replacement_history[{index}]: is no object", number)


def _take_back(rollout: _Rollout, payload: JsonObject, number: int) -> None:
    count = payload.get("num_turns")
    if type(count) is not int or count < 1 or not rollout.turns:
        rollout.draft.flaw("payload.num_turns: which turns were taken back cannot be told; they stay", number)
        return
    start = rollout.turns[-count:][0]
    del rollout.turns[-count:]
    rollout.taken_back.append((number, list(rollout.draft.messages), rollout.archived, rollout.summary))
    del rollout.draft.messages[start:]
