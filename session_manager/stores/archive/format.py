r"""Archive format 1: the messages that truncation and summaries dropped, one a line (``*.archive.jsonl``).

The file lies beside the session's snapshot or log. The bytes, UTF-8, ``⏎`` being one line feed (0x0A) at the end of each line
and nowhere else::

    {"format":"session_manager-archive/1","key":…,"crc32":"1f2e3d4c"}⏎
    {"number":0,"generation":…,"revision":18,"position":0,"created_at":…,"message":{…},"crc32":"9ae0daaf"}⏎
    {"number":1,"generation":…,"revision":18,"position":1,"created_at":…,"message":{…},"crc32":"2b3c4d5e"}⏎

* The **header** is the first line.
* A **line** is a message as in `session_manager.codec.lines`, from ``position`` on; before that stand its number in the file, from 0,
  and the version of the session whose write dropped it. A message that was dropped later may have a lower position:
  readers sort them.
* ``crc32`` is the CRC-32 of every byte of the line before its own ``,"crc32"``, begun with that of the key's bytes
  (``crc32(line, crc32(key))`` in zlib's terms), so that a line of another session is noticed; in eight lowercase hex digits,
  compared as bytes.

**A line counts** if its generation is the session's, and its revision is not above the session's, as the session's own file
has them. The lines of a write are durable before the session is written: until it is, they do not count, and the messages are
still in the session; from then on they do, and the messages are gone from it. Whatever fails in between, each is in one of the
two. The next writer cuts off the lines that do not count before it writes anything. (`session_manager.stores.archive.files` does.)

**A torn end** is left by an append that was cut short, behind the last line that counts. It lacks its line feed, or has a NUL
in it, which JSON never has. It does not count. NULs may have taken the place of line feeds, so that a whole line behind them
has a higher number than its place. Any other line without its CRC is **damage**: it stays where it is, and the lines behind it
are still good. A file that ends early, or is missing, is read as a shorter archive. The session's own file says how many
messages the archive should have (``archived`` in `session_manager.codec.state.State`, and in a log's state).

``format`` is judged first: a file of another number is an `UnsupportedFormatError`. Readers ignore fields that they do not know.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterable, Sequence

import attrs

from session_manager.codec.format_name import FormatName
from session_manager.codec.json import DecodeError, encode_json
from session_manager.codec.lines import decode_messages, encode_message
from session_manager.model.message import Message
from session_manager.model.session import Version
from session_manager.stores.files.kinds import ARCHIVE_SUFFIX
from session_manager.threads import give_way

__all__ = [
    "CRC",
    "CRC_SIZE",
    "HEAD",
    "SUFFIX",
    "Found",
    "body_of",
    "check_format",
    "decode",
    "decode_bodies",
    "encode_header",
    "encode_lines",
    "position_of",
]

#: How the name of an archive's file ends.
SUFFIX = ARCHIVE_SUFFIX

HEAD = re.compile(rb'\{"number":([0-9]{1,18}),"generation":("(?:[^"\\]|\\.)*"),"revision":([0-9]{1,18}),')
_POSITION = re.compile(rb'"position":([0-9]{1,18}),')
_NO_HEADER = "the header is damaged, cut off, or of another session"
_NAME = FormatName("session_manager-archive/1", _NO_HEADER)
check_format = _NAME.check
#: How many bodies are decoded at once.
_AT_ONCE = 1000
CRC = b',"crc32":"%08x"}'
CRC_SIZE = len(CRC % 0)


@attrs.frozen(eq=False, repr=False)
class Found:
    """The content of an archive's file, as seen from a version of its session."""

    #: The lines that count: of each its revision, and its body (the message without braces).
    lines: Sequence[tuple[int, bytes]]
    #: Where the last line ends that counts or is damaged. The rest must be cut off.
    end: int
    #: How many lines that is.
    count: int
    #: Whether lines that do not count stand before ones that do.
    mixed: bool
    #: Whether lines are of later writes than the version allows: then an older file of the session was put back.
    ahead: bool
    #: Where a torn end begins, if there is one.
    torn: int | None
    #: What is wrong, if it is damaged.
    damage: DecodeError | None


def encode_header(key: str) -> bytes:
    """Return the first line of a session's archive."""
    line = b'{"format":"%b","key":%b' % (_NAME.name.encode(), encode_json(key))
    return line + CRC % zlib.crc32(line, _seed(key)) + b"\n"


def body_of(message: Message) -> bytes:
    """Return the body of a message's line."""
    return encode_message(message)[1:-1]


