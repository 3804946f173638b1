"""What a manager tells `on_event` and its log: all that happened, in order, outside of its locks, and no text."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import anyio
import pytest

from session_manager import (
    AsyncSessionManager,
    Autosave,
    ConflictError,
    SaveFailedError,
    SessionManager,
    converter,
)
from session_manager.manager import events
from session_manager.manager.events import Conflict, Deleted, Evicted, Expired, Loaded, Saved, SaveFailed, Summarized
from session_manager.stores.memory import MemoryStore
from session_manager.testing import Clock, FaultyStore
from tests.support.canary import CANARY

KEY = "telegram:1"


def kinds(told):
    return [(type(event).__name__, event.key) for event in told]


@pytest.fixture(params=["snapshot:chats", "log:chats", "sqlite:chats.db", "store"])
def storage(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return MemoryStore() if request.param == "store" else request.param


def test_what_happens_is_told_in_order(storage):
    told, clock = [], Clock()
    with SessionManager(storage, on_event=told.append, clock=clock) as m:
        m.add_message(KEY, "user", "hi")
        assert told == []
        m.save(KEY)
        assert told == [Saved(key=KEY, revision=1, changes=1, messages=1, seconds=told[0].seconds)]
        assert 0 <= told[0].seconds < 60
        m.save(KEY)
        with m.turn(KEY, "tg:1") as turn:
            turn.add_message("user", "more")
            turn.add_message("assistant", "yes")
        assert (told[-1].messages, told[-1].changes, len(told)) == (3, 1, 2)
        assert m.summarize(KEY, lambda previous, messages: "summary", keep_last=1).applied
        assert kinds(told)[2:] == [("Saved", KEY), ("Summarized", KEY)]
        assert told[-1].messages == 1
        m.fork(KEY, "copy")
        m.delete("copy")
        assert not m.delete("copy")
        clock.advance(timedelta(days=2))
        m.expire(timedelta(days=1), dry_run=True)
        m.expire(timedelta(days=1))
        assert kinds(told)[4:] == [("Saved", "copy"), ("Deleted", "copy"), ("Expired", KEY)]
        m.add_message("last", "user", "saved by close")
    assert kinds(told)[7:] == [("Saved", "last")]


def test_loads_are_told(storage):
    told = []
    with SessionManager(storage) as m:
        m.add_message(KEY, "user", "hi")
    with SessionManager(storage, on_event=told.append) as m:
        m.get(KEY)
        m.get(KEY)
        assert m.get("none") is None
        assert kinds(told) == [("Loaded", KEY)]
        assert told[0].messages == 1
        m.reload(KEY)
        assert kinds(told) == [("Loaded", KEY)] * 2


def test_evictions_are_told(storage):
    told = []
    with SessionManager(storage, on_event=told.append, max_resident_bytes=5000) as m:
        for number in range(5):
            m.add_message(f"k{number}", "user", "x" * 2000)
            m.save(f"k{number}")
        evicted = [event.key for event in told if isinstance(event, Evicted)]
        assert evicted == [f"k{number}" for number in range(5 - m.health().resident)]
        assert m.health().resident < 5


def test_save_all_and_autosave_tell_each_session():
    told, all_there = [], threading.Event()

    def tell(event):
        told.append(event)
        if len(told) == 3:
            all_there.set()

    with SessionManager(MemoryStore(), on_event=tell, autosave=Autosave(interval=0.01)) as m:
        m.add_message("auto", "user", "hi")
        for key in ("a", "b"):
            m.add_message(key, "user", "hi")
        m.save_all()
        assert all_there.wait(60)
    assert sorted(kinds(told)) == [("Saved", "a"), ("Saved", "auto"), ("Saved", "b")]


@pytest.mark.parametrize("call", [lambda m: m.save(KEY), lambda m: m.save_all(), lambda m: m.close()])
def test_failures_are_told(call):
    told, store = [], FaultyStore(MemoryStore())
    m = SessionManager(store, on_event=told.append)
    m.add_message(KEY, "user", "hi")
    store.fail_next(OSError("full"))
    with pytest.raises(SaveFailedError):
        call(m)
    assert kinds(told) == [("SaveFailed", KEY)]
    assert isinstance(told[0].error, SaveFailedError)
    store.lose_ack_next()
    with pytest.raises(Exception, match=r"unknown|not saved"):
        call(m)
    call(m)
    assert kinds(told)[1:] == [("SaveFailed", KEY), ("Saved", KEY)]
    m.close()


def test_conflicts_are_told():
    told, store = [], MemoryStore()
    m, other = SessionManager(store, on_event=told.append), SessionManager(store)
    m.add_message(KEY, "user", "one")
    m.save(KEY)
    m.update_last(KEY, {"role": "user", "content": "mine"})
    other.update_last(KEY, {"role": "user", "content": "theirs"})
    other.close()
    with pytest.raises(ConflictError):
        m.save(KEY)
    assert [kind for kind, _ in kinds(told) if kind != "Loaded"] == ["Saved", "Conflict"]
    assert isinstance(told[-1].error, ConflictError)
    m.reload(KEY)
    m.close()


def test_a_callback_may_call_the_manager_from_any_event(storage):
    """It is called outside of all locks: of RAM, of keys, of the close, and of the turn that is left."""
    done = []

    def tell(event):
        if isinstance(event, Saved) and event.key == KEY:
            with m.turn(KEY) as turn:
                assert turn.get_context()
            with m.turn("metrics") as turn:
                turn.add_message("user", "counted")
        m.health()
        done.append(type(event).__name__)

    m = SessionManager(storage, on_event=tell, max_resident_bytes=1)
    with m.turn(KEY) as turn:
        turn.add_message("user", "hi")
    assert "Saved" in done
    assert len(m.get_history("metrics")) == 1
    m.delete(KEY)
    assert "Deleted" in done
    m.close()


def test_a_callback_that_raises_is_logged_and_harms_nobody(storage, caplog):
    def tell(event):
        raise ZeroDivisionError

    with SessionManager(storage, on_event=tell) as m:
        m.add_message(KEY, "user", CANARY)
        assert m.save(KEY)
        m.delete(KEY)
        assert m.health().ok
    assert caplog.text.count("on_event raised ZeroDivisionError for Saved") == 1
    assert caplog.text.count("on_event raised ZeroDivisionError for Deleted") == 1
    assert CANARY not in caplog.text


def test_events_of_many_threads_are_each_told_once():
    told = []
    with SessionManager(MemoryStore(), on_event=told.append) as m:

        def work(name):
            for number in range(50):
                m.add_message(f"{name}", "user", str(number))
                m.save(f"{name}")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    saved = {name: [event.revision for event in told if event.key == name] for name in "abcd"}
    assert {name: sorted(revisions) for name, revisions in saved.items()} == {
        name: list(range(1, 51)) for name in "abcd"
    }


@pytest.mark.anyio
async def test_the_async_manager_tells_them_too(storage):
    told = []
    async with AsyncSessionManager(storage, on_event=told.append) as m:
        async with m.turn(KEY) as turn:
            turn.add_message("user", "hi")
        assert kinds(told) == [("Saved", KEY)]
        await m.delete(KEY)
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(m.add_message, f"k{number}", "user", "hi")
    assert sorted(kinds(told)[1:]) == [("Deleted", KEY), *(("Saved", f"k{number}") for number in range(5))]


@pytest.mark.anyio
async def test_a_callback_in_a_loops_thread_may_wait_for_the_storage(storage, caplog):
    """An eviction is told within a call that must not wait. What the callback calls may wait all the same."""

    def tell(event):
        if isinstance(event, Evicted) and event.key == KEY:
            m.sync.put_state("metrics", {"last": event.key})

    async with AsyncSessionManager(storage, on_event=tell, max_resident_bytes=1) as m:
        await m.add_message(KEY, "user", "hi")
        await m.add_message("telegram:2", "user", "hi")
        await m.save(KEY)
        await m.add_message("telegram:2", "user", "there")
        assert await m.get_state("metrics") == {"last": KEY}
    assert "WouldWaitError" not in caplog.text


def test_events_are_frozen_and_become_json():
    values = [
        Saved(key=KEY, revision=1, changes=2, messages=3, seconds=0.5),
        Loaded(key=KEY, messages=3, seconds=0.5),
        SaveFailed(key=KEY, error=SaveFailedError(KEY, "full"), seconds=0.5),
        Conflict(key=KEY, error=ConflictError(KEY, None, None)),
        Evicted(key=KEY),
        Summarized(key=KEY, messages=3),
        Deleted(key=KEY),
        Expired(key=KEY),
    ]
    assert {type(value).__name__ for value in values} <= set(events.__all__)
    for value in values:
        with pytest.raises(AttributeError):
            value.key = "other"
        assert value.to_dict()["key"] == KEY
    assert converter.structure(values[0].to_dict(), Saved) == values[0]


# The log


def test_debug_says_what_was_done_and_how_long_it_took(storage, caplog):
    with caplog.at_level(logging.DEBUG, "session_manager"):
        with SessionManager(storage) as m:
            m.add_message(KEY, "user", CANARY)
            m.save(KEY)
        if not isinstance(storage, MemoryStore):
            with SessionManager(storage) as m:
                m.get(KEY)
            assert f"loaded {KEY!r}: 1 messages, in " in caplog.text
    assert f"saved {KEY!r}: 1 changes, 1 messages, revision 1, in " in caplog.text
    assert "opened <SessionManager <" in caplog.text
    assert "closed <SessionManager <" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(("slow_save", "count"), [(0.01, 1), (30.0, 0), (None, 0), (0, 1)])
@pytest.mark.parametrize("call", [lambda m: m.save(KEY), lambda m: m.save_all()])
def test_a_slow_save_is_a_warning(slow_save, count, call, caplog):
    store = FaultyStore(MemoryStore())
    store.delay = 0.02
    with SessionManager(store, slow_save=slow_save) as m:
        m.add_message(KEY, "user", CANARY)
        call(m)
        slow = [record for record in caplog.records if "slow_save" in record.getMessage()]
        assert [record.levelname for record in slow] == ["WARNING"] * count
        assert CANARY not in caplog.text
        caplog.clear()
        for key in ("a", "b"):
            m.add_message(key, "user", "hi")
        m.save_all()
        slow = [record for record in caplog.records if "saving 2 sessions took" in record.getMessage()]
        assert len(slow) == count
