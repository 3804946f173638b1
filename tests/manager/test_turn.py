"""A turn is written at once, once, or not at all."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import threading
import time
import types

import pytest

from session_manager import (
    Autosave,
    ClosedError,
    InvalidKeyError,
    InvalidMessageError,
    ReadOnlyError,
    ReentrantCallError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
)
from session_manager.manager import turn_locks
from session_manager.manager.saving import Saving
from session_manager.stores.memory import MemoryStore
from tests.support.evicting import evict

KEY = "telegram:42"
DEADLINE = 30


class FlakyStore(MemoryStore):
    """Fails or forgets to acknowledge the next write."""

    shared = True

    def __init__(self):
        super().__init__()
        self.trouble = None

    def write(self, commit):
        trouble, self.trouble = self.trouble, None
        if isinstance(trouble, SaveFailedError):
            raise trouble
        super().write(commit)
        if trouble is not None:
            raise trouble


@pytest.fixture
def store():
    return FlakyStore()


@pytest.fixture
def m(store):
    with SessionManager(store) as one:
        yield one


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def answer(m, ref, *said):
    with m.turn(KEY, ref) as turn:
        for text in said:
            turn.add_message("user", text)
    return turn


def poll(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end


def in_thread(function):
    """Run a function in another thread, and return what it returned or raised."""
    result = []

    def run():
        try:
            result.append(function())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE)
    return result[0]


# Writing


def test_leaving_the_block_writes_everything_as_one_revision(store, m):
    with m.turn(KEY, "tg:1") as turn:
        turn.add_message("user", "hi")
        assert texts(m) == []
        turn.add({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"})
        assert not turn.applied
    assert turn.applied
    assert not turn.done
    assert [message.content for message in turn.messages] == ["hi", "a", "b"]
    stored = store.load(KEY)
    assert [(one.content, one.position, one.turn) for one in stored.messages] == [
        ("hi", 0, "tg:1"),
        ("a", 1, "tg:1"),
        ("b", 2, "tg:1"),
    ]
    assert (stored.revision, stored.refs) == (1, ("tg:1",))
    assert m.health().dirty == ()


def test_a_turn_without_a_ref_is_one_too(store, m):
    assert answer(m, None, "a").applied
    assert answer(m, None, "a").applied
    assert texts(m) == ["a", "a"]
    assert store.load(KEY).refs == ()


def test_an_exception_writes_nothing_and_ends_the_turn(store, m):
    turns = []

    def fail():
        with m.turn(KEY, "r") as turn:
            turns.append(turn)
            turn.add_message("user", "hi")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not turns[0].applied
    assert m.get(KEY) is None
    assert store.load(KEY) is None
    assert answer(m, "r", "again").applied


def test_an_empty_turn_writes_nothing_but_its_ref(store, m):
    assert not answer(m, None).applied
    assert m.get(KEY) is None
    assert answer(m, "r").applied
    assert store.load(KEY).refs == ("r",)
    assert answer(m, "r", "x").done


def test_other_calls_go_on_meanwhile_and_come_before(m):
    with m.turn(KEY) as turn:
        turn.add_message("user", "in the turn")
        m.add_message(KEY, "user", "beside it")
        assert m.save(KEY)
    assert turn.applied
    assert texts(m) == ["beside it", "in the turn"]


def test_bad_input_raises_at_the_call_and_the_turn_goes_on(m):
    with m.turn(KEY) as turn:
        turn.add_message("user", "good")
        with pytest.raises(InvalidMessageError, match=r"messages\[1\].content"):
            turn.add({"role": "user"}, {"role": "user", "content": float("nan")})
        with pytest.raises(InvalidMessageError):
            turn.add_message("user", b"bytes")
    assert texts(m) == ["good"]


@pytest.mark.parametrize("ref", ["", 5, "\ud83d\ude00"])
def test_a_ref_that_is_none_is_refused(m, ref):
    with pytest.raises(InvalidMessageError):
        m.turn(KEY, ref)


def test_a_key_that_is_none_and_a_reader_are_refused(store, m):
    with pytest.raises(InvalidKeyError):
        m.turn("")
    with SessionManager(store, read_only=True) as reader, pytest.raises(ReadOnlyError):
        reader.turn(KEY)


def test_a_turn_is_for_one_block(m):
    turn = m.turn(KEY)
    with pytest.raises(RuntimeError, match="inside"):
        turn.add_message("user", "early")
    with turn:
        turn.add_message("user", "a")
    with pytest.raises(RuntimeError, match="inside"):
        turn.add_message("user", "late")
    with pytest.raises(RuntimeError, match="one block"), turn:
        pass
    assert texts(m) == ["a"]


# Sessions that are reset meanwhile


@pytest.mark.parametrize("reset", ["clear", "delete"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("saved", [True, False])
def test_a_session_that_is_reset_meanwhile_stays_so(store, m, reset, where, saved):
    answer(m, "old", "old")
    if not saved:
        m.add_message(KEY, "user", "unsaved")
    with SessionManager(store) as other:
        with m.turn(KEY, "r") as turn:
            turn.add_message("user", "late")
            by = m if where == "here" else other
            getattr(by, reset)(KEY)
            if reset == "clear":
                by.save(KEY)
        assert not turn.applied
        assert not turn.done
        assert "late" not in texts(other)
        assert "late" not in texts(m)
        m.save_all()
        assert "late" not in texts(other)
        assert "old" not in texts(other)


def test_a_session_that_was_made_again_meanwhile_is_another(m):
    answer(m, None, "old")
    with m.turn(KEY) as turn:
        turn.add_message("user", "late")
        m.delete(KEY)
        m.add_message(KEY, "user", "new")
    assert not turn.applied
    assert texts(m) == ["new"]


def test_a_session_created_elsewhere_meanwhile_gets_the_turn(store, m):
    with SessionManager(store) as other, m.turn(KEY) as turn:
        turn.add_message("user", "mine")
        answer(other, None, "theirs")
    assert turn.applied
    assert texts(m) == ["theirs", "mine"]


# Sessions that appear meanwhile

KINDS = ["memory:", "snapshot:chats", "log:chats", "sqlite:chats.db"]


@pytest.fixture(params=KINDS)
def anywhere(request, tmp_path, monkeypatch):
    """A manager on each kind of storage."""
    monkeypatch.chdir(tmp_path)
    with SessionManager(request.param) as one:
        yield one


def appear(m, how):
    """Create the session as another caller does."""
    if how == "fork":
        m.add_message("other", "user", "seen")
        m.fork("other", KEY)
    else:
        m.add_message(KEY, "user", "seen")
        if how == "save":
            m.save(KEY)


@pytest.mark.parametrize("how", ["add", "save", "fork"])
@pytest.mark.parametrize("ref", [None, "r"])
@pytest.mark.parametrize("reset", ["clear", "delete", "delete and create", "clear and save"])
def test_a_session_created_and_reset_during_a_turn_stays_reset(anywhere, how, ref, reset):
    """The turn began without a session, so without a generation to be bound to, and was written after `clear() == 1`."""
    m = anywhere
    with m.turn(KEY, ref) as turn:
        turn.add_message("user", "late")
        appear(m, how)
        if reset.startswith("clear"):
            assert m.clear(KEY) == 1
        else:
            assert m.delete(KEY)
        if reset == "delete and create":
            m.add_message(KEY, "user", "new")
        elif reset == "clear and save":
            m.save(KEY)
    assert not turn.applied
    assert not turn.done
    assert texts(m) == (["new"] if reset == "delete and create" else [])
    assert answer(m, ref, "again").applied


def test_a_session_created_during_a_turn_gets_the_turn_as_well(anywhere):
    for how in ("add", "save", "fork"):
        with anywhere.turn(KEY, how) as turn:
            turn.add_message("user", "mine")
            appear(anywhere, how)
        assert turn.applied
        assert texts(anywhere) == ["seen", "mine"]
        assert anywhere.delete(KEY)


def test_a_session_given_up_by_a_reload_was_not_reset(store, m):
    with m.turn(KEY) as turn:
        turn.add_message("user", "mine")
        m.add_message(KEY, "user", "given up")
        m.clear(KEY)
        m.reload(KEY)
    assert turn.applied
    assert texts(m) == ["mine"]


@pytest.mark.parametrize("looks", [None, "here", "both unsaved"])
@pytest.mark.parametrize("ref", [None, "r"])
def test_a_session_created_and_cleared_elsewhere_during_a_turn_stays_so(store, m, looks, ref):
    """By another process that this one had not seen at it: the generation says that it began by a clear."""
    with SessionManager(store) as other:
        with m.turn(KEY, ref) as turn:
            turn.add_message("user", "late")
            if looks == "both unsaved":
                m.add_message(KEY, "user", "unsaved")
            answer(other, "theirs", "theirs")
            if looks is not None:
                assert "theirs" in texts(m)
            assert other.clear(KEY) == 1
            other.save(KEY)
        assert not turn.applied
        assert not turn.done
        assert "late" not in texts(other) + texts(m)
        m.save_all()
        assert texts(other) == texts(m) == (["unsaved"] if looks == "both unsaved" else [])


def test_a_session_created_and_cleared_elsewhere_right_before_the_write(store, m):
    """When the turn had looked for a session, and found none: the save meets the other one, and is reconciled with it."""
    with SessionManager(store) as other:
        write = store.write

        def interleaved(commit):
            store.write = write
            answer(other, None, "theirs")
            other.clear(KEY)
            other.save(KEY)
            write(commit)

        with m.turn(KEY) as turn:
            turn.add_message("user", "late")
            store.write = interleaved
        assert not turn.applied
        assert texts(other) == texts(m) == []
        assert m.health().dirty == ()


@pytest.mark.parametrize("again", [True, False])
def test_a_session_seen_here_and_deleted_elsewhere_during_a_turn_stays_so(store, m, again):
    """It came into RAM here, so the turn was bound to it; and another one of that key is another."""
    with SessionManager(store) as other:
        with m.turn(KEY) as turn:
            turn.add_message("user", "late")
            answer(other, None, "theirs")
            assert texts(m) == ["theirs"]
            assert other.delete(KEY)
            if again:
                answer(other, None, "new")
        assert not turn.applied
        assert texts(m) == texts(other) == (["new"] if again else [])


def test_a_delivery_answered_and_cleared_elsewhere_during_a_turn_is_done(store, m):
    with SessionManager(store) as other, m.turn(KEY, "r") as turn:
        turn.add_message("user", "late")
        answer(other, "r", "theirs")
        other.clear(KEY)
        other.save(KEY)
    assert not turn.applied
    assert turn.done
    assert texts(m) == []


def test_a_session_deleted_here_that_only_the_store_had_stays_so(store, m):
    """Another process has created it, and this one deletes it without reading it."""
    with SessionManager(store) as other, m.turn(KEY) as turn:
        turn.add_message("user", "late")
        answer(other, None, "theirs")
        assert m.delete(KEY)
    assert not turn.applied
    assert m.get(KEY) is None


def test_a_delete_that_finds_nothing_does_not_end_a_first_turn(anywhere):
    with anywhere.turn(KEY) as turn:
        turn.add_message("user", "first")
        assert not anywhere.delete(KEY)
        assert anywhere.clear(KEY) == 0
    assert turn.applied
    assert texts(anywhere) == ["first"]


def test_an_unsaved_session_also_created_elsewhere_keeps_its_turn(store, m):
    """Its generation becomes the other one's when the two are reconciled, and the turn follows."""
    with SessionManager(store) as other, m.turn(KEY) as turn:
        turn.add_message("user", "mine")
        m.add_message(KEY, "user", "unsaved")
        answer(other, None, "theirs")
        assert texts(m) == ["theirs", "unsaved"]
    assert turn.applied
    assert texts(m) == ["theirs", "unsaved", "mine"]


