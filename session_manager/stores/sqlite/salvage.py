"""A damaged session of a database: its whole rows, read from the pages (`session_manager.stores.sqlite.pages`).

A bad page costs the rows on it, and no others: not those that SQLite would reach through it. Each row has a checksum that is begun with
the key, so each is proven, and so is the key itself, which the indexes tell if its own row is lost. A row that no tree claims any
more is archived if its position is before the history's first.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from typing import Any

import attrs

from session_manager.codec.fragments import fields_in
from session_manager.codec.state import State
from session_manager.model.message import Message
from session_manager.stores.salvaged import Expected, Flaw, Salvaged, session_of_fields
from session_manager.stores.sqlite.pages import Pages, Record
from session_manager.stores.sqlite.rows import DamageError, checked_state, damages, decode_line, load, load_archive

__all__ = ["edited", "keys_on_pages", "load_whole", "salvage"]

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
    #: Its ids: more than one if a damaged page shows another.
    ids: set[int] = attrs.field(factory=set)
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


def salvage(pages: Pages, key: str, path: str) -> Salvaged | None:
    """Return all of a session that is whole; `None` if no page tells of it."""
    rows = _rows(pages, key)
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


def _rows(pages: Pages, key: str) -> _Rows:
    wanted, rows = key.encode(), _Rows()
    for record, found in _keys(pages):
        if found == wanted:
            rows.ids.add(record.rowid or _last_number(record))
            if len(record.values) in _SESSION:
                rows.session = list(record.values[2:6])
    seed, archived, messages = zlib.crc32(wanted), _leaves(pages, b"archive"), _leaves(pages, b"messages")
    for record in pages.records():
        if len(record.values) != _LINE or record.values[1] not in rows.ids:
            continue
        _, _, position, line, checksum = record.values
        try:
            message = decode_line((position, line, checksum), seed)
        except DamageError:
            rows.damaged += 1
        else:
            aside = True if record.page in archived else False if record.page in messages else None
            rows.lines.append((aside, message))
    return rows


def _last_number(record: Record) -> int:
    last = record.values[-1]
    return last if isinstance(last, int) else 0


def keys_on_pages(pages: Pages) -> set[bytes]:
    """Return the keys of sessions that rows or indexes tell, unchecked."""
    return {key for _, key in _keys(pages)}


def _keys(pages: Pages) -> Iterator[tuple[Record, bytes]]:
    """Yield each record that names a key: of the table of sessions, of the index of keys, or of the index of places."""
    for record in pages.records():
        match record.values:
            case [None, bytes(key), bytes(), int(), bytes(), int(), bytes(), *_] if len(record.values) in _SESSION:
                yield record, key
            case [bytes(key), int()] | [int(), bytes(key), int()] if not record.rowid:
                yield record, key
            case _:
                pass


def _leaves(pages: Pages, name: bytes) -> set[int]:
    """Return the pages that hold the rows of a table, as far as the schema and its tree are there."""
    for record in pages.records():
        match record.values:
            case [b"table", found, _, int(root), _] if found == name:
                return pages.leaves(root)
            case _:
                pass
    return set()
