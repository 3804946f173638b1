"""A damaged archive: its whole lines. Each has its own checksum, which is begun with the key, so each is proven."""

from __future__ import annotations

import json
import re
import zlib
from itertools import pairwise

import attrs

from session_manager.codec.json import DecodeError
from session_manager.model.message import Message
from session_manager.stores.archive.format import CRC, CRC_SIZE, HEAD, decode_bodies

__all__ = ["Archived", "edited_lines", "whole_lines"]

_END = re.compile(rb',\s*"crc32":\s*"[^"]*"\s*\}\s*\Z')
_START = re.compile(rb'\{"number":')


@attrs.frozen(eq=False, repr=False)
class Archived:
    """A whole line: an archived message, and the version of the session whose write dropped it."""

    generation: str
    revision: int
    message: Message


def edited_lines(data: bytes, key: str) -> list[Archived]:
    """Return the lines of an archive that was edited by hand. Their checksums do not count.

    :raises DecodeError: if one of them is no line.
    """
    seed = zlib.crc32(key.encode())
    _, *lines = [line for line in data.split(b"\n") if line.strip()] or [b""]
    covered = [_END.sub(b"", line) for line in lines]
    found = whole_lines(b"".join(line + CRC % zlib.crc32(line, seed) + b"\n" for line in covered), key)
    if len(found) < len(lines):
        raise DecodeError(0, f"{len(lines) - len(found)} of its lines are no messages, or of one position")
    return found


def whole_lines(data: bytes, key: str) -> list[Archived]:
    """Return the whole lines of an archive, by position; of a position that occurs twice, the last one.

    :param data: the file. Damage may have taken line feeds away, or made some.
    """
    seed = zlib.crc32(key.encode())
    starts = [match.start() for match in _START.finditer(data)]
    found: dict[int, Archived] = {}
    for start, stop in pairwise([*starts, len(data)]):
        line = data[start : stop - 1]
        head = HEAD.match(line)
        if head is None or line[-CRC_SIZE:] != CRC % zlib.crc32(line[:-CRC_SIZE], seed):
            continue
        try:
            message = decode_bodies([line[head.end() : -CRC_SIZE]])[0]
        except DecodeError:
            continue
        assert message.position is not None
        found[message.position] = Archived(json.loads(head[2]), int(head[3]), message)
    return [found[position] for position in sorted(found)]
