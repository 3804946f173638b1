"""The SQLite store when the driver fails: statements, commits, a full disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import attrs
import pytest

from session_manager import SaveFailedError, SaveOutcomeUnknownError, StorageError
from session_manager.model.changes import Append, Truncate
from session_manager.stores.sqlite import SQLiteStore
from tests.support.faulty_sqlite import Faulty
from tests.support.small_sessions import AT, message
from tests.support.sqlite_saves import commit_of, write_new
from tests.support.strategies import CANARY, facts, held_text


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chats.db")


@pytest.fixture
def store(path):
    with closing(SQLiteStore(path)) as one:
        yield one


# Failures of the driver: injected, by a connection that fails


@pytest.fixture
def faulty(path):
    def connect(*args, **options):
        return sqlite3.connect(*args, factory=Faulty, **options)

    with closing(SQLiteStore(path, connect=connect)) as store:
        try:
            yield store
        finally:
            Faulty.failing, Faulty.after = None, False


@pytest.mark.parametrize(
    "failing", ["BEGIN IMMEDIATE", "UPDATE sessions", "INSERT INTO messages", "DELETE FROM messages"]
)
@pytest.mark.parametrize("after", [False, True])
def test_a_failing_statement_leaves_the_old_state_and_the_next_save_works(faulty, failing, after):
    before = write_new(faulty)
    one = commit_of(before, Truncate(at=AT, start=1), Append(at=AT, messages=(message(CANARY),)))
    Faulty.failing, Faulty.after = failing, after
    with pytest.raises(SaveFailedError) as raised:
        faulty.write(one)
    assert raised.value.__cause__ is Faulty.error
    assert (raised.value.key, raised.value.reason) == ("k", "disk I/O error")
    assert CANARY not in held_text(raised.value)
    Faulty.failing = None
    assert facts(faulty.load("k")) == facts(before)
    assert faulty.landed(one) is False
    faulty.write(attrs.evolve(one, token=f"{one.token} again"))
    assert facts(faulty.load("k")) == facts(one.session)


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_that_fails_is_an_unknown_outcome_that_can_be_settled(faulty, after):
    before = write_new(faulty)
    one = commit_of(before, Append(at=AT, messages=(message("new"),)))
    Faulty.failing, Faulty.after = "COMMIT", after
    with pytest.raises(SaveOutcomeUnknownError) as raised:
        faulty.write(one)
    assert raised.value.__cause__ is Faulty.error
    Faulty.failing = None
    assert faulty.landed(one) is after
    assert facts(faulty.load("k")) == facts(one.session if after else before)


def test_a_read_that_fails_is_a_storage_error(faulty):
    write_new(faulty)
    Faulty.failing = "SELECT"
    for call in (faulty.load, faulty.version, faulty.describe):
        with pytest.raises(StorageError) as raised:
            call("k")
        assert raised.value.__cause__ is Faulty.error
    assert faulty.verify("k")
    Faulty.failing = None
    assert faulty.load("k") is not None


def test_a_full_database_fails_the_save_and_goes_on_when_there_is_space(store):
    before = write_new(store)
    writer = store._database.writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    one = commit_of(before, Append(at=AT, messages=(message("x" * 100_000),)))
    with pytest.raises(SaveFailedError, match="full"):
        store.write(one)
    assert facts(store.load("k")) == facts(before)
    writer.execute("PRAGMA max_page_count = 1000000")
    store.write(one)
    assert facts(store.load("k")) == facts(one.session)
