"""The statements that read rows, and the checks of these. The tables are in `session_manager.stores.postgres.schema`."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

import msgspec

from session_manager.codec.json import DecodeError, decode_json, encode_json
from session_manager.codec.state import Described, State, decode_state, encode_state
from session_manager.errors import raise_alone
from session_manager.model.message import Message
from session_manager.model.session import MAX_REFS, Session, Version, agree
from session_manager.model.view import View
from session_manager.stores.commits import has_parted, never_stored
from session_manager.stores.contract import SessionInfo, missing
from session_manager.stores.postgres.handle import Cursor, Handle, Statement
from session_manager.stores.rows.decoding import (
    DamageError,
    check_window,
    decode_line,
    decoded_state,
    messages_of,
    refreshed,
    session_of_rows,
    version_of,
)
from session_manager.stores.rows.encoding import seed_of, tombstone_key

__all__ = [
    "Row",
    "damages",
    "encoded_refs",
    "keys",
    "load",
    "load_archive",
    "load_newer",
    "load_window",
    "load_with_archive",
    "read_checked_version",
    "read_info",
    "read_version",
    "row_of",
    "seal_of",
    "server_time",
    "state_in",
    "strays",
    "texts_of",
]

S = TypeVar("S", State, Described)
#: What is bound for a session: generation, revision, state, checksum, refs' checksum, place.
Row = tuple[bytes, int, bytes, bytes, int]

_CHUNK = 500
_SELECT_TIME = "SELECT clock_timestamp()"
_ID = "(SELECT id FROM {s}.sessions WHERE key = %b)"
_SELECT_STATE = (
    "SELECT id, generation, revision, state, checksum, refs_checksum, edited, token FROM {s}.sessions WHERE key = %b"
)
_SELECT_REFS = f"SELECT refs, whole FROM {{s}}.commits WHERE session = {_ID} AND refs IS NOT NULL ORDER BY revision"  # noqa: S608 - of constants
_SELECT_LINES = f"""
    SELECT position, line, checksum FROM {{s}}.messages WHERE session = {_ID} AND NOT archived ORDER BY position
"""  # noqa: S608 - of constants
_SELECT_NEW = _SELECT_LINES.replace("ORDER BY", "AND position >= %s ORDER BY")
_SELECT_ARCHIVE = _SELECT_LINES.replace("NOT archived", "archived")
_SELECT_WINDOW = f"""
    SELECT position, line, checksum FROM {{s}}.messages
    WHERE session = {_ID} AND NOT archived AND position > %s AND position < %s ORDER BY position {{order}} LIMIT %s
