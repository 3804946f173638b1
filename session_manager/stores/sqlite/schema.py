"""The tables of a database of sessions, format 3.

``application_id`` is 0x43685365 ("ChSe"), ``user_version`` the number of the format: how many of `MIGRATIONS` it has been
through. A database of a higher number is refused; one of a lower number is brought up in place, a transaction each.

``sessions``
    A row a session. ``key``; ``generation`` and ``revision``, its version; ``state``, the JSON of
    `session_manager.codec.state.State`; ``checksum``; ``tokens``, the digests of its last 64 writes: 8 bytes each
    (BLAKE2b of the write's token), the newest last. ``place`` is what lists of recent sessions go by: minus the microseconds
    since 1970 of the last message, or, without one, of the last change; 2**63 - 1 of a session that was damaged when it was
    placed. It is derived, and right if ``placed`` is the revision. Formats 1 and 2 had neither: a program that opened the
    database as one of those, and still writes to it, leaves both as they are. The next list puts such sessions in their places.
``messages``
    A row a message. ``id`` rises with every row that is written and is never used twice, so an edited message is a new row;
    ``session`` is the session's id; ``position``; ``line``, the JSON of `session_manager.codec.lines`; ``checksum``.
``archive``
    A row an archived message, moved here from ``messages`` as it was, id and all, in the transaction that dropped it. (Of format
    1 there is none.) No position of a session is in both tables. The rows are of the session's generation: `clear` deletes them.
``search``
    An FTS5 table of trigrams with its own content: rowid is the id of a message, archived or not; ``text`` is its searchable
    text (`session_manager.history.search`), folded, with NUL and lone surrogates as U+FFFD. An unreadable table is made anew
    from the messages. There is none if the SQLite that wrote the database had no trigrams. The row 0, which belongs to no
    message, says by which rules messages were read, and up to which id: two numbers, such as ``2 1234``. Older versions read
    by other rules, and leave this row as it is. Where it lags behind the watermark, they have written the rest, and without
    it everything: such rows are not believed, and are replaced by the next search.
``watermark``
    One row. Messages up to the id ``indexed`` are in ``search``, later ones not yet.
``garbage``
    The ids up to the watermark of messages that are gone, and still in ``search``.
``tombstones``
    The tokens of deleted sessions, by the 16 byte BLAKE2b of the key. A new session of the key inherits them.
``last_commit``
    One row, changed by every commit. ``latest`` is the random id of the newest commit, ``earlier`` that of the one before it,
    ``schema`` SQLite's ``schema_version`` as that commit has found it, a sign and seven hexadecimal digits; eight without a sign
    from 2**28 on, and of version 0.2, as it left it. The row is in the database and in its log, and tells
    whether the two belong together (`session_manager.stores.sqlite.leftovers`). Commits of older versions, and of other programs, leave it as it is.
``leases``
    A row for each session of which a turn was taken under a lease (`session_manager.stores.sqlite.leases`): the 16 byte BLAKE2b of the ``key``; the
    ``owner``; the ``number`` of its fence; the ``first`` number since which no other owner has had the lease; for how many ``seconds`` it is held from when it was ``renewed``, in seconds since 1970; 0: it was released.
    The table is missing if no turn ever was.
``quarantine``
    The rows of damaged sessions that were deleted, as they were: that of the session (``position`` is null,
    ``content`` its state) and those of its messages, archived ones too. Nothing reads them again.

A checksum is the CRC-32 of the JSON's bytes, begun with that of the key's bytes: ``crc32(line, crc32(key))`` in zlib's
terms. So a row that was moved to another session is noticed, as is every change of a single byte.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Sequence

from session_manager.history.search import WALK

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "create_erasures",
    "create_index",
    "create_last_commit",
    "create_leases",
    "has_leases",
    "has_trigrams",
    "indexed_until",
    "is_marked",
    "is_readable",
    "mark",
    "migrate",
    "renew_index",
    "schema_version",
    "set_indexed",
    "strange_table",
]

#: "ChSe", in the header of the file.
APPLICATION_ID = 0x43685365

_FIRST = (
    """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        generation TEXT NOT NULL,
        revision INTEGER NOT NULL,
        state TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        tokens BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session INTEGER NOT NULL REFERENCES sessions (id),
        position INTEGER NOT NULL,
        line TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        UNIQUE (session, position)
    )
    """,
    "CREATE TABLE watermark (id INTEGER PRIMARY KEY CHECK (id = 1), indexed INTEGER NOT NULL)",
    "INSERT INTO watermark VALUES (1, 0)",
    "CREATE TABLE garbage (id INTEGER PRIMARY KEY)",
    "CREATE TABLE tombstones (key BLOB PRIMARY KEY, tokens BLOB NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY,
        moved TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
        key TEXT,
        generation TEXT,
        revision INTEGER,
        position INTEGER,
        content TEXT,
        checksum INTEGER
    )
    """,
)

