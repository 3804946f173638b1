"""The few statements that write the rows of a commit (`session_manager.stores.rows.plans`).

They never trust the database: a row that is missing, or in the way, raises.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib

from session_manager.errors import ConflictError, SessionExistsError
from session_manager.model.archive import NOTHING
from session_manager.model.session import Session, Version, agree
from session_manager.stores.contract import MAX_TOKENS, Commit
from session_manager.stores.rows.decoding import DamageError
from session_manager.stores.rows.encoding import (
    TOKEN_BYTES,
    EncodedState,
    encode_state_row,
    token_digest,
    tombstone_key,
)
from session_manager.stores.rows.plans import Plan
from session_manager.stores.sqlite.rows import load, load_archive, read_checked_version, read_tokens
from session_manager.threads import giving_way

__all__ = ["erase", "load_base", "move", "purge", "quarantine", "write_plan"]

_log = logging.getLogger("session_manager")

#: So many bytes of tokens are kept.
_KEPT = MAX_TOKENS * TOKEN_BYTES
_UPDATE_SESSION = """
    UPDATE sessions SET generation = ?, revision = ?, state = CAST(? AS TEXT), checksum = ?, place = ?, placed = ?,
        tokens = ?
    WHERE id = ?
"""
_INSERT_SESSION = """
    INSERT INTO sessions (generation, revision, state, checksum, place, placed, tokens, key)
    VALUES (?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?)
"""
_INSERT_LINE = "INSERT INTO messages (session, position, line, checksum) VALUES (?, ?, CAST(? AS TEXT), ?)"
_NOTE_GARBAGE = """
    INSERT INTO garbage SELECT id FROM messages
    WHERE session = ? AND position >= ? AND position < ?
        AND id <= (SELECT indexed FROM watermark)
"""
_DELETE_LINES = """
    DELETE FROM messages
    WHERE session = ? AND position >= ? AND position < ?
"""
_ARCHIVE_LINES = """
    INSERT INTO archive (id, session, position, line, checksum)
    SELECT id, session, position, line, checksum FROM messages
    WHERE session = ? AND position >= ? AND position < ?
"""
_NOTE_ARCHIVED_GARBAGE = """
    INSERT INTO garbage SELECT id FROM archive
    WHERE session = ? AND NOT (position >= ? AND position < ?)
        AND id <= (SELECT indexed FROM watermark)
"""
_DELETE_ARCHIVED = """
    DELETE FROM archive
    WHERE session = ? AND NOT (position >= ? AND position < ?)
"""
_QUARANTINE_STATE = """
    INSERT INTO quarantine (key, generation, revision, content, checksum)
    SELECT key, generation, revision, state, checksum FROM sessions WHERE key = ?
"""
_QUARANTINE_LINES = """
    INSERT INTO quarantine (key, generation, revision, position, content, checksum)
    SELECT key, generation, revision, position, line, messages.checksum
    FROM sessions JOIN messages ON messages.session = sessions.id WHERE key = ?
"""
_QUARANTINE_ARCHIVE = """
    INSERT INTO quarantine (key, generation, revision, position, content, checksum)
    SELECT key, generation, revision, position, line, archive.checksum
    FROM sessions JOIN archive ON archive.session = sessions.id WHERE key = ?
"""
_LAST_QUARANTINED = "SELECT coalesce(max(id), 0) FROM quarantine"
_NOTE_ALL_GARBAGE = """
    INSERT INTO garbage SELECT id FROM messages
    WHERE session = (SELECT id FROM sessions WHERE key = ?) AND id <= (SELECT indexed FROM watermark)
"""
_MOVE_SESSION = """
    UPDATE sessions SET key = ?, state = CAST(? AS TEXT), checksum = ?, tokens = ? WHERE key = ?
"""
_HAS_KEY = "SELECT 1 FROM sessions WHERE key = ?"
_SELECT_CHECKED_LINES = """
    SELECT position, line, {0}.checksum FROM {0} JOIN sessions ON sessions.id = session WHERE key = ? ORDER BY position
