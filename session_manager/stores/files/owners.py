"""Whose a file is: the key of a session in the first bytes of a file, whatever its name is, and damaged as it may be."""

from __future__ import annotations

import re
from contextlib import suppress

from session_manager.codec.json import DecodeError, decode_json
from session_manager.errors import InvalidKeyError
from session_manager.model.key import check_key
from session_manager.stores.files.atomic import NotRegularError, read_start
from session_manager.stores.files.filesystem import Files

__all__ = ["key_inside"]

#: The key comes before any text of the session, in all formats. Each byte of a key may take six characters.
_HEAD = 8192
_KEY = re.compile(rb'"key"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")', re.DOTALL)


def key_inside(files: Files, name: str) -> str | None:
    """Return the first key in a file; `None` if there is none, or the file cannot be read. Nothing proves it.

    :param name: of any file in the directory.
    """
    with suppress(OSError, NotRegularError, DecodeError, InvalidKeyError):
        match = _KEY.search(read_start(files, name, _HEAD))
        if match is not None:
            return check_key(decode_json(match[1]))
    return None
