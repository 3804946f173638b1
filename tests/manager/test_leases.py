"""Turns under leases: managers of one storage take turns of a session one after another, and a turn that lost its lease writes nothing."""

from __future__ import annotations

import _thread
import gc
import threading
import time
from functools import partial

import anyio
import pytest

from session_manager import (
    AsyncSessionManager,
    ClosedError,
    Lease,
    LeaseLostError,
    SaveFailedError,
    SessionBusyError,
    SessionManager,
    StorageError,
    Write,
)
from session_manager.manager.events import LeaseLost
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.wrapped import WrappedStore
from session_manager.testing import FaultyStore, crash
from tests.support.leased import KINDS, storage

KEY = "telegram:42"
DEADLINE = 60


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    return storage(request.param, tmp_path)


@pytest.fixture
def opened(place):
    """Open the storage, once more each time."""
    stores = []

    def open_one():
        stores.append(place.opened())
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()
    if hasattr(place, "remove"):
        place.remove()


@pytest.fixture
def managers(opened):
    """Two managers of one storage, each with a store of its own: they stand for two machines."""
    with SessionManager(opened(), lease=Lease()) as one, SessionManager(opened(), lease=Lease()) as other:
        yield one, other


@pytest.fixture
def ram():
    return storage("memory", None)


@pytest.fixture
def two(ram):
    """Two managers of one storage in RAM."""
    store = ram.opened()
    with SessionManager(store, lease=Lease()) as one, SessionManager(store, lease=Lease()) as other:
        yield one, other


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def say(m, *said, key=KEY, **options):
    with m.turn(key, **options) as turn:
        for text in said:
            turn.add_message("user", text)
    return turn


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def is_free(m, key=KEY):
    """Say whether the lease of a session can be had at once."""
    try:
        with m.turn(key, timeout=0):
            return True
    except TimeoutError:
        return False


# Waiting


def test_the_second_model_sees_the_turn_of_the_first(managers):
    one, other = managers
    say(one, "before")
    asked = []
    entered = threading.Event()

    def ask(m, who):
        with m.turn(KEY) as turn:
            entered.set()
            asked.append([message["content"] for message in turn.get_context()])
            if m is one:
                until(lambda: is_polling(other))
            turn.add_message("user", who)

    waiting = threading.Thread(target=ask, args=(other, "second"))
    first = threading.Thread(target=ask, args=(one, "first"))
    first.start()
    assert entered.wait(DEADLINE)
    waiting.start()
    for thread in (first, waiting):
        thread.join(DEADLINE)
    assert asked == [["before"], ["before", "first"]]
    assert texts(one) == ["before", "first", "second"]


def test_a_turn_beside_a_save_that_is_under_way_sees_the_turn_before(ram):
    """A read does not ask the store then."""
    writing, go_on, asked = threading.Event(), threading.Event(), []

    class Slow(WrappedStore):
        is_slow = False

        def write(self, commit):
            if self.is_slow:
                self.is_slow = False
                writing.set()
                assert go_on.wait(DEADLINE)
            super().write(commit)

    def ask():
        with one.turn(KEY) as turn:
            asked.extend(message["content"] for message in turn.get_context())

    slow = Slow(ram.opened())
    with SessionManager(slow, lease=Lease()) as one, SessionManager(ram.opened(), lease=Lease()) as other:
        say(one, "before")
        one.add_message(KEY, "user", "plain")
        slow.is_slow = True
        threads = [threading.Thread(target=one.save, args=(KEY,)), threading.Thread(target=ask)]
        threads[0].start()
        assert writing.wait(DEADLINE)
        say(other, "first")
        threads[1].start()
        threads[1].join(0.05)
        go_on.set()
        for thread in threads:
            thread.join(DEADLINE)
        assert asked == ["before", "first", "plain"]


def test_a_delivery_that_two_got_is_answered_once(managers):
    calls = []

    def deliver(m):
        with m.turn(KEY, "tg:1") as turn:
            if not turn.done:
                calls.append(m)
                turn.add_message("user", "question")
        assert turn.applied or turn.done

    threads = [threading.Thread(target=deliver, args=(m,)) for m in managers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(calls) == 1
    assert texts(managers[0]) == ["question"]


def test_a_turn_waits_no_longer_than_it_is_told(managers):
    one, other = managers
    with one.turn(KEY):
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError, match=f"for {timeout} s"), other.turn(KEY, timeout=timeout):
                pass
        with pytest.raises(SessionBusyError, match="0 turns"), other.turn(KEY, max_waiting=0):
            pass
        with other.turn("another", timeout=0):
            pass
    with other.turn(KEY, timeout=DEADLINE):
        pass


