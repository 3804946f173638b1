"""One writer for a directory: an exclusive lock on ``.lock`` in it, held for as long as a store lives.

filelock locks the descriptor (ADR 19). The lock is the operating system's: a killed holder has let go of it. The file is
never deleted, for two processes could then each hold one. It is opened in the open directory, whatever is at that path by
now. Its holder is named in ``.holder`` beside it, ``{"pid":…,"host":…,"started":…}``, which is a courtesy, not a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from functools import partial
from typing import Any

import filelock

from session_manager.errors import StorageError, StorageLockedError
from session_manager.model.message import utc_now
from session_manager.resource import Resource
from session_manager.stores.files.atomic import NotRegularError, read_start
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.lock_file import LockFile

__all__ = ["DirectoryLock", "WriterLock"]

_LOCK = ".lock"
_HOLDER = ".holder"
#: More than any holder signs with.
_LONGEST_HOLDER = 4096


class WriterLock(LockFile):
    """A lock file with a lock that is taken once, by filelock."""

    def acquire(self) -> bool:
        """Take the lock at once; return whether it was free.

        :raises StorageError: if the file system cannot lock.
        """
        try:
            return filelock.lock_descriptor(self._fd, blocking=False)
        except OSError as error:
            raise StorageError(self.path, f"cannot be locked: {error.strerror}") from error

    def release(self) -> None:
        """Let go of the lock, if it is held, also where a child has the descriptor."""
        if self.is_open:
            filelock.unlock_descriptor(self._fd)


class DirectoryLock(Resource):
    """The lock of an open directory, taken.

    :param files: the directory.
    :raises StorageLockedError: at once, if somebody else holds it, in this process or another.
    :raises StorageError: if the file cannot be opened, or the file system cannot lock.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = WriterLock(os.path.join(files.path, _LOCK), partial(files.open_lock, _LOCK))
        if not self._lock.acquire():
            self._lock.close()
            raise StorageLockedError(files.path, _holder(files))
        with contextlib.suppress(OSError):
            self._sign()

    def _sign(self) -> None:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": utc_now().isoformat()}
        temporary = f".tmp-{secrets.token_hex(8)}"
        fd = self._files.open_new(temporary)
        try:
            self._files.write(fd, [json.dumps(holder).encode()])
        finally:
            self._files.close(fd)
        self._files.rename(temporary, _HOLDER)

    @property
    def is_held(self) -> bool:
        """Whether this process has it: not after `release`, nor in a child that was forked off."""
        return self._lock.is_open

    def release(self) -> None:
        """Let go of it, from any thread; idempotent."""
        if self._lock.is_open:
            with contextlib.suppress(OSError):
                self._files.unlink(_HOLDER)
        self._lock.release()
        self._lock.close()


def _holder(files: Files) -> dict[str, Any]:
    try:
        holder = json.loads(read_start(files, _HOLDER, _LONGEST_HOLDER))
    except (OSError, ValueError, RecursionError, NotRegularError):
        return {}
    if not isinstance(holder, dict):
        return {}
    named = {field: holder.get(field) for field in ("pid", "host", "started")}
    return {**named, "gone": True} if _is_gone(named["pid"], named["host"]) else named


def _is_gone(pid: object, host: object) -> bool:
    """Say whether a process of this host has certainly ended: it left its name, and the holder could not sign."""
    if os.name != "posix" or host != socket.gethostname() or type(pid) is not int or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False
