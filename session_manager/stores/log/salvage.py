"""A damaged log: the messages of its whole lines, and those that are whole in damaged ones.

The state at the end of each line has its own checksum, and says where the history began and ended then. So messages behind a lost record keep
their positions, and a truncation that was lost still holds. An edit or a removal that was lost does not: old text may come back. So **after a lost
record every message is doubtful**, until a later record replaces the whole history.

The first line is read like a damaged snapshot. Of a damaged record, the messages that it appends are looked for; their positions follow
from those around it.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from itertools import takewhile

import attrs

from session_manager.codec.changes import change_of
from session_manager.codec.checksum import damaged_byte
from session_manager.codec.fragments import Fragment, fields_in, messages_in, new_messages_in
from session_manager.codec.json import DecodeError, decoder_of
from session_manager.errors import UnsupportedFormatError
from session_manager.model.changes import Append, Change, Clear, Replace, fold
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.fragments import in_order, session_of_fields
from session_manager.stores.log.format import (
    CRC_SIZE,
    CRC_START,
    START,
    LogState,
    Record,
    check_format,
    is_whole,
    state_at_end,
)
from session_manager.stores.log.replay import decode
from session_manager.stores.salvaged import Expected, Flaw, Salvaged

__all__ = ["salvage"]

_RECORD, _CHANGE, _MESSAGES = b'{"changes":[', b'"change":', b'"messages":['
_APPEND = _RECORD + b'{"change":"append"'
_FIELDS = ("key", "refs", "summary", "metadata", "messages")
_STATE = b',\t"state":'
_STATE_FIELDS = (
    *("generation", "revision", "created", "updated", "last_message_at", "start", "end", "count"),
    *("has_summary", "archived", "expires_after", "metadata"),
)
_decode_record = decoder_of(Record)


@attrs.frozen(eq=False, repr=False)
class _Line:
    """Some bytes of a log: a whole line, or damaged ones."""

    offset: int
    data: bytes
    is_whole: bool

    @property
    def state(self) -> LogState | None:
        """The state at the end, if its checksum proves it."""
        return state_at_end(self.data + b"\n")


def salvage(data: bytes, key: str, path: str) -> Salvaged:
    """Return all of a damaged file that is whole.

    :param data: the file, which `session_manager.stores.log.replay.decode` refuses.
    :raises UnsupportedFormatError: if a newer version wrote it.
    """
    first, *lines = _joined(_lines(data))
    rebuild = _Rebuild(key, path)
    rebuild.begin(first)
    if not first.is_whole:
        with contextlib.suppress(DecodeError):
            check_format(data, path)
    if lines and _is_torn(lines[-1], data):
        rebuild.flaw(lines.pop().offset, "a torn record: a save that was cut short")
    for line in lines:
        rebuild.take(line)
    return rebuild.end()


def _lines(data: bytes) -> Iterator[_Line]:
    """Yield the lines, also those whose line feeds are damaged."""
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start)
        stop = len(data) if stop < 0 else stop
        while start < stop:
            end = _end_of_whole(data, start, stop)
            yield _Line(start, data[start : end or stop], end is not None)
            start = (end or stop) + 1
        start = stop + 1


def _end_of_whole(data: bytes, start: int, stop: int) -> int | None:
    """Return where the whole line ends with which some bytes begin; `None` if they begin with none."""
    line = data[start:stop] if start else START + data[len(START) : stop]
    if is_whole(line):
        return stop
    crc, done = 0, 0
    place = line.find(CRC_START)
    while place >= 0:
        crc, done = zlib.crc32(line[done:place], crc), place
        if line[place : place + CRC_SIZE] == CRC_START + b'%08x"}' % crc:
            return start + place + CRC_SIZE
        place = line.find(CRC_START, place + 1)
    return None


def _joined(lines: Iterator[_Line]) -> list[_Line]:
    """Join the pieces of a damaged line, in which damage has made a line feed."""
    found: list[_Line] = []
    for line in lines:
        before = found[-1] if found else None
        if before is None or before.is_whole or line.is_whole or line.data.startswith(_RECORD):
            found.append(line)
        else:
            found[-1] = _Line(before.offset, before.data + b"\n" + line.data, is_whole=False)
    return found or [_Line(0, b"", is_whole=False)]


def _is_torn(line: _Line, data: bytes) -> bool:
    """Say whether the last line is what a save leaves that was cut short."""
    return not line.is_whole and not data.endswith(b"\n") and line.state is None


def _whole_fragments(line: bytes, fragments: list[Fragment[Message]]) -> tuple[list[Fragment[Message]], bool]:
    """Return the fragments of a damaged line that are whole, and whether its checksum proves them."""
    stored = line[-CRC_SIZE:]
    damaged = None
    if stored.startswith(CRC_START):
        with contextlib.suppress(ValueError):
            damaged = damaged_byte(line[:-CRC_SIZE], int(stored[len(CRC_START) : -2], 16))
    if damaged is None:
        return fragments, False
    return [one for one in fragments if not one.start <= damaged < one.stop], True


class _Rebuild:
    """A session that is put together from the lines of a damaged log."""

    def __init__(self, key: str, path: str) -> None:
        self._key = key
        self._path = path
        self._session: Session | None = None
        self._fields: dict[str, object] = {}
        self._flaws: list[Flaw] = []
        #: Messages of damaged records that have no positions yet; `None` stands for messages that are lost.
        self._waiting: list[Message | None] = []
        #: Whether a record was lost, so that messages may be older than they should be.
        self._is_broken = False
        self._unproven: set[int] = set()
        self._expected: Expected | None = None

    def flaw(self, offset: int, reason: str) -> None:
        """Note a damaged place."""
        self._flaws.append(Flaw(self._path, offset, reason))

    # The first line

    def begin(self, line: _Line) -> None:
        """Take the first line."""
        if line.is_whole:
            with contextlib.suppress(DecodeError, UnsupportedFormatError):
                session = decode(START + line.data[len(START) :] + b"\n", self._path).session
                if session.key == self._key:
                    self._note(session)
                    return
        self.flaw(line.offset, "the first line is damaged")
        self._fields = fields_in(line.data, _FIELDS)
        if self._fields.get("key", self._key) != self._key:
            self._fields = {}
        found, proven = _whole_fragments(line.data, messages_in(line.data, 0, len(line.data)))
        messages = in_order(one.value for one in found)
        state = line.state
        if state is not None:
            self._of_state(state, messages, 0)
        else:
            self._fields |= fields_in(line.data[line.data.rfind(_STATE) + 1 :], _STATE_FIELDS)
            self._session = session_of_fields(self._key, self._fields, messages) if messages else None
        if not proven:
            self._unproven.update(one.position or 0 for one in messages)
        if not proven and state is None:
            self._is_broken = True

    def _of_state(self, state: LogState, messages: Sequence[Message], appended: int) -> None:
        """Begin with a state, and as many messages as there are.

        :param appended: how many messages before its end are not among them, but follow.
        """
        inside = [one for one in messages if state.start <= (one.position or 0) < state.end]
        told = {name: getattr(state, name) for name in state.__struct_fields__}
        if told["metadata"] is None:
            told.pop("metadata")
        follow = appended + sum(one is not None for one in self._waiting)
        told["end"] = max(state.end - follow, 0)
        self._note(session_of_fields(self._key, {**self._fields, **told}, inside), state)

    def _note(self, session: Session, state: LogState | None = None) -> None:
        self._session = session
        start, end, count = session.start, session.end, len(session.messages)
        if state is not None:
            self._session = session._with(_archived=state.archived)
            start, end, count = state.start, state.end, state.count
        self._expected = Expected(start, end, count)

    # Records

    def take(self, line: _Line) -> None:
        """Take a line after the first."""
        state = line.state
        changes: list[Change] | None = None
        if line.is_whole and state is not None:
            with contextlib.suppress(DecodeError):
                changes = [change_of(one) for one in _decode_record(line.data).changes]
        if changes is None or state is None:
            self._damaged(line, state)
        elif self._session is not None and state.revision <= self._session.revision and self._expected is not None:
            self.flaw(line.offset, "a record does not follow on the one before it")
        else:
            self._whole(line, state, changes)

    def _whole(self, line: _Line, state: LogState, changes: list[Change]) -> None:
        appended = sum(len(one.messages) for one in changes if isinstance(one, Append))
        if self._session is None:
            self._of_state(state, (), appended)
            self._is_broken = True
        assert self._session is not None
        if self._waiting or self._session.revision + 1 != state.revision or self._expected is None:
            if not self._waiting:
                self.flaw(line.offset, "records before it are missing")
            self._is_broken = True
            self._place(max(state.end - appended, 0))
        self._put_in(state, fold(self._session, changes))
        if any(isinstance(one, Replace | Clear) for one in changes):
            self._is_broken = False
            self._unproven.clear()

    def _put_in(self, state: LogState, session: Session) -> None:
        """Bring the session to a state that the file tells: it is right about the beginning and the end."""
        messages = session.messages[session.index(state.start) : session.index(state.end)]
        self._note(
            session._with(
                messages=messages,
                end=state.end,
                generation=state.generation,
                revision=state.revision,
                updated=state.updated,
                expires_after=state.expires_after,
            ),
            state,
        )

    def _damaged(self, line: _Line, state: LogState | None) -> None:
        self.flaw(line.offset, "a record is damaged")
        self._is_broken = True
        appends = line.data.count(_CHANGE) <= 1 and (_MESSAGES in line.data or line.data.startswith(_APPEND))
        there = new_messages_in(line.data, 0, len(line.data)) if appends else []
        whole, _proven = _whole_fragments(line.data, there)
        self._waiting += _with_holes(line.data, there, whole)
        if state is None:
            return
        if self._session is None:
            self._of_state(state, (), 0)
        assert self._session is not None
        self._place(state.end)
        self._put_in(state, self._session)

    def _place(self, end: int) -> None:
        """Give the waiting messages their positions, up to an end: in order, and behind a hole counted from the end."""
        session, waiting = self._session, self._waiting
        assert session is not None
        self._waiting = []
        before = [one for one in takewhile(lambda one: one is not None, waiting) if one is not None]
        behind = [one for one in waiting[len(before) :] if one is not None]
        begin = session.end
        if begin + len(before) + len(behind) > end:
            behind, before = [], before[: max(end - begin, 0)]
        first = [one._placed(begin + number, None) for number, one in enumerate(before)]
        second = [one._placed(end - len(behind) + number, None) for number, one in enumerate(behind)]
        messages = session.messages.appended([*first, *second])
        last = messages[-1].position if messages else -1
        assert last is not None
        self._session = session._with(messages=messages, end=max(end, last + 1))

    # The end

    def end(self) -> Salvaged:
        """Return the session after all lines."""
        session = self._session
        if session is None:
            session = session_of_fields(self._key, self._fields, ())
        self._session = session
        if self._waiting:
            self._place(session.end + sum(one is not None for one in self._waiting))
            self._expected = None
        there = [one.position or 0 for one in self._session.messages]
        return Salvaged(
            session=self._session._with(revision=session.revision + 1),
            flaws=self._flaws or [Flaw(self._path, 0, "a byte between the lines is damaged")],
            doubtful=frozenset(there if self._is_broken else self._unproven.intersection(there)),
            expected=self._expected,
            archived=session._archived,
        )


def _with_holes(
    line: bytes, there: Sequence[Fragment[Message]], whole: Sequence[Fragment[Message]]
) -> list[Message | None]:
    """Return the messages of a damaged record, with `None` where some are lost.

    :param there: those that parse.
    :param whole: those of them that are whole.
    """
    if not there:
        return [None]
    found: list[Message | None] = []
    end = line.find(_MESSAGES) + len(_MESSAGES) if _MESSAGES in line else there[0].start
    for one in there:
        if one.start > end + 1:
            found.append(None)
        found.append(one.value if one in whole else None)
        end = one.stop
    if line[end : end + 3] != b"]}]" and line[end : end + 2] != b"],":
        found.append(None)
    return found
