"""The tables of a schema: brought up from format 1 once, by however many processes, or left as they were."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import closing

import pytest

from session_manager import SessionManager, StorageError
from tests.golden.make import SAVED
from tests.support.places import ROOT
from tests.support.postgres import DEADLINE, needs_driver
from tests.support.processes import python
from tests.support.strategies import facts

psycopg = needs_driver()

OPEN = """
import sys
from session_manager.stores.postgres import PostgresStore
store = PostgresStore(sys.argv[1], schema=sys.argv[2])
print(len(list(store.keys())))
store.close()
"""
KEY = "telegram:42"


def make_format_1(place):
    text = (ROOT / "tests" / "golden" / "format_1.postgres.sql").read_text()
    place.run(re.sub(r"\bgolden\b", place.schema, text).replace("%", "%%"))


def format_of(place):
    return place.run("SELECT format FROM {s}.meta")[0][0]


@pytest.mark.once
def test_processes_that_open_it_at_once_bring_it_up_once(place):
    """Both wait for the lock of migrations. The second one, which found the older format before, finds the newest behind it."""
    make_format_1(place)
    lock = "classid = 1130910565 AND objid::int8 = hashtext(%s)::int8 & 4294967295"
    with psycopg.connect(place.url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1130910565, hashtext(%s))", (place.schema,))
        words = ["-c", OPEN, place.url, place.schema]
        opened = [python(*words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        end = time.monotonic() + DEADLINE
        while place.run(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND {lock}", place.schema) != [(2,)]:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert format_of(place) == 1
    assert [one.communicate(timeout=DEADLINE)[0] for one in opened] == ["4\n", "4\n"]
    assert [one.returncode for one in opened] == [0, 0]
    assert format_of(place) == 2


def test_a_step_that_fails_leaves_the_older_format_whole(place):
    make_format_1(place)
    place.run("ALTER TABLE {s}.sessions ADD COLUMN token integer")
    with pytest.raises(StorageError, match="already exists"):
        place.open()
    assert format_of(place) == 1
    place.run("ALTER TABLE {s}.sessions DROP COLUMN token")
    with closing(place.open()) as store:
        assert facts(store.load(SAVED.key)) == facts(SAVED)
    assert format_of(place) == 2


def test_an_older_schema_is_not_brought_up_by_a_reader(place):
    make_format_1(place)
    with pytest.raises(StorageError, match="older format"):
        place.open(read_only=True)
    assert format_of(place) == 1


def test_a_program_of_format_1_that_still_writes_is_another_writer(place):
    """It leaves the token of the last write as it is, which is then that of an earlier one."""
    with closing(place.open()) as store, SessionManager(store) as one, SessionManager(store) as old:
        one.add_message(KEY, "user", "a")
        one.save(KEY)
        before = place.run("SELECT token FROM {s}.sessions")[0][0]
        old.add_message(KEY, "user", "b")
        old.save(KEY)
        place.run("UPDATE {s}.sessions SET token = %b", before)
        one.add_message(KEY, "user", "c")
        assert one.save(KEY)
        assert [message.content for message in store.load(KEY).messages] == ["a", "b", "c"]
        assert one.health().went_back == ()


def test_sessions_of_format_1_are_gone_on_with(place):
    """Their rows have no token, which agrees with any."""
    make_format_1(place)
    with closing(place.open()) as store, SessionManager(store) as one, SessionManager(store) as other:
        count = len(one.get_history(SAVED.key))
        for manager, text in (one, "a"), (other, "b"), (one, "c"):
            manager.add_message(SAVED.key, "user", text)
            manager.save(SAVED.key)
        assert [message.content for message in store.load(SAVED.key).messages[count:]] == ["a", "b", "c"]
        assert one.health().went_back == other.health().went_back == ()
