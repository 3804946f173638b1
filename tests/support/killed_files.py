"""Directories of a process that dies at one of its file operations: as a simulation, and in earnest."""

from __future__ import annotations

import contextlib
import os

from session_manager.stores.files.filesystem import Files

#: The operations that change something on disk.
CHANGING = (
    "open_new",
    "open_append",
    "write",
    "sync",
    "sync_data",
    "truncate",
    "rename",
    "rename_new",
    "unlink",
    "sync_directory",
)


class KilledError(BaseException):
    """The process is dead: nothing that it still does reaches the disk."""


class KilledFiles(Files):
    """Counts the operations that change something, and does none of them from some number on."""

    left = 10**9

    def _count(self):
        self.left -= 1
        if self.left < 0:
            self._die()

    def _die(self):
        raise KilledError


class DyingFiles(KilledFiles):
    """Ends the process at one of its operations. Set `left` of the class: a store opens its files by itself."""

    def _die(self):
        os._exit(7)


def _counted(name):
    def operate(self, *arguments):
        self._count()
        return getattr(Files, name)(self, *arguments)

    return operate


for _name in CHANGING:
    setattr(KilledFiles, _name, _counted(_name))


def killed(m, work, number):
    """Do some work with a manager on `KilledFiles`; say whether it was cut short.

    :param number: how many operations reach the disk.
    """
    store = m._residents.store
    files = store._files
    files.left = number
    try:
        work()
        return False
    except KilledError:
        return True
    finally:
        files.left = 10**9
        store._directory._lock.release()
        for end in (lambda: m.close(save=False), store.close):
            files.left = 0
            with contextlib.suppress(KilledError):
                end()
