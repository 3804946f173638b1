"""A damaged archive: its whole lines. Each has its own checksum, which is begun with the key, so each is proven."""

from __future__ import annotations

import json
import re
import zlib

import attrs

from session_manager.codec.json import DecodeError
from session_manager.model.message import Message
from session_manager.stores.archive.format import CRC, CRC_SIZE, HEAD, decode_bodies

__all__ = ["Archived", "whole_lines"]

_START = re.compile(rb'\{"number":')


@attrs.frozen(eq=False, repr=False)
class Archived:
    """A whole line: an archived message, and the version of the session whose write dropped it."""

    generation: str
    revision: int
    message: Message


def whole_lines(data: bytes, key: str) -> list[Archived]:
    """Return the whole lines of an archive, by position; of a position that occurs twice, the last one.

    :param data: the file. Damage may have taken line feeds away, or made some.
    """
    seed = zlib.crc32(key.encode())
    starts = [match.start() for match in _START.finditer(data)]
    found: dict[int, Archived] = {}
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
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
