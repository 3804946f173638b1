r"""Log format 1: one line for a whole session, and one line for each save since (``*.session.jsonl``).

The bytes, UTF-8, ``⏎`` being one line feed (0x0A) at the end of each line and nowhere else, ``⇥`` one tab (0x09)::

    {"format":"session_manager-log/1","key":…,"refs":[…],"summary":…,"metadata":{…},"messages":[{…},{…}],
     ⇥"state":{…},"state_crc32":"1f2e3d4c","crc32":"9ae0daaf"}⏎
    {"changes":[{…}],⇥"state":{…},"state_crc32":"1f2e3d4c","crc32":"9ae0daaf"}⏎
    {"changes":[{…}],⇥"state":{…},"state_crc32":"1f2e3d4c","crc32":"9ae0daaf"}⏎

* The **first line** is a whole session; its messages are as in `session_manager.codec.lines`, with their positions. It is only
  ever written by replacing the file.
* A **record** is the line of one save: its changes (`session_manager.codec.changes`), which lead from the session before the
  save to the session after it.
* The **state** stands last in both. It has what a list of sessions shows, so that a list reads only the end of the file: ``{"generation":…,"revision":…,"created":…,"updated":…,"last_message_at":…,"start":…,"end":…,"count":…,
  "has_summary":…,"archived":…,"metadata":{…}}``. ``archived`` is absent if it is 0; ``expires_after`` follows it if the session has an expiry; ``metadata`` is null if it is more than 1,024 bytes. A tab, as a byte, is nowhere
  else in a line (JSON texts escape it): the last one in a file is where its last state begins.
* ``state_crc32`` is the CRC-32 of the state's object; ``crc32`` that of every byte of the line before its own
  ``,"crc32"``. They are those of zlib, IEEE 802.3, in eight lowercase hex digits, and are compared as bytes.

``format`` is judged first: a file of another number is an `UnsupportedFormatError`, whatever else is in it. Readers
ignore unknown fields. Anything that an older reader would misread, such as a new kind of change, needs a new number.

Lines end at a line feed only. **A torn record** is a last line that has no line feed, or is not JSON: the write of a save
that was never acknowledged. Readers leave it out (`session_manager.stores.log.replay` says what they do about the rest).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from datetime import timedelta
from functools import reduce

import msgspec

from session_manager.codec.changes import AnyChange
from session_manager.codec.format_name import FormatName
from session_manager.codec.json import DecodeError, decoder_of, encode_json
from session_manager.codec.lines import Line, encode_messages
from session_manager.codec.state import LogState, Texts, check_state
from session_manager.frozen import Frozen
from session_manager.model.json_value import JsonObject
from session_manager.model.session import Session
from session_manager.stores.files.kinds import SUFFIXES
from session_manager.threads import give_way, giving_way

__all__ = [
    "CRC_SIZE",
    "CRC_START",
    "MAX_KEY",
    "MAX_STATE",
    "START",
    "SUFFIX",
    "Encoded",
    "First",
    "LogState",
    "Numbers",
    "Record",
    "are_whole",
    "check_format",
    "damaged",
    "decode_state",
    "encode_first",
    "encode_metadata",
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

#: How many bytes at the end of a file are read to find a state: more than any state with metadata has.
MAX_STATE = 4096

#: More bytes than any first line has up to the end of its key. Each byte of a key may take six characters.
MAX_KEY = 8192

_MAX_METADATA = 1024
_NAME = FormatName("session_manager-log/1", "not a session's log")
check_format = _NAME.check
START = b'{"format":"session_manager-log/1",'
_KEY = re.compile(rb'"key":("(?:[^"\\]|\\.)*"),"refs":', re.DOTALL)
_STATE = b',\t"state":'
_STATE_CRC = b',"state_crc32":"%08x"'
CRC_START = b',"crc32":"'
_CRC = CRC_START + b'%08x"}'

#: How many bytes at the end of a line, without its line feed, its CRC does not cover.
CRC_SIZE = len(_CRC % 0)

_STATE_CRC_SIZE = len(_STATE_CRC % 0)
_NO_METADATA = b"{}"
_HEAD = b'{"changes":'
_CRC_OF_HEAD = zlib.crc32(_HEAD)


class Numbers(msgspec.Struct, gc=False):
    """The fields of a record's state that must agree with the session after its changes."""

    generation: str
    revision: int
    start: int
    end: int
    count: int
    archived: int = 0
    expires_after: timedelta | None = None


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


class Encoded(Frozen, frozen=True):
    """The first line of a session."""

    buffers: tuple[bytes, ...]
    #: How many bytes they are.
    size: int
    fingerprint: int


_decode_state = decoder_of(LogState)
_decode_text = decoder_of(str)


def encode_metadata(metadata: JsonObject) -> tuple[bytes, bytes]:
    """Encode a session's metadata twice: for the first line, and for a state, where null stands for large metadata."""
    if not metadata:
        return _NO_METADATA, _NO_METADATA
    whole = encode_json(dict(metadata))
    return whole, whole if len(whole) <= _MAX_METADATA else b"null"