_SECOND = (
    """
    CREATE TABLE archive (
        id INTEGER PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions (id),
        position INTEGER NOT NULL,
        line TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        UNIQUE (session, position)
    )
    """,
)

_THIRD = (
    "ALTER TABLE sessions ADD COLUMN place INTEGER",
    "ALTER TABLE sessions ADD COLUMN placed INTEGER",
    "CREATE INDEX sessions_by_place ON sessions (place, key)",
    "CREATE INDEX sessions_unplaced ON sessions (id) WHERE placed IS NOT revision",
)

#: The statements that lead from each format to the next.
MIGRATIONS: tuple[Sequence[str], ...] = (_FIRST, _SECOND, _THIRD)

_LAST_COMMIT = """
    CREATE TABLE last_commit (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        earlier BLOB NOT NULL,
        latest BLOB NOT NULL,
        schema TEXT NOT NULL
    )
"""
_MARK = "UPDATE last_commit SET earlier = latest, latest = randomblob(16), schema = ?"
#: Numbers below it have a sign in the eight characters of a mark.
_SIGNED = 16**7

#: The sessions whose erasure was begun: there only if one ever was.
_ERASURES = "CREATE TABLE erasures (key TEXT PRIMARY KEY, stage INTEGER NOT NULL) WITHOUT ROWID"

#: The leases of sessions: there only if a turn was ever taken under one.
_LEASES = """
    CREATE TABLE leases (
        key BLOB PRIMARY KEY,
        owner TEXT NOT NULL,
        number INTEGER NOT NULL,
        first INTEGER NOT NULL,
        seconds REAL NOT NULL,
        renewed REAL NOT NULL
    ) WITHOUT ROWID
"""
_HAS_LEASES = "SELECT 1 FROM sqlite_master WHERE name = 'leases'"

_INDEX = "CREATE VIRTUAL TABLE {} USING fts5(text, tokenize='trigram case_sensitive 1')"


