"""Settings that a database, a role or a URL may have, and others' programs need: the store works with them, or says what to change."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import attrs
import pytest

from session_manager import SessionManager, StorageError
from tests.support.postgres import needs_driver

psycopg = needs_driver()

DEADLINE = 30
KEY = "telegram:ü\0"
TEXT = "früh 漢字 \U0001f600"


def at(place, **options):
    """Return the same schema, with other options in its URL."""
    return attrs.evolve(place, url=psycopg.conninfo.make_conninfo(place.url, **options))


def take_turns(place, who, count):
    with closing(place.open()) as store, SessionManager(store) as m:
        for number in range(count):
            with m.turn(KEY, f"{who}:{number}") as turn:
                turn.add_message("user", TEXT)


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_machines_wait_for_each_other_whatever_isolation_is_preferred(place, level):
    """Two that created the schema at once, and a turn whose lease was just being taken, were told that it could not be serialized."""
    strict = at(place, options=f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}")
    with ThreadPoolExecutor(3) as threads, closing(strict.open()) as store:
        store.release_lease(KEY, store.take_lease(KEY, "one", 60))
        with psycopg.connect(place.url) as other:
            other.execute(f"UPDATE {place.schema}.leases SET renewed = renewed")
            taken = threads.submit(store.take_lease, KEY, "other", 60)
            end = time.monotonic() + DEADLINE
            while not place.run("SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"):
                assert time.monotonic() < end, "it does not wait"
                time.sleep(0.005)
        assert taken.result(DEADLINE)
        new = [attrs.evolve(strict, schema=f"{strict.schema}_new") for _ in range(3)]
        for opened in threads.map(lambda one: one.open(), new):
            opened.close()
        new[0].remove()


def test_a_database_without_an_encoding_keeps_every_text(place):
    """Its connections would have none either, and the driver gave bytes for the server's version: a ValueError."""
    name = f"ascii_{place.schema}"
    place.run(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        plain = at(place, dbname=name)
        take_turns(plain, "a", 1)
        with closing(plain.open()) as store, SessionManager(store) as m:
            assert [one.content for one in m.get_history(KEY)] == [TEXT]
            assert [hit.key for hit in m.search("漢字")] == [KEY]
            assert [one.key for one in m.list_sessions()] == [KEY]
    finally:
        place.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_connections_without_an_encoding_are_refused_with_what_to_change(place):
    with pytest.raises(StorageError, match="needs connections with client_encoding=UTF8"):
        at(place, client_encoding="SQL_ASCII").open()


@pytest.mark.parametrize(
    "settings",
    [
        "-c datestyle=German -c timezone=Asia/Kolkata -c intervalstyle=iso_8601",
        "-c bytea_output=escape -c standard_conforming_strings=off -c search_path=pg_catalog -c array_nulls=off",
        "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c quote_all_identifiers=on",
    ],
)
def test_how_a_session_shows_and_plans_changes_nothing(place, settings):
    other = at(place, options=settings)
    take_turns(other, "a", 2)
    with closing(other.open()) as store, SessionManager(store) as m:
        assert store.now().tzinfo is not None
        assert [one.content for one in m.get_history(KEY)] == [TEXT, TEXT]
        assert len(m.search("früh")) == 2
        m.truncate_history(KEY, 1)
        m.save(KEY)
        assert m.delete(KEY)
