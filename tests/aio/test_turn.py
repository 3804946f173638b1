"""Turns of tasks: fair, safe from cancellation, bounded; and many tasks at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from session_manager import (
    LAST,
    AsyncSessionManager,
    ClosedError,
    ConflictError,
    InvalidMessageError,
    SaveFailedError,
    SessionBusyError,
    SessionManager,
)
from session_manager.aio import turn as aio_turn
from session_manager.history import problems
from session_manager.manager.cache.fair_lock import Claims
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import FaultyStore
from tests.support.slow_store import SlowStore
from tests.support.threads import alive

pytestmark = pytest.mark.anyio


@pytest.fixture
async def m():
    async with AsyncSessionManager(MemoryStore()) as manager:
        yield manager


async def texts(m, key="k"):
    return [message.content for message in await m.get_history(key)]


async def test_a_turn_is_written_and_saved_when_its_block_is_left(m):
    async with m.turn("k", "tg:1") as turn:
        assert (turn.key, turn.ref, turn.done, turn.applied) == ("k", "tg:1", False, False)
        turn.add_message("user", "hi")
        turn.add({"role": "assistant", "content": "yo"})
        assert await m.get("k") is None
        assert [message["content"] for message in await turn.get_context(system="s")] == ["s", "hi", "yo"]
        assert len(turn.messages) == 2
    assert turn.applied
    assert await texts(m) == ["hi", "yo"]
    assert (await m.get("k")).revision == 1
    async with m.turn("k", "tg:1") as again:
        assert again.done
        assert [message.content for message in again.messages] == ["hi", "yo"]
        again.add_message("user", "hi")
    assert not again.applied
    assert await texts(m) == ["hi", "yo"]


KINDS = ["memory:", "snapshot:chats", "log:chats", "sqlite:chats.db"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_changes_undoes_and_replaces(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with AsyncSessionManager(kind) as m:
        for ref in ("a", "b", "c"):
            async with m.turn("k", ref) as turn:
                turn.add_message("user", ref)
        async with m.turn("k") as turn:
            assert await turn.edit(0, {"role": "user", "content": "a!"})
            assert (await turn.remove(1)).content == "b"
            await turn.set_metadata({"a": 1})
            await turn.set_summary("so far")
            turn.add_message("user", "d")
            assert [one["content"] for one in await turn.get_context()][1:] == ["a!", "c", "d"]
        assert turn.version == (await m.get("k")).version
        assert await texts(m) == ["a!", "c", "d"]
        assert [one.content for one in await m.undo("k", ref="u")] == ["d"]
        assert await m.undo("k", ref="u") == []
        async with m.turn("k", "e", replacing=LAST) as turn:
            assert [one.content for one in turn.replaced] == ["c"]
            turn.add_message("user", "c!")
        with pytest.raises(ConflictError):
            await m.set_history("k", [], expected=None)
        with pytest.raises(ConflictError):
            async with m.turn("k", expected=None):
                pass
        async with m.turn("k") as turn:
            assert await turn.truncate(1) == 1
            assert await turn.replace_history(turn.messages) == []
        assert await texts(m) == []
        assert await m.delete("k", expected=(await m.get("k")).version)


async def test_a_failed_turn_that_is_not_kept_is_taken_back(m):
    await m.close()
    store = FaultyStore(MemoryStore())
    async with AsyncSessionManager(store) as m:
        for _ in range(2):
            store.fail_next(OSError(28, "no space"))
            with pytest.raises(SaveFailedError):
                async with m.turn("k", "r", keep=False) as turn:
                    turn.add_message("user", "x")
            assert await m.get("k") is None
        async with m.turn("k", "r", keep=False) as turn:
            turn.add_message("user", "x")
        assert await texts(m) == ["x"]


async def test_undo_waits_for_the_answer_under_way(m):
    entered, left = anyio.Event(), anyio.Event()

    async def answer():
        async with m.turn("k", "r") as turn:
            turn.add_message("user", "x")
            entered.set()
            await left.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await entered.wait()
        with pytest.raises(TimeoutError):
            await m.undo("k", timeout=0)
        left.set()
        assert [one.content for one in await m.undo("k")] == ["x"]


@pytest.mark.parametrize("call", ["edit", "set_metadata", "get_context"])
async def test_a_cancelled_turn_changes_nothing(m, call):
    await m.add_message("k", "user", "a")
    with anyio.CancelScope() as scope:
        async with m.turn("k") as turn:
            await turn.set_metadata({"a": 1})
            scope.cancel()
            if call == "edit":
                await turn.edit(0, {"role": "user", "content": "b"})
            elif call == "set_metadata":
                await turn.set_metadata({"b": 2})
            else:
                await turn.get_context()
            await anyio.lowlevel.checkpoint()
    assert not turn.applied
    session = await m.get("k")
    assert (await texts(m), dict(session.metadata)) == (["a"], {})


async def test_a_turn_of_a_ref_alone_answers_it(m):
    async with m.turn("k", "tg:1"):
        pass
    async with m.turn("k", "tg:1") as turn:
        assert turn.done


@pytest.mark.parametrize("kind", ["memory:", "snapshot:chats", "log:chats", "sqlite:chats.db"])
@pytest.mark.parametrize("reset", ["clear", "delete"])
async def test_a_session_created_and_reset_during_a_turn_stays_reset(kind, reset, tmp_path, monkeypatch):
    """The turn began without a session, so without a generation to be bound to, and was written."""
    monkeypatch.chdir(tmp_path)
    async with AsyncSessionManager(kind) as manager:
        async with manager.turn("k", "r") as turn:
            turn.add_message("user", "late")
            await manager.add_message("k", "user", "seen")
            assert await getattr(manager, reset)("k") == 1
        assert not turn.applied
        assert not turn.done
        assert await texts(manager) == []
        async with manager.turn("k", "r") as turn:
            turn.add_message("user", "again")
            await manager.add_message("k", "user", "seen")
        assert turn.applied
        assert await texts(manager) == ["seen", "again"]


async def test_an_exception_writes_nothing(m):
    turn = m.turn("k")

    async def answer():
        async with turn:
            turn.add_message("user", "hi")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await answer()
    assert not turn.applied
    assert await m.get("k") is None


async def test_a_reset_meanwhile_is_respected(m):
    await m.add_message("k", "user", "old")
    async with m.turn("k") as turn:
        turn.add_message("user", "hi")
        await m.clear("k")
    assert not turn.applied
    assert await texts(m) == []


async def test_a_long_context_is_made_beside_the_loop(m):
    await m.add("k", *({"role": "user", "content": str(number)} for number in range(1000)))
    async with m.turn("k") as turn:
        turn.add_message("user", "hi")
        assert len(await turn.get_context()) == 1001


async def test_a_turn_is_used_inside_of_its_block_and_once(m):
    turn = m.turn("k")
    for use in (lambda: turn.add_message("user", "hi"), lambda: turn.add({"role": "user"})):
        with pytest.raises(RuntimeError, match="not open"):
            use()
    async with turn:
        with pytest.raises(InvalidMessageError):
            turn.add_message("user", b"x")
    for use in (lambda: turn.add_message("user", "hi"), lambda: turn.add({"role": "user"})):
        with pytest.raises(RuntimeError, match="not open"):
            use()
    with pytest.raises(RuntimeError, match="not open"):
        await turn.get_context()
    with pytest.raises(RuntimeError, match="one block"):
        async with turn:
            pass
    with pytest.raises(TypeError, match="timeout"):
        async with m.turn("k", timeout="1"):
            pass
    with pytest.raises(TypeError, match="max_waiting must be an int"):
        async with m.turn("k", max_waiting="1"):
            pass
    with pytest.raises(ValueError, match="max_waiting must be 0 or more, not -1"):
        async with m.turn("k", max_waiting=-1):
            pass


async def test_a_turn_that_was_not_entered_can_be_looked_at_and_entered_again(m):
    """As that of the sync manager: its key was missing where the timeout was to be logged, and trying again raised."""
    turn = m.turn("k", "tg:1", timeout=0)
    for _ in range(2):
        assert (turn.key, turn.ref, turn.done, turn.applied, turn.messages) == ("k", "tg:1", False, False, [])
        async with anyio.create_task_group() as tasks, m.turn("k"):
            tasks.start_soon(come_too_late, turn)
            await anyio.wait_all_tasks_blocked()
    async with turn:
        turn.add_message("user", "hi")
    assert turn.applied


async def come_too_late(turn):
    with pytest.raises(TimeoutError):
        async with turn:
            pass


async def test_a_turn_that_two_tasks_enter_is_the_first_ones(m):
    turn, entered, refused = m.turn("k"), [], []

    async def enter():
        try:
            async with turn:
                entered.append(True)
                await anyio.wait_all_tasks_blocked()
        except RuntimeError:
            refused.append(True)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(enter)
    assert (len(entered), len(refused)) == (1, 2)


async def test_nested_turns_of_one_session_raise(m):
    async with m.turn("k"), m.turn("other"):
        with pytest.raises(RuntimeError, match="this task has a turn of session 'k' already"):
            async with m.turn("k"):
                pass
    async with m.turn("k"):
        pass


# Waiting


async def test_turns_come_in_the_order_in_which_they_were_asked_for(m):
    order = []

    async def answer(number):
        async with m.turn("k") as turn:
            order.append(number)
            turn.add_message("user", str(number))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks, m.turn("k"):
        for number in range(20):
            tasks.start_soon(answer, number)
            await anyio.wait_all_tasks_blocked()
    assert order == list(range(20))
    assert await texts(m) == [str(number) for number in range(20)]


async def test_a_waiter_that_is_cancelled_lets_the_next_one_in(m):
    entered = []

    async def answer(number, scope):
        with scope:
            async with m.turn("k"):
                entered.append(number)

    scopes = [anyio.CancelScope() for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        async with m.turn("k"):
            for number, scope in enumerate(scopes):
                tasks.start_soon(answer, number, scope)
                await anyio.wait_all_tasks_blocked()
            scopes[0].cancel()
            scopes[2].cancel()
            await anyio.wait_all_tasks_blocked()
        await anyio.wait_all_tasks_blocked()
    assert entered == [1, 3, 4]


async def test_a_waiter_times_out_and_leaves_the_queue(m):
    async with anyio.create_task_group() as tasks:
        async with m.turn("k"):

            async def late(seconds):
                with pytest.raises(TimeoutError, match=f"another turn of session 'k' was open for {seconds} s"):
                    async with m.turn("k", timeout=seconds):
                        pass

            tasks.start_soon(late, 0.01)
            tasks.start_soon(late, 0)
            tasks.start_soon(late, -1)
            await anyio.sleep(0.05)
        with anyio.fail_after(5):
            async with m.turn("k", timeout=0):
                pass


async def test_a_flood_is_refused(m):
    answered = []

    async def answer():
        async with m.turn("k", max_waiting=3):
            answered.append(True)

    async with anyio.create_task_group() as tasks, m.turn("k", max_waiting=0):
        for _ in range(3):
            tasks.start_soon(answer)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(SessionBusyError, match="session 'k' is busy: 3 turns are waiting already") as caught:
            await answer()
        assert (caught.value.key, caught.value.waiting) == ("k", 3)
        async with m.turn("other", max_waiting=0):
            pass
    assert len(answered) == 3
    await answer()


async def test_a_waiter_notices_a_turn_that_was_dropped(m):
    turn = m.turn("k")
    await turn.__aenter__()
    del turn
    with anyio.fail_after(10):
        while not await entered(m):  # the thread that has worked for the turn lets go of it a moment later
            gc.collect()


async def entered(m):
    try:
        async with m.turn("k"):
            return True
    except RuntimeError:
        return False


async def test_a_long_wait_leaves_one_watcher(m, monkeypatch):
    """It left one a second."""
    monkeypatch.setattr(aio_turn, "PATIENCE", 0.001)
    looked = []

    async def wait():
        async with m.turn("k"):
            pass

    async with anyio.create_task_group() as tasks, m.turn("k") as turn:
        queue, looked_often = turn._turn._locks.claims.queue, anyio.Event()

        def look(_, *args):
            looked.append(True)
            if len(looked) == 10:
                looked_often.set()
            return queue(*args)

        monkeypatch.setattr(Claims, "queue", look)
        tasks.start_soon(wait)
        with anyio.fail_after(20):
            await looked_often.wait()
        assert len(turn._turn._claim._watchers) == 1


async def test_tasks_and_threads_queue_up_together():
    with SessionManager(MemoryStore()) as manager:
        async with AsyncSessionManager.wrap(manager) as m:
            entered = threading.Event()

            def answer():
                with manager.turn("k") as turn:
                    entered.set()
                    turn.add_message("user", "thread")

            async with anyio.create_task_group() as tasks, m.turn("k") as turn:
                tasks.start_soon(anyio.to_thread.run_sync, answer)
                await anyio.sleep(0.01)
                assert not entered.is_set()
                turn.add_message("user", "task")
            assert await texts(m) == ["task", "thread"]
            release = threading.Event()

            def hold():
                with manager.turn("k"):
                    entered.set()
                    release.wait(20)

            entered.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, hold)
                await anyio.to_thread.run_sync(entered.wait)
                with pytest.raises(TimeoutError):
                    async with m.turn("k", timeout=0.01):
                        pass
                with pytest.raises(RuntimeError, match="use AsyncSessionManager"), manager.turn("k"):
                    pass
                release.set()
                async with m.turn("k"):
                    pass


# Cancellation


async def test_a_cancelled_turn_applies_nothing_and_frees_the_lock(m):
    async with anyio.create_task_group() as tasks:

        async def answer():
            async with m.turn("k") as turn:
                turn.add_message("user", "hi")
                await anyio.sleep_forever()

        tasks.start_soon(answer)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert await m.get("k") is None
    async with m.turn("k", timeout=0):
        pass


async def test_a_turn_cancelled_at_the_end_of_its_block_applies_nothing(m):
    with anyio.CancelScope() as scope:
        async with m.turn("k") as turn:
            turn.add_message("user", "hi")
            scope.cancel()
    assert not turn.applied
    assert await m.get("k") is None
    async with m.turn("k", timeout=0):
        pass


async def test_a_cancellation_while_a_turn_is_written_waits_for_it():
    store = SlowStore()
    async with AsyncSessionManager(store) as m:
        turn = m.turn("k")

        async def answer():
            async with turn:
                turn.add_message("user", "hi")
                store.is_slow = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            assert await anyio.to_thread.run_sync(store.waiting.acquire, True, 20)
            tasks.cancel_scope.cancel()
            store.heal()
        assert turn.applied
        assert store.order == [("k", 1)]
        async with m.turn("k", timeout=0):
            pass


async def test_a_close_meanwhile_writes_nothing_of_an_open_turn(m):
    turn = m.turn("k")

    async def answer():
        async with turn:
            turn.add_message("user", "hi")
            await m.close()

    with pytest.raises(ClosedError):
        await answer()
    assert not turn.applied


# Many tasks


@pytest.mark.parametrize("scheme", ["memory", "log", "sqlite"])
async def test_200_tasks_on_20_sessions_with_random_cancellations(scheme, tmp_path, anyio_backend):
    """Nothing acknowledged is lost, nothing doubled, no task or thread left behind."""
    stores = {
        "memory": MemoryStore,
        "log": lambda: LogStore(tmp_path / "chats"),
        "sqlite": lambda: SQLiteStore(tmp_path / "chats.db"),
    }
    chance = random.Random(f"{scheme} {anyio_backend}")
    others, store = alive(), FaultyStore(stores[scheme]())
    store.delay = 0.001
    acknowledged, tried = {}, set()

    async def bot(m, number):
        for step in range(4):
            key, ref = f"chat:{chance.randrange(20)}", f"{number}:{step}"
            tried.add(ref)
            with anyio.move_on_after(chance.choice([0.0, 0.005, 0.02, 0.1, 5, 5, 5])):
                async with m.turn(key, ref, timeout=chance.choice([None, None, 0.05]), max_waiting=50) as turn:
                    turn.add_message("user", f"{ref} asks")
                    await anyio.sleep(chance.random() * 0.003)
                    turn.add_message("assistant", f"{ref} answers")
                acknowledged[ref] = key

    async def patient(m, number):
        with contextlib.suppress(TimeoutError, SessionBusyError):
            await bot(m, number)

    async with AsyncSessionManager(store) as m:
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(patient, m, number)
        store.heal()
        assert not (await m.health()).dirty
        histories = {key: await m.get_history(key) async for key in m}
    store.close()
    assert acknowledged
    assert len(acknowledged) < len(tried)
    said = {}
    for key, history in histories.items():
        assert problems(history) == []
        assert [message.role for message in history] == ["user", "assistant"] * (len(history) // 2)
        for asked, answered in zip(history[::2], history[1::2], strict=True):
            assert (asked.content, answered.content) == (f"{asked.turn} asks", f"{asked.turn} answers")
            assert asked.turn not in said
            said[asked.turn] = key
    assert acknowledged.items() <= said.items()
    assert said.keys() <= tried
    assert [thread for thread in alive() - others if thread.name.startswith("session-manager_")] == []
    if anyio_backend == "asyncio":
        assert len(asyncio.all_tasks()) <= 2
