"""The tables of a PostgreSQL schema of sessions, format 2.

Texts are ``bytea``: keys may hold NUL, ``jsonb`` changes JSON, and bytes sort as `memcmp` does, so that a prefix is a range of an
index. No table refers to another one by a foreign key: the row of a session is the lock of all of its rows.

``meta``
    One row: ``format``, how many of `MIGRATIONS` the schema has been through. A schema of a higher number is refused; one of a
    lower number is brought up in one transaction, under an advisory lock.
``sessions``
    A row a session. ``key``; ``generation`` and ``revision``, its version; ``state``, the JSON of
    `session_manager.codec.state.State` without refs; ``checksum``, the SHA-256 of the state; ``refs_checksum``, that of all of its
    refs as a JSON array, as for a message; ``place``, by which lists of recent sessions go: minus the microseconds since 1970 of the last message, or,
    without one, of the last change; ``edited``, the last revision that did more to messages than to append some; ``voided``, the digests of writes that were said not to have landed, and must not land;
    ``token``, the digest of the token of the last write (8 bytes of BLAKE2b); null, if that had none, or if a program of format 1 made it.
``commits``
    A row for each of a session's last commits, 64 at least: ``revision``; ``token``, the digest of the write's token;
    ``refs``, a JSON array of the refs that it added, or null; ``whole``, whether these are all of the session's refs.
    Each 64th revision writes them whole, and older rows are pruned then.
``messages``
    A row a message, archived ones too: ``session``, ``position``, ``line``, the JSON of `session_manager.codec.lines`;
    ``checksum``, the CRC-32 of the line, begun with that of the key; ``archived``. ``grams`` are what a search looks for
    (`session_manager.stores.postgres.search`), ``walk`` the number of the rules by which they were read; null, as long as they were not.
``tombstones``
    The tokens of deleted sessions, and voided ones, by the 16 byte BLAKE2b of the key. They stay when a session of the key is begun anew.
``leases``
    A row for each session of which a turn was taken under a lease (`session_manager.stores.postgres.leases`): the 16 byte BLAKE2b of the ``key``; the
    ``owner`` and the ``number`` of its fence; the ``first`` number since which no other owner has had the lease; for how many ``seconds`` it is held from when it was ``renewed``, in seconds since 1970; 0: it was
    released. The table is missing if no turn ever was. It is not logged, so a crash of the server empties it.
``quarantine``
    The rows of damaged sessions that were deleted, as they were: that of the session (``position`` is null, ``content`` its
    state) and those of its messages. Nothing reads them again.
"""

from __future__ import annotations

from typing import Final

import psycopg

from session_manager.errors import InvalidStorageError, StorageError, UnsupportedFormatError
from session_manager.history.search import WALK
from session_manager.stores.postgres.failures import reason_of
from session_manager.stores.postgres.handle import Handle

__all__ = ["FORMAT", "MIGRATIONS", "create_index", "lock_schema", "open_schema"]

_FIRST = (
    """
    CREATE TABLE {s}.sessions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        revision bigint NOT NULL,
        place bigint NOT NULL,
        refs_checksum bigint NOT NULL,
        edited bigint NOT NULL,
        key bytea NOT NULL UNIQUE,
        generation bytea NOT NULL,
        checksum bytea NOT NULL,
        voided bytea[] NOT NULL DEFAULT '{}',
        state bytea NOT NULL
    )
    """,
    "CREATE INDEX sessions_by_place ON {s}.sessions (place, key)",
    """
    CREATE TABLE {s}.commits (
        session bigint,
        revision bigint,
        whole boolean NOT NULL,
        token bytea NOT NULL,
        refs bytea,
        PRIMARY KEY (session, revision)
    )
    """,
    """
    CREATE TABLE {s}.messages (
        session bigint,
        position bigint,
        checksum bigint NOT NULL,
        archived boolean NOT NULL DEFAULT false,
        walk smallint,
        line bytea NOT NULL,
        grams integer[],
        PRIMARY KEY (session, position)
    )
    """,
    """
    CREATE TABLE {s}.tombstones (
        key bytea PRIMARY KEY,
        tokens bytea[] NOT NULL DEFAULT '{}',
        voided bytea[] NOT NULL DEFAULT '{}'
    )
    """,
    """
    CREATE TABLE {s}.quarantine (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        moved timestamptz NOT NULL DEFAULT now(),
        key bytea NOT NULL,
        generation bytea,
        revision bigint,
        position bigint,
        content bytea,
        checksum bytea
    )
    """,
)

