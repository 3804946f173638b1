"""Durable writes of archive files: created, appended to, replaced, removed. Which archives there are is known here."""

from __future__ import annotations

import contextlib

from session_manager.stores.archive.format import encode_header
from session_manager.stores.files.atomic import Signature, read_whole, replace, signature, write_all
from session_manager.stores.files.quarantine import quarantine
from session_manager.stores.files.session_directory import SessionDirectory

__all__ = ["ArchiveWriter"]


class ArchiveWriter:
    """The writer of the archives in a directory. Every call is durable when it returns.

    A file is appended to only if it is certainly whole: otherwise it is replaced.

    :param directory: open, for writing.
    """

    def __init__(self, directory: SessionDirectory) -> None:
        self._directory = directory
        self._files = directory.files
        #: The names of the archives that are there.
        self.names: set[str] = set()
        #: Files whose last replacement or removal is visible, but may not survive a power cut.
        self.doubtful: set[str] = set()

    def is_still(self, name: str, written: Signature) -> bool:
        """Say whether a file is the one that was last read or written."""
        status = self._files.stat(name)
        return status is not None and signature(status) == written

    def create(self, key: str, name: str, lines: bytes) -> Signature:
        """Write a whole archive, in the place of the one that is there.

        :raises OSError: the old one is there.
        :raises OutcomeUnknownError: it may be the old one after a power cut.
        """
        self.names.add(name)
        return self.replace(name, [encode_header(key), lines])

    def replace(self, name: str, buffers: list[bytes]) -> Signature:
        """Replace a file. An unknown outcome makes the next call replace it again: a sync of the directory would prove nothing.

        :raises OSError, OutcomeUnknownError: as `create` does.
        """
        self.doubtful.add(name)
        written = replace(self._files, name, buffers, lambda: None)
        self.doubtful.discard(name)
        return written

    def append(self, name: str, expected: Signature, lines: bytes) -> Signature:
        """Append lines to a file. A file with a second name (a backup by hard links) is replaced.

        :param expected: of the file as it was last read or written.
        :raises OSError: if it is another one, or cannot be written: a part of the lines may be at its end.
        :raises OutcomeUnknownError: as `create` does.
        """
        written: Signature | None = None
        fd = self._files.open_append(name)
        try:
            status = self._files.fstat(fd)
            if signature(status) != expected:
                raise OSError(0, "another program changed the file")
            if status.st_nlink <= 1:
                write_all(self._files, fd, [lines])
                self._files.sync_data(fd)
                written = signature(self._files.fstat(fd))
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.close(fd)
            raise
        self._files.close(fd)
        return written or self.replace(name, [read_whole(self._files, name)[0], lines])

    def remove(self, name: str, *, aside: bool) -> None:
        """Remove a file, even if it is gone already.

        :param aside: move it to quarantine instead.
        :raises OSError: it may still be there.
        """
        if self._directory.undeleted:  # if a power cut brings the session back, its archive is there
            self._files.sync_directory()
        with contextlib.suppress(FileNotFoundError):
            if aside:
                quarantine(self._files, name)
            else:
                self._files.unlink(name)
        self._files.sync_directory()
        self.names.discard(name)
        self.doubtful.discard(name)
