"""Leases: the locks of turns between processes, which a thread of the manager renews for as long as the turns are open."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import weakref
from functools import partial
from typing import Any

import attrs

from session_manager.errors import ClosedError, SessionManagerError
from session_manager.manager.cache.fair_lock import Claim
from session_manager.model.fence import Fence
from session_manager.resource import Resource
from session_manager.stores.contract import Store
from session_manager.values import Value

__all__ = ["Lease", "Leases"]

_log = logging.getLogger("session_manager")

#: A lease is renewed so often within its time; after a failure, so often.
_RENEWALS, _RETRIES = 3, 12
_SHORTEST, _LONGEST = 0.1, 86_400.0
#: How many seconds a manager that is closed waits for its leases to be released. If that takes longer, they run out.
_PATIENCE = 5.0


def _waitable(_: object, attribute: Any, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a number, not {type(value).__name__}")
    if not _SHORTEST <= value <= _LONGEST:
        raise ValueError(f"{attribute.name} must be from {_SHORTEST:g} to {_LONGEST:,.0f}")


@attrs.frozen(eq=False, repr=False)
class Lease(Value):
    """One turn at a time for a session, in all processes and machines that give their managers a lease.

    A turn takes the lease of its session when its block is entered, and lets go of it when the block is left. The manager renews it three
    times in `seconds`. If the process ends, or stands still, others take the lease when the seconds are over. A turn whose lease has
    run out is written all the same, unless another turn took the lease: then leaving the block raises `LeaseLostError`.

    Only turns wait for it, `undo` and `rename` included. Other calls neither wait for a lease nor end it: two writers are reconciled as ever.

    :param seconds: how long others wait for a process that has died: from 0.1 to 86,400. It need not be as long as a turn takes.
    :raises TypeError: if it is no number.
    :raises ValueError: if it is out of range.
    """

    seconds: float = attrs.field(default=60.0, validator=_waitable)


class Leases(Resource):
    """The leases that a manager has. Its thread holds on to the store, not to the manager, which can be collected.

    A lease is held for a claim: a turn that is dropped without being left lets go of its lease, by the next renewal.

    :param store: keeps the leases.
    :param owner: the random id of the manager.
    :param lease: how long they are held.
    """

    def __init__(self, store: Store, owner: str, lease: Lease) -> None:
        self._store, self._owner, self._seconds = store, owner, float(lease.seconds)
        #: The claims for which a lease is held.
        self._held: dict[tuple[str, Fence], weakref.ref[Claim]] = {}
        # Its `put` may be called in a signal handler, under a lock, in an event loop, anywhere.
        self._ended: queue.SimpleQueue[tuple[str, Fence] | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def take(self, key: str, claim: Claim) -> bool:
        """Take the lease of a session for a claim, unless another manager has it; say whether it was taken.

        When the claim is given back, the lease is released soon after.

        :raises ClosedError: after `close`.
        :raises StorageError: as `Store.take_lease` does.
        """
        self._check_open()
        fence = self._store.take_lease(key, self._owner, self._seconds)
        if fence is None:
            return False
        self._held[key, fence] = weakref.ref(claim)
        claim.fence = fence
        claim.watch(partial(self._end, key, fence))
        self._start()
        if self._is_closed:  # since the store was asked: if `close` has not seen the lease, its thread may have ended
            if self._held.pop((key, fence), None) is not None:
                self._release(key, fence)
            raise ClosedError
        return True

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError

    def landed(self, key: str, claim: Claim) -> None:
        """Note that a commit has released the lease of a claim."""
        if claim.fence is not None:
            self._held.pop((key, claim.fence), None)

    def _end(self, key: str, fence: Fence) -> None:
        """Have a lease released, unless a commit has done it."""
        if self._held.pop((key, fence), None) is not None:
            self._ended.put((key, fence))

    def close(self) -> None:
        """Take no more leases, release all, and end the thread; idempotent. It waits for some seconds at most."""
        self._is_closed = True
        for held in list(self._held):
            self._end(*held)
        self._stop()

    def abandon(self) -> None:
        """End the thread, and leave the leases to run out, as the end of the process does."""
        self._is_closed = True
        self._held.clear()
        self._stop()

    def _stop(self) -> None:
        thread = self._thread
        self._ended.put(None)
        if thread is not None and thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # Python 3.14 refuses to wait while it is being shut down
                thread.join(_PATIENCE)

    # The thread

    def _start(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="session-manager-leases", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        due = time.monotonic() + self._seconds / _RENEWALS
        while True:
            ended, left = None, due - time.monotonic()
            if left <= 0:  # leases are renewed in time, however many turns end
                due = time.monotonic() + self._seconds / (_RENEWALS if self._renew() else _RETRIES)
                continue
            try:
                ended = self._ended.get(timeout=left)
            except queue.Empty:
                continue
            if ended is None:
                return
            self._release(*ended)

    def _renew(self) -> bool:
        """Renew all leases, and release those of claims that were dropped; say whether that worked."""
        held: dict[str, Fence] = {}
        for (key, fence), claim in list(self._held.items()):
            if claim() is None:
                self._end(key, fence)
            else:
                held[key] = fence
        try:
            if held:
                self._store.renew_leases(held, self._seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the leases are to be renewed the next time
            _log.warning("leases could not be renewed, %d: %s", len(held), _reason(error))
            return False
        return True

    def _release(self, key: str, fence: Fence) -> None:
        try:
            self._store.release_lease(key, fence)
        except Exception as error:  # noqa: BLE001 - whatever it is, the lease runs out
            _log.debug("a lease could not be released, and runs out: %s", _reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, SessionManagerError) else type(error).__name__
