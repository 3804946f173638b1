"""The files of a source: found, opened to be read only, and left as they are."""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Container, Iterator
from datetime import datetime, timezone

import attrs

from session_manager.errors import StorageError
from session_manager.importers.reading import SourceDatabase, SourceFile
from session_manager.stores.files.recognition import metas_in, owner_of
from session_manager.stores.sqlite.foreign import ForeignDatabase

__all__ = ["FoundFile", "Unreadable", "files_of"]

_PIECE = 1 << 20


class FoundFile(SourceFile):
    """A file on the disk.

    :param path: where it is.
    :param name: its path below the source.
    :param names: the names in its directory.
    :param metas: those of them that are names of metadata.
    :raises StorageError: if it is not there, or is no file, such as a pipe, which would be waited for.
    """

    def __init__(self, path: str, name: str, names: Container[str] = (), metas: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.name = name
        self.names = names
        self.metas = metas
        try:
            status = os.stat(path)
        except OSError as error:
            raise StorageError(path, f"cannot be read: {error.strerror}") from error
        if not stat_module.S_ISREG(status.st_mode):
            raise StorageError(path, "is no file")
        self.modified = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, timezone.utc)
        self.size = status.st_size
        #: How many bytes have been read.
        self.read = 0

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the bytes, piece by piece.

        :raises StorageError: if it cannot be read.
        """
        self.read = 0
        try:
            with open(self.path, "rb") as opened:
                while piece := opened.read(_PIECE):
                    self.read += len(piece)
                    yield piece
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error

    def database(self) -> SourceDatabase:
        """Return the database that the file is."""
        return ForeignDatabase(self.path)

    def beside(self, name: str) -> bytes | None:
        """Return the bytes of another file in the same directory; `None` if there is none of that name.

        :raises StorageError: if it cannot be read.
        """
        if not name or "/" in name or "\0" in name:
            return None
        path = os.path.join(os.path.dirname(self.path), name)
        if not _is_regular(path):
            return None
        return FoundFile(path, name).whole()


@attrs.frozen
class Unreadable:
    """A file or directory below a source that cannot be read."""

    #: Its path below the source.
    name: str
    #: Why.
    reason: str


def files_of(source: str) -> tuple[list[FoundFile], list[Unreadable]]:
    """Return the files of a source: the file that it is, or all below the directory that it is, by their names.

    What cannot be read below a directory comes second.

    Hidden files and directories are left out, and so are links, whatever is no file, and files that only belong to another one.

    :raises StorageError: if it is not there, or cannot be read.
    """
    if not os.path.lexists(source):
        raise StorageError(source, "is not there")
    if not os.path.isdir(source):
        around = _names_in(os.path.dirname(source) or ".")
        return [FoundFile(source, os.path.basename(source), around, metas_in(around))], []

    found: list[FoundFile] = []
    lost: list[Unreadable] = []

    def failed(error: OSError) -> None:
        if error.filename in (None, source):
            raise StorageError(source, f"cannot be read: {error.strerror}") from error
        lost.append(Unreadable(_below(source, error.filename), f"cannot be read: {error.strerror}"))

    for directory, below, names in os.walk(source, onerror=failed):
        below[:] = sorted(name for name in below if not name.startswith("."))
        around, metas = frozenset(names), metas_in(names)
        for name in names:
            path = os.path.join(directory, name)
            if not name.startswith(".") and owner_of(name, around) is None and _is_regular(path):
                try:
                    found.append(FoundFile(path, _below(source, path), around, metas))
                except StorageError as error:  # it was removed meanwhile
                    lost.append(Unreadable(_below(source, path), error.reason))
    return sorted(found, key=lambda one: one.name), sorted(lost, key=lambda one: one.name)


def _below(source: str, path: str) -> str:
    """Return a path below the source, with ``/``."""
    return os.path.relpath(path, source).replace(os.sep, "/")


def _names_in(directory: str) -> frozenset[str]:
    """Return the names in a directory; none if it cannot be listed."""
    try:
        return frozenset(os.listdir(directory))
    except OSError:
        return frozenset()


def _is_regular(path: str) -> bool:
    try:
        return stat_module.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
