"""A log that was edited by hand: each line gets a new checksum, and is then read as strictly as before."""

from __future__ import annotations

import re
import zlib

from session_manager.codec.json import DecodeError
from session_manager.model.session import Session
from session_manager.stores.log.format import CRC_START
from session_manager.stores.log.replay import decode

__all__ = ["read_edited"]

_END = re.compile(rb',\s*"crc32":\s*"[^"]*"\s*\}\s*\Z')


def read_edited(data: bytes, path: str) -> Session:
    """Return the session in a file. Texts may have changed; numbers, such as positions and counts, must still agree.

    :param path: the file, for the error.
    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if a line is none, or does not follow on the one before it.
    """
    lines = [_signed(line) for line in data.split(b"\n") if line.strip()]
    signed = b"".join(line + b"\n" for line in lines)
    log = decode(signed, path)
    if log.torn is not None and data.endswith(b"\n"):
        raise DecodeError(log.torn, "the last line is not JSON")
    return log.session


def _signed(line: bytes) -> bytes:
    covered = _END.sub(b"", line)
    return line if covered == line else covered + CRC_START + b'%08x"}' % zlib.crc32(covered)
