"""The async manager: what is done at once and what is not, cancellation, closing, summaries, listings."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
import warnings
import weakref

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from session_manager import (
    AsyncSessionManager,
    ClosedError,
    CorruptSessionError,
    ForkedError,
    InvalidKeyError,
    InvalidMessageError,
    InvalidStorageError,
    Message,
    SaveFailedError,
    SessionManager,
    StorageLockedError,
    SummaryPolicy,
)
from session_manager.aio.workers import Threads
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import FaultyStore
from tests.support.slow_store import SlowStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def store():
    store = SlowStore()
    yield store
    store.heal()


@pytest.fixture
async def m(store):
    async with AsyncSessionManager(store) as manager:
        yield manager
        store.heal()


async def arrived(store, count=1):
    """Wait until calls of a slow store wait to be let through."""
    for _ in range(count):
        assert await anyio.to_thread.run_sync(store.waiting.acquire, True, 20)


@pytest.fixture
def calls(monkeypatch):
    """Count what is called in threads."""
    counted, run = [], Threads._run

    def counting(self, function):
        counted.append(function)
        return run(self, function)

    monkeypatch.setattr(Threads, "_run", counting)
    return counted


# What is done at once


class OwnStore(MemoryStore):
    """A store of one manager, so that a session in RAM need not be compared with it."""

    shared = False


@pytest.mark.parametrize("backend_store", [OwnStore, None])
async def test_what_only_touches_ram_needs_no_thread(backend_store, calls):
    async with AsyncSessionManager(*([backend_store()] if backend_store else [])) as m:
        await m.add_message("k", "user", "hi")
        calls.clear()
        for call in (
            m.add_message("k", "user", "hi"),
            m.add("k", {"role": "user"}),
            m.get("k"),
            m.get_or_create("k"),
            m.get_history("k"),
            m.get_context("k"),
            m.get_summary("k"),
            m.set_summary("k", "s"),
            m.set_history("k", [{"role": "user"}, {"role": "user"}, {"role": "user"}]),
            m.truncate_history("k", 2),
            m.remove_last("k"),
            m.update_last("k", {"role": "user"}),
            m.update_message("k", 0, {"role": "user"}),
            m.update_metadata("k", {"a": 1}),
            m.clear("k"),
            m.contains("k"),
        ):
            await call
        assert calls == []


async def test_what_only_touches_ram_does_not_wait_for_a_slow_disk(m, store):
    await m.add_message("k", "user", "first")
    store.is_slow = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(m.save, "k")
        await arrived(store)
        with anyio.fail_after(5):
            await m.add_message("k", "user", "second")
            assert [message.content for message in await m.get_history("k")] == ["first", "second"]
            assert len(await m.get_context("k")) == 2
            await m.set_summary("k", "s")
        store.heal()


async def test_what_waits_for_the_disk_is_called_in_a_thread(m, calls):
    await m.add_message("k", "user", "hi")
    calls.clear()
    await m.save("k")
    assert len(calls) == 1
    await m.save("k")
    assert len(calls) == 1
    await m.get("missing")
    await m.search("hi")
    await m.list_sessions()
    assert len(calls) == 4


async def test_a_store_is_only_called_in_threads_that_are_not_the_loops(m, store):
    await m.add_message("k", "user", "hi")
    await m.save("k")
    async with m.turn("k", "tg:1") as turn:
        turn.add_message("user", "hi")
    await m.get("missing")
    await m.save_all()
    assert len(store.threads) >= 4
    assert threading.get_ident() not in store.threads


async def test_a_long_row_of_calls_that_touch_ram_lets_other_tasks_in(m):
    """It kept them out, and Ctrl-C and every timeout with them: a loop that copies a history, say."""
    await m.get_or_create("k")

    async def interrupt(scope):
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interrupt, tasks.cancel_scope)
        for number in range(1000):
            await m.add_message("k", "user", str(number))
    assert len(await m.get_history("k")) < 200


async def test_a_context_is_made_while_all_other_threads_wait_for_the_disk(m, store):
    """The session is in RAM, and long: its context goes to a worker thread, and one must be free."""
    await m.add("k", *({"role": "user", "content": str(number)} for number in range(2000)))
    store.is_slow = True
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(m.get, f"missing{number}")
        await arrived(store)
        with anyio.fail_after(5):
            assert len(await m.get_context("k")) == 2000
            assert len(await m.get_context("k", count=lambda _: 1, max_tokens=7)) == 7
            assert (await m.health()).dirty == ("k",)
        store.heal()


async def test_many_messages_are_checked_beside_the_loop(m, calls):
    many = [{"role": "user", "content": str(number)} for number in range(500)]
    await m.get_or_create("k")
    calls.clear()
    await m.add("k", *many)
    await m.set_history("k", iter(many))
    assert len(calls) == 2
    assert len(await m.get_history("k")) == 500


@pytest.mark.parametrize(
    "content", ["x" * 2_000_000, [{"type": "text", "text": "x"}] * 5000, {"a": [["x" * 1000] * 10] * 100}]
)
async def test_what_is_heavy_is_checked_and_counted_beside_the_loop(m, calls, content):
    """One message of 100,000 parts stopped the loop for 200 ms, a context of 200 messages of 10 kB for 20 ms."""
    await m.add_message("k", "user", "hi")
    calls.clear()
    await m.add_message("k", "user", content)
    await m.add("k", {"role": "user", "content": content})
    await m.update_last("k", Message("user", content))
    await m.update_message("k", 1, {"role": "user", "content": content})
    await m.update_metadata("k", {"a": content})
    await m.add_message("k", "user", metadata={"a": content})
    assert len(calls) == 6
    await m.get_context("k", max_tokens=10_000_000)
    assert len(calls) == 7
    await m.truncate_history("k", 2, whole_turns=True)
    assert len(calls) == 8
    await m.get_or_create("other")
    async with m.turn("other") as turn:
        turn.add_message("user", content)
        calls.clear()
        await turn.get_context(max_tokens=10_000_000)
        assert len(calls) == 1
    with pytest.raises(InvalidMessageError):
        await m.add_message("k", "user", [content, b"x"])


async def test_two_long_appends_to_a_session_keep_their_order(m):
    await m.get_or_create("k")
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(m.add, "k", *[{"role": "user", "content": str(number)}] * 200)
            await anyio.lowlevel.checkpoint()
    told = [int(message.content) for message in await m.get_history("k")]
    assert told == sorted(told)


# Order


async def test_saves_of_one_session_keep_their_order_and_take_one_thread(m, store):
    await m.add_message("k", "user", "0")
    store.is_slow = True

    async def write(number):
        await m.add_message("k", "user", str(number))
        await m.save("k")

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(write, number)
        await arrived(store)
        store.is_slow = False
        tasks.start_soon(m.get, "another")
        store.heal()
    assert store.most == 1
    assert [revision for _, revision in store.order] == sorted({revision for _, revision in store.order})
    assert len((await m.get("k")).messages) == 21
    assert not (await m.health()).dirty


async def test_managers_share_no_locks_and_leave_none_behind(m, store):
    """With older versions of anyio they did: its variables of one name were one."""
    await m.add_message("k", "user", "hi")
    store.is_slow = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(m.save, "k")
        await arrived(store)
        with anyio.fail_after(5):
            async with AsyncSessionManager(MemoryStore()) as other:
                await other.add_message("k", "user", "hi")
                await other.save("k")
                assert await m._workers.reading.run(lambda: 7, "k") == 7
        store.heal()
    kept = weakref.ref(other._workers.writing)
    assert not m._workers.writing._queues()
    del other
    with anyio.fail_after(10):
        while kept() is not None:  # a thread that has ended lets go of it a moment later
            gc.collect()
            await anyio.lowlevel.checkpoint()


async def test_saves_of_several_sessions_run_at_once(m, store):
    for number in range(6):
        await m.add_message(f"k{number}", "user", "hi")
    store.is_slow = True
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(m.save, f"k{number}")
        await arrived(store, 6)
        store.heal()
    assert store.most == 6


# Cancellation


async def test_a_cancelled_save_ends_before_the_cancellation_is_raised(m, store):
    await m.add_message("k", "user", "hi")
    store.is_slow = True
    ended = []

    async def save():
        try:
            await m.save("k")
        finally:
            ended.append(store.order[:])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(save)
        await arrived(store)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            assert ended == []
            store.let_through()
    assert ended == [[("k", 1)]]
    assert not (await m.health()).dirty


async def test_a_save_that_is_cancelled_by_asyncio_itself_is_brought_to_its_end(store):
    async def main():
        async with AsyncSessionManager(store) as m:
            await m.add_message("k", "user", "hi")
            store.is_slow = True
            task = asyncio.create_task(m.save("k"))
            await asyncio.to_thread(store.waiting.acquire)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
                assert not task.done()
            store.let_through()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert store.order == [("k", 1)]
            assert not (await m.health()).dirty
            store.heal()

    await anyio.to_thread.run_sync(asyncio.run, main())


async def test_the_error_of_a_cancelled_save_is_the_cause_of_the_cancellation():
    async def main():
        store = FaultyStore(slow := SlowStore())
        m = AsyncSessionManager(store)
        await m.add_message("k", "user", "hi")
        slow.is_slow = True
        store.fail_next(OSError("full"))
        store.write = lambda commit: (slow._wait(), FaultyStore.write(store, commit))

        async def save():
            with pytest.raises(asyncio.CancelledError) as caught:
                await m.save("k")
            return caught  # Python 3.10 makes another one for whoever awaits the task

        task = asyncio.create_task(save())
        await asyncio.to_thread(slow.waiting.acquire)
        task.cancel()
        slow.heal()
        caught = await task
        assert isinstance(caught.value.__cause__, SaveFailedError)
        assert (await m.health()).dirty == ("k",)
        await m.close()

    await anyio.to_thread.run_sync(asyncio.run, main())


async def test_what_is_cancelled_while_it_waits_has_not_happened(m, store):
    for key in ("one", "two"):
        await m.add_message(key, "user", "hi")
        await m.save(key)
    store.is_slow = True
    await m.add_message("one", "user", "hi")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(m.save, "one")
        await arrived(store)
        with anyio.move_on_after(0.01):
            await m.delete("one")
        store.heal()
    assert await m.contains("one")


async def test_a_task_that_was_cancelled_before_begins_nothing(m):
    await m.add_message("k", "user", "hi")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await m.save("k")
    assert (await m.health()).dirty == ("k",)


async def test_a_task_that_asyncio_has_cancelled_before_begins_nothing(anyio_backend):
    """The cancellation is raised at the next wait, which comes before the thread is asked. A task that has got it goes on."""

    async def main():
        async def cancelled():
            asyncio.current_task().cancel()
            await m.save("k")

        async def ending():
            try:
                await cancelled()
            finally:
                seen.append((await m.health()).dirty)
                await m.save("k")

        async with AsyncSessionManager(MemoryStore()) as m:
            await m.add_message("k", "user", "hi")
            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(ending())
            seen.append((await m.health()).dirty)

    seen = []
    await anyio.to_thread.run_sync(asyncio.run, main())
    assert seen == [("k",), ()]


# Summaries


async def conversation(m, key, count):
    for number in range(count):
        await m.add_message(key, "user" if number % 2 == 0 else "assistant", str(number))


async def test_a_summarizer_may_be_async_or_not(m):
    await conversation(m, "k", 10)

    async def summarize(previous, messages):
        await anyio.lowlevel.checkpoint()
        return f"{previous}+{len(messages)}"

    class Summarizer:
        async def __call__(self, previous, messages):
            return await summarize(previous, messages)

    assert (await m.summarize("k", summarize, keep_last=6)).applied
    assert (await m.summarize("k", Summarizer(), keep_last=4)).applied
    threads = []

    def in_thread(previous, messages):
        threads.append(threading.current_thread())
        return f"{previous}+{len(messages)}"

    assert (await m.summarize("k", in_thread, keep_last=2)).applied
    assert await m.get_summary("k") == "+4+2+2"
    assert threads[0] is not threading.current_thread()
    assert await m.summarize("k", summarize, keep_last=2) is None
    await conversation(m, "k", 4)
    assert await m.summarize("k", summarize, keep_last=2, when=SummaryPolicy(messages=100)) is None
    assert (await m.summarize("k", lambda _, messages: summarize("", messages), keep_last=2)).summary == "+4"


async def test_one_summary_at_a_time_and_none_of_what_was_cleared_meanwhile(m):
    await conversation(m, "k", 10)

    async def clear(previous, messages):
        assert await m.summarize("k", clear, keep_last=2) is None
        await m.clear("k")
        return "old"

    done = await m.summarize("k", clear, keep_last=2)
    assert not done.applied
    assert await m.get_summary("k") == ""


@pytest.mark.parametrize("is_sync", [False, True])
async def test_a_cancelled_summary_changes_nothing_and_lets_the_next_one_begin(m, is_sync):
    await conversation(m, "k", 10)
    begun, end = threading.Event(), threading.Event()

    async def slow(previous, messages):
        begun.set()
        await anyio.sleep_forever()

    def slow_sync(previous, messages):
        begun.set()
        end.wait(20)
        return "too late"

    async with anyio.create_task_group() as tasks:

        async def summarize():
            await m.summarize("k", slow_sync if is_sync else slow, keep_last=2)

        tasks.start_soon(summarize)
        await anyio.to_thread.run_sync(begun.wait)
        tasks.cancel_scope.cancel()
    end.set()
    assert await m.get_summary("k") == ""
    assert (await m.summarize("k", lambda *_: "new", keep_last=2)).applied


async def test_a_summarizer_that_fails_changes_nothing(m):
    await conversation(m, "k", 10)

    async def fail(previous, messages):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await m.summarize("k", fail, keep_last=2)
    with pytest.raises(TypeError, match="keep_last must be an int"):
        await m.summarize("k", fail, keep_last="2")
    assert len(await m.get_history("k")) == 10


# Listings


async def test_listings_are_awaited_or_iterated_over():
    async with AsyncSessionManager(MemoryStore(), archive=True) as m:
        for key in ("b", "a", "x"):
            await conversation(m, key, 3)
        await m.truncate_history("a", 1)
        assert [key async for key in m] == ["a", "b", "x"]
        assert await m.count() == 3
        infos = [info async for info in m.list_sessions()]
        assert sorted(info.key for info in infos) == ["a", "b", "x"]
        assert await m.list_sessions() == infos
        assert [info.key for info in await m.list_sessions("x")] == ["x"]
        assert [message.content async for message in m.get_archive("a")] == ["0", "1"]
        assert [message.content for message in await m.get_archive("a")] == ["0", "1"]
        assert await m.get_archive("missing") == []


async def test_a_listing_that_is_left_early_leaves_nothing_to_be_closed():
    """Generators did: trio warns of those that are dropped, asyncio makes a task for each."""
    async with AsyncSessionManager() as m:
        await m.add("a", *[{"role": "user"}] * 3)
        await m.get_or_create("b")
        gc.collect()  # what other tests have left
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for listing in (m, m.list_sessions(), m.get_archive("a")):
                async for _ in listing:
                    break
            del listing
            gc.collect()
            await anyio.wait_all_tasks_blocked()


async def test_a_long_listing_lets_other_tasks_in():
    async with AsyncSessionManager() as m:
        for number in range(500):
            await m.add_message(str(number), "user", "hi")

        others = []

        async def other():
            while True:  # a thousand times were over before a slow machine's thread had the first session
                others.append(True)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            seen = [len(others) async for _ in m]
            tasks.cancel_scope.cancel()
        assert len(set(seen)) >= 3


# Errors


async def test_errors_are_those_of_the_sync_manager(tmp_path):
    async with AsyncSessionManager(tmp_path / "chats") as m:
        with pytest.raises(InvalidKeyError):
            await m.get("")
        with pytest.raises(InvalidMessageError, match=r"messages\[1\].content"):
            await m.add("k", {"role": "user"}, {"role": "user", "content": b"x"})
        with pytest.raises(InvalidMessageError, match=r"messages\[150\].content"):
            await m.add("k", *[{"role": "user"}] * 150, {"role": "user", "content": b"x"})
        await m.add_message("k", "user", "hi")
        await m.save("k")
        (file,) = (tmp_path / "chats").glob("*.session.json")
        with pytest.raises(StorageLockedError):
            await AsyncSessionManager(tmp_path / "chats").get("k")
    file.write_bytes(b"x")
    async with AsyncSessionManager(tmp_path / "chats") as m:
        with pytest.raises(CorruptSessionError):
            await m.get("k")
    with pytest.raises(InvalidStorageError):
        async with AsyncSessionManager("nonsense:x"):
            pass


async def test_a_thread_that_cannot_be_started_is_not_called_a_closed_manager(m, monkeypatch):
    def fail(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await m.list_sessions()
    assert await m.list_sessions() == []


async def test_an_unset_storage_is_warned_of_where_it_was_given():
    with pytest.warns(UserWarning, match="storage is None") as caught:
        m = AsyncSessionManager(None)
    assert caught[0].filename == __file__
    await m.close()


# Opening and closing


async def test_the_storage_is_opened_once_by_whoever_comes_first(tmp_path):
    m = AsyncSessionManager(tmp_path / "chats")
    assert "not opened yet" in repr(m)
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(m.add_message, str(number), "user", "hi")
    assert await m.count() == 10
    await m.close()
    async with AsyncSessionManager(tmp_path / "chats") as again:
        assert await again.count() == 10


async def test_closing_waits_for_what_runs_and_refuses_what_comes(store):
    others = set(threading.enumerate())
    m = AsyncSessionManager(store)
    await m.add_message("k", "user", "hi")
    store.is_slow = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(m.save, "k")
        await arrived(store)
        tasks.start_soon(m.close)
        tasks.start_soon(m.close)
        await anyio.wait_all_tasks_blocked()
        assert store.order == []
        store.heal()
    assert store.order == [("k", 1)]
    await m.close()
    for call in (m.get("k"), m.save_all(), m.search("hi"), m.count(), m.get_context("k"), m.health()):
        with pytest.raises(ClosedError):
            await call
    with pytest.raises(ClosedError):
        async with m.turn("k"):
            pass
    assert not [one for one in set(threading.enumerate()) - others if one.name.startswith("session-manager_")]


async def test_closing_saves_what_is_dirty_and_a_failure_leaves_it_open():
    store = FaultyStore(MemoryStore())
    m = AsyncSessionManager(store)
    await m.add_message("k", "user", "hi")
    store.fail_next(OSError("full"))
    with pytest.raises(SaveFailedError):
        await m.close()
    await m.add_message("k", "user", "there")
    await m.close()
    assert len(store.load("k").messages) == 2


async def test_closing_may_give_up_what_is_not_saved():
    store = MemoryStore()
    m = AsyncSessionManager(store)
    await m.add_message("k", "user", "hi")
    await m.close(save=False)
    assert list(store.keys()) == []


async def test_a_close_that_is_cancelled_has_closed(store):
    m = AsyncSessionManager(store)
    await m.add_message("k", "user", "hi")
    store.is_slow = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(m.close)
        await arrived(store)
        tasks.cancel_scope.cancel()
        store.heal()
    assert store.order == [("k", 1)]
    with pytest.raises(ClosedError):
        await m.get("k")


async def test_a_block_that_is_cancelled_closes_and_saves_all_the_same():
    """A scope's cancellation is raised at each await, and so it was at the first one of `close`: nothing was saved."""
    store = MemoryStore()
    with anyio.CancelScope() as scope:
        async with AsyncSessionManager(store) as m:
            await m.add_message("k", "user", "hi")
            scope.cancel()
            await anyio.sleep_forever()
    assert list(store.keys()) == ["k"]
    with pytest.raises(ClosedError):
        await m.get("k")


