"""Each session's own expiry: kept in every storage, and what `expire` does with it, now and in the background."""

from __future__ import annotations

import gc
import json
import logging
import threading
import weakref
from datetime import datetime, timedelta, timezone

import pytest

from session_manager import (
    Autosave,
    InvalidDataError,
    InvalidMessageError,
    ReadOnlyError,
    SaveFailedError,
    Session,
    SessionInfo,
    SessionManager,
    converter,
)
from session_manager.codec.json import encode_json
from session_manager.codec.state import encode_state
from session_manager.model.changes import UNCHANGED, UpdateMetadata, apply
from session_manager.stores.copying import copy
from session_manager.stores.memory import MemoryStore
from tests.support.clocks import Clock

DAY = timedelta(days=1)
WAIT = 30
AFTER = [DAY, timedelta(days=90), timedelta(seconds=1.5), timedelta(microseconds=1), timedelta.max]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["ram", "memory store", "snapshot", "log", "sqlite"])
def m(request, tmp_path, clock):
    """A manager on each kind of storage."""
    storages = {"ram": "memory:", "memory store": MemoryStore()}
    storage = storages.get(request.param, f"{request.param}:{tmp_path / 'chats'}")
    manager = SessionManager(storage, clock=clock, archive=True)
    yield manager
    manager.close(save=False)


def add(m, *keys, after=None):
    for key in keys:
        m.add_message(key, "user", "hello")
        if after is not None:
            assert m.set_expiry(key, after) is True
    m.save_all()


def info_of(m, key):
    (info,) = [info for info in m.list_sessions() if info.key == key]
    return info


# What it is


@pytest.mark.parametrize("url", ["snapshot:chats", "log:chats", "sqlite:chats.db"])
@pytest.mark.parametrize("after", AFTER, ids=str)
def test_an_expiry_is_there_when_the_storage_is_opened_again(tmp_path, monkeypatch, url, after):
    monkeypatch.chdir(tmp_path)
    with SessionManager(url) as m:
        add(m, "a")
        m.set_expiry("a", after)
        assert m.get("a").expires_after == after
        m.save("a")
        m.add_message("a", "assistant", "hi")
    with SessionManager(url) as m:
        assert info_of(m, "a").expires_after == after
        assert m.get("a").expires_after == after
        m.compact("a")
        m.set_expiry("a", None)
    with SessionManager(url) as m:
        assert info_of(m, "a").expires_after is None
        assert m.get("a").expires_after is None
        assert m.verify() == []


def test_an_expiry_survives_what_is_done_to_the_messages(m, clock):
    add(m, "a", after=DAY)
    for call in (m.clear, lambda key: m.set_history(key, []), lambda key: m.truncate_history(key, 0), m.remove_last):
        m.add_message("a", "user", "x")
        m.update_metadata("a", {"n": clock().isoformat()})
        call("a")
        m.save("a")
        assert m.get("a").expires_after == info_of(m, "a").expires_after == DAY
    assert m.fork("a", "copy").expires_after == DAY
    m.delete("a")
    assert m.get_or_create("a").expires_after is None


@pytest.mark.parametrize("source", ["snapshot", "log", "sqlite"])
@pytest.mark.parametrize("target", ["snapshot", "log", "sqlite"])
def test_an_expiry_is_copied_between_storages(tmp_path, source, target):
    with SessionManager(f"{source}:{tmp_path}/source") as m:
        add(m, "a", after=DAY)
        add(m, "b")
    assert copy(f"{source}:{tmp_path}/source", f"{target}:{tmp_path}/target").ok
    with SessionManager(f"{target}:{tmp_path}/target") as m:
        assert (m.get("a").expires_after, m.get("b").expires_after) == (DAY, None)
        m.set_expiry("a", 2 * DAY)
    assert copy(f"{source}:{tmp_path}/source", f"{target}:{tmp_path}/target").different == ("a",)


def test_an_expiry_stands_beside_what_another_writer_saves(tmp_path, clock):
    url = f"sqlite:{tmp_path}/chats.db"
    with SessionManager(url, clock=clock) as one, SessionManager(url, clock=clock) as other:
        add(one, "a")
        other.set_expiry("a", DAY)
        one.add_message("a", "user", "meanwhile")
        one.update_metadata("a", {"x": 1})
        one.save("a")
        other.save("a")
        assert one.get("a").expires_after == DAY
        assert len(one.get_history("a")) == 2
        one.set_expiry("a", 2 * DAY)
        other.set_expiry("a", 3 * DAY)
        one.save("a")
        other.save("a")
        assert one.get("a").expires_after == 3 * DAY
        other.set_expiry("a", None)
        one.clear("a")
        one.save("a")
        other.save("a")
        assert one.get("a").expires_after == 3 * DAY  # cleared meanwhile: what was unsaved of it is dropped


