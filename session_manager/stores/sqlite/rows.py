"""Rows to sessions, checked, and sessions to rows. The layout of the tables is in `session_manager.stores.sqlite.schema`.

Every row is checked: a checksum, a position, a count or a version that does not fit raises `DamageError`, which names the
place and holds no text.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

from session_manager.codec.json import DecodeError, encode_json
from session_manager.codec.lines import decode_messages, encode_message
from session_manager.codec.state import Described, State, decode_state, encode_state, session_of
from session_manager.errors import raise_alone
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.model.view import View
from session_manager.stores.contract import MAX_TOKENS, missing
from session_manager.stores.order import recency, recent_first
from session_manager.threads import giving_way, pieces

__all__ = [
    "TOKEN_BYTES",
    "DamageError",
    "EncodedState",
    "Line",
    "all_keys",
    "checked_state",
    "damages",
    "decode_line",
    "encode_lines",
    "encode_state_row",
    "keys",
    "load",
    "load_archive",
    "load_window",
    "read_checked_version",
    "read_state",
    "read_tokens",
    "read_version",
    "token_digest",
    "tombstone_key",
]

S = TypeVar("S", State, Described)

#: How many bytes of a write's token are kept.
TOKEN_BYTES = 8

_CHUNK = 500
_ONLY_BYTES = frozenset((bytes,))

#: The values bound for a message: the session's key, position, line, checksum.
Line = tuple[str, int, bytes, int]
#: What is bound for a state: generation, revision, state, checksum, place, and the revision that it is the place of.
EncodedState = tuple[str, int, bytes, int, int, int]


class DamageError(Exception):
    """The rows of a session are damaged. ``args[0]`` says where, without any of the text."""


# Writing


def encode_state_row(session: Session) -> EncodedState:
    """Return the row of a session: all but its messages."""
    data = encode_json(encode_state(session))
    checksum, revision = zlib.crc32(data, _seed(session.key)), session.revision
    return session.generation, revision, data, checksum, recent_first(recency(session)), revision


def encode_line(key: str, message: Message, seed: int) -> Line:
    """Return the row of a message.

    :param seed: the CRC of the key.
    """
    data = encode_message(message)
    assert message.position is not None
    return key, message.position, data, zlib.crc32(data, seed)


def encode_lines(key: str, messages: Sequence[Message]) -> list[Line]:
    """Return the rows of some messages of a session."""
    seed = _seed(key)
    return [encode_line(key, message, seed) for message in giving_way(messages)]


def token_digest(token: str) -> bytes:
    """Return the digest of a write's token."""
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=TOKEN_BYTES).digest()


def tombstone_key(key: str) -> bytes:
    """Return the digest of a deleted session's key."""
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _seed(key: str) -> int:
    return zlib.crc32(key.encode())


# Reading

_SELECT_STATE = "SELECT id, generation, revision, state, checksum FROM sessions WHERE key = ?"
_SELECT_LINES = "SELECT position, line, checksum FROM messages WHERE session = ? ORDER BY position"
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
_SELECT_VERSION = "SELECT generation, revision FROM sessions WHERE key = ?"
_SELECT_CHECKED = "SELECT generation, revision, state, checksum FROM sessions WHERE key = ?"
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
    found = read_state(connection, key)
    if found is None:
        return None
    number, state = found
    rows = list(giving_way(connection.execute(_SELECT_LINES, (number,))))
    messages = _messages(rows, _seed(key))
    try:
        return session_of(state, messages)
    except DecodeError:
        reason = f"it has {len(messages)} messages, which are not the {state.count} that its state tells of"
        raise_alone(DamageError(reason))


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
    messages = _messages(rows[::-1] if after is None else rows, _seed(key)).to_list()
    _check_window(state, messages, limit, before, after)
    return messages


def _check_window(
    state: State, messages: list[Message], limit: int | None, before: int | None, after: int | None
) -> None:
    """Raise `DamageError` for messages that are not those that the state tells of, as far as it tells of them.

    The state knows how many messages there are, between which positions they are, and when the last one was written.
    """
    from_start, to_end = after is None or after < state.start, before is None or before >= state.end
    expected = state.count if limit is None else min(state.count, limit)
    is_end = bool(messages) and to_end and (after is None or limit is None or len(messages) < limit)
    if from_start and to_end and len(messages) != expected:
        raise DamageError(f"{len(messages)} of its messages are there, not {expected}")
    if any(one.position is None or not state.start <= one.position < state.end for one in messages[:1] + messages[-1:]):
        raise DamageError("it has a message at a position that its state does not tell of")
    if is_end and messages[-1].created_at != state.last_message_at:
        raise DamageError("its last message is not the one that its state tells of")


