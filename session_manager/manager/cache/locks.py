"""The locks of a manager: one lock for everything in RAM, and one lock for each session key in use.

Order: take a key's lock before the lock of what is in RAM. Take the locks of several keys in the order of the keys.

An interrupt (Ctrl-C) may arrive between any two bytecodes. So both classes hand out a lock of the C library, and the
caller holds it by ``with`` in its own frame: C code takes and releases it in one step, where a Python ``__enter__``
could be interrupted and leave it locked. The lock itself knows its owner, and nothing else can be left behind.
Nor does such a block have a comprehension: Python 3.12 and 3.13 leave a block without its ``__exit__`` if they are
interrupted where a comprehension jumps back to its next item (see ``tests/test_interrupts.py``).
A caller that changes what is in RAM ends in one assignment.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

import msgspec

from session_manager.errors import ForkedError, ReentrantCallError
from session_manager.frozen import Part
from session_manager.resource import Resource
from session_manager.threads import is_mine

__all__ = ["KeyedLocks", "RamLock", "holding"]

T = TypeVar("T")

_SWEEP = 16
#: How many locks a level of the interpreter's stack takes, which has a thousand levels.
_AT_ONCE = 8

_Reference: TypeAlias = "weakref.ref[threading.RLock]"


def _is_used(item: tuple[str, _Reference]) -> bool:
    return item[1]() is not None


class RamLock(Resource, Part):
    """The lock of everything in RAM. Hold it for microseconds: no I/O, no callbacks, no logging."""

    #: The C lock, for ``with``, in a call that has taken it before by `checked`.
    unchecked: threading.RLock = msgspec.field(default_factory=threading.RLock)
    _pid: int = msgspec.field(default_factory=os.getpid)

    def check_process(self) -> None:
        """Raise in a child that was forked off, where another thread's lock would never be released.

        :raises ForkedError: in another process than the one that made the lock.
        """
        if os.getpid() != self._pid:
            raise ForkedError

    @property
    def is_of_this_process(self) -> bool:
        """Whether this is the process that made it."""
        return os.getpid() == self._pid

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds it."""
        return is_mine(self.unchecked)

    @property
    def checked(self) -> threading.RLock:
        """The C lock, for ``with``, after a check that this thread may take it.

        :raises ForkedError: as `check_process` does.
        :raises ReentrantCallError: if this thread holds it already: a signal handler or finalizer called in the middle
            of another call.
        """
        if os.getpid() != self._pid:
            raise ForkedError
        if self.unchecked._is_owned():  # type: ignore[attr-defined]
            raise ReentrantCallError
        return self.unchecked


class _Thread(threading.local, Resource):
    """What one thread was given: a thread asks for a lock before it takes it, so it holds no other."""

    def __init__(self) -> None:
        self.given: set[_Reference] = set()
        #: Keeps the lock that it was given last: a thread that saves one session over and over makes one lock for that.
        self.last: threading.RLock | None = None


class KeyedLocks(Resource, Part):
    """A lock for each key, which exists while a thread uses it, or has used none since. Not re-entrant.

    :param lock: protects the table of the locks.
    """

    _lock: RamLock
    #: References without callbacks: an interrupt inside of a callback would be swallowed. The dead ones are swept.
    _locks: dict[str, _Reference] = msgspec.field(default_factory=dict)
    _sweep_at: int = _SWEEP
    _thread: _Thread = msgspec.field(default_factory=_Thread)

    def lock_of(self, key: str) -> threading.RLock:
        """Return the C lock of one key, for ``with``: as `locks_of`, and quicker.

        :raises ForkedError: as `RamLock.check_process` does.
        :raises ReentrantCallError: as `locks_of` does.
        """
        with self._lock.checked:
            self.require_none()
            return self.given(key)

    def locks_of(self, keys: Iterable[str]) -> list[threading.RLock]:
        """Return the C locks of some keys, each once, for ``with``, in the order in which to take them.

        Once you hold them, check that the manager is still open.

        :raises ForkedError: as `RamLock.check_process` does.
        :raises ReentrantCallError: if this thread holds the lock of any key: a thread that waits for a second one could
            wait for a thread that waits for the first.
        """
        with self._lock.checked:
            self.require_none()
            return [self.given(key) for key in sorted(set(keys))]

    def check_none_is_mine(self) -> None:
        """Raise `ReentrantCallError` if this thread holds the lock of any key, as `locks_of` would."""
        with self._lock.checked:
            self.require_none()

    def require_none(self) -> None:
        """Raise as `check_none_is_mine` does. Requires the lock of the table.

        It looks at the locks that this thread was given, and that are still in use, and forgets the others.
        """
        thread = self._thread
        for reference in thread.given:
            lock = reference()
            if lock is not None and lock._is_owned():  # type: ignore[attr-defined]
                raise ReentrantCallError
        if len(thread.given) > 1:
            thread.given = {reference for reference in thread.given if reference() is not None}

    def given(self, key: str) -> threading.RLock:
        """Give this thread the lock of a key, and return it. Requires the lock of the table, and `require_none`."""
        reference = self._locks.get(key)
        lock = None if reference is None else reference()
        if reference is None or lock is None:
            lock = threading.RLock()
            reference = self._locks[key] = weakref.ref(lock)
            if len(self._locks) > self._sweep_at:
                self._sweep()
        thread = self._thread
        thread.given.add(reference)
        thread.last = lock
        return lock

    def _sweep(self) -> None:
        """Forget the locks that no thread uses."""
        self._locks = dict(filter(_is_used, self._locks.items()))
        self._sweep_at = 2 * len(self._locks) + _SWEEP

    def drain(self) -> None:
        """Wait for every thread that holds a lock. A thread that gets one later must find the manager closed.

        :raises ReentrantCallError: if this thread holds one.
        """
        with self._lock.checked:
            keys = list(self._locks)
        for key in keys:
            with self.lock_of(key):
                pass


def holding(locks: Sequence[threading.RLock], step: Callable[[], T]) -> T:
    """Take locks in their order, up to eight in each call of itself, and call a function while this thread holds them.

    A deeper stack is slow: where it outgrows a piece of memory, CPython takes one and gives it back at each call of any function.
    """
    if len(locks) >= _AT_ONCE:
        a, b, c, d, e, f, g, h = locks[:_AT_ONCE]
        with a, b, c, d, e, f, g, h:
            return holding(locks[_AT_ONCE:], step)
    if locks:
        with locks[0]:
            return holding(locks[1:], step)
    return step()
