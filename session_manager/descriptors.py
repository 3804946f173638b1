"""The open files that a store appends to: the last used ones, up to a limit."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict

from session_manager.files import Files
from session_manager.resource import Resource

__all__ = ["Descriptor", "Descriptors"]


#: A descriptor, and its file's device and inode, which tell whether it is still the one that has the name.
Descriptor = tuple[int, int, int]


class Descriptors(Resource):
    """Descriptors for appending, by name. Safe to use from several threads, of which no two use the same name at once.

    A descriptor in use is never closed for the sake of the limit: more threads than the limit have more open.

    :param files: the directory.
    :param limit: how many to keep open, at most.
    """

    def __init__(self, files: Files, limit: int) -> None:
        self._files = files
        self._limit = limit
        self._open: OrderedDict[str, Descriptor] = OrderedDict()
        self._used: set[str] = set()
        # Re-entrant, so that a signal handler that saves cannot hang here; each step leaves it whole.
        self._lock = threading.RLock()

    def take(self, name: str) -> Descriptor:
        """Return a descriptor, and keep it open until it is `given back <give_back>` or dropped.

        :raises OSError: if the file cannot be opened.
        """
        with self._lock:
            self._used.add(name)
            found = self._open.get(name)
            if found is not None:
                self._open.move_to_end(name)
                return found
            self._trim()
        fd = self._files.open_append(name)
        complete = False
        try:
            status = self._files.fstat(fd)
            with self._lock:
                self._open[name] = opened = (fd, status.st_dev, status.st_ino)
            complete = True
        finally:
            if not complete:  # an interrupt may have come right behind the entry
                self._open.pop(name, None)
                self._files.close(fd)
        return opened

    def _trim(self) -> None:
        """Close the ones that were not used for longest, so that there is room for those that are being opened."""
        while len(self._open.keys() | self._used) > self._limit:
            idle = next((name for name in self._open if name not in self._used), None)
            if idle is None:
                return
            self._close(idle)

    def give_back(self, name: str) -> None:
        """Say that a descriptor is not in use any more."""
        with self._lock:
            self._used.discard(name)
            if len(self._open) > self._limit:
                self._trim()

    def drop(self, name: str) -> None:
        """Close a descriptor, if it is open: it is not to be used again."""
        with self._lock:
            self._used.discard(name)
            self._close(name)

    def _close(self, name: str) -> None:
        found = self._open.pop(name, None)
        if found is not None:
            with contextlib.suppress(OSError):
                self._files.close(found[0])

    def close(self) -> bool:
        """Close all that are not in use, and the others once they are given back; say whether there were none of those.

        What they wrote was synced before, or its save has failed: an error of a close says nothing new.
        """
        with self._lock:
            self._limit = 0
            self._trim()
            return not self._open
