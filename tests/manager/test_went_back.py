"""A store that went back: what it had acknowledged, and RAM still has, is written again, or it is a conflict."""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest

from session_manager import Commit, ConflictError, SessionManager
from session_manager.manager.events import WentBack
from session_manager.model.session import MAX_REFS
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import FaultyStore

KEY = "telegram:42"


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    with closing(SQLiteStore(tmp_path / "chats.db")) as one:
        yield one


def said(manager):
    return [one.content for one in manager.get_history(KEY)]


def fail_over(store, then):
    """Put the store back to what it held before `then`: a standby that was behind, or a file that was restored."""
    if isinstance(store, MemoryStore):
        before = dict(store._sessions)
        then()
        store._sessions = before
        return
    with closing(sqlite3.connect(store.path)) as file, closing(sqlite3.connect(":memory:")) as kept:
        file.backup(kept)
        then()
        kept.backup(file)


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
        store.delete(KEY)
        store.write(Commit(older._with(generation="restored"), (), None, token="restore"))
        assert said(m) == ["a"]
        assert m.health().went_back == ()


def test_two_managers_that_notice_it_write_the_rest_once(store):
    """Both had it pending, and the second one's save was rebased over the first one's: each message was there twice."""
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")

        def acknowledged():
            turn(m, "u2", "b")
            m.add_message(KEY, "user", "c")
            m.save(KEY)
            assert said(other) == ["a", "b", "c"]

        fail_over(store, acknowledged)
        other.add_message(KEY, "user", "theirs")
        m.add_message(KEY, "user", "mine")
        assert said(m) == ["a", "b", "c", "mine"]
        assert said(other) == ["a", "b", "c", "theirs"]
        assert m.save(KEY)
        assert other.save(KEY)
        assert said(m) == said(other) == ["a", "b", "c", "mine", "theirs"]
        assert [one.content for one in store.load(KEY).messages] == said(m)


def test_a_manager_that_saw_more_revisions_sees_what_is_written_since(store):
    """The revisions were counted from the older state, met those that the other manager had seen, and its save erased the rest."""
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: [turn(m, f"u{n}", f"{n}") for n in range(2, 5)] + [said(other)])
        for number, text in enumerate("xyz"):
            turn(m, f"v{number}", text)
            assert said(other) == said(m)
        turn(other, "w", "theirs")
        assert said(m) == ["a", "2", "3", "4", "x", "y", "z", "theirs"]
        assert other.health().went_back == ()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_writer_between_noticing_and_saving_makes_it_a_conflict(store, count):
    """What was lost was written behind the other writer's messages, as if it came later."""
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: [turn(m, "u2", "b"), turn(m, "u3", "c")])
        assert said(m) == ["a", "b", "c"]
        for number in range(count):
            turn(other, f"v{number}", f"theirs {number}")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert said(m) == ["a", "b", "c"]
        assert len(store.load(KEY).messages) == 1 + count
        m.reload(KEY)


def test_a_clear_between_noticing_and_saving_wins(store):
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: turn(m, "u2", "b"))
        assert said(m) == ["a", "b"]
        m.add_message(KEY, "user", "new")
        other.clear(KEY)
        other.save(KEY)
        m.save(KEY)
        assert said(m) == said(other) == ["new"]


def test_a_clear_wins_over_a_state_that_is_no_beginning(store):
    """A user could not begin anew: the clear was a conflict, again and again."""
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: [turn(m, "u2", "b"), turn(m, "u3", "c")])
        turn(other, "v1", "theirs")
        m.clear(KEY)
        m.add_message(KEY, "user", "new")
        m.save(KEY)
        assert said(m) == said(other) == ["new"]


def test_an_older_state_that_was_saved_often_since_is_a_conflict(store):
    """It was taken for a newer one by its revision, though its history ends earlier."""
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: turn(m, "u2", "b", "c"))
        for number in range(5):
            other.update_metadata(KEY, {"n": number})
            other.save(KEY)
        m.add_message(KEY, "user", "mine")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert said(m) == ["a", "b", "c", "mine"]
        assert dict(store.load(KEY).metadata) == {"n": 4}
        m.reload(KEY)


def test_something_else_at_the_same_revision_is_a_conflict(store):
    """The save went over the other writer's messages, though their reader had been told that they were saved."""
    with SessionManager(store) as m, SessionManager(store) as other:
        m.add_message(KEY, "user", "a")
        m.save(KEY)

        def acknowledged():
            m.add_message(KEY, "user", "b")
            m.save(KEY)

        fail_over(store, acknowledged)
        other.add_message(KEY, "user", "theirs")
        other.save(KEY)
        m.add_message(KEY, "user", "mine")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert said(m) == ["a", "b", "mine"]
        assert said(other) == ["a", "theirs"]
        m.reload(KEY)
        assert said(m) == ["a", "theirs"]


