"""Bytes in JSON values: an object with one reserved field stands for them.

* ``{"session_manager.bytes": "aGk="}`` stands for the bytes of that base64 (RFC 4648, section 4, with padding).
* ``{"session_manager.bytes": {"session_manager.bytes": value}}`` stands for the object ``{"session_manager.bytes": value}``, so
  that an object that was given in this very form comes back as it was given.

Any other object stands for itself.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from session_manager.errors import InvalidMessageError
from session_manager.model.json_value import MAX_LEVELS

__all__ = ["BYTES", "is_packed_bytes", "pack_bytes", "pack_shown", "unpack_bytes"]

#: The field that stands for bytes.
BYTES: Final = "session_manager.bytes"


def pack_bytes(value: Any) -> Any:
    """Return a value in which JSON objects stand for bytes: a copy, which `unpack_bytes` turns back.

    Give the result to `Item`, or as the metadata of a message. Calls that set the metadata of a session pack by themselves. Only `bytes` are packed; everything else
    is copied, and checked by the call that you give it to. Base64 takes four characters for three bytes.

    :param value: a JSON value with bytes in it.
    :raises InvalidMessageError: if it has more than 200 levels, such as a list that contains itself.

    >>> pack_bytes({"name": "a.png", "data": b"hi"})
    {'name': 'a.png', 'data': {'session_manager.bytes': 'aGk='}}
    """
    return _packed(value, {}, MAX_LEVELS, wraps=True)


def pack_shown(value: Any) -> Any:
    """Return what `pack_bytes` does for a value that may be packed in part: an object that stands for bytes stays.

    :raises InvalidMessageError: as `pack_bytes` does.

    >>> pack_shown([{"session_manager.bytes": "aGk="}, b"hi"])
    [{'session_manager.bytes': 'aGk='}, {'session_manager.bytes': 'aGk='}]
    """
    return _packed(value, {}, MAX_LEVELS, wraps=False)


def _packed(value: Any, done: dict[int, Any], levels: int, *, wraps: bool) -> Any:
    """Pack a value. What stands there several times is packed once: a few lists in lists may stand for millions.

    :param wraps: whether an object that looks as if it stood for bytes is wrapped once more.
    :param done: what containers were packed to, by their ids.
    """
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode("ascii")}
    if not isinstance(value, dict | list):
        return value
    packed = done.get(id(value))
    if packed is None:
        if not levels:
            raise InvalidMessageError("", f"more than {MAX_LEVELS} levels")
        if isinstance(value, list):
            packed = []
            for item in value:
                packed.append(_packed(item, done, levels - 1, wraps=wraps))  # noqa: PERF401 - a comprehension would double the depth
        else:
            packed = {}
            for key, item in value.items():
                packed[key] = _packed(item, done, levels - 1, wraps=wraps)
            if wraps and packed.keys() == {BYTES}:
                packed = {BYTES: packed}
        done[id(value)] = packed
    return packed


def unpack_bytes(value: Any) -> Any:
    """Return what a packed value stands for, as a fresh copy: ``unpack_bytes(pack_bytes(value)) == value``.

    An object that `pack_bytes` would not have made, such as one whose text is no base64, stands for itself.

    :param value: a JSON value, as a session has it.

    >>> unpack_bytes({"name": "a.png", "data": {"session_manager.bytes": "aGk="}})
    {'name': 'a.png', 'data': b'hi'}
    """
    if isinstance(value, list):
        items = []
        for item in value:
            items.append(unpack_bytes(item))  # noqa: PERF401 - likewise
        return items
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and BYTES in value:
        inner = value[BYTES]
        if isinstance(inner, str):
            found = _decoded(inner)
            return dict(value) if found is None else found
        if isinstance(inner, dict) and inner.keys() == {BYTES}:
            return {BYTES: unpack_bytes(inner[BYTES])}
    fields = {}
    for key, item in value.items():
        fields[key] = unpack_bytes(item)
    return fields


def is_packed_bytes(value: Any) -> bool:
    """Say whether an object stands for bytes: its text is none that a program or a person reads."""
    return len(value) == 1 and isinstance(text := value.get(BYTES), str) and _decoded(text) is not None


def _decoded(text: str) -> bytes | None:
    """Return the bytes of a base64 text; `None` if bytes are never written so."""
    try:
        found = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if base64.b64encode(found).decode("ascii") == text else None