def test_a_session_that_was_cleared_long_ago_takes_turns(anywhere):
    for _ in range(2):
        assert answer(anywhere, None, "a").applied
        assert anywhere.clear(KEY) == 1
        anywhere.save(KEY)
    assert answer(anywhere, None, "b").applied
    assert texts(anywhere) == ["b"]


def test_a_fresh_session_cleared_while_it_is_summarized_stays_so(anywhere):
    def summarizer(previous, messages):
        assert anywhere.clear(KEY) == 4
        return "late"

    anywhere.add(KEY, *({"role": "user", "content": text} for text in "abcd"))
    done = anywhere.summarize(KEY, summarizer, keep_last=1)
    assert not done.applied
    assert (anywhere.get_summary(KEY), texts(anywhere)) == ("", [])


# Deliveries that come twice


def test_a_delivery_that_comes_again_is_done_and_adds_nothing(store, m):
    answer(m, "tg:1", "hi", "hello")
    for manager in (m, SessionManager(store)):
        with manager.turn(KEY, "tg:1") as turn:
            assert turn.done
            assert [message.content for message in turn.messages] == ["hi", "hello"]
            turn.add_message("user", "again")
        assert not turn.applied
        assert texts(manager) == ["hi", "hello"]
        if manager is not m:
            manager.close()


