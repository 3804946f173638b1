"""Leases in a database: their table is there when it is needed, and forgotten rows leave it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from session_manager import InvalidStorageError, Lease, SessionManager
from session_manager.operations import backup, restore, verify_backup
from session_manager.stores.commits import FORGOTTEN
from session_manager.stores.rows.encoding import tombstone_key
from session_manager.stores.sqlite import SQLiteStore

KEY = "telegram:42"


def query(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chats.db"


def say(m, text):
    with m.turn(KEY) as turn:
        turn.add_message("user", text)


def test_the_table_is_there_once_a_turn_was_taken_under_a_lease(path):
    has_table = "SELECT count(*) FROM sqlite_master WHERE name = 'leases'"
    with SessionManager(f"sqlite:{path}") as m:
        say(m, "a")
    assert query(path, has_table) == [(0,)]
    with SessionManager(f"sqlite:{path}", lease=Lease()) as m:
        assert query(path, has_table) == [(0,)]
        say(m, "b")
    assert query(path, has_table) == [(1,)]
    assert query(path, "SELECT typeof(key), length(key), typeof(owner), renewed FROM leases") == [
        ("blob", 16, "text", 0)
    ]
    with SessionManager(f"sqlite:{path}") as m:
        say(m, "c")
        assert m.verify() == []


def test_a_table_of_something_else_is_refused(path):
    SQLiteStore(path).close()
    query(path, "CREATE TABLE leases (flat TEXT, tenant TEXT)")
    with pytest.raises(InvalidStorageError, match="leases"):
        SQLiteStore(path)


def test_compact_forgets_leases_that_ran_out_days_ago(path):
    with closing(SQLiteStore(path)) as store:
        store.compact(KEY)
        for key in ("old", "older", "new"):
            store.take_lease(key, "one", 60)
        query(path, "UPDATE leases SET renewed = renewed - ? WHERE key <> ?", FORGOTTEN + 1, tombstone_key("new"))
        store.compact(KEY)
        assert query(path, "SELECT count(*) FROM leases") == [(1,)]
        assert store.take_lease("new", "other", 60) is None


def test_a_storage_with_leases_is_backed_up_and_restored(path, tmp_path):
    with SessionManager(f"sqlite:{path}", lease=Lease()) as m:
        say(m, "a")
        with m.turn("another"):
            backup(f"sqlite:{path}", tmp_path / "backup")
    assert verify_backup(tmp_path / "backup").ok
    restore(tmp_path / "backup", f"sqlite:{path}")
    with SessionManager(f"sqlite:{path}", lease=Lease()) as m:
        assert [message.content for message in m.get_history(KEY)] == ["a"]
        say(m, "b")
