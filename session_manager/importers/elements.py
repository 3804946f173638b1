"""The values of a JSONL file or of a large JSON array, one at a time, so that RAM holds no more than one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from session_manager.importers.reading import Flaw, SourceFile, object_in

__all__ = ["elements", "objects_of"]

#: A whole string, the start of a string that is not all there, or a character that gives the structure.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[\]{},]', re.DOTALL)
#: Everything up to the next bracket that is in no string.
_INNER = re.compile(rb'[^"\[\]{}]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"\[\]{}]*)*[\[\]{}]', re.DOTALL)
_SPACE = b" \t\r\n"


def elements(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    r"""Iterate over the elements of an array: the line on which each begins, from 1, and its bytes.

    Nothing is decoded. An element that is no JSON comes as it is, and does not disturb the others as long as its brackets
    and quotes are balanced. Of an array that is cut off, the last element comes as far as it is there.

    :param pieces: the bytes of a JSON text whose value is an array.

    >>> list(elements([b'[{"a": 1},\n {"b"', b': "]"}]']))
    [(1, b'{"a": 1}'), (2, b'{"b": "]"}')]
    """
    array = _Array()
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= len(array.data):  # a large element is not searched anew for each piece
            yield from array.fed(bytes(waiting))
            waiting.clear()
    yield from array.fed(bytes(waiting))
    if array.depth:
        yield from _stripped(array.data, array.line)


class _Array:
    """An array while its bytes come in."""

    def __init__(self) -> None:
        #: The bytes of the element that is not all there.
        self.data = b""
        #: How many brackets are open.
        self.depth = 0
        #: The line on which the element begins.
        self.line = 1
        self._at = 0

    def fed(self, more: bytes) -> Iterator[tuple[int, bytes]]:
        """Iterate over the elements that end in more bytes."""
        data = self.data + more
        start = 0
        while (token := self._next(data)) != b"":
            if token in b"[{":
                self.depth += 1
                start = self._at if self.depth == 1 else start
            elif self.depth and (token in b"]}" or (token == b"," and self.depth == 1)):
                if self.depth == 1:
                    found = data[start : self._at - 1]
                    yield from _stripped(found, self.line)
                    self.line += found.count(b"\n")
                    start = self._at
                self.depth -= token != b","
        self.data = data[start:] if self.depth else b""
        self._at = self._at - start if self.depth else 0

    def _next(self, data: bytes) -> bytes:
        """Return the last byte of the next token; nothing if there is none, or it is not all there."""
        is_inner = self.depth > 1
        match = _INNER.match(data, self._at) if is_inner else _TOKEN.search(data, self._at)
        if match is None:
            self._at = self._at if is_inner else len(data)
            return b""
        if match.group() == b'"':
            self._at = match.start()
            return b""
        self._at = match.end()
        return data[self._at - 1 : self._at]


def _texts_in(file: SourceFile) -> Iterator[tuple[int | None, int | None, bytes]]:
    """Iterate over the values of a file: the number of each, from 1, the line where it begins, and its bytes.

    The number is that of the line in JSONL, and of the element in an array. A file that is one other value has neither.
    """
    if file.name.endswith((".jsonl", ".ndjson")):
        yield from ((number, number, line) for number, line in file.lines() if line.strip())
    elif file.start().startswith(b"["):
        for index, (line, data) in enumerate(elements(file.pieces()), 1):
            yield index, line, data
    else:
        yield None, None, file.whole()


def objects_of(file: SourceFile) -> Iterator[tuple[str, int | None, dict[str, Any] | Flaw]]:
    """Iterate over the objects of a file: a key for each, the line where it begins, and the object, or what is wrong with it.

    Where a file has several values, the key is the file's stem with the number of the value.
    """
    for number, line, data in _texts_in(file):
        yield file.stem if number is None else f"{file.stem}:{number}", line, object_in(data, line)


def _stripped(found: bytes, line: int) -> Iterator[tuple[int, bytes]]:
    """Return an element without the white space around it; nothing if nothing is left."""
    text = found.lstrip(_SPACE)
    if text:
        yield line + found[: len(found) - len(text)].count(b"\n"), text.rstrip(_SPACE)
