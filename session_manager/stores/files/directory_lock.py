"""The writer's lock of a directory: an exclusive lock on the file ``.lock`` in it, held for as long as a store lives.

filelock locks the descriptor (ADR 19). The operating system releases the lock of a killed process. The file is never deleted:
otherwise two processes could each lock a file of that name. It is opened by the descriptor of the open directory, whatever
has the directory's path by now. ``.holder`` beside it names the holder, ``{"pid":…,"host":…,"started":…}``, for errors only.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import stat as stat_module
from functools import partial
from typing import Any

import filelock

from session_manager.errors import StorageError, StorageLockedError
from session_manager.model.times import utc_now
from session_manager.resource import Resource
from session_manager.stores.files.atomic import NotRegularError, read_start
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.kinds import LOCK
from session_manager.stores.files.lock_file import LockFile

__all__ = ["DirectoryLock", "WriterLock", "has_lock_file", "is_gone", "read_holder"]

_HOLDER = ".holder"
#: The largest ``.holder`` that is read, in bytes.
_LONGEST_HOLDER = 4096


class WriterLock(LockFile):
    """A lock file that is locked once, by filelock."""

    def acquire(self) -> bool:
        """Take the lock at once; return whether it was free.

        :raises StorageError: if the file system cannot lock.
        """
        try:
            return filelock.lock_descriptor(self._fd, blocking=False)
        except OSError as error:
            raise StorageError(self.path, f"cannot be locked: {error.strerror}") from error

    def release(self) -> None:
        """Let go of the lock, if it is held, even if a forked child also has the descriptor."""
        if self.is_open:
            filelock.unlock_descriptor(self._fd)


class DirectoryLock(Resource):
    """The writer's lock of an open directory. Creating the object takes it, and creates its file if there is none.

    :param files: the directory.
    :raises StorageLockedError: at once, if another store holds it, in this process or another.
    :raises StorageError: if the file cannot be opened, or the file system cannot lock.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._is_signed = False
        self._lock = WriterLock(os.path.join(files.path, LOCK), partial(files.open_lock, LOCK))
        if not self._lock.acquire():
            self._lock.close()
            raise StorageLockedError(files.path, _holder(files))

    def sign(self) -> None:
        """Name this process as the holder. An error of the file system is no failure: the name serves errors only."""
        self._is_signed = True
        with contextlib.suppress(OSError):
            self._sign()

    def _sign(self) -> None:
        holder = {"pid": os.getpid(), "host": platform.node(), "started": utc_now().isoformat()}
        temporary = f".tmp-{secrets.token_hex(8)}"
        fd = self._files.open_new(temporary)
        try:
            self._files.write(fd, [json.dumps(holder).encode()])
        finally:
            self._files.close(fd)
        self._files.rename(temporary, _HOLDER)

    @property
    def is_held(self) -> bool:
        """Whether this process holds it: not after `release`, and not in a forked child."""
        return self._lock.is_open

    def release(self) -> None:
        """Let go of it, from any thread; idempotent."""
        if self._lock.is_open and self._is_signed:
            with contextlib.suppress(OSError):
                self._files.unlink(_HOLDER)
        self._lock.release()
        self._lock.close()


def has_lock_file(files: Files) -> bool:
    """Say whether a directory has the empty lock file of a store, which stays when the store is closed. Other programs' files are longer.

    :raises StorageError: if that cannot be looked at.
    """
    try:
        status = files.stat(LOCK)
    except OSError as error:
        raise StorageError(files.path, f"cannot be read: {error.strerror}") from error
    return status is not None and stat_module.S_ISREG(status.st_mode) and status.st_size == 0


def read_holder(files: Files) -> dict[str, Any]:
    """Return ``pid``, ``host`` and ``started`` of the name that a writer has left in a directory; ``{}`` if there is none."""
    try:
        holder = json.loads(read_start(files, _HOLDER, _LONGEST_HOLDER))
    except (OSError, ValueError, RecursionError, NotRegularError):
        return {}
    return {field: holder.get(field) for field in ("pid", "host", "started")} if isinstance(holder, dict) else {}


def _holder(files: Files) -> dict[str, Any]:
    named = read_holder(files)
    return {**named, "gone": True} if named and is_gone(named["pid"], named["host"]) else named


def is_gone(pid: object, host: object) -> bool:
    """Say whether the process that ``.holder`` names has certainly ended. It then left its name, and the new holder could not write."""
    if os.name != "posix" or host != platform.node() or type(pid) is not int or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False
