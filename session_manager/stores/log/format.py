r"""Log format 1: a session as a line of what it was, and a line for each save since (``*.session.jsonl``).

The bytes, UTF-8, ``⏎`` being one line feed (0x0A) at the end of each line and nowhere else, ``⇥`` one tab (0x09)::

    {"format":"session_manager-log/1","key":…,"refs":[…],"summary":…,"metadata":{…},"messages":[{…},{…}],
     ⇥"state":{…},"state_crc32":"1f2e3d4c","crc32":"9ae0daaf"}⏎
    {"changes":[{…}],⇥"state":{…},"state_crc32":"1f2e3d4c","crc32":"9ae0daaf"}⏎
    {"changes":[{…}],⇥"state":{…},"state_crc32":"1f2e3d4c","crc32":"9ae0daaf"}⏎

* The **first line** is a whole session; its messages are as in `session_manager.codec.lines`, with their positions. It is only
  ever written by replacing the file.
* A **record** is what one save appended: its changes (`session_manager.codec.changes`), which lead from the session before
  it to the session after it.
* The **state** stands last in both, and says what a list of sessions shows, so that the end of the file is enough for
  that: ``{"generation":…,"revision":…,"created":…,"updated":…,"last_message_at":…,"start":…,"end":…,"count":…,
  "has_summary":…,"archived":…,"metadata":{…}}``. ``archived`` is absent if it is 0; ``metadata`` is null if it is more than 1,024 bytes. A tab, as a byte, is nowhere
  else in a line (JSON texts escape it): the last one in a file is where its last state begins.
* ``state_crc32`` is the CRC-32 of the state's object; ``crc32`` that of every byte of the line before its own
  ``,"crc32"``. They are those of zlib, IEEE 802.3, in eight lowercase hex digits, and are compared as bytes.

``format`` is judged first: a file of another number is an `UnsupportedFormatError`, whatever else is in it. Readers
ignore fields that they do not know; what an older reader would misread, a kind of change say, needs a new number.

Lines end at a line feed only. **A torn record** is a last line that has no line feed, or is not JSON: the write of a save
that was never acknowledged. Readers leave it out (`session_manager.stores.log.replay` says what they do about the rest).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import reduce

import attrs
import msgspec

from session_manager.codec.changes import AnyChange
from session_manager.codec.json import DecodeError, decoder_of, encode_json
from session_manager.codec.lines import Line, encode_messages
from session_manager.codec.state import LogState, Texts, check_state
from session_manager.errors import UnsupportedFormatError
from session_manager.model.json_value import JsonObject
from session_manager.model.session import Session
from session_manager.stores.files.kinds import SUFFIXES
from session_manager.threads import giving_way

__all__ = [
    "CRC_SIZE",
    "MAX_KEY",
    "MAX_STATE",
    "SUFFIX",
    "Encoded",
    "First",
    "LogState",
    "Record",
    "check_format",
    "damaged",
    "encode_first",
    "encode_notes",
    "encode_record",
    "encode_state",
    "is_whole",
    "key_in",
    "next_fingerprint",
    "start_of",
    "starts_whole",
    "state_at_end",
]

#: How the name of a log's file ends.
SUFFIX = SUFFIXES["log"]

#: Larger than any state that holds metadata; the end of a file that is read to find one.
MAX_STATE = 4096

#: More than the start of any first line, up to its key's end: of which each byte may be six characters.
MAX_KEY = 8192

_MAX_METADATA = 1024
_FORMAT = "session_manager-log/1"
_START = b'{"format":"session_manager-log/1",'
_NAMED_FORMAT = re.compile(rb'\{"format":"(session_manager-log/[0-9]{1,9})"')
_KEY = re.compile(rb'"key":("(?:[^"\\]|\\.)*"),"refs":', re.DOTALL)
_STATE = b',\t"state":'
_STATE_CRC = b',"state_crc32":"%08x"'
_CRC_START = b',"crc32":"'
_CRC = _CRC_START + b'%08x"}'

#: How many bytes of a line, without its line feed, its CRC does not cover.
CRC_SIZE = len(_CRC % 0)

_STATE_CRC_SIZE = len(_STATE_CRC % 0)
_NO_METADATA = b"{}"


class Numbers(msgspec.Struct, gc=False):
    """What a record's state must agree in with the session that its changes lead to."""

    generation: str
    revision: int
    start: int
    end: int
    count: int
    archived: int = 0


class Record(msgspec.Struct, gc=False):
    """A line after the first."""

    changes: list[AnyChange]
    state: Numbers

    def __repr__(self) -> str:
        return f"<record of {len(self.changes)} changes>"


class First(Texts):
    """The first line."""

    messages: list[Line]
    state: LogState

    def __repr__(self) -> str:
        return f"<first line of {self.key[:80]!a}>"


@attrs.frozen(eq=False, repr=False)
class Encoded:
    """The first line of a session."""

    buffers: tuple[bytes, ...]
    #: How many bytes they are.
    size: int
    fingerprint: int


_decode_state = decoder_of(LogState)
_decode_text = decoder_of(str)


def encode_notes(metadata: JsonObject) -> tuple[bytes, bytes]:
    """Return a session's metadata as JSON, and as a state has it: null, if it is large."""
    if not metadata:
        return _NO_METADATA, _NO_METADATA
    notes = encode_json(dict(metadata))
    return notes, notes if len(notes) <= _MAX_METADATA else b"null"


