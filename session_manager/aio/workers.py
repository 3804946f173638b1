"""Threads that work for an event loop of asyncio or trio.

A worker always finishes what it has begun. A task that is cancelled meanwhile gets its cancellation afterwards. asyncio's own
``task.cancel()`` ignores anyio's shields, so this module holds it back, and raises it afterwards.

A call in a thread sees the context variables of the task that made it. So a tracing system knows what an event belongs to.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel
import attrs

from session_manager.errors import ClosedError, WouldWaitError
from session_manager.resource import Resource
from session_manager.threads import at_once, beside_a_loop, call_soon, event_loop

__all__ = ["THREADS", "Signal", "Threads", "Workers", "in_a_thread_of_its_own", "to_the_end"]

R = TypeVar("R")

#: How many threads of a manager write, by default.
THREADS = 8
#: The largest number of threads for computations, which wait for each other anyway (the GIL).
_COMPUTING = 2

#: How many calls in a row keep an event loop for a millisecond or two.
_ROW = 100


class Signal(Resource):
    """An event for a task of the loop that runs here, set from any thread."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._call_soon = call_soon()

    def set(self) -> None:
        """Wake the waiting task. If the loop has ended, there is none."""
        with contextlib.suppress(RuntimeError):
            self._call_soon(self._event.set)

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()


