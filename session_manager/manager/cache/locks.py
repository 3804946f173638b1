"""The locks of a manager: one guard for what is in RAM, and one lock for each key in use.

Order: keyed locks before the guard; several keyed locks in the order of their keys, all at once.

An interrupt (Ctrl-C) may arrive between any two bytecodes. So a lock is held by ``with``, on a lock of the C
library that takes and releases in one step, in the frame that calls the function; who holds it is asked of the
lock itself; and there is no other state to be left behind. What is done under the guard ends in one assignment.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import attrs

from session_manager.errors import ForkedError, ReentrantCallError
from session_manager.resource import Resource
from session_manager.threads import is_mine

__all__ = ["Guard", "KeyedLocks", "nothing"]

_SWEEP = 16

P = ParamSpec("P")
R = TypeVar("R")


@attrs.define(eq=False, repr=False)
class Guard(Resource):
    """Runs functions one at a time. They take microseconds: no I/O, no callbacks, no logging."""

    _lock: threading.RLock = attrs.field(factory=threading.RLock)
    _pid: int = attrs.field(factory=os.getpid)

    def check_process(self) -> None:
        """Raise in a child that was forked off, where another thread's lock would never be released.

        :raises ForkedError: in another process than the one that made the guard.
        """
        if not self.is_of_this_process:
            raise ForkedError

    @property
    def is_of_this_process(self) -> bool:
        """Whether this is the process that made it."""
        return os.getpid() == self._pid

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function under the lock.

        :raises ForkedError: as `check_process` does.
        :raises ReentrantCallError: if this thread is in such a function already: a signal handler
            or finalizer called in the middle of it.
        """
        if os.getpid() != self._pid:
            raise ForkedError
        if self._lock._is_owned():  # type: ignore[attr-defined]
            raise ReentrantCallError
        with self._lock:
            return function(*args, **kwargs)


@attrs.define(eq=False, repr=False)
class KeyedLocks(Resource):
    """A lock for each key, there while somebody uses it. Not re-entrant.

    :param guard: protects the table of the locks.
    """

    _guard: Guard
    #: References without callbacks: an interrupt inside of a callback would be swallowed. The dead ones are swept.
    _locks: dict[str, weakref.ref[threading.RLock]] = attrs.field(factory=dict)
    _sweep_at: int = _SWEEP

    def run(self, keys: Iterable[str], check: Callable[[], None], function: Callable[[], R]) -> R:
        """Call a function while holding the locks of some keys.

        :param check: called when the locks are held, before the function; what it raises comes out.
        :raises ReentrantCallError: if this thread holds a lock already, of whatever key: waiting for a second
            one might be waiting for somebody who waits for the first.
        """
        return _nested(self._guard.run(self._check_out, sorted(set(keys))), check, function)

    def check_none_is_mine(self) -> None:
        """Raise `ReentrantCallError` if this thread holds a lock, of whatever key: `run` would."""
        self._guard.run(self._check_out, [])

    def drain(self) -> None:
        """Wait for whoever holds a lock. The checks of those who get one later must refuse them.

        :raises ReentrantCallError: if this thread holds one.
        """
        for key in self._guard.run(list, self._locks):
            self.run([key], nothing, nothing)

    def _check_out(self, keys: list[str]) -> list[threading.RLock]:
        there = [lock for reference in self._locks.values() if (lock := reference()) is not None]
        if any(map(is_mine, there)):
            raise ReentrantCallError
        locks = []
        for key in keys:
            reference = self._locks.get(key)
            lock = None if reference is None else reference()
            if lock is None:
                lock = threading.RLock()
                self._locks[key] = weakref.ref(lock)
            locks.append(lock)
        if len(self._locks) > self._sweep_at:
            self._locks = {key: reference for key, reference in self._locks.items() if reference() is not None}
            self._sweep_at = 2 * len(self._locks) + _SWEEP
        return locks


def _nested(locks: list[threading.RLock], check: Callable[[], None], function: Callable[[], R]) -> R:
    if not locks:
        check()
        return function()
    with locks[0]:
        return _nested(locks[1:], check, function)


def nothing() -> None:
    """Do nothing: a check that always passes."""
