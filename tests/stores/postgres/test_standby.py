"""A standby that takes over: it is refused before, and has everything that was acknowledged if the primary waited for it.

If the primary did not wait, what RAM has is written again, or is a conflict.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from session_manager import ConflictError, SaveError, SessionManager, StorageError
from session_manager.manager.events import WentBack
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


def take_turn(manager, key, ref):
    with manager.turn(key, ref) as turn:
        turn.add({"role": "user", "content": f"{ref} asks"}, {"role": "assistant", "content": f"{ref} is answered"})


def turns(messages):
    """Return the refs of turns, in order; each is a question with its answer behind it."""
    texts = [one.content for one in messages]
    refs = [text.split()[0] for text in texts[::2]]
    assert texts == [text for ref in refs for text in (f"{ref} asks", f"{ref} is answered")], "a turn is torn"
    assert len(refs) == len(set(refs)), "a turn is there twice"
    return refs


def fail_over(primary, standby):
    """End the primary; the standby, which has stopped following it, takes over."""
    primary.kill()
    standby.start()
    execute(standby, "SELECT pg_promote()")
    wait_for(lambda: execute(standby, "SELECT pg_is_in_recovery()") == [(False,)])


def test_what_an_asynchronous_standby_lacks_is_written_again_or_a_conflict(primary, standby, size):
    """Two machines have it in RAM; a third one, which has not, has gone on in every third chat before they look."""
    count = size.of(12, 60, 200)
    keys = [f"chat:{number}" for number in range(count)]
    both = f"postgresql://tester@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?target_session_attrs=read-write"
    place, events = Place(both), []
    acknowledged = {key: [] for key in keys}
    with (
        closing(place.open()) as first,
        closing(place.open()) as second,
        SessionManager(first, on_event=events.append) as one,
        SessionManager(second) as other,
    ):
        for key in keys:
            take_turn(one, key, f"{key}/0")
            acknowledged[key].append(f"{key}/0")
        there = "SELECT pg_current_wal_flush_lsn()"
        ((flushed,),) = execute(primary, there)
        wait_for(lambda: execute(standby, f"SELECT pg_last_wal_replay_lsn() >= '{flushed}'") == [(True,)])
        standby.stop()
        new = [f"new:{number}" for number in range(count // 4)]
        for key in new:
            take_turn(one, key, f"{key}/lost")
        for number, key in enumerate(keys):
            for turn in range(number % 4):
                take_turn((one, other)[turn % 2], key, f"{key}/lost{turn}")
                acknowledged[key].append(f"{key}/lost{turn}")
            assert turns(one.get_history(key)) == turns(other.get_history(key)) == acknowledged[key]
        fail_over(primary, standby)
        overtaken = set(keys[::3])
        with closing(place.open()) as third, SessionManager(third) as fresh:
            lost = {key for key in keys if turns(fresh.get_history(key)) != acknowledged[key]}
            assert [key for key in new if fresh.get_history(key)] == []
            assert lost == {key for number, key in enumerate(keys) if number % 4}
            for key in overtaken:
                for turn in range(4):
                    take_turn(fresh, key, f"{key}/fresh{turn}")
        for key in new:
            take_turn(one, key, f"{key}/one")
            take_turn(other, key, f"{key}/other")
            assert turns(first.load(key).messages) == [f"{key}/{name}" for name in ("lost", "one", "other")]
        conflicts = set()
        for key in keys:
            for manager, name in (one, "one"), (other, "other"):
                try:
                    take_turn(manager, key, f"{key}/{name}")
                except ConflictError:
                    conflicts.add(key)
                    assert turns(manager.get_history(key))[: len(acknowledged[key])] == acknowledged[key]
                    manager.reload(key)
        assert conflicts == lost & overtaken
        assert set(one.health().went_back) == lost | {*new}
        assert {event.key for event in events if isinstance(event, WentBack) and event.regained} == lost - overtaken | {
            *new
        }
        for key in keys:
            found = turns(first.load(key).messages)
            expected = acknowledged[key] if key not in conflicts else acknowledged[key][:1]
            assert found[: len(expected)] == expected
            fresh_ones = [f"{key}/fresh{turn}" for turn in range(4)] if key in overtaken else []
            assert found[len(expected) :][: len(fresh_ones)] == fresh_ones
            assert turns(one.get_history(key)) == turns(other.get_history(key)) == found
        missing = sum(len(acknowledged[key]) - 1 for key in lost) + len(new)
        again = sum(len(acknowledged[key]) - 1 for key in lost - overtaken) + len(new)
        print(
            f"{count + len(new)} chats, {sum(map(len, acknowledged.values())) + len(new)} acknowledged turns, {missing} of them lost by the server: "
            f"{again} written again, {missing - again} reported as conflicts; 0 doubled, 0 torn"
        )
