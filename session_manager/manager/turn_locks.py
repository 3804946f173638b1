"""Turn locks: one turn at a time for a session, in the order in which they were asked for; and in other processes, by a lease."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from session_manager.errors import SessionBusyError
from session_manager.frozen import Part
from session_manager.manager.cache.fair_lock import PATIENCE, Claim, Claims
from session_manager.manager.leases import Leases
from session_manager.manager.pauses import between_polls
from session_manager.resource import Resource
from session_manager.threads import in_event_loop

__all__ = ["TurnLocks", "late"]


class TurnLocks(Resource, Part):
    """A fair lock for each session that has a turn.

    A turn that is dropped without being left lets go of its lock.
    """

    claims: Claims
    #: The leases, if turns of other processes are waited for.
    leases: Leases | None = None

    def acquire(self, key: str, timeout: float | None, max_waiting: int | None) -> Claim:
        """Wait for a session's lock, and take it; then for its lease, if there are leases.

        :param timeout: how many seconds to wait; `None`: as long as it takes.
        :param max_waiting: how many may wait already.
        :raises RuntimeError: if this thread has a turn of the session, or would have to wait in an event loop.
        :raises TimeoutError: if it was not free in time.
        :raises SessionBusyError: if too many wait for it.
        :raises StorageError: if it cannot be told who has the lease.
        """
        claim = Claim()
        try:
            end = self._queue_up(key, claim, timeout, max_waiting)
            if self.leases is not None:
                self._lease(self.leases, key, claim, timeout, end, max_waiting)
        except BaseException:
            claim.give_back()
            raise
        return claim

    def _queue_up(self, key: str, claim: Claim, timeout: float | None, max_waiting: int | None) -> float | None:
        """Wait until a claim is the first one of a session; return until when it may wait, by `time.monotonic`."""
        before = self.claims.queue(key, claim, max_waiting)
        if before is not None:
            self._check_may_wait(key, claim, timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while before is not None:
            left = PATIENCE if end is None else end - time.monotonic()
            if left <= 0:
                raise late(key, timeout)
            over, before = before.over(), None  # to hold on to one that is dropped would keep it
            over.wait(min(left, PATIENCE))
            before = self.claims.queue(key, claim)
        return end

    def _lease(
        self, leases: Leases, key: str, claim: Claim, timeout: float | None, end: float | None, max_waiting: int | None
    ) -> None:
        """Wait for a session's lease, and take it for the claim that has the lock.

        :param end: until when, by `time.monotonic`.
        """
        while not leases.take(key, claim):
            self._check_may_wait(key, claim, timeout)
            left = math.inf if end is None else end - time.monotonic()
            self.check_may_poll(key, claim, timeout, left, max_waiting)
            time.sleep(min(between_polls(), left))
        claim.is_polling = False

    def check_may_poll(
        self, key: str, claim: Claim, timeout: float | None, left: float, max_waiting: int | None
    ) -> None:
        """Note that a claim waits for a lease that another process has, or raise if it may not.

        :param left: for how many seconds it may wait.
        """
        if max_waiting == 0:
            raise SessionBusyError(key, 0)
        if left <= 0:
            raise late(key, timeout)
        claim.is_polling = True

    def landed(self, key: str, claim: Claim) -> None:
        """Note that a turn was written, which has released its lease."""
        if self.leases is not None:
            self.leases.landed(key, claim)

    @contextmanager
    def held(self, keys: Iterable[str], timeout: float | None) -> Iterator[None]:
        """Hold the locks of several sessions: wait for them in the order of the keys, as `acquire` does."""
        end = None if timeout is None else time.monotonic() + timeout
        claims: list[Claim] = []
        try:
            for key in sorted(set(keys)):
                left = None if end is None else max(end - time.monotonic(), 0)
                claims.append(self.acquire(key, left, None))
            yield
        finally:
            for claim in claims:
                claim.give_back()

    def check_has_none(self, key: str, claim: Claim, who: str) -> None:
        """Raise if the thread or task of a claim has a turn of the session already, and would wait for itself.

        :param who: what it is called in the error.
        """
        if self.claims.owns(key, claim.owner, claim):
            raise RuntimeError(f"this {who} has a turn of session {key[:80]!a} already")

    def _check_may_wait(self, key: str, claim: Claim, timeout: float | None) -> None:
        if not in_event_loop():
            self.check_has_none(key, claim, "thread")
        elif timeout is None or timeout > 0:
            raise RuntimeError(
                f"another turn of session {key[:80]!a} is open, and waiting for it would stop the event loop: "
                "use AsyncSessionManager there"
            )


def late(key: str, timeout: float | None) -> TimeoutError:
    """Return the error of a turn that was not free in time."""
    return TimeoutError(f"another turn of session {key[:80]!a} was open for {timeout} s")
