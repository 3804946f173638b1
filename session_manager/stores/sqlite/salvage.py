"""A damaged session of a database: its whole rows, read from the pages (`session_manager.stores.sqlite.pages`).

A bad page costs the rows on it, and no others: not those that SQLite would reach through it. Each row has a checksum that is begun with
the key, so each is proven, and so is the key itself, which the indexes tell if its own row is lost. A row that no tree claims any
more is archived if its position is before the history's first.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

import attrs

from session_manager.codec.fragments import fields_in
from session_manager.codec.state import State
from session_manager.errors import InvalidKeyError
from session_manager.model.key import check_key
from session_manager.model.message import Message
from session_manager.stores.salvaged import Expected, Flaw, Salvaged, session_of_fields
from session_manager.stores.sqlite.pages import Pages, Record
from session_manager.stores.sqlite.rows import DamageError, checked_state, damages, decode_line, load, load_archive

__all__ = ["Carved", "edited", "load_whole"]

_FIELDS = (
    *("key", "generation", "revision", "created", "updated", "last_message_at", "start", "end", "refs"),
    *("summary", "metadata", "count", "archived", "expires_after"),
)
_SELECT_STATE = "SELECT id, generation, revision, state FROM sessions WHERE key = ?"
_SELECT_LINES = "SELECT position, line FROM {} WHERE session = ? ORDER BY position"
#: How many values the records have: of a message, archived or not, and of a session (of formats 1 and 2, and of 3).
_LINE, _SESSION = 5, (7, 9)


@attrs.define(eq=False, repr=False)
class _Rows:
    """The rows of one session."""

    #: The session's own, as far as it is there: generation, revision, state, checksum.
    session: list[Any] | None = None
    #: By position, and by whether they are archived; `None` if no tree claims the row.
    lines: list[tuple[bool | None, Message]] = attrs.field(factory=list)
    damaged: int = 0


def load_whole(connection: sqlite3.Connection, key: str) -> Salvaged | None:
    """Return a session and its archive, in a transaction; `None` if there is none.

    :raises DamageError: if anything is wrong with them.
    """
    session = load(connection, key)
    if session is None:
        return None
    archive = load_archive(connection, key)
    if reason := next(iter(damages(connection, key)), ""):
        raise DamageError(reason)
    return Salvaged(session=session, archive=[(0, one) for one in archive])


def edited(connection: sqlite3.Connection, key: str) -> Salvaged:
    """Return a session whose rows were edited by hand, in a transaction. Their checksums do not count.

    :raises DamageError: if it is no session.
    """
    seed = zlib.crc32(key.encode())
    row = connection.execute(_SELECT_STATE, (key,)).fetchone()
    if row is None:
        raise DamageError("it is not there")
    number, generation, revision, data = row
    state = checked_state(key, generation, revision, data, zlib.crc32(data, seed) if isinstance(data, bytes) else None)
    there, archive = (
        [
            decode_line((position, line, zlib.crc32(line, seed) if isinstance(line, bytes) else None), seed)
            for position, line in connection.execute(_SELECT_LINES.format(table), (number,))
        ]
        for table in ("messages", "archive")
    )
    told = {name: getattr(state, name) for name in state.__struct_fields__}
    session = session_of_fields(key, {**told, "expires_after": state.expires_after or None}, there)
    return Salvaged(
        session=session._with(revision=state.revision + 1, _archived=len(archive)),
        archive=[(0, one) for one in archive],
    )


def salvage(rows: _Rows, key: str, path: str) -> Salvaged | None:
    """Return all of a session that is whole; `None` if no page tells of it."""
    state, flaws = None, []
    told: dict[str, object] = {}
    if rows.session is not None:
        try:
            state = checked_state(key, *rows.session[:4])
        except DamageError as error:
            flaws.append(Flaw(path, None, f"{error}: it is in doubt"))
            generation, revision, data = rows.session[:3]
            told = fields_in(data, (*_FIELDS, "")) if isinstance(data, bytes) else {}
            told |= {"revision": revision}
            told |= {"generation": generation.decode("ascii", "replace")} if isinstance(generation, bytes) else {}
    elif rows.lines:
        flaws.append(Flaw(path, None, "its own row is lost: summary and metadata with it"))
    else:
        return None
    start = 0 if state is None else state.start
    archive = {one.position or 0: one for aside, one in rows.lines if _is_archived(aside, one, start)}
    there = {one.position or 0: one for aside, one in rows.lines if not _is_archived(aside, one, start)}
    messages = [there[position] for position in sorted(there) if position not in archive or state is None]
    if rows.damaged:
        flaws.append(Flaw(path, None, f"{rows.damaged} of its rows are damaged"))
    return _salvaged(key, path, state, told, messages, [archive[one] for one in sorted(archive)], flaws)


def _is_archived(aside: bool | None, message: Message, start: int) -> bool:  # noqa: FBT001 - a field of a row
    return (message.position or 0) < start if aside is None else aside


def _salvaged(
    key: str,
    path: str,
    state: State | None,
    told: dict[str, object],
    messages: list[Message],
    archive: list[Message],
    flaws: list[Flaw],
) -> Salvaged:
    if state is not None:
        told = {name: getattr(state, name) for name in state.__struct_fields__}
        told["expires_after"] = state.expires_after or None
        messages = [one for one in messages if state.start <= (one.position or 0) < state.end]
    session = session_of_fields(key, told, messages)
    archived = 0 if state is None else state.archived or 0
    if state is not None and len(messages) < state.count:
        flaws.append(Flaw(path, None, f"{state.count - len(messages)} of its messages are missing"))
    if len(archive) < archived:
        flaws.append(Flaw(path, None, f"{archived - len(archive)} of its archived messages are missing"))
    return Salvaged(
        session=session._with(revision=session.revision + 1, _archived=len(archive)),
        archive=[(0, one) for one in archive],
        flaws=flaws or [Flaw(path, None, "SQLite cannot read it; every row of it is there")],
        expected=None if state is None else Expected(state.start, state.end, state.count),
        archived=archived,
    )


class Carved:
    """All sessions that the pages of a database tell of, found in one pass; their rows are read when they are asked for.

    :param path: the database.
    :raises OSError: if it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._pages = Pages(path)
        #: Of each key, unchecked, the ids of its rows, and its own row, if that is there.
        self._sessions: dict[bytes, tuple[set[int], list[Any] | None]] = {}
        #: The pages with messages of a session, by its id.
        self._places: dict[int, set[int]] = {}
        roots: dict[bytes, int] = {}
        for record in self._pages.records():
            self._note(record, roots)
        self._archived, self._messages = (
            self._pages.leaves(roots[name]) if name in roots else set[int]() for name in (b"archive", b"messages")
        )

    def _note(self, record: Record, roots: dict[bytes, int]) -> None:
        match record.values:
            case [None, int(session), int(), _, _]:
                self._places.setdefault(session, set()).add(record.page)
            case [b"table", bytes(name), _, int(root), _]:
                roots.setdefault(name, root)
            case [None, bytes(key), bytes(), int(), bytes(), int(), bytes(), *_] if len(record.values) in _SESSION:
                self._add(key, record.rowid, list(record.values[2:6]))
            case [bytes(key), int(number)] | [int(), bytes(key), int(number)] if not record.rowid:
                self._add(key, number, None)
            case _:
                pass

    def _add(self, key: bytes, number: int, own: list[Any] | None) -> None:
        ids, before = self._sessions.get(key, (set(), None))
        self._sessions[key] = ids | {number}, own or before

    def keys(self) -> list[str]:
        """Return the keys of sessions with whole rows, sorted."""
        texts = (key.decode("utf-8", "replace") for key in self._sessions)
        return sorted(key for key in texts if _is_key(key) and self._is_proven(key))

    def _is_proven(self, key: str) -> bool:
        """Say whether a row is there whose checksum proves a key: the pages may also hold bytes that only look like one."""
        rows = self.rows(key)
        return bool(rows.lines) or (rows.session is not None and _is_state(key, rows.session))

    def rows(self, key: str) -> _Rows:
        """Return the rows of a session."""
        ids, own = self._sessions.get(key.encode(), (set[int](), None))
        rows, seed = _Rows(own), zlib.crc32(key.encode())
        places = {page for number in ids for page in self._places.get(number, ())}
        for record in self._pages.records(sorted(places)):
            if len(record.values) != _LINE or record.values[1] not in ids:
                continue
            _, _, position, line, checksum = record.values
            try:
                message = decode_line((position, line, checksum), seed)
            except DamageError:
                rows.damaged += 1
            else:
                aside = True if record.page in self._archived else False if record.page in self._messages else None
                rows.lines.append((aside, message))
        return rows

    def salvage(self, key: str) -> Salvaged | None:
        """Return all of a session that is whole; `None` if no page tells of it."""
        return salvage(self.rows(key), key, self.path)


def _is_key(text: str) -> bool:
    try:
        check_key(text)
    except InvalidKeyError:
        return False
    return True


def _is_state(key: str, row: list[Any]) -> bool:
    try:
        checked_state(key, *row[:4])
    except DamageError:
        return False
    return True
