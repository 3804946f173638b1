"""A call in a thread, and the task of asyncio or trio that waits for it.

A thread always finishes what it has begun. A task that is cancelled meanwhile gets its cancellation afterwards. asyncio's own
``task.cancel()`` ignores anyio's shields, so this module holds it back, and raises it afterwards.

A call in a thread sees the context variables of the task that made it. So a tracing system knows what an event belongs to.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from session_manager.resource import Resource
from session_manager.threads import beside_a_loop, event_loop

__all__ = ["Call", "Signal", "in_a_thread_of_its_own", "may_be_cancelled", "signal", "to_the_end"]

R = TypeVar("R")


class Signal(Resource):
    """An event for one task, set from any thread: see `signal`.

    :param loop: the loop of the task: its token, in trio.
    """

    def __init__(self, loop: Any) -> None:
        self._loop, self._event = loop, anyio.Event()

    def set(self) -> None:
        """Wake the waiting task. If the loop has ended, there is none."""
        with contextlib.suppress(RuntimeError):
            self._loop.run_sync_soon(self._event.set)

    def wait(self) -> Awaitable[None]:
        """Return what to await until it is set. After a cancellation the task may wait again."""
        return self._event.wait()


class _AsyncioSignal(Signal):
    """A signal by one future, which takes half as long as an event."""

    def __init__(self, loop: Any) -> None:
        self._loop, self._is_set = loop, False
        #: The future of the task that waits.
        self._future: Any = None

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        self._is_set = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[None]:
        self._future = future = self._loop.create_future()
        if self._is_set:
            future.set_result(None)
        return future  # type: ignore[no-any-return]


def signal() -> Signal:
    """Return a signal for this task."""
    loop = event_loop()
    return _AsyncioSignal(loop) if hasattr(loop, "create_future") else Signal(loop)


class Call(Resource, Generic[R]):
    """A function that a thread calls for this task. Make it in the task, which waits for it by `ended`."""

    _result: R

    def __init__(self, function: Callable[[], R]) -> None:
        self._function, self._context = function, copy_context()
        self.signal = signal()
        self._error: BaseException | None = None
        self._is_made = False

    def make(self) -> None:
        """Call the function, in a thread, and wake the task."""
        try:
            self._result = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001 - the task raises it
            self._error = error
        self._is_made = True
        self.signal.set()
        del self  # the error holds this frame

    async def ended(self) -> R:
        """Wait for the end, and return what the function returns; raise a cancellation that came meanwhile.

        If the function has raised an error, it is the cause of the cancellation.
        """
        try:
            await self.signal.wait()
        except anyio.get_cancelled_exc_class() as error:
            raise await self._ended_after(error) from self._error
        return self.result()

    async def _ended_after(self, cancelled: BaseException) -> BaseException:
        """Wait for the end after a cancellation; return the last one."""
        with anyio.CancelScope(shield=True):
            while not self._is_made:
                try:
                    await self.signal.wait()
                except anyio.get_cancelled_exc_class() as error:
                    cancelled = error
        return cancelled

    def result(self) -> R:
        """Return what the function has returned, or raise its error."""
        if self._error is None:
            return self._result
        error, self._error = self._error, None  # which holds the frames that hold this call
        try:
            raise error
        finally:
            del error


def may_be_cancelled() -> bool:
    """Say whether this task may have a cancellation that is due: then a checkpoint raises it."""
    asyncio = sys.modules.get("asyncio")
    task = None if asyncio is None or asyncio._get_running_loop() is None else asyncio.current_task()
    if task is not None and (not hasattr(task, "cancelling") or task.cancelling()):  # Python 3.10 does not tell
        return True
    return anyio.current_effective_deadline() == -math.inf


async def in_a_thread_of_its_own(function: Callable[[], R]) -> R:
    """Call a function in a new thread, and return its result. A task that is cancelled meanwhile does not wait for the thread.

    The thread does not keep the interpreter from ending.
    """
    await anyio.lowlevel.checkpoint()
    call = Call(function)
    _start(call, daemon=True)
    await call.signal.wait()
    return call.result()


async def to_the_end(function: Callable[[], R]) -> R:
    """Call a function in a new thread, and return its result. A task that is cancelled, before or meanwhile, waits for it.

    The interpreter waits for it as well. When the interpreter is ending, and starts no more threads, the function is called here.
    """
    call = Call(partial(beside_a_loop, function))
    try:
        _start(call, daemon=False)
    except RuntimeError:
        call.make()
    return await call.ended()


def _start(call: Call[Any], *, daemon: bool) -> None:
    threading.Thread(target=call.make, name="session-manager-call", daemon=daemon).start()