_SECOND = ("ALTER TABLE {s}.sessions ADD COLUMN token bytea",)

#: The statements that lead from each format to the next.
MIGRATIONS = (_FIRST, _SECOND)
_OURS = frozenset(("meta", "sessions", "commits", "messages", "tombstones", "quarantine"))
#: The newest format.
FORMAT: Final = len(MIGRATIONS)

#: The advisory lock of migrations, in two numbers: "ChSe", and that of the schema's name.
_LOCK = "SELECT pg_advisory_xact_lock(1130910565, hashtext(%s))"
# By the catalogs themselves: the functions that look names up may still tell of the moment before the lock was waited for.
_IS_THERE = """
    SELECT (SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = one.oid AND relkind = 'r')
    FROM pg_namespace AS one WHERE nspname = %s
"""
_FORMAT = "SELECT format FROM {s}.meta"
_META = "CREATE TABLE {s}.meta (one boolean PRIMARY KEY DEFAULT true CHECK (one), format integer NOT NULL)"
_SET_FORMAT = "INSERT INTO {s}.meta (format) VALUES (%s) ON CONFLICT (one) DO UPDATE SET format = EXCLUDED.format"
_HAS_INDEXES = "SELECT to_regclass(%s) IS NOT NULL AND to_regclass(%s) IS NOT NULL"
_INDEXES = (
    f"CREATE INDEX IF NOT EXISTS messages_not_read_{WALK} ON {{s}}.messages (session, position) WHERE walk IS DISTINCT FROM {WALK}",
    f"CREATE INDEX IF NOT EXISTS messages_by_grams_{WALK} ON {{s}}.messages USING gin (grams) WHERE walk = {WALK}",
)


def lock_schema(handle: Handle) -> None:
    """Keep others from changing tables, until the end of the transaction that is open."""
    handle.run(_LOCK, (handle.schema,))


def open_schema(handle: Handle, path: str, *, read_only: bool) -> None:
    """Check the format of a schema; create it, or bring it up to date, unless it is only read.

    :raises InvalidStorageError: if it holds tables of something else.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it is only read, and is not there, or is older.
    """
    if _found(handle, path) == FORMAT:
        return
    if read_only:
        raise StorageError(path, "is not there, or of an older format, and read-only changes nothing")
    with handle.unhurried(), handle.transaction():
        lock_schema(handle)
        found = _found(handle, path)
        if found is None:
            _create(handle, path)
        for statement in [one for step in MIGRATIONS[found or 0 :] for one in step]:
            handle.run(statement)
        handle.run(_SET_FORMAT, (FORMAT,))


def _found(handle: Handle, path: str) -> int | None:
    """Return the format of a schema; `None` if it has no tables of a store.

    :raises InvalidStorageError: if it holds tables of something else.
    :raises UnsupportedFormatError: if a newer version wrote it.
    """
    there = _OURS.intersection(_tables(handle) or ())
    if not there:
        return None
    if not there.issuperset(("meta", "sessions")):
        raise InvalidStorageError(path, "holds tables of something else: give another schema")
    row = handle.run(_FORMAT).fetchone()
    found = None if row is None else int(row[0])
    if found is not None and found > FORMAT:
        raise UnsupportedFormatError(path, f"{found}", f"{FORMAT}")
    return found


def _tables(handle: Handle) -> list[str] | None:
    """Return the tables of the schema; `None` if there is no such schema."""
    row = handle.run(_IS_THERE, (handle.schema,)).fetchone()
    return None if row is None else row[0] or []


def _create(handle: Handle, path: str) -> None:
    """Create the table of the format, and the schema, if it is missing.

    :raises StorageError: if the role may not do that.
    """
    try:
        if _tables(handle) is None:
            handle.run("CREATE SCHEMA {s}")
        handle.run(_META)
    except psycopg.errors.InsufficientPrivilege as error:
        reason = f"{reason_of(error)}: the role needs CREATE in the database, or a schema {handle.schema} of its own"
        raise StorageError(path, reason) from error


def create_index(handle: Handle) -> None:
    """Create the indexes for search if they are missing. Writers wait meanwhile."""
    names = [f"{handle.schema}.messages_{name}_{WALK}" for name in ("not_read", "by_grams")]
    if handle.run(_HAS_INDEXES, names).fetchone() == (True,):
        return
    with handle.unhurried(), handle.transaction():
        lock_schema(handle)
        for statement in _INDEXES:
            handle.run(statement)
