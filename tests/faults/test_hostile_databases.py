"""Any bytes as a SQLite database end in a value or in a typed error. (Files of the other formats: `test_hostile_bytes`.)

A row is sealed by its checksum; the structure around it is SQLite's, which has none. A damaged page may hide rows, and
`verify` tells of it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import zlib
from contextlib import closing
from functools import partial
from random import Random

import pytest

from session_manager import SessionManagerError
from session_manager.stores.rows.decoding import DamageError
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.sqlite import search_index as sqlite_index
from session_manager.stores.sqlite.rows import (
    all_keys,
    damages,
    keys,
    load,
    load_archive,
    read_checked_version,
    read_tokens,
    read_version,
)
from tests.faults.decoding import GOLDEN
from tests.faults.mutations import mutated
from tests.golden.make import SAVED, STORED
from tests.support.sizes import Size
from tests.support.strategies import CANARY, facts, held_text

DATABASE = GOLDEN / "format_2.sqlite"
KEYS = sorted({session.key for session in STORED})
SMALL_KEYS = [key for key in KEYS if not key.startswith("weird")]


def tried(function, *arguments):
    """Return what a call returns, in texts, or ``"error"`` for what the store translates."""
    failure = None
    try:
        found = function(*arguments)
    except (DamageError, SessionManagerError) as error:
        failure = error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        failure = error
    if failure is not None:
        assert CANARY not in held_text(failure)
        return "error"
    if function in (load, load_archive):
        return None if found is None else facts(found) if function is load else tuple(map(facts, found))
    return tuple(found) if isinstance(found, list) else found


# Rows

TABLES = {
    "sessions": (
        *("id INTEGER PRIMARY KEY", "key TEXT", "generation TEXT", "revision INTEGER", "state TEXT"),
        *("checksum INTEGER", "tokens BLOB"),
    ),
    "messages": ("id INTEGER PRIMARY KEY", "session INTEGER", "position INTEGER", "line TEXT", "checksum INTEGER"),
    "archive": ("id INTEGER PRIMARY KEY", "session INTEGER", "position INTEGER", "line TEXT", "checksum INTEGER"),
}
OTHERS = [None, 0, 1, -1, 3, 7, 2**63 - 1, -(2**63), 1.5, float("inf"), "", "1", CANARY, "x" * 3000, b"", b"\xff\xfe"]


@pytest.fixture
def rows():
    """The golden rows in tables without constraints, as a damaged file may have them, each change of which is undone."""
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
        closing(sqlite3.connect(f"file:{DATABASE}?immutable=1", uri=True)) as golden,
    ):
        golden.text_factory = bytes
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            for row in golden.execute(f"SELECT * FROM {table}"):
                values = ["CAST(? AS TEXT)" if isinstance(one, bytes) else "?" for one in row]
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join(values)})", row)
        connection.execute("CREATE INDEX by_session ON messages (session, position)")
        connection.execute("CREATE TABLE watermark (id INTEGER PRIMARY KEY, indexed INTEGER)")
        connection.execute("INSERT INTO watermark VALUES (1, 0)")
        connection.execute("CREATE TABLE garbage (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE tombstones (key BLOB PRIMARY KEY, tokens BLOB)")
        connection.text_factory = bytes
        yield connection


def told(connection, names=KEYS):
    """All that is read of some sessions."""
    return {key: (tried(load, connection, key), tried(load_archive, connection, key)) for key in names}


def look_at_everything(connection):
    for key in KEYS:
        for function in (damages, read_version, partial(read_checked_version, expected=None), read_tokens):
            tried(function, connection, key)
    tried(keys, connection, b"", b"")
    tried(lambda: list(all_keys(connection)))
    tried(sqlite_index.missing, connection)


def owner_of(connection, table, row):
    number = row[0] if table == "sessions" else row[1]
    found = connection.execute("SELECT key FROM sessions WHERE id = ?", (number,)).fetchone()
    return found[0].decode()


def test_every_bit_of_a_row_that_is_flipped_is_noticed(rows, count):
    """Of the texts, the checksums, and the numbers. Only where a row belongs cannot be told from the rest: see below."""
    for table, names in TABLES.items():
        for row in rows.execute(f"SELECT * FROM {table}").fetchall():
            key = owner_of(rows, table, row)
            if key not in SMALL_KEYS:
                continue
            for column, value in zip([name.split()[0] for name in names], row, strict=True):
                if column in ("id", "session", "key", "tokens"):
                    continue
                for bit in range(8 * len(value) if isinstance(value, bytes) else 62):
                    if isinstance(value, bytes):
                        damaged = bytearray(value)
                        damaged[bit // 8] ^= 1 << bit % 8
                        new, place = bytes(damaged), "CAST(? AS TEXT)"
                    else:
                        new, place = value ^ (1 << bit), "?"
                    rows.execute("BEGIN")
                    rows.execute(f"UPDATE {table} SET {column} = {place} WHERE id = ?", (new, row[0]))
                    found = tried(load_archive if table == "archive" else load, rows, key)
                    rows.execute("ROLLBACK")
                    assert found == "error", (table, row[0], column, bit)
                    count["noticed"] += 1
    count.check(noticed=11_000)


@pytest.mark.parametrize("column", ["key", "session"])
def test_a_row_that_is_elsewhere_is_missed_by_its_session_or_noticed_there(rows, column):
    """Where an archived row belongs is told by nothing else: its session reads a shorter archive. `strays` finds the row."""
    good = told(rows)
    for table in ("sessions",) if column == "key" else ("messages", "archive"):
        for row in rows.execute(f"SELECT * FROM {table}").fetchall():
            key = owner_of(rows, table, row)
            rows.execute("BEGIN")
            rows.execute(f"UPDATE {table} SET {column} = 'elsewhere' WHERE id = ?", (row[0],))
            found = told(rows)
            if table == "sessions":
                assert found[key] == (None, ())
                assert tried(load, rows, "elsewhere") == "error"
            elif table == "messages":
                assert found[key] == ("error", good[key][1])
            else:
                assert found[key] == (good[key][0], ())
            assert {other: value for other, value in found.items() if other != key} == {
                other: value for other, value in good.items() if other != key
            }
            rows.execute("ROLLBACK")


@pytest.mark.parametrize("seed", range(2))
def test_mutated_rows_end_in_a_value_or_a_typed_error(rows, seed, count, size):
    chance = Random(f"rows {seed}")
    stored = {table: rows.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    texts = [row[4] for row in stored["sessions"]] + [row[3] for row in stored["messages"]]
    good = told(rows)
    total = size.of(200, 5_000, 250_000)
    for number in range(total):
        table = chance.choice(["sessions", "messages", "messages", "archive"])
        row = chance.choice(stored[table])
        key = owner_of(rows, table, row)
        rows.execute("BEGIN")
        sealed = _change(chance, rows, table, row, key, texts)
        for other in {key, chance.choice(SMALL_KEYS)}:
            found = tried(load, rows, other), tried(load_archive, rows, other)
            if not sealed:
                assert found[0] in (good[other][0], None, "error")
                assert found[1] in (good[other][1], (), "error")
            count["errors" if "error" in found else "values"] += 1
        if number % 20 == 0:
            look_at_everything(rows)
        rows.execute("ROLLBACK")
        count["inputs"] += 1
    count.check(inputs=total, errors=total // 4, values=total // 4)


def _change(chance, connection, table, row, key, texts):
    """Change a row; say whether what stands there then has a right checksum."""
    columns = [name.split()[0] for name in TABLES[table]]
    how = chance.random()
    if how < 0.05:
        connection.execute(f"DELETE FROM {table} WHERE id = ?", (row[0],))
        return False
    if how < 0.4:
        column = chance.choice(columns[1:])
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (chance.choice(OTHERS), row[0]))
        return False
    column = "state" if table == "sessions" else "line"
    text = mutated(chance, row[columns.index(column)], chance.choice(texts))
    sealed = chance.random() < 0.6
    checksum = zlib.crc32(text, zlib.crc32(key.encode())) if sealed else row[columns.index("checksum")]
    change = f"UPDATE {table} SET {column} = CAST(? AS TEXT), checksum = ? WHERE id = ?"
    connection.execute(change, (text, checksum, row[0]))
    return sealed


# Files


@pytest.fixture
def small(tmp_path):
    """A database of three sessions in pages of 512 bytes, so that there is little in it that is nothing."""
    path = tmp_path / "small.db"
    shutil.copy(DATABASE, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("DROP TABLE search")
        connection.execute("DELETE FROM messages WHERE session = (SELECT id FROM sessions WHERE key LIKE 'weird%')")
        connection.execute("DELETE FROM sessions WHERE key LIKE 'weird%'")
        connection.execute("PRAGMA page_size = 512")
        connection.execute("VACUUM")
    return path


def whole(path):
    """All that is read of a database, as a store reads it; ``"error"`` if it cannot be opened."""

    def connect():
        connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True, isolation_level=None)
        connection.text_factory = bytes
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection

    connection = tried(connect)
    if connection == "error":
        return "error"
    with closing(connection):
        return {**told(connection, SMALL_KEYS), "keys": tried(keys, connection, b"", b"")}


def is_sound(path):
    """Say whether SQLite finds nothing wrong."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        connection.text_factory = bytes
        return tried(lambda: [row[0] for row in connection.execute("PRAGMA integrity_check")]) == (b"ok",)


