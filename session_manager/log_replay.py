"""Reading a log: its first line is a session, and each record's changes are applied to it.

After each record the session must be at the next revision, and agree with the record's state in generation, start, end and
count. What is not so is **damage**, as is a line that is not what was written, wherever it stands. Only the last line may be
**torn** (`session_manager.log_format`): then the session is what the lines before it say. A last line that begins with a
whole record is damage, not torn: its line feed was lost, and what it says was acknowledged. (With nothing but NULs behind the
record it is torn: a power cut may leave a file's length, and zeros for its last page.)
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from datetime import datetime, timezone

import attrs
import msgspec

from session_manager.change_codec import AnyChange, AppendStruct, NewMessage, change_of
from session_manager.changes import apply
from session_manager.codec import (
    DecodeError,
    State,
    are_plain,
    checked_messages,
    decode_json,
    decode_lines,
    decoder_of,
    flaw_of,
    session_of,
)
from session_manager.event_loops import give_way, gives_way, giving_way
from session_manager.json_value import MAX_LEVELS, within_levels
from session_manager.log_format import CRC_SIZE, First, Record, check_format, check_state, damaged, is_whole
from session_manager.model import Message, Session
from session_manager.view import View

__all__ = ["Log", "decode"]

_CRC_START = b',"crc32":"'
#: What stands around the messages of a first line, and what each of them begins with.
_MESSAGES, _MESSAGES_END, _LINE_START = b'"messages":[', b'],\t"state":', b',{"position":'
#: How many bytes of lines are split at once.
_PIECE = 16 * 1024

_decode_first = decoder_of(First)
_decode_record = decoder_of(Record)
_restore = Message._restore
_UTC = timezone.utc
_fast_record = msgspec.json.Decoder(Record).decode


@attrs.frozen(eq=False, repr=False)
class Log:
    """What a log says."""

    session: Session
    #: What tells its content from any other's (`session_manager.log_format.next_seal`).
    seal: int
    #: Where a torn record begins; `None` if there is none.
    torn: int | None


def decode(data: bytes, path: str) -> Log:
    """Return the session of a file.

    :param data: the whole file.
    :param path: the file, for the error.
    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if it is damaged: if a single bit of it, but in a torn record, is not what was written.
    """
    check_format(data, path)
    end = data.find(b"\n")
    if end < 0:
        raise DecodeError(0, "the first line is cut off")
    first = memoryview(data)[:end]  # not copied: it may be all there is
    lines = _split(data, end + 1)
    rest = lines.pop()
    torn = len(data) - len(rest) if rest else None
    if not rest and lines and not is_whole(lines[-1]) and not _is_json(lines[-1]):
        rest = lines.pop()
        torn = len(data) - len(rest) - 1
    if torn is not None and _begins_with_record(rest.rstrip(b"\0")):
        raise DecodeError(torn, "a line feed is damaged")
    whole: list[bytes | memoryview] = [first, *lines]
    bad = damaged(whole)
    if bad is not None:
        raise DecodeError(_offset(whole, bad), "a line is damaged")
    session = _first_session(data, end)
    try:
        session = _Replay(session).run(lines)
    except DecodeError:
        failing = True
    else:
        failing = False
    if failing:
        session = _replayed_slowly(session, lines, whole)
    return Log(session, zlib.crc32(b"".join([line[-CRC_SIZE:] for line in whole])), torn)


def _split(data: bytes, start: int) -> list[bytes]:
    """Return the lines from a place on; what follows the last line feed is the last one.

    :raises DecodeError: if there are so many that they cannot be lines: as a list they would take a hundred times the memory.
    """
    lines: list[bytes] = []
    while (cut := data.find(b"\n", start + _PIECE)) >= 0:
        lines += data[start:cut].split(b"\n")
        start = cut + 1
        if len(lines) * CRC_SIZE > start:
            raise DecodeError(_first_damaged(data), "a line is damaged")
        give_way()
    return lines + data[start:].split(b"\n")


def _replayed_slowly(session: Session, lines: Sequence[bytes], whole: Sequence[bytes | memoryview]) -> Session:
    """Replay once more, record by record, to find the one that is wrong."""
    replay = _Replay(session, at_once=False)
    failure = None
    try:
        return replay.run(lines)
    except DecodeError as error:
        failure = DecodeError(_offset(whole, 1 + replay.done), error.reason)
    raise failure


def _first_damaged(data: bytes) -> int:
    start, end = 0, data.find(b"\n")
    while end >= 0 and is_whole(data[start:end]):
        start, end = end + 1, data.find(b"\n", end + 1)
    return start


def _offset(lines: Sequence[bytes | memoryview], number: int) -> int:
    return sum(len(line) + 1 for line in lines[:number])


def _is_json(line: bytes) -> bool:
    try:
        decode_json(line)
    except DecodeError:
        return False
    return True


def _begins_with_record(line: bytes) -> bool:
    """Say whether there is a whole record in a line, and something after it."""
    place = line.find(_CRC_START)
    while place >= 0:
        if place + CRC_SIZE < len(line) and is_whole(line[: place + CRC_SIZE]):
            return True
        place = line.find(_CRC_START, place + 1)
    return False


def _first_of(data: bytes, end: int) -> First:
    """Decode a first line; a large one in pieces, in a thread that works for a loop."""
    start = data.find(_MESSAGES, 0, end) + len(_MESSAGES)
    stop = data.rfind(_MESSAGES_END, 0, end)
    line = memoryview(data)[:end]
    if gives_way() and start < stop - _PIECE:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, DecodeError):
            lines = decode_lines(line[start - 1 : stop + 1], _LINE_START)
            shell: First = _decode_first(data[:start] + data[stop:end])
            return msgspec.structs.replace(shell, messages=lines)
    first: First = _decode_first(line)
    return first


def _first_session(data: bytes, end: int) -> Session:
    first = _first_of(data, end)
    state = first.state
    check_state(state)
    if not within_levels(first.metadata):
        raise DecodeError(0, f"more than {MAX_LEVELS} levels")
    failure = None
    try:
        messages = checked_messages(first.messages)
    except DecodeError as error:
        failure = DecodeError(0, error.reason)
    if failure is not None:
        raise failure
    whole = State(
        key=first.key,
        generation=state.generation,
        revision=state.revision,
        created=state.created,
        updated=state.updated,
        start=state.start,
        end=state.end,
        refs=first.refs,
        summary=first.summary,
        metadata=first.metadata,
        count=state.count,
        archived=state.archived,
    )
    return session_of(whole, View(messages))


class _Replay:
    """A session, and the messages that further records appended to it, which it gets in one go.

    Most records append messages and do nothing else; making a session of each would cost several times their decoding.

    :param at_once: whether the messages of all such records are checked together; then nobody knows which one is wrong.
    """

    def __init__(self, session: Session, *, at_once: bool = True) -> None:
        self._session = session
        self._at_once = at_once
        self._new: list[NewMessage] = []
        self._end = session.end
        self._updated: datetime = session.updated
        #: How many records were applied.
        self.done = 0

    def run(self, lines: Sequence[bytes]) -> Session:
        """Apply records, without their line feeds, and return the session.

        :raises DecodeError: if one is not a record, or does not follow on what came before; its offset means nothing.
        """
        session = self._session
        generation, start, count = session.generation, session.start, len(session.messages)
        archived = session._archived
        for revision, line in enumerate(giving_way(lines), session.revision + 1):
            try:
                record = _fast_record(line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                record = None
            if record is None:
                record = _decode_record(line)
            for change in record.changes:
                if type(change) is AppendStruct and change.turn is None and change.guard is None:
                    if not count and change.messages:
                        start = self._end
                    count += self._append(change)
                else:
                    session = self._apply(change)
                    generation, start, count = session.generation, session.start, len(session.messages)
            state = record.state
            if (
                state.revision != revision
                or state.count != count
                or state.end != self._end
                or state.start != start
                or state.generation != generation
                or state.archived < 0
            ):
                raise DecodeError(0, "a record does not follow on the one before it")
            archived = state.archived
            self.done += 1
        session = self._merged()
        return session._with(revision=session.revision + self.done, _archived=archived)

    def _append(self, change: AppendStruct) -> int:
        """Take the messages of a change that does nothing but append; return how many."""
        if change.at.tzinfo is not _UTC:
            raise DecodeError(0, "a time that is not UTC")
        if change.messages:
            self._new.extend(change.messages)
            self._end += len(change.messages)
            self._updated = max(change.at, self._updated)
        if not self._at_once:
            self._merged()
        return len(change.messages)

    def _apply(self, change: AnyChange) -> Session:
        session = self._session = apply(self._merged(), change_of(change))
        self._end, self._updated = session.end, session.updated
        return session

    def _merged(self) -> Session:
        if self._new:
            if not are_plain(self._new):
                for new in giving_way(self._new):
                    if flaw := flaw_of(new.message, new.created_at, new.metadata):
                        raise DecodeError(0, flaw)
            messages = [
                _restore(new.message, new.created_at, new.metadata, new.ref, position)
                for position, new in enumerate(giving_way(self._new), self._session.end)
            ]
            appended = self._session.messages.appended(messages)
            self._session = self._session._with(messages=appended, end=self._end, updated=self._updated)
            self._new = []
        return self._session