def test_what_is_gone_of_an_answer_is_not_sent_again(m):
    answer(m, "tg:1", "hi", "hello")
    m.truncate_history(KEY, 1)
    with m.turn(KEY, "tg:1") as turn:
        assert [message.content for message in turn.messages] == ["hello"]
    m.clear(KEY)
    with m.turn(KEY, "tg:1") as turn:
        assert turn.done
        assert turn.messages == []


def test_refs_are_remembered_for_256_turns(m):
    for number in range(257):
        answer(m, f"r{number}", "x")
    with m.turn(KEY, "r1") as turn:
        assert turn.done
    with m.turn(KEY, "r0") as turn:
        assert not turn.done


def test_done_means_durable(store, m):
    store.trouble = SaveFailedError(KEY, "injected")
    with pytest.raises(SaveFailedError), m.turn(KEY, "r") as turn:
        turn.add_message("user", "a")
    assert not turn.applied
    assert store.load(KEY) is None
    store.trouble = SaveFailedError(KEY, "injected")
    with pytest.raises(SaveFailedError), m.turn(KEY, "r"):
        pytest.fail("entered")
    with m.turn(KEY, "r") as turn:
        assert turn.done
        assert [message.content for message in turn.messages] == ["a"]
        assert store.load(KEY).refs == ("r",)


