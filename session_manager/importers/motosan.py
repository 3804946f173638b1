"""motosan-agent-loop's JSONL: a line about the session, or none, and a line for each message.

The source is ``FileSessionStore`` of the crate, at https://docs.rs/motosan-agent-loop: ``session_store.rs`` of 0.7, and
``session/store.rs``, ``session/entry.rs`` and ``message/meta.rs`` of 0.19 and later.

* Messages are OpenAI's, but for their roles, which some versions write ``User`` and others ``user``, and their calls, which are
  ``{"id", "name", "args"}``. Early versions keep no arguments; a call has ``{}`` then.
* Later files write ``{"type": "message", …}``, with the time in ``meta``, which becomes metadata. ``{"type": "custom", …}`` is
  an application's own, which motosan sends to no model: it becomes an item.
* The session is named by the first line, else by the file. ``message_count`` may be stale, and is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any

import attrs

from session_manager.importers.chat import call_of
from session_manager.importers.draft import Draft
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, objects_in
from session_manager.importers.times import milliseconds
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject

__all__ = ["read"]

#: What a call is named among the parts of an answer.
_CALLS = ("tool_call", "tool_use")


@attrs.frozen
class _Header:
    session_id: str
    rest: JsonObject
    created_at_ms: Any = None
    message_count: Any = None


@attrs.frozen
class _Line:
    role: str
    rest: JsonObject
    type: str | None = None
    tool_calls: list[JsonObject] | None = None
    meta: JsonObject | None = None


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - times are in UTC
    """Read the session of a file."""
    draft = Draft(key=file.stem, last=file.modified)
    created: datetime | None = None
    metadata: JsonObject | None = None
    for number, found in objects_in(file):
        if isinstance(found, Flaw):
            draft.flaw(found.reason, number)
        elif "session_id" in found and "role" not in found and metadata is None and not draft.messages:
            header = draft.record(found, _Header, number)
            if header is not None:
                draft.key, metadata = header.session_id, header.rest
                created = draft.told(lambda told=header.created_at_ms: milliseconds(told, "created_at_ms"), number)  # type: ignore[misc]
                draft.last = created or draft.last
        else:
            _add(draft, found, number)
    yield from draft.finished(metadata=metadata and {"motosan": metadata}, created=created)


def _add(draft: Draft, value: dict[str, Any], number: int) -> None:
    if value.get("type") == "custom":
        draft.add_item(value, line=number)
        return
    line = draft.record(value, _Line, number)
    if line is None:
        return
    at = draft.told(
        lambda: milliseconds((line.meta or EMPTY_OBJECT).get("created_at_ms"), "meta.created_at_ms"), number
    )
    content, calls = _parts(line)
    made = {"role": line.role.lower(), **line.rest}
    if "content" in made:
        made["content"] = content
    if calls:
        made["tool_calls"] = calls
    if line.type not in (None, "message"):
        made["type"] = line.type
    draft.add(made, line=number, at=at, metadata=line.meta)


def _parts(line: _Line) -> tuple[Any, list[dict[str, Any]]]:
    """Return the content of a message without its calls, and its calls."""
    content = line.rest.get("content")
    calls = [*(line.tool_calls or ())]
    if isinstance(content, list) and line.role.lower() == "assistant":
        inner = [one for one in content if _is_call(one)]
        calls += inner
        content = [one for one in content if not _is_call(one)] or None if inner else content
    return content, [_call(one) for one in calls]


def _is_call(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _CALLS and isinstance(part.get("id"), str)


def _call(call: Any) -> dict[str, Any]:
    """Return a call in OpenAI's form; as it is, if it has another form than motosan's."""
    name = call.get("name")
    if not isinstance(call.get("id"), str) or not isinstance(name, str):
        return dict(call)
    arguments = next((call[one] for one in ("args", "input", "arguments") if one in call), None)
    told = ("type", "id", "name", "args", "input", "arguments")
    return call_of(call["id"], name, arguments, **{name: one for name, one in call.items() if name not in told})
