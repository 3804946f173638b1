"""Reading a log: its first line is a session, and each record's changes are applied to it.

After each record the session must be at the next revision, and agree with the record's state in generation, start, end and
count. Anything else is **damage**; so is any line without its CRC. Only the last line may be **torn**
(`session_manager.stores.log.format`): the lines before it then make the session. A last line that begins with a whole record is
damage, not torn: its line feed was lost, and its save was acknowledged. If only NULs follow the record, it is torn, because a
power cut may leave a file's length, and zeros for its last page.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

import msgspec

from session_manager.codec.changes import AnyChange, AppendStruct, change_of
from session_manager.codec.json import DecodeError, decode_json, decoder_of
from session_manager.codec.lines import checked_messages, decode_lines, message_of
from session_manager.codec.state import check_state, session_of
from session_manager.errors import raise_alone
from session_manager.frozen import Frozen
from session_manager.model.changes import Edit, Summarize, UpdateMetadata, apply
from session_manager.model.json_value import MAX_LEVELS, JsonObject, within_levels
from session_manager.model.message import Message
from session_manager.model.session import MAX_REFS, Session
from session_manager.model.view import View
from session_manager.stores.log.format import (
    CRC_SIZE,
    First,
    Record,
    check_format,
    damaged,
    is_whole,
    next_fingerprint,
    starts_whole,
)
from session_manager.threads import give_way, gives_way, giving_way

__all__ = ["Log", "decode"]

#: The bytes around the messages of a first line, and the first bytes of each message.
_MESSAGES, _MESSAGES_END, _LINE_START = b'"messages":[', b'],\t"state":', b',{"position":'
#: How many bytes of lines are split at once.
_PIECE = 16 * 1024
#: How many decoded messages are gathered before they are built.
_AT_ONCE = 4096
#: How many summaries may be of missing messages. No writer writes any, and each makes the reader look at all messages.
_MAX_VAIN = 10
_NOT_NEXT = "a record does not follow on the one before it"

_decode_first = decoder_of(First)
_decode_record = decoder_of(Record)
_UTC = timezone.utc
_fast_record = msgspec.json.Decoder(Record).decode


class Log(Frozen, frozen=True):
    """The content of a log."""

    session: Session
    #: The fingerprint of the content (`session_manager.stores.log.format.next_fingerprint`).
    fingerprint: int
    #: Where a torn record begins; `None` if there is none.
    torn: int | None


def decode(data: bytes, path: str) -> Log:
    """Return the session of a file. Time and memory are in proportion to the file, whatever is in it.

    :param data: the whole file.
    :param path: the file, for the error.
    :raises UnsupportedFormatError: if it is of another format.
    :raises DecodeError: if it is damaged: if a single bit of it, outside of a torn record, has changed.
    """
    check_format(data, path)
    end = data.find(b"\n")
    if end < 0:
        raise DecodeError(0, "the first line is cut off")
    stop, torn = _whole_lines(data, end + 1)
    first = memoryview(data)[:end]  # not copied: it may be the whole file
    if not is_whole(first):
        raise DecodeError(0, "a line is damaged")
    replay = _Replay(_first_session(data, end))
    fingerprint = next_fingerprint(bytes(first[-CRC_SIZE:]) + b"\n", 0)
    try:
        for offset, lines in _pieces(data, end + 1, stop):
            _check_lines(offset, lines)
            fingerprint = zlib.crc32(b"".join([line[-CRC_SIZE:] for line in lines]), fingerprint)
            replay.take(lines)
        session = replay.session()
    except _WrongRecordError:
        failing = True
    else:
        failing = False
    if failing:
        session = _replayed_slowly(data, end, stop)
    return Log(session, fingerprint, torn)


def _whole_lines(data: bytes, start: int) -> tuple[int, int | None]:
    """Return where the lines after the first one end, and where a torn record begins; `None` if there is none.

    :raises DecodeError: if a line feed was lost.
    """
    stop = data.rfind(b"\n", start - 1) + 1
    torn, end = stop, len(data)
    if stop == end:
        torn, end = data.rfind(b"\n", start - 1, stop - 1) + 1, stop - 1
        if stop == start or is_whole(line := memoryview(data)[torn:end]) or _is_json(line):
            return stop, None
    if starts_whole(data, torn, _without_nuls(data, torn, end)):
        raise DecodeError(torn, "a line feed is damaged")
    return torn, torn


def _without_nuls(data: bytes, start: int, stop: int) -> int:
    """Return how long some bytes are without the NULs at their end."""
    while stop > start and not (left := data[max(stop - _PIECE, start) : stop].rstrip(b"\0")):
        stop = max(stop - _PIECE, start)
    return max(stop - _PIECE, start) + len(left) if stop > start else start


def _pieces(data: bytes, start: int, stop: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines between two places in short lists, each with its place."""
    while start < stop:
        cut = data.find(b"\n", min(start + _PIECE, stop - 1))
        yield start, data[start:cut].split(b"\n")
        start = cut + 1
        give_way()


def _check_lines(offset: int, lines: Sequence[bytes]) -> None:
    bad = damaged(lines)
    if bad is not None:
        raise DecodeError(offset + sum(len(line) + 1 for line in lines[:bad]), "a line is damaged")


def _replayed_slowly(data: bytes, end: int, stop: int) -> Session:
    """Replay once more, record by record, to find the one that is wrong."""
    replay = _Replay(_first_session(data, end), at_once=False)
    for start, lines in _pieces(data, end + 1, stop):
        offset = start
        for line in lines:
            try:
                replay.take([line])
            except _WrongRecordError as error:
                raise_alone(DecodeError(offset, error.reason))
            offset += len(line) + 1
    return replay.session()