def test_a_delivery_copied_by_a_doubtful_fork_is_done_once_durable(store, m):
    """The fork's outcome is unknown until the next save settles it."""
    answer(m, "r1", "a")
    write = store.write

    def lost(commit):
        store.write = write
        raise SaveOutcomeUnknownError("fork", "?")

    store.write = lost
    with pytest.raises(SaveOutcomeUnknownError):
        m.fork(KEY, "fork")
    with m.turn("fork", "r1") as turn:
        assert turn.done
        assert "r1" in store.load("fork").refs


def test_a_lost_acknowledgement_does_not_double_a_turn(store, m):
    store.trouble = SaveOutcomeUnknownError(KEY, "injected")
    with pytest.raises(SaveOutcomeUnknownError), m.turn(KEY, "r") as turn:
        turn.add_message("user", "a")
    with m.turn(KEY, "r") as turn:
        assert turn.done
    assert texts(m) == ["a"]


def test_two_processes_that_handle_one_delivery_at_once_store_one_turn(store, m):
    with SessionManager(store) as other:
        answer(m, None, "start")
        with m.turn(KEY, "r") as mine, other.turn(KEY, "r") as theirs:
            mine.add_message("user", "mine")
            theirs.add_message("user", "theirs")
        assert theirs.applied
        assert not theirs.done
        assert not mine.applied
        assert mine.done
        assert [message.content for message in mine.messages] == ["theirs"]
        assert texts(m) == texts(other) == ["start", "theirs"]


# What is said of a turn


def after_the_next_save(monkeypatch, action):
    real = Saving.save

    def save(self, key):
        monkeypatch.setattr(Saving, "save", real)
        written = self.save(key)
        action()
        return written

    monkeypatch.setattr(Saving, "save", save)


