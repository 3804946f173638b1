"""A store that went back: what it had acknowledged, and RAM still has, is written again, or it is a conflict."""

from __future__ import annotations

import logging

import pytest

from session_manager import ConflictError, SessionManager
from session_manager.manager.events import WentBack
from session_manager.stores.memory import MemoryStore

KEY = "telegram:42"


@pytest.fixture
def store():
    return MemoryStore()


def said(manager):
    return [one.content for one in manager.get_history(KEY)]


def fail_over(store, then):
    """Put the store back to what it held before `then`: a standby that was behind."""
    before = dict(store._sessions)
    then()
    store._sessions = before


def turn(manager, ref, *texts):
    with manager.turn(KEY, ref) as one:
        one.add(*({"role": "user", "content": text} for text in texts))


def test_what_the_standby_lacks_is_written_again(store, caplog):
    """It was taken for the work of another writer, and the messages were dropped from RAM as well."""
    events = []
    with SessionManager(store, on_event=events.append) as m:
        turn(m, "u1", "a")

        def acknowledged():
            turn(m, "u2", "b", "c")
            m.set_summary(KEY, "so far")
            m.save(KEY)

        fail_over(store, acknowledged)
        with caplog.at_level(logging.ERROR, "session_manager"):
            assert said(m) == ["a", "b", "c"]
            assert said(m) == ["a", "b", "c"]
        assert [one.levelname for one in caplog.records] == ["ERROR"]
        assert KEY in caplog.text
        assert "so far" not in caplog.text
        assert [one for one in events if isinstance(one, WentBack)] == [
            WentBack(key=KEY, revision=3, found=1, regained=True)
        ]
        health = m.health()
        assert (health.went_back, health.dirty) == ((KEY,), (KEY,))
        assert m.save(KEY)
        there = store.load(KEY)
        assert [one.content for one in there.messages] == ["a", "b", "c"]
        assert (there.summary, there.refs) == ("so far", ("u1", "u2"))
        assert m.contains_ref(KEY, "u2")
        turn(m, "u2", "again")
        turn(m, "u3", "d")
        assert said(m) == ["a", "b", "c", "d"]


def test_what_is_unsaved_comes_behind_it(store):
    with SessionManager(store) as m:
        turn(m, "u1", "a")

        def acknowledged():
            turn(m, "u2", "b")
            m.add_message(KEY, "user", "unsaved")

        fail_over(store, acknowledged)
        m.save(KEY)
        assert [one.content for one in store.load(KEY).messages] == ["a", "b", "unsaved"]


def test_a_state_that_is_no_beginning_is_a_conflict_and_nothing_is_lost(store):
    with SessionManager(store) as m:
        turn(m, "u1", "a", "b")

        def acknowledged():
            m.truncate_history(KEY, 1)
            turn(m, "u2", "c")

        fail_over(store, acknowledged)
        assert said(m) == ["b", "c"]
        m.add_message(KEY, "user", "d")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert said(m) == ["b", "c", "d"]
        assert [one.content for one in store.load(KEY).messages] == ["a", "b"]
        assert m.health().went_back == (KEY,)
        m.reload(KEY)
        assert said(m) == ["a", "b"]


def test_an_older_state_that_another_writer_went_on_from_is_a_conflict(store):
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: [turn(m, f"u{n}", f"{n}") for n in range(2, 6)])
        turn(other, "v1", "theirs")
        m.add_message(KEY, "user", "mine")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert said(m) == ["a", "2", "3", "4", "5", "mine"]
        m.reload(KEY)
        assert said(m) == ["a", "theirs"]


def test_a_reader_shows_what_is_stored(store):
    with SessionManager(store) as m, SessionManager(store, read_only=True) as reader:
        turn(m, "u1", "a")

        def acknowledged():
            turn(m, "u2", "b")
            assert said(reader) == ["a", "b"]

        fail_over(store, acknowledged)
        assert said(reader) == ["a"]
        assert reader.health().dirty == ()


def test_a_restore_begins_a_new_epoch_which_wins(store):
    with SessionManager(store) as m:
        turn(m, "u1", "a")
        older = store.load(KEY)
        turn(m, "u2", "b")
        stored = store._sessions[KEY]
        store._sessions = {KEY: type(stored)(older._with(generation="restored"))}
        assert said(m) == ["a"]
        assert m.health().went_back == ()
