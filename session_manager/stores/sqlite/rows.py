"""The statements that read rows of SQLite. The layout of the tables is in `session_manager.stores.sqlite.schema`.

Every row is checked: a checksum, a position, a count or a version that does not fit raises `DamageError`, which names the
place and holds no text.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator

from session_manager.codec.state import State
from session_manager.model.message import Message
from session_manager.model.session import Session, Version, agree
from session_manager.model.view import View
from session_manager.stores.commits import MAX_TOKENS, TOKEN_BYTES, has_parted, token_digest
from session_manager.stores.contract import SessionInfo, missing
from session_manager.stores.rows.decoding import (
    DamageError,
    check_window,
    checked_state,
    decode_line,
    messages_of,
    refreshed,
    session_of_rows,
    version_of,
)
from session_manager.stores.rows.encoding import seed_of, tombstone_key
from session_manager.threads import giving_way

__all__ = [
    "all_keys",
    "damages",
    "keys",
    "last_id",
    "load",
    "load_archive",
    "load_newer",
    "load_window",
    "read_checked_version",
    "read_info",
    "read_state",
    "read_tokens",
    "read_version",
]

_CHUNK = 500
#: What is kept of writes without a token, which are not told apart.
_NO_TOKEN = token_digest("")

#: Of tokens, as bytes: those of the last writes, the newest last.
_TOKENS = "CAST(coalesce(tokens, x'') AS BLOB)"
_SELECT_STATE = f"SELECT id, generation, revision, state, checksum, {_TOKENS} FROM sessions WHERE key = ?"  # noqa: S608 - of constants
_SELECT_LINES = "SELECT position, line, checksum FROM messages WHERE session = ? ORDER BY position"
_SELECT_OLD = "SELECT position FROM messages WHERE session = ? AND id <= ? ORDER BY position"
_SELECT_NEW = "SELECT position, line, checksum FROM messages WHERE session = ? AND id > ? ORDER BY position"
_SELECT_WINDOW = """
    SELECT position, line, checksum FROM messages
    WHERE session = ? AND position > ? AND position < ? ORDER BY position {} LIMIT ?
"""
_SELECT_FIRST, _SELECT_NEWEST = _SELECT_WINDOW.format("ASC"), _SELECT_WINDOW.format("DESC")
#: SQLite's integers are between these.
_LEAST, _MOST = -(2**63), 2**63 - 1
_SELECT_ARCHIVE = """
    SELECT position, line, archive.checksum FROM archive JOIN sessions ON sessions.id = archive.session
    WHERE key = ? ORDER BY position
"""
_COUNT_IN_BOTH = """
    SELECT count(*) FROM archive JOIN messages USING (session, position)
    WHERE session = (SELECT id FROM sessions WHERE key = ?)
"""
_SELECT_VERSION = f"SELECT generation, revision, substr({_TOKENS}, -{TOKEN_BYTES}) FROM sessions WHERE key = ?"  # noqa: S608 - of constants
_SELECT_TOKENS = """
    SELECT CAST(coalesce((SELECT tokens FROM sessions WHERE key = ?), (SELECT tokens FROM tombstones WHERE key = ?), x'')
        AS BLOB)
"""
_SELECT_KEYS = """
    SELECT CAST(key AS BLOB) FROM sessions
    WHERE key {} CAST(? AS TEXT) AND key < CAST(? AS TEXT) ORDER BY key LIMIT ?
"""
_SELECT_FIRST_KEYS, _SELECT_NEXT_KEYS = _SELECT_KEYS.format(">="), _SELECT_KEYS.format(">")


def load(connection: sqlite3.Connection, key: str) -> Session | None:
    """Return a session, checked; `None` if there is none. Two statements: call it in a transaction.

    :raises DamageError: if it is damaged.
    """
    found = _read_row(connection, key)
    if found is None:
        return None
    number, state, tokens = found
    rows = list(giving_way(connection.execute(_SELECT_LINES, (number,))))
    return session_of_rows(state, rows)._with(_token=_last(tokens))


def last_id(connection: sqlite3.Connection) -> int:
    """Return the highest id of a message's row so far: a row that is written later has a higher one."""
    found: int | None = connection.execute("SELECT max(id) FROM messages").fetchone()[0]
    return found or 0


