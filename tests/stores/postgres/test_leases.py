"""Leases on a server: of a commit and a taking one comes first; what a restart and a crash leave; and every statement of a commit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import attrs
import pytest

from session_manager import Lease, LeaseLostError, SessionManager, StorageError
from session_manager.stores.commits import FORGOTTEN, MAX_TOKENS
from session_manager.stores.rows.encoding import tombstone_key
from session_manager.testing.contract.chats import KEY, Chat
from tests.support.postgres import Place, Server, needs_driver, needs_programs
from tests.support.proxy import Proxy

psycopg = needs_driver()

DEADLINE = 60


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def waiting(place):
    """Return how many statements on the schema wait for a lock."""
    rows = place.run("SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return sum(place.schema in query for (query,) in rows)


def test_a_taking_waits_for_a_commit_that_has_looked_at_the_lease(place):
    """Otherwise the new holder's model would not see a turn that lands a moment later."""
    with closing(place.open()) as one, closing(place.open()) as other, psycopg.connect(place.url) as blocker:
        chat = Chat().add("0")
        chat.write(one)
        fence = one.take_lease(KEY, "one", 1e-6)
        commit = chat.add("1").commit()
        seen = []
        blocker.execute(f"SELECT 1 FROM {place.schema}.sessions FOR UPDATE")
        writing = threading.Thread(target=one.write, args=(attrs.evolve(commit, fence=fence),))
        taking = threading.Thread(
            target=lambda: seen.append((other.take_lease(KEY, "other", 60), other.version(KEY).revision))
        )
        writing.start()
        until(lambda: waiting(place) == 1)
        taking.start()
        until(lambda: waiting(place) == 2 or seen)
        assert seen == []
        blocker.rollback()
        for thread in (writing, taking):
            thread.join(DEADLINE)
        assert seen[0][1] == commit.session.revision
        with pytest.raises(LeaseLostError):
            one.write(attrs.evolve(chat.add("late").commit(), fence=fence))


def test_owners_that_take_the_first_lease_at_once_make_one_table(place):
    with closing(place.open()) as store, ThreadPoolExecutor(4) as threads:
        fences = list(threads.map(lambda who: store.take_lease(KEY, f"{who}", 60), range(4)))
        assert sum(fence is not None for fence in fences) == 1
        rows = "SELECT relpersistence::text FROM pg_class WHERE oid = '{s}.leases'::regclass"
        assert place.run(rows) == [("u",)], "a lease costs no flush"


@pytest.mark.parametrize("pooled", [False, True])
def test_each_statement_of_a_commit_looks_at_the_lease_and_releases_it(place, pooled):
    """A creation, appends of any number of messages, and the one that prunes."""
    with closing(place.open(pooled=pooled)) as store:
        chat = Chat()
        for number in [*range(7), *[1] * (MAX_TOKENS - 7), 0, 2]:
            if number:
                chat.add(*[f"{one}" for one in range(number)])
            else:
                chat.step(lambda session, at: _ref(session, at))
            commit = chat.commit()
            late = store.take_lease(KEY, "late", 1e-6)
            fence = store.take_lease(KEY, "one", 60)
            with pytest.raises(LeaseLostError):
                store.write(attrs.evolve(commit, fence=late))
            store.write(attrs.evolve(commit, fence=fence))
            chat.written(commit)
        assert store.load(KEY) == chat.session


def _ref(session, at):
    from session_manager.model.changes import Append

    return Append(at=at, turn=f"tg:{session.revision}")


@pytest.mark.parametrize("fault", ["drop request", "drop answer", "late"])
def test_a_turn_does_not_lose_its_lease_to_its_own_late_request(place, fault):
    """The connection was cut while the lease was asked for, and the store asked again."""
    told = psycopg.conninfo.conninfo_to_dict(place.url)
    if told["host"] != "127.0.0.1":
        pytest.skip("the server is elsewhere")
    with closing(Proxy(int(told["port"]))) as proxy, closing(place.open()) as direct:
        url = psycopg.conninfo.make_conninfo(**{**told, "port": str(proxy.port)})
        with (
            closing(place.open(connect=lambda: psycopg.connect(url, connect_timeout=5))) as store,
            SessionManager(store, lease=Lease()) as m,
            SessionManager(direct, lease=Lease()) as other,
        ):
            with m.turn(KEY) as turn:
                turn.add_message("user", "before")
            proxy.arm(fault, passes=0)
            with m.turn(KEY) as turn:
                proxy.arm("")
                proxy.deliver()
                with pytest.raises(TimeoutError), other.turn(KEY, timeout=0):
                    pass
                turn.add_message("user", "kept")
            assert turn.applied
            assert [message.content for message in other.get_history(KEY)] == ["before", "kept"]


def test_compact_forgets_leases_that_ran_out_days_ago(place):
    with closing(place.open()) as store:
        store.compact(KEY)
        for key in ("old", "released", "new"):
            store.take_lease(key, "one", 60)
        store.release_lease("released", store.take_lease("released", "one", 60))
        place.run("UPDATE {s}.leases SET renewed = renewed - %s WHERE key <> %s", FORGOTTEN + 1, tombstone_key("new"))
        store.compact(KEY)
        assert place.run("SELECT count(*) FROM {s}.leases") == [(1,)]


@pytest.fixture
def server():
    needs_programs()
    one = Server().start()
    yield one
    one.remove()


@pytest.mark.once
@pytest.mark.long
@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["a restart", "a crash"])
def test_turns_go_on_over_the_end_of_their_server(server, end):
    """A crash takes the leases. One that nobody has taken since is not lost."""
    place = Place(server.url)
    with (
        closing(place.open()) as one,
        closing(place.open()) as other,
        SessionManager(one, lease=Lease(3)) as m,
        SessionManager(other, lease=Lease(3)) as rival,
    ):
        with m.turn(KEY) as turn:
            turn.add_message("user", "kept")
            end(server)
            with pytest.raises(StorageError), rival.turn("another"):
                pass
            server.start()
        assert turn.applied
        renewed = "SELECT 1 FROM {s}.leases WHERE renewed > 0"
        with m.turn(KEY) as turn:
            turn.add_message("user", "kept, too")
            end(server)
            server.start()
            until(lambda: place.run(renewed))  # its thread has found the server again
            with pytest.raises(TimeoutError), rival.turn(KEY, timeout=0):
                pass
        lost = m.turn(KEY)
        lost.__enter__()
        lost.add_message("user", "lost")
        m._leases._held.clear()  # its thread stands still
        end(server)
        server.start()
        with rival.turn(KEY, timeout=DEADLINE) as turn:
            turn.add_message("user", "instead")
        with pytest.raises(LeaseLostError):
            lost.__exit__(None, None, None)
        assert [message.content for message in m.get_history(KEY)] == ["kept", "kept, too", "instead"]