def test_managers_that_were_given_the_same_ids_wait_for_each_other(ram):
    """As a test gives them, or a program that counts."""
    ids = [iter([f"{number}" for number in range(100)]) for _ in range(2)]
    one, other = (SessionManager(ram.opened(), lease=Lease(), random_id=partial(next, ids[who])) for who in range(2))
    with one.turn(KEY):
        assert not is_free(other)
    one.close()
    other.close()


def is_polling(m):
    claims = m._turn_locks.claims._alive(KEY)
    return bool(claims) and claims[0].is_polling


def test_who_waits_for_a_lease_counts_as_waiting(two):
    one, other = two
    with one.turn(KEY):
        waiting = threading.Thread(target=say, args=(other, "waited"))
        waiting.start()
        until(lambda: is_polling(other))
        with pytest.raises(SessionBusyError, match="1 turns"), other.turn(KEY, max_waiting=1):
            pass
        with pytest.raises(TimeoutError), other.turn(KEY, max_waiting=2, timeout=0):
            pass
    waiting.join(DEADLINE)
    assert texts(one) == ["waited"]


def test_a_turn_that_would_stop_an_event_loop_is_refused(two):
    one, other = two

    async def main():
        with one.turn(KEY), pytest.raises(RuntimeError, match="event loop"), other.turn(KEY):
            pass
        until(lambda: is_free(other))
        with other.turn(KEY):
            pass

    anyio.run(main)


def test_an_interrupt_of_a_turn_that_waits_leaves_nothing(two):
    one, other = two

    def interrupt():
        until(lambda: is_polling(other))
        _thread.interrupt_main()

    with one.turn(KEY):
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            say(other, "never")
        interrupting.join(DEADLINE)
    until(lambda: is_free(other))
    with other.turn(KEY, max_waiting=0):
        pass


def test_other_calls_neither_wait_for_a_lease_nor_end_it(managers):
    one, other = managers
    with one.turn(KEY) as turn:
        turn.add_message("user", "turn")
        other.add_message(KEY, "user", "plain")
        other.save(KEY)
        assert not is_free(other)
    assert turn.applied
    assert texts(other) == ["plain", "turn"]
    with one.turn(KEY) as turn:
        turn.add_message("user", "late")
        other.delete(KEY)
    assert (turn.applied, texts(one)) == (False, [])


@pytest.mark.parametrize("call", [lambda m: m.undo(KEY, timeout=0), lambda m: m.rename(KEY, "new", timeout=0)])
def test_undo_and_rename_wait_for_turns(managers, call):
    one, other = managers
    say(one, "a")
    with one.turn(KEY), pytest.raises(TimeoutError):
        call(other)
    assert texts(other) == ["a"]
    until(lambda: is_free(other))
    call(other)
    assert texts(one) == []
    until(lambda: is_free(one))
    assert is_free(one, "new")


# A lease that ran out


@pytest.mark.parametrize("jump", [3600, -3600], ids=["forward", "back"])
def test_a_turn_whose_lease_ran_out_is_written(place, managers, jump):
    """The clock of the storage jumps: nobody else has taken the lease."""
    one, other = managers
    with one.turn(KEY) as turn:
        turn.add_message("user", "kept")
        place.jump(jump)
    assert turn.applied
    assert texts(other) == ["kept"]


def lose(turn, act, place, theirs, jump=3600):
    """Take a turn, whose lease another one takes meanwhile."""
    with turn:
        act(turn)
        place.jump(jump)
        theirs()


def add(turn):
    turn.add_message("user", "lost")


@pytest.mark.parametrize("jump", [3600, -3600], ids=["forward", "back"])
@pytest.mark.parametrize("is_there", [True, False], ids=["a session", "a new session"])
def test_a_turn_whose_lease_was_taken_is_refused(place, opened, jump, is_there):
    told = []
    with (
        SessionManager(opened(), lease=Lease(), on_event=told.append) as one,
        SessionManager(opened(), lease=Lease()) as other,
    ):
        check_refusal(place, one, other, jump, is_there)
    assert told.count(LeaseLost(key=KEY)) == 1


