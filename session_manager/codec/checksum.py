"""The damaged byte that a CRC-32 tells of.

A CRC is linear: the CRC of damaged data, XOR the CRC of the data before, depends on the damaged byte and its distance from the end
alone. So one pass from the end backward finds every byte whose damage would explain the difference. In random damage of many bytes
it finds one in error with a chance of 255 in 2³² for each byte.
"""

from __future__ import annotations

import zlib

__all__ = ["damaged_byte"]

#: The CRC register after one byte, begun at 0: the table of every implementation, taken from zlib.
_TABLE = [zlib.crc32(bytes((value ^ 0xFF,))) ^ 0xFF000000 for value in range(256)]
_MASKS = frozenset(_TABLE[1:])
#: The index into the table, by the highest byte of its value. Each occurs once.
_INDEX = {value >> 24: index for index, value in enumerate(_TABLE)}
#: Larger data are not searched: it would take seconds, and chance would find a byte.
_LARGEST = 4 * 1024 * 1024


def damaged_byte(data: bytes, crc: int) -> int | None:
    """Return the offset of the one byte whose damage explains a wrong checksum; `None` if no byte does, or several do.

    >>> damaged_byte(b"hallo", zlib.crc32(b"hello"))
    1

    :param data: the damaged data; at most 4 MiB are searched.
    :param crc: the CRC-32 of the data before.
    """
    register = zlib.crc32(data) ^ crc
    if not register or len(data) > _LARGEST:
        return None
    found = None
    for offset in range(len(data) - 1, -1, -1):
        if register in _MASKS:
            if found is not None:
                return None
            found = offset
        index = _INDEX[register >> 24]
        register = ((register ^ _TABLE[index]) << 8) | index
    return found
