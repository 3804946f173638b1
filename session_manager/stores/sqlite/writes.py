"""The rows that a commit changes, and the few statements that write them.

A `Plan` is made outside of the transaction, from the picture before the commit and the one after it. It never trusts the
database: a row that is missing, or in the way, raises.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain

import attrs

from session_manager.codec.lines import encode_message
from session_manager.errors import ConflictError, SessionExistsError
from session_manager.model.archive import NOTHING
from session_manager.model.changes import Append, Change, Clear, Edit, Remove, SetSummary, Truncate, UpdateMetadata
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.stores.contract import MAX_TOKENS, Commit
from session_manager.stores.sqlite.rows import (
    TOKEN_BYTES,
    DamageError,
    EncodedState,
    Line,
    encode_lines,
    encode_state_row,
    load,
    load_archive,
    read_checked_version,
    read_tokens,
    token_digest,
    tombstone_key,
)
from session_manager.threads import giving_way

__all__ = ["Plan", "erase", "load_base", "move", "purge", "quarantine"]

_log = logging.getLogger("session_manager")

#: A range of positions that goes: its start, its stop, and how many messages are in it.
_Range = tuple[int, int, int]

_KEPT = f"AS BLOB), -{MAX_TOKENS * TOKEN_BYTES})"
# `||` makes text of blobs; the cast gives the same bytes back.
_UPDATE_SESSION = f"""
    UPDATE sessions SET generation = ?, revision = ?, state = CAST(? AS TEXT), checksum = ?, place = ?, placed = ?,
        tokens = substr(CAST(tokens || ? {_KEPT}
    WHERE key = ?
"""  # noqa: S608 - of constants
_INSERT_SESSION = f"""
    INSERT INTO sessions (generation, revision, state, checksum, place, placed, tokens, key)
    VALUES (?, ?, CAST(? AS TEXT), ?, ?, ?, substr(CAST(? || ? {_KEPT}, ?)
"""  # noqa: S608 - of constants
_INSERT_LINE = """
    INSERT INTO messages (session, position, line, checksum)
    VALUES ((SELECT id FROM sessions WHERE key = ?), ?, CAST(? AS TEXT), ?)
"""
_NOTE_GARBAGE = """
    INSERT INTO garbage SELECT id FROM messages
    WHERE session = (SELECT id FROM sessions WHERE key = ?) AND position >= ? AND position < ?
        AND id <= (SELECT indexed FROM watermark)
"""
_DELETE_LINES = """
    DELETE FROM messages
    WHERE session = (SELECT id FROM sessions WHERE key = ?) AND position >= ? AND position < ?
"""
_ARCHIVE_LINES = """
    INSERT INTO archive (id, session, position, line, checksum)
    SELECT id, session, position, line, checksum FROM messages
    WHERE session = (SELECT id FROM sessions WHERE key = ?) AND position >= ? AND position < ?
"""
_NOTE_ARCHIVED_GARBAGE = """
    INSERT INTO garbage SELECT id FROM archive
    WHERE session = (SELECT id FROM sessions WHERE key = ?) AND NOT (position >= ? AND position < ?)
        AND id <= (SELECT indexed FROM watermark)
"""
_DELETE_ARCHIVED = """
    DELETE FROM archive
    WHERE session = (SELECT id FROM sessions WHERE key = ?) AND NOT (position >= ? AND position < ?)
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


@attrs.frozen(repr=False)
class Plan:
    """The rows that a commit writes."""

    commit: Commit
    state: EncodedState
    #: The ranges that go first. Old rows of edited messages are in them, which become new rows.
    dropped: Sequence[_Range]
    #: The ranges that then go to the archive, also out of `lines`.
    archived: Sequence[_Range]
    #: The new rows.
    lines: Sequence[Line]

    @classmethod
    def of(cls, commit: Commit) -> Plan | None:
        """Return the plan of a commit; `None` if its base must be loaded first (`over`)."""
        if commit.base is None:
            session = commit.session
            old = [message for _, message in commit.archived]
            lines = encode_lines(session.key, [*session.messages, *old])
            return cls(commit, encode_state_row(session), (), _ranges(old), lines)
        before = commit.before
        return None if before is None or before.version != commit.base else cls.over(commit, before)

    @classmethod
    def over(cls, commit: Commit, before: Session) -> Plan:
        """Return the plan of a commit, given the picture that it is based on."""
        session = commit.session
        dropped: Sequence[_Range] = ()
        new: Sequence[Message] = ()
        if all(isinstance(change, Append | SetSummary | UpdateMetadata) for change in commit.changes):
            new = session.messages[session.index(before.end) :]
        elif not commit.archived and all(_is_local(change) for change in commit.changes):
            dropped, new = _touched(before, session, commit.changes)
        else:
            dropped, new = _difference(before, session, dict(commit.archived))
        archived = _ranges([message for _, message in commit.archived])
        return cls(commit, encode_state_row(session), dropped, archived, encode_lines(session.key, new))

    @property
    def clears(self) -> bool:
        """Whether the text of dropped messages must be erased."""
        return any(isinstance(change, Clear) for change in self.commit.changes)

    def run(self, connection: sqlite3.Connection, *, indexed: bool) -> None:
        """Write the rows, in a transaction.

        :param indexed: whether the table ``search`` can be used.
        :raises ConflictError: if the base is not there; nothing has changed.
        :raises DamageError: if the state is damaged, or the rows are not those of the base.
        """
        commit = self.commit
        key, base = commit.session.key, commit.base
        digest = token_digest(commit.token)
        if base is None:
            self._create(connection, key, digest)
        else:
            actual = read_checked_version(connection, key)
            if actual != base:
                raise ConflictError(key, base, actual)
            connection.execute(_UPDATE_SESSION, (*self.state, digest, key))
        if commit.spared is not None and base is not None:
            connection.execute(_NOTE_ARCHIVED_GARBAGE, (key, *commit.spared))
            connection.execute(_DELETE_ARCHIVED, (key, *commit.spared))
        for first, stop, count in self.dropped:
            connection.execute(_NOTE_GARBAGE, (key, first, stop))
            if connection.execute(_DELETE_LINES, (key, first, stop)).rowcount != count:
                raise DamageError(f"of its messages from position {first} to {stop - 1} some are missing, or too many")
        if len(self.lines) == 1:
            connection.execute(_INSERT_LINE, self.lines[0])
        elif self.lines:
            connection.executemany(_INSERT_LINE, giving_way(self.lines))
        self._archive(connection, key)
        if self.clears:
            purge(connection, indexed=indexed)

    def _archive(self, connection: sqlite3.Connection, key: str) -> None:
        for first, stop, count in self.archived:
            if connection.execute(_ARCHIVE_LINES, (key, first, stop)).rowcount != count:
                raise DamageError(f"of its messages from position {first} to {stop - 1} some are missing, or too many")
            connection.execute(_DELETE_LINES, (key, first, stop))

    def _create(self, connection: sqlite3.Connection, key: str, digest: bytes) -> None:
        actual = read_checked_version(connection, key)
        if actual is not None:
            raise ConflictError(key, None, actual)
        connection.execute(_INSERT_SESSION, (*self.state, read_tokens(connection, key), digest, key))
        connection.execute("DELETE FROM tombstones WHERE key = ?", (tombstone_key(key),))


def _is_local(change: Change) -> bool:
    """Say whether a change names the messages that it touches, so that no others have to be looked at."""
    if isinstance(change, Truncate):
        return change.spare is None
    return isinstance(change, Append | SetSummary | UpdateMetadata | Edit | Remove)


def _touched(before: Session, session: Session, changes: Sequence[Change]) -> tuple[list[_Range], list[Message]]:
    """Return what `_difference` returns, of local changes. It costs what they are, however long the history is."""
    count = before.index(session.start)
    dropped = [(before.start, session.start, count)] if count else []
    named = {one.position for one in changes if isinstance(one, Edit | Remove) and one.position >= session.start}
    old = [message for position in sorted(named) if (message := before.at(position)) is not None]
    gone = [one for one in old if not _is_same(one, session.at(one.position or 0))]
    changed = [message for one in gone if (message := session.at(one.position or 0)) is not None]
    new = session.messages[session.index(before.end) :]
    return [*dropped, *_ranges(gone)], [*changed, *new] if changed else list(new)


def _difference(before: Session, session: Session, archived: dict[int, Message]) -> tuple[list[_Range], list[Message]]:
    """Return the positions that go, in few ranges, and the new or changed messages, in the session or in the archive."""
    there = {message.position: message for message in chain(session.messages, archived.values())}
    dropped: list[_Range] = []
    kept: set[int] = set()
    running = False
    for old in before.messages:
        assert old.position is not None
        if _is_same(old, there.get(old.position)):
            kept.add(old.position)
        elif running:
            first, _, count = dropped[-1]
            dropped[-1] = (first, old.position + 1, count + 1)
        else:
            dropped.append((old.position, old.position + 1, 1))
        running = old.position not in kept
    return dropped, [message for message in there.values() if message.position not in kept]


def _ranges(messages: Iterable[Message]) -> list[_Range]:
    """Return increasing positions of messages, in as few ranges as possible."""
    found: list[_Range] = []
    for message in messages:
        assert message.position is not None
        first, stop, count = found[-1] if found else (0, -1, 0)
        if message.position == stop:
            found[-1] = (first, stop + 1, count + 1)
        else:
            found.append((message.position, message.position + 1, 1))
    return found


def _is_same(old: Message, new: Message | None) -> bool:
    return old is new or (new is not None and encode_message(old) == encode_message(new))


def erase(connection: sqlite3.Connection, key: str, *, indexed: bool) -> None:
    """Delete a session's rows, and leave a tombstone, in a transaction.

    :param indexed: whether the table ``search`` can be used.
    """
    tombstone = (tombstone_key(key), read_tokens(connection, key))
    connection.execute("INSERT OR REPLACE INTO tombstones (key, tokens) VALUES (?, ?)", tombstone)
    connection.execute(_NOTE_ALL_GARBAGE, (key,))
    connection.execute(_DELETE_ALL_LINES, (key,))
    connection.execute(_NOTE_ARCHIVED_GARBAGE, (key, *NOTHING))
    connection.execute(_DELETE_ARCHIVED, (key, *NOTHING))
    connection.execute("DELETE FROM sessions WHERE key = ?", (key,))
    purge(connection, indexed=indexed)


def move(connection: sqlite3.Connection, key: str, new_key: str, expected: Version) -> None:
    """Give a session's rows another key, in a transaction. Each checksum begins with that of the key, so it is made anew.

    :raises ConflictError: if the session is not at this version; nothing has changed.
    :raises SessionExistsError: if there is a session of that key; nothing has changed.
    :raises DamageError: if a row is damaged; nothing has changed.
    """
    session = load(connection, key)
    if session is None or session.version != expected:
        raise ConflictError(key, expected, None if session is None else session.version)
    if connection.execute(_HAS_KEY, (new_key,)).fetchone() is not None:
        raise SessionExistsError(new_key)
    load_archive(connection, key)
    _, _, state, checksum, *_ = encode_state_row(session._with(key=new_key))
    tokens = read_tokens(connection, key)
    inherited = (read_tokens(connection, new_key) + tokens)[-MAX_TOKENS * TOKEN_BYTES :]
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
        connection.execute("DELETE FROM garbage")
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
    if before is None or before.version != commit.base:
        raise ConflictError(key, commit.base, None if before is None else before.version)
    return before
