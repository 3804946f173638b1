"""`Pool`: its threads are started when they are needed, make all calls that were taken on, and end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref

import anyio
import pytest

from session_manager import ClosedError
from session_manager.aio.calls import Call
from session_manager.aio.pool import Pool

pytestmark = pytest.mark.anyio
DEADLINE = 20


async def made(pool, function):
    call = Call(function)
    pool.take(call)
    return await call.ended()


async def test_calls_one_after_the_other_take_one_thread():
    """A thread is free before its task is told, so that the next call finds it."""
    pool = Pool(8)
    threads = {await made(pool, threading.get_ident) for _ in range(200)}
    assert len(threads) == len(pool._threads) == 1
    pool.stop(wait=True)


async def test_calls_wait_for_a_thread_when_all_of_them_are_busy():
    pool, going_on = Pool(2), threading.Event()
    calls = [Call(lambda number=number: going_on.wait(DEADLINE) and number) for number in range(6)]
    for call in calls:
        pool.take(call)
    assert len(pool._threads) == 2
    going_on.set()
    assert [await call.ended() for call in calls] == list(range(6))
    pool.stop(wait=True)


async def test_a_stopped_pool_makes_the_calls_that_it_has_and_takes_no_more():
    pool, going_on, said = Pool(1), threading.Event(), []
    calls = [Call(lambda: going_on.wait(DEADLINE)), *(Call(lambda n=n: said.append(n)) for n in range(3))]
    for call in calls:
        pool.take(call)
    pool.stop(wait=False)
    with pytest.raises(ClosedError):
        pool.take(Call(int))
    going_on.set()
    pool.stop(wait=True)
    assert said == [0, 1, 2]
    assert not any(thread.is_alive() for thread in pool._threads)
    with anyio.fail_after(DEADLINE):
        for call in calls:
            await call.ended()


async def test_a_pool_that_is_collected_ends_its_threads():
    pool = Pool(2)
    await made(pool, int)
    (thread,) = pool._threads
    del pool
    thread.join(DEADLINE)
    assert not thread.is_alive()


async def test_an_error_is_raised_in_the_task_and_goes_without_the_collector():
    kept = []

    class MyError(BaseException):
        def __init__(self):
            kept.append(weakref.ref(self))

    def fail():
        raise MyError

    pool = Pool(1)
    gc.disable()
    try:
        try:
            await made(pool, fail)
        except MyError:
            assert kept
        assert await made(pool, lambda: 7) == 7  # the thread has let go of the call before
        assert kept[0]() is None
    finally:
        gc.enable()
    pool.stop(wait=True)


def test_a_child_may_stop_a_pool_whose_lock_another_thread_had():
    pool = Pool(1)
    anyio.run(made, pool, int)
    with pool._lock:
        child = os.fork()
        if not child:
            pool.stop(wait=True)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pool.stop(wait=True)


_ABANDONED = """
import asyncio, atexit, threading
from session_manager import AsyncSessionManager
from session_manager.stores.memory import MemoryStore

class Store(MemoryStore):
    def write(self, commit):
        begun.set()
        is_ending.wait(30)
        super().write(commit)
        print("written", flush=True)

async def main():
    await m.add_message("k", "user", "hi")
    return loop.create_task(m.save("k"))

begun, is_ending = threading.Event(), threading.Event()
loop, m = asyncio.new_event_loop(), AsyncSessionManager(Store())
task = loop.run_until_complete(main())
while not begun.is_set():
    loop.run_until_complete(asyncio.sleep(0))
getattr(threading, "_register_atexit", atexit.register)(is_ending.set)
"""


def test_the_interpreter_waits_for_a_save_whose_loop_has_stopped():
    ended = subprocess.run(
        [sys.executable, "-c", _ABANDONED], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )
    assert ended.stdout == "written\n"
