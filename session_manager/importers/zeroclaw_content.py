"""Tool turns of zeroclaw, which are JSON inside the ``content`` of a message, as messages of OpenAI's chat.

zeroclaw writes an assistant's calls as ``{"content", "tool_calls": [{"id", "name", "arguments"}], "reasoning_content"}``, and a
result as ``{"tool_call_id", "content"}`` (``build_native_assistant_history`` in its agent loop), and takes them apart again
before it calls a provider. Anything that has another field, or a field of another type, is text that somebody wrote, and stays
exactly as it is.
"""

from __future__ import annotations

from typing import Any

from session_manager.codec.json import DecodeError, decode_json
from session_manager.importers.chat import call_of

__all__ = ["message_object"]

_ASSISTANT = frozenset(("content", "tool_calls", "reasoning_content"))
_CALL = frozenset(("id", "name", "arguments", "extra_content"))
_TOOL = frozenset(("tool_call_id", "content"))


def message_object(role: str, content: str) -> dict[str, Any]:
    """Return what a provider accepts for a message of zeroclaw's."""
    plain = {"role": role, "content": content}
    if role not in ("assistant", "tool") or not content.startswith("{"):
        return plain
    try:
        value = decode_json(content.encode())
    except (DecodeError, UnicodeEncodeError):
        return plain
    if not isinstance(value, dict):
        return plain
    return (_calling(value) if role == "assistant" else _result(value)) or plain


def _calling(value: dict[str, Any]) -> dict[str, Any] | None:
    calls = value.get("tool_calls")
    if not value.keys() <= _ASSISTANT or not isinstance(calls, list) or not calls:
        return None
    if not all(isinstance(value.get(name), str | None) for name in ("content", "reasoning_content")):
        return None
    made = [_call(one) for one in calls]
    if None in made:
        return None
    return {**value, "role": "assistant", "content": value.get("content"), "tool_calls": made}


def _call(call: Any) -> dict[str, Any] | None:
    """Return a call; as it is, if it has OpenAI's form already."""
    if not isinstance(call, dict) or not isinstance(call.get("id"), str):
        return None
    function = call.get("function")
    if isinstance(function, dict):
        return call if isinstance(function.get("name"), str) and isinstance(function.get("arguments"), str) else None
    name, arguments = call.get("name"), call.get("arguments")
    if not call.keys() <= _CALL or not isinstance(name, str) or not isinstance(arguments, str):
        return None
    extra = {name: one for name, one in call.items() if name == "extra_content"}
    return call_of(call["id"], name, arguments, **extra)


def _result(value: dict[str, Any]) -> dict[str, Any] | None:
    if value.keys() != _TOOL or not all(isinstance(one, str) for one in value.values()):
        return None
    return {"role": "tool", **value}