def check_refusal(place, one, other, jump, is_there):
    if is_there:
        say(one, "before")
    one.add_message("another", "user", "unsaved")
    turn = one.turn(KEY, "tg:1")
    with pytest.raises(LeaseLostError) as caught:
        lose(turn, add, place, lambda: say(other, "theirs"), jump)
    assert caught.value.key == KEY
    assert (turn.applied, turn.done, turn.version) == (False, False, None)
    assert one.health().dirty == ("another",)
    assert one.health().failures == {}
    before = ["before"] if is_there else []
    assert texts(one) == texts(other) == [*before, "theirs"]
    with one.turn(KEY, "tg:1") as turn:  # the delivery comes again
        assert not turn.done
        turn.add_message("user", "again")
    assert texts(other) == [*before, "theirs", "again"]


CHANGES = {
    "edits": lambda turn: turn.edit(0, {"role": "user", "content": "edited"}),
    "truncates": lambda turn: turn.truncate(0),
    "sets the metadata": lambda turn: turn.set_metadata({"a": 1}),
    "adds": add,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_over", [True, False], ids=["a turn that is over", "a turn that is open"])
def test_a_turn_of_any_kind_is_refused(ram, two, change, is_over):
    one, other = two
    say(one, "before")
    theirs = other.turn(KEY)

    def take():
        theirs.__enter__()
        if is_over:
            theirs.__exit__(None, None, None)

    turn = one.turn(KEY, keep=False) if change == "adds" else one.turn(KEY)
    with pytest.raises(LeaseLostError):
        lose(turn, CHANGES[change], ram, take)
    assert texts(one) == ["before"]
    assert one.get(KEY).metadata == {}
    assert one.health().dirty == ()


def test_a_turn_with_an_expected_version_is_told_that_its_lease_was_taken(ram, two):
    one, other = two
    say(one, "before")
    turn = one.turn(KEY, expected=one.get(KEY).version)
    with pytest.raises(LeaseLostError):
        lose(turn, add, ram, lambda: is_free(other))
    assert texts(one) == ["before"]


def test_what_others_left_unsaved_stays_when_a_turn_is_refused(ram, two):
    one, other = two
    say(one, "before")

    def theirs():
        one.add_message(KEY, "user", "plain")
        say(other, "theirs")

    with pytest.raises(LeaseLostError):
        lose(one.turn(KEY), add, ram, theirs)
    assert texts(one) == texts(other) == ["before", "theirs", "plain"]
    assert one.health().dirty == ()


SAVES = {
    "save": lambda m: m.save(KEY),
    "save_all": lambda m: m.save_all(),
    "commit_together": lambda m: m.commit_together([Write("another", items={"a": 1}), Write(KEY, items={"a": 1})]),
    "commit_together of one": lambda m: m.commit_together([Write(KEY, items={"a": 1})]),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_a_save_of_another_thread_is_not_told_of_a_turn_that_lost(ram, two, save):
    """It came between the change of a turn and its save, such as the autosave thread's."""
    one, other = two
    say(one, "before")
    change = one._residents.change

    def changed(*arguments, **options):
        done = change(*arguments, **options)
        one._residents.change = change
        one.add_message(KEY, "user", "plain")
        save(one)
        return done

    def theirs():
        say(other, "theirs")
        one._residents.change = changed

    with pytest.raises(LeaseLostError):
        lose(one.turn(KEY), add, ram, theirs)
    assert texts(one) == texts(other) == ["before", "theirs", "plain"]


@pytest.fixture
def faulty(ram):
    """A manager of a store that fails on demand, that store, and another manager."""
    store = FaultyStore(ram.opened())
    with SessionManager(store, lease=Lease()) as one, SessionManager(ram.opened(), lease=Lease()) as other:
        yield one, store, other


def test_a_turn_that_stays_unsaved_is_not_bound_to_its_lease(faulty):
    one, store, other = faulty
    say(one, "before")
    store.fail_next(OSError("full"))
    with pytest.raises(SaveFailedError):
        say(one, "kept")
    until(lambda: is_free(other))
    say(other, "theirs")
    assert one.save(KEY)
    assert texts(other) == ["before", "theirs", "kept"]


def test_a_turn_of_which_an_answer_was_lost_is_settled(faulty):
    one, store, other = faulty
    say(one, "before")
    store.lose_ack_next()
    with pytest.raises(StorageError):
        say(one, "landed", ref="tg:1")
    say(other, "theirs")
    with one.turn(KEY, "tg:1") as turn:
        assert turn.done
    assert texts(other) == ["before", "landed", "theirs"]


# Letting go


class BoomError(Exception):
    """What a model raises."""


def test_every_end_of_a_turn_lets_go_of_its_lease(managers):
    one, other = managers
    with pytest.raises(BoomError), one.turn(KEY):
        raise BoomError
    until(lambda: is_free(other))
    with one.turn(KEY):
        pass
    until(lambda: is_free(other))
    say(one, "a", ref="tg:1")
    assert is_free(other), "a commit releases the lease in its own step"
    with one.turn(KEY, "tg:1") as turn:
        assert turn.done
    until(lambda: is_free(other))
    with pytest.raises(LookupError), one.turn(KEY, replacing="no such turn"):
        pass
    until(lambda: is_free(other))


def test_a_turn_that_is_dropped_lets_go_of_its_lease(ram):
    with SessionManager(ram.opened(), lease=Lease(0.2)) as one, SessionManager(ram.opened(), lease=Lease()) as other:
        one.turn(KEY).__enter__()
        gc.collect()
        until(lambda: is_free(other))


def test_close_releases_what_is_held_and_a_crash_does_not(opened):
    one, other = SessionManager(opened(), lease=Lease()), SessionManager(opened(), lease=Lease())
    turn = one.turn(KEY)
    turn.__enter__()
    one.close()
    assert is_free(other)
    thread = other._leases._thread
    with other.turn("held"):
        crash(other)
    assert not thread.is_alive()
    with SessionManager(opened(), lease=Lease()) as third:
        assert not is_free(third, "held")


def test_a_manager_that_is_closed_takes_no_lease(two):
    """A turn that waited for one, and a turn that is entered too late."""
    one, other = two
    late, raised = other.turn("late"), []

    def wait():
        try:
            say(other, "waited")
        except ClosedError as error:
            raised.append(error)

    with one.turn(KEY):
        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: is_polling(other))
        other.close()
        waiting.join(DEADLINE)
    assert len(raised) == 1
    with pytest.raises(ClosedError):
        late.__enter__()
    assert is_free(one, "late")


def test_a_lease_that_is_taken_while_its_manager_is_closed_is_released(ram):
    """A worker that was stopped while its turns waited left a lease behind, and the chat waited for a minute."""
    managers = []

    class Closing(WrappedStore):
        def take_lease(self, key, owner, seconds):
            fence = super().take_lease(key, owner, seconds)
            managers[0].close()
            return fence

    for others in ([], [KEY]):  # whether its thread runs already
        store = Closing(ram.opened())
        managers[:] = [SessionManager(store, lease=Lease())]
        leases = managers[0]._leases
        if others:
            leases._start()
        with pytest.raises(ClosedError):
            say(managers[0], "late")
        leases._thread.join(DEADLINE)
        with SessionManager(ram.opened(), lease=Lease()) as other:
            assert is_free(other)


def test_leases_are_renewed_however_many_turns_end(ram):
    """A release came first each time: so a long turn lost its lease while many short ones ended."""
    renewed = threading.Event()

    class Busy(WrappedStore):
        """Each release has another turn end."""

        def renew_leases(self, held, seconds):
            super().renew_leases(held, seconds)
            renewed.set()

        def release_lease(self, key, fence):
            super().release_lease(key, fence)
            if not renewed.is_set():
                m._leases._ended.put((key, fence))

    with SessionManager(Busy(ram.opened()), lease=Lease(0.1)) as m:
        with m.turn("long"):
            with m.turn("short"):
                pass
            is_renewed = renewed.wait(DEADLINE)
            renewed.set()
        assert is_renewed


def test_a_manager_that_is_collected_ends_its_thread(ram):
    m = SessionManager(ram.opened(), lease=Lease())
    turn = m.turn(KEY)
    turn.__enter__()
    thread = m._leases._thread
    del m, turn
    gc.collect()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    with SessionManager(ram.opened(), lease=Lease()) as other:
        assert is_free(other)


# Renewing


def test_one_thread_renews_all_leases_together_and_goes_on_after_a_failure(ram):
    calls, threads, both = [], set(), threading.Event()

    class Noting(WrappedStore):
        def renew_leases(self, held, seconds):
            threads.add(threading.current_thread())
            calls.append(sorted(held))
            if len(calls) == 1:
                raise StorageError("it", "is away")
            super().renew_leases(held, DEADLINE)  # a machine may be too busy to look before the lease runs out again
            if len(calls) > 2 and calls[-1] == ["a", "b"]:
                both.set()

    with SessionManager(Noting(ram.opened()), lease=Lease(0.1)) as one, one.turn("a"), one.turn("b"):
        assert both.wait(DEADLINE)
        with SessionManager(ram.opened(), lease=Lease()) as other:
            assert not is_free(other, "a")
            assert not is_free(other, "b")
    assert {thread.name for thread in threads} == {"session-manager-leases"}
    assert len(threads) == 1


def test_a_lease_that_cannot_be_asked_for_raises_and_changes_nothing(ram):
    class Away(WrappedStore):
        def take_lease(self, key, owner, seconds):
            raise StorageError("it", "is away")

    with SessionManager(Away(ram.opened()), lease=Lease()) as m:
        for _ in range(2):
            with pytest.raises(StorageError, match="is away"):
                say(m, "a")
        assert texts(m) == []


# Asking for leases


@pytest.mark.parametrize("url", ["snapshot:chats", "log:chats", "memory:", "sqlite:chats.db?", None])
def test_a_storage_without_leases_is_refused(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("chats.db", exclusive=True) if url is None else url
    if url == "sqlite:chats.db?":
        store = MemoryStore()
        store.leases = False
    with pytest.raises(ValueError, match=r"lease needs a stor"):
        SessionManager(store, lease=Lease())
    if url is None:
        store.close()


def test_a_reader_has_no_leases():
    with pytest.raises(ValueError, match="read_only and lease exclude each other"):
        SessionManager("sqlite:chats.db", read_only=True, lease=Lease())


@pytest.mark.parametrize("seconds", [0, 0.05, -1, float("nan"), float("inf"), 86_401, "60", True, None])
def test_a_lease_is_held_for_a_sensible_time(seconds):
    with pytest.raises((TypeError, ValueError), match="seconds must be"):
        Lease(seconds)
    assert Lease().seconds == 60


# In an event loop


async def until_polling(m):
    with anyio.fail_after(DEADLINE):
        while not is_polling(m._wrapped):  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.001)


@pytest.mark.anyio
async def test_async_turns_wait_while_other_tasks_go_on(opened):
    async with (
        AsyncSessionManager(opened(), lease=Lease()) as one,
        AsyncSessionManager(opened(), lease=Lease()) as other,
    ):
        asked = []

        async def answer(m, who):
            async with m.turn(KEY) as turn:
                asked.append([message["content"] for message in await turn.get_context()])
                turn.add_message("user", who)

        async with anyio.create_task_group() as tasks, one.turn(KEY) as turn:
            for timeout in (0, 0.03):
                with pytest.raises(TimeoutError):
                    await other.turn(KEY, timeout=timeout).__aenter__()
            tasks.start_soon(answer, other, "second")
            await until_polling(other)
            turn.add_message("user", "first")
        assert asked == [["first"]]
        async with one.turn(KEY, timeout=0):
            pass


@pytest.mark.anyio
async def test_async_turns_are_refused_and_cancelled(ram):
    store = ram.opened()
    async with AsyncSessionManager(store, lease=Lease()) as one, AsyncSessionManager(store, lease=Lease()) as other:

        async def lose():
            async with one.turn(KEY) as turn:
                turn.add_message("user", "lost")
                ram.jump(3600)
                async with other.turn(KEY) as theirs:
                    theirs.add_message("user", "theirs")

        with pytest.raises(LeaseLostError):
            await lose()
        assert [message.content for message in await one.get_history(KEY)] == ["theirs"]
        async with one.turn(KEY):
            with anyio.move_on_after(0.05):
                await other.turn(KEY).__aenter__()
            with pytest.raises(SessionBusyError):
                await other.turn(KEY, max_waiting=0).__aenter__()
            with pytest.raises(TimeoutError):
                await other.rename(KEY, "new", timeout=0)
        with anyio.fail_after(DEADLINE):
            async with other.turn(KEY):
                pass