def test_a_missing_session_has_no_expiry_to_set(m):
    assert m.set_expiry("missing", DAY) is False
    assert "missing" not in m


def test_the_same_expiry_again_is_no_change(m, clock):
    add(m, "a", after=DAY)
    before = m.get("a").updated
    clock.advance(seconds=1)
    assert m.set_expiry("a", DAY) is True
    assert m.get("a").updated == before
    assert m.health().dirty == ()


@pytest.mark.parametrize(
    ("after", "error"),
    [(timedelta(), ValueError), (-DAY, ValueError), (90, TypeError), ("90 days", TypeError), (True, TypeError)],
)
def test_what_is_no_expiry_is_refused(m, after, error):
    add(m, "a", after=DAY)
    with pytest.raises(error, match="after"):
        m.set_expiry("a", after)
    assert m.get("a").expires_after == DAY


def test_a_change_of_the_expiry_leaves_the_metadata_alone():
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    session = Session(key="a", generation="g", created=now, updated=now, metadata={"x": 1})
    after = apply(session, UpdateMetadata(at=now, expires_after=DAY))
    assert (after.metadata, after.expires_after) == ({"x": 1}, DAY)
    again = apply(after, UpdateMetadata(at=now, items={"y": 2}))
    assert (again.metadata, again.expires_after) == ({"x": 1, "y": 2}, DAY)
    assert apply(again, UpdateMetadata(at=now, items={"y": 2}, expires_after=DAY)) is again
    assert repr(UpdateMetadata(at=now).expires_after) == repr(UNCHANGED) == "UNCHANGED"


def test_an_expiry_is_json_and_back():
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    info = SessionInfo.of(Session(key="a", generation="g", created=now, updated=now, expires_after=timedelta(days=90)))
    data = json.loads(json.dumps(info.to_dict()))
    assert data["expires_after"] == "P90D"
    assert converter.structure(data, SessionInfo) == info
    for wrong in ("90 days", 90, ""):
        with pytest.raises(InvalidDataError, match="expires_after"):
            converter.structure({**data, "expires_after": wrong}, SessionInfo)


# Files


def test_without_an_expiry_no_file_tells_of_one(tmp_path):
    for scheme in ("snapshot", "log"):
        with SessionManager(f"{scheme}:{tmp_path}/{scheme}") as m:
            add(m, "a")
            m.update_metadata("a", {"x": 1})
        (path,) = (tmp_path / scheme).glob("*.session.*")
        assert b"expires_after" not in path.read_bytes()
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert b"expires_after" not in encode_json(encode_state(Session(key="a", generation="g", created=now, updated=now)))


def test_a_log_that_an_older_writer_went_on_with_has_lost_the_expiry(tmp_path, clock, monkeypatch):
    """An older version applies the change without the field, and its states have none: the list and the session agree."""
    from session_manager.stores.log import format as log_format  # noqa: PLC0415 - what an older version writes

    encode, new = log_format.encode_state, lambda session: session._with(expires_after=None)
    with SessionManager(f"log:{tmp_path}/chats", clock=clock) as m:
        add(m, "a", after=DAY)
    from session_manager.stores.log import appender  # noqa: PLC0415 - what calls it

    monkeypatch.setattr(appender, "encode_state", lambda session, metadata: encode(new(session), metadata))
    with SessionManager(f"log:{tmp_path}/chats", clock=clock) as m:
        m.add_message("a", "user", "of an older version")
    monkeypatch.undo()
    for _ in range(2):
        with SessionManager(f"log:{tmp_path}/chats", clock=clock) as m:
            assert info_of(m, "a").expires_after is None
            assert m.get("a").expires_after is None
            assert len(m.get_history("a")) == 2
            clock.advance(seconds=1)
            m.set_expiry("a", 2 * DAY)
            m.save("a")
            shown = m.get("a")
        with SessionManager(f"log:{tmp_path}/chats", clock=clock) as m:
            assert m.get("a") == shown
            m.set_expiry("a", None)


# What expire does


