"""Fair locks on keys, which a caller holds for minutes: claims in a queue.

A claim counts until its caller gives it back, or until no reference to it is left.
So a thread that is interrupted, at any point, leaves no claim behind.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import msgspec

from session_manager.errors import SessionBusyError
from session_manager.frozen import Part
from session_manager.manager.cache.locks import RamLock
from session_manager.model.fence import Fence
from session_manager.resource import Resource

__all__ = ["PATIENCE", "Claim", "Claims"]

_SWEEP = 16
#: After so many seconds a waiting thread looks whether the claim before it was dropped without being given back.
PATIENCE = 1.0


class Claim(Resource, Part):
    """A place in the queue for a key."""

    #: The thread or task that claims: by default the thread's id.
    owner: object = msgspec.field(default_factory=threading.get_ident)
    #: Whether it was given back.
    is_over: bool = False
    #: Whether it is the first one, and waits for a lease that another process has.
    is_polling: bool = False
    #: The fence of the lease that is held for it.
    fence: Fence | None = None
    #: Made for the first thread that waits: most turns wait for none.
    _over: threading.Event | None = None
    _watchers: list[Callable[[], object]] = msgspec.field(default_factory=list)

    def give_back(self) -> None:
        """Let go of the key; idempotent."""
        self.is_over = True  # an interrupt from here on only delays the threads that wait
        while self._watchers:
            try:
                watcher = self._watchers.pop()
            except IndexError:  # another thread may be giving it back, too
                return
            watcher()

    def over(self) -> threading.Event:
        """Return an event that is set when the claim is given back; of a claim that was dropped, never."""
        if self._over is None:  # two threads may each make one: both are set
            event = threading.Event()
            self.watch(event.set)
            self._over = event
        return self._over

    def watch(self, watcher: Callable[[], object]) -> None:
        """Have a function called, in whatever thread, once it is given back; if it was, at once."""
        self._watchers.append(watcher)
        if self.is_over:
            self.give_back()


class Claims(Resource, Part):
    """Queues of claims, one for each key, in the order of arrival: the first claim holds the key.

    :param lock: protects the table of the queues.
    """

    _lock: RamLock
    _queues: dict[str, list[weakref.ref[Claim]]] = msgspec.field(default_factory=dict)
    _sweep_at: int = _SWEEP

    def queue(self, key: str, claim: Claim, max_waiting: int | None = None) -> Claim | None:
        """Queue a claim up, unless it is in the queue already.

        :param max_waiting: how many claims may wait before it; `None`: any number.
        :returns: the claim before it; `None`: it holds the key now.
        :raises SessionBusyError: if more are waiting; the claim is not queued.
        """
        with self._lock.checked:
            return self._queue(key, claim, max_waiting)

    def _queue(self, key: str, claim: Claim, max_waiting: int | None) -> Claim | None:
        """Queue a claim up. Requires the lock, which is not taken here: no loop may stand in its block (see `RamLock`)."""
        first: Claim | None = None
        before: Claim | None = None
        alive: list[weakref.ref[Claim]] = []
        for reference in self._queues.get(key, ()):
            one = reference()
            if one is claim:
                return before
            if one is not None and not one.is_over:
                before = one
                first = first or one
                alive.append(reference)
        ahead = len(alive) + (first is not None and first.is_polling)
        if max_waiting is not None and ahead > max_waiting:
            raise SessionBusyError(key, ahead - 1)
        self._queues[key] = [*alive, weakref.ref(claim)]
        if len(self._queues) > self._sweep_at:
            self._queues = {one: queue for one, queue in self._queues.items() if self._alive(one)}
            self._sweep_at = 2 * len(self._queues) + _SWEEP
        return before

    def is_claimed(self, key: str) -> bool:
        """Say whether a claim on a key counts now. The lock may be held, and need not be."""
        return bool(self._alive(key))

    def owns(self, key: str, owner: object, beside: Claim) -> bool:
        """Say whether an owner has a claim in a queue beside this one."""
        with self._lock.checked:
            alive = self._alive(key)
        return any(one is not beside and one.owner == owner for one in alive)

    def _alive(self, key: str) -> list[Claim]:
        """Return the claims on a key that count: the queue of a key is replaced, and never changed."""
        claims = (reference() for reference in self._queues.get(key, ()))
        return [claim for claim in claims if claim is not None and not claim.is_over]
