"""Ctrl-C in the middle of a call, and servers that stand still."""

from __future__ import annotations

import _thread
import threading
import time
from contextlib import closing

import pytest

from session_manager import SaveFailedError
from session_manager.model.changes import Append, Edit
from tests.support.postgres import needs_driver
from tests.support.small_sessions import AT, message
from tests.support.sqlite_saves import commit_of, write, write_new
from tests.support.strategies import facts

psycopg = needs_driver()

DEADLINE = 20


def interrupted_when_waiting(place):
    """Interrupt the main thread as soon as a statement in the schema waits for a lock."""

    def watch():
        end = time.monotonic() + DEADLINE
        asked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, %s) > 0"
        while not place.run(asked, f'"{place.schema}"'):
            assert time.monotonic() < end
        _thread.interrupt_main()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "change",
    [
        Append(at=AT, messages=(message("new"),)),
        Edit(at=AT, position=0, message=message("new")),
    ],
    ids=["append", "edit"],
)
def test_a_write_that_is_interrupted_is_settled(place, change):
    with closing(place.open()) as store:
        before = write_new(store)
        commit = commit_of(before, change, token="interrupted")
        with psycopg.connect(place.url) as holder:
            holder.execute(f"SELECT 1 FROM {place.schema}.sessions FOR UPDATE")
            thread = interrupted_when_waiting(place)
            with pytest.raises(KeyboardInterrupt):
                store.write(commit)
            thread.join()
        assert store.landed(commit) is False
        after = write(store, before, change, token="again")
        assert facts(store.load("k")) == facts(after)
        assert store.verify("k") == []


def test_a_read_that_is_interrupted_leaves_no_connection_behind(place):
    named = f"interrupted {place.schema}"
    with closing(place.open(connect=lambda: psycopg.connect(place.url, application_name=named))) as store:
        before = write_new(store)
        with psycopg.connect(place.url) as holder:
            holder.execute(f"LOCK TABLE {place.schema}.messages IN ACCESS EXCLUSIVE MODE")
            thread = interrupted_when_waiting(place)
            with pytest.raises(KeyboardInterrupt):
                store.load("k")
            thread.join()
        assert facts(store.load("k")) == facts(before)
    end = time.monotonic() + DEADLINE
    while place.run("SELECT 1 FROM pg_stat_activity WHERE application_name = %s", named):
        assert time.monotonic() < end


def test_a_lock_that_is_never_let_go_holds_a_deletion_up_for_so_long(place):
    with closing(place.open(statement_timeout=1)) as store:  # it also bounds how long this process may stand still
        before = write_new(store)
        with psycopg.connect(place.url) as holder:
            holder.execute(f"SELECT 1 FROM {place.schema}.sessions FOR UPDATE")
            for call in (lambda: store.delete("k"), lambda: store.rename("k", "l", before.version)):
                with pytest.raises(SaveFailedError, match="statement timeout"):
                    call()
        assert store.delete("k") is True
