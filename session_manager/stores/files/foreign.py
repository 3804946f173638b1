"""Sessions of another program in a directory, recognized by the names of its files and the keys in them."""

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

#: The characters that a JSON text may begin with, after white space.
_FIRST = b'{["-0123456789tfn'


def is_candidate(name: str) -> bool:
    """Say whether a file may be a session of picoclaw's, by its name. The caller has ruled out our own suffixes."""
    return name.endswith(".json") and not name.endswith(".meta.json") and not name.startswith(".")


def check_start(data: bytes) -> None:
    """Raise `DecodeError` if no JSON text starts with these bytes."""
    if b"\0" in data or data.lstrip(b" \t\n\r")[:1] not in _FIRST:
        raise DecodeError(0, "is not JSON")


def key_in(data: bytes) -> str | None:
    """Return the key in a file; `None` if the file is of neither program.

    :raises DecodeError: if the file does not parse, or the key in it is invalid.
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
    """Return the files of a directory that are certainly sessions of picoclaw's.

    :param names: the names in it, without our own sessions.
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
