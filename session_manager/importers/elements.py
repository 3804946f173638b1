"""The values of a JSONL file or of a large JSON array, one at a time, so that RAM holds no more than one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from session_manager.importers.reading import SourceFile

__all__ = ["elements", "texts_in"]

#: A whole string, the start of a string that is not all there, or a character that gives the structure.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[\]{},]', re.DOTALL)
_SPACE = b" \t\r\n"


def elements(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    r"""Iterate over the elements of an array: the line on which each begins, from 1, and its bytes.

    Nothing is decoded. An element that is no JSON comes as it is, and does not disturb the others as long as its brackets
    and quotes are balanced. Of an array that is cut off, the last element comes as far as it is there.

    :param pieces: the bytes of a JSON text whose value is an array.

    >>> list(elements([b'[{"a": 1},\n {"b"', b': "]"}]']))
    [(1, b'{"a": 1}'), (2, b'{"b": "]"}')]
    """
    data, at, depth, line = b"", 0, 0, 1
    for piece in _grown(pieces):
        data += piece
        start = 0
        while (match := _TOKEN.search(data, at)) is not None:
            token, at = match.group(), match.end()
            if token == b'"':
                at = match.start()
                break
            if token in b"[{":
                depth += 1
                start = at if depth == 1 else start
            elif token in b"]}" or (token == b"," and depth == 1):
                ends = depth == 1
                depth -= token != b","
                if ends:
                    found = data[start : match.start()]
                    yield from _stripped(found, line)
                    line += found.count(b"\n")
                    start = at
                if depth == 0:
                    return
        else:
            at = len(data)
        if depth:
            data, at = data[start:], at - start
    if depth:
        yield from _stripped(data, line)


def texts_in(file: SourceFile) -> Iterator[tuple[int | None, int | None, bytes]]:
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


def _stripped(found: bytes, line: int) -> Iterator[tuple[int, bytes]]:
    """Return an element without the white space around it; nothing if nothing is left."""
    text = found.lstrip(_SPACE)
    if text:
        yield line + found[: len(found) - len(text)].count(b"\n"), text.rstrip(_SPACE)


def _grown(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces to ever larger ones, so that a long string is not searched anew for each."""
    joined, wanted = bytearray(), 1
    for piece in pieces:
        joined += piece
        if len(joined) >= wanted:
            yield bytes(joined)
            joined.clear()
            wanted = min(wanted + len(piece), 1 << 24)
    yield bytes(joined)
