"""Forks of a process that has SQLite databases open.

After a fork, SQLite in the child believes that it still holds the parent's connections and their locks. A new connection in
the child would then take no lock, and its writes would be lost. So each database closes its connections before a fork, and
opens them again afterwards. The fork waits for running calls, up to `_PATIENCE` seconds. A connection that is still in use
then is neither used nor closed in the child, and the child cannot open that database.

A database is watched from the beginning of its opening, which a fork waits for as for a call. A fork that has begun holds up
openings until it is over.

A process may have one database open several times. So the fork first waits for all calls, and only then takes the lock file,
once. In another order, a call of one database would wait for the lock that the fork has taken for the other.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import Any, Protocol

from session_manager.stores.files.process_lock import ProcessLock
from session_manager.threads import is_mine

__all__ = ["Forkable", "Held", "hold", "is_inherited", "leave_for_ever", "watch"]

#: How many seconds a fork waits for running calls, at most.
_PATIENCE = 5.0


class Forkable(Protocol):
    """An open database, as a fork sees it."""

    def pause(self, end: float, held: Held) -> bool:
        """Let no call begin, and wait until none runs, or for a moment of `time.monotonic`; say whether none runs.

        :param held: undone in the parent when it has forked.
        """

    def before_fork(self, end: float, held: Held, *, idle: bool) -> None:
        """Close the connections that can be closed until a moment; `held` and `idle` are those of `pause`."""

    def after_in_child(self) -> None:
        """Begin without a connection in the child. There, `held` is not undone."""


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()
#: The parent's connections that were in use at the fork of this process, and their files.
_left: list[object] = []
_inherited: set[tuple[int, int]] = set()


class Held(contextlib.ExitStack):
    """The locks that a forking thread holds. Closing the object releases them."""

    def __init__(self) -> None:
        super().__init__()
        self._files: set[tuple[int, int]] = set()

    def hold_file(self, lock: ProcessLock, end: float) -> bool:
        """Take a lock between processes, unless this fork has taken the same file already; say whether it was free in time.

        :param end: until when it is waited for.
        :raises StorageError: if the file system cannot lock.
        """
        if lock.place in self._files:
            return True
        if not lock.acquire(max(end - time.monotonic(), 0.0)):
            return False
        self.callback(lock.release)
        self._files.add(lock.place)
        return True


#: A database begins to be watched under it, and a fork holds it, so that no opening begins between the fork's look and the fork.
_gate = threading.RLock()


def watch(database: Forkable, at_work: Any) -> None:
    """Call a database at forks, for as long as it exists, and take a lock of it that a fork waits for; the caller releases it.

    A fork that has begun is waited for first.
    """
    with _gate:
        _watched.add(database)
        at_work.acquire()


def hold(lock: Any, end: float, held: Held) -> bool:
    """Take a lock until the process has forked, unless this thread has it: a signal handler may fork in the middle of a call.

    :param end: until when it is waited for.
    :returns: whether it was free in time.
    """
    if is_mine(lock) or not lock.acquire(timeout=max(end - time.monotonic(), 0.0)):
        return False
    held.callback(lock.release)
    return True


def leave_for_ever(connections: list[Any], place: tuple[int, int] | None) -> None:
    """In a forked child, keep the parent's connections: they are neither used nor closed, not even when the interpreter ends.

    :param place: device and inode of their database, if it must not be opened here any more.
    """
    _left.append(connections)
    for connection in connections:
        _immortal(connection)
    if place is not None:
        _inherited.add(place)


def is_inherited(place: tuple[int, int] | None) -> bool:
    """Say whether a database was in use when this process was forked."""
    return place in _inherited


def _immortal(value: Any) -> None:
    with contextlib.suppress(Exception):
        import ctypes  # noqa: PLC0415 - only in a forked child

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


class _Thread(threading.local):
    """The locks of the fork that a thread is making."""

    def __init__(self) -> None:
        self.held = Held()


_thread = _Thread()


def _before() -> None:
    held = _thread.held = Held()
    hold(_gate, time.monotonic() + _PATIENCE, held)
    paused = [(one, one.pause(time.monotonic() + _PATIENCE, held)) for one in sorted(_watched, key=id)]
    for database, idle in paused:
        database.before_fork(time.monotonic() + _PATIENCE, held, idle=idle)


def _after_in_parent() -> None:
    _thread.held.close()


def _after_in_child() -> None:
    global _gate  # noqa: PLW0603 - the parent's is held, here for ever
    _thread.held.pop_all()
    _gate = threading.RLock()
    for database in list(_watched):
        database.after_in_child()
    _watched.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