async def test_a_task_that_is_cancelled_while_it_opens_the_storage_lets_go_of_it(tmp_path):
    """It does not get into its block, and so not to the end of it, where it would have closed it."""
    m = AsyncSessionManager(tmp_path / "chats")
    opening, go_on, open_it = threading.Event(), threading.Event(), m._open

    def slowly():
        opening.set()
        assert go_on.wait(20)
        return open_it()

    m._open = slowly
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(m.__aenter__)
        await anyio.to_thread.run_sync(opening.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    async with AsyncSessionManager(tmp_path / "chats") as other:
        assert await other.count() == 0


async def test_a_manager_whose_opening_fails_is_opened_when_it_can_be(tmp_path):
    async with AsyncSessionManager(tmp_path / "chats"):
        m = AsyncSessionManager(tmp_path / "chats")
        for _ in range(2):
            with pytest.raises(StorageLockedError):
                async with m:
                    pass
    async with m:
        await m.add_message("k", "user", "hi")


async def test_a_store_that_is_false_as_a_truth_value_is_a_store():
    """It was taken for none, and nothing was saved."""

    class Sized(MemoryStore):
        def __len__(self):
            return 0

    store = Sized()
    async with AsyncSessionManager(store) as m:
        await m.add_message("k", "user", "hi")
    assert list(store.keys()) == ["k"]


async def test_a_manager_that_was_never_opened_is_closed_without_a_trace(tmp_path):
    m = AsyncSessionManager(tmp_path / "chats")
    await m.close()
    assert not (tmp_path / "chats").exists()
    with pytest.raises(ClosedError):
        await m.get("k")


async def test_a_forgotten_close_warns(tmp_path):
    m = AsyncSessionManager(SnapshotStore(tmp_path / "chats"))
    await m.get_history("k")
    with pytest.warns(ResourceWarning, match="unclosed <AsyncSessionManager <SessionManager <SnapshotStore") as told:
        del m
        while not told.list:  # the thread of the last call may still be letting go of it
            gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AsyncSessionManager(tmp_path / "chats")
        gc.collect()


async def test_close_from_a_signal_handlers_task(store):
    m = AsyncSessionManager(store)
    await m.add_message("k", "user", "hi")
    with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        async for _ in signals:
            await m.close()
            break
    assert store.order == [("k", 1)]


# Beside synchronous code


async def test_a_wrapped_manager_is_shared_with_synchronous_code_and_stays_open(store):
    with SessionManager(store) as manager:
        async with AsyncSessionManager.wrap(manager) as m:
            await m.add_message("k", "user", "async")
            await anyio.to_thread.run_sync(manager.add_message, "k", "user", "sync")
            assert [message.content for message in await m.get_history("k")] == ["async", "sync"]
            assert await m.save("k")
        with pytest.raises(ClosedError):
            await m.get("k")
        assert len(manager.get_history("k")) == 2
        with AsyncWrapped(manager):
            pass


class AsyncWrapped:
    """A wrapper that is forgotten is no leak: nothing of it was opened."""

    def __init__(self, manager):
        self.manager = AsyncSessionManager.wrap(manager)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del self.manager
            gc.collect()


async def test_several_loops_use_one_manager_at_once(store):
    m = AsyncSessionManager(store)

    async def work(name):
        for number in range(30):
            async with m.turn("shared", f"{name}:{number}") as turn:
                turn.add_message("user", name)
            await m.add_message(name, "user", "hi")
            await m.save(name)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(anyio.to_thread.run_sync, asyncio.run, work(f"loop{number}"))
    assert len(await m.get_history("shared")) == 90
    assert await m.count() == 4
    await m.close()


async def test_several_loops_that_open_a_manager_at_once_open_one_storage(tmp_path):
    """They opened one each: the last one won, and what was said to the others was lost."""
    m = AsyncSessionManager(tmp_path / "chats")
    opened, start, open_it = [], threading.Barrier(3), m._open

    def counted():
        opened.append(True)
        return open_it()

    m._open = counted

    def work(number):
        start.wait(20)
        asyncio.run(m.add_message(str(number), "user", "hi"))

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(anyio.to_thread.run_sync, work, number)
    assert opened == [True]
    assert await m.count() == 3
    await m.close()


def use_in_a_child(m, found):
    async def main():
        for call in (m.get("k"), m.save("k"), m.search("x"), m.close()):
            try:
                await call
            except ForkedError:
                found.put("forked")

    asyncio.run(main())


async def test_a_child_that_was_forked_off_is_told_so(m):
    await m.add_message("k", "user", "hi")
    await m.save("k")
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = context.Process(target=use_in_a_child, args=(m, found))
        child.start()
    await anyio.to_thread.run_sync(child.join, 20)
    assert child.exitcode == 0
    assert [found.get() for _ in range(4)] == ["forked"] * 4