"""  # noqa: S608 - of constants
_SELECT_FIRST, _SELECT_NEWEST = (_SELECT_WINDOW.replace("{order}", order) for order in ("ASC", "DESC"))
_SELECT_VERSION = "SELECT generation, revision, token FROM {s}.sessions WHERE key = %b"
_SELECT_WRITES = f"SELECT revision, token FROM {{s}}.commits WHERE session = {_ID} AND (revision = %s OR token = %b)"  # noqa: S608 - of constants
_SELECT_DELETED = "SELECT 1 FROM {s}.tombstones WHERE key = %b AND tokens <> '{}'"
_SELECT_KEYS = "SELECT key FROM {s}.sessions WHERE key {above} %b AND key < %b ORDER BY key LIMIT %s"
_SELECT_FIRST_KEYS, _SELECT_NEXT_KEYS = (_SELECT_KEYS.replace("{above}", above) for above in (">=", ">"))
_STRAYS = "SELECT count(*) FROM {s}.messages WHERE session NOT IN (SELECT id FROM {s}.sessions)"
_ALL_KEYS = "SELECT key FROM {s}.sessions"
#: PostgreSQL's integers are between these.
_LEAST, _MOST = -(2**63), 2**63 - 1


def seal_of(state: bytes) -> bytes:
    """Return the checksum of a state, which the server computes as well."""
    return hashlib.sha256(state).digest()


def encoded_refs(refs: Sequence[str]) -> bytes:
    """Return refs as a JSON array."""
    return encode_json(list(refs))


def row_of(session: Session) -> Row:
    """Return what is bound for a session: generation, revision, state, its checksum, that of its refs."""
    told = encode_state(session)
    told.refs = ()
    state = encode_json(told)
    refs = zlib.crc32(encoded_refs(session.refs), seed_of(session.key))
    return session.generation.encode(), session.revision, state, seal_of(state), refs


def load(handle: Handle, key: str) -> Session | None:
    """Return a session, checked; `None` if there is none.

    :raises DamageError: if it is damaged.
    """
    name = (key.encode(),)
    return _session(key, *handle.snapshot((_SELECT_STATE, name), (_SELECT_REFS, name), (_SELECT_LINES, name)))


def load_newer(handle: Handle, key: str, known: Session) -> Session | None:
    """Return a session as it is now, and read only what is new, if messages were only appended.

    :param known: a picture of the session.
    :returns: `known` itself if it is stored in that version, by that write.
    :raises DamageError: if it is damaged.
    """
    if known.revision and agree(read_version(handle, key), known.version):
        return known  # as mostly: one cheap statement tells
    name = key.encode()
    found, refs, lines, writes = handle.snapshot(
        (_SELECT_STATE, (name,)),
        (_SELECT_REFS, (name,)),
        (_SELECT_NEW, (name, known.end)),
        (_SELECT_WRITES, (name, known.revision, known._token)),
    )
    row = found.fetchone()
    if row is None:
        return _missing(handle, known)
    state = state_in(key, *row[1:5])
    if agree(Version(state.generation, state.revision)._of(row[7] or b""), known.version):
        return known
    if known.generation != state.generation:
        return load(handle, key)
    parted = has_parted(known, writes.fetchall())
    session = None
    if row[6] <= known.revision < state.revision and (parted is False or not known._token):
        whole = msgspec.structs.replace(state, refs=_refs(key, refs.fetchall(), row[5]))
        session = refreshed(known, whole, range(len(known.messages)), lines.fetchall())
    if session is None:
        session = load(handle, key)
        return None if session is None else session._with(_parted=bool(parted))
    return session._with(_token=row[7] or b"")


def _missing(handle: Handle, known: Session) -> Session | None:
    """Return what `load_newer` does if there is no such session: each deletion leaves the tokens of the session's last writes."""
    if not known.revision:
        return known
    row = handle.run(_SELECT_DELETED, (tombstone_key(known.key),)).fetchone()
    return never_stored(known) if row is None else None


def load_with_archive(handle: Handle, key: str) -> tuple[Session, View[Message]] | None:
    """Return a session and its archive, checked; `None` if there is none.

    :raises DamageError: if one is damaged.
    """
    name = (key.encode(),)
    asked: tuple[Statement, ...] = tuple(
        (text, name) for text in (_SELECT_STATE, _SELECT_REFS, _SELECT_LINES, _SELECT_ARCHIVE)
    )
    state, refs, lines, archive = handle.snapshot(*asked)
    session = _session(key, state, refs, lines)
    return None if session is None else (session, messages_of(archive.fetchall(), seed_of(key)))


def _session(key: str, state: Cursor, refs: Cursor, lines: Cursor) -> Session | None:
    row = state.fetchone()
    if row is None:
        return None
    whole = msgspec.structs.replace(state_in(key, *row[1:5]), refs=_refs(key, refs.fetchall(), row[5]))
    return session_of_rows(whole, lines.fetchall())._with(_token=row[7] or b"")


def _refs(key: str, rows: Sequence[Any], checksum: object) -> tuple[str, ...]:
    """Return the refs of a session: those of the last row that has all of them, and those that later ones add."""
    found: tuple[str, ...] = ()
    try:
        for data, is_whole in rows:
            added = tuple(msgspec.convert(decode_json(data), list[str]))
            found = added if is_whole else (*found, *added)[-MAX_REFS:]
        is_right = zlib.crc32(encoded_refs(found), seed_of(key)) == checksum
    except (DecodeError, msgspec.ValidationError):
        is_right = False
    if not is_right:
        raise_alone(DamageError("its refs are damaged"))
    return found