def test_a_delivery_that_is_missing_tells_of_an_older_state(store):
    """Another writer has gone on from the older state to a later revision and as many messages: it was taken for the newest one."""
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: turn(m, "u2", "b"))
        for number in range(3):
            turn(other, f"v{number}", f"theirs {number}")
        m.add_message(KEY, "user", "mine")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert said(m) == ["a", "b", "mine"]
        m.reload(KEY)
        assert said(m) == said(other)


@pytest.fixture
def server():
    """A store that can tell a session that it never had from a deleted one. Of a file that was restored, that is not asked."""
    return MemoryStore()


def test_a_chat_that_the_standby_never_had_is_written_again(server, caplog):
    """It was taken for a deleted one, and what was acknowledged was dropped from RAM without a word."""
    events = []
    with SessionManager(server, on_event=events.append) as m, SessionManager(server) as other:
        fail_over(server, lambda: [turn(m, "u1", "a", "b"), turn(m, "u2", "c"), said(other)])
        with caplog.at_level(logging.ERROR, "session_manager"):
            assert said(m) == ["a", "b", "c"]
        assert [one.levelname for one in caplog.records] == ["ERROR"]
        assert [one for one in events if isinstance(one, WentBack)] == [
            WentBack(key=KEY, revision=2, found=0, regained=True)
        ]
        assert m.save(KEY)
        assert said(other) == ["a", "b", "c"]
        turn(other, "u2", "again")
        turn(other, "u3", "d")
        assert said(m) == said(other) == ["a", "b", "c", "d"]
        assert server.load(KEY).revision == 4


def test_two_managers_that_miss_a_chat_write_it_once(server):
    with SessionManager(server) as m, SessionManager(server) as other:
        fail_over(server, lambda: [turn(m, "u1", "a"), said(other)])
        m.add_message(KEY, "user", "mine")
        other.add_message(KEY, "user", "theirs")
        assert m.save(KEY)
        assert other.save(KEY)
        assert said(m) == said(other) == ["a", "mine", "theirs"]


def test_a_chat_that_another_writer_began_in_its_place_wins(server):
    """Nobody can tell whether it is another chat: it has a new generation, as after a deletion."""
    with SessionManager(server) as m, SessionManager(server) as other:
        fail_over(server, lambda: turn(m, "u1", "a"))
        turn(other, "v1", "theirs")
        m.add_message(KEY, "user", "mine")
        m.save(KEY)
        assert said(m) == said(other) == ["theirs", "mine"]


def test_a_deleted_chat_stays_deleted(server):
    with SessionManager(server) as m, SessionManager(server) as other:
        turn(m, "u1", "a")
        other.delete(KEY)
        assert said(m) == []
        assert m.health().went_back == ()
        assert m.save_all() == 0
        assert server.load(KEY) is None


@pytest.mark.parametrize("has_looked", [False, True])
def test_a_missing_chat_that_is_deleted_does_not_come_back(server, has_looked):
    """The other program still has it in RAM, and the server knew of no deletion."""
    with SessionManager(server) as m, SessionManager(server) as other:
        fail_over(server, lambda: [turn(m, "u1", "a"), said(other)])
        if has_looked:
            assert said(other) == ["a"]
        assert other.delete(KEY)
        assert said(m) == said(other) == []
        assert m.save_all() == other.save_all() == 0
        assert server.load(KEY) is None


def test_a_missing_chat_that_was_cut_short_is_a_conflict(server):
    """Its first messages are in no program's RAM."""
    with SessionManager(server) as m:
        fail_over(server, lambda: [turn(m, "u1", "a", "b"), m.truncate_history(KEY, 1), m.save(KEY)])
        assert said(m) == ["b"]
        m.add_message(KEY, "user", "c")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert said(m) == ["b", "c"]
        m.reload(KEY)
        assert said(m) == []


def test_a_clear_of_a_missing_chat_wins(server):
    with SessionManager(server) as m:
        fail_over(server, lambda: [turn(m, "u1", "a", "b"), m.truncate_history(KEY, 1), m.save(KEY)])
        m.clear(KEY)
        m.add_message(KEY, "user", "new")
        m.save(KEY)
        assert [one.content for one in server.load(KEY).messages] == said(m) == ["new"]


def test_a_reader_shows_that_a_chat_is_missing(server):
    with SessionManager(server) as m, SessionManager(server, read_only=True) as reader:
        fail_over(server, lambda: [turn(m, "u1", "a"), said(reader)])
        assert said(reader) == []
        assert reader.get(KEY) is None
        assert reader.health().went_back == (KEY,)


CHANGES = {
    "summary": lambda manager, text: manager.set_summary(KEY, text),
    "metadata": lambda manager, text: manager.update_metadata(KEY, {"a": text}),
    "message": lambda manager, text: manager.add_message(KEY, "user", text),
}


def shown(manager):
    session = manager.get(KEY)
    return session.summary, dict(session.metadata), said(manager)