AFTERWARDS = {
    "read again": lambda m, other: (other.add_message(KEY, "user", "x"), other.save(KEY), m.get(KEY)),
    "truncated": lambda m, other: m.truncate_history(KEY, 0),
    "cleared": lambda m, other: m.clear(KEY),
    "deleted": lambda m, other: other.delete(KEY),
    "evicted": lambda m, other: evict(m, KEY),
}


@pytest.mark.parametrize("ref", [None, "r"])
@pytest.mark.parametrize("said", [["a"], []])
@pytest.mark.parametrize("name", AFTERWARDS)
def test_a_turn_that_was_saved_was_applied_whatever_happens_right_after(store, m, monkeypatch, name, said, ref):
    """It was looked for in the session once more, where it may be gone, or another object."""
    with SessionManager(store) as other:
        after_the_next_save(monkeypatch, lambda: AFTERWARDS[name](m, other))
        turn = answer(m, ref, *said)
        assert turn.applied == bool(said or ref)
        assert not turn.done
        m.save_all()


def test_a_turn_that_the_autosaver_saved_was_applied(store, m, monkeypatch):
    real = m._residents.change

    def change(*arguments, **options):
        changed = real(*arguments, **options)
        m.save_all()
        return changed

    monkeypatch.setattr(m._residents, "change", change)
    assert answer(m, "r", "a").applied


def test_a_turn_whose_save_by_another_thread_was_settled_was_applied(store, m, monkeypatch):
    """The other thread did not learn that its save had landed; the turn's own save found it out, and wrote nothing."""
    change, write = m._residents.change, store.write

    def lost(commit):
        store.write = write
        write(commit)
        raise SaveOutcomeUnknownError(commit.session.key, "its acknowledgement was lost")

    def saved_meanwhile(*arguments, **options):
        changed = change(*arguments, **options)
        store.write = lost
        with pytest.raises(SaveOutcomeUnknownError):
            m.save(KEY)
        return changed

    monkeypatch.setattr(m._residents, "change", saved_meanwhile)
    assert answer(m, "r", "a").applied
    assert texts(m) == ["a"]


@pytest.mark.parametrize("name", ["write", "search"])
def test_a_turn_that_is_refused_in_a_signal_handler_changes_nothing(store, m, monkeypatch, name):
    """It is left in the middle of another call of its thread: its messages were in RAM although it raised."""
    m.add_message("k", "user", "a")
    m.save("k")
    calls = {"write": lambda: m.save("other"), "search": lambda: m.search("x")}
    m.add_message("other", "user", "x")
    real, refused = getattr(store, name), []

    def interrupted(*arguments, **options):
        monkeypatch.setattr(store, name, real)
        with pytest.raises(ReentrantCallError):
            turn.__exit__(None, None, None)
        refused.append(name)
        return real(*arguments, **options)

    turn = m.turn("k").__enter__()
    turn.add_message("user", "from a signal handler")
    monkeypatch.setattr(store, name, interrupted)
    calls[name]()
    m.save_all()
    assert (refused, turn.applied, texts(m, "k"), len(store.load("k").messages)) == ([name], False, ["a"], 1)


def test_a_session_that_both_made_and_one_saved_during_a_turn_gets_it(store, m):
    """Its generation was one that nobody else had seen, so the turn was taken for one of a session that was cleared."""
    with SessionManager(store) as other:
        m.add_message(KEY, "user", "mine, unsaved")
        with m.turn(KEY, "r") as turn:
            turn.add_message("user", "a")
            answer(other, None, "theirs")
            m.save(KEY)
            m.get(KEY)
        assert turn.applied
        assert texts(m) == texts(other) == ["theirs", "mine, unsaved", "a"]


def test_the_context_of_a_turn_is_that_of_its_block(m):
    with m.turn(KEY) as turn:
        turn.add({"role": "system", "content": "s"}, {"role": "user", "content": "a"})
        assert [one["content"] for one in turn.get_context(max_messages=1)] == ["s", "a"]
        with pytest.raises(ValueError, match="max_messages"):
            turn.get_context(max_messages=-1)
    with pytest.raises(RuntimeError, match="inside"):
        turn.get_context()


