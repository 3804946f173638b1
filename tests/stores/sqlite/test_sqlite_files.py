"""The SQLite store: its files, opening them, reading only, and what is left of what was deleted."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from session_manager import (
    ClosedError,
    InvalidStorageError,
    ReadOnlyError,
    SaveFailedError,
    SessionManager,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.history.search import case_fold
from session_manager.model.changes import Append, Clear, SetSummary, Truncate
from session_manager.stores.contract import SessionInfo
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.sqlite import connecting as sqlite_opening
from session_manager.stores.sqlite import schema as sqlite_schema
from tests.support.processes import run_python
from tests.support.small_sessions import AT, message, session_of
from tests.support.sqlite_saves import commit_of, raw, raw_elsewhere, reopened, write, write_new
from tests.support.strategies import CANARY, facts


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chats.db")


@pytest.fixture
def store(path):
    with closing(SQLiteStore(path)) as one:
        yield one


# Opening


def test_the_files_are_private_under_any_umask(tmp_path):
    before = os.umask(0)
    try:
        with reopened(tmp_path / "a" / "b" / "chats.db") as store:
            write_new(store)
            names = os.listdir(tmp_path / "a" / "b")
            assert sorted(names) == ["chats.db", "chats.db-shm", "chats.db-wal", "chats.db.lock"]
            for name in names:
                assert stat.S_IMODE(os.stat(tmp_path / "a" / "b" / name).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o700
    finally:
        os.umask(before)
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["chats.db", "chats.db.lock"]


def test_the_settings_are_the_safe_ones(store, path):
    writer = store._database.writer
    expected = {
        "journal_mode": b"wal",
        "synchronous": 2,
        "trusted_schema": 0,
        "secure_delete": 1,
        "foreign_keys": 1,
        "cell_size_check": 1,
        "mmap_size": 0,
        "auto_vacuum": 2,
        "wal_autocheckpoint": 0,
        "fullfsync": 1,
        "checkpoint_fullfsync": 1,
        "application_id": sqlite_schema.APPLICATION_ID,
        "user_version": len(sqlite_schema.MIGRATIONS),
        "busy_timeout": 30_000,
    }
    found = {name: row[0] for name in expected for row in [writer.execute(f"PRAGMA {name}").fetchone() or (0,)]}
    assert found == expected


@pytest.mark.parametrize("name", ["with space?.db", "100%.db", "#.db", "漢é.db", "a'b.db", "file:x.db"])
def test_paths_of_any_kind(tmp_path, name):
    with reopened(tmp_path / name) as store:
        write_new(store)
    assert sorted(os.listdir(tmp_path)) == sorted([name, f"{name}.lock"])


def test_a_path_may_start_with_two_slashes(path):
    """What followed was taken for a host."""
    with reopened(f"/{path}") as store:
        write_new(store)
    with reopened(path) as store:
        assert list(store.keys()) == ["k"]


def test_an_empty_file_becomes_a_database(path):
    Path(path).touch()
    with reopened(path) as store:
        write_new(store)


def tree(directory):
    return {place.name: place.read_bytes() for place in Path(directory).iterdir()}


def foreign(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


REFUSED = {
    "a table": lambda path: foreign(path, "CREATE TABLE t (a)"),
    "an application": lambda path: foreign(path, "PRAGMA application_id = 1"),
    "a version": lambda path: foreign(path, "PRAGMA user_version = 3"),
    "text": lambda path: Path(path).write_text("not a database" * 100),
    "a directory": os.mkdir,
    "a fifo": os.mkfifo,
}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_ours_is_refused_and_left_as_it_is(path, tmp_path, name, read_only):
    REFUSED[name](path)
    before = tree(tmp_path) if os.path.isfile(path) else None
    with pytest.raises(InvalidStorageError) as raised:
        SQLiteStore(path, read_only=read_only)
    assert raised.value.url == path
    if before is not None:
        assert tree(tmp_path) == before
    assert os.listdir(tmp_path) == ["chats.db"]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_format_is_refused_and_left_as_it_is(path, tmp_path, read_only):
    with reopened(path) as store:
        write_new(store)
    newest = len(sqlite_schema.MIGRATIONS)
    raw(path, f"PRAGMA user_version = {newest + 1}")
    before = tree(tmp_path)
    with pytest.raises(UnsupportedFormatError) as raised:
        SQLiteStore(path, read_only=read_only)
    assert (raised.value.path, raised.value.found, raised.value.supported) == (path, str(newest + 1), str(newest))
    assert tree(tmp_path) == before


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i"
STRANGE = {
    "an endless view": (
        "DROP TABLE messages",
        f"CREATE VIEW messages AS {ENDLESS} AS id, 1 AS session, i AS position, 'x' AS line, 0 AS checksum FROM n",
    ),
    "an endless index for search": ("DROP TABLE search", f"CREATE VIEW search AS {ENDLESS} AS text FROM n"),
    "an endless part of the index": (
        "DROP TABLE search",
        f"CREATE VIEW search_data AS {ENDLESS} AS id, 0 AS block FROM n",
    ),
    "a column of another kind": (
        "DROP TABLE garbage",
        "CREATE TABLE garbage (id INTEGER PRIMARY KEY, x TEXT AS (hex(zeroblob(400000000))))",
    ),
    "a trigger": ("CREATE TRIGGER more AFTER INSERT ON sessions BEGIN DELETE FROM messages; END",),
}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", STRANGE)
def test_tables_that_are_not_ours_are_refused_and_left_as_they_are(path, name, read_only):
    """A view in the place of a table was read from, for ever."""
    with reopened(path) as store:
        write_new(store)
    for statement in STRANGE[name]:
        raw(path, statement)
    before = Path(path).read_bytes()
    with pytest.raises(InvalidStorageError, match="not the one of this format"):
        SQLiteStore(path, read_only=read_only)
    assert Path(path).read_bytes() == before


def test_tables_and_views_of_other_names_are_nobodys_business(path):
    with reopened(path) as store:
        write_new(store)
    raw(path, "CREATE VIEW lines AS SELECT line FROM messages")
    raw(path, "CREATE TABLE mine (x)")
    raw(path, "CREATE INDEX by_checksum ON messages (checksum)")
    raw(path, "CREATE TRIGGER more AFTER INSERT ON mine BEGIN DELETE FROM mine; END")
    with reopened(path) as store:
        assert store.load("k") is not None
        assert store.strays() == []


def test_a_schema_that_sqlite_cannot_quote_is_a_typed_error(path):
    """SQLite quotes a damaged schema, and Python raised UnicodeDecodeError, for the sentence was no text."""
    with reopened(path) as store:
        write_new(store)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data.replace(b"CREATE TABLE sessions", b"CREAT\xc5 TABLE sessions"))
    for read_only in (False, True):
        with pytest.raises(StorageError, match="the schema is damaged"):
            SQLiteStore(path, read_only=read_only)
    Path(path).write_bytes(data)
    with reopened(path) as store:
        assert store.load("k") is not None


def test_an_older_format_is_brought_up_in_place(path, monkeypatch):
    with reopened(path) as store:
        session = write_new(store)
    steps = (*sqlite_schema.MIGRATIONS, ("CREATE TABLE more (a)", "INSERT INTO more VALUES (1)"))
    monkeypatch.setattr(sqlite_opening, "MIGRATIONS", steps)
    with pytest.raises(StorageError, match=f"format {len(sqlite_schema.MIGRATIONS)}"):
        SQLiteStore(path, read_only=True)
    with reopened(path) as store:
        assert facts(store.load("k")) == facts(session)
    assert raw(path, "SELECT a FROM more") == [(1,)]
    assert raw(path, "PRAGMA user_version") == [(len(steps),)]


def test_a_step_that_fails_leaves_the_format_as_it_was(path, monkeypatch):
    with reopened(path) as store:
        session = write_new(store)
    steps = (*sqlite_schema.MIGRATIONS, ("CREATE TABLE more (a)", "INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr(sqlite_opening, "MIGRATIONS", steps)
    with pytest.raises(StorageError):
        SQLiteStore(path)
    monkeypatch.undo()
    with reopened(path) as store:
        assert facts(store.load("k")) == facts(session)


def test_what_cannot_be_opened_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        SQLiteStore(tmp_path / "file" / "chats.db")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError):
        SQLiteStore(tmp_path / "link", read_only=True)


def test_after_close_nothing_works_but_close(path):
    store = SQLiteStore(path)
    session = write_new(store)
    keys = store.keys()
    store.close()
    store.close()
    calls = [
        lambda: store.load("k"),
        lambda: store.version("k"),
        lambda: store.describe("k"),
        lambda: store.write(commit_of(session)),
        lambda: store.write_many([]),
        lambda: store.landed(commit_of(session)),
        lambda: store.delete("k"),
        lambda: store.keys(),
        lambda: list(keys),
        lambda: store.search("x"),
        lambda: store.verify("k"),
        lambda: store.strays(),
        lambda: store.compact("k"),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()
    assert repr(store) == f"<SQLiteStore {path!r}>"


def test_a_close_that_is_interrupted_is_done_by_the_next_one(path):
    """It had closed the lock, which the next one then could not take: a ValueError, and connections were left open."""
    store = SQLiteStore(path)
    write_new(store)
    lock = store._database._lock

    def interrupted(timeout):
        del lock.acquire
        raise KeyboardInterrupt

    lock.acquire = interrupted
    with pytest.raises(KeyboardInterrupt):
        store.close()
    store.close()
    store.close()
    assert not os.path.exists(f"{path}-wal"), "the last one to close makes a checkpoint"


def test_what_it_says_of_itself(path):
    with reopened(path) as store:
        assert (store.shared, store.indexed) == (True, sqlite_schema.has_trigrams())
    with closing(SQLiteStore(path, exclusive=True)) as store:
        assert store.shared is False


# Reading only


def test_a_reader_sees_what_a_writer_beside_it_saves(path):
    with reopened(path) as store, closing(SQLiteStore(path, read_only=True)) as reader:
        session = write_new(store)
        assert facts(reader.load("k")) == facts(session)
        session = write(store, session, Append(at=AT, messages=(message("needle"),)))
        assert facts(reader.load("k")) == facts(session)
        assert reader.version("k") == session.version
        assert reader.describe("k") == SessionInfo.of(session)
        assert list(reader.keys()) == ["k"]
        assert [hit.position for hit in reader.search("needle")] == [2]
        assert reader.verify("k") == reader.strays() == []
        one = commit_of(session, SetSummary(at=AT, text="s"))
        calls = [reader.write, reader.landed, lambda one: reader.write_many([one])]
        for call in (*calls, lambda _: reader.delete("k"), lambda _: reader.compact("k")):
            with pytest.raises(ReadOnlyError):
                call(one)
        store.delete("k")
        assert reader.load("k") is None


def test_a_reader_creates_no_database(path, tmp_path):
    with pytest.raises(StorageError, match="there is no database"):
        SQLiteStore(path, read_only=True)
    assert os.listdir(tmp_path) == []


# What is deleted is gone


@pytest.mark.parametrize("how", ["delete", "clear"])
def test_deleted_text_is_in_no_file(path, tmp_path, how):
    with reopened(path) as store:
        write_new(store, key="other")
        before = write_new(
            store, attrs.evolve(session_of(*[f"{CANARY} {n}" for n in range(50)]), revision=1, summary=CANARY)
        )
        assert len(store.search(CANARY, limit=100)) == 50
        before = write(store, before, Truncate(at=AT, start=10))
        if how == "delete":
            store.delete("k")
        else:
            write(store, before, Clear(at=AT, generation="new"))
        assert found_in(path) == []
        assert store.search(CANARY) == []
        assert raw_elsewhere(path, "SELECT count(*) FROM search WHERE search MATCH '\"canary\"'") == "0"


@pytest.mark.parametrize("how", ["delete", "clear"])
def test_deleted_text_that_was_archived_is_in_no_file(path, how):
    """The index for search kept it."""
    with reopened(path) as store, SessionManager(store, archive=True) as m:
        for number in range(50):
            m.add_message("k", "user", f"{CANARY} {number}")
        m.truncate_history("k", 10)
        m.save("k")
        assert len(store.search(CANARY, limit=100)) == 50
        assert len(list(store.archive("k"))) == 40
        m.delete("k") if how == "delete" else m.clear("k")
        m.save_all()
        assert found_in(path) == []
        assert raw_elsewhere(path, "SELECT count(*) FROM search WHERE search MATCH '\"canary\"'") == "0"
        assert store.strays() == []


def test_deleted_text_kept_by_a_reader_is_gone_after_the_next_save(path):
    """SQLite cannot empty its log while a reader looks into it; the checkpoint is made up for later."""
    with reopened(path) as store:
        write_new(store, attrs.evolve(session_of(*[f"{CANARY} {n}" for n in range(50)]), revision=1))

        def delete_while_reading(connection):
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM messages").fetchone()
            assert store.delete("k")

        store._database.read(delete_while_reading)
        assert found_in(path) == ["chats.db-wal"]
        write_new(store, key="other")
        assert found_in(path) == []


def found_in(path):
    """Return the files in which the canary is, as it was written or as the index has it."""
    files = tree_of_others(path)
    return sorted(name for name, data in files.items() if CANARY.encode() in data or case_fold(CANARY).encode() in data)


def tree_of_others(path):
    """The bytes of the files, read by another process: opening the database in this one would drop its locks."""
    code = "import sys,os,pickle; d=sys.argv[1]; pickle.dump({n: open(os.path.join(d,n),'rb').read() for n in os.listdir(d)}, sys.stdout.buffer)"
    done = run_python("-c", code, os.path.dirname(path), text=False)
    return pickle.loads(done.stdout)


def test_compact_gives_space_back(path):
    with reopened(path) as store:
        before = write_new(store, attrs.evolve(session_of(*["x" * 2000] * 500), revision=1))
        store.search("xxx")
        write(store, before, Truncate(at=AT, start=499))
        size = os.stat(path).st_size + os.stat(f"{path}-wal").st_size
        store.compact("k")
        assert os.stat(path).st_size < size / 5
        assert os.stat(f"{path}-wal").st_size == 0
        assert len(store.load("k").messages) == 1
        assert store.strays() == []


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_database_that_is_not_there_any_more_is_not_written_to(path, how):
    """Saves went to a file without a name, and were lost with the process."""
    with closing(SQLiteStore(path)) as store, SessionManager(store) as m:
        m.add_message("k", "user", "one")
        m.save("k")
        if how == "replaced":
            with closing(SQLiteStore(f"{path}.other")) as other:
                write_new(other)
            os.rename(path, f"{path}.moved")
            os.rename(f"{path}.other", path)
        elif how == "moved":
            os.rename(path, f"{path}.moved")
        else:
            os.link(path, f"{path}.moved")
            os.unlink(path)
        m.add_message("k", "user", "two")
        for call in (lambda: m.save("k"), lambda: m.delete("k")):
            with pytest.raises(SaveFailedError, match="moved, removed or replaced"):
                call()
        assert m.health().dirty == ("k",)
        os.rename(f"{path}.moved", path)
        assert m.save("k") is True
    with closing(SQLiteStore(path)) as store:
        assert [message.content for message in store.load("k").messages] == ["one", "two"]
        assert store.strays() == []


@pytest.mark.long
def test_the_log_does_not_grow_for_ever(path):
    with reopened(path) as store:
        before = write_new(store)
        for number in range(1500):
            before = write(store, before, Append(at=AT + timedelta(seconds=number), messages=(message("x" * 1000),)))
        assert os.stat(f"{path}-wal").st_size < 6 * 1024 * 1024
    shutil.copy(path, f"{path}.copy")
    with reopened(f"{path}.copy") as store:
        assert len(store.load("k").messages) == 1502


def test_a_manager_works_with_it(path):
    with closing(SQLiteStore(path)) as store:
        with SessionManager(store) as m:
            for number in range(30):
                m.add_message("telegram:42", "user", f"hi {number}")
                m.save("telegram:42")
            m.truncate_history("telegram:42", 5)
            m.fork("telegram:42", "copy")
        with SessionManager(store) as m:
            assert [one.content for one in m.get_history("telegram:42")] == [f"hi {n}" for n in range(25, 30)]
            assert sorted(info.key for info in m.list_sessions()) == ["copy", "telegram:42"]
            assert m.verify() == []