def load_newer(connection: sqlite3.Connection, key: str, *, known: Session, mark: int | None) -> Session | None:
    """Return a session as it is now, and read only what is new. Three statements: call it in a transaction.

    A row that is edited gets another id. So the rows up to the mark that are still there are messages of the picture.

    :param known: a picture of the session.
    :param mark: `last_id` of a moment when the picture had been stored, or an earlier one.
    :param mark: `None`: all is to be read.
    :returns: `known` itself if it is stored in that version, by that write.
    :raises DamageError: if it is damaged.
    """
    found = _read_row(connection, key)
    if found is None:
        return None
    number, state, tokens = found
    last = _last(tokens)
    if agree(Version(state.generation, state.revision)._of(last), known.version):
        return known
    if known.generation != state.generation:
        return load(connection, key)
    parted = has_parted(known, _writes(tokens, state.revision))
    # Rows of another past may have the ids of rows that the picture knows.
    is_later = known.revision < state.revision and (parted is False or not known._token)
    session = None
    if is_later and mark is not None:
        positions = [row[0] for row in connection.execute(_SELECT_OLD, (number, mark))]
        new = list(giving_way(connection.execute(_SELECT_NEW, (number, mark))))
        session = refreshed(known, state, positions, new)
    if session is None:
        session = load(connection, key)
    return None if session is None else session._with(_token=last, _parted=bool(parted))


def _last(tokens: bytes) -> bytes:
    """Return the digest of the newest token; ``b""`` if it is not known."""
    last = tokens[-TOKEN_BYTES:]
    return last if any(last) and last != _NO_TOKEN else b""


def _writes(tokens: bytes, revision: int) -> Iterator[tuple[int, bytes]]:
    """Return the revisions of the last writes, and the digests of their tokens.

    :param revision: that of the newest one.
    """
    count = len(tokens) // TOKEN_BYTES
    for number in range(count):
        start = len(tokens) - (count - number) * TOKEN_BYTES
        yield revision - count + number + 1, _last(tokens[start : start + TOKEN_BYTES])


def load_window(
    connection: sqlite3.Connection, key: str, *, limit: int | None, before: int | None, after: int | None
) -> list[Message] | None:
    """Return some messages of a session, checked, as `Store.window` says. Two statements: call it in a transaction.

    :raises DamageError: if the session's state is damaged, or one of these messages is, or the newest one is missing.
    """
    found = read_state(connection, key)
    if found is None:
        return None
    number, state = found
    low, high = (
        min(max(one, _LEAST), _MOST) for one in (-1 if after is None else after, _MOST if before is None else before)
    )
    most = -1 if limit is None else min(limit, _MOST)
    rows = list(
        giving_way(connection.execute(_SELECT_NEWEST if after is None else _SELECT_FIRST, (number, low, high, most)))
    )
    messages = messages_of(rows[::-1] if after is None else rows, seed_of(key)).to_list()
    check_window(state, messages, limit, before, after)
    return messages


def load_archive(connection: sqlite3.Connection, key: str) -> View[Message]:
    """Return the archived messages of a session, checked.

    :raises DamageError: if one is damaged.
    """
    return messages_of(list(giving_way(connection.execute(_SELECT_ARCHIVE, (key,)))), seed_of(key))


def read_state(connection: sqlite3.Connection, key: str) -> tuple[int, State] | None:
    """Return the id and the state of a session, checked; `None` if there is none.

    :raises DamageError: if it is damaged.
    """
    found = _read_row(connection, key)
    return None if found is None else found[:2]


def read_info(connection: sqlite3.Connection, key: str) -> SessionInfo | None:
    """Describe a session, checked; `None` if there is none.

    :raises DamageError: if its state is damaged.
    """
    found = _read_row(connection, key)
    return None if found is None else SessionInfo.of_state(found[1], _last(found[2]))


