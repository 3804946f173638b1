"""A directory that is written under another name, and gets its own name when it is whole and durable.

Every file is synced, then the directory, and only then it is renamed. So its name never shows a part of it. A killed process
leaves the other name, which holds a part of the files. The process locks the directory, so that another one can tell whether it has been
left, and removes it then.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial

from session_manager.errors import StorageError
from session_manager.resource import Resource
from session_manager.stores.files.atomic import write_all
from session_manager.stores.files.filesystem import Files, create_directory
from session_manager.stores.files.process_lock import ProcessLock

__all__ = ["Staging", "remove_tree"]

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Staging(Resource):
    """A new directory beside a path. Any thread may call `write`.

    :param path: the absolute path that it gets in the end; missing parents are created.
    :param ending: what is added to the name until then, before 16 hex digits.
    :param files: opens directories.
    :raises OSError: if it cannot be created.
    """

    def __init__(self, path: str, ending: str, files: Callable[[str], Files] = Files) -> None:
        place, self.name = os.path.split(path)
        if not os.path.isdir(place):
            create_directory(place)
        self.staged = f"{self.name}.{ending}-{secrets.token_hex(8)}"
        #: The path until it gets its name.
        self.path = os.path.join(place, self.staged)
        #: The directory that it is in.
        self.parent = files(place)
        self.parent.make_directory(self.staged)
        self.files = files(self.path)
        self._lock = _locked(self.path)
        self._ending = ending

    def remove_abandoned(self) -> None:
        """Remove the directories that killed processes have left for the same path, as far as possible."""
        pattern = re.compile(rf"{re.escape(self.name)}\.{self._ending}-[0-9a-f]{{16}}")
        for name in self.parent.names():
            if name != self.staged and pattern.fullmatch(name):
                self._remove_abandoned(name)

    def _remove_abandoned(self, name: str) -> None:
        lock = _locked(os.path.join(self.parent.path, name))
        try:
            if lock is not None:
                with contextlib.suppress(OSError):
                    remove_tree(self.parent, name)
        finally:
            if lock is not None:
                lock.close()

    def write(self, name: str, buffers: Sequence[bytes]) -> None:
        """Write a new file, durably.

        :raises OSError: if that fails; the directory is of no use then.
        """
        fd = self.files.open_new(name)
        try:
            write_all(self.files, fd, buffers)
            self.files.sync(fd)
        finally:
            self.files.close(fd)

    def sync(self, name: str) -> None:
        """Make a file durable that another program has written here.

        :raises OSError: if that fails.
        """
        self.files.sync_file(name)

    def rename(self, name: str) -> None:
        """Give the directory a name, durably. Its files must be durable.

        :raises OSError: if that fails, such as for a name that another program has taken meanwhile.
        """
        self.files.sync_directory()
        self.parent.rename(self.staged, name)
        self.staged = name
        self.parent.sync_directory()

    def discard(self) -> None:
        """Remove the directory and its files, as far as possible."""
        with contextlib.suppress(OSError):
            remove_tree(self.parent, self.staged)

    def close(self) -> None:
        """Close the directory, and its parent; idempotent."""
        if self._lock is not None:
            self._lock.close()
        self.files.close_directory()
        self.parent.close_directory()


def _locked(path: str) -> ProcessLock | None:
    """Lock a directory; `None` if another process holds it, or the file system cannot lock."""
    lock = None
    with contextlib.suppress(StorageError):
        lock = ProcessLock(path, partial(os.open, path, _DIRECTORY))
        if lock.acquire(0):
            return lock
    if lock is not None:
        lock.close()
    return None


def remove_tree(parent: Files, name: str) -> None:
    """Remove a directory of files.

    :raises OSError: if it, or a file in it, cannot be removed: such as a directory in it.
    """
    files = type(parent)(os.path.join(parent.path, name))
    try:
        for one in files.names():
            files.unlink(one)
    finally:
        files.close_directory()
    parent.remove_directory(name)
