"""The contract holds for the library's own stores, and it notices a store that breaks it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from session_manager.stores.contract import Store
from session_manager.stores.files.names import file_name
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sharded import ShardedStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import FaultyStore, StoreContract
from session_manager.testing.contract.going_back import GoingBackContract
from tests.support.broken_stores import BROKEN, Folds

pytest_plugins = ["pytester"]


class TestMemoryStore(StoreContract):
    durable = False
    refuses_when_closed = False

    @pytest.fixture
    def open_store(self):
        return MemoryStore


class TestSnapshotStore(StoreContract):
    tokens = False

    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: SnapshotStore(tmp_path / "chats")

    @pytest.fixture
    def damage(self, tmp_path):
        def overwrite(key):
            os.truncate(tmp_path / "chats" / file_name(key, ".session.json"), 100)

        return overwrite


class TestLogStore(StoreContract):
    tokens = False

    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: LogStore(tmp_path / "chats")

    @pytest.fixture
    def damage(self, tmp_path):
        def overwrite(key):
            os.truncate(tmp_path / "chats" / file_name(key, ".session.jsonl"), 100)

        return overwrite


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: SQLiteStore(tmp_path / "chats.db")

    @pytest.fixture
    def damage(self, tmp_path):
        def overwrite(key):
            with closing(sqlite3.connect(tmp_path / "chats.db")) as connection, connection:
                connection.execute("UPDATE sessions SET checksum = checksum + 1 WHERE key = ?", (key,))
                connection.execute("UPDATE messages SET checksum = checksum + 1 WHERE session = 1")

        return overwrite


#: Sessions that live in one of the shards a, b and c.
IN_ONE_SHARD = ("chat:0", "chat:2", "chat:3")


class TestShardedStore(StoreContract):
    together_keys = IN_ONE_SHARD
    durable = False
    refuses_when_closed = False

    @pytest.fixture
    def open_store(self):
        return lambda: ShardedStore({name: MemoryStore() for name in "abc"})


@pytest.mark.long
class TestShardsOfDatabases(StoreContract):
    together_keys = IN_ONE_SHARD

    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: ShardedStore({name: SQLiteStore(tmp_path / f"{name}.db") for name in "abc"})


@pytest.mark.long
class TestFaultyStore(TestMemoryStore):
    """A wrapper without a fault is the store that it wraps."""

    @pytest.fixture
    def open_store(self):
        return lambda: FaultyStore(MemoryStore())


class WithoutTokens(MemoryStore):
    """A shared store that leaves `newer` to the contract."""

    newer = Store.newer


class TestTheDefaultNoticesAnotherWriteOfTheSameVersion(GoingBackContract):
    """Its `newer` alone cannot tell a later state of another past: so a shared store overrides it."""

    durable = False
    test_a_later_state_that_a_picture_did_not_lead_to_is_marked = None

    @pytest.fixture
    def open_store(self):
        return WithoutTokens


USER_FILE = """
import pytest
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import StoreContract
from tests.support.broken_stores import {name}


class TestBroken(StoreContract):
    durable = {durable}
    refuses_when_closed = False

    @pytest.fixture
    def open_store(self):
        return {name}
"""


#: Without plugins that a run of one test does not need: the last one takes a second.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:langsmith_plugin")


def run_contract(pytester, store, test):
    """Run a part of the contract on a store, as a user does, and return what came of it."""
    durable = getattr(store, "durable", False)
    pytester.makepyfile(USER_FILE.format(name=store.__name__, durable=durable))
    return pytester.runpytest_inprocess("-k", test, "-q", *WITHOUT).parseoutcomes()


@pytest.mark.long
@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
def test_the_contract_notices_a_broken_store(pytester, store):
    outcomes = run_contract(pytester, store, BROKEN[store])
    assert outcomes.get("failed", 0) > 0


@pytest.mark.long
def test_what_the_broken_stores_are_made_of_is_not_broken(pytester):
    outcomes = run_contract(pytester, Folds, "not any")
    assert set(outcomes) == {"passed", "skipped", "deselected"}
    assert outcomes["passed"] > 60


def test_a_store_that_is_not_given_is_asked_for(pytester):
    pytester.makepyfile("from session_manager.testing import StoreContract\nclass TestMine(StoreContract): pass")
    result = pytester.runpytest_inprocess("-k", "closed_twice", *WITHOUT)
    assert result.parseoutcomes() == {"errors": 1, "deselected": result.parseoutcomes()["deselected"]}
    result.stdout.fnmatch_lines(["*NotImplementedError: override the fixture open_store*"])


def test_each_test_that_a_broken_store_names_is_one():
    tests = [name for name in dir(StoreContract) if name.startswith("test_")]
    named = [test.partition(" ")[0] for test in BROKEN.values()]
    assert [test for test in named if not any(name.startswith(test) for name in tests)] == []
    assert len(BROKEN) >= 15
