"""Sessions of another program in a directory: told by the names and the keys of its files."""

from __future__ import annotations

import stat as stat_module
from collections.abc import Iterable
from typing import Any

from session_manager.codec.json import DecodeError, decode_json
from session_manager.errors import InvalidKeyError, raise_alone
from session_manager.model.key import check_key
from session_manager.stores.files.atomic import NotRegularError, read_whole
from session_manager.stores.files.filesystem import Files

__all__ = ["check_start", "checked_key", "holding_sessions", "is_candidate", "key_in", "key_or_damage"]

#: What a JSON text begins with, after white space.
_FIRST = b'{["-0123456789tfn'


def is_candidate(name: str) -> bool:
    """Say whether a file may be one of picoclaw's, by its name. Our own suffixes are ruled out before."""
    return name.endswith(".json") and not name.endswith(".meta.json") and not name.startswith(".")


def check_start(data: bytes) -> None:
    """Raise `DecodeError` if no JSON text starts with these bytes."""
    if b"\0" in data or data.lstrip(b" \t\n\r")[:1] not in _FIRST:
        raise DecodeError(0, "is not JSON")


def key_in(data: bytes) -> str | None:
    """Return the key of a file; `None` if it is another program's.

    :raises DecodeError: if it does not parse, or its key is none.
    """
    value = decode_json(data)
    if not isinstance(value, dict) or "key" not in value or "messages" not in value:
        return None
    return checked_key(value)


def checked_key(value: dict[str, Any]) -> str:
    """Return the key in a decoded file.

    :raises DecodeError: if no store could keep the key.
    """
    try:
        return check_key(value["key"])
    except InvalidKeyError:
        raise_alone(DecodeError(0, "its key is not a session key"))


def holding_sessions(files: Files, names: Iterable[str]) -> list[str]:
    """Return which files of a directory are sessions of picoclaw's, without a doubt.

    :param names: what is in it, but for our own sessions.
    """
    return [name for name in names if is_candidate(name) and key_or_damage(files, name)[0] is not None]


def key_or_damage(files: Files, name: str) -> tuple[str | None, str | None]:
    """Return the key in a file, or what is wrong with it; neither, if it is not a session of picoclaw's."""
    try:
        return key_in(read_whole(files, name, judge=check_start)[0]), None
    except FileNotFoundError:
        return None, None
    except DecodeError as error:
        return None, error.reason
    except NotRegularError:
        return None, None if _is_directory(files, name) else "is not a regular file"
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"


def _is_directory(files: Files, name: str) -> bool:
    status = files.stat(name)
    return status is not None and stat_module.S_ISDIR(status.st_mode)
