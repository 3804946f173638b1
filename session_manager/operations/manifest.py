"""The manifest of a backup: what is in it, and the SHA-256 of each file.

It is the file ``backup.manifest`` in the backup's directory, one line of JSON in UTF-8::

    {"format":"session_manager-backup/1","kind":"log","made":"2026-01-01T00:00:00Z","sessions":1,"messages":2,"archived":0,
     "files":[{"name":"telegram~3a42.session.jsonl","size":812,"sha256":"9f…"}],"crc32":"1f2e3d4c"}⏎

``kind`` is the scheme of the storage: ``snapshot``, ``log`` or ``sqlite``. ``crc32`` is the CRC-32 of every byte before ``,"crc32"``,
as zlib computes it, in eight lowercase hex digits. ``format`` is judged first. Readers ignore fields that they do not know.
"""

from __future__ import annotations

import re
import zlib
from datetime import datetime

import msgspec

from session_manager.codec.json import encode_json
from session_manager.errors import StorageError, UnsupportedFormatError, raise_alone

__all__ = ["File", "Manifest", "decode_manifest", "encode_manifest"]

_FORMAT = "session_manager-backup/1"
_NAMED_FORMAT = re.compile(rb'\{"format":"(session_manager-backup/[0-9]{1,9})"')
_CRC = b',"crc32":"%08x"}\n'
_CRC_SIZE = len(_CRC % 0)


class File(msgspec.Struct, frozen=True):
    """A file of a backup."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    format: str = _FORMAT
    kind: str
    made: datetime
    sessions: int
    messages: int
    archived: int
    files: tuple[File, ...]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest."""
    data = encode_json(manifest)[:-1]
    return data + _CRC % zlib.crc32(data)


def decode_manifest(data: bytes, path: str) -> Manifest:
    """Return the manifest that some bytes encode.

    :param path: the file, for the error.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it is damaged.
    """
    named = _NAMED_FORMAT.match(data)
    if named is not None and named[1].decode() != _FORMAT:
        raise UnsupportedFormatError(path, named[1].decode(), _FORMAT)
    covered = data[:-_CRC_SIZE]
    if named is None or data[-_CRC_SIZE:] != _CRC % zlib.crc32(covered):
        raise StorageError(path, "the manifest is damaged")
    try:
        manifest = msgspec.json.decode(covered + b"}", type=Manifest)
    except msgspec.MsgspecError:
        raise_alone(StorageError(path, "the manifest lacks what it must have"))
    if any(not one.name or "/" in one.name or one.name[0] == "." for one in manifest.files):
        raise StorageError(path, "the manifest names a file that no backup has")
    return manifest
