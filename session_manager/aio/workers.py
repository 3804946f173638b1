"""Threads that work for the event loops of a manager. One call at a time works for a session."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel
import attrs

from session_manager.aio.calls import Call, may_be_cancelled
from session_manager.errors import ClosedError, WouldWaitError
from session_manager.resource import Resource
from session_manager.threads import at_once, beside_a_loop, event_loop

__all__ = ["THREADS", "Threads", "Workers"]

R = TypeVar("R")

#: How many threads of a manager write, by default.
THREADS = 8
#: The largest number of threads for computations, which wait for each other anyway (the GIL).
_COMPUTING = 2

#: How many calls in a row keep an event loop for a millisecond or two.
_ROW = 100

#: The sessions that tasks of one loop call for. To each, the tasks that wait for its call to end, in order.
_Queues = dict[str, deque[anyio.Event]]


class Threads(Resource):
    """A few threads, started when they are needed.

    Functions for one session run in order, one after another, so that a session takes one thread at a time.

    :param count: how many, at most.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="session-manager")
        self._is_stopped = False
        #: The queues of each loop.
        self._by_loop: WeakKeyDictionary[Any, _Queues] = WeakKeyDictionary()
        self._in_a_row = 0

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
        queues = self._queues()
        await _first_in_line(queues, key)
        try:
            return await self._run(function)
        finally:
            _leave(queues, key)

    async def run_for(self, keys: Sequence[str], function: Callable[[], R]) -> R:
        """Call a function that works for several sessions, behind the calls for each of them: see `run`.

        :param keys: the sessions, in the order in which to wait for them: sorted.
        """
        queues = self._queues()
        with contextlib.ExitStack() as stack:
            for key in keys:
                await _first_in_line(queues, key)
                stack.callback(_leave, queues, key)
            return await self._run(function)

    def _queues(self) -> _Queues:
        """Return the queues of this loop."""
        loop = event_loop()
        queues = self._by_loop.get(loop)
        return self._by_loop.setdefault(loop, {}) if queues is None else queues

    async def _run(self, function: Callable[[], R]) -> R:
        if may_be_cancelled():
            await anyio.lowlevel.checkpoint()
        call = Call(partial(beside_a_loop, function))
        try:
            self._pool.submit(call.make)
        except RuntimeError as error:
            raise (ClosedError() if self._is_stopped else error) from None
        return await call.ended()

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


async def _first_in_line(queues: _Queues, key: str) -> None:
    """Wait until the calls for a session that came before have ended. `_leave` lets the next one in.

    `anyio.Lock` does the same, and takes longer where no other task waits (`python -m benchmarks hop`).
    """
    queue = queues.get(key)
    if queue is None:
        queues[key] = deque()
        return
    event = anyio.Event()
    queue.append(event)
    try:
        await event.wait()
    except BaseException:
        if event.is_set():
            _leave(queues, key)
        else:
            queue.remove(event)
        raise


def _leave(queues: _Queues, key: str) -> None:
    queue = queues[key]
    if queue:
        queue.popleft().set()
    else:
        del queues[key]
