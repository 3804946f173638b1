"""Renames: a chat that moves takes all along, also what is not saved, and a turn that is open."""

from __future__ import annotations

import contextlib
import threading
import time

import anyio
import pytest

from session_manager import (
    AsyncSessionManager,
    Autosave,
    ClosedError,
    CorruptSessionError,
    InvalidKeyError,
    Message,
    ReadOnlyError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
)
from session_manager.stores.memory import MemoryStore
from session_manager.testing import FaultyStore
from tests.support.clocks import Clock
from tests.support.evicting import evict
from tests.support.managers import texts
from tests.support.processes import DEADLINE, python
from tests.support.strategies import facts

KEY, NEW = "telegram:42", "telegram:-10042"


@pytest.fixture(params=["nothing", "memory", "snapshot", "log", "sqlite"])
def m(request, tmp_path):
    storages = {"nothing": "memory:", "memory": MemoryStore()}
    storage = storages.get(request.param, f"{request.param}:{tmp_path / 'chats'}")
    with SessionManager(storage, clock=Clock(), archive=True) as manager:
        yield manager


def fill(m):
    with m.turn(KEY, "delivery") as turn:
        turn.add(*[Message("user", text, ref=f"ref of {text}", metadata={"a": text}) for text in "abcd"])
    m.update_metadata(KEY, {"lang": "de"})
    m.set_summary(KEY, "summary")
    m.truncate_history(KEY, 3)
    m.remove_last(KEY)
    m.save(KEY)


def taken(m, key):
    session = m.get(key)
    state = (session.generation, session.created, session.updated, session.summary, session.metadata)
    messages = [[facts(one) for one in some] for some in (session.messages, m.get_archive(key))]
    return (*state, session.start, session.end, session.refs, *messages)


@pytest.mark.parametrize("state", ["saved", "unsaved", "cold"])
def test_a_renamed_session_is_the_same_under_its_new_key(m, state):
    fill(m)
    if state == "unsaved":
        m.add_message(KEY, "user", "unsaved")
        m.truncate_history(KEY, 2)
    before = taken(m, KEY)
    if state == "cold" and m._residents.is_stored:
        evict(m, KEY)
    session = m.rename(KEY, NEW)
    assert session.key == NEW
    assert session.version == m.get(NEW).version
    assert taken(m, NEW) == before
    assert list(m) == [NEW]
    assert (m.get(KEY), list(m.get_archive(KEY)), KEY in m) == (None, [], False)
    assert m.health().dirty == ()
    assert m.verify() == []
    assert m.contains_ref(NEW, "delivery")
    with m.turn(NEW, "delivery") as turn:
        assert turn.done
    m.add_message(NEW, "user", "goes on")
    m.save(NEW)
    assert m.add_message(KEY, "user", "another life").position == 0
    assert m.get(KEY).generation != session.generation


def test_a_renamed_session_is_durable(tmp_path):
    for kind in ("snapshot", "log", "sqlite"):
        path = f"{kind}:{tmp_path / kind}"
        with SessionManager(path, archive=True) as m:
            fill(m)
            m.add_message(KEY, "user", "unsaved")
            before = taken(m, KEY)
            m.rename(KEY, NEW)
            m.close(save=False)
        with SessionManager(path, archive=True) as m:
            assert list(m) == [NEW]
            assert taken(m, NEW) == before


