"""The two kinds of lock of a manager: one guard for what is in RAM, and one lock for each key in use.

Order: keyed locks before the guard; several keyed locks in the order of their keys.

An interrupt (Ctrl-C) may arrive between any two bytecodes. So both are held by ``with`` on a lock of
the C library, which takes and releases in one step, and what is done under the guard ends in one assignment.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

import attrs

from session_manager.errors import ForkedError, ReentrantCallError

__all__ = ["Guard", "KeyedLocks"]

P = ParamSpec("P")
R = TypeVar("R")


@attrs.define(eq=False)
class Guard:
    """Runs functions one at a time. They take microseconds: no I/O, no callbacks, no logging."""

    _lock: threading.RLock = attrs.field(factory=threading.RLock)
    _pid: int = attrs.field(factory=os.getpid)
    _busy: bool = False

    def check_process(self) -> None:
        """Raise in a child that was forked off, where another thread's lock would never be released.

        :raises ForkedError: in another process than the one that made the guard.
        """
        if not self.is_mine:
            raise ForkedError

    @property
    def is_mine(self) -> bool:
        """Whether this is the process that made it."""
        return os.getpid() == self._pid

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function under the lock.

        :raises ForkedError: as `check_process` does.
        :raises ReentrantCallError: if this thread is in such a function already: a signal handler
            or finalizer called in the middle of it.
        """
        self.check_process()
        with self._lock:
            if self._busy:
                raise ReentrantCallError
            self._busy = True
            try:
                return function(*args, **kwargs)
            finally:
                self._busy = False


@attrs.define(eq=False)
class _Slot:
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    #: How many threads hold it or wait for it.
    users: int = 0
    owner: int | None = None


@attrs.define(eq=False)
class KeyedLocks:
    """A lock for each key, there while somebody uses it. Not re-entrant.

    :param guard: protects the bookkeeping.
    """

    _guard: Guard
    _slots: dict[str, _Slot] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def hold(self, key: str, check: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock of a key for a block.

        :param check: called under the guard before the lock is asked for; what it raises comes out.
        :raises ReentrantCallError: if this thread holds it already.
        """
        slot = self._guard.run(self._check_out, key, check)
        try:
            with slot.lock:
                slot.owner = threading.get_ident()
                try:
                    yield
                finally:
                    slot.owner = None
        finally:
            self._check_in(key, slot)

    @contextlib.contextmanager
    def hold_all(self, keys: Iterable[str], check: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the locks of several keys for a block."""
        with contextlib.ExitStack() as stack:
            for key in sorted(set(keys)):
                stack.enter_context(self.hold(key, check))
            yield

    def drain(self) -> None:
        """Wait until nobody holds or waits for a lock. Nobody may ask for one meanwhile.

        :raises ReentrantCallError: if this thread holds one.
        """
        while keys := self._guard.run(lambda: list(self._slots)):
            with self.hold_all(keys):
                pass

    def _check_out(self, key: str, check: Callable[[], None] | None) -> _Slot:
        if check is not None:
            check()
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot()
        elif slot.owner == threading.get_ident():
            raise ReentrantCallError
        slot.users += 1
        return slot

    def _check_in(self, key: str, slot: _Slot) -> None:
        def forget() -> None:
            slot.users -= 1
            if not slot.users:
                del self._slots[key]

        self._guard.run(forget)
