"""A snapshot that was edited by hand: JSON in any layout, whose checksums do not count."""

from __future__ import annotations

from typing import Any

import msgspec

from session_manager.codec.json import DecodeError, decode_json
from session_manager.codec.lines import Line, checked_messages
from session_manager.codec.state import State, check_state, session_of
from session_manager.errors import UnsupportedFormatError, raise_alone
from session_manager.model.session import Session
from session_manager.model.view import View
from session_manager.stores.snapshot.format import FORMAT

__all__ = ["read_edited"]


def read_edited(data: bytes, path: str) -> Session:
    """Return the session in a file. How many messages there are, and where they begin, goes by the messages themselves.

    :param path: the file, for the error.
    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if it is no session.
    """
    value = decode_json(data)
    if not isinstance(value, dict) or not isinstance(value.get("format"), str):
        raise DecodeError(0, "is not a session's snapshot")
    if value["format"] != FORMAT:
        raise UnsupportedFormatError(path, value["format"][:80], FORMAT)
    lines = _converted(value.pop("messages", None), list[Line], "messages")
    try:
        messages = checked_messages(lines)
    except DecodeError as error:
        raise_alone(DecodeError(0, f"messages[{error.offset}]: {error.reason}"))
    last = messages[-1].position if messages else -1
    assert last is not None
    end = max(_converted(value.get("end"), int, "end"), last + 1)
    value |= {"count": len(messages), "end": end, "start": messages[0].position if messages else end}
    state: State = _converted(value, State, "the header")
    check_state(state)
    return session_of(state, View(messages))


def _converted(value: Any, kind: Any, name: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, ValueError):
        raise_alone(DecodeError(0, f"{name} is not what belongs here"))