def encode_state(session: Session, notes: bytes) -> bytes:
    """Return the object of a session's state.

    :param notes: its metadata, as `encode_notes` gives it for a state.
    """
    messages = session.messages
    count = len(messages)
    written = LogState(
        session.generation,
        session.revision,
        session.created,
        session.updated,
        messages[-1].created_at if count else None,
        session.start,
        session.end,
        count,
        bool(session.summary),
        session._archived,
    )
    return encode_json(written)[:-1] + b',"metadata":%b}' % notes


def encode_record(changes: bytes, state: bytes) -> bytes:
    """Return a record, with its line feed.

    :param changes: as `session_manager.codec.changes.encode_changes` gives them.
    :param state: of the session that they lead to.
    """
    line = b'{"changes":%b,\t"state":%b,"state_crc32":"%08x"' % (changes, state, zlib.crc32(state))
    return line + b',"crc32":"%08x"}\n' % zlib.crc32(line)


def encode_first(session: Session, notes: tuple[bytes, bytes] | None = None) -> Encoded:
    """Return the first line of a session's file, in pieces.

    :param notes: its metadata, if it was encoded before.
    """
    metadata, short = encode_notes(session._metadata) if notes is None else notes
    refs, summary = encode_json(session.refs), encode_json(session.summary)
    messages = list(encode_messages(session.messages, b","))
    head = start_of(session.key) + b'%b,"summary":%b,"metadata":%b,"messages":[' % (refs, summary, metadata)
    state = encode_state(session, short)
    tail = b"]" + _STATE + state + _STATE_CRC % zlib.crc32(state)
    end = tail + _CRC % reduce(lambda crc, piece: zlib.crc32(piece, crc), (*messages, tail), zlib.crc32(head)) + b"\n"
    buffers = (head, *messages, end)
    return Encoded(buffers, sum(map(len, buffers)), next_fingerprint(end, 0))


def next_fingerprint(line: bytes, fingerprint: int) -> int:
    """Return what tells a file's content from any other's: the CRC of its lines' last 20 bytes, without line feeds.

    :param line: a line, or its end.
    :param fingerprint: that of the lines before it; 0 if it is the first.
    """
    return zlib.crc32(line[-CRC_SIZE - 1 : -1], fingerprint)


def is_whole(line: bytes | memoryview) -> bool:
    """Say whether a line, without its line feed, is what was written."""
    return line[-CRC_SIZE:] == _CRC % zlib.crc32(line[:-CRC_SIZE])


def starts_whole(data: bytes, start: int, stop: int) -> bool:
    """Say whether some bytes of a file begin with a whole line, and something follows it. In one pass."""
    whole = memoryview(data)
    crc, done = 0, start
    place = data.find(_CRC_START, start, stop)
    while place >= 0:
        crc, done = zlib.crc32(whole[done:place], crc), place
        end = place + CRC_SIZE
        if end < stop and whole[place:end] == _CRC % crc:
            return True
        place = data.find(_CRC_START, place + 1, stop)
    return False


def damaged(lines: Sequence[bytes | memoryview]) -> int | None:
    """Return the number of the first of some lines, without their line feeds, that is not what was written.

    All of them are looked at in one go, which takes half the time.
    """
    crcs = (
        () if min(map(len, lines)) < CRC_SIZE else tuple([zlib.crc32(line[:-CRC_SIZE]) for line in giving_way(lines)])
    )
    if crcs and (_CRC * len(lines)) % crcs == b"".join([line[-CRC_SIZE:] for line in lines]):
        return None
    return next((number for number, line in enumerate(lines) if not is_whole(line)), None)


def start_of(key: str) -> bytes:
    """Return what the file of a key starts with."""
    return _START + b'"key":%b,"refs":' % encode_json(key)


def check_format(data: bytes, path: str) -> None:
    """Judge the start of a file.

    :param path: the file, for the error.
    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if it is no log.
    """
    named = _NAMED_FORMAT.match(data)
    if named is None:
        raise DecodeError(0, "empty" if not data else "not a session's log")
    found = named.group(1).decode()
    if found != _FORMAT:
        raise UnsupportedFormatError(path, found, _FORMAT)


def key_in(data: bytes, path: str) -> str:
    """Return the key in the start of a file, unchecked.

    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if there is none.
    """
    check_format(data, path)
    found = _KEY.match(data, len(_START)) if data.startswith(_START) else None
    if found is None:
        raise DecodeError(0, "the first line is damaged or cut off")
    key: str = _decode_text(found.group(1))
    return key


def state_at_end(data: bytes) -> LogState | None:
    """Return the state in the end of a file; `None` if it takes more than that to tell.

    :param data: some bytes up to the end of the file.
    """
    end = data.rfind(b"\n")
    start = data.rfind(_STATE, 0, end) if end > 0 else -1
    if start < 0 or data.find(b"\n", start, end) >= 0:
        return None
    state = data[start + len(_STATE) : end - CRC_SIZE - _STATE_CRC_SIZE]
    if data[end - CRC_SIZE - _STATE_CRC_SIZE : end - CRC_SIZE] != _STATE_CRC % zlib.crc32(state):
        return None
    try:
        return decode_state(state)
    except DecodeError:
        return None


def decode_state(data: bytes) -> LogState:
    """Return the state that some bytes encode.

    :raises DecodeError: if they encode none, or an impossible one.
    """
    state: LogState = _decode_state(data)
    check_state(state)
    return state
