"""Threads beside an event loop: calls that must not wait in the loop's thread, and threads that let the loop in.

* The thread of a loop calls `at_once`. A call that would have to wait, for a disk or for another thread that uses it,
  raises `WouldWaitError` before it has done anything. The caller then repeats it in a thread that may wait.
* A thread that works for a loop calls `beside_a_loop`. Its long computations `give_way` often, and split long calls into
  `pieces`. Otherwise Python lets the loop wait for 5 ms (`sys.getswitchinterval`), or until C code returns.

Neither asyncio nor trio is imported here: a program that runs a loop has imported it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

from session_manager.errors import WouldWaitError

__all__ = [
    "at_leisure",
    "at_once",
    "beside_a_loop",
    "check_may_wait",
    "event_loop",
    "give_way",
    "gives_way",
    "giving_way",
    "in_event_loop",
    "is_mine",
    "pieces",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: How many seconds a thread sleeps to let a loop in: long enough for the other thread to wake up.
_BREATH = 0.0001
#: How many seconds a thread may compute before it lets a loop in, and how many items it may look at before it asks.
_STINT, _ITEMS = 0.0005, 16


class _Thread(threading.local):
    may_wait = True
    is_beside_a_loop = False
    #: When it has to give way.
    due = 0.0


_thread = _Thread()


def at_once(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that must not wait.

    :raises WouldWaitError: if it would have to.
    """
    before, _thread.may_wait = _thread.may_wait, False
    try:
        return function(*args, **kwargs)
    finally:
        _thread.may_wait = before


def at_leisure(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function of the program, which may wait, also inside of a call that must not."""
    before, _thread.may_wait = _thread.may_wait, True
    try:
        return function(*args, **kwargs)
    finally:
        _thread.may_wait = before


def check_may_wait() -> None:
    """Raise `WouldWaitError` in a function called by `at_once`."""
    if not _thread.may_wait:
        raise WouldWaitError


def beside_a_loop(function: Callable[[], R]) -> R:
    """Call a function for an event loop, which runs in another thread."""
    _thread.is_beside_a_loop = True
    try:
        return function()
    finally:
        _thread.is_beside_a_loop = False


def give_way() -> None:
    """Let the loop in that this thread works for, if it does, and has not just done so."""
    if _thread.is_beside_a_loop and time.perf_counter() >= _thread.due:
        time.sleep(_BREATH)
        _thread.due = time.perf_counter() + _STINT


def gives_way() -> bool:
    """Say whether this thread works for a loop."""
    return _thread.is_beside_a_loop


def giving_way(items: Iterable[T]) -> Iterable[T]:
    """Return items in an iterable that gives way now and then."""
    return _giving_way(items) if _thread.is_beside_a_loop else items


def _giving_way(items: Iterable[T]) -> Iterator[T]:
    for number, item in enumerate(items, 1):
        yield item
        if number % _ITEMS == 0:
            give_way()


def pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield items in slices of a size, and give way between them.

    In a thread that works for no loop, they are one slice.
    """
    if not _thread.is_beside_a_loop:
        yield items
        return
    for start in range(0, len(items), size):
        yield items[start : start + size]
        give_way()


def in_event_loop() -> bool:
    """Say whether this thread runs an event loop of asyncio or trio."""
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return (running is not None and running() is not None) or _in_trio()


def event_loop() -> Any:
    """Return the event loop of this thread: asyncio's loop, or trio's token of it. There must be one."""
    if _in_trio():
        return sys.modules["trio.lowlevel"].current_trio_token()
    return sys.modules["asyncio"].get_running_loop()


def _in_trio() -> bool:
    current = getattr(sys.modules.get("trio.lowlevel"), "current_trio_token", None)
    if current is None:  # not imported, or not yet
        return False
    try:
        current()
    except RuntimeError:
        return False
    return True


def is_mine(lock: Any) -> bool:
    """Say whether this thread holds an `threading.RLock` (as `threading.Condition` asks it)."""
    owned: bool = lock._is_owned()
    return owned
