"""`Call`: a call in a thread and its task; the interpreter waits for the calls that it has taken on."""

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
from session_manager.aio.workers import Threads

pytestmark = pytest.mark.anyio
DEADLINE = 20


async def test_stopped_threads_make_the_calls_that_they_have_and_take_no_more():
    threads, going_on, said = Threads(1), threading.Event(), []
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(threads.run, lambda number=number: going_on.wait(DEADLINE) and said.append(number))
        await anyio.wait_all_tasks_blocked()
        threads.stop(wait=False)
        with pytest.raises(ClosedError):
            await threads.run(int)
        going_on.set()
    threads.stop(wait=True)
    assert sorted(said) == [0, 1, 2, 3]


async def test_an_error_is_raised_in_the_task_and_goes_without_the_collector():
    kept = []

    class MyError(BaseException):
        def __init__(self):
            kept.append(weakref.ref(self))

    def fail():
        raise MyError

    threads = Threads(1)
    gc.disable()
    try:
        try:
            await threads.run(fail)
        except MyError:
            assert kept
        threads.stop(wait=True)
        assert kept[0]() is None
    finally:
        gc.enable()


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
