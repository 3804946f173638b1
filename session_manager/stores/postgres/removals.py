"""The statements that settle a write, and that delete, rename and quarantine sessions. All but the last lock the key first.

A session that is missing has no row that could be locked. So whatever depends on its absence takes an advisory lock for the key.
"""

from __future__ import annotations

import zlib
from typing import Any

from psycopg.types.numeric import Int8

from session_manager.errors import ConflictError, SessionExistsError
from session_manager.model.session import Version, agree
from session_manager.stores.commits import MAX_TOKENS, Commit
from session_manager.stores.postgres.commits import LOCK_KEY, key_lock
from session_manager.stores.postgres.handle import Handle
from session_manager.stores.postgres.reads import load_with_archive, row_of
from session_manager.stores.rows.decoding import version_of
from session_manager.stores.rows.encoding import seed_of, token_digest, tombstone_key

__all__ = ["erase", "locked_row", "move", "quarantine", "settle", "vacuum"]

_TABLES = ("sessions", "commits", "messages", "tombstones", "quarantine")

_LOCK_ROW = "SELECT id, generation, revision, token FROM {s}.sessions WHERE key = %b FOR UPDATE"
_TOKENS = "SELECT token FROM {s}.commits WHERE session = (SELECT id FROM {s}.sessions WHERE key = %b)"
_OLD_TOKENS = "SELECT tokens FROM {s}.tombstones WHERE key = %b"
_VOID = f"""
    UPDATE {{s}}.sessions SET voided = (voided || %b::bytea)[greatest(cardinality(voided) - {MAX_TOKENS - 2}, 1):]
    WHERE key = %b
"""  # noqa: S608 - of constants
_VOID_MISSING = f"""
    INSERT INTO {{s}}.tombstones AS old (key, voided) VALUES (%b, ARRAY[%b::bytea])
    ON CONFLICT (key) DO UPDATE SET
        voided = (old.voided || EXCLUDED.voided)[greatest(cardinality(old.voided) - {MAX_TOKENS - 2}, 1):]
"""  # noqa: S608 - of constants
_KEEP_TOKENS = f"""
    INSERT INTO {{s}}.tombstones AS old (key, tokens, voided)
    SELECT %b, ARRAY(SELECT token FROM {{s}}.commits WHERE session = one.id ORDER BY revision DESC LIMIT {MAX_TOKENS}), voided
    FROM {{s}}.sessions AS one WHERE key = %b
    ON CONFLICT (key) DO UPDATE SET
        tokens = (EXCLUDED.tokens || old.tokens)[1:{MAX_TOKENS}], voided = (old.voided || EXCLUDED.voided)
            [greatest(cardinality(old.voided) + cardinality(EXCLUDED.voided) - {MAX_TOKENS - 1}, 1):]
"""  # noqa: S608 - of constants
_DELETE_ROWS = "DELETE FROM {s}.{table} WHERE session = (SELECT id FROM {s}.sessions WHERE key = %b)"
_DELETE_MESSAGES, _DELETE_COMMITS = (_DELETE_ROWS.replace("{table}", table) for table in ("messages", "commits"))
_DELETE_SESSION = "DELETE FROM {s}.sessions WHERE key = %b"
_HAS_KEY = "SELECT 1 FROM {s}.sessions WHERE key = %b"
_MOVE = """
    UPDATE {s}.sessions SET key = %b, state = %b, checksum = %b, refs_checksum = %s,
        voided = voided || coalesce((SELECT voided FROM {s}.tombstones WHERE key = %b), '{}')
    WHERE key = %b
"""
_SET_CHECKSUMS = """
    UPDATE {s}.messages AS old SET checksum = new.checksum FROM unnest(%b::int8[], %b::int8[]) AS new (position, checksum)
    WHERE session = (SELECT id FROM {s}.sessions WHERE key = %b) AND old.position = new.position
"""
_LINES = "SELECT position, line FROM {s}.messages WHERE session = (SELECT id FROM {s}.sessions WHERE key = %b)"
_QUARANTINE = """
    WITH kept AS (
        INSERT INTO {s}.quarantine (key, generation, revision, position, content, checksum)
        SELECT * FROM (
            SELECT key, generation, revision, NULL::int8, state, checksum FROM {s}.sessions WHERE key = %b
            UNION ALL SELECT key, generation, revision, position, line, int8send(messages.checksum)
            FROM {s}.sessions JOIN {s}.messages ON session = id WHERE key = %b
        ) AS rows ORDER BY 4 NULLS FIRST
        RETURNING id
    )
    SELECT min(id), max(id) FROM kept
"""


