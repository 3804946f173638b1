"""A lock file: opened once, never deleted, and closed in a forked child."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Callable

from session_manager.errors import StorageError
from session_manager.resource import Resource

__all__ = ["LockFile"]

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

_all: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _open(path: str) -> int:
    return os.open(path, _FLAGS, 0o600)


class LockFile(Resource):
    """An open lock file. A forked child does not hold the lock, and does not keep it when its parent ends.

    :param path: the file; created, 0600, if it is missing.
    :param open_file: opens the file; by its path if this is missing.
    :raises StorageError: if it cannot be opened.
    """

    _fd = -1

    def __init__(self, path: str, open_file: Callable[[], int] | None = None) -> None:
        self.path = path
        _all.add(self)
        try:
            self._fd = _open(path) if open_file is None else open_file()
            if hasattr(os, "fchmod") and os.fstat(self._fd).st_mode & 0o600 != 0o600:
                os.fchmod(self._fd, 0o600)  # a umask may have removed bits
        except OSError as error:
            raise StorageError(path, f"cannot be opened: {error.strerror}") from error

    @property
    def is_open(self) -> bool:
        """Whether it can be locked: not after `close`, and not in a forked child."""
        return self._fd >= 0

    @property
    def place(self) -> tuple[int, int]:
        """The device and inode of the file. It must be open."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Close the file; idempotent. That releases the lock, unless a forked child also has the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close the file: a caller that was interrupted during the opening could not."""
        if not _is_finalizing():  # then the system does it
            self.close()


def _after_in_child() -> None:
    """Close the files; the locks stay the parent's."""
    for lock in list(_all):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