def test_what_cannot_be_renamed_is_refused(m):
    fill(m)
    m.add_message("other", "user", "x")
    m.set_summary(KEY, "not saved, and not by a refusal")
    before = (m.get(KEY).version, m.health().dirty, *taken(m, KEY))
    for new in ("other", KEY):
        with pytest.raises(SessionExistsError):
            m.rename(KEY, new)
    for new in ("new", "other", "missing"):
        with pytest.raises(SessionNotFoundError):
            m.rename("missing", new)
    for wrong in ("", None, "a\ud800"):
        with pytest.raises(InvalidKeyError):
            m.rename(KEY, wrong)
        with pytest.raises(InvalidKeyError):
            m.rename(wrong, NEW)
    for wrong in ("1", True, [1]):
        with pytest.raises(TypeError, match="timeout"):
            m.rename(KEY, NEW, timeout=wrong)
    with pytest.raises(ValueError, match="timeout"):
        m.rename(KEY, NEW, timeout=float("nan"))
    assert (m.get(KEY).version, m.health().dirty, *taken(m, KEY)) == before
    assert texts(m, "other") == ["x"]
    assert sorted(m) == ["other", KEY]
    m.close()
    with pytest.raises(ClosedError):
        m.rename(KEY, NEW)


def test_a_reader_does_not_rename(tmp_path):
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        fill(m)
        with SessionManager(f"sqlite:{tmp_path / 'chats.db'}", read_only=True) as reader, pytest.raises(ReadOnlyError):
            reader.rename(KEY, NEW)


@pytest.mark.parametrize("kind", ["snapshot", "log", "sqlite"])
def test_a_damaged_session_keeps_its_key(kind, tmp_path):
    """It is there, so nothing else gets its key."""
    with SessionManager(f"{kind}:{tmp_path / 'chats'}") as m:
        fill(m)
        m.add_message("other", "user", "x")
        m.save_all()
        store = m._residents.store
        evict(m, "other")
        with pytest.MonkeyPatch.context() as patch:

            def damaged(key, load=store.load):
                if key == "other":
                    raise CorruptSessionError(key, "path", 0, "damaged")
                return load(key)

            patch.setattr(store, "load", damaged)
            with pytest.raises(SessionExistsError):
                m.rename(KEY, "other")
        assert len(m.get_history(KEY)) == 2


# Saves that fail


def test_a_rename_whose_save_fails_changes_nothing():
    store = FaultyStore(MemoryStore())
    with SessionManager(store) as m:
        fill(m)
        m.add_message(KEY, "user", "unsaved")
        store.fail_next(OSError("No space left on device"))
        with pytest.raises(SaveFailedError):
            m.rename(KEY, NEW)
        assert texts(m)[-1] == "unsaved"
        assert m.health().dirty == (KEY,)
        m.add_message(KEY, "user", "later")
        m.rename(KEY, NEW)
        assert texts(m, NEW)[-2:] == ["unsaved", "later"]


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize(
    "error", [SaveOutcomeUnknownError(KEY, "lost"), KeyboardInterrupt()], ids=["unknown", "interrupt"]
)
def test_after_an_unknown_outcome_the_store_is_asked(landed, error):
    store = MemoryStore()
    with SessionManager(store) as m:
        fill(m)
        before = taken(m, KEY)
        rename = store.rename

        def losing(*given):
            if landed:
                rename(*given)
            raise error

        store.rename = losing
        with pytest.raises(type(error)):
            m.rename(KEY, NEW)
        del store.rename
        assert list(m) == [NEW if landed else KEY]
        if not landed:
            m.rename(KEY, NEW)
        assert taken(m, NEW) == before


# Turns


def test_a_turn_that_is_open_is_waited_for(m):
    """Its answer belongs to the session, whatever that is called by then."""
    fill(m)
    entered, goes_on = threading.Event(), threading.Event()

    def answer():
        with m.turn(KEY, "slow") as turn:
            entered.set()
            assert goes_on.wait(20)
            turn.add_message("assistant", "answered")
        assert turn.applied

    thread = threading.Thread(target=answer)
    thread.start()
    assert entered.wait(20)
    for timeout in (0, -1, 0.01):
        with pytest.raises(TimeoutError):
            m.rename(KEY, NEW, timeout=timeout)
    assert texts(m, NEW) == []
    renamed = []
    renaming = threading.Thread(target=lambda: renamed.append(m.rename(KEY, NEW)))
    renaming.start()
    goes_on.set()
    thread.join(20)
    renaming.join(20)
    assert texts(m, NEW)[-1] == "answered"
    assert m.contains_ref(NEW, "slow")
    assert renamed[0].refs[-1] == "slow"
    assert list(m) == [NEW]


