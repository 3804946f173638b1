"""Random mutations of good files: of any bytes, or of the structure, with checksums that fit or do not."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from random import Random

__all__ = ["mutated", "resealed_archive", "resealed_log", "resealed_snapshot"]

_NUMBER = re.compile(rb"(?<![\w\"-])-?[0-9]+(?:\.[0-9]+)?(?![\w\"])")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"(?!:)', re.DOTALL)
_FIELD = re.compile(rb'"[a-z_]+":')

NUMBERS = [
    *(b"0 -0 1 -1 2 3 7 255 1.0 1.5 -0.0 1e2 1e308 1e400 -1e400 5e-324 NaN Infinity -Infinity 01 1. +1".split()),
    *(b"2147483648 9007199254740993 9223372036854775807 9223372036854775808 18446744073709551616".split()),
    *(b'-9223372036854775809 1000000000000000000000000000000 true null "1" [] {}'.split()),
    b"9" * 4300,
    b"9" * 4301,
]
TEXTS = [
    b'""',
    b"null",
    b"0",
    b"true",
    b"[]",
    b"{}",
    b'"\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\x00"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"\\x"',
    b'"' + b"x" * 2000 + b'"',
    b'"0001-01-01T00:00:00Z"',
    b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59.999999Z"',
    b'"9999-12-31T23:59:59.999999-23:59"',
    b'"2026-01-02T03:04:05"',
    b'"2026-01-02T03:04:60Z"',
    b'"2026-01-02T24:00:00Z"',
    b'"append"',
    b'"truncate"',
    b'"remove"',
    b'"edit"',
    b'"replace"',
    b'"clear"',
    b'"fold"',
    b'"set_summary"',
    b'"update_metadata"',
]
PIECES = [
    *(bytes((byte,)) for byte in b'{}[]",:\\\n\t \x00\x0b\r\x7f\x80\xff0'),
    b"},{",
    b"],[",
    b",\n",
    b'",\t"state":{',
    b',"crc32":"00000000"}\n',
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"/**/",
    b"[" * 300,
    b'{"a":' * 250,
    b"[" * 199 + b"]" * 199,
    b"[" * 900 + b"]" * 900,
    bytes(512),
]


def _place(chance: Random, data: bytes) -> int:
    return chance.randrange(len(data) + 1)


def _range(chance: Random, data: bytes) -> tuple[int, int]:
    start = _place(chance, data)
    return start, min(len(data), start + int(chance.expovariate(1 / 12)) + 1)


def _flip(chance: Random, data: bytes, _: bytes) -> bytes:
    damaged = bytearray(data or b"\0")
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _set(chance: Random, data: bytes, _: bytes) -> bytes:
    place = _place(chance, data)
    return data[:place] + bytes((chance.randrange(256),)) + data[place + 1 :]


def _cut(chance: Random, data: bytes, _: bytes) -> bytes:
    return data[: _place(chance, data)]


def _remove(chance: Random, data: bytes, _: bytes) -> bytes:
    start, stop = _range(chance, data)
    return data[:start] + data[stop:]


def _double(chance: Random, data: bytes, _: bytes) -> bytes:
    start, stop = _range(chance, data)
    return data[:stop] + data[start:stop] + data[stop:]


def _insert(chance: Random, data: bytes, _: bytes) -> bytes:
    place = _place(chance, data)
    return data[:place] + chance.choice(PIECES) + data[place:]


def _splice(chance: Random, data: bytes, other: bytes) -> bytes:
    """Put the end, or a part, of another file into this one."""
    start, stop = _range(chance, other)
    if chance.random() < 0.3:
        stop = len(other)
        return data[: _place(chance, data)] + other[start:stop]
    first, last = _range(chance, data)
    return data[:first] + other[start:stop] + data[last:]


def _lines(chance: Random, data: bytes, other: bytes) -> bytes:
    """Lose, double, move or borrow a line."""
    lines = data.splitlines(keepends=True) or [b"\n"]
    number, place = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            del lines[number]
        case 1:
            lines.insert(place, lines[number])
        case 2:
            lines[number], lines[place] = lines[place], lines[number]
        case _:
            lines[number] = chance.choice(other.splitlines(keepends=True) or [b""])
    return b"".join(lines)


def _swapped(pattern: re.Pattern[bytes], values: Sequence[bytes]) -> Callable[[Random, bytes, bytes], bytes]:
    def swap(chance: Random, data: bytes, _: bytes) -> bytes:
        found = pattern.search(data, _place(chance, data)) or pattern.search(data)
        return data if found is None else data[: found.start()] + chance.choice(values) + data[found.end() :]

    return swap


def _twice(chance: Random, data: bytes, _: bytes) -> bytes:
    """Give an object a field twice."""
    found = _FIELD.search(data, _place(chance, data)) or _FIELD.search(data)
    if found is None:
        return data
    value = chance.choice([*NUMBERS[:20], *TEXTS])
    return data[: found.start()] + found.group() + value + b"," + data[found.start() :]


def _field(chance: Random, data: bytes, _: bytes) -> bytes:
    """Give a field the name of another one."""
    fields = list(_FIELD.finditer(data))
    if not fields:
        return data
    found = chance.choice(fields)
    return data[: found.start()] + chance.choice(fields).group() + data[found.end() :]


_MUTATIONS = [_flip, _set, _cut, _remove, _double, _insert, _splice, _lines, _twice, _field]
_MUTATIONS += [_swapped(_NUMBER, NUMBERS), _swapped(_TEXT, TEXTS)] * 3


def mutated(chance: Random, data: bytes, other: bytes) -> bytes:
    """Return the bytes of a file with one to three random changes.

    :param other: another file, of which something may get into it.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3))):
        data = chance.choice(_MUTATIONS)(chance, data, other)
    return data


# Right checksums, as the docstrings of the formats have them


def resealed_snapshot(data: bytes) -> bytes:
    """Correct the checksums of a snapshot, as far as there are places for them."""
    head, line_end, rest = data.partition(b"\n")
    place = head.rfind(b'"header_crc32":"')
    if place >= 0:
        head = head[:place] + b'"header_crc32":"%08x","messages":[' % zlib.crc32(head[:place])
    place = rest.rfind(b'],"crc32":"')
    if place >= 0:
        body = rest[: max(place - 1, 0)]
        rest = rest[:place] + b'],"crc32":"%08x"}\n' % zlib.crc32(body)
    return head + line_end + rest


_STATE = b',\t"state":'
_STATE_CRC = b',"state_crc32":"'


def resealed_log(data: bytes) -> bytes:
    """Correct the checksums of each line of a log that has places for them."""
    return b"".join([_resealed_record(line) for line in data.splitlines(keepends=True)])


def _resealed_record(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        return line
    start, stop = line.rfind(_STATE), line.rfind(_STATE_CRC)
    if start < 0 or stop < start:
        return line
    state = line[start + len(_STATE) : stop]
    head = line[:stop] + _STATE_CRC + b'%08x"' % zlib.crc32(state)
    return head + b',"crc32":"%08x"}\n' % zlib.crc32(head)


def resealed_archive(data: bytes, key: str) -> bytes:
    """Correct the checksum of each line of an archive, as one of a key."""
    lines = []
    for line in data.splitlines(keepends=True):
        place = line.rfind(b',"crc32":"')
        sealed = line[:place] + b',"crc32":"%08x"}\n' % zlib.crc32(line[:place], zlib.crc32(key.encode()))
        lines.append(sealed if place >= 0 and line.endswith(b"\n") else line)
    return b"".join(lines)
