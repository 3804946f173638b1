"""LangChain's ``FileChatMessageHistory``: a JSON array of ``{"type", "data"}``, as ``messages_to_dict`` makes them.

The sources are ``langchain_community/chat_message_histories/file.py``, and ``langchain_core/messages``. Messages get the form of
OpenAI's chat; whatever that has no place for is metadata of the message, by LangChain's own names. What is no message, such as a
``remove``, becomes an item. The session is named after the file; there are no times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import attrs

from session_manager.importers.chat import call_of
from session_manager.importers.draft import Draft
from session_manager.importers.elements import objects_of
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject

__all__ = ["read"]

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "function"}
#: Messages that say their role themselves.
_ANY = ("chat", "generic")
#: Blocks of an answer that are the calls which its ``tool_calls`` has as well.
_CALLS = ("tool_use", "tool_call", "function_call", "input_json_delta")


@attrs.frozen
class _Stored:
    type: str
    data: JsonObject


@attrs.frozen
class _Data:
    """What a message says; all but the content may be missing."""

    content: Any
    rest: JsonObject
    type: Any = None
    role: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[JsonObject] = attrs.field(factory=list)
    invalid_tool_calls: list[JsonObject] = attrs.field(factory=list)
    additional_kwargs: JsonObject = EMPTY_OBJECT


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - it has no times
    """Read the session of a file."""
    draft = Draft(key=file.stem, last=file.modified)
    for _, line, found in objects_of(file):
        if isinstance(found, Flaw):
            draft.flaw(found.reason, line)
        else:
            _add(draft, found, line)
    yield from draft.finished(updated=file.modified)


def _add(draft: Draft, value: dict[str, Any], line: int | None) -> None:
    stored = draft.record(value, _Stored, line)
    if stored is None:
        return
    kind = stored.type.removesuffix("MessageChunk").lower()
    if kind not in _ROLES and kind not in _ANY:
        draft.add_item(value, line=line)
        return
    data = draft.record(stored.data, _Data, line, "data")
    if data is not None:
        role = _ROLES.get(kind) or data.role or ""
        made, metadata = _message(role, data)
        draft.add(made, "data", line=line, metadata=metadata)


def _message(role: str, data: _Data) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the message that a provider takes, and the rest."""
    made: dict[str, Any] = {"role": role, "content": data.content}
    rest = dict(data.rest)
    kwargs = dict(data.additional_kwargs)
    if data.name is not None:
        (rest if role == "tool" else made)["name"] = data.name
    if data.tool_call_id is not None:
        (made if role == "tool" else rest)["tool_call_id"] = data.tool_call_id
    calls = [_call(one) for one in (*data.tool_calls, *data.invalid_tool_calls)]
    if calls:
        made["tool_calls"] = calls
        if any("error" in one for one in data.invalid_tool_calls):
            rest["invalid_tool_calls"] = data.invalid_tool_calls
        content = _without_calls(data.content)
        if content is not data.content:
            made["content"], rest["content"] = content, data.content
    elif role == "assistant":
        made |= {name: kwargs.pop(name) for name in ("tool_calls", "function_call") if kwargs.get(name)}
    rest["additional_kwargs"] = kwargs
    return made, {name: value for name, value in rest.items() if value not in (None, {}, [])}


def _call(call: JsonObject) -> dict[str, Any]:
    return call_of(str(call.get("id") or ""), str(call.get("name") or ""), call.get("args"))


def _without_calls(content: Any) -> Any:
    """Return a content without the blocks that are calls; as it is, if it has none."""
    if not isinstance(content, list) or not any(_is_call(one) for one in content):
        return content
    return [one for one in content if not _is_call(one)] or None


def _is_call(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") in _CALLS
