"""Snapshot format 1: a whole session in one JSON document (``*.session.json``).

The bytes, UTF-8, ``⏎`` being one line feed (0x0A) and the only ones in the file::

    {"format":"session_manager/1","key":…,"generation":…,"revision":…,"created":…,"updated":…,
     "last_message_at":…,"start":…,"end":…,"refs":[…],"summary":…,"metadata":{…},"count":2,
     "header_crc32":"1f2e3d4c","messages":[⏎
    {"position":0,"created_at":…,"message":{…}},⏎
    {"position":1,"created_at":…,"message":{…}}⏎
    ],"crc32":"9ae0daaf"}⏎

* The **header** is the first line (shown here in three). Its fields are those of `session_manager.codec.state.State`, in
  that order (``"archived"`` follows ``count`` if messages were archived, and then ``"expires_after"`` if the session has an expiry); ``header_crc32`` is the CRC-32 of every byte before its own key, ``"header_crc32"``. So a
  description of the session takes reading one line.
* The **messages** are one a line (`session_manager.codec.lines`), separated by a comma and a line feed.
  Without a message, the footer follows the header's line feed.
* The **footer** is the last line. ``crc32`` covers the messages' bytes and the separators between them,
  not the line feed before the footer; so it can run on when messages are appended. Of no message it is
  ``00000000``.

A CRC is that of zlib, IEEE 802.3, in eight lowercase hex digits, and is compared as bytes. ``format`` is judged first: a
file of another number is an `UnsupportedFormatError`, whatever else is in it. Readers ignore fields
that they do not know. Anything that an older reader would misread needs a new number.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from session_manager.codec.format_name import FormatName
from session_manager.codec.json import DecodeError, encode_json
from session_manager.codec.lines import decode_messages, encode_messages
from session_manager.codec.state import State, decode_state, encode_state, session_of
from session_manager.errors import raise_alone
from session_manager.frozen import Frozen
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.files.kinds import SUFFIXES

__all__ = [
    "FOOTER",
    "FORMAT",
    "START",
    "SUFFIX",
    "Fingerprint",
    "Lines",
    "check_format",
    "decode",
    "decode_header",
    "encode",
    "fingerprint",
    "is_intact",
]

#: How the name of a snapshot's file ends.
SUFFIX = SUFFIXES["snapshot"]

#: A CRC of the first line, and that of the messages.
Fingerprint = tuple[int, int]

_NAME = FormatName("session_manager/1", "not a session's snapshot")
FORMAT, check_format = _NAME.name, _NAME.check
START = b'{"format":"session_manager/1",'
_HEADER_END = b'"header_crc32":"%08x","messages":['
FOOTER = b'],"crc32":"%08x"}\n'
_SEGMENT = 64 * 1024


class Lines(Frozen, frozen=True, eq=True):
    """The encoded messages of a session: finished segments, an open tail, and the CRC of both.

    Immutable: `appended` encodes the new messages and copies, at most, the tail (64 KiB).
    """

    segments: tuple[bytes, ...] = ()
    tail: bytes = b""
    crc: int = 0
    #: How many bytes they are.
    size: int = 0
    #: The position behind the last message.
    end: int = 0

    def appended(self, messages: Sequence[Message], end: int) -> Lines:
        """Return the lines with further messages, up to the position `end`."""
        full, tail, crc, size = [], self.tail, self.crc, self.size
        for new in encode_messages(messages, b",\n", follow=size > 0):
            tail, crc, size = tail + new, zlib.crc32(new, crc), size + len(new)
            if len(tail) >= _SEGMENT:
                full.append(tail)
                tail = b""
        return Lines((*self.segments, *full), tail, crc, size, end)


def encode(session: Session, lines: Lines) -> list[bytes]:
    """Return the bytes of a session's file, in pieces, given its encoded messages."""
    header = START + encode_json(encode_state(session))[1:-1] + b","
    head = header + _HEADER_END % zlib.crc32(header) + b"\n"
    return [head, *lines.segments, lines.tail, (b"\n" if lines.size else b"") + FOOTER % lines.crc]


def decode_header(line: bytes, path: str) -> State:
    """Return the state in a file's first line.

    :param line: the line, with its line feed.
    :param path: the file, for the error.
    :raises UnsupportedFormatError: if the file is of another format.
    :raises DecodeError: if it is damaged.
    """
    check_format(line, path)
    stop = len(line) - len(_HEADER_END % 0) - 1
    if stop < 0 or line[stop:] != _HEADER_END % zlib.crc32(memoryview(line)[:stop]) + b"\n":
        raise DecodeError(0, "the header is damaged or cut off")
    return decode_state(line[: stop - 1] + b"}")


def fingerprint(head: bytes, crc: int) -> Fingerprint:
    """Return the fingerprint of a file's content: a CRC of its first line, and that of its messages."""
    return zlib.crc32(head), crc


def is_intact(data: bytes, key: str) -> bool:
    """Say whether a file is a key's, and not a single bit of it has changed. Its messages are not decoded.

    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if it is damaged.
    """
    start = data.find(b"\n") + 1 or len(data)
    state = decode_header(data[:start], "")
    _checked_body(data, start)
    return state.key == key


def _checked_body(data: bytes, start: int) -> tuple[int, int]:
    """Return where the footer of a file begins, and the CRC of its messages.

    :param start: where the messages begin.
    :raises DecodeError: if the CRC in the footer is another one.
    """
    footer = len(data) - len(FOOTER % 0)
    stop = footer - 1 if footer > start else start
    crc = zlib.crc32(memoryview(data)[start:stop])
    if data[stop:] != (b"\n" if footer > start else b"") + FOOTER % crc:
        raise DecodeError(stop, "the messages are damaged or cut off")
    return footer, crc


def decode(data: bytes, path: str) -> tuple[Session, Fingerprint]:
    """Return the session of a file, and its fingerprint.

    :param data: the whole file.
    :param path: the file, for the error.
    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if a single bit of it has changed.
    """
    start = data.find(b"\n") + 1 or len(data)
    state = decode_header(data[:start], path)
    footer, crc = _checked_body(data, start)
    try:
        return session_of(state, decode_messages(memoryview(data)[start - 2 : footer + 1])), fingerprint(
            data[:start], crc
        )
    except DecodeError as error:
        raise_alone(DecodeError(error.offset + start - 2, error.reason))