@pytest.mark.parametrize("later", [0, 1, 3])
@pytest.mark.parametrize("what", CHANGES)
def test_what_neither_revision_nor_messages_tell_is_noticed(store, caplog, what, later):
    """A later revision with as many messages, or another summary at the same one, was taken for the newest state."""
    events = []
    with SessionManager(store, on_event=events.append) as m, SessionManager(store) as other:
        m.add_message(KEY, "user", "a")
        m.save(KEY)
        fail_over(store, lambda: [CHANGES[what](m, "mine"), m.save(KEY)])
        CHANGES[what](other, "theirs")
        other.save(KEY)
        for number in range(later):
            other.update_metadata(KEY, {"n": number})
            other.save(KEY)
        before = shown(m)
        assert "mine" in str(before)
        m.add_message(KEY, "user", "next")
        with caplog.at_level(logging.ERROR, "session_manager"), pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert {one.levelname for one in caplog.records} == {"ERROR"}
        assert m.health().went_back == (KEY,)
        assert {one.regained for one in events if isinstance(one, WentBack)} == {False}
        assert "theirs" in str(shown(other))
        m.reload(KEY)
        assert shown(m) == shown(other)


def test_nothing_that_another_write_made_is_deleted_or_expires(store):
    """A deletion named the version that RAM had, at which something else was stored that it had never shown."""
    with SessionManager(store) as m, SessionManager(store) as other:
        m.add_message(KEY, "user", "a")
        m.save(KEY)
        fail_over(store, lambda: [m.add_message(KEY, "user", "mine"), m.save(KEY)])
        other.add_message(KEY, "user", "theirs")
        other.save(KEY)
        seen = m._residents.peek(KEY).durable.version
        assert seen == store.version(KEY)
        with pytest.raises(ConflictError):
            m.delete(KEY, expected=seen)
        assert m.expire(timedelta(0)) == []
        assert [one.content for one in store.load(KEY).messages] == ["a", "theirs"]


def test_metadata_that_another_writer_set_since_is_not_overwritten(store):
    """An older state that was changed later than the newer one is not a beginning of it."""
    with SessionManager(store) as m, SessionManager(store) as other:
        turn(m, "u1", "a")
        fail_over(store, lambda: [turn(m, f"u{n}", f"{n}") for n in range(2, 5)])
        other.update_metadata(KEY, {"language": "de"})
        other.save(KEY)
        m.add_message(KEY, "user", "mine")
        with pytest.raises(ConflictError, match="went back"):
            m.save(KEY)
        assert dict(store.load(KEY).metadata) == {"language": "de"}
        m.reload(KEY)


def test_a_lost_acknowledgement_of_what_is_written_again_is_settled(store):
    faulty = FaultyStore(store)
    with SessionManager(faulty) as m:
        turn(m, "u1", "a")
        fail_over(store, lambda: turn(m, "u2", "b"))
        assert said(m) == ["a", "b"]
        faulty.fail_next(OSError("down"))
        faulty.lose_ack_next()
        for _ in range(2):
            with pytest.raises(Exception, match=r"down|acknowledgement"):
                m.save(KEY)
        m.add_message(KEY, "user", "c")
        m.save(KEY)
        assert [one.content for one in store.load(KEY).messages] == said(m) == ["a", "b", "c"]


def test_a_session_that_has_forgotten_old_refs_is_written_again(store):
    with SessionManager(store) as m:
        for number in range(MAX_REFS):
            turn(m, f"u{number}", f"{number}")

        def acknowledged():
            turn(m, "v1", "b")
            turn(m, "v2")
            turn(m, "v3", "c")

        fail_over(store, acknowledged)
        assert m.health().went_back == ()
        assert said(m)[-2:] == ["b", "c"]
        m.save(KEY)
        assert store.load(KEY).refs[-4:] == (f"u{MAX_REFS - 1}", "v1", "v2", "v3")


def test_the_error_is_logged_while_other_sessions_can_be_used(store):
    """The log's handler ran under the lock of all that is in RAM."""
    with SessionManager(store) as m, ThreadPoolExecutor(1) as threads:
        seen = []

        class Handler(logging.Handler):
            def emit(self, record):  # noqa: ARG002
                seen.append(threads.submit(m.get_history, "another").result(timeout=5))

        handler = Handler(logging.ERROR)
        logging.getLogger("session_manager").addHandler(handler)
        try:
            turn(m, "u1", "a")
            fail_over(store, lambda: turn(m, "u2", "b"))
            assert said(m) == ["a", "b"]
        finally:
            logging.getLogger("session_manager").removeHandler(handler)
        assert seen == [[]]


def test_a_reader_does_not_say_that_it_writes(store):
    events = []
    with SessionManager(store) as m, SessionManager(store, read_only=True, on_event=events.append) as reader:
        turn(m, "u1", "a")
        fail_over(store, lambda: [turn(m, "u2", "b"), said(reader)])
        assert said(reader) == ["a"]
    assert [one.regained for one in events if isinstance(one, WentBack)] == [False]