def test_a_turn_of_a_closed_manager_raises_and_a_closed_store_is_untouched(store):
    m = SessionManager(store)
    turn = m.turn(KEY)
    turn.__enter__().add_message("user", "a")
    m.close()
    with pytest.raises(ClosedError):
        turn.__exit__(None, None, None)
    assert not turn.applied
    assert store.load(KEY) is None
    with pytest.raises(ClosedError):
        m.turn(KEY)


def test_turns_of_sessions_that_are_evicted_all_the_time(tmp_path):
    with SessionManager(tmp_path / "chats", max_resident_bytes=3000) as m:

        def talk(name):
            for number in range(20):
                for chat in "ab":
                    with m.turn(f"{name}:{chat}", f"r{number}") as turn:
                        assert not turn.done
                        assert len(turn.get_context()) == 2 * number
                        turn.add_message("user", "x" * 200)
                        turn.add_message("assistant", str(number))
                    assert turn.applied

        threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert [info.count for info in m.list_sessions()] == [40] * 8


# The lock


def test_one_turn_at_a_time_for_a_session_and_any_number_for_others(m):
    inside = threading.Event()
    leave = threading.Event()
    order = []

    def first():
        with m.turn(KEY) as turn:
            inside.set()
            assert leave.wait(DEADLINE)
            turn.add_message("user", "first")
            order.append(1)

    def second():
        with m.turn(KEY) as turn:
            order.append(2)
            turn.add_message("user", "second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(DEADLINE)
    threads[1].start()
    with m.turn("other:1") as turn:
        turn.add_message("user", "x")
    error = in_thread(lambda: m.turn(KEY, timeout=0.01).__enter__())
    assert isinstance(error, TimeoutError)
    leave.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert order == [1, 2]
    assert texts(m) == ["first", "second"]


def test_a_turn_in_a_turn_of_the_same_session_raises(m):
    with m.turn(KEY) as outer:
        with pytest.raises(RuntimeError, match="already"), m.turn(KEY):
            pytest.fail("entered")
        with m.turn("other:1") as inner:
            inner.add_message("user", "x")
        outer.add_message("user", "y")
    assert texts(m) == ["y"]


def test_a_turn_that_would_block_an_event_loop_names_the_async_manager(m):
    async def waits():
        with m.turn(KEY):
            pytest.fail("entered")

    async def does_not_wait():
        with m.turn("other:1") as turn:
            turn.add_message("user", "x")
        return turn.applied

    with m.turn(KEY):
        assert in_thread(lambda: asyncio.run(does_not_wait())) is True
        error = in_thread(lambda: asyncio.run(waits()))
    assert isinstance(error, RuntimeError)
    assert "AsyncSessionManager" in str(error)


def test_a_second_turn_in_an_event_loop_is_told_or_may_try_without_waiting(m):
    """Two tasks of one thread used to be told that the thread has a turn already."""

    async def second():
        with m.turn(KEY):
            pytest.fail("entered")

    async def main():
        with m.turn(KEY) as turn:
            turn.add_message("user", "x")
            with pytest.raises(RuntimeError, match="AsyncSessionManager"):
                await asyncio.create_task(second())
            with pytest.raises(TimeoutError), m.turn(KEY, timeout=0):
                pytest.fail("entered")

    asyncio.run(main())
    assert texts(m) == ["x"]


def test_a_turn_that_would_wait_in_trio_raises_too(m):
    trio = pytest.importorskip("trio")

    async def main():
        with m.turn(KEY) as turn:
            turn.add_message("user", "x")
            with pytest.raises(RuntimeError, match="AsyncSessionManager"), m.turn(KEY):
                pytest.fail("entered")

    trio.run(main)
    assert texts(m) == ["x"]


def test_event_loops_that_are_only_half_imported_do_no_harm(m, monkeypatch):
    for name in ("asyncio", "trio", "trio.lowlevel"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    with m.turn(KEY):
        error = in_thread(lambda: m.turn(KEY, timeout=0.01).__enter__())
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize("timeout", [0, -1, 0.01, -math.inf])
def test_a_turn_that_does_not_end_in_time(m, timeout):
    with m.turn(KEY, timeout=timeout) as turn:
        turn.add_message("user", "a")
        error = in_thread(lambda: m.turn(KEY, timeout=timeout).__enter__())
        assert isinstance(error, TimeoutError)
    assert in_thread(lambda: answer(m, None, "b")).applied


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 2**70, None])
def test_any_long_timeout_will_do(m, timeout):
    results = []
    with m.turn(KEY):
        thread = threading.Thread(target=lambda: results.append(m.turn(KEY, timeout=timeout).__enter__()))
        thread.start()
        poll(lambda: len(m._turn_locks.claims._queues[KEY]) == 2)
    thread.join(DEADLINE)
    assert len(results) == 1