def load_archive(connection: sqlite3.Connection, key: str) -> View[Message]:
    """Return the archived messages of a session, checked.

    :raises DamageError: if one is damaged.
    """
    return _messages(list(giving_way(connection.execute(_SELECT_ARCHIVE, (key,)))), _seed(key))


def read_state(connection: sqlite3.Connection, key: str) -> tuple[int, State] | None:
    """Return the id and the state of a session, checked; `None` if there is none.

    :raises DamageError: if it is damaged.
    """
    row = connection.execute(_SELECT_STATE, (key,)).fetchone()
    if row is None:
        return None
    return row[0], checked_state(key, *row[1:])


def checked_state(
    key: str,
    generation: object,
    revision: object,
    data: object,
    checksum: object,
    decode: Callable[[bytes], S] = decode_state,  # type: ignore[assignment]
) -> S:
    """Return the state in a row.

    :param decode: gives it, or as much of it as the caller needs.
    :raises DamageError: if it is damaged.
    """
    if not isinstance(data, bytes) or zlib.crc32(data, zlib.crc32(key.encode())) != checksum:
        raise DamageError("its state is damaged: the checksum differs")
    try:
        state = decode(data)
    except DecodeError as error:
        raise_alone(DamageError(f"its state is damaged: {error.reason}"))
    if state.key != key:
        raise DamageError("its state is that of another session")
    if (state.generation.encode(), state.revision) != (generation, revision):
        raise DamageError("its state is of another version than its row")
    return state


def _messages(rows: Sequence[Any], seed: int) -> View[Message]:
    return View(chain.from_iterable(_decoded(piece, seed) for piece in pieces(rows, _CHUNK)))


def _decoded(rows: Sequence[Any], seed: int) -> View[Message]:
    if not rows:
        return View()
    lines = [data for _, data, _ in rows]
    if not _ONLY_BYTES.issuperset(map(type, lines)) or list(map(zlib.crc32, lines, repeat(seed))) != [
        checksum for _, _, checksum in rows
    ]:
        for row in rows:
            _check_line(row, seed)
    try:
        messages = decode_messages(b"[\n%b\n]" % b",\n".join(lines))
    except DecodeError:
        messages = View()
    if [message.position for message in messages] != [position for position, _, _ in rows]:
        for row in rows:
            decode_line(row, seed)
    return messages


def _check_line(row: Any, seed: int) -> None:
    position, data, checksum = row
    if not isinstance(data, bytes) or zlib.crc32(data, seed) != checksum:
        raise DamageError(f"the message at {_place(position)} is damaged: the checksum differs")


def _place(position: object) -> str:
    """Name a position for an error. In a damaged row it may be anything, even the text of a message."""
    return f"position {position}" if isinstance(position, int) else "a position that is no number"


def decode_line(row: Any, seed: int) -> Message:
    """Return the message in a row of position, line and checksum, checked.

    :param seed: the CRC of the key.
    :raises DamageError: if it is damaged.
    """
    _check_line(row, seed)
    position, data, _ = row
    try:
        message = decode_messages(b"[\n" + data + b"\n]")[0]
    except (DecodeError, IndexError) as error:
        reason = error.reason if isinstance(error, DecodeError) else "is not a message"
        raise_alone(DamageError(f"the message at {_place(position)} is damaged: {reason}"))
    if message.position != position:
        raise DamageError(f"the message at {_place(position)} is that of another position")
    return message


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
            decode_line(row, _seed(key))
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
            decode_line(row, _seed(key))
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
    return None if row is None else _version(*row)


def _version(generation: object, revision: object) -> Version:
    if not isinstance(generation, bytes) or not isinstance(revision, int):
        raise DamageError("its version is damaged")
    return Version(generation.decode("utf-8", "replace"), revision)


def read_checked_version(connection: sqlite3.Connection, key: str) -> Version | None:
    """Return the version of a session, after a check of its state; `None` if there is none.

    :raises DamageError: if the state is damaged.
    """
    row = connection.execute(_SELECT_CHECKED, (key,)).fetchone()
    if row is None:
        return None
    generation, revision, data, checksum = row
    if not isinstance(data, bytes) or zlib.crc32(data, _seed(key)) != checksum:
        raise DamageError("its state is damaged: the checksum differs")
    return _version(generation, revision)


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