def test_each_session_goes_by_its_own_expiry(m, clock):
    add(m, "day", after=DAY)
    add(m, "week", after=7 * DAY)
    add(m, "for ever", after=timedelta.max)
    add(m, "none")
    assert m.expire() == []
    clock.advance(days=1)
    assert m.expire() == []  # exactly that old is not older
    clock.advance(seconds=1)
    assert m.expire(dry_run=True) == ["day"]
    assert m.expire() == ["day"]
    clock.advance(days=6)
    assert m.expire() == ["week"]
    clock.advance(days=100_000)
    assert m.expire() == []
    assert list(m) == ["for ever", "none"]


def test_an_age_is_for_all_whatever_expiry_they_have(m, clock):
    add(m, "short", after=DAY)
    add(m, "long", after=365 * DAY)
    add(m, "none")
    clock.advance(days=2)
    assert m.expire(3 * DAY) == []
    assert m.expire(2 * DAY - timedelta(seconds=1), dry_run=True) == ["long", "none", "short"]
    assert m.expire() == ["short"]


def test_the_last_message_counts_or_the_last_change(m, clock):
    add(m, "talks", "cleared", "silent", after=DAY)
    clock.advance(hours=23)
    m.add_message("talks", "user", "still here")
    m.clear("cleared")
    m.update_metadata("silent", {"noted": True})
    m.save_all()
    clock.advance(hours=23)
    assert m.expire() == ["silent"]
    clock.advance(hours=2)
    assert m.expire() == ["cleared", "talks"]


@pytest.mark.parametrize("age", [None, DAY])
def test_only_one_session_or_those_with_a_prefix_or_metadata_expire(m, clock, age):
    add(m, "a:1", "a:2", "b:1", after=DAY)
    m.update_metadata("a:2", {"tier": "free"})
    m.update_metadata("b:1", {"tier": "paid"})
    m.save_all()
    clock.advance(days=2)
    assert m.expire(age, key="missing") == m.expire(age, key="a:1", prefix="b:") == []
    assert m.expire(age, prefix="a:", where={"tier": "free"}, dry_run=True) == ["a:2"]
    assert m.expire(age, where={"tier": "free"}, key="b:1") == []
    assert m.expire(age, where={"tier": "free"}) == ["a:2"]
    assert m.expire(age, key="b:1", prefix="b:") == ["b:1"]
    assert list(m) == ["a:1"]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("storage", ["memory store", "sqlite"])
def test_an_expiry_that_another_writer_set_counts_in_every_manager(tmp_path, clock, storage, dry_run):
    """The manager that expires has an older state in RAM, and nothing asks it for that session."""
    store = MemoryStore() if storage == "memory store" else f"sqlite:{tmp_path}/chats.db"
    with SessionManager(store, clock=clock) as one, SessionManager(store, clock=clock) as other:
        add(one, "set", "later", "shorter")
        other.set_expiry("set", DAY)
        other.update_metadata("set", {"tier": "free"})
        other.set_expiry("later", DAY)
        other.save_all()
        other.set_expiry("shorter", 9 * DAY)
        other.save_all()
        one.get("shorter")
        other.set_expiry("shorter", DAY)
        other.save_all()
        clock.advance(days=2)
        other.add_message("later", "user", "again")
        other.save_all()
        assert one.expire(where={"tier": "free"}, dry_run=dry_run) == ["set"]
        assert one.expire(dry_run=dry_run) == (["set", "shorter"] if dry_run else ["shorter"])


def test_an_unsaved_expiry_neither_deletes_nor_keeps_by_itself(tmp_path, clock):
    with SessionManager(f"sqlite:{tmp_path}/chats.db", clock=clock) as m:
        add(m, "set")
        add(m, "removed", after=DAY)
        m.set_expiry("set", DAY)
        m.set_expiry("removed", None)
        clock.advance(days=2)
        assert m.expire() == m.expire(dry_run=True) == []
        m.save_all()
        assert m.expire() == ["set"]


@pytest.mark.parametrize(
    ("options", "error", "parameter"),
    [
        ({"key": 5}, ValueError, "key"),
        ({"key": ""}, ValueError, "key"),
        ({"prefix": None}, TypeError, "prefix"),
        ({"where": "tier"}, InvalidMessageError, "where"),
        ({"where": {"tier": {1}}}, InvalidMessageError, "where.tier"),
        ({"dry_run": 1}, TypeError, "dry_run"),
    ],
)
def test_a_slip_in_expire_deletes_nothing(m, clock, options, error, parameter):
    add(m, "a", after=DAY)
    clock.advance(days=2)
    for age in ((), (DAY,)):
        with pytest.raises(error, match=parameter):
            m.expire(*age, **options)
    assert "a" in m


