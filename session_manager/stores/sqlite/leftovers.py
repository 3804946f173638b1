"""The log (``-wal``) and the journal beside a database: whether they belong to it.

SQLite replays any log that it finds beside a database, and rolls back any journal. So the leftovers of an old database destroy
a backup that is put in its place. SQLite's own salts bind the frames of a log to its header, not to the database. So a marked
commit leaves a random id in the table ``last_commit``, and names the marked commit before it. Each commit that may begin a log
is marked, and each that adds no message. Between two marks, the highest id of a message tells the states apart. A log then
holds the last mark of its database before the log was begun, and the highest id before and after each of its commits.

**A log belongs to a database** if the log has the newest mark and the highest id in the database. This is so also if a checkpoint
has moved a part of the log already, which may be the one without the other. A log that begins with a commit of another program,
or of version 0.2, does not tell the highest id before it, so its marks alone count. A copy that SQLite has written anew
(``VACUUM INTO``) has the same ids, but a newer ``schema_version`` than the log. A refusal must be right, so a doubtful log counts as
belonging. A log is doubtful without marked commits, beside a database without a readable ``last_commit``, or if it writes every
page. Without a highest id in the database, which another program may have deleted, or a power cut have torn, the marks alone count.

**A journal belongs to a database of ours** if it holds nothing but a first page that agrees with the database, its count of free
pages included. A kill leaves such a journal while the database is brought into WAL mode. This library makes no other one.

A log is read here by its format (https://www.sqlite.org/fileformat2.html#the_write_ahead_log), for SQLite would replay it.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import attrs

from session_manager.stores.sqlite.schema import APPLICATION_ID

__all__ = ["MainFile", "holds_changes", "is_strange_journal", "is_strange_log", "log_header"]

_LOG_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_JOURNAL_HEADER = struct.Struct(">8s5I")
_JOURNAL = bytes.fromhex("d9d505f920a163d7")
#: The number of records in a journal's header that means: not told.
_UNTOLD = 0xFFFFFFFF

#: The row of ``last_commit`` as its page has it, alone in a leaf of a table: sizes, types, and then the values.
_ROW = bytes.fromhex("2d0105002c2c1d")
_ID = 16
_DIGITS = 8
#: The rows of ``sqlite_sequence`` as a page has them: a number after the one name, and a blob after the other.
_MESSAGES, _MESSAGES_HEAD = b"messages", b"\x03\x1d"
_BASE, _BASE_HEAD = b"last_commit", b"\x03\x23\x4c"
#: How many bytes a number has, by its type. Those of 0 and 1 are the number.
_LENGTHS = {b"\1": 1, b"\2": 2, b"\3": 3, b"\4": 4, b"\5": 6, b"\6": 8, b"\x08": 0, b"\x09": 0}
#: No such row is longer.
_LONGEST = 64
_CONTINUED = bytes(range(0x80, 0x100))
#: How many frames are read before a log is called strange. Every log of ours is marked in its first transaction.
_MOST_CHECKED = 4096
_BUFFER = 1024 * 1024


@attrs.frozen
class MainFile:
    """What the main file of a database says, without its log and its journal."""

    user_version: int
    schema: int
    pages: int
    #: How many of its pages are free.
    free: int
    #: The id of the newest marked commit; `None` if that cannot be read.
    latest: bytes | None
    #: The highest id that a message's row ever had; `None` if it does not say that.
    added: int | None


@attrs.frozen
class _Mark:
    """A commit's row in a page of the log."""

    earlier: bytes
    latest: bytes
    schema: int


@attrs.frozen
class _Sequence:
    """SQLite's table ``sqlite_sequence`` in a page of the log, as far as it is there."""

    #: The highest id of a message's row so far. Another program may have left several, or none.
    added: set[int]
    #: The id of a marked commit, and the highest id of a message's row before that.
    base: tuple[bytes, int] | None


