"""Claims on keys: what is held for minutes, by a caller.

There is nothing to release, only an object to be let go of: a claim counts until it is given back, or nobody has a reference
to it. So whoever is interrupted, at any point, leaves none behind.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import attrs

from session_manager.manager.cache.locks import Guard
from session_manager.resource import Resource

__all__ = ["PATIENCE", "Claim", "Claims"]

_SWEEP = 16
#: After so many seconds whoever waits looks whether the claim before it was dropped without being given back.
PATIENCE = 1.0


@attrs.define(eq=False, repr=False)
class Claim(Resource):
    """Somebody's place in the queue for a key."""

    #: Whoever claims: a thread's id, say.
    owner: object = attrs.field(factory=threading.get_ident)
    #: Whether it was given back.
    is_over: bool = False
    _over: threading.Event = attrs.field(factory=threading.Event)
    _watchers: list[Callable[[], object]] = attrs.field(factory=list)

    def give_back(self) -> None:
        """Let go of the key; idempotent."""
        self.is_over = True  # an interrupt from here on only delays those who wait
        self._over.set()
        while True:
            try:
                watcher = self._watchers.pop()
            except IndexError:  # another thread may be giving it back, too
                return
            watcher()

    @property
    def over(self) -> threading.Event:
        """What is set when it is given back; of one that was dropped, never."""
        return self._over

    def watch(self, watcher: Callable[[], object]) -> None:
        """Have a function called, in whatever thread, once it is given back; if it was, at once."""
        self._watchers.append(watcher)
        if self.is_over:
            self.give_back()


@attrs.define(eq=False, repr=False)
class Claims(Resource):
    """Queues of claims, one for each key, in the order in which they came: the first one holds the key.

    :param guard: protects the table of the queues.
    """

    _guard: Guard
    _queues: dict[str, list[weakref.ref[Claim]]] = attrs.field(factory=dict)
    _sweep_at: int = _SWEEP

    def queue(self, key: str, claim: Claim) -> Claim | None:
        """Queue a claim up, unless it is in the queue; return the one before it, or `None`: it holds the key now."""
        return self._guard.run(self._queue, key, claim)

    def queue_up_to(self, key: str, claim: Claim, limit: int) -> int:
        """Queue a claim up, unless it would have to wait, and so many wait already; return how many are before it.

        :returns: what is more than `limit` if it was not queued.
        """
        return self._guard.run(self._queue_up_to, key, claim, limit)

    def owns(self, key: str, owner: object, beside: Claim) -> bool:
        """Say whether somebody has a claim in a queue beside this one."""
        return any(one is not beside and one.owner == owner for one in self._guard.run(self._alive, key))

    def _queue_up_to(self, key: str, claim: Claim, limit: int) -> int:
        count = len(self._alive(key))
        if count <= limit:
            self._queue(key, claim)
        return count

    def _queue(self, key: str, claim: Claim) -> Claim | None:
        before: Claim | None = None
        for reference in self._queues.get(key, ()):
            one = reference()
            if one is claim:
                return before
            if one is not None and not one.is_over:
                before = one
        self._queues[key] = [*map(weakref.ref, self._alive(key)), weakref.ref(claim)]
        if len(self._queues) > self._sweep_at:
            self._queues = {one: queue for one, queue in self._queues.items() if self._alive(one)}
            self._sweep_at = 2 * len(self._queues) + _SWEEP
        return before

    def _alive(self, key: str) -> list[Claim]:
        claims = (reference() for reference in self._queues.get(key, ()))
        return [claim for claim in claims if claim is not None and not claim.is_over]