@pytest.mark.parametrize("timeout", ["1", True, math.nan])
def test_a_timeout_that_is_none_is_refused(m, timeout):
    with pytest.raises((TypeError, ValueError)):
        m.turn(KEY, timeout=timeout)


def test_turns_come_in_the_order_in_which_they_were_asked_for(m):
    """A thread that takes turn after turn used to let nobody else in."""
    order = []

    def wait_for(number):
        with m.turn(KEY):
            order.append(number)

    threads = [threading.Thread(target=wait_for, args=(number,)) for number in range(5)]
    with m.turn(KEY):
        for number, thread in enumerate(threads):
            thread.start()
            poll(lambda number=number: len(m._turn_locks.claims._queues[KEY]) == number + 2)
    with m.turn(KEY):
        assert order == [0, 1, 2, 3, 4]
    for thread in threads:
        thread.join(DEADLINE)


def test_a_turn_that_is_dropped_while_another_one_waits_lets_it_in(m, monkeypatch):
    """It used to wait for ever: it held on to the very lock that nobody would release."""
    monkeypatch.setattr(turn_locks, "PATIENCE", 0.05)
    turn = m.turn(KEY)
    turn.__enter__()
    results = []
    thread = threading.Thread(target=lambda: results.append(answer(m, None, "a")))
    thread.start()
    poll(lambda: len(m._turn_locks.claims._queues[KEY]) == 2)
    del turn
    gc.collect()
    thread.join(DEADLINE)
    assert results[0].applied


def test_a_turn_that_is_dropped_without_being_left_lets_go(m):
    turn = m.turn(KEY)
    turn.__enter__()
    del turn
    gc.collect()
    assert answer(m, None, "a").applied


def test_a_turn_whose_beginning_fails_lets_go(store, m):
    def fail(key):
        raise SaveFailedError(key, "injected")

    answer(m, None, "a")
    store.version, real = fail, store.version
    with pytest.raises(SaveFailedError), m.turn(KEY):
        pytest.fail("entered")
    store.version = real
    assert answer(m, None, "b").applied


def test_locks_are_not_kept_for_sessions_without_a_turn(m):
    for number in range(200):
        with m.turn(f"telegram:{number}"):
            pass
    assert len(m._turn_locks.claims._queues) < 50


def test_a_turn_beside_the_autosaver_is_one_turn(store):
    with SessionManager(store, autosave=Autosave(interval=0.001, messages=1)) as m:
        for number in range(50):
            m.add_message(KEY, "user", "beside")
            with m.turn(KEY, f"r{number}") as turn:
                turn.add_message("user", "a")
                turn.add_message("assistant", "b")
            assert turn.applied
    assert texts(SessionManager(store)).count("a") == 50


def test_turns_work_in_ram_only():
    with SessionManager() as m:
        assert answer(m, "r", "a").applied
        assert answer(m, "r", "b").done
        m.clear(KEY)
        assert texts(m) == []


def test_threads_take_turns_and_nothing_is_lost(m):
    def talk(name):
        for number in range(25):
            with m.turn(KEY, f"{name}{number}") as turn:
                turn.add_message("user", f"{name}{number}")
                turn.add_message("assistant", f"re:{name}{number}")
            assert turn.applied

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    said = texts(m)
    assert len(said) == len(set(said)) == 200
    assert all(said[at + 1] == f"re:{said[at]}" for at in range(0, 200, 2))
