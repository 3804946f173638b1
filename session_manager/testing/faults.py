"""What goes wrong, on demand: `FaultyStore` breaks writes, `crash` kills a manager."""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from session_manager.arguments import check_seconds
from session_manager.errors import SaveFailedError, SaveOutcomeUnknownError, SessionManagerError
from session_manager.manager.manager import SessionManager
from session_manager.stores.contract import Commit, Store
from session_manager.stores.wrapped import WrappedStore

__all__ = ["FaultyStore", "crash"]


class _Lost(enum.Enum):
    ACK = "ack"


@attrs.frozen
class _Late:
    """A write that arrives after its caller was told that its outcome is unknown."""

    seconds: float


class FaultyStore(WrappedStore):
    """A store whose writes fail on demand. All other calls go to the store that it wraps.

    Each write uses up one fault, in the order of the calls that asked for them. Any thread may call any method.

    :param store: any store, which `close` closes.
    :raises TypeError: if it is no `Store`.

    >>> from session_manager import SessionManager
    >>> from session_manager.stores.memory import MemoryStore
    >>> store = FaultyStore(MemoryStore())
    >>> m = SessionManager(store)
    >>> _ = m.add_message("telegram:42", "user", "hi")
    >>> store.fail_next(OSError("No space left on device"))
    >>> m.save("telegram:42")
    Traceback (most recent call last):
        ...
    session_manager.errors.SaveFailedError: session 'telegram:42' not saved: No space left on device
    >>> m.save("telegram:42")
    True
    >>> m.close()
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        #: How many seconds each write takes longer; may be set at any time.
        self.delay: float = 0.0
        self._faults: deque[BaseException | _Lost | _Late] = deque()
        #: The threads of late writes, and what became of each.
        self._late: deque[tuple[threading.Thread, list[Exception | None]]] = deque()

    def fail_next(self, error: BaseException) -> None:
        """Let the next write raise an error, and write nothing.

        :param error: one of this library, or an interrupt, is raised as it is; any other becomes the
            ``__cause__`` of a `SaveFailedError`, as a driver's error does.
        """
        self._faults.append(error)

    def lose_ack_next(self) -> None:
        """Let the next write be made durable, and then raise `SaveOutcomeUnknownError`."""
        self._faults.append(_Lost.ACK)

    def late_next(self, seconds: float) -> None:
        """Let the next write raise `SaveOutcomeUnknownError` at once, and arrive at the store after some seconds.

        So does a request that a network holds up. `settle_late` tells what became of it: a store that was asked meanwhile
        whether the write has landed, and said that it has not, must refuse it.

        :param seconds: from 0; a thread waits so long.
        :raises TypeError, ValueError: if it is no such number.
        """
        check_seconds(seconds, "seconds", most=86_400)
        self._faults.append(_Late(seconds))

    def settle_late(self) -> list[Exception | None]:
        """Wait until all late writes have arrived; return the error of each, or `None` if it was made durable, in order."""
        errors = []
        while self._late:
            thread, outcome = self._late.popleft()
            thread.join()
            errors.extend(outcome)
        return errors

    def heal(self) -> None:
        """Forget all pending faults, and the delay. Late writes arrive all the same."""
        self._faults.clear()
        self.delay = 0.0

    def write(self, commit: Commit) -> None:
        """Make a commit durable, unless a fault is due."""
        self._write([commit], self.store.write, commit)

    def write_together(self, commits: Sequence[Commit]) -> None:
        """Make commits durable together, unless a fault is due, which hits all of them."""
        self._write(commits, self.store.write_together, commits)

    def _write(self, commits: Sequence[Commit], write: Callable[[Any], None], given: object) -> None:
        if self.delay > 0:
            time.sleep(self.delay)
        try:
            fault = self._faults.popleft()
        except IndexError:
            write(given)
            return
        key = commits[0].session.key if commits else ""
        if isinstance(fault, _Late):
            self._deliver_late(commits, write, given, fault.seconds)
            raise SaveOutcomeUnknownError(key, "it is held up, on purpose")
        if isinstance(fault, _Lost):
            write(given)
            raise SaveOutcomeUnknownError(key, "its acknowledgement was lost, on purpose")
        if isinstance(fault, SessionManagerError) or not isinstance(fault, Exception):
            raise fault
        raise SaveFailedError(key, str(fault)) from fault

    def _deliver_late(
        self, commits: Sequence[Commit], write: Callable[[Any], None], given: object, seconds: float
    ) -> None:
        """Start the thread that writes commits after some seconds."""
        outcome: list[Exception | None] = []
        thread = threading.Timer(seconds, lambda: outcome.append(_error_of(write, given)))
        for commit in commits:
            commit.doubt.exists = True
        self._late.append((thread, outcome))
        thread.start()

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        """Make commits durable: together if no fault is due, else one by one."""
        if self._faults or self.delay > 0:
            return Store.write_many(self, commits)
        return super().write_many(commits)

    def close(self) -> None:
        """Wait for late writes, and close the wrapped store."""
        self.settle_late()
        super().close()


def _error_of(write: Callable[[Any], None], given: object) -> Exception | None:
    """Write, and return the error."""
    try:
        write(given)
    except SessionManagerError as error:
        return error
    return None


class _AsyncManager(Protocol):
    """`AsyncSessionManager`, which is in a room beside this one, and needs an extra."""

    def _kill(self) -> SessionManager | None: ...


def crash(manager: SessionManager | _AsyncManager) -> None:
    """End a manager, sync or async, as a kill of its process would: what is not saved is lost, and the storage can be opened again.

    Nothing is saved, nor said about it. The manager's store is closed, also one that you gave it, and the storage's locks are
    released; a shared manager ends for all of its users. A `MemoryStore` keeps its sessions, so that it can stand for a disk: give it to the next manager. Calls of the
    manager raise `ClosedError`. Calls that other threads are in the middle of come to their end first, for a thread cannot be
    killed. Idempotent.

    :param manager: an `AsyncSessionManager`, too, inside of a running loop or outside; it is not awaited. Turns of its tasks that are
        open write nothing.
    :raises TypeError: if it is no manager.
    :raises ReentrantCallError: from a signal handler, in the middle of a call of the manager.

    >>> from session_manager import SessionManager
    >>> from session_manager.stores.memory import MemoryStore
    >>> disk = MemoryStore()
    >>> m = SessionManager(disk)
    >>> m.add_message("telegram:42", "user", "saved"), m.save("telegram:42"), m.add_message("telegram:42", "user", "not")
    (<Message 'user': 5 characters, position 0>, True, <Message 'user': 3 characters, position 1>)
    >>> crash(m)
    >>> [message.content for message in SessionManager(disk).get_history("telegram:42")]
    ['saved']
    """
    if not isinstance(manager, SessionManager) and not hasattr(manager, "_kill"):
        raise TypeError(f"manager must be a SessionManager or an AsyncSessionManager, not {type(manager).__name__}")
    crashed = manager._kill()
    if crashed is None:  # it was never opened
        return
    store = crashed._residents.store
    store.close()
