"""The log (``-wal``) and the journal beside a database: whether they belong to it.

SQLite replays any log that it finds beside a database, and rolls back any journal. So the leftovers of an old database destroy
a backup that is put in its place. SQLite's own salts bind the frames of a log to its header, not to the database. So each
commit leaves a random id in the table ``last_commit``, and names the commit before it. A log then holds the id of the last
commit of its database before the log was begun.

**A log belongs to a database** if the log names the newest commit in the database. This is so also if a checkpoint has moved
a part of the log already. A database that SQLite has written anew (``VACUUM``) has the same ids, but its ``schema_version`` is
counted up. So a mark also notes that number, and the database must have the number that the log was begun on, or agree with a copy of
page 1 in the log. A refusal must be right, so a doubtful log counts as belonging. A log is doubtful without marked commits,
beside a database without a readable ``last_commit``, if another program changed that table or lowered the number before
the first mark, or if it writes every page.

**A journal belongs to a database of ours** if it holds nothing but a first page that agrees with the database, its count of free
pages included. A kill leaves such a journal while the database is brought into WAL mode. This library makes no other one.

A log is read here by its format (https://www.sqlite.org/fileformat2.html#the_write_ahead_log), for SQLite would replay it.
"""

from __future__ import annotations

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
#: Where the first page of a database has its fields, of four bytes each.
_PAGES, _FREE, _SCHEMA, _USER_VERSION, _APPLICATION = 28, 36, 40, 60, 68
#: How many frames are checked before a log is called strange: more than a save of 256 MB writes, and seconds of work.
_MOST_CHECKED = 65_536
_BUFFER = 1024 * 1024


@attrs.frozen
class MainFile:
    """What the main file of a database says, without its log and its journal."""

    user_version: int
    schema: int
    pages: int
    #: How many of its pages are free.
    free: int
    #: The id of the newest commit; `None` if that cannot be read.
    latest: bytes | None
    #: The page on which that is.
    place: int


@attrs.frozen
class _Mark:
    """A commit's row in a page of the log."""

    page: int
    earlier: bytes
    latest: bytes
    schema: int
    #: Whether the commit has found this `schema`, and not left it.
    is_found: bool


@attrs.define
class _Commit:
    """What the pages of one transaction in a log say."""

    pages: set[int] = attrs.Factory(set)
    #: Rows of ``last_commit``. A page that another program has moved may have an old one.
    marks: list[_Mark] = attrs.Factory(list)
    #: The numbers of the schema, of pages, and of free pages, of each copy of page 1.
    heads: list[tuple[int, ...]] = attrs.Factory(list)


@attrs.define
class _Log:
    """What a log says of the database that it was begun on."""

    #: The ids of the commits that its marks name, and the pages on which these are.
    named: set[bytes] = attrs.Factory(set)
    places: set[int] = attrs.Factory(set)
    heads: set[tuple[int, ...]] = attrs.Factory(set)
    #: The highest number of the schema in it.
    newest: int = -1
    #: What commits of other programs wrote before the first mark: pages, and numbers of the schema.
    unmarked_pages: set[int] = attrs.Factory(set)
    unmarked_schemas: set[int] = attrs.Factory(set)
    #: The mark in the first commit, if it tells the schema that its commit has found.
    begun_on: _Mark | None = None
    #: Whether the first commit has left the schema as it was. Then no row in it is an old one, which a `VACUUM` has moved.
    is_exact: bool = False

    def add(self, commit: _Commit, *, is_first: bool) -> None:
        """Add the next commit."""
        schemas = {head[0] for head in commit.heads}
        if is_first and commit.marks and commit.marks[-1].is_found:
            self.begun_on = commit.marks[-1]
            self.is_exact = schemas <= {self.begun_on.schema}
        if not self.named and not commit.marks:
            self.unmarked_pages |= commit.pages
            self.unmarked_schemas |= schemas
        for mark in commit.marks:
            self.named |= {mark.earlier, mark.latest}
        self.places |= {mark.page for mark in commit.marks}
        self.heads.update(commit.heads)
        self.newest = max([self.newest, *schemas, *(mark.schema for mark in commit.marks)])

    def belongs_to(self, main: MainFile) -> bool:
        """Say whether a main file may be the one that the log was begun on, or that with a part of the log in it."""
        if main.place in self.unmarked_pages or any(schema < main.schema for schema in self.unmarked_schemas):
            return True  # another program may have changed the row, or removed the table, or has set the number
        if main.latest not in self.named or main.schema > self.newest:
            return False
        if self.begun_on is None or not (self.is_exact or main.latest == self.begun_on.earlier):
            return True
        if self.is_exact and main.place not in self.places:
            return False
        return main.schema == self.begun_on.schema or (main.schema, main.pages, main.free) in self.heads


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
        if len(head) < _FRAME.size or len(data) < size:
            return  # also if a writer has appended between the two
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


def _fields(first_page: bytes, *places: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(first_page[place : place + 4], "big") for place in places)


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
        return not _said(file, header).belongs_to(main) and _needs_the_database(file, header)


def _said(file: BinaryIO, header: bytes) -> _Log:
    log, commit, commits = _Log(), _Commit(), 0
    for frame in _frames(file, header):
        commit.pages.add(frame.page)
        if mark := _mark(frame):  # of whatever page: ``VACUUM INTO`` gives the table another
            commit.marks.append(mark)
        if frame.page == 1:
            commit.heads.append(_fields(frame.data, _SCHEMA, _PAGES, _FREE))
        if frame.size:
            log.add(commit, is_first=not commits)
            commit, commits = _Commit(), commits + 1
    log.add(commit, is_first=not commits)  # it was cut off
    return log


def _needs_the_database(file: BinaryIO, header: bytes) -> bool:
    """Say whether a log has a marked commit, up to which it does not write every page of the database."""
    pages: set[int] = set()
    is_marked = False
    for number, frame in enumerate(_checked_frames(file, header)):
        if number >= _MOST_CHECKED:
            return False
        pages.add(frame.page)
        is_marked = is_marked or _mark(frame) is not None
        if is_marked and frame.size:
            return len(pages) < frame.size
    return False


def _mark(frame: _Frame) -> _Mark | None:
    """Return the row of ``last_commit`` that a page holds; `None` if it holds anything else."""
    data = frame.data
    place = int.from_bytes(data[8:10], "big")
    if data[0] != 0x0D or data[3:5] != b"\0\1" or data[place : place + len(_ROW)] != _ROW:
        return None
    first = place + len(_ROW)
    digits = data[first + 2 * _ID : first + 2 * _ID + _DIGITS]
    try:
        schema = int(digits, 16) & 0xFFFFFFFF
    except ValueError:
        return None
    earlier, latest = data[first : first + _ID], data[first + _ID : first + 2 * _ID]
    return _Mark(frame.page, earlier, latest, schema, digits[:1] == b"+")


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
    fields = _fields(record[4:], _APPLICATION, _USER_VERSION, _SCHEMA, _PAGES, _FREE)
    is_first = record[:4] == b"\0\0\0\1"
    return is_first and fields == (APPLICATION_ID, main.user_version, main.schema, main.pages, main.free)