@attrs.frozen
class _Frame:
    """A page in the log."""

    page: int
    #: How many pages the database has after the commit that this frame ends; 0: it ends none.
    size: int
    data: bytes
    #: The frame's first bytes, which its checksum covers, and the checksum.
    head: bytes
    checksum: tuple[int, int]


def _opened(path: str) -> BinaryIO | None:
    """Open a file beside a database. SQLite holds no locks on it, unlike on the database."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.fdopen(os.open(path, flags), "rb", buffering=_BUFFER)
    except FileNotFoundError:
        return None


# Logs


def log_header(path: str) -> bytes:
    """Return the header of a log, which changes whenever the log is begun anew; ``b""`` if it has none.

    :raises OSError: if it cannot be read.
    """
    file = _opened(path)
    if file is None:
        return b""
    with file:
        header = file.read(_LOG_HEADER.size)
    if len(header) < _LOG_HEADER.size:
        return b""
    magic, _, size, _, _, _, *checksum = _LOG_HEADER.unpack(header)
    right = magic in (_LITTLE, _BIG) and 512 <= size <= 65536 and size & (size - 1) == 0
    return header if right and _checksum(header[:24], (0, 0), magic) == tuple(checksum) else b""


def _frames(file: BinaryIO, header: bytes) -> Iterator[_Frame]:
    """Iterate over the frames that have the salts of the header. The frames behind them are of an earlier log."""
    _, _, size, _, *salts = _LOG_HEADER.unpack(header)[:6]
    file.seek(_LOG_HEADER.size)
    while True:
        head = file.read(_FRAME.size)
        data = file.read(size)
        if len(data) < size:
            return
        page, after, *found = _FRAME.unpack(head)
        if found[:2] != salts:
            return
        yield _Frame(page, after, data, head[:8], (found[2], found[3]))


def _checked_frames(file: BinaryIO, header: bytes) -> Iterator[_Frame]:
    """Iterate over the frames with right checksums, which SQLite would take."""
    magic, _, _, _, _, _, *checksum = _LOG_HEADER.unpack(header)
    found = (checksum[0], checksum[1])
    for frame in _frames(file, header):
        found = _checksum(frame.data, _checksum(frame.head, found, magic), magic)
        if found != frame.checksum:
            return
        yield frame


def _checksum(data: bytes, start: tuple[int, int], magic: int) -> tuple[int, int]:
    words = struct.unpack(f"{'<' if magic == _LITTLE else '>'}{len(data) // 4}I", data)
    first, second = start
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def holds_changes(path: str) -> bool:
    """Say whether a log holds a frame that SQLite would take.

    :raises OSError: if it cannot be read.
    """
    header, file = log_header(path), _opened(path)
    if file is None:
        return False
    with file:
        return bool(header) and next(_checked_frames(file, header), None) is not None


def is_strange_log(path: str, header: bytes, main: MainFile) -> bool:
    """Say whether a log certainly belongs to another database.

    :param header: of the log, from before `main` was read.
    :raises OSError: if it cannot be read.
    """
    file = _opened(path) if header and main.latest is not None else None
    if file is None:
        return False
    with file:
        ids: set[bytes] = set()
        counts: set[int | None] = {None}
        newest = -1
        # The id of the first transaction's mark, from each of its two tables.
        first: list[bytes] = []
        is_first = True
        for frame in _frames(file, header):
            if mark := _mark(frame.data):  # of whatever page: ``VACUUM INTO`` gives the table another
                ids |= {mark.earlier, mark.latest}
                newest = max(newest, mark.schema)
                first += [mark.latest] if is_first else []
            sequence = _sequence(frame.data)
            counts |= sequence.added
            if sequence.base:
                counts.add(sequence.base[1])
                first += [sequence.base[0]] if is_first else []
            if frame.page == 1:
                newest = max(newest, int.from_bytes(frame.data[40:44], "big"))
            is_first = is_first and not frame.size
        is_counted = len(first) == 2 and first[0] == first[1]
        if main.latest in ids and main.schema <= newest and (main.added in counts or not is_counted):
            return False
        return _needs_the_database(file, header)


def _needs_the_database(file: BinaryIO, header: bytes) -> bool:
    """Say whether a log has a marked commit, up to which it does not write every page of the database."""
    pages: set[int] = set()
    is_marked = False
    for number, frame in enumerate(_checked_frames(file, header)):
        if number >= _MOST_CHECKED:
            return False
        pages.add(frame.page)
        is_marked = is_marked or _mark(frame.data) is not None
        if is_marked and frame.size:
            return len(pages) < frame.size
    return False


def _mark(data: bytes) -> _Mark | None:
    """Return the row of ``last_commit`` that a page holds; `None` if it holds anything else."""
    place = int.from_bytes(data[8:10], "big")
    if data[0] != 0x0D or data[3:5] != b"\0\1" or data[place : place + len(_ROW)] != _ROW:
        return None
    first = place + len(_ROW)
    digits = data[first + 2 * _ID : first + 2 * _ID + _DIGITS]
    try:
        return _Mark(data[first : first + _ID], data[first + _ID : first + 2 * _ID], int(digits, 16))
    except ValueError:
        return None


def _sequence(data: bytes) -> _Sequence:
    """Return what a page holds of ``sqlite_sequence``. Rows of another table that look the same do no harm."""
    added: set[int] = set()
    base = None
    is_leaf = data[0] == 0x0D and (_MESSAGES in data or _BASE in data)
    for number in range(int.from_bytes(data[3:5], "big") if is_leaf else 0):
        place = int.from_bytes(data[8 + 2 * number : 10 + 2 * number], "big")
        # Without its size, which has one byte, and without the number of its row, which has nine at most.
        cell = data[place + 1 : place + 1 + _LONGEST]
        record = cell[min(len(cell) - len(cell.lstrip(_CONTINUED)), 8) + 1 :]
        kind, value = record[2:3], record[3:]
        if record.startswith(_MESSAGES_HEAD) and value.startswith(_MESSAGES) and kind in _LENGTHS:
            end = len(_MESSAGES) + _LENGTHS[kind]
            digits = value[len(_MESSAGES) : end]
            added.add(int.from_bytes(digits, "big", signed=True) if digits else kind[0] - 8)
        elif record.startswith(_BASE_HEAD) and value.startswith(_BASE):
            found = value[len(_BASE) :]
            with contextlib.suppress(ValueError):
                base = found[:_ID], int(found[_ID : _ID + 2 * _DIGITS], 16)
    return _Sequence(added, base)


# Journals


def is_strange_journal(path: str, main: MainFile | None) -> bool:
    """Say whether a journal belongs to another database, over which SQLite would roll it back.

    :param main: what the database says of itself; `None` if it is empty.
    :raises OSError: if it cannot be read.
    """
    file = _opened(path)
    if file is None:
        return False
    with file:
        header = file.read(_JOURNAL_HEADER.size)
        if len(header) < _JOURNAL_HEADER.size or not header.startswith(_JOURNAL):
            return False
        _, count, _, pages, sector, size = _JOURNAL_HEADER.unpack(header)
        if main is None:
            return bool(pages)
        if not main.user_version:
            return False
        if count == _UNTOLD:
            count = (os.fstat(file.fileno()).st_size - sector) // (size + 8)
        file.seek(sector)
        record = file.read(4 + size)
    if count > 1 or pages != main.pages:
        return True
    return bool(count) and not _agrees(record, main)


def _agrees(record: bytes, main: MainFile) -> bool:
    """Say whether a record of a journal is the first page of a database, but for its mode and its counters."""
    page = record[4:]
    fields = [int.from_bytes(page[place : place + 4], "big") for place in (68, 60, 40, 28, 36)]
    is_first = record[:4] == b"\0\0\0\1"
    return is_first and fields == [APPLICATION_ID, main.user_version, main.schema, main.pages, main.free]
