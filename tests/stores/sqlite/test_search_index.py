"""Search in the SQLite store finds what every other store finds; the index only makes it faster."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from session_manager import CorruptSessionError, Message
from session_manager.model.changes import Append, Edit, Remove, Truncate
from session_manager.stores.contract import Commit
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.sqlite import connecting as sqlite_opening
from session_manager.stores.sqlite import schema as sqlite_schema
from session_manager.stores.sqlite import search_index as sqlite_index
from tests.support.small_sessions import AT, message, session_of
from tests.support.sqlite_saves import commit_of, raw, reopened, write, write_new
from tests.support.strategies import CANARY, NASTY_TEXTS, message_objects, nasty_text

TEXTS = [
    "",
    "a",
    "ab",
    "abc",
    "Abc",
    "ABCD",
    'a"b',
    '"',
    '""',
    "a AND b",
    "NEAR(a b)",
    "a*",
    "^abc",
    "-a",
    "x:abc",
    "漢字",
    "漢字かな",
]


def texts():
    return st.one_of(
        st.sampled_from(TEXTS), st.sampled_from(NASTY_TEXTS), st.text("aAbB\0\"'%_*ßẞİıΣσς", max_size=6), nasty_text()
    )


def both(store, contents):
    """Store the same sessions in a memory store, too."""
    memory = MemoryStore()
    for number, content in enumerate(contents):
        messages = [one if isinstance(one, Message) else message(one) for one in content]
        session = session_of()
        session = attrs.evolve(
            commit_of(session, Append(at=AT, messages=tuple(messages))).session, key=f"k{number}", revision=1
        )
        for one in (store, memory):
            one.write(Commit(session, (), None, token=f"{number}"))
    return memory


@given(
    contents=st.lists(st.lists(texts(), max_size=4), max_size=4),
    queries=st.lists(texts().filter(bool), min_size=1, max_size=6),
)
@example(
    contents=[["a\0bcd", "a\ud800bcd", "a\ufffdbcd"]],
    queries=["\0", "\0bc", "\ud800bc", "\ufffdbc", "a\0bcd", "\ud800"],
)
@example(
    contents=[["x" * 300, "\uffff\ufffe\U0010ffff"]], queries=["x" * 70, "x" * 301, "\uffff\ufffe\U0010ffff", "\uffff"]
)
def test_it_finds_what_every_store_finds(tmp_path_factory, contents, queries):
    with reopened(tmp_path_factory.mktemp("db") / "chats.db") as store:
        memory = both(store, contents)
        for query in queries:
            for options in ({}, {"limit": 2}, {"prefix": "k1"}, {"skip": {"k0"}}, {"key": "k1"}, {"key": "nobody"}):
                assert store.search(query, **options) == memory.search(query, **options), (query, options)


@given(
    st.lists(st.lists(st.text("xX\0\ufffd\ud800é ", max_size=7), max_size=7), max_size=3),
    st.text("x\0\ufffdé ", min_size=1, max_size=4),
    st.integers(1, 3),
)
@example([["x", "x", "x", "xx x", "x"]], "x", 1)
@example([["éxé", "éxé", "xx", "éxé"]], "éxé", 1)
@settings(max_examples=40)
def test_messages_that_are_not_read_are_no_hits(tmp_path_factory, contents, query, limit):
    """By the text in the index, a message of a lower score than the best so far is not read: none of the best is left out."""
    with pytest.MonkeyPatch.context() as patch, reopened(tmp_path_factory.mktemp("db") / "chats.db") as store:
        patch.setattr(sqlite_index, "_AT_ONCE", 1)
        timed = [
            [Message("user", text, created_at=AT + timedelta(hours=n)) for n, text in enumerate(texts)]
            for texts in contents
        ]
        memory = both(store, timed)
        everything = memory.search(query, limit=100)
        assert memory.search(query, limit=limit) == everything[:limit]
        assert store.search(query, limit=limit) == everything[:limit]


def test_few_of_many_messages_are_read_for_the_best_hits(store, monkeypatch):
    write_new(store, attrs.evolve(session_of(*["needle " + "x" * n for n in range(1000)]), revision=1))
    read = []
    decode = sqlite_index.plain_messages_of
    monkeypatch.setattr(sqlite_index, "plain_messages_of", lambda rows: read.extend(rows) or decode(rows))
    assert [hit.position for hit in store.search("needle", limit=5)] == [0, 1, 2, 3, 4]
    assert len(read) <= 200


def test_the_last_new_messages_are_looked_for_among_new_messages_alone(store):
    """The sessions are many: a search in the order of their keys looked at each message of each."""
    for statement in (sqlite_index._NEW, sqlite_index._NEW_ARCHIVED):
        plan = store._database.read(
            lambda connection, one=statement: connection.execute(
                f"EXPLAIN QUERY PLAN {one}", (0, b"", b"\xff")
            ).fetchall()
        )
        assert b"one USING INTEGER PRIMARY KEY (rowid>?)" in plan[0][-1]


@pytest.mark.long
@given(objects=st.lists(message_objects(), min_size=1, max_size=5), data=st.data())
@settings(max_examples=50)
def test_it_finds_parts_of_any_message(tmp_path_factory, objects, data):
    messages = [Message.from_dict(one, created_at=AT) for one in objects]
    with reopened(tmp_path_factory.mktemp("db") / "chats.db") as store:
        memory = both(store, [messages])
        whole = "\n".join(sqlite_index.searched_text(one) for one in messages)
        start = data.draw(st.integers(0, max(len(whole) - 1, 0)))
        query = whole[start : start + data.draw(st.integers(1, 8))] or "x"
        assert store.search(query) == memory.search(query)


def test_what_changes_is_found_as_it_is_now(store):
    session = write_new(store, attrs.evolve(session_of("needle one", "needle two", "needle three"), revision=1))

    def found():
        return sorted(hit.position for hit in store.search("needle"))

    assert found() == [0, 1, 2]
    session = write(store, session, Edit(at=AT, position=1, message=message("edited")))
    assert found() == [0, 2]
    assert [hit.position for hit in store.search("edited")] == [1]
    session = write(store, session, Append(at=AT, messages=(message("a needle, too"),)))
    assert found() == [0, 2, 3]
    session = write(store, session, Remove(at=AT, position=2))
    assert found() == [0, 3]
    session = write(store, session, Truncate(at=AT, start=2))
    assert found() == [3]
    assert store.delete("k")
    assert found() == []
    assert store.strays() == []


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chats.db")


@pytest.fixture
def store(path):
    with closing(SQLiteStore(path)) as one:
        yield one


def count(store, table):
    """Count the rows of a table, but for row 0, which says by which rules messages were indexed."""
    statement = f"SELECT count(*) FROM {table} WHERE rowid > 0"
    return store._database.read(lambda connection: connection.execute(statement).fetchone()[0])


def test_saves_leave_the_index_and_the_next_search_catches_up_in_batches(store, monkeypatch):
    monkeypatch.setattr(sqlite_index, "_BATCH_MESSAGES", 7)
    session = write_new(store, attrs.evolve(session_of(*[f"needle {n}" for n in range(40)]), revision=1))
    assert count(store, "search") == 0
    assert len(store.search("needle", limit=100)) == 40
    assert count(store, "search") == 40
    write(store, session, Truncate(at=AT, start=30))
    assert (count(store, "search"), count(store, "garbage")) == (40, 30)
    assert len(store.search("needle", limit=100)) == 10
    assert (count(store, "search"), count(store, "garbage")) == (10, 0)


def test_a_search_that_finds_the_index_complete_writes_nothing(store):
    write_new(store)
    store.search("one")
    changes = store._database.writer.total_changes
    store.search("one")
    assert store._database.writer.total_changes == changes


def test_two_processes_may_catch_up_at_once(path):
    with reopened(path) as one, reopened(path) as two:
        write_new(one, attrs.evolve(session_of(*[f"needle {n}" for n in range(10)]), revision=1))
        seen = one._database.read(sqlite_index.missing)
        assert len(two.search("needle")) == 10
        seen.run(one._database.writer)
        assert count(one, "search") == 10
        assert len(one.search("needle")) == 10
        assert one.strays() == []


def test_a_reader_searches_what_is_not_indexed_and_not_what_is_gone(path):
    with reopened(path) as store, closing(SQLiteStore(path, read_only=True)) as reader:
        session = write_new(store, attrs.evolve(session_of("needle one", "needle two"), revision=1))
        assert sorted(hit.position for hit in reader.search("needle")) == [0, 1]
        store.search("needle")
        session = write(store, session, Append(at=AT, messages=(message("needle three"),)))
        write(store, session, Truncate(at=AT, start=1))
        for query in ("needle", "ne", "n"):
            assert sorted(hit.position for hit in reader.search(query)) == [1, 2]
        assert (count(store, "search"), count(store, "garbage")) == (2, 1)


def damaged(path, caplog):
    with reopened(path) as store:
        write_new(store, attrs.evolve(session_of(f"{CANARY} one", "needle two"), revision=1))
        write_new(store, attrs.evolve(session_of("needle three"), key="well", revision=1))


@pytest.mark.parametrize("indexed_before", [False, True])
def test_damage_is_left_out_and_named_in_the_log_or_raised_for_its_session(path, caplog, indexed_before):
    with reopened(path) as store:
        write_new(store, attrs.evolve(session_of(f"needle {CANARY}", "needle two"), revision=1))
        write_new(store, attrs.evolve(session_of("needle three"), key="well", revision=1))
        if indexed_before:
            assert len(store.search("needle")) == 3
    raw(path, "UPDATE messages SET checksum = 1 WHERE id = 1")
    with reopened(path) as store:
        assert [(hit.key, hit.position) for hit in store.search("needle")] == [("k", 1), ("well", 0)]
        assert "'k'" in caplog.text
        assert CANARY not in caplog.text
        with pytest.raises(CorruptSessionError):
            store.search("needle", key="k")


def test_without_trigrams_it_searches_and_purges_the_old_index_later(path, monkeypatch):
    with reopened(path) as store:
        session = write_new(store, attrs.evolve(session_of("needle one", "needle two"), revision=1))
        store.search("needle")
    with monkeypatch.context() as patch:
        for module in (sqlite_opening, sqlite_schema):
            patch.setattr(module, "has_trigrams", lambda: False)
        with reopened(path) as store:
            assert store.indexed is False
            session = write(store, session, Truncate(at=AT, start=1))
            assert [hit.position for hit in store.search("needle")] == [1]
            store.compact("k")
            assert store.strays() == []
    with reopened(path) as store:
        assert store.indexed is True
        assert [hit.position for hit in store.search("needle")] == [1]
        assert (count(store, "search"), count(store, "garbage")) == (1, 0)


#: What other versions leave behind: an index of other texts by other rules, of unknown ones, or with a damaged row 0.
OTHERS = {
    "an older version's": ["UPDATE search SET text = 'hay'", "DELETE FROM search WHERE rowid = 0"],
    "a newer version's": ["UPDATE search SET text = 'hay'", "UPDATE search SET text = '999 3' WHERE rowid = 0"],
    **{
        f"row 0 is {damage}": ["UPDATE search SET text = 'hay'", f"UPDATE search SET text = {damage} WHERE rowid = 0"]
        for damage in ("NULL", "x'ff'", "''", "7", "'2 -1'", "'2 x'", "'2'")
    },
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("read_only", [False, True])
def test_an_index_by_other_rules_misses_nothing(path, other, read_only):
    """Such an index has texts that are searched no more, and lacks others that are."""
    with reopened(path) as store:
        write_new(store, attrs.evolve(session_of("needle one", "needle two", "three"), revision=1))
        assert len(store.search("needle")) == 2
    for statement in OTHERS[other]:
        raw(path, statement)
    with closing(SQLiteStore(path, read_only=read_only)) as store:
        for query in ("needle", "ne"):
            assert len(store.search(query)) == 2
            assert store.search("hay") == []
        if not read_only:
            assert count(store, "search") == 3
            assert store._database.read(sqlite_index.missing) is None
            assert store.strays() == []


def test_what_an_older_version_indexes_beside_is_read_again(path):
    """It raises the watermark by its own rules, and knows nothing of row 0."""
    with reopened(path) as store:
        session = write_new(store, attrs.evolve(session_of("needle one", "hay"), revision=1))
        assert len(store.search("needle")) == 1
        session = write(store, session, Append(at=AT, messages=(message("needle two"), message("needle three"))))
        for statement in ("INSERT INTO search (rowid, text) VALUES (3, 'x')", "UPDATE watermark SET indexed = 4"):
            store._group.alone(lambda one=statement: store._database.writer.execute(one))
        with closing(SQLiteStore(path, read_only=True)) as reader:
            assert len(reader.search("needle")) == 3
        write(store, session, Truncate(at=AT, start=3))
        assert [hit.position for hit in store.search("needle")] == [3]
        assert (count(store, "search"), count(store, "garbage")) == (1, 0)


def test_an_index_that_cannot_be_read_is_made_anew(path):
    with reopened(path) as store:
        write_new(store)
        store.search("one")
    raw(path, "DROP TABLE search")
    with reopened(path) as store:
        assert [hit.position for hit in store.search("one")] == [0]
    raw(path, "DELETE FROM search_config")
    raw(path, "DELETE FROM search_data")
    with reopened(path) as store:
        assert [hit.position for hit in store.search("one")] == [0]
        assert store.strays() == []


WATERMARKS = [
    "DELETE FROM watermark",
    "UPDATE watermark SET indexed = -1",
    "UPDATE watermark SET indexed = 1000",
    f"UPDATE watermark SET indexed = '{CANARY}'",
    "UPDATE watermark SET indexed = x'ff'",
]


@pytest.mark.parametrize("damage", WATERMARKS)
def test_a_watermark_that_cannot_be_makes_the_index_anew(path, damage):
    """It raised what no store may raise, or left out what it said was indexed."""
    with reopened(path) as store:
        write_new(store)
        store.search("one")
        if "1000" not in damage and "-1" not in damage:
            store._group.alone(lambda: store._database.writer.execute(damage))
            assert [hit.position for hit in store.search("one")] == [0]
    raw(path, damage)
    with closing(SQLiteStore(path, read_only=True)) as reader:
        assert [hit.position for hit in reader.search("one")] == [0]
    with reopened(path) as store:
        assert [hit.position for hit in store.search("one")] == [0]
        assert (store.strays(), count(store, "search")) == ([], 2)


def test_an_index_that_breaks_while_it_is_open_is_done_without(path, caplog):
    with reopened(path) as store:
        write_new(store)
        store.search("one")
        store._group.alone(lambda: store._database.writer.execute("DELETE FROM search_data"))
        assert [hit.position for hit in store.search("one")] == [0]
        assert "searched without the index" in caplog.text
        assert store.strays()
        assert store.delete("k")
        assert store.load("k") is None


def test_a_search_that_cannot_write_searches_all_the_same(store, monkeypatch, caplog):
    write_new(store)

    def full(self, connection):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite_index.Missing, "run", full)
    assert [hit.position for hit in store.search("one")] == [0]
    assert "could not be brought up to date" in caplog.text