class Threads(Resource):
    """A few threads, started when they are needed.

    Functions for one session run in order, one after another, so that a session takes one thread at a time.

    :param count: how many, at most.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="session-manager")
        #: The locks of the sessions that tasks call for, of each loop.
        self._by_loop: WeakKeyDictionary[Any, dict[str, anyio.Lock]] = WeakKeyDictionary()
        self._in_a_row = 0
        self._is_stopped = False

    async def soon(self, key: str, function: Callable[[], R]) -> R:
        """Call a function for a session: here, if it need not wait; else in a thread.

        Now and then other tasks are let in first: otherwise a row of quick calls would keep them out.

        :param function: if it has to wait, it does so before it has done anything.
        """
        self._in_a_row += 1
        if self._in_a_row >= _ROW:
            self._in_a_row = 0
            await anyio.lowlevel.checkpoint()
        try:
            return at_once(function)
        except WouldWaitError:
            pass
        return await self.run(function, key)

    async def run(self, function: Callable[[], R], key: str | None = None) -> R:
        """Call a function in a thread, and return what it returns.

        A task that was cancelled before does not call it. A task that is cancelled meanwhile waits for its end, and then gets its
        cancellation. If the function has raised an error, it is the cause.

        :param key: the session that it works for, if there is one.
        :raises ClosedError: after `stop`.
        """
        if key is None:
            return await self._run(function)
        locks = self._locks()
        lock = _lock_in(locks, key)
        try:
            async with lock:
                return await self._run(function)
        finally:
            _forget_free(locks, key, lock)

    async def run_for(self, keys: Sequence[str], function: Callable[[], R]) -> R:
        """Call a function that works for several sessions, behind the calls for each of them: see `run`.

        :param keys: the sessions, in the order in which to wait for them: sorted.
        """
        locks = self._locks()
        async with contextlib.AsyncExitStack() as stack:
            for key in keys:
                lock = _lock_in(locks, key)
                stack.callback(_forget_free, locks, key, lock)
                await stack.enter_async_context(lock)
            return await self._run(function)

    def _locks(self) -> dict[str, anyio.Lock]:
        """Return the locks of the sessions that the tasks of this loop call for."""
        loop = event_loop()
        locks = self._by_loop.get(loop)
        return self._by_loop.setdefault(loop, {}) if locks is None else locks

    async def _run(self, function: Callable[[], R]) -> R:
        await _not_cancelled()
        signal = Signal()
        try:
            future = self._pool.submit(copy_context().run, beside_a_loop, function)
        except RuntimeError as error:
            raise (ClosedError() if self._is_stopped else error) from None
        future.add_done_callback(lambda _: signal.set())
        await _ended(future, signal)
        return future.result()

    def stop(self, *, wait: bool) -> None:
        """Take no more calls.

        :param wait: return when the last call has ended, and its thread.
        """
        self._is_stopped = True
        self._pool.shutdown(wait=wait)


@attrs.define(eq=False)
class Workers(Resource):
    """The threads of a manager. Reads, writes and computations each have their own, and do not wait for each other."""

    #: How many write, at most; half as many read.
    count: int
    reading: Threads = attrs.field(init=False)
    writing: Threads = attrs.field(init=False)
    #: For work in RAM that would keep an event loop for too long.
    computing: Threads = attrs.field(factory=lambda: Threads(_COMPUTING))

    def __attrs_post_init__(self) -> None:
        self.reading, self.writing = Threads((self.count + 1) // 2), Threads(self.count)

    def stop(self, *, wait: bool) -> None:
        """Take no more calls: `Threads.stop`."""
        all_of_them = (self.reading, self.writing, self.computing)
        for threads in all_of_them:
            threads.stop(wait=False)
        for threads in all_of_them if wait else ():
            threads.stop(wait=True)


async def _ended(future: Future[R], signal: Signal) -> None:
    """Wait for the end of some work; raise a cancellation that came meanwhile."""
    cancelled: BaseException | None = None
    try:
        await signal.wait()
    except anyio.get_cancelled_exc_class() as error:
        cancelled = error
    if not future.done():
        with anyio.CancelScope(shield=True):
            while not future.done():
                try:
                    await signal.wait()
                except anyio.get_cancelled_exc_class() as error:
                    cancelled = error
    try:
        if cancelled is not None:
            raise cancelled
        await anyio.lowlevel.checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class() as error:
        raise error from future.exception()


async def _not_cancelled() -> None:
    """Raise a cancellation of this task that is due. Other tasks are not let in: a wait for a thread follows, which does that."""
    asyncio = sys.modules.get("asyncio")
    task = None if asyncio is None or asyncio._get_running_loop() is None else asyncio.current_task()
    if task is None or not hasattr(task, "cancelling") or task.cancelling():
        await anyio.lowlevel.checkpoint()
    else:
        await anyio.lowlevel.checkpoint_if_cancelled()


def _lock_in(locks: dict[str, anyio.Lock], key: str) -> anyio.Lock:
    lock = locks.get(key)
    if lock is None:
        lock = locks[key] = anyio.Lock(fast_acquire=True)
    return lock


def _forget_free(locks: dict[str, anyio.Lock], key: str, lock: anyio.Lock) -> None:
    """Forget the lock of a session, if no task holds it."""
    if not lock.locked():
        locks.pop(key, None)


async def in_a_thread_of_its_own(function: Callable[[], R]) -> R:
    """Call a function in a new thread, and return its result. A task that is cancelled meanwhile does not wait for the thread.

    The thread does not keep the interpreter from ending.
    """
    await anyio.lowlevel.checkpoint()
    signal = Signal()
    future: Future[R] = Future()
    _start(partial(_settle, future, function, signal), daemon=True)
    await signal.wait()
    return future.result()


async def to_the_end(function: Callable[[], R]) -> R:
    """Call a function in a new thread, and return its result. A task that is cancelled, before or meanwhile, waits for it.

    The interpreter waits for it as well. When the interpreter is ending, and starts no more threads, the function is called here.
    """
    signal = Signal()
    future: Future[R] = Future()
    call = partial(_settle, future, partial(beside_a_loop, function), signal)
    try:
        _start(call, daemon=False)
    except RuntimeError:
        call()
    await _ended(future, signal)
    return future.result()


def _start(call: Callable[[], object], *, daemon: bool) -> None:
    threading.Thread(target=copy_context().run, args=(call,), name="session-manager-call", daemon=daemon).start()


def _settle(future: Future[R], function: Callable[[], R], signal: Signal) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - whoever waits raises it
        future.set_exception(error)
    signal.set()