@pytest.mark.parametrize("key", [KEY, NEW])
def test_a_rename_in_a_turn_of_one_of_the_two_is_refused(m, key):
    """It would wait for itself."""
    fill(m)
    with m.turn(key) as turn:
        with pytest.raises(RuntimeError, match="has a turn"):
            m.rename(KEY, NEW)
        turn.add_message("user", "goes on")
    assert turn.applied
    assert len(texts(m)) == (3 if key == KEY else 2)


def test_renames_that_cross_do_not_wait_for_each_other(m, size):
    m.add_message("a", "user", "a")
    m.save_all()
    ends = time.monotonic() + size.of(0.1, 1, 10)

    def back_and_forth(one, other):
        while time.monotonic() < ends:
            with contextlib.suppress(SessionExistsError, SessionNotFoundError):
                m.rename(one, other)

    threads = [threading.Thread(target=back_and_forth, args=given) for given in [("a", "b"), ("b", "a"), ("b", "a")]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    (key,) = list(m)
    assert texts(m, key) == ["a"]


def test_what_is_added_during_renames_is_there_once(m):
    """It is in the session as it was, or begins another one: nothing is lost, nothing is there twice."""
    m.add_message(KEY, "user", "first")
    added, ends = ["first"], threading.Event()

    def add():
        while not ends.is_set():
            m.add_message(KEY, "user", f"{len(added)}")
            added.append(f"{len(added)}")
            if len(added) % 3 == 0:
                m.save(KEY)

    thread = threading.Thread(target=add)
    thread.start()
    for number in range(15):
        while KEY not in m:
            time.sleep(0)
        m.rename(KEY, f"{NEW}:{number}")
    ends.set()
    thread.join(20)
    m.save_all()
    found = [text for key in m for text in texts(m, key)]
    assert sorted(found) == sorted(added)
    assert m.verify() == []


# What is in RAM


def test_nothing_is_left_in_ram_of_the_old_key():
    with SessionManager(MemoryStore(), max_resident_bytes=10**9) as m:
        m.add(KEY, *[Message("user", "x", ref=f"{number}") for number in range(500)])
        m.save(KEY)
        m.get_message(KEY, "3")
        budget = m._residents._budget
        m.rename(KEY, NEW)
        assert list(m._residents.by_key) == [NEW]
        assert list(budget._sizes) == [NEW]
        assert not budget._maps
        assert not m._residents.ref_maps.by_key
        assert not m._residents._leaving
        assert m.get_message(NEW, "3").position == 3
        evict(m, NEW)
        assert budget.size == 0


def test_a_session_too_large_for_ram_is_renamed(tmp_path):
    """It is evicted again and again meanwhile."""
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}", max_resident_bytes=1) as m:
        for key in (KEY, "other"):
            m.add_message(key, "user", "hi")
            m.save(key)
        m.rename(KEY, NEW)
        assert texts(m, NEW) == ["hi"]


def test_autosave_goes_on_with_a_renamed_session(tmp_path):
    with SessionManager(f"log:{tmp_path}", autosave=Autosave(interval=0.01, messages=1)) as m:
        m.add_message(KEY, "user", "a")
        m.rename(KEY, NEW)
        m.add_message(NEW, "user", "b")
        end = time.monotonic() + 20
        while m.health().dirty:
            assert time.monotonic() < end
            time.sleep(0.005)
        m.close(save=False)
    with SessionManager(f"log:{tmp_path}") as m:
        assert texts(m, NEW) == ["a", "b"]


# Several managers


@pytest.fixture(params=["memory", "sqlite"])
def pair(request, tmp_path):
    store = MemoryStore()
    storage = store if request.param == "memory" else f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(storage, archive=True) as one, SessionManager(storage, archive=True) as other:
        yield one, other