def _read_row(connection: sqlite3.Connection, key: str) -> tuple[int, State, bytes] | None:
    """Return the id, the state and the tokens of a session, checked; `None` if there is none.

    :raises DamageError: if the state is damaged.
    """
    row = connection.execute(_SELECT_STATE, (key,)).fetchone()
    return None if row is None else (row[0], checked_state(key, *row[1:5]), row[5])


def damages(connection: sqlite3.Connection, key: str) -> list[str]:
    """Return every flaw of a session, row by row."""
    found = []
    number, archived = None, 0
    try:
        state = read_state(connection, key)
    except DamageError as error:
        found.append(str(error))
        number = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchone()[0]
    else:
        number = None if state is None else state[0]
        archived = 0 if state is None else state[1].archived or 0
    for row in connection.execute(_SELECT_LINES, (number,)).fetchall():
        try:
            decode_line(row, seed_of(key))
        except DamageError as error:
            found.append(str(error))
    if not found:
        try:
            load(connection, key)
        except DamageError as error:
            found.append(str(error))
    return found + _archive_damages(connection, key, archived)


def _archive_damages(connection: sqlite3.Connection, key: str, archived: int) -> list[str]:
    found = []
    rows = connection.execute(_SELECT_ARCHIVE, (key,)).fetchall()
    for row in rows:
        try:
            decode_line(row, seed_of(key))
        except DamageError as error:
            found.append(f"in its archive, {error}")
    if reason := missing(archived, len(rows)):
        found.append(reason)
    count = connection.execute(_COUNT_IN_BOTH, (key,)).fetchone()[0]
    if count:
        found.append(f"{count} of its messages are in its archive, too")
    return found


def read_version(connection: sqlite3.Connection, key: str) -> Version | None:
    """Return the version of a session; `None` if there is none.

    :raises DamageError: if it is invalid.
    """
    row = connection.execute(_SELECT_VERSION, (key,)).fetchone()
    return None if row is None else version_of(row[0], row[1], _last(row[2]))


def read_checked_version(
    connection: sqlite3.Connection, key: str, expected: Version | None
) -> tuple[int | None, Version | None, bytes]:
    """Return the id, the version and the tokens of a session, after a check of its state; twice `None` if there is none.

    :param expected: returned itself if the session has this version, of the same write.
    :raises DamageError: if the state is damaged.
    """
    row = connection.execute(_SELECT_STATE, (key,)).fetchone()
    if row is None:
        return None, None, b""
    number, generation, revision, data, checksum, tokens = row
    if not isinstance(data, bytes) or zlib.crc32(data, seed_of(key)) != checksum:
        raise DamageError("its state is damaged: the checksum differs")
    if expected is not None and (revision, generation, tokens[-TOKEN_BYTES:]) == (
        expected.revision,
        expected.generation.encode(),
        expected._token,
    ):
        return number, expected, tokens
    return number, version_of(generation, revision, _last(tokens)), tokens


def read_tokens(connection: sqlite3.Connection, key: str) -> bytes:
    """Return the digests of the last writes of a session, also of a deleted one."""
    tokens = connection.execute(_SELECT_TOKENS, (key, tombstone_key(key))).fetchone()[0]
    return bytes(tokens[-MAX_TOKENS * TOKEN_BYTES :])


def keys(connection: sqlite3.Connection, prefix: bytes, after: bytes) -> list[bytes]:
    """Return the next keys that start so, in the order of their bytes; ``[]`` at the end.

    :param after: the last one that was returned; ``b""`` at first.
    """
    # No byte of UTF-8 is 0xFF.
    statement, start = (_SELECT_NEXT_KEYS, after) if after else (_SELECT_FIRST_KEYS, prefix)
    return [row[0] for row in connection.execute(statement, (start, prefix + b"\xff", _CHUNK))]


def all_keys(connection: sqlite3.Connection) -> Iterator[bytes | None]:
    """Return every key, as bytes; `None` for a value that is no key at all."""
    return (row[0] for row in connection.execute("SELECT CAST(key AS BLOB) FROM sessions ORDER BY key"))
