"""`operations.erase` on a server: rows go, those in quarantine, too, and the report names the server's own files."""

from __future__ import annotations

from contextlib import closing

import attrs
import pytest

from session_manager import Lease, SessionManager, StorageError
from session_manager.operations import erase, quarantine
from tests.support.postgres import needs_driver
from tests.support.traces import TRACES, talk

make_conninfo = needs_driver().conninfo.make_conninfo

KEY = "telegram:42"
TABLES = ("sessions", "commits", "messages", "tombstones", "quarantine")


def traced(place):
    """Return the places whose texts are in a row of the schema, as text or as bytes."""
    rows = "".join(str(place.run(f"SELECT row_to_json(t)::text FROM {{s}}.{table} t")) for table in TABLES)
    starts = {one: f"Trace-of-{one}" for one in TRACES}
    return {one for one, start in starts.items() if start in rows or start.encode().hex() in rows}


def test_no_row_of_an_erased_session_is_left(place):
    with closing(place.open()) as store:
        with SessionManager(store, archive=True) as m:
            m.add_message(KEY, "user", TRACES["quarantine"])
        place.run("UPDATE {s}.sessions SET checksum = '' WHERE key = %b", KEY.encode())
        store.release(KEY)
        assert store.delete(KEY)
        with SessionManager(store, archive=True) as m:
            talk(m, "other", traced=False)
            talk(m, KEY)
            m.search("trace")
        assert len(quarantine.list(store, key=KEY)) == 1
        assert traced(place) == {*TRACES} - {"killed"}
        report = erase(store, KEY)
        (one,) = report.sessions
        assert (one.messages, one.archived, len(one.quarantined)) == (5, 1, 1)
        assert any("write-ahead log" in one for one in report.unreachable)
        assert traced(place) == set()
        assert [one.content for one in store.load("other").messages][-1] == "nothing of that"
        assert quarantine.list(store) == ()


def test_an_erasure_says_that_it_may_not_vacuum(place):
    """A role that owns no table deletes rows, and the server skips its VACUUM with a warning, which was not looked at."""
    role = f"{place.schema}_bot"
    with closing(place.open()) as store, SessionManager(store, lease=Lease()) as m, m.turn(KEY) as turn:
        turn.add_message("user", "hi")
    place.run(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {{s}} TO {role}")
    try:
        place.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {{s}} TO {role}")
        with closing(attrs.evolve(place, url=make_conninfo(place.url, user=role)).open()) as store:
            with SessionManager(store, lease=Lease()) as m, m.turn(KEY) as turn:
                turn.add_message("user", "there?")
            report = erase(store, KEY)
        assert [one.messages for one in report.sessions] == [2]
        (reason,) = report.waits
        assert "the role that owns sessions, commits, messages, tombstones, quarantine" in reason
        assert not report.ok
    finally:
        place.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
    with closing(place.open()) as store:
        assert erase(store, KEY).waits == ()


def test_a_url_of_a_server_is_no_path(place):
    with pytest.raises(StorageError, match="read-only changes nothing"):
        erase(place.url, KEY, dry_run=True)
