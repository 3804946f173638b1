"""`operations.erase` on a server: rows go, those in quarantine, too, and the report names the server's own files."""

from __future__ import annotations

from contextlib import closing

import pytest

from session_manager import SessionManager, StorageError
from session_manager.operations import erase, quarantine
from tests.support.postgres import needs_driver
from tests.support.traces import TRACES, talk

needs_driver()

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


def test_a_url_of_a_server_is_no_path(place):
    with pytest.raises(StorageError, match="read-only changes nothing"):
        erase(place.url, KEY, dry_run=True)