def encode_state(session: Session, metadata: bytes) -> bytes:
    """Return the object of a session's state.

    :param metadata: as `encode_metadata` encodes it for a state.
    """
    messages, start, last_message_at = session.messages, session.end, None
    count = len(messages)
    if count:
        first, last = messages.ends()
        assert first.position is not None
        start, last_message_at = first.position, last.created_at
    written = LogState(
        session.generation,
        session.revision,
        session.created,
        session.updated,
        last_message_at,
        start,
        session.end,
        count,
        bool(session.summary),
        session._archived,
        session.expires_after,
    )
    return encode_json(written)[:-1] + b',"metadata":%b}' % metadata


def encode_record(changes: bytes | bytearray, state: bytes) -> tuple[bytes | bytearray, ...]:
    """Return a record, with its line feed, in pieces: `next_fingerprint` needs the last one only.

    :param changes: as `session_manager.codec.changes.encode_changes` gives them.
    :param state: of the session that they lead to.
    """
    tail = b',\t"state":%b,"state_crc32":"%08x"' % (state, zlib.crc32(state))
    crc = zlib.crc32(tail, zlib.crc32(changes, _CRC_OF_HEAD))
    return _HEAD, changes, tail, b',"crc32":"%08x"}\n' % crc


def encode_first(session: Session, metadata: tuple[bytes, bytes] | None = None) -> Encoded:
    """Return the first line of a session's file, in pieces.

    :param metadata: as `encode_metadata` gives it, if that was called before.
    """
    whole, short = encode_metadata(session._metadata) if metadata is None else metadata
    refs, summary = encode_json(session.refs), encode_json(session.summary)
    messages = list(encode_messages(session.messages, b","))
    head = start_of(session.key) + b'%b,"summary":%b,"metadata":%b,"messages":[' % (refs, summary, whole)
    state = encode_state(session, short)
    tail = b"]" + _STATE + state + _STATE_CRC % zlib.crc32(state)
    end = tail + _CRC % reduce(lambda crc, piece: zlib.crc32(piece, crc), (*messages, tail), zlib.crc32(head)) + b"\n"
    buffers = (head, *messages, end)
    return Encoded(buffers, sum(map(len, buffers)), next_fingerprint(end, 0))


def next_fingerprint(line: bytes | bytearray, fingerprint: int) -> int:
    """Return the fingerprint of a file's content: the CRC of its lines' last 20 bytes, without line feeds.

    :param line: a line, or its end.
    :param fingerprint: that of the lines before it; 0 if it is the first.
    """
    return zlib.crc32(line[-CRC_SIZE - 1 : -1], fingerprint)


def is_whole(line: bytes | memoryview) -> bool:
    """Say whether a line, without its line feed, has its CRC."""
    return line[-CRC_SIZE:] == _CRC % zlib.crc32(line[:-CRC_SIZE])


def starts_whole(data: bytes, start: int, stop: int) -> bool:
    """Say, in one pass, whether some bytes of a file begin with a whole line that something follows."""
    whole = memoryview(data)
    crc, done = 0, start
    place = data.find(CRC_START, start, stop)
    while place >= 0:
        crc, done = zlib.crc32(whole[done:place], crc), place
        end = place + CRC_SIZE
        if end < stop and whole[place:end] == _CRC % crc:
            return True
        place = data.find(CRC_START, place + 1, stop)
    return False


def damaged(lines: Sequence[bytes | memoryview]) -> int | None:
    """Return the number of the first damaged line of some lines, without their line feeds.

    One call for all lines takes half the time of a call for each.
    """
    crcs = (
        () if min(map(len, lines)) < CRC_SIZE else tuple([zlib.crc32(line[:-CRC_SIZE]) for line in giving_way(lines)])
    )
    if crcs and (_CRC * len(lines)) % crcs == b"".join([line[-CRC_SIZE:] for line in lines]):
        return None
    return next((number for number, line in enumerate(lines) if not is_whole(line)), None)


def are_whole(data: bytes) -> bool:
    """Say whether a file is lines that have their CRCs, and nothing else. Nothing of it is copied."""
    whole, crcs, found, start = memoryview(data), [], [], 0
    while (end := data.find(b"\n", start)) >= 0:
        crcs.append(zlib.crc32(whole[start : end - CRC_SIZE]))
        found.append(data[end - CRC_SIZE : end])
        start = end + 1
        give_way()
    return 0 < start == len(data) and (_CRC * len(crcs)) % tuple(crcs) == b"".join(found)


def start_of(key: str) -> bytes:
    """Return the first bytes of a key's file."""
    return START + b'"key":%b,"refs":' % encode_json(key)


def key_in(data: bytes, path: str) -> str:
    """Return the key in the start of a file, unchecked.

    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if there is none.
    """
    check_format(data, path)
    found = _KEY.match(data, len(START)) if data.startswith(START) else None
    if found is None:
        raise DecodeError(0, "the first line is damaged or cut off")
    key: str = _decode_text(found.group(1))
    return key


def state_at_end(data: bytes) -> LogState | None:
    """Return the state at the end of a file; `None` if the whole file must be read to tell it.

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
