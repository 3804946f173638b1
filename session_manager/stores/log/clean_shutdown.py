"""The clean-shutdown marker ``.clean``: whether the logs of a directory are durable as they are read.

A process that is killed between its write and its sync leaves a record in the page cache. The next process would read it, and
lose it with the power. ``.clean`` says that there is no such record. A writer that opens the directory removes the marker, and
creates it again when it closes, with everything synced and no torn record. If the marker is missing, each file is synced
before its first load. After a power cut the page cache is empty, so the marker itself needs no sync.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.listing import Listing

__all__ = ["CleanMark"]

_NAME = ".clean"
#: How many files that no call has touched since a crash are synced at the end. If there are more, the next process syncs what it loads.
_SYNCED_AT_CLOSE = 1000


class CleanMark:
    """The marker of a directory that is opened for writing, under its lock. Creating the object removes it, until `put_back`.

    :param files: the directory.
    :param listing: what is in it. Without the marker, every session's file may hold bytes which were not synced.
    :raises OSError: if it cannot be taken away.
    """

    def __init__(self, files: Files, listing: Listing) -> None:
        self._files = files
        #: The files that are still to be synced.
        self.unsynced: set[str] = set()
        if _NAME in listing.others:
            files.unlink(_NAME)
        else:
            self.unsynced.update(listing.sessions)

    def sync(self, name: str) -> None:
        """Sync a file, if it may need that.

        :raises OSError: if that fails. Do not try again: write the file anew.
        """
        if name not in self.unsynced:
            return
        fd = self._files.open_to_sync(name)
        try:
            self.unsynced.discard(name)
            self._files.sync(fd)
        finally:
            with contextlib.suppress(OSError):
                self._files.close(fd)

    def put_back(self, ends_whole: Callable[[str], bool]) -> None:
        """Create the marker: all writes are synced. Untouched files are synced now, unless they are many.

        :param ends_whole: says whether a file's last line is whole. If one is not, there is no marker, and the next process looks as well.
        """
        if len(self.unsynced) > _SYNCED_AT_CLOSE:
            return
        with contextlib.suppress(OSError):  # without the marker, the next process expects the leftovers of a crash
            for name in sorted(self.unsynced):
                self.sync(name)
                if not ends_whole(name):
                    return
            self._files.close(self._files.open_new(_NAME))
