"""The pages of a database, read without SQLite: records on whole pages, whatever has happened to the others.

The layout is that of https://www.sqlite.org/fileformat2.html: B-tree pages of tables (leaves 0x0D) and indexes (0x0A, 0x02), records with
overflow pages, and the newest committed pages of a write-ahead log. Nothing is believed here: each record is checked by the caller.

The file is opened once in a process, and never closed. Closing any descriptor of a database would drop the locks that SQLite
holds on it in this process (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import attrs

__all__ = ["Pages", "Record", "Value"]

_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x05, 0x0A, 0x02
_PAGE_SIZES = [1 << power for power in range(9, 17)]
_DEFAULT_PAGE = 4096
#: Deeper trees are none of SQLite's.
_DEEPEST = 24
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_descriptors: dict[tuple[int, int], int] = {}

Value: TypeAlias = int | float | bytes | None


@attrs.frozen(eq=False, repr=False)
class Record:
    """A record on a page. Texts are bytes."""

    page: int
    #: Of a table; 0 of an index.
    rowid: int
    values: list[Value]


class Pages:
    """The newest committed pages of a database.

    :param path: the file.
    :raises OSError: if it cannot be read.
    """

    def __init__(self, path: str) -> None:
        status = os.stat(path)
        place = status.st_dev, status.st_ino
        if place not in _descriptors:
            _descriptors[place] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._fd = _descriptors[place]
        self._log: dict[int, bytes] = {}
        head = self._at(0, 100)
        size = _page_size(head[16:18])
        is_whole = head.startswith(b"SQLite format 3\0") and size in _PAGE_SIZES
        self.size = size if is_whole else _DEFAULT_PAGE
        #: The bytes of a page without those that are reserved at its end.
        self._usable = self.size - (head[20] if is_whole else 0)
        self.count = (status.st_size + self.size - 1) // self.size
        with contextlib.suppress(FileNotFoundError, struct.error):
            self._read_log(f"{path}-wal")

    def _at(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def _read_log(self, path: str) -> None:
        """Take the pages of the log's commits."""
        with open(path, "rb") as file:
            data = file.read()
        if len(data) < 32 or struct.unpack_from(">I", data)[0] >> 1 != 0x377F0682 >> 1:
            return
        order = ">" if data[3] & 1 else "<"
        size = struct.unpack_from(">I", data, 8)[0]
        if size in _PAGE_SIZES:
            self._usable += size - self.size
            self.size = size
        salts, sums = data[16:24], _sums(data[:24], order, (0, 0))
        if sums != struct.unpack_from(">II", data, 24):
            return
        pending: dict[int, bytes] = {}
        for start in range(32, len(data) - 24 - size + 1, 24 + size):
            head, page = data[start : start + 24], data[start + 24 : start + 24 + size]
            sums = _sums(page, order, _sums(head[:8], order, sums))
            if head[8:16] != salts or sums != struct.unpack_from(">II", head, 16):
                return
            number, count = struct.unpack_from(">II", head)
            pending[number] = page
            if count:
                self._log |= pending
                self.count = count
                pending = {}

    def page(self, number: int) -> bytes:
        """Return a page, from 1; ``b""`` if there is none."""
        found = self._log.get(number)
        return self._at((number - 1) * self.size, self.size) if found is None and number > 0 else found or b""

    def records(self, numbers: Iterable[int] | None = None) -> Iterator[Record]:
        """Yield every record that parses, of tables and indexes.

        :param numbers: only of these pages.
        """
        for number in range(1, self.count + 1) if numbers is None else numbers:
            page = self.page(number)
            for place in self._cells(page, number):
                with contextlib.suppress(struct.error, IndexError, ValueError):
                    yield self._record(page, number, place)

    def _cells(self, page: bytes, number: int) -> list[int]:
        """Return the places of the cells of a page that holds records."""
        base = 100 if number == 1 else 0
        if len(page) < base + 12 or page[base] not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
            return []
        return _pointers(page, base, 12 if page[base] == _INDEX_INTERIOR else 8)

    def _record(self, page: bytes, number: int, place: int) -> Record:
        kind = page[100 if number == 1 else 0]
        place += 4 if kind == _INDEX_INTERIOR else 0
        size, place = _varint(page, place)
        rowid = 0
        if kind == _TABLE_LEAF:
            rowid, place = _varint(page, place)
        return Record(number, rowid, _values(self._payload(page, place, size, is_table=kind == _TABLE_LEAF)))

    def _payload(self, page: bytes, place: int, size: int, *, is_table: bool) -> bytes:
        usable = self._usable
        least = (usable - 12) * 32 // 255 - 23
        most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            return page[place : place + size]
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
        pieces = [page[place : place + local]]
        following: int = struct.unpack_from(">I", page, place + local)[0]
        left = size - local
        while left > 0:
            overflow = self.page(following)
            following = struct.unpack_from(">I", overflow)[0]
            pieces.append(overflow[4 : min(usable, 4 + left)])
            left -= usable - 4
        return b"".join(pieces)

    def leaves(self, root: int) -> set[int]:
        """Return the leaves of a table's tree that are reached from its root."""
        found, todo = set(), [(root, 0)]
        while todo:
            number, depth = todo.pop()
            page = self.page(number)
            base = 100 if number == 1 else 0
            if len(page) < base + 12:
                continue
            if page[base] == _TABLE_LEAF:
                found.add(number)
            elif page[base] == _TABLE_INTERIOR and depth < _DEEPEST:
                below = [struct.unpack_from(">I", page, place)[0] for place in _pointers(page, base, 12)]
                todo += [(one, depth + 1) for one in (*below, struct.unpack_from(">I", page, base + 8)[0])]
        return found


def _page_size(data: bytes) -> int:
    size = int.from_bytes(data, "big")
    return 65536 if size == 1 else size


def _sums(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Return the checksum of a log, continued over some bytes."""
    one, other = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + other) & 0xFFFFFFFF
        other = (other + second + one) & 0xFFFFFFFF
    return one, other


def _pointers(page: bytes, base: int, header: int) -> list[int]:
    count = struct.unpack_from(">H", page, base + 3)[0]
    first = base + header
    count = min(count, (len(page) - first) // 2)
    places = struct.unpack_from(f">{count}H", page, first)
    return [place for place in places if first <= place < len(page) - 3]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for number in range(8):
        byte = data[place + number]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + number + 1
    return value << 8 | data[place + 8], place + 9


def _values(payload: bytes) -> list[Value]:
    size, place = _varint(payload, 0)
    body = size
    values: list[Value] = []
    while place < size:
        kind, place = _varint(payload, place)
        width = _INTEGERS.get(kind, (kind - 12) // 2 if kind >= 12 else 8 if kind == 7 else 0)
        data = payload[body : body + width]
        if len(data) < width:
            raise ValueError("a record that is cut off")
        if kind in _INTEGERS:
            values.append(int.from_bytes(data, "big", signed=True))
        elif kind == 7:
            values.append(struct.unpack(">d", data)[0])
        else:
            values.append({0: None, 8: 0, 9: 1}.get(kind, data))
        body += width
    return values
