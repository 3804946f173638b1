"""The file name of a session key, and the key of a file name.

A key becomes a file's stem in the manner of Mercurial's store encoding: ``a-z 0-9 -`` stay, ``_`` becomes ``__``,
``A`` becomes ``_a``, and every other UTF-8 byte ``~xx`` (lowercase hex). The first letter of a
Windows device's name (the whole stem is ``con``, ``nul``, ``com1``, …) becomes ``~xx`` as well. So the stem is
ASCII in one case, without dots: the same name on file systems that fold case or normalize Unicode.

A stem over 200 bytes becomes its first 120 bytes, ``~~`` and the SHA-256 of the key in hex. Such a name does not tell the key;
the file does.

>>> file_name("telegram:42", ".session.json"), file_name("Slack_C01", ".session.json")
('telegram~3a42.session.json', '_slack___c01.session.json')
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from session_manager.errors import InvalidKeyError
from session_manager.model.key import check_key

__all__ = ["file_name", "is_hashed", "key_of"]


_LONGEST_STEM = 200
_HEAD = 120
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])\Z")
_HASHED = re.compile(r".{120}~~[0-9a-f]{64}\Z", re.DOTALL)
_HASHED_STEM = 186
#: A stem that is its key: no escape, and longer than a device's name.
_PLAIN = re.compile(r"[a-z0-9-]{5,200}\Z")
_ESCAPE = re.compile(r"__|_([a-z])|~([0-9a-f]{2})")


def _encoded(byte: int) -> str:
    character = chr(byte)
    if character == "_":
        return "__"
    if "A" <= character <= "Z":
        return f"_{character.lower()}"
    if "a" <= character <= "z" or "0" <= character <= "9" or character == "-":
        return character
    return f"~{byte:02x}"


#: For `str.translate` of bytes that were decoded as Latin-1, whose characters are the bytes.
_ENCODED = {byte: _encoded(byte) for byte in range(256)}


@lru_cache(maxsize=64)
def file_name(key: str, suffix: str) -> str:
    """Return the name of the file of a (checked) key: at most 200 bytes and the suffix.

    No two keys share a file, on any file system.
    """
    return _file_name(key, suffix)


def _file_name(key: str, suffix: str) -> str:
    if _PLAIN.match(key):
        return key + suffix
    stem = (key if key.isascii() else key.encode().decode("latin-1")).translate(_ENCODED)
    if len(stem) > _LONGEST_STEM:
        return f"{stem[:_HEAD]}~~{hashlib.sha256(key.encode()).hexdigest()}{suffix}"
    if _DEVICE.match(stem):
        stem = f"~{ord(stem[0]):02x}{stem[1:]}"
    return stem + suffix


def is_hashed(name: str, suffix: str) -> bool:
    """Say whether a file's name is that of a long key, which only the file's content tells."""
    return (
        len(name) == _HASHED_STEM + len(suffix)
        and name.endswith(suffix)
        and _HASHED.match(name[: -len(suffix)]) is not None
    )


def key_of(name: str, suffix: str) -> str | None:
    """Return the key whose file has this name; `None` if no key's file has it, or a long key's."""
    if not name.endswith(suffix):
        return None
    stem = name[: -len(suffix)]
    if _PLAIN.match(stem):
        return stem
    if not stem.isascii():
        return None
    try:
        key = check_key(_ESCAPE.sub(_decoded, stem).encode("latin-1").decode())
    except (UnicodeDecodeError, InvalidKeyError):
        return None
    # What is no escape stays as it is: a stem that is not a key's is told by the name that its key would have.
    return key if _file_name(key, suffix) == name else None


def _decoded(escape: re.Match[str]) -> str:
    upper, byte = escape.groups()
    if byte is not None:
        return chr(int(byte, 16))
    return "_" if upper is None else str(upper).upper()