"""
_SET_CHECKSUM = "UPDATE {} SET checksum = ? WHERE session = (SELECT id FROM sessions WHERE key = ?) AND position = ?"
_DELETE_ALL_LINES = "DELETE FROM messages WHERE session = (SELECT id FROM sessions WHERE key = ?)"


def write_plan(plan: Plan, state: EncodedState, connection: sqlite3.Connection, *, indexed: bool) -> None:
    """Write the rows, in a transaction.

    :param state: the row of the session.
    :param indexed: whether the table ``search`` can be used.
    :raises ConflictError: if the base is not there; nothing has changed.
    :raises DamageError: if the state is damaged, or the rows are not those of the base.
    """
    commit = plan.commit
    key, base = commit.session.key, commit.base
    digest = commit.session._token or token_digest("")
    if base is None:
        number = _create(state, connection, key, digest)
    else:
        number, actual, tokens = read_checked_version(connection, key, base)
        if actual is not base and not agree(actual, base):
            reason = "the storage holds something else at this version" if actual == base else ""
            raise ConflictError(key, base, actual, reason)
        # A token for each revision: after a storage went back, the write of what was lost may leave some out.
        skipped = commit.session.revision - base.revision - 1
        if skipped > 0:
            digest = bytes(min(skipped, MAX_TOKENS) * TOKEN_BYTES) + digest
        connection.execute(_UPDATE_SESSION, (*state, (tokens + digest)[-_KEPT:], number))
    if plan.dropped or plan.clears:
        _drop(plan, connection, number)
    if len(plan.lines) == 1:
        connection.execute(_INSERT_LINE, (number, *plan.lines[0]))
    elif plan.lines:
        connection.executemany(_INSERT_LINE, ((number, *line) for line in giving_way(plan.lines)))
    if plan.archived:
        _archive(plan, connection, number)
    if plan.clears:
        purge(connection, indexed=indexed)


def _drop(plan: Plan, connection: sqlite3.Connection, number: int | None) -> None:
    spared = plan.commit.spared if plan.clears and plan.commit.base is not None else None
    if spared is not None:
        connection.execute(_NOTE_ARCHIVED_GARBAGE, (number, *spared))
        connection.execute(_DELETE_ARCHIVED, (number, *spared))
    for first, stop, count in plan.dropped:
        connection.execute(_NOTE_GARBAGE, (number, first, stop))
        if connection.execute(_DELETE_LINES, (number, first, stop)).rowcount != count:
            raise DamageError(f"of its messages from position {first} to {stop - 1} some are missing, or too many")


def _archive(plan: Plan, connection: sqlite3.Connection, number: int | None) -> None:
    for first, stop, count in plan.archived:
        if connection.execute(_ARCHIVE_LINES, (number, first, stop)).rowcount != count:
            raise DamageError(f"of its messages from position {first} to {stop - 1} some are missing, or too many")
        connection.execute(_DELETE_LINES, (number, first, stop))


def _create(state: EncodedState, connection: sqlite3.Connection, key: str, digest: bytes) -> int | None:
    """Insert the row of a session, and return its id."""
    _, actual, _ = read_checked_version(connection, key, None)
    if actual is not None:
        raise ConflictError(key, None, actual)
    tokens = (read_tokens(connection, key) + digest)[-_KEPT:]
    number = connection.execute(_INSERT_SESSION, (*state, tokens, key)).lastrowid
    connection.execute("DELETE FROM tombstones WHERE key = ?", (tombstone_key(key),))
    return number


def erase(connection: sqlite3.Connection, key: str, *, indexed: bool) -> None:
    """Delete a session's rows, and leave a tombstone, in a transaction.

    :param indexed: whether the table ``search`` can be used.
    """
    tombstone = (tombstone_key(key), read_tokens(connection, key))
    connection.execute("INSERT OR REPLACE INTO tombstones (key, tokens) VALUES (?, ?)", tombstone)
    connection.execute(_NOTE_ALL_GARBAGE, (key,))
    connection.execute(_DELETE_ALL_LINES, (key,))
    for (number,) in connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchall():
        connection.execute(_NOTE_ARCHIVED_GARBAGE, (number, *NOTHING))
        connection.execute(_DELETE_ARCHIVED, (number, *NOTHING))
    connection.execute("DELETE FROM sessions WHERE key = ?", (key,))
    purge(connection, indexed=indexed)


def move(connection: sqlite3.Connection, key: str, new_key: str, expected: Version) -> None:
    """Give a session's rows another key, in a transaction. Each checksum begins with that of the key, so it is made anew.

    :raises ConflictError: if the session is not at this version; nothing has changed.
    :raises SessionExistsError: if there is a session of that key; nothing has changed.
    :raises DamageError: if a row is damaged; nothing has changed.
    """
    session = load(connection, key)
    if session is None or not agree(session.version, expected):
        raise ConflictError(key, expected, None if session is None else session.version)
    if connection.execute(_HAS_KEY, (new_key,)).fetchone() is not None:
        raise SessionExistsError(new_key)
    load_archive(connection, key)
    _, _, state, checksum, *_ = encode_state_row(session._with(key=new_key))
    tokens = read_tokens(connection, key)
    inherited = (read_tokens(connection, new_key) + tokens)[-_KEPT:]
    seed = zlib.crc32(new_key.encode())
    for table in ("messages", "archive"):
        lines = connection.execute(_SELECT_CHECKED_LINES.format(table), (key,)).fetchall()
        made = ((zlib.crc32(line, seed), key, position) for position, line, _ in lines)
        connection.executemany(_SET_CHECKSUM.format(table), giving_way(made))
    connection.execute(_MOVE_SESSION, (new_key, state, checksum, inherited, key))
    connection.execute("INSERT OR REPLACE INTO tombstones (key, tokens) VALUES (?, ?)", (tombstone_key(key), tokens))
    connection.execute("DELETE FROM tombstones WHERE key = ?", (tombstone_key(new_key),))


def quarantine(connection: sqlite3.Connection, key: str) -> str | None:
    """Copy a damaged session's rows to quarantine, as they are, in a transaction.

    :returns: the first and the last of their ids there, such as ``"7-12"``; `None` if there are no rows.
    """
    before = connection.execute(_LAST_QUARANTINED).fetchone()[0]
    connection.execute(_QUARANTINE_STATE, (key,))
    connection.execute(_QUARANTINE_LINES, (key,))
    connection.execute(_QUARANTINE_ARCHIVE, (key,))
    last = connection.execute(_LAST_QUARANTINED).fetchone()[0]
    return f"{before + 1}-{last}" if last > before else None


def purge(connection: sqlite3.Connection, *, indexed: bool) -> None:
    """Remove deleted messages from the index, in a transaction. A damaged index stays as it is.

    :param indexed: whether the table ``search`` can be used.
    """
    if not indexed:
        return
    try:
        connection.execute("DELETE FROM search WHERE rowid IN (SELECT id FROM garbage)")
        # With a condition: without one, SQLite writes a page even if there is no row, and the commit counts no change.
        connection.execute("DELETE FROM garbage WHERE true")
    except sqlite3.Error as error:
        if not connection.in_transaction:
            raise
        _log.warning("what was deleted is still in the index for search: %s", error)


def load_base(connection: sqlite3.Connection, commit: Commit) -> Session:
    """Return the picture that a commit is based on, in a transaction.

    :raises ConflictError: if it is not there.
    :raises DamageError: if it is damaged.
    """
    key = commit.session.key
    before = load(connection, key)
    if before is None or not agree(before.version, commit.base):
        raise ConflictError(key, commit.base, None if before is None else before.version)
    return before
