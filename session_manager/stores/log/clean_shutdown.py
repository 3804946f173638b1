"""Whether what is read back is durable: the file ``.clean``.

A process that is killed between its write and its sync leaves a record in the page cache, which the next process would
read, answer for, and lose with the power. ``.clean`` says that nothing of the kind is there. It is removed when a writer
opens the directory, and created when that writer has closed it, with everything synced and no torn record. If it is missing,
each file is synced before its first load is believed. (After a power cut nothing is in the page cache, so the mark itself
needs no sync.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

from session_manager.stores.files.filesystem import Files

__all__ = ["CleanMark"]

_NAME = ".clean"
#: How many files are synced at the end that nobody touched since a crash; of more, the next process syncs what it loads.
_SYNCED_AT_CLOSE = 1000


class CleanMark:
    """The mark of a directory that is opened for writing, under its lock. Taken away, until `put_back`.

    :param files: the directory.
    :param other_names: what is in it besides.
    :param names: the files that may hold what was not synced.
    :raises OSError: if it cannot be taken away.
    """

    def __init__(self, files: Files, other_names: Collection[str], names: Collection[str]) -> None:
        self._files = files
        #: The files that are still to be synced.
        self.unsynced: set[str] = set()
        if _NAME in other_names:
            files.unlink(_NAME)
        else:
            self.unsynced.update(names)

    def sync(self, name: str) -> None:
        """Sync a file, if it may need that.

        :raises OSError: if that fails. It is not to be tried again: the file must be written anew.
        """
        if name not in self.unsynced:
            return
        fd = self._files.open_read(name)
        try:
            self.unsynced.discard(name)
            self._files.sync(fd)
        finally:
            with contextlib.suppress(OSError):
                self._files.close(fd)

    def put_back(self, ends_whole: Callable[[str], bool]) -> None:
        """Create the mark: everything that was written is synced. What was not touched is synced now, unless it is much.

        :param ends_whole: says whether a file's last line is whole. Without the mark the next process looks at it, too.
        """
        if len(self.unsynced) > _SYNCED_AT_CLOSE:
            return
        with contextlib.suppress(OSError):  # without it, the next process takes what is here for what a crash left
            for name in sorted(self.unsynced):
                self.sync(name)
                if not ends_whole(name):
                    return
            self._files.close(self._files.open_new(_NAME))