def migrate(connection: sqlite3.Connection, found: int, migrations: Sequence[Sequence[str]]) -> None:
    """Bring a database to the newest format; each step is one transaction.

    :param found: the format that it has.
    :raises sqlite3.Error: the steps before the one that failed are done, and stay.
    """
    for number in range(found, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        for statement in migrations[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")


def strange_table(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> str | None:
    """Return the name of a table, or index, that is not as `migrate` creates it; `None` if there is none.

    Tables, indexes and views of other names are left alone.
    """
    ours = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(ours, 0, migrations)
        expected = {
            name: _words(sql) for name, sql in ours.execute("SELECT name, sql FROM sqlite_master WHERE sql <> ''")
        }
    finally:
        ours.close()
    optional = {
        "search": _words(_INDEX.format("search")),
        "last_commit": _words(_LAST_COMMIT),
        "erasures": _words(_ERASURES),
        "leases": _words(_LEASES),
    }
    expected |= optional
    rows = "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB) FROM sqlite_master"
    found = {}
    for kind, name, table, sql in connection.execute(rows):
        text, owner = (_text(one) for one in (name, table))
        if kind == b"trigger" and (owner in expected or owner.startswith("search_")):
            return owner
        if kind == b"view" and text.startswith("search_"):
            return text
        if kind in (b"table", b"view") or text in expected:
            found[text] = _words(_text(sql))
    found = optional | found
    return next((name for name, words in expected.items() if found.get(name) != words), None)


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode(errors="replace")


def _words(sql: str) -> list[str]:
    return sql.split()


def create_last_commit(connection: sqlite3.Connection) -> None:
    """Create the table ``last_commit``, or its row, if it is missing.

    :raises sqlite3.Error: if it cannot be created; nothing has changed.
    """
    there = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'last_commit'").fetchone()[0]
    if there and connection.execute("SELECT count(*) FROM last_commit").fetchone()[0]:
        return
    connection.execute("BEGIN IMMEDIATE")
    if not there:
        connection.execute(_LAST_COMMIT)
    connection.execute("INSERT INTO last_commit VALUES (1, zeroblob(16), randomblob(16), '00000000')")
    connection.execute("COMMIT")


def create_erasures(connection: sqlite3.Connection) -> None:
    """Create the table ``erasures`` if it is missing, in a transaction."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'erasures'").fetchone() is None:
        connection.execute(_ERASURES)


def has_leases(connection: sqlite3.Connection) -> bool:
    """Say whether the table ``leases`` is there."""
    return connection.execute(_HAS_LEASES).fetchone() is not None


def create_leases(connection: sqlite3.Connection) -> None:
    """Create the table ``leases`` if it is missing, in a transaction."""
    if not has_leases(connection):
        connection.execute(_LEASES)


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of 32 bits that SQLite counts up whenever tables are created or changed, and by ``VACUUM``."""
    signed: int = connection.execute("PRAGMA schema_version").fetchone()[0]
    return signed & 0xFFFFFFFF


def mark(connection: sqlite3.Connection, schema: int) -> None:
    """Mark the transaction that is open as the newest commit.

    :param schema: `schema_version` as the transaction has found it. The sign before it says so: version 0.2 noted what it left.
    """
    connection.execute(_MARK, (f"{schema:+08x}" if schema < _SIGNED else f"{schema:08x}",))


def is_marked(connection: sqlite3.Connection) -> bool:
    """Say whether commits can be marked: not if the table is damaged."""
    try:
        return connection.execute("SELECT latest FROM last_commit").fetchone() is not None
    except sqlite3.Error:
        return False


@functools.cache
def has_trigrams() -> bool:
    """Say whether this SQLite has FTS5, and its tokenizer of trigrams (from 3.34)."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(_INDEX.format("probe"))
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return True


def create_index(connection: sqlite3.Connection) -> None:
    """Create the table ``search`` if it is missing, cannot be read, or is another version's, to be filled from the start.

    :raises sqlite3.Error: if it cannot be created; nothing has changed.
    """
    if is_readable(connection):
        watermark, by_these_rules = indexed_until(connection)
        if by_these_rules or not watermark:
            return
    connection.execute("BEGIN IMMEDIATE")
    renew_index(connection)
    connection.execute("COMMIT")


def renew_index(connection: sqlite3.Connection) -> None:
    """Begin the table ``search`` anew, in a transaction. Searches fill it."""
    connection.execute("DROP TABLE IF EXISTS search")
    connection.execute(_INDEX.format("search"))
    if sqlite3.sqlite_version_info >= (3, 42):
        connection.execute("INSERT INTO search (search, rank) VALUES ('secure-delete', 1)")
    connection.execute("INSERT OR REPLACE INTO watermark VALUES (1, 0)")
    connection.execute("DELETE FROM garbage")


_HAS_WATERMARK = """
    SELECT typeof(indexed) = 'integer' AND indexed >= 0
        AND indexed <= coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0)
    FROM watermark
"""


def is_readable(connection: sqlite3.Connection) -> bool:
    """Say whether the table ``search`` is there, with a watermark that can be, and this SQLite can use it."""
    if not has_trigrams():
        return False
    try:
        connection.execute("SELECT rowid FROM search WHERE text MATCH '\"abc\"' LIMIT 1").fetchone()
        return bool(connection.execute(_HAS_WATERMARK).fetchone() == (1,))
    except sqlite3.Error:
        return False


def indexed_until(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return up to which id messages are in the index, and up to which they were read by the rules of this version.

    :raises sqlite3.DatabaseError: if the watermark is damaged.
    """
    row = connection.execute(_INDEXED).fetchone()
    if row is None or not isinstance(row[0], int):
        raise sqlite3.DatabaseError("the watermark of the index is damaged")
    found = _INDEXED_BY.fullmatch(row[1] or b"")
    return row[0], min(int(found[2]), row[0]) if found is not None and int(found[1]) == WALK else 0


def set_indexed(connection: sqlite3.Connection, until: int) -> None:
    """Say that the messages up to an id are in the index, read by the rules of this version. In a transaction."""
    connection.execute("INSERT OR REPLACE INTO search (rowid, text) VALUES (0, ?)", (f"{WALK} {until}",))
    connection.execute("UPDATE watermark SET indexed = ?", (until,))


_INDEXED = "SELECT indexed, (SELECT CAST(text AS BLOB) FROM search WHERE rowid = 0) FROM watermark"
_INDEXED_BY = re.compile(rb"([0-9]{1,9}) ([0-9]{1,19})")