def state_in(
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
    if not isinstance(data, bytes) or seal_of(data) != checksum:
        raise DamageError("its state is damaged: the checksum differs")
    return decoded_state(key, generation, revision, data, decode)


def read_info(handle: Handle, key: str) -> SessionInfo | None:
    """Describe a session, checked; `None` if there is none.

    :raises DamageError: if its state is damaged.
    """
    row = handle.run(_SELECT_STATE, (key.encode(),)).fetchone()
    return None if row is None else SessionInfo.of_state(state_in(key, *row[1:5]), row[7] or b"")


def load_window(
    handle: Handle, key: str, *, limit: int | None, before: int | None, after: int | None
) -> list[Message] | None:
    """Return some messages of a session, checked, as `Store.window` says.

    :raises DamageError: if the session's state is damaged, or one of these messages is, or the newest one is missing.
    """
    name = key.encode()
    low, high = (
        min(max(one, _LEAST), _MOST) for one in (-1 if after is None else after, _MOST if before is None else before)
    )
    most = None if limit is None else min(limit, _MOST)
    window = (_SELECT_NEWEST if after is None else _SELECT_FIRST, (name, low, high, most))
    found, lines = handle.snapshot((_SELECT_STATE, (name,)), window)
    row = found.fetchone()
    if row is None:
        return None
    state, rows = state_in(key, *row[1:5]), lines.fetchall()
    messages = messages_of(rows[::-1] if after is None else rows, seed_of(key)).to_list()
    check_window(state, messages, limit, before, after)
    return messages


def load_archive(handle: Handle, key: str) -> View[Message]:
    """Return the archived messages of a session, checked.

    :raises DamageError: if one is damaged.
    """
    return messages_of(handle.run(_SELECT_ARCHIVE, (key.encode(),)).fetchall(), seed_of(key))


def read_version(handle: Handle, key: str) -> Version | None:
    """Return the version of a session; `None` if there is none."""
    row = handle.row(_SELECT_VERSION, (key.encode(),))
    return None if row is None else version_of(*row)


def server_time(handle: Handle) -> datetime:
    """Return the time of the server's clock, in UTC."""
    row = handle.run(_SELECT_TIME, ()).fetchone()
    assert row is not None
    time: datetime = row[0]
    return time.astimezone(timezone.utc)


def read_checked_version(handle: Handle, key: str) -> Version | None:
    """Return the version of a session, after a check of its state; `None` if there is none.

    :raises DamageError: if the state is damaged.
    """
    row = handle.run(_SELECT_STATE, (key.encode(),)).fetchone()
    if row is None:
        return None
    state = state_in(key, *row[1:5])
    return Version(state.generation, state.revision)._of(row[7] or b"")


def damages(handle: Handle, key: str) -> list[str]:
    """Return every flaw of a session, row by row."""
    name, seed = (key.encode(),), seed_of(key)
    state, refs, lines, archive = handle.snapshot(
        (_SELECT_STATE, name), (_SELECT_REFS, name), (_SELECT_LINES, name), (_SELECT_ARCHIVE, name)
    )
    row, rows, old = state.fetchone(), lines.fetchall(), archive.fetchall()
    found = (
        []
        if row is None
        else [*_flaw(lambda: state_in(key, *row[1:5])), *_flaw(lambda: _refs(key, refs.fetchall(), row[5]))]
    )
    for one in rows:
        found += _flaw(lambda one=one: decode_line(one, seed))  # type: ignore[misc]
    if not found and row is not None:
        told = state_in(key, *row[1:5])
        found += _flaw(lambda: session_of_rows(told, rows))
        if reason := missing(told.archived or 0, len(old)):
            found.append(reason)
    for one in old:
        found += [f"in its archive, {flaw}" for flaw in _flaw(lambda one=one: decode_line(one, seed))]  # type: ignore[misc]
    return found


def _flaw(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except DamageError as error:
        return [str(error)]
    return []


def strays(handle: Handle) -> list[str]:
    """Return what belongs to no session, and keys that are no text."""
    with handle.unhurried():
        return _strays(handle)


def _strays(handle: Handle) -> list[str]:
    count = (handle.run(_STRAYS).fetchone() or (0,))[0]
    found = [f"{count} messages belong to no session"] if count else []
    return found + ["a session whose key is no text" for (key,) in handle.run(_ALL_KEYS) if not _is_text(key)]


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def keys(handle: Handle, prefix: bytes, after: bytes) -> list[bytes]:
    """Return the next keys that start so, in the order of their bytes; ``[]`` at the end.

    :param after: the last one that was returned; ``b""`` at first.
    """
    # No byte of UTF-8 is 0xFF.
    statement, start = (_SELECT_NEXT_KEYS, after) if after else (_SELECT_FIRST_KEYS, prefix)
    return [row[0] for row in handle.run(statement, (start, prefix + b"\xff", _CHUNK))]


def texts_of(found: Sequence[bytes]) -> Iterator[str]:
    """Return keys as texts, without those that are none."""
    return (key.decode() for key in found if _is_text(key))
