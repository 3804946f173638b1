"""A damaged session of a database: its whole rows, read from the pages (`session_manager.stores.sqlite.pages`).

A bad page costs the rows on it, and no others: not those that SQLite would reach through it. Each row has a checksum that is begun with
the key, so each is proven, and so is the key itself, which the indexes tell if its own row is lost. A row that no tree claims any
more is archived if its position is before the history's first.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

from session_manager.errors import InvalidKeyError
from session_manager.model.key import check_key
from session_manager.stores.fragments import session_of_fields
from session_manager.stores.rows.decoding import DamageError, checked_state, decode_line
from session_manager.stores.rows.salvaging import WholeRows, salvage
from session_manager.stores.salvaged import Salvaged
from session_manager.stores.sqlite.pages import Pages, Record
from session_manager.stores.sqlite.rows import damages, load, load_archive

__all__ = ["Carved", "edited", "load_whole"]

_SELECT_STATE = "SELECT id, generation, revision, state FROM sessions WHERE key = ?"
_SELECT_LINES = "SELECT position, line FROM {} WHERE session = ? ORDER BY position"
#: How many values the records have: of a message, archived or not, and of a session (of formats 1 and 2, and of 3).
_LINE, _SESSION = 5, (7, 9)


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

    def rows(self, key: str) -> WholeRows:
        """Return the rows of a session."""
        ids, own = self._sessions.get(key.encode(), (set[int](), None))
        rows, seed = WholeRows(own), zlib.crc32(key.encode())
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
