"""A pool of threads, which are started when they are needed, and take calls from one queue."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakSet

from session_manager.aio.calls import Call
from session_manager.errors import ClosedError
from session_manager.resource import Resource

__all__ = ["Pool"]


class Pool(Resource):
    """A few threads. One that is free takes the next call, and wakes its task as the last thing.

    The interpreter waits for the calls at its end. A pool that is collected ends its threads.

    `concurrent.futures` has such a pool, whose futures and semaphores take longer than all of this (`python -m benchmarks hop`).

    :param count: how many threads, at most.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads: list[threading.Thread] = []
        #: The calls to make. `None` ends a thread.
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        #: Has an item for each thread that is free; more, if calls have waited for a thread.
        self._free: SimpleQueue[None] = SimpleQueue()
        self._is_stopped = False
        #: Held while a call is taken on, so that none comes after the end.
        self._lock = threading.Lock()
        _pools.add(self)

    def take(self, call: Call[Any]) -> None:
        """Make a call in a thread, soon.

        :raises ClosedError: after `stop`.
        :raises RuntimeError: if it needs a thread, and none can be started.
        """
        with self._lock:
            if self._is_stopped:
                raise ClosedError
            try:
                self._free.get_nowait()
            except Empty:
                if len(self._threads) < self._count:
                    self._start()
            self._calls.put(call)

    def _start(self) -> None:
        number, queues = len(self._threads), (self._calls, self._free)
        thread = threading.Thread(target=_work, args=queues, name=f"session-manager_{number}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self, *, wait: bool) -> None:
        """Take no more calls, and end the threads when they have made those that they have.

        :param wait: return when the last thread has ended.
        """
        with self._lock:
            self._is_stopped = True
            self._end_threads()
        for thread in self._threads if wait else ():
            thread.join()

    def _end_threads(self) -> None:
        for _ in self._threads:
            self._calls.put(None)

    def __del__(self) -> None:
        self._end_threads()


def _work(calls: SimpleQueue[Call[Any] | None], free: SimpleQueue[None]) -> None:
    """Make calls. A thread does not hold its pool, which can be collected."""
    while (call := calls.get()) is not None:
        call.make()
        free.put(None)
        call.tell()
        del call


#: The pools of this process.
_pools: WeakSet[Pool] = WeakSet()


def _stop_all() -> None:
    """Wait for all calls at the end of the interpreter."""
    for pool in list(_pools):
        pool.stop(wait=True)


def _after_in_child() -> None:
    """Free the locks of a forked child's pools, which have no threads there, and forget them."""
    for pool in list(_pools):
        pool._lock = threading.Lock()
    _pools.clear()


# As concurrent.futures does: before the handlers of atexit, which close the managers that are open.
_at_end = getattr(threading, "_register_atexit", atexit.register)
with contextlib.suppress(RuntimeError):  # the interpreter is ending already
    _at_end(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
