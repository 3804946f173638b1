"""Messages of OpenAI's chat, made of the calls and results that other programs have in forms of their own."""

from __future__ import annotations

from typing import Any

from session_manager.codec.json import encode_json

__all__ = ["call_of", "json_text"]


def call_of(id: str, name: str, arguments: Any, **extra: Any) -> dict[str, Any]:
    """Return a call of a function.

    :param arguments: a text as it is; anything else as JSON. Without any, the arguments are an empty object.
    :param extra: further fields of the call.
    """
    text = "{}" if arguments is None else json_text(arguments)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}, **extra}


def json_text(value: Any) -> str:
    """Return a text as it is, and any other JSON value as its JSON."""
    return value if isinstance(value, str) else encode_json(value).decode()
