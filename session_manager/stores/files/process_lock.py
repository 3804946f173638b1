"""A lock between processes: on one byte-less file, which is never deleted.

It is ``flock`` on a descriptor that stays open, two system calls a use (filelock opens and closes its file, which
costs as much as a commit; it serves where there is no ``flock``). A holder that is killed has let go of it. Nobody is
waited for longer than the caller says: a stopped holder must not stop the others. A child that is forked off has none of
the locks of its parent, and keeps none of them when the parent ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from collections.abc import Callable

from session_manager.errors import StorageError
from session_manager.resource import Resource

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["ProcessLock"]

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_HAS_FLOCK = hasattr(fcntl, "flock")
_FIRST_PAUSE = 0.00005
_LONGEST_PAUSE = 0.002

_all: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _open(path: str) -> int:
    return os.open(path, _FLAGS, 0o600)


class ProcessLock(Resource):
    """A lock file. One thread at a time may use it: the caller sees to that.

    `release` is harmless when the lock is not held, so that an interrupt at any point is mended by calling it again.

    :param path: the file; created, 0600, if it is missing.
    :param open_file: opens it, in another way than by its path.
    :raises StorageError: if it cannot be opened.
    """

    _fd = -1

    def __init__(self, path: str, open_file: Callable[[], int] | None = None) -> None:
        self.path = path
        _all.add(self)
        try:
            self._fd = _open(path) if open_file is None else open_file()
            if hasattr(os, "fchmod") and os.fstat(self._fd).st_mode & 0o600 != 0o600:
                os.fchmod(self._fd, 0o600)  # what a umask took away
        except OSError as error:
            raise StorageError(path, f"cannot be opened: {error.strerror}") from error
        self._portable = None if _HAS_FLOCK else _Portable(path)

    def acquire(self, timeout: float) -> bool:
        """Take the lock; return whether it was free, or became so in time.

        :param timeout: how many seconds to wait, at most.
        :raises StorageError: if the file system cannot lock.
        """
        end = None
        pause = _FIRST_PAUSE
        while not self._attempt():
            now = time.monotonic()
            end = now + timeout if end is None else end
            if now >= end:
                return False
            time.sleep(min(pause, end - now))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def _attempt(self) -> bool:
        try:
            if self._portable is not None:  # pragma: no cover - Windows
                return self._portable.attempt()
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                return False
            raise StorageError(self.path, f"cannot be locked: {error.strerror}") from error
        return True

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        if self._portable is not None:  # pragma: no cover - Windows
            self._portable.release()
        elif self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    @property
    def is_open(self) -> bool:
        """Whether it can be taken: not after `close`, nor in a child that was forked off."""
        return self._fd >= 0

    @property
    def place(self) -> tuple[int, int]:
        """The device and inode of the file. It must be open."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Close the file, which lets go of the lock, unless a child has it, too; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        """Close it: whoever was interrupted while it was opened could not."""
        self.close()


def _after_in_child() -> None:
    """Close the files; the locks stay the parent's."""
    for lock in list(_all):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)


class _Portable:  # pragma: no cover - Windows
    """The lock by filelock, which is slow, but knows every system."""

    def __init__(self, path: str) -> None:
        import filelock  # noqa: PLC0415 - it imports asyncio, which nobody else needs

        self._busy = filelock.Timeout
        self._lock = filelock.FileLock(f"{path}.held", timeout=0, thread_local=False, fallback_to_soft=False)

    def attempt(self) -> bool:
        try:
            self._lock.acquire()
        except self._busy:
            return False
        return True

    def release(self) -> None:
        self._lock.release(force=True)