def encode_lines(key: str, generation: str, first: int, lines: Iterable[tuple[int, bytes]]) -> bytes:
    """Return lines, given the revision and the body of each.

    :param first: the number of the first one.
    """
    seed, named = _seed(key), encode_json(generation)
    encoded = []
    for number, (revision, body) in enumerate(lines, first):
        line = b'{"number":%d,"generation":%b,"revision":%d,%b' % (number, named, revision, body)
        encoded.append(line + CRC % zlib.crc32(line, seed))
    return b"".join([line + b"\n" for line in encoded])


def position_of(body: bytes) -> int:
    """Return the position of the message in a body.

    :raises DecodeError: if there is none.
    """
    found = _POSITION.match(body)
    if found is None:
        raise DecodeError(0, "a line without a position")
    return int(found.group(1))


def decode_bodies(bodies: Iterable[bytes]) -> list[Message]:
    """Return the messages in bodies, by position.

    :raises DecodeError: if one is none, or two have one position.
    """
    messages: list[Message] = []
    ordered = sorted(bodies, key=position_of)
    for first in range(0, len(ordered), _AT_ONCE):
        some = decode_messages(b"".join((b"[\n{", b"},\n{".join(ordered[first : first + _AT_ONCE]), b"}\n]")))
        if messages and messages[-1].position == some[0].position:
            raise DecodeError(0, "positions do not increase")
        messages += some
        give_way()
    return messages


def decode(data: bytes, key: str, version: Version | None, path: str) -> Found:
    """Return the content of an archive's file.

    :param version: the session's, as its own file has it. Without a session (`None`) no line counts.
    :param path: the file, for the error.
    :raises UnsupportedFormatError: if it is of another format.
    """
    with contextlib.suppress(DecodeError):
        check_format(data, path)
    return _Scan(data, key, version).run()


@attrs.define(eq=False, repr=False)
class _Scan:
    data: bytes
    key: str
    version: Version | None
    lines: list[tuple[int, bytes]] = attrs.field(factory=list)
    end: int = 0
    count: int = 0
    mixed: bool = False
    #: Whether an earlier line does not count.
    passed: bool = False
    ahead: bool = False
    torn: int | None = None
    damage: DecodeError | None = None

    def run(self) -> Found:
        data, seed = self.data, _seed(self.key)
        start = data.find(b"\n") + 1 or len(data)
        if data[:start] != encode_header(self.key):
            self.damage = DecodeError(0, _NO_HEADER)
        self.end, number = start, 0
        generation = b"" if self.version is None else encode_json(self.version.generation)
        while start < len(data):
            stop = data.find(b"\n", start) + 1
            line = data[start : stop - 1] if stop else data[start:]
            head = _head(line, number, seed, skips=self.torn is not None) if stop else None
            number = number if head is None else int(head[1])
            if head is None:
                self._bad(start, stop, number, line)
            elif self.version is not None and head[2] == generation and int(head[3]) <= self.version.revision:
                self._counting(stop, number, (int(head[3]), line[head.end() : -CRC_SIZE]))
            else:
                self.passed = True
                self.ahead = self.ahead or (self.version is not None and int(head[3]) > self.version.revision + 1)
            start, number = stop or len(data), number + 1
        return Found(self.lines, self.end, self.count, self.mixed, self.ahead, self.torn, self.damage)

    def _counting(self, stop: int, number: int, line: tuple[int, bytes]) -> None:
        if self.torn is not None:
            self._damaged(self.torn)
            self.torn = None
        self.lines.append(line)
        self.mixed = self.mixed or self.passed
        self.end, self.count = stop, number + 1

    def _bad(self, start: int, stop: int, number: int, line: bytes) -> None:
        if stop and b"\0" not in line:
            self._damaged(start)
            self.end, self.count = stop, number + 1
        elif self.torn is None:
            self.torn = start

    def _damaged(self, offset: int) -> None:
        if self.damage is None:
            self.damage = DecodeError(offset, "a line is not what was written")


def _head(line: bytes, number: int, seed: int, *, skips: bool) -> re.Match[bytes] | None:
    """Return the start of a line; `None` if the line is damaged, or belongs to another place.

    :param skips: whether lines before it may have lost their line feeds, so that it has a higher number.
    """
    if line[-CRC_SIZE:] != CRC % zlib.crc32(line[:-CRC_SIZE], seed):
        return None
    head = HEAD.match(line)
    if head is None or not (int(head[1]) == number or (skips and int(head[1]) > number)):
        return None
    return head


def _seed(key: str) -> int:
    return zlib.crc32(key.encode())