def compared(good, found):
    """Say what became of a database; nothing that is read is another value than was written."""
    if found in (good, "error"):
        return "equal" if found == good else "errors"
    for key in SMALL_KEYS:
        assert found[key][0] in (good[key][0], None, "error")
        assert found[key][1] in (good[key][1], (), "error")
    return "errors" if any("error" in one for one in found.values()) else "missing"


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_in_a_database_is_noticed(small, seed, count, size):
    """In a soak every bit of it, else a sample. SQLite's pages have no checksum: one may lose a session, or an archived message."""
    data, good = small.read_bytes(), whole(small)
    assert good["keys"] == (b"Slack_C01", b"ascii", b"telegram:42")
    chance = Random(f"flips {seed}")
    flips = (
        range(seed, 8 * len(data), 2)
        if size == Size.SOAK
        else chance.sample(range(8 * len(data)), size.of(100, 1000, 0))
    )
    fd = os.open(small, os.O_RDWR)
    try:
        for flip in flips:
            place = flip // 8
            os.pwrite(fd, bytes((data[place] ^ (1 << flip % 8),)), place)
            found = compared(good, whole(small))
            count[found] += 1
            if found == "missing":
                assert not is_sound(small), flip
            os.pwrite(fd, data[place : place + 1], place)
    finally:
        os.close(fd)
    assert whole(small) == good
    count.check(equal=size.of(20, 200, 200), errors=size.of(10, 200, 200))