def _is_json(line: bytes | memoryview) -> bool:
    try:
        decode_json(line)
    except DecodeError:
        return False
    return True


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
    try:
        messages = checked_messages(first.messages)
    except DecodeError as error:
        raise_alone(DecodeError(0, error.reason))
    return session_of(state, View(messages), first)


class _WrongRecordError(DecodeError):
    """A whole record that does not follow on the lines before it."""


class _Replay:
    """A session that records are applied to. Messages of records that only append are gathered, and appended together.

    Most records only append messages; a session for each of them would cost several times their decoding.
    No other code has the session until the end, so that messages and metadata are changed in place.
    Each such change then costs its own size, however long the history is.

    :param session: the session of the first line, decoded for this alone.
    :param at_once: whether the messages of appending records are appended together, and not record by record.
    """

    def __init__(self, session: Session, *, at_once: bool = True) -> None:
        self._session = session
        self._at_once = at_once
        #: The messages that are gathered, and the turns.
        self._new: list[Message] = []
        self._turns: list[str] = []
        #: All refs that the session remembers, and older ones.
        self._refs = {*session.refs}
        self._revision = session.revision
        self._archived = session._archived
        #: As the states have it: an older writer, which does not know it, takes it away.
        self._expires_after = session.expires_after
        self._generation, self._start, self._count = session.generation, session.start, len(session.messages)
        self._end = session.end
        self._updated: datetime = session.updated
        self._owns_metadata = False
        self._vain = 0

    def take(self, lines: Sequence[bytes]) -> None:
        """Apply further records, without their line feeds.

        :raises _WrongRecordError: if one is no record, or does not follow on the lines before it; its offset means nothing.
        """
        try:
            self._take(lines)
            if len(self._new) > _AT_ONCE:
                self._merged()
        except DecodeError as error:
            raise_alone(_WrongRecordError(0, error.reason))

    def _take(self, lines: Sequence[bytes]) -> None:
        for line in giving_way(lines):
            try:
                record = _fast_record(line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                record = None
            if record is None:
                record = _decode_record(line)
            for change in record.changes:
                if type(change) is AppendStruct and self._is_plain(change):
                    if not self._count and change.messages:
                        self._start = self._end
                    self._count += self._append(change)
                else:
                    self._apply(change)
            self._revision += 1
            state = record.state
            if (
                state.revision != self._revision
                or state.count != self._count
                or state.end != self._end
                or state.start != self._start
                or state.generation != self._generation
                or state.archived < 0
            ):
                raise DecodeError(0, _NOT_NEXT)
            self._archived, self._expires_after = state.archived, state.expires_after

    def session(self) -> Session:
        """Return the session after the records that were taken."""
        return self._merged()._with(
            revision=self._revision, _archived=self._archived, expires_after=self._expires_after
        )

    def _is_plain(self, change: AppendStruct) -> bool:
        """Say whether a change certainly appends all of its messages."""
        return change.guard in (None, self._generation) and change.turn not in self._refs

    def _append(self, change: AppendStruct) -> int:
        """Gather the messages of a change that appends them; return how many."""
        if change.at.tzinfo is not _UTC:
            raise DecodeError(0, "a time that is not UTC")
        turn = change.turn
        if turn is not None:
            self._turns.append(turn)
            self._refs.add(turn)
        if change.messages or turn is not None:
            for new in giving_way(change.messages):
                self._new.append(message_of(new, self._end, turn))
                self._end += 1
            self._updated = max(change.at, self._updated)
        if not self._at_once:
            self._merged()
        return len(change.messages)

    def _apply(self, written: AnyChange) -> None:
        session, change = self._merged(), change_of(written)
        match change:
            case Edit():
                self._session = self._edited(session, change)
            case UpdateMetadata():
                self._session = self._noted(session, change)
            case _:
                self._session = apply(session, change)
        if isinstance(change, Summarize) and self._session is session:
            self._vain += 1
            if self._vain > _MAX_VAIN:
                raise DecodeError(0, _NOT_NEXT)
        if self._session.refs is not session.refs:
            self._refs.update(self._session.refs)
        session = self._session
        self._generation, self._start, self._count = session.generation, session.start, len(session.messages)
        self._end, self._updated = session.end, session.updated

    def _edited(self, session: Session, change: Edit) -> Session:
        old = session.at(change.position)
        new = None if old is None else change.edited(old)
        if new is None or new is old:
            return session
        session.messages.put_in_place(session.index(change.position), new)
        return session._with(updated=max(session.updated, change.at))

    def _noted(self, session: Session, change: UpdateMetadata) -> Session:
        metadata, expires_after = session._metadata, change.expiry(self._expires_after)
        if not change.changes(metadata):
            if expires_after == self._expires_after:
                return session
            self._expires_after = expires_after
            return session._with(updated=max(session.updated, change.at))
        self._expires_after = expires_after
        if not self._owns_metadata:
            metadata, self._owns_metadata = JsonObject(metadata), True
        change.make_in(metadata)
        return session._with(updated=max(session.updated, change.at), _metadata=metadata)

    def _merged(self) -> Session:
        if self._new or self._turns:
            session, turns = self._session, self._turns
            self._session = session._with(
                messages=session.messages.appended(self._new),
                end=self._end,
                updated=self._updated,
                refs=(*session.refs, *turns)[-MAX_REFS:] if turns else session.refs,
            )
            self._new, self._turns = [], []
        return self._session