def _lock(handle: Handle, *keys: str) -> None:
    """Lock keys, whose sessions may be missing, until the end of the transaction that is open."""
    with handle.pipeline():
        for number in sorted(key_lock(handle.schema, key) for key in keys):
            handle.run(LOCK_KEY, (Int8(number),))


def settle(handle: Handle, commit: Commit) -> bool | None:
    """Return whether a commit has landed, as `Store.landed` says. If it has not, it never will. In a transaction."""
    key, digest = commit.session.key, token_digest(commit.token)
    name, tombstone = key.encode(), tombstone_key(key)
    _lock(handle, key)
    with handle.pipeline():
        # The row is locked first: what a writer that had it has done is seen by the next statements.
        found = handle.run(_LOCK_ROW, (name,))
        tokens = handle.run(_TOKENS, (name,))
        inherited = handle.run(_OLD_TOKENS, (tombstone,))
    row = found.fetchone()
    old = inherited.fetchone()
    there = [token for (token,) in tokens] + ([] if old is None else list(old[0]))
    if digest in there:
        return True
    version = None if row is None else version_of(*row[1:])
    answer = commit.unknown_token(min(len(there), MAX_TOKENS), version) if commit.doubt.exists else False
    if answer is False and commit.token:
        if row is None:
            handle.run(_VOID_MISSING, (tombstone, digest))
        else:
            handle.run(_VOID, (digest, name))
    return answer


def erase(handle: Handle, key: str) -> None:
    """Delete a session's rows, and leave a tombstone, in a transaction that has the locks."""
    name = key.encode()
    with handle.pipeline():
        handle.run(_KEEP_TOKENS, (tombstone_key(key), name))
        handle.run(_DELETE_MESSAGES, (name,))
        handle.run(_DELETE_COMMITS, (name,))
        handle.run(_DELETE_SESSION, (name,))


def locked_row(handle: Handle, key: str) -> Version | None:
    """Lock a session's key, and its row if there is one; return its version, unchecked. In a transaction."""
    _lock(handle, key)
    row = handle.run(_LOCK_ROW, (key.encode(),)).fetchone()
    return None if row is None else version_of(*row[1:])


def move(handle: Handle, key: str, new_key: str, expected: Version) -> None:
    """Give a session's rows another key, in a transaction. Each checksum begins with that of the key, so it is made anew.

    :raises ConflictError: if the session is not at this version; nothing has changed.
    :raises SessionExistsError: if there is a session of that key; nothing has changed.
    :raises DamageError: if a row is damaged; nothing has changed.
    """
    name, new_name = key.encode(), new_key.encode()
    _lock(handle, *{key, new_key})
    handle.run(_LOCK_ROW, (name,))
    there = load_with_archive(handle, key)
    if there is None or not agree(there[0].version, expected):
        raise ConflictError(key, expected, None if there is None else there[0].version)
    if handle.run(_HAS_KEY, (new_name,)).fetchone() is not None:
        raise SessionExistsError(new_key)
    _, _, state, checksum, refs = row_of(there[0]._with(key=new_key))
    seed = seed_of(new_key)
    lines = handle.run(_LINES, (name,)).fetchall()
    new = ([Int8(position) for position, _ in lines], [Int8(zlib.crc32(line, seed)) for _, line in lines])
    with handle.pipeline():
        handle.run(_KEEP_TOKENS, (tombstone_key(key), name))
        handle.run(_SET_CHECKSUMS, (*new, name))
        handle.run(_MOVE, (new_name, state, checksum, Int8(refs), tombstone_key(new_key), name))


def quarantine(handle: Handle, key: str) -> str | None:
    """Copy a damaged session's rows to quarantine, as they are, in a transaction.

    :returns: the first and the last of their ids there, such as ``"7-12"``; `None` if there are no rows.
    """
    first, last = handle.run(_QUARANTINE, (key.encode(), key.encode())).fetchone() or (None, None)
    return None if first is None else f"{first}-{last}"


def vacuum(handle: Handle) -> list[str]:
    """Give back the room of rows that are gone; return the names of tables that the server left as they are: they are another role's."""
    left: list[str] = []
    current = ""

    def note(told: Any) -> None:
        if told.severity_nonlocalized == "WARNING":
            left.append(current)

    handle.connection.add_notice_handler(note)
    try:
        with handle.unhurried():
            for current in _TABLES:
                handle.run(f"VACUUM {{s}}.{current}", prepare=False)
    finally:
        handle.connection.remove_notice_handler(note)
    return left