def test_a_database_that_is_cut_is_refused_or_equal(small, count):
    data, good = small.read_bytes(), whole(small)
    for stop in range(0, len(data), 61):
        small.write_bytes(data[:stop])
        found = whole(small) if stop >= 512 else "error"
        count[compared(good, found)] += 1
    assert set(count) == {"errors"}
    count.check(errors=150)


def _mutated_file(chance, data):
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 2, 5, 20))):
        place = chance.randrange(len(damaged))
        size = chance.choice((1, 1, 2, 8, 64, 512))
        match chance.randrange(4):
            case 0:
                damaged[place : place + size] = chance.randbytes(len(damaged[place : place + size]))
            case 1:
                damaged[place : place + size] = bytes(len(damaged[place : place + size]))
            case 2:
                other = chance.randrange(len(damaged))
                part = data[other : other + size]
                damaged[place : place + len(part)] = part
            case _:
                pages = len(damaged) // 512
                one, other = 512 * chance.randrange(pages), 512 * chance.randrange(pages)
                damaged[one : one + 512] = data[other : other + 512]
    return bytes(damaged)


@pytest.mark.parametrize("seed", range(2))
def test_mutated_databases_end_in_a_value_or_a_typed_error(small, seed, count, size):
    data, good, chance = small.read_bytes(), whole(small), Random(f"files {seed}")
    total = size.of(100, 1500, 75_000)
    for _ in range(total):
        small.write_bytes(_mutated_file(chance, data)[: 10**6])
        count[compared(good, whole(small))] += 1
        count["inputs"] += 1
    count.check(inputs=total, errors=total // 4)


@pytest.mark.parametrize("seed", range(2))
def test_a_store_on_a_mutated_database_raises_typed_errors_only(tmp_path, seed, count, size):
    """Every call of it, and what it leaves is a database that can be opened, or is refused, again."""
    data, chance = DATABASE.read_bytes(), Random(f"stores {seed}")
    path = tmp_path / "chats.db"
    for _ in range(size.of(8, 30, 1500)):
        for end in ("-wal", "-shm", ".lock"):
            (tmp_path / f"chats.db{end}").unlink(missing_ok=True)
        path.write_bytes(_mutated_file(chance, data))
        failure = None
        try:
            store = SQLiteStore(path)
        except SessionManagerError as error:
            failure = error
        if failure is not None:
            assert CANARY not in held_text(failure)
            count["refused"] += 1
            continue
        with closing(store):
            for key in KEYS:
                for call in (store.load, store.version, store.describe, store.archive, store.verify, store.delete):
                    tried(call, key)
            tried(lambda one: list(one.keys()), store)
            tried(store.search, "漢")
            tried(store.strays)
            tried(store.compact, SAVED.key)
        count["opened"] += 1
    count.check(opened=size.of(1, 5, 250), refused=size.of(0, 1, 1))
