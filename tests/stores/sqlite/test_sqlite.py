"""The SQLite store: what one process does with it. Search, threads and processes have files of their own."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import ConflictError, CorruptSessionError, Message, StorageError
from session_manager.model import Version
from session_manager.model.changes import (
    Append,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    digest,
    fold,
)
from session_manager.stores.contract import MAX_TOKENS, Commit, SessionInfo
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.laws import examples
from tests.support.small_sessions import AT, any_change, message, session_of
from tests.support.sqlite_saves import commit_of, raw, reopened, write, write_new
from tests.support.strategies import CANARY, NASTY_TEXTS, facts, held_text, sessions


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chats.db")


@pytest.fixture
def store(path):
    with closing(SQLiteStore(path)) as one:
        yield one


# What comes back


@given(session=sessions())
def test_a_session_comes_back_exactly(tmp_path_factory, session):
    with reopened(tmp_path_factory.mktemp("db") / "chats.db") as store:
        write_new(store, session)
        assert facts(store.load(session.key)) == facts(session)
        assert list(store.keys()) == [session.key]
        assert store.version(session.key) == session.version
        info, expected = store.describe(session.key), SessionInfo.of(session)
        assert (info, info.metadata) == (expected, expected.metadata)
        assert store.verify(session.key) == []


@given(data=st.data())
def test_any_changes_written_one_by_one_leave_what_a_whole_write_leaves(tmp_path_factory, data):
    """The next save may be based on a picture that is given, or on one that the store has to load."""
    path = tmp_path_factory.mktemp("db") / "chats.db"
    with reopened(path) as store:
        session = write_new(store, attrs.evolve(session_of("x", "y", "z"), revision=1))
        for _ in range(data.draw(st.integers(1, 5))):
            changes = []
            for _ in range(data.draw(st.integers(1, 3))):
                changes.append(data.draw(any_change(fold(session, changes))))
            one = commit_of(session, *changes)
            if not data.draw(st.booleans()):
                one = attrs.evolve(one, before=None)
            store.write(one)
            session = one.session
            assert facts(store.load("k")) == facts(session)
    with reopened(path) as store:
        assert facts(store.load("k")) == facts(session)
        assert store.verify("k") == store.strays() == []


CHANGES = {
    "append": [Append(at=AT, messages=(message("new"),))],
    "truncate": [Truncate(at=AT, start=3)],
    "truncate all": [Truncate(at=AT, start=100)],
    "truncate and append": [Truncate(at=AT, start=2), Append(at=AT, messages=(message("new"),))],
    "append and truncate beyond": [Append(at=AT, messages=(message("new"),)), Truncate(at=AT, start=7)],
    "truncate, sparing": [Truncate(at=AT, start=4, spare=(1, 2))],
    "remove": [Remove(at=AT, position=2)],
    "edit": [Edit(at=AT, position=2, message=message("edited"))],
    "replace": [Replace(at=AT, messages=(message("new"), message("newer")))],
    "clear": [Clear(at=AT, generation="other")],
    "summary": [SetSummary(at=AT, text="short")],
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_change_writes_only_the_rows_that_it_changes(path, name):
    before = attrs.evolve(session_of(*"abcdef"), revision=1)
    with reopened(path) as store:
        write_new(store, before)
    ids = dict(raw(path, "SELECT position, id FROM messages"))
    with reopened(path) as store:
        after = write(store, before, *CHANGES[name])
        assert facts(store.load("k")) == facts(after)
    left = dict(raw(path, "SELECT position, id FROM messages"))
    for one in after.messages:
        kept = any(one is old for old in before.messages)
        assert (left[one.position] == ids.get(one.position)) == kept, "kept rows stay, others are new"


def test_a_fold_removes_its_range(store):
    before = write_new(store, attrs.evolve(session_of(*"abcdef"), revision=1))
    change = Summarize(at=AT, summary="s", start=1, stop=4, digest=digest(before, 1, 4))
    after = write(store, before, change)
    assert [one.position for one in after.messages] == [0, 4, 5]
    assert facts(store.load("k")) == facts(after)


def test_what_differs_only_in_type_is_an_edit(store):
    before = write_new(store, attrs.evolve(session_of(), revision=1))
    before = write(store, before, Append(at=AT, messages=(Message("user", 1, created_at=AT),)))
    for content in (True, 1.0, 1, "1"):
        edited = Message("user", content, created_at=AT)
        before = write(store, before, Edit(at=AT, position=0, message=edited))
        assert type(store.load("k").messages[0].content) is type(content)


@pytest.mark.parametrize("text", NASTY_TEXTS)
def test_nasty_texts_come_back(store, text):
    before = write_new(store)
    after = write(store, before, Append(at=AT, messages=(message(text, metadata={text or "x": text}),)))
    assert facts(store.load("k")) == facts(after)


KEYS = [
    "a",
    "a\0b",
    "a\0",
    "A",
    "a%",
    "a_b",
    "a:b",
    "ü",
    "u\u0308",
    "漢字",
    "\U0010ffff",
    "\uffff",
    "a'b",
    'a"b',
    "x" * 1024,
]


def test_keys_of_any_kind_are_different_sessions_and_found_by_their_prefix(store):
    for key in KEYS:
        write_new(store, key=key)
    for key in KEYS:
        assert store.load(key).key == key
    for prefix in [
        "",
        "a",
        "a\0",
        "A",
        "a%",
        "a_",
        "ü",
        "u",
        "漢",
        "\U0010ffff",
        "\uffff",
        "zzz",
        "x" * 1024,
        "\ud800",
    ]:
        assert sorted(store.keys(prefix)) == sorted(key for key in KEYS if key.startswith(prefix)), ascii(prefix)


def test_keys_come_in_chunks_and_meanwhile_writes_go_on(store):
    sessions_ = [attrs.evolve(session_of(), key=f"k{number:04}", revision=1) for number in range(1203)]
    assert store.write_many([Commit(one, (), None, token="t") for one in sessions_]) == [None] * 1203
    keys = store.keys("k")
    first = next(keys)
    store.delete("k1100")
    write_new(store, key="k9999")
    assert [first, *keys] == [f"k{number:04}" for number in [*range(1100), *range(1101, 1203), 9999]]


def test_of_nothing_there_is_nothing(store):
    assert store.load("k") is store.version("k") is store.describe("k") is None
    assert store.delete("k") is False
    assert list(store.keys()) == store.verify("k") == store.strays() == store.repairs() == []
    assert store.write_many([]) == []


# Conflicts and outcomes


@pytest.mark.parametrize("base", [None, Version("g", 2), Version("other", 1)])
def test_a_write_on_another_version_is_refused_and_changes_nothing(store, base):
    before = write_new(store)
    one = commit_of(before, Append(at=AT, messages=(message("new"),)))
    for given_before in (one.before, None):
        with pytest.raises(ConflictError) as raised:
            store.write(attrs.evolve(one, base=base, before=given_before))
        assert (raised.value.expected, raised.value.actual) == (base, before.version)
    assert facts(store.load("k")) == facts(before)
    assert store.landed(one) is False


def test_a_write_on_a_missing_session_is_refused(store):
    with pytest.raises(ConflictError) as raised:
        store.write(commit_of(attrs.evolve(session_of("a"), revision=1), SetSummary(at=AT, text="s")))
    assert raised.value.actual is None
    assert list(store.keys()) == []


def test_a_picture_that_is_not_the_base_is_not_used(store):
    before = write_new(store)
    one = commit_of(before, Remove(at=AT, position=0))
    store.write(attrs.evolve(one, before=attrs.evolve(session_of("wrong"), revision=9)))
    assert facts(store.load("k")) == facts(one.session)


@given(steps=st.lists(st.sampled_from(["write", "delete", "conflict"]), max_size=100), tokens=st.integers(1, 80))
@examples(5)
def test_it_tells_what_landed_as_the_specification_does(tmp_path_factory, steps, tokens):
    with reopened(tmp_path_factory.mktemp("db") / "chats.db") as store:
        stores = [MemoryStore(), store]
        asked = []
        for number, step in enumerate([*steps, *["write"] * (tokens - len(steps))]):
            session = stores[0].load("k")
            if step == "delete":
                assert len({one.delete("k") for one in stores}) == 1
                continue
            if session is None:
                commit = Commit(attrs.evolve(session_of("a"), revision=1), (), None, token=f"t{number}")
            else:
                commit = commit_of(session, SetSummary(at=AT, text=f"{number}"), token=f"t{number}")
            if step == "conflict":
                commit = attrs.evolve(commit, base=Version("nobody's", 3))
            asked.append(commit)
            for one in stores:
                assert isinstance(one._attempt(commit), ConflictError) == (step == "conflict")
        for commit in asked:
            assert stores[0].landed(commit) is stores[1].landed(commit)


def test_landed_is_right_after_another_process_deleted_and_created_it(path):
    with reopened(path) as store, reopened(path) as other:
        before = write_new(store)
        mine = commit_of(before, SetSummary(at=AT, text="mine"))
        store.write(mine)
        assert other.delete("k")
        assert store.landed(mine) is True
        write_new(other)
        assert store.landed(mine) is True
        assert store.landed(attrs.evolve(mine, token="never")) is False
        last = other.load("k")
        for number in range(MAX_TOKENS):
            last = write(other, last, SetSummary(at=AT, text=str(number)), token=f"other {number}")
        assert store.landed(mine) is None
        here = commit_of(last, SetSummary(at=AT, text="not written"))
        assert store.landed(here) is False, "it would be among the last ones"


def test_old_writes_of_a_session_created_anew_may_have_landed(store):
    """The revisions are counted from 1 again, so that few of them mean nothing: it was said not to have landed."""
    before = write_new(store, attrs.evolve(session_of("a"), generation="first", revision=3))
    mine = commit_of(before, SetSummary(at=AT, text="mine"), token="mine")
    mine.doubt.exists = True
    store.write(mine)
    store.delete("k")
    last = write_new(store, attrs.evolve(session_of("b"), generation="second", revision=1))
    for number in range(MAX_TOKENS):
        last = write(store, last, SetSummary(at=AT, text=str(number)), token=f"later {number}")
    assert last.revision - before.revision < MAX_TOKENS
    assert store.landed(mine) is None


def test_deleted_sessions_whose_keys_differ_in_case_are_two(store):
    """One that was created took the tombstone of the other, whose last write was then said not to have landed."""
    one = Commit(attrs.evolve(session_of("a"), key="Chat", revision=1), (), None, token="one")
    one.doubt.exists = True
    store.write(one)
    store.delete("Chat")
    write_new(store, key="chat")
    assert store.landed(one) is True


def test_delete_of_one_version(store):
    before = write_new(store)
    assert store.delete("k", Version("g", 7)) is False
    assert store.delete("k", before.version) is True
    assert store.load("k") is None


def test_write_many_is_one_transaction_with_an_outcome_for_each(store):
    before = write_new(store, key="b")
    commits = [
        Commit(attrs.evolve(session_of("x"), key=key, revision=1), (), None, token=key) for key in ("a", "b", "c")
    ]
    errors = store.write_many(commits)
    assert [type(error) for error in errors] == [type(None), ConflictError, type(None)]
    assert sorted(store.keys()) == ["a", "b", "c"]
    assert facts(store.load("b")) == facts(before)


# Damage

DAMAGES = {
    "UPDATE messages SET line = replace(line, 'two', 'tow') WHERE id = 2": "position 1",
    "UPDATE messages SET line = x'00' WHERE id = 2": "position 1",
    "UPDATE messages SET checksum = checksum + 1 WHERE id = 1": "position 0",
    "UPDATE messages SET position = 7 WHERE id = 2": "another position",
    "DELETE FROM messages WHERE id = 2": "1 messages",
    "UPDATE sessions SET state = replace(state, 'count', 'Count') WHERE id = 1": "state",
    "UPDATE sessions SET state = x'ff' WHERE id = 1": "state",
    "UPDATE sessions SET checksum = 1 WHERE id = 1": "state",
    "UPDATE sessions SET revision = 2 WHERE id = 1": "version",
    "UPDATE sessions SET generation = 'other' WHERE id = 1": "version",
    "UPDATE sessions SET key = 'k2' WHERE id = 1": "state",
    "UPDATE messages SET session = 2 WHERE id = 1": "position 0",
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damage_raises_and_says_where(path, damage):
    with reopened(path) as store:
        session = write_new(store, attrs.evolve(session_of(CANARY, "two"), revision=1))
        write_new(store, attrs.evolve(session_of(), revision=1, key="other"))
    raw(path, damage)
    key = "k2" if "k2" in damage else "other" if "session = 2" in damage else "k"
    with reopened(path) as store:
        with pytest.raises(CorruptSessionError) as raised:
            store.load(key)
        assert DAMAGES[damage] in raised.value.reason
        assert (raised.value.key, raised.value.path, raised.value.offset) == (key, path, None)
        assert CANARY not in held_text(raised.value) + str(pickle.loads(pickle.dumps(raised.value)))
        findings = store.verify(key)
        assert raised.value.reason in [finding.reason for finding in findings]
        assert key in list(store.keys())
        with pytest.raises((CorruptSessionError, ConflictError)):
            store.write(Commit(session, (), Version("wrong", 1), token="t"))


def test_verify_names_every_damaged_row(path):
    with reopened(path) as store:
        write_new(store, attrs.evolve(session_of(*"abcd"), revision=1))
    raw(path, "UPDATE messages SET checksum = 1 WHERE position IN (1, 3)")
    with reopened(path) as store:
        assert [finding.reason.split(" is ")[0] for finding in store.verify("k")] == [
            "the message at position 1",
            "the message at position 3",
        ]


def test_a_damaged_session_is_moved_to_quarantine(path):
    with reopened(path) as store:
        write_new(store)
    raw(path, "UPDATE messages SET checksum = 1 WHERE position = 1")
    with reopened(path) as store:
        with pytest.raises(CorruptSessionError):
            store.delete("k", Version("g", 1))
        assert store.delete("k") is True
        assert store.load("k") is None
        write_new(store)
        assert store.verify("k") == store.strays() == []
    kept = raw(path, "SELECT key, position, content FROM quarantine ORDER BY position")
    assert [row[:2] for row in kept] == [("k", None), ("k", 0), ("k", 1)]
    assert all(row[2].startswith("{") for row in kept)


def test_damaged_tokens_hinder_nobody(path):
    with reopened(path) as store:
        session = write_new(store)
    raw(path, "UPDATE sessions SET tokens = 5")
    with reopened(path) as store:
        assert store.landed(Commit(session, (), None, token="t")) is False
        assert store.delete("k") is True


def test_missing_or_unexpected_rows_are_noticed_and_not_overwritten(path):
    with reopened(path) as store:
        before = write_new(store, attrs.evolve(session_of(*"abc"), revision=1))
    raw(path, "DELETE FROM messages WHERE position = 0")
    raw(path, "INSERT INTO messages (session, position, line, checksum) VALUES (1, 3, 'x', 1)")
    with reopened(path) as store:
        for change in (Truncate(at=AT, start=2), Append(at=AT, messages=(message("new"),))):
            with pytest.raises(CorruptSessionError):
                store.write(commit_of(before, change))
            assert store.version("k") == before.version


@pytest.fixture
def null(path):
    """Sets columns of a closed database to null, as a damaged byte does where the schema forbids it."""

    def set_null(table, column, condition):
        (sql,) = raw(path, "SELECT sql FROM sqlite_master WHERE name = ?", table)[0]
        for schema in (sql.replace(" NOT NULL", ""), sql):
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("PRAGMA writable_schema = ON")
                connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (schema, table))
            if schema != sql:
                raw(path, f"UPDATE {table} SET {column} = NULL WHERE {condition}")

    return set_null


@pytest.mark.parametrize("column", ["generation", "revision"])
def test_a_session_without_a_version_is_damaged(path, null, column):
    """`version` raised AttributeError, or returned what is no version; so did each read of a session in RAM."""
    with reopened(path) as store:
        session = write_new(store)
    null("sessions", column, "id = 1")
    with reopened(path) as store:
        calls = [
            lambda: store.load("k"),
            lambda: store.version("k"),
            lambda: store.landed(Commit(session, (), None, token="t")),
            lambda: store.write(Commit(session, (), None, token="t")),
            lambda: store.delete("k", Version("g", 1)),
        ]
        for call in calls:
            with pytest.raises(CorruptSessionError):
                call()
        assert store.verify("k")
        assert store.delete("k") is True
        assert store.load("k") is None


def test_a_row_without_a_key_hinders_nobody(path, null):
    """A search raised TypeError, and `strays` AttributeError."""
    with reopened(path) as store:
        write_new(store, key="gone")
        write_new(store)
    null("sessions", "key", "key = 'gone'")
    with reopened(path) as store:
        assert list(store.keys()) == ["k"]
        assert {hit.key for hit in store.search("one")} == {"k"}
        assert "a session whose key is no text" in [finding.reason for finding in store.strays()]


def test_a_position_that_is_a_text_is_not_shown(path, caplog):
    """What stands in the column came into the error and into the log, whatever it was."""
    with reopened(path) as store:
        write_new(store)
    raw(path, "UPDATE messages SET position = ? WHERE id = 1", CANARY)
    with reopened(path) as store:
        with pytest.raises(CorruptSessionError, match="a position that is no number") as raised:
            store.load("k")
        store.search("one")
        shown = held_text(raised.value) + repr(store.verify("k")) + caplog.text
    assert "left out of a search" in caplog.text
    assert CANARY not in shown


def test_a_file_whose_pages_are_damaged_raises_what_the_contract_says(path):
    with reopened(path) as store:
        write_new(store, attrs.evolve(session_of(*["x" * 3000] * 40), revision=1))
    data = bytearray(Path(path).read_bytes())
    data[8 * 4096 :] = b"\xa5" * (len(data) - 8 * 4096)
    Path(path).write_bytes(data)
    with reopened(path) as store:
        with pytest.raises((CorruptSessionError, StorageError)):
            store.load("k")
        assert store.verify("k")
        assert store.strays()
