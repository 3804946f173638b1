"""A store with a file for each session in a directory: what does not depend on the format of the files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

from session_manager.errors import StorageError
from session_manager.model.message import Message
from session_manager.model.session import Version
from session_manager.stores.archive.files import ArchiveFiles
from session_manager.stores.archive.pairs import Pair, read_pair
from session_manager.stores.contract import Finding, Store
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.erasure import Erasure
from session_manager.stores.files.erasing import Erasures
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.kinds import ARCHIVE_SUFFIX
from session_manager.stores.files.renames import Renames
from session_manager.stores.files.session_directory import SessionDirectory

__all__ = ["DirectoryStore"]


class DirectoryStore(Store):
    """A store of snapshots, or of logs: its directory, its archives, its quarantine.

    What a killed process has left half done is finished when it is opened for writing.

    :param path: the directory; created, 0700, if it is missing.
    :param suffix: how the names of sessions' files end.
    :param read_key: reads the key in a file, as `SessionDirectory` asks for it.
    :param read_only: read beside the writer, and see what it saves.
    :param files: opens the directory.
    :raises InvalidStorageError, StorageLockedError, StorageError: as `SessionDirectory` does.
    """

    archives = True
    tokenless = True

    def __init__(
        self,
        path: str,
        suffix: str,
        read_key: Callable[[Files, str], str],
        *,
        read_only: bool,
        files: Callable[[str], Files],
    ) -> None:
        self.shared = read_only
        self._directory = SessionDirectory(path, suffix, read_key, files=files, read_only=read_only)
        self.path, self._files = self._directory.path, self._directory.files
        try:
            self._archives = ArchiveFiles(self._directory, suffix)
            self._renames = Renames(self._directory, self)
            self._erasures = Erasures(self._directory, self)
            self._prepare()
            if not read_only:
                self._renames.finish()
                self._erasures.finish()
        except BaseException:
            self._directory.close()
            raise

    def _prepare(self) -> None:
        """Make what a format needs beside the directory, before any call."""

    @abstractmethod
    def _pair(self, key: str) -> Pair | None:
        """Return a session's file as bytes, without its archive; `None` if there is none."""

    def pair(self, key: str) -> Pair | None:
        """Return the files of a session as bytes (`session_manager.stores.archive.pairs`); `None` if there is none.

        :raises StorageError: if they cannot be read.
        """
        self._directory.check_open()
        try:
            return read_pair(self._files, key, self._pair, self.version)
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error

    def has_archive(self, key: str) -> bool:
        return self._archives.may_have(key)

    def archive(self, key: str) -> Iterator[Message]:
        self._directory.check_open()
        return iter(self._archives.read(key, self.version))

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._list()
        found = self._directory.keys()
        return iter([key for key in found if key.startswith(prefix)])

    def sizes(self, prefix: str = "") -> dict[str, int]:
        self._list()
        return self._directory.sizes(prefix, ARCHIVE_SUFFIX)

    def total_bytes(self) -> int:
        self._directory.check_open()
        return self._directory.total_bytes()

    def _list(self) -> None:
        """Have the directory know the sessions that are there: the writer knows them, a reader lists them."""
        self._directory.check_open()
        if self._directory.read_only:
            self._directory.listed()

    def rename(self, key: str, new_key: str, expected: Version) -> None:
        self._directory.check_writable()
        self._renames.run(key, new_key, expected)

    def quarantined(self) -> list[Quarantined]:
        return self._directory.quarantined()

    def quarantined_of(self, key: str) -> list[Quarantined]:
        return self._directory.quarantined([key])

    def count_quarantined(self) -> int:
        return self._files.quarantined

    def read_quarantined(self, name: str) -> bytes | None:
        return self._directory.read_quarantined(name)

    def purge_quarantined(self, name: str) -> bool:
        return self._directory.purge_quarantined(name)

    def erase(self, keys: Sequence[str], tell: Callable[[str], object] = str) -> Erasure:
        self._directory.check_writable()
        return self._erasures.run(keys, tell)

    def copies_of(self, keys: Sequence[str]) -> list[Finding]:
        self._directory.check_open()
        return self._erasures.copies(keys)

    def repairs(self) -> list[Finding]:
        self._directory.check_open()
        return self._archives.repairs()

    def strays(self) -> list[Finding]:
        self._directory.check_open()
        return [*self._directory.strays(), *self._archives.alone(), *self._erasures.unfinished()]

    def close(self) -> None:
        self._directory.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"