def test_another_manager_finds_it_under_its_new_key(pair):
    one, other = pair
    fill(one)
    assert texts(other) == ["b", "c"]
    one.rename(KEY, NEW)
    assert other.get(KEY) is None
    assert KEY not in other
    assert texts(other, NEW) == ["b", "c"]
    other.rename(NEW, KEY)
    assert texts(one) == ["b", "c"]
    assert one.get(NEW) is None


def test_what_another_manager_saved_meanwhile_goes_along(pair):
    one, other = pair
    fill(one)
    other.add_message(KEY, "user", "theirs")
    one.add_message(KEY, "user", "mine")
    other.save(KEY)
    one.rename(KEY, NEW)
    assert texts(other, NEW) == ["b", "c", "theirs", "mine"]


def test_what_another_manager_had_not_saved_begins_another_session(pair):
    """As after a deletion: it is not lost, and brings no old message back."""
    one, other = pair
    fill(one)
    other.add_message(KEY, "user", "unsaved")
    one.rename(KEY, NEW)
    other.save(KEY)
    assert texts(one) == ["unsaved"]
    assert texts(one, NEW) == ["b", "c"]


def test_a_key_that_another_manager_has_taken_is_refused(pair):
    one, other = pair
    fill(one)
    assert one.get(NEW) is None
    other.add_message(NEW, "user", "theirs")
    other.save(NEW)
    with pytest.raises(SessionExistsError):
        one.rename(KEY, NEW)
    other.delete(NEW)
    one.rename(KEY, NEW)
    assert texts(other, NEW) == ["b", "c"]
    with pytest.raises(SessionNotFoundError):
        other.rename(KEY, "third")


RENAME_OFTEN = """
import contextlib, sys
from session_manager import SessionExistsError, SessionManager, SessionNotFoundError

with SessionManager(sys.argv[1]) as m:
    for _ in range(20):
        for one, other in (("a", "b"), ("b", "a")):
            with contextlib.suppress(SessionExistsError, SessionNotFoundError):
                m.rename(one, other)
                m.add_message(other, "user", sys.argv[2])
                m.save(other)
"""


def test_processes_that_rename_at_once_leave_one_with_all(tmp_path):
    url = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(url) as m:
        m.add_message("a", "user", "first")
    processes = [python("-c", RENAME_OFTEN, url, number) for number in range(2)]
    assert [process.wait(DEADLINE) for process in processes] == [0, 0]
    with SessionManager(url) as m:
        assert "first" in [text for key in m for text in texts(m, key)]
        assert [text for key in m for text in texts(m, key)].count("first") == 1
        assert m.verify() == []


# Tasks


@pytest.mark.anyio
async def test_a_task_waits_for_the_turn_of_another(tmp_path):
    async with AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        await m.add_message(KEY, "user", "asked")
        entered = anyio.Event()

        async def answer():
            async with m.turn(KEY) as turn:
                entered.set()
                with pytest.raises(RuntimeError, match="this task has a turn"):
                    await m.rename(KEY, NEW)
                await anyio.sleep(0.02)
                turn.add_message("assistant", "answered")

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            await entered.wait()
            with pytest.raises(TimeoutError):
                await m.rename(KEY, NEW, timeout=0)
            session = await m.rename(KEY, NEW)
        assert [one.content for one in session.messages] == ["asked", "answered"]
        assert await m.get(KEY) is None
        with pytest.raises(SessionNotFoundError):
            await m.rename(KEY, NEW)
        with pytest.raises(TypeError, match="timeout"):
            await m.rename(KEY, NEW, timeout="1")


@pytest.mark.anyio
async def test_a_task_that_is_cancelled_while_it_waits_renames_nothing():
    async with AsyncSessionManager() as m:
        await m.add_message(KEY, "user", "asked")
        async with m.turn(KEY), anyio.create_task_group() as group:
            group.start_soon(m.rename, KEY, NEW)
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert await m.get(NEW) is None
        await m.rename(KEY, NEW, timeout=1)
        assert await m.get(NEW) is not None
