"""Pages of a history, one message, refs: the right ones, without a walk through the history."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import (
    AsyncSessionManager,
    CorruptSessionError,
    InvalidMessageError,
    Message,
    MessageNotFoundError,
    SessionManager,
)
from session_manager.manager.cache import refs as cache
from session_manager.model.session import MAX_REFS
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.clocks import Clock
from tests.support.evicting import evict
from tests.support.managers import texts

KEY = "telegram:42"
AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def said(text, ref=None, **fields):
    return Message("user", text, created_at=AT, ref=ref, **fields)


def chat(m, count, key=KEY):
    m.add(key, *[said(f"{number}", f"tg:{number}") for number in range(count)])


def page(m, **bounds):
    return [one.content for one in m.get_history(KEY, **bounds)]


@pytest.fixture
def m():
    with SessionManager(clock=Clock()) as manager:
        yield manager


@pytest.fixture(params=["memory", "snapshot", "log", "sqlite"])
def stored(request, tmp_path):
    """A manager that has saved 10 messages, of which the first two and the sixth are gone, and has none in RAM."""
    storage = MemoryStore() if request.param == "memory" else f"{request.param}:{tmp_path / 'chats'}"
    with SessionManager(storage, clock=Clock()) as manager:
        chat(manager, 6)
        manager.remove_last(KEY)
        manager.add(KEY, *[said(f"{number}", f"tg:{number}") for number in range(6, 10)])
        manager.truncate_history(KEY, 7)
        manager.save(KEY)
        evict(manager, KEY)
        yield manager


# Pages


def test_a_page_is_the_newest_or_behind_a_message_the_first(stored):
    """`limit` alone and with `before` counts from the end; with `after`, it counts from there."""
    assert page(stored, limit=3) == ["7", "8", "9"]
    assert page(stored, limit=3, before=7) == ["3", "4", "6"]
    assert page(stored, limit=3, before="tg:4") == ["2", "3"]
    assert page(stored, limit=2, after=2) == ["3", "4"]
    assert page(stored, limit=2, after="tg:4") == ["6", "7"]
    assert page(stored, after=4, before=8) == ["6", "7"]
    assert page(stored, after="tg:4", before="tg:8", limit=1) == ["6"]
    assert page(stored, before=3) == ["2"]
    assert page(stored, after="tg:8") == ["9"]
    assert page(stored, limit=0) == []
    assert page(stored, limit=99) == texts(stored)


def test_a_bound_need_not_be_there_any_more(stored):
    """The position of a message that was removed still bounds a page."""
    assert page(stored, after=5, limit=1) == ["6"]
    assert page(stored, before=1) == []
    assert page(stored, before=-1) == []
    assert page(stored, after=10**30) == []
    assert page(stored, before=10**30, limit=1) == ["9"]


def test_pages_backward_are_the_whole_history(stored):
    pages, before = [], None
    while found := stored.get_history(KEY, limit=2, before=before):
        pages.insert(0, found)
        before = found[0].position
    assert [one.content for some in pages for one in some] == texts(stored)


def test_a_page_shows_what_is_not_saved(stored):
    stored.add_message(KEY, "user", "new")
    assert page(stored, limit=2) == ["9", "new"]


def test_bounds_that_make_no_sense_are_refused(stored):
    for wrong in ("3", 3.0, True, [3]):
        with pytest.raises(TypeError, match="limit"):
            stored.get_history(KEY, limit=wrong)
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        stored.get_history(KEY, limit=-1)
    for name in ("before", "after"):
        for wrong in (3.0, True, b"tg:1", ["tg:1"]):
            with pytest.raises(TypeError, match=name):
                stored.get_history(KEY, **{name: wrong})
        for wrong in ("", "\ud83d\ude00"):
            with pytest.raises(InvalidMessageError, match=name):
                stored.get_history(KEY, **{name: wrong})
        with pytest.raises(MessageNotFoundError, match=name) as raised:
            stored.get_history(KEY, **{name: "tg:5"})
        assert (raised.value.key, raised.value.argument) == (KEY, name)


def test_there_is_no_page_of_a_session_that_is_not_there(stored):
    assert stored.get_history("telegram:43", limit=5) == []
    assert stored.get_history("telegram:43", before="tg:1") == []
    assert stored.get_message("telegram:43", 0) is None
    assert stored.get_message("telegram:43", "tg:1") is None
    assert stored.contains_ref("telegram:43", "tg:1") is False
    assert list(stored) == [KEY]


# One message


def test_a_message_is_found_by_position_and_by_ref(stored):
    assert stored.get_message(KEY, 7).content == "7"
    assert stored.get_message(KEY, "tg:7").content == "7"
    stored.add(KEY, said("again", "tg:7"))
    assert stored.get_message(KEY, "tg:7").content == "again"
    for gone in (-1, 1, 5, 11, 10**30, "tg:1", "tg:5", "tg:99"):
        assert stored.get_message(KEY, gone) is None
    for wrong in (None, 1.0, True):
        with pytest.raises(TypeError, match="where"):
            stored.get_message(KEY, wrong)
    with pytest.raises(InvalidMessageError, match="where"):
        stored.get_message(KEY, "")


def test_a_ref_is_known_if_answered_or_there(m):
    with m.turn(KEY, "delivery") as turn:
        turn.add(said("asked", "tg:1"), said("answered"))
    assert all(m.contains_ref(KEY, ref) for ref in ("delivery", "tg:1"))
    assert not m.contains_ref(KEY, "tg:2")
    m.truncate_history(KEY, 0)
    assert m.contains_ref(KEY, "delivery")
    assert not m.contains_ref(KEY, "tg:1")
    for wrong in (None, 1, ""):
        with pytest.raises(InvalidMessageError, match="ref"):
            m.contains_ref(KEY, wrong)


def test_an_old_delivery_is_known_while_its_messages_are_there(m):
    """A session remembers its last 256 deliveries; messages of older ones still name theirs."""
    for number in range(MAX_REFS + 1):
        with m.turn(KEY, f"delivery {number}") as turn:
            turn.add(said("hi"))
    assert "delivery 0" not in m.get(KEY).refs
    assert m.contains_ref(KEY, "delivery 0")
    m.truncate_history(KEY, MAX_REFS)
    assert not m.contains_ref(KEY, "delivery 0")
    assert m.contains_ref(KEY, "delivery 1")


# Maps of refs


@pytest.fixture
def maps_at_once(monkeypatch):
    """Let even the shortest session have a map, which grows outside of the lock."""
    monkeypatch.setattr(cache, "FEW", 1)
    monkeypatch.setattr(cache, "SHORT", 1)


REFS = st.none() | st.sampled_from("abc")
MESSAGES = st.lists(REFS, min_size=1, max_size=4)
CHANGES = st.one_of(
    st.tuples(st.just("add"), MESSAGES),
    st.tuples(st.just("add"), MESSAGES),
    st.tuples(st.just("turn"), st.sampled_from(["t", "u", "a", None])),
    st.tuples(st.just("edit"), st.integers(0, 9), REFS),
    st.tuples(st.just("edit by ref"), st.sampled_from("abc"), REFS),
    st.tuples(st.just("remove_last")),
    st.tuples(st.just("truncate"), st.integers(0, 5)),
    st.tuples(st.just("set_history"), MESSAGES),
    st.tuples(st.just("summarize")),
    st.tuples(st.just("clear")),
    st.tuples(st.sampled_from(["save", "evict", "reload", "delete", "other adds", "other edits", "ask"])),
)


def change(m, other, call, *given):
    match call:
        case "add":
            m.add(KEY, *[said("x", ref) for ref in given[0]])
        case "turn":
            with m.turn(KEY, given[0]) as turn:
                turn.add(said("x"), said("y", "a"))
        case "edit":
            m.update_message(KEY, given[0], said("edited", given[1]))
        case "edit by ref":
            m.update_message(KEY, given[0], said("edited", given[1]))
        case "truncate":
            m.truncate_history(KEY, given[0])
        case "set_history":
            m.set_history(KEY, [said("x", ref) for ref in given[0]])
        case "summarize":
            m.summarize(KEY, lambda *_: "summary", keep_last=2)
        case "evict":
            if not m.get_or_create(KEY).version or KEY not in m.health().dirty:
                evict(m, KEY)
        case "other adds" | "other edits":
            m.save(KEY)
            other.add(KEY, said("other", "b"))
            if call == "other edits":
                other.update_message(KEY, other.get(KEY).start, said("other", "c"))
            other.save(KEY)
        case "ask":
            m.get_message(KEY, "a")
        case _:
            getattr(m, call)(KEY)


@given(st.lists(CHANGES, max_size=25))
def test_a_map_is_right_after_every_change(changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "FEW", 1)
        patch.setattr(cache, "SHORT", 1)
        store = MemoryStore()
        with SessionManager(store) as m, SessionManager(store) as other:
            for one in changes:
                change(m, other, *one)
                messages, refs = m.get_history(KEY), () if m.get(KEY) is None else m.get(KEY).refs
                for ref in "abctu":
                    last = next((one for one in reversed(messages) if one.ref == ref), None)
                    assert m.get_message(KEY, ref) is last
                    known = ref in refs or any(ref in (one.ref, one.turn) for one in messages)
                    assert m.contains_ref(KEY, ref) == known


def test_no_walk_finds_a_ref_again(m, monkeypatch):
    """Each lookup by ref walked through the whole history."""
    chat(m, 5000)
    assert m.get_message(KEY, "tg:17").content == "17"
    walked = []
    monkeypatch.setattr(cache, "mapped", lambda messages, end: walked.append(len(messages)) or cache.RefMap(end))
    monkeypatch.setattr("session_manager.manager.lookups.mapped", cache.mapped)
    monkeypatch.setattr(Message, "__eq__", None)
    m.add(KEY, said("new"), said("newer"))
    for number in (17, 4000):
        assert m.get_message(KEY, f"tg:{number}").position == number
        assert m.contains_ref(KEY, f"tg:{number}")
        assert page(m, limit=1, after=f"tg:{number}") == [f"{number + 1}"]
    assert sum(walked) == 2


def test_a_streamed_reply_keeps_the_map(m):
    """Updates by ref, or of the newest message, must not make the map anew."""
    chat(m, 500)
    m.contains_ref(KEY, "nobody's")
    made = m._residents.ref_maps.by_key[KEY]
    for text in ("a", "ab", "abc"):
        m.update_message(KEY, "tg:3", {"role": "user", "content": text})
        m.update_last(KEY, {"role": "user", "content": text})
    m.truncate_history(KEY, 400)
    m.add(KEY, said("new"))
    assert m._residents.ref_maps.by_key[KEY] is made
    assert m.get_message(KEY, "tg:3") is None
    assert m.get_message(KEY, "tg:101").content == "101"


def test_a_session_that_nobody_asks_has_no_map(stored):
    """Adding, saving and reading cost nothing for maps."""
    chat(stored, 500)
    stored.save(KEY)
    stored.update_last(KEY, {"role": "user", "content": "x"})
    stored.get_history(KEY, limit=5, before=300)
    stored.get_message(KEY, 3)
    stored.get_message(KEY, "tg:499")
    assert not stored._residents.ref_maps.by_key


def test_a_map_counts_in_the_budget_and_leaves_with_its_session():
    store = MemoryStore()
    with SessionManager(store, max_resident_bytes=10**9) as m:
        chat(m, 500)
        budget = m._residents._budget
        before = budget.size
        m.get_message(KEY, "tg:3")
        assert before + 500 * 40 < budget.size < before + 500 * 200
        chat(m, 300)
        with_map = budget.size
        m.get_message(KEY, "tg:3")
        assert budget.size == with_map, "the same refs again"
        m.save(KEY)
        evict(m, KEY)
        assert budget.size == 0
        assert not m._residents.ref_maps.by_key
        m.get_message(KEY, "tg:3")
        m.clear(KEY)
        assert not m._residents.ref_maps.by_key
        assert not budget._maps


def test_a_map_that_is_too_large_evicts_other_sessions():
    with SessionManager(MemoryStore(), max_resident_bytes=10**9) as m:
        chat(m, 1000, "first")
        chat(m, 1000)
        m.save_all()
        m._residents._budget.limit = m._residents._budget.size + 1000
        assert m.health().resident == 2
        m.get_message(KEY, "tg:3")
        assert m.health().resident == 1


def test_threads_that_ask_and_change_get_right_answers(maps_at_once):
    """A map that grows in one thread is never ahead of, or behind, what another one looks at."""
    with SessionManager() as m:
        m.add(KEY, said("a", "a"), *[said("x") for _ in range(50)])
        wrong, ends = [], threading.Event()

        def ask():
            while not ends.is_set():
                if m.get_message(KEY, "a") is None or not m.contains_ref(KEY, "a"):
                    wrong.append("a message that is there was not found")

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(150):
            m.add(
                KEY, said("x", f"{number}"), *([said("again", "a")] if number % 10 == 0 else []), said("y"), said("z")
            )
            m.update_message(KEY, 5 + number % 40, said("x", f"edit {number}"))
        ends.set()
        for thread in threads:
            thread.join()
        assert not wrong


# Sessions that are not in RAM


def test_a_page_does_not_load_its_session(tmp_path, monkeypatch):
    """Ten messages of 20,000 took 650 ms from SQLite: all of them were read."""
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        chat(m, 50)
        m.save(KEY)
        evict(m, KEY)
        monkeypatch.setattr(SQLiteStore, "load", None)
        assert page(m, limit=2) == ["48", "49"]
        assert page(m, limit=2, after=3) == ["4", "5"]
        assert m.get_message(KEY, 7).content == "7"
        assert m.get_message(KEY, 70) is None
        assert m.health().resident == 0


def test_a_page_of_a_shared_session_is_the_newest(tmp_path):
    """A page is what another process saved last, whether the session is in RAM or not."""
    path = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(path) as one, SessionManager(path) as other:
        chat(one, 5)
        one.save(KEY)
        assert page(other, limit=1) == ["4"]
        other.get(KEY)
        one.add_message(KEY, "user", "new")
        one.save(KEY)
        assert page(other, limit=1) == ["new"]
        one.delete(KEY)
        assert page(other, limit=1) == []


@pytest.mark.parametrize(
    ("damage", "bounds"),
    [
        ("UPDATE messages SET line = 'x' WHERE position = 4", {"limit": 2}),
        ("UPDATE messages SET position = 70 WHERE position = 4", {"limit": 2}),
        ("UPDATE sessions SET checksum = checksum + 1", {"limit": 2, "before": 3}),
        ("DELETE FROM messages WHERE position = 4", {"limit": 2}),
        ("DELETE FROM messages WHERE position = 4", {"after": 2}),
        ("DELETE FROM messages", {"limit": 2}),
        ("DELETE FROM messages WHERE position = 1", {"limit": 5}),
    ],
)
def test_a_page_with_damage_raises(tmp_path, damage, bounds):
    path = tmp_path / "chats.db"
    clock = Clock()
    with SessionManager(f"sqlite:{path}", clock=clock) as m:
        for number in range(5):
            m.add_message(KEY, "user", f"{number}")
            clock.advance(seconds=1)
        m.save(KEY)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with SessionManager(f"sqlite:{path}") as m, pytest.raises(CorruptSessionError):
        m.get_history(KEY, **bounds)


# Tasks


@pytest.mark.anyio
async def test_tasks_ask_by_the_same_calls(tmp_path):
    async with AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        for number in range(5):
            async with m.turn(KEY, f"delivery {number}") as turn:
                turn.add(*[said(f"{number}.{one}", f"tg:{number}.{one}") for one in range(100)])
        assert [one.content for one in await m.get_history(KEY, limit=1, before="tg:0.7")] == ["0.6"]
        assert [one.content for one in await m.get_history(KEY, limit=1, after=399)] == ["4.0"]
        assert (await m.get_message(KEY, "tg:1.1")).content == "1.1"
        assert await m.get_message(KEY, 10**6) is None
        assert await m.contains_ref(KEY, "delivery 0")
        assert await m.contains_ref(KEY, "tg:0.0")
        assert not await m.contains_ref(KEY, "tg:9.9")
        assert await m.update_message(KEY, "tg:0.1", {"role": "user", "content": "edited"})
        with pytest.raises(MessageNotFoundError):
            await m.get_history(KEY, before="nobody's")
