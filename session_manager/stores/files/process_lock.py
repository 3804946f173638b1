"""A lock between processes that is taken for each commit of a database.

It is ``flock`` on a descriptor that stays open: two system calls for each use. The operating system releases the lock of a
killed process. A caller limits its wait, since a stopped holder must not stop the others. Without ``flock``, filelock locks
the descriptor.
"""

from __future__ import annotations

import errno
import time

from session_manager.errors import StorageError
from session_manager.stores.files.lock_file import LockFile

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["ProcessLock"]

_HAS_FLOCK = hasattr(fcntl, "flock")
_FIRST_PAUSE = 0.00005
_LONGEST_PAUSE = 0.002


class ProcessLock(LockFile):
    """A lock file that is locked often. One thread at a time may use it; the caller sees to that.

    `release` is harmless when the lock is not held, so that an interrupt at any point is mended by calling it again.
    """

    #: Whether it was asked for since it was let go of.
    _may_be_held = False

    def acquire(self, timeout: float) -> bool:
        """Take the lock; return whether it was free in time.

        :param timeout: how many seconds to wait, at most.
        :raises StorageError: if the file system cannot lock.
        """
        self._may_be_held = True
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
            if not _HAS_FLOCK:  # pragma: no cover - Windows
                import filelock  # elsewhere a database needs no such lock

                return filelock.lock_descriptor(self._fd, blocking=False)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                return False
            raise StorageError(self.path, f"cannot be locked: {error.strerror}") from error
        return True

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        if self._fd < 0 or not self._may_be_held:
            return
        if not _HAS_FLOCK:  # pragma: no cover - Windows
            import filelock  # as above

            filelock.unlock_descriptor(self._fd)
        else:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._may_be_held = False
