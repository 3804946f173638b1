"""ShareGPT's JSON and JSONL: objects with ``conversations``, a list of ``{"from", "value"}``, as data sets for fine-tuning have them.

There is no specification. The names are those that LLaMA-Factory (``src/llamafactory/data/converter.py``), Axolotl and FastChat read:

* ``human`` and ``user``; ``gpt``, ``assistant``, ``model`` and names of assistants; ``system``, also as a field beside the list.
* ``function_call``: the value is JSON, ``{"name", "arguments"}`` or a list of them. ``observation``, ``tool`` and the like: what
  came back. Neither has an id, so calls are numbered, and a result belongs to the first call that has none yet. A list of as many
  values as there are calls is the results of all of them. A result without a call is the user's message.

Some data sets have ``role`` and ``content`` in the list instead. Other fields become metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import attrs

from session_manager.codec.json import DecodeError, decode_json
from session_manager.importers.chat import call_of, json_text
from session_manager.importers.draft import Draft
from session_manager.importers.elements import objects_of
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile
from session_manager.model.json_value import JsonObject

__all__ = ["read"]

_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "model", "bing", "bard", "claude", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_CALLS = ("function_call", "function-call", "tool_call")
_RESULTS = ("observation", "tool", "function", "function_response", "tool_response", "tool_result")


@attrs.frozen
class _Conversation:
    conversations: list[Any]
    rest: JsonObject
    id: Any = None
    system: str | None = None


@attrs.frozen
class _Turn:
    rest: JsonObject
    value: Any = None
    role: str | None = None
    content: Any = None

    @property
    def sender(self) -> str:
        """Who says it; ``from`` is no name that Python allows."""
        told = self.rest.get("from", self.role)
        return told if isinstance(told, str) else ""


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - it has no times
    """Read the conversations of a file."""
    for key, line, found in objects_of(file):
        if isinstance(found, Flaw):
            yield found
        else:
            yield from _session(file, key, line, found)


def _session(file: SourceFile, key: str, line: int | None, value: dict[str, Any]) -> Iterator[ImportedSession | Flaw]:
    draft = Draft(key=key, last=file.modified)
    conversation = draft.record(value, _Conversation, line)
    if conversation is None:
        yield from draft.flaws
        return
    name = conversation.id
    if isinstance(name, str) and name:
        draft.key = name if key == file.stem else f"{file.stem}:{name}"
    if conversation.system:
        draft.add({"role": "system", "content": conversation.system}, "system", line=line)
    pending: list[str] = []
    for index, one in enumerate(conversation.conversations):
        path = f"conversations[{index}]"
        turn = draft.record(one, _Turn, line, path)
        if turn is not None:
            _add(draft, turn, path, line, pending)
    metadata = dict(conversation.rest)
    if name is not None:
        metadata["id"] = name
    yield from draft.finished(metadata=metadata, updated=file.modified, line=line)


def _add(draft: Draft, turn: _Turn, path: str, line: int | None, pending: list[str]) -> None:
    """Add a turn.

    :param pending: the ids of calls that have no result yet; changed.
    """
    sender = turn.sender
    text = turn.value if turn.value is not None else turn.content
    metadata = {name: value for name, value in turn.rest.items() if name != "from"}
    calls = _calls_in(text, len(draft.messages)) if sender in _CALLS else None
    if calls:
        pending[:] = [one["id"] for one in calls]
        draft.add({"role": "assistant", "content": None, "tool_calls": calls}, path, line=line, metadata=metadata)
    elif sender in _RESULTS and pending:
        for call, result in _results_in(text, pending):
            draft.add({"role": "tool", "tool_call_id": call, "content": result}, path, line=line, metadata=metadata)
    else:
        role = _ROLES.get(sender.lower())
        if role is None:
            role = "assistant" if sender in _CALLS else "user" if sender in _RESULTS else sender
            metadata["from"] = sender
        pending.clear()
        draft.add({"role": role, "content": text}, path, line=line, metadata=metadata)


def _calls_in(text: Any, number: int) -> list[dict[str, Any]] | None:
    """Return the calls that a value has; `None` if it has none."""
    value = _decoded(text)
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in found):
        return None
    return [call_of(f"call_{number}_{index}", one["name"], one.get("arguments")) for index, one in enumerate(found)]


def _results_in(text: Any, pending: list[str]) -> list[tuple[str, Any]]:
    """Return the results that a value has, and the calls that they answer, which are pending no longer."""
    value = _decoded(text) if len(pending) > 1 else None
    if isinstance(value, list) and len(value) == len(pending):
        found = list(zip(pending, map(json_text, value), strict=True))
        pending.clear()
        return found
    return [(pending.pop(0), text)]


def _decoded(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return decode_json(text.encode(errors="surrogatepass"))
    except DecodeError:
        return None