def test_a_read_only_manager_sets_no_expiry(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        add(m, "a")
    with SessionManager(tmp_path / "chats", read_only=True) as m, pytest.raises(ReadOnlyError):
        m.set_expiry("a", DAY)


# In the background


class Watched(MemoryStore):
    """A store that tells when it was asked to delete a session, and is done with it; it refuses to delete some."""

    def __init__(self):
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.refused = set()

    def delete(self, key, expected=None):
        try:
            if key in self.refused:
                raise SaveFailedError(key, "no space")
            return super().delete(key, expected)
        finally:
            self.asked.release()


@pytest.fixture
def store(clock):
    """A store with sessions whose expiry has passed, and one whose has not."""
    store = Watched()
    with SessionManager(store, clock=clock) as m:
        add(m, "a", "b", after=DAY)
        add(m, "later", after=9 * DAY)
    clock.advance(days=2)
    return store


@pytest.mark.parametrize("autosave", [None, Autosave(interval=0.01)])
def test_sessions_expire_in_the_background(store, clock, autosave):
    with SessionManager(store, clock=clock, expire_every=DAY, autosave=autosave) as m:
        assert all(store.asked.acquire(timeout=WAIT) for _ in "ab")
    assert list(store.keys()) == ["later"]
    assert m._autosaver._thread.is_alive() is False


def test_expiry_goes_on_every_so_often_whatever_fails(store, clock, caplog):
    store.refused = {"a"}
    with SessionManager(store, clock=clock, expire_every=timedelta(milliseconds=1)):
        assert all(store.asked.acquire(timeout=WAIT) for _ in range(5))
        store.refused = set()
        while "a" in store._sessions:
            assert store.asked.acquire(timeout=WAIT)
    assert list(store.keys()) == ["later"]
    (message,) = {record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING}
    assert message == "session 'a' was not expired: session 'a' not saved: no space"


def test_a_clock_that_fails_does_not_end_the_thread(store, caplog):
    calls = threading.Semaphore(0)

    def clock():
        calls.release()
        raise RuntimeError("the text of nobody")

    m = SessionManager(store, clock=clock, expire_every=timedelta(milliseconds=1))
    assert all(calls.acquire(timeout=WAIT) for _ in range(3))
    m.close()
    assert {record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING} == {
        "sessions were not expired: RuntimeError"
    }


def test_sessions_in_ram_expire_in_the_background(clock):
    passes = threading.Semaphore(0)

    def asked():
        if threading.current_thread() is not threading.main_thread():
            passes.release()
        return clock()

    m = SessionManager(clock=asked, expire_every=timedelta(milliseconds=1))
    add(m, "a", after=DAY)
    add(m, "b")
    clock.advance(days=2)
    while passes.acquire(blocking=False):
        pass
    assert all(passes.acquire(timeout=WAIT) for _ in range(3))
    assert list(m) == ["b"]
    m.close()


def test_the_thread_does_not_keep_a_manager_alive(clock):
    m = SessionManager(MemoryStore(), clock=clock, expire_every=DAY)
    thread, there = m._autosaver._thread, weakref.ref(m)
    del m
    gc.collect()
    assert there() is None
    thread.join(WAIT)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"expire_every": timedelta()}, ValueError),
        ({"expire_every": -DAY}, ValueError),
        ({"expire_every": timedelta.max}, ValueError),
        ({"expire_every": 60}, TypeError),
        ({"expire_every": True}, TypeError),
        ({"expire_every": DAY, "read_only": True}, ValueError),
    ],
)
def test_what_is_no_time_between_expiries_is_refused(options, error):
    with pytest.raises(error, match="expire_every"):
        SessionManager(MemoryStore(), **options)


def test_an_unsaved_session_of_a_manager_that_only_expires_is_told_of(clock, caplog):
    """It does not save in the background: who leaves it open learns so."""
    store = MemoryStore()
    m = SessionManager(store, clock=clock, expire_every=DAY)
    m.add_message("a", "user", "unsaved")
    m._ending.end()
    assert list(store.keys()) == ["a"]
    assert "1 sessions were unsaved" in caplog.text
