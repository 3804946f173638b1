"""Lists of sessions, whole and by pages: of what is stored, with what is in RAM on top of it."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest

from session_manager import ClosedError, CorruptSessionError, InvalidMessageError, SessionInfo, SessionManager
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import FaultyStore
from tests.support.clocks import Clock
from tests.support.evicting import evict

STORES = ["ram", "memory store", "snapshot", "log", "sqlite", "exclusive"]
UNREADABLE = "UPDATE sessions SET checksum = checksum + 1 WHERE key = ?"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=STORES)
def m(request, tmp_path, clock):
    """A manager on each kind of storage."""
    path = tmp_path / "chats"
    storages = {
        "ram": lambda: "memory:",
        "memory store": MemoryStore,
        "exclusive": lambda: SQLiteStore(path, exclusive=True),
        "sqlite": lambda: f"sqlite:{path}",
    }
    storage = storages.get(request.param, lambda: f"{request.param}:{path}")()
    manager = SessionManager(storage, clock=clock)
    yield manager
    manager.close(save=False)
    if request.param == "exclusive":
        storage.close()


def fill(m, clock, count=12):
    """Add sessions, of which some are saved, some evicted, some have pending changes, and some were never saved."""
    for number in range(count):
        clock.advance(seconds=1)
        key = f"chat:{number * 5 % count}"
        m.add_message(key, "user", "hello")
        m.update_metadata(key, {"language": "de" if number % 3 else "en", "number": number})
        if number % 4:
            m.save(key)
        if number % 4 == 1 and m._residents.is_stored:
            evict(m, key)
        if number % 4 == 2:
            clock.advance(seconds=1)
            m.add_message(key, "assistant", "unsaved")


def pages(m, size, **options):
    found, after = [], None
    while page := m.list_sessions(limit=size, after=after, **options):
        found.append([info.key for info in page])
        after = page[-1]
    return found


@pytest.mark.parametrize("order", ["recent", "key"])
@pytest.mark.parametrize("where", [None, {"language": "en"}])
def test_pages_have_every_session_once_saved_or_not(m, clock, order, where):
    fill(m, clock)
    whole = [info.key for info in m.list_sessions(order=order, where=where)]
    assert len(whole) == (4 if where else 12)
    for size in (1, 2, 3, 5, 100):
        listed = pages(m, size, order=order, where=where)
        assert list(itertools.chain(*listed)) == whole
        assert all(len(page) == size for page in listed[:-1])


def test_the_most_recent_message_comes_first_also_an_unsaved_one(m, clock):
    fill(m, clock)
    clock.advance(seconds=1)
    m.add_message("chat:0", "user", "unsaved")
    assert m.list_sessions(limit=2)[0].key == "chat:0"
    clock.advance(seconds=1)
    m.get_or_create("new")
    assert [info.key for info in m.list_sessions(limit=2)] == ["new", "chat:0"]
    m.save_all()
    assert [info.key for info in m.list_sessions(limit=2)] == ["new", "chat:0"]


def test_a_session_without_messages_is_listed_as_it_expires(m, clock):
    """A chat of 100 days that is cleared today came last in lists, and `expire` keeps it since it counts the change."""
    for key in ("cleared", "other"):
        m.add_message(key, "user", "hello")
    m.save_all()
    clock.advance(days=100)
    m.clear("cleared")
    m.save("cleared")
    assert [info.key for info in m.list_sessions()] == ["cleared", "other"]
    assert m.expire(timedelta(days=1), dry_run=True) == ["other"]


def test_a_deleted_session_is_in_no_page(m, clock):
    fill(m, clock)
    for key in ("chat:1", "chat:7"):
        m.delete(key)
    assert {"chat:1", "chat:7"}.isdisjoint(itertools.chain(*pages(m, 2)))
    assert len(m.list_sessions()) == 10


@pytest.mark.parametrize("order", ["recent", "key"])
@pytest.mark.parametrize("change", ["delete", "move"])
def test_the_next_page_begins_where_the_last_session_was(m, clock, order, change):
    fill(m, clock)
    whole = [info.key for info in m.list_sessions(order=order)]
    last = m.list_sessions(order=order, limit=5)[-1]
    clock.advance(seconds=1)
    if change == "delete":
        m.delete(last.key)
    else:
        m.add_message(last.key, "user", "it is the first one now")
        m.save(last.key)
    assert [info.key for info in m.list_sessions(order=order, limit=5, after=last)] == whole[5:10]


def test_by_key_a_page_may_begin_behind_any_text(m, clock):
    fill(m, clock)
    assert [info.key for info in m.list_sessions(order="key", after="chat:8x")] == ["chat:9"]
    assert [info.key for info in m.list_sessions(order="key", after="", limit=3)] == ["chat:0", "chat:1", "chat:10"]


def test_a_page_may_begin_at_a_moment(m, clock):
    fill(m, clock)
    moment = m.list_sessions()[4].last_message_at
    older = m.list_sessions(after=SessionInfo(key="", last_message_at=moment))
    assert [info.key for info in older] == [info.key for info in m.list_sessions()[4:]]


def test_metadata_must_match_in_value_and_type(m):
    for key, value in {"a": 1, "b": 1.0, "c": True, "d": [1], "e": {"x": None}, "f": "1", "g": None}.items():
        m.get_or_create(key)
        m.update_metadata(key, {"value": value, "other": key})
        assert [info.key for info in m.list_sessions(where={"value": value})] == [key]
        assert [info.key for info in m.list_sessions(where={"value": value, "other": key})] == [key]
        assert m.list_sessions(where={"value": value, "other": "x"}) == []
    assert m.list_sessions(where={"missing": None}) == []
    assert len(m.list_sessions(where={})) == 7
    assert [info.key for info in m.list_sessions("f", where={"value": "1"})] == ["f"]


@pytest.mark.parametrize(
    ("options", "error", "parameter"),
    [
        ({"prefix": 1}, TypeError, "prefix"),
        ({"where": [("a", 1)]}, InvalidMessageError, "where"),
        ({"where": {"a": {1}}}, InvalidMessageError, "where.a"),
        ({"order": "newest"}, ValueError, "order"),
        ({"order": None}, TypeError, "order"),
        ({"limit": 0}, ValueError, "limit"),
        ({"limit": True}, TypeError, "limit"),
        ({"limit": "5"}, TypeError, "limit"),
        ({"after": "chat:1"}, TypeError, "after"),
        ({"after": 5, "order": "key"}, TypeError, "after"),
    ],
)
def test_a_slip_in_a_list_is_refused(m, options, error, parameter):
    with pytest.raises(error, match=parameter):
        m.list_sessions(**options)


def test_a_closed_manager_lists_nothing(m):
    m.close()
    with pytest.raises(ClosedError):
        m.list_sessions(limit=1)


@pytest.mark.parametrize("order", ["recent", "key"])
def test_damaged_sessions_are_in_the_pages_once_and_never_expire(tmp_path, clock, order):
    path = tmp_path / "chats.db"
    with SessionManager(f"sqlite:{path}", clock=clock) as m:
        fill(m, clock)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(UNREADABLE, [("chat:3",), ("chat:9",)])
    with SessionManager(f"sqlite:{path}", clock=clock) as m:
        whole = m.list_sessions(order=order)
        assert {info.key for info in whole if isinstance(info.error, CorruptSessionError)} == {"chat:3", "chat:9"}
        for size in (1, 2, 5):
            assert list(itertools.chain(*pages(m, size, order=order))) == [info.key for info in whole]
        assert {"chat:3", "chat:9"}.isdisjoint(m.expire(clock() + timedelta(days=9), dry_run=True))
        assert not {"chat:3", "chat:9"} & {info.key for info in m.list_sessions(where={"language": "de"})}
        m.delete("chat:3")
        assert len(m.list_sessions(order=order)) == 11


def test_what_another_process_saved_is_listed_with_what_is_unsaved_here(tmp_path, clock):
    with contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(SessionManager(f"sqlite:{tmp_path}/chats.db", clock=clock)) for _ in "ab")
        one.add_message("shared", "user", "from one")
        one.save("shared")
        other.add_message("shared", "user", "unsaved")
        clock.advance(seconds=1)
        one.add_message("shared", "user", "later")
        one.add_message("new", "user", "hello")
        one.save_all()
        (new, shared) = sorted(other.list_sessions(), key=lambda info: info.key)
        assert (new.count, shared.count) == (1, 3)
        one.delete("new")
        assert [info.key for info in other.list_sessions(limit=5)] == ["shared"]


def test_a_write_whose_outcome_is_unknown_is_listed_once(clock):
    store = FaultyStore(MemoryStore())
    m = SessionManager(store, clock=clock)
    m.add_message("a", "user", "x")
    store.lose_ack_next()
    with pytest.raises(Exception, match="acknowledgement"):
        m.save("a")
    assert [info.key for info in m.list_sessions(limit=5)] == ["a"]
    m.close()


# The column that SQLite's pages go by

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def path(tmp_path, clock):
    """A database that is closed."""
    with SessionManager(f"sqlite:{tmp_path}/chats.db", clock=clock) as m:
        fill(m, clock)
    return tmp_path / "chats.db"


def run(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def listed(path, **options):
    with SessionManager(f"sqlite:{path}", **options) as m:
        whole = [info.key for info in m.list_sessions()]
        assert list(itertools.chain(*pages(m, 5))) == whole
        return whole


def test_a_place_in_lists_is_the_time_of_the_last_message(path):
    with SessionManager(f"sqlite:{path}") as m:
        for info in m.list_sessions():
            ((place, placed),) = run(path, "SELECT place, placed FROM sessions WHERE key = ?", info.key)
            assert EPOCH - timedelta(microseconds=place) == info.last_message_at
            assert placed == info.version.revision


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "left",
    [
        "UPDATE sessions SET placed = NULL, place = NULL",
        "UPDATE sessions SET placed = 0, place = key WHERE key > 'chat:5'",
        "UPDATE sessions SET place = place + 3000000 WHERE key = 'chat:7'",
        "UPDATE sessions SET place = NULL, placed = -1 WHERE key = 'chat:7'",
    ],
)
def test_rows_out_of_their_places_are_listed_in_order(path, left, read_only):
    """A program that opened the database as format 2 still writes to it: it knows nothing of the column."""
    before = listed(path)
    run(path, left)
    with SessionManager(f"sqlite:{path}", read_only=read_only) as m:
        assert [info.key for info in m.list_sessions()] == before
        assert [info.key for info in m.list_sessions(limit=12)] == before
        assert m.verify() == []
    assert listed(path, read_only=read_only) == before


def test_a_database_of_format_2_is_put_in_order_by_the_first_list(path):
    before = listed(path)
    for statement in (
        "DROP INDEX sessions_by_place",
        "DROP INDEX sessions_unplaced",
        "ALTER TABLE sessions DROP COLUMN place",
        "ALTER TABLE sessions DROP COLUMN placed",
        "PRAGMA user_version = 2",
    ):
        run(path, statement)
    assert listed(path) == before
    assert run(path, "PRAGMA user_version") == [(3,)]
    assert run(path, "SELECT count(*) FROM sessions WHERE placed IS NOT revision OR place IS NULL") == [(0,)]


def test_a_damaged_session_that_was_never_placed_comes_last(path):
    run(path, "UPDATE sessions SET placed = NULL, place = NULL")
    run(path, UNREADABLE, listed(path)[0])
    run(path, "UPDATE sessions SET placed = NULL, place = NULL")
    with SessionManager(f"sqlite:{path}") as m:
        assert m.list_sessions()[-1].error is not None
        assert m.list_sessions(limit=12)[-1].error is not None


def test_a_page_reads_no_more_sessions_than_it_lists(path, monkeypatch):
    from session_manager.stores.sqlite import listing  # noqa: PLC0415 - what is counted

    described = []
    original = listing.described_row
    monkeypatch.setattr(listing, "described_row", lambda *row: described.append(row) or original(*row))
    with SessionManager(f"sqlite:{path}") as m:
        for prefix in ("", "chat:1"):
            for order in ("recent", "key"):
                described.clear()
                assert len(m.list_sessions(prefix, order=order, limit=3)) == len(described) == 3


@pytest.mark.parametrize("kind", ["memory", "log"])
@pytest.mark.parametrize("order", ["recent", "key"])
def test_a_page_of_sessions_in_ram_describes_only_those(tmp_path, clock, monkeypatch, kind, order):
    """A page of 50 of 100,000 took as long as a list of all."""
    described = []
    original = SessionInfo.of
    monkeypatch.setattr(SessionInfo, "of", lambda session: described.append(session.key) or original(session))
    with SessionManager("memory:" if kind == "memory" else f"log:{tmp_path / 'chats'}", clock=clock) as m:
        fill(m, clock)
        for key in [info.key for info in m.list_sessions()]:
            m.get_history(key)  # some were evicted
        described.clear()
        assert [info.key for info in m.list_sessions(order=order, limit=3)] == described
        assert len(described) == 3


@pytest.mark.parametrize("index", ["sessions_by_place", "sessions_unplaced"])
def test_an_index_that_is_another_one_is_refused(path, index):
    run(path, f"DROP INDEX {index}")
    run(path, f"CREATE INDEX {index} ON sessions (key)")
    with pytest.raises(Exception, match=index):
        SessionManager(f"sqlite:{path}")


@pytest.mark.parametrize("order", ["recent", "key"])
def test_a_page_may_have_any_size(tmp_path, order):
    """SQLite takes no number of more than 63 bits."""
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        m.add_message("k", "user", "x")
        m.save("k")
        assert [info.key for info in m.list_sessions(order=order, limit=2**70)] == ["k"]
