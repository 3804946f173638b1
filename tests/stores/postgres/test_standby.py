"""A standby that takes over: it is refused before, and has everything that was acknowledged if the primary waited for it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from session_manager import SaveError, StorageError
from tests.support.postgres import Place, Server, needs_driver, needs_programs
from tests.support.sqlite_saves import write_new

psycopg = needs_driver()

pytestmark = [pytest.mark.long, pytest.mark.once]

DEADLINE = 30


@pytest.fixture
def primary():
    needs_programs()
    one = Server().start()
    yield one
    one.remove()


@pytest.fixture
def standby(primary):
    one = Server(primary=primary).start()
    yield one
    one.remove()


def execute(server, statement):
    with psycopg.connect(server.url, autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchall() if done.description else []


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_standby_takes_no_writes_and_may_be_read(primary, standby):
    place = Place(primary.url)
    with closing(place.open()) as store:
        before = write_new(store)
    behind = Place(standby.url, place.schema)
    wait_for(lambda: execute(standby, f"SELECT to_regclass('{place.schema}.meta') IS NOT NULL") == [(True,)])
    with pytest.raises(StorageError, match="is a standby"):
        behind.open()
    with closing(behind.open(read_only=True)) as store:
        wait_for(lambda: store.version("k") == before.version)


def test_a_synchronous_standby_has_all_that_was_acknowledged(primary, standby):
    """The URL names both, and the one that takes writes is chosen: the store itself goes on."""
    execute(primary, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
    execute(primary, "SELECT pg_reload_conf()")
    wait_for(lambda: execute(primary, "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))
    both = f"postgresql://tester@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?target_session_attrs=read-write"
    acknowledged = []
    with closing(Place(both).open()) as store, ThreadPoolExecutor(4) as threads:

        def fill(who):
            for number in range(100_000):
                key = f"{who}:{number}"
                try:
                    write_new(store, key=key)
                except SaveError:
                    return
                acknowledged.append(key)

        running = [threads.submit(fill, who) for who in range(4)]
        wait_for(lambda: len(acknowledged) > 100)
        primary.kill()
        for one in running:
            one.result()
        execute(standby, "SELECT pg_promote()")
        there = set(store.keys())
        assert [key for key in acknowledged if key not in there] == []
        assert len(there) <= len(acknowledged) + 4
        write_new(store, key="after")
        assert store.load("after") is not None
