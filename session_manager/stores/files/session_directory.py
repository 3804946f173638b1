"""An open directory with one file a session: locked by its one writer, or read beside it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from session_manager.codec.json import DecodeError
from session_manager.errors import (
    ClosedError,
    CorruptSessionError,
    ForkedError,
    InvalidStorageError,
    ReadOnlyError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    StorageError,
    UnsupportedFormatError,
    raise_alone,
)
from session_manager.resource import Resource
from session_manager.stores.contract import Finding
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.files.atomic import NotRegularError, remove_orphans
from session_manager.stores.files.directory_lock import DirectoryLock, has_lock_file
from session_manager.stores.files.filesystem import Files, create_directory, real_path
from session_manager.stores.files.foreign import foreign_below, foreign_finding, foreign_in, foreign_objection
from session_manager.stores.files.kinds import BACKUP_OBJECTION, MANIFEST, SUFFIXES, objection, sessions_in
from session_manager.stores.files.listing import Listing
from session_manager.stores.files.names import file_name, is_hashed, key_of
from session_manager.stores.files.quarantine import (
    count_in,
    purge,
    quarantine,
    quarantined,
    quarantined_of,
    read,
)

__all__ = ["SessionDirectory", "reading"]

T = TypeVar("T")


class SessionDirectory(Resource):
    """The files of a store in a directory.

    The writer lists the files once, and then knows them. A reader beside it looks each time.

    :param path: the directory; the writer creates it, 0700, if it is missing.
    :param suffix: how the names of sessions' files end.
    :param read_key: reads the key in a file, given the directory and a name; may raise what decoding raises.
    :param files: opens the directory.
    :param read_only: reads beside a writer, without its lock.
    :raises InvalidStorageError: if it holds sessions that stores of another kind read, or sessions of another program.
    :raises StorageLockedError: if another process, or another store, has it open for writing.
    :raises StorageError: if it cannot be created, read or locked; with `read_only`, if it is not there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        suffix: str,
        read_key: Callable[[Files, str], str],
        *,
        files: Callable[[str], Files],
        read_only: bool,
    ) -> None:
        self._given = os.fspath(path)
        self.path = real_path(path)
        self.read_only = read_only
        self._suffix = suffix
        self._scheme = next(scheme for scheme, end in SUFFIXES.items() if end == suffix)
        self._read_key = read_key
        self._hashed: dict[str, str] = {}
        self._closed = False
        self._pid = os.getpid()
        self._lock: DirectoryLock | None = None
        #: Keys of sessions whose deletion may not survive a power cut.
        self.undeleted: set[str] = set()
        try:
            if not read_only:
                create_directory(self.path)
            opened: object = files(self.path)
        except OSError as error:
            raise StorageError(self.path, f"cannot be opened: {error.strerror}") from error
        if not isinstance(opened, Files):
            raise TypeError(f"files() must return a Files, not {type(opened).__name__}")
        self.files = opened
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """List the directory, under its lock. Renames of a killed process are made durable first."""
        if not self.read_only:
            self._lock = self._locked()
            self._check_place()
        self.other_names = self._checked()
        self.files.quarantined = count_in(self.other_names)
        if self._lock is None:
            return
        self._lock.sign()
        try:
            remove_orphans(self.files, self.other_names)
            self.files.sync_directory()
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error

    def _locked(self) -> DirectoryLock:
        """Take the lock. A directory of another kind is told before its lock: nothing is created in it.

        What is listed before the lock may change until it is held. So a directory with a lock file is listed once, under the lock.
        """
        failure: StorageError | None = None
        if not has_lock_file(self.files):
            self._checked()
        try:
            return DirectoryLock(self.files)
        except StorageError as error:
            failure = error
        self._checked()
        raise failure

    def _checked(self) -> list[str]:
        """List the directory as `listed` does.

        :raises InvalidStorageError: if it is none that may be opened so.
        """
        others = self.listed(InvalidStorageError)
        if not self.read_only and MANIFEST in others:
            raise InvalidStorageError(self._given, BACKUP_OBJECTION)
        return others

    def _check_place(self) -> None:
        """Raise if another directory has taken the path since this one was opened: nothing that is saved here would be found.

        :raises StorageError: if so; open it once more.
        """
        place = self.files.place()
        if place is not None and place != _place_of(self.path):
            raise StorageError(self.path, "was replaced while it was being opened: open it once more")

    def listed(self, refused: Callable[[str, str], Exception] = StorageError) -> list[str]:
        """Note the sessions' files that are in the directory now, and return the other names.

        :param refused: makes the error that is raised if the directory holds sessions that stores of another kind read, or
            sessions of another program.
        :raises StorageError: if it cannot be read.
        """
        try:
            names = self.files.names()
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error
        self.listing = listing = Listing(names, self._suffix)
        others = listing.others
        found: dict[str, Collection[str]] = {**sessions_in(others)}
        if found and listing.has_sessions:
            found[self._scheme] = listing.sessions
        reason = objection(self._given, found, self._scheme)
        if not reason and not self.files.adopts:
            foreign = foreign_in(self.files, others)
            if not foreign and self.read_only and not listing.has_sessions:
                foreign = foreign_below(self.path, others)
            reason = foreign_objection(self._given, foreign, names)
        if reason:
            raise refused(self._given, reason)
        return others

    def check_open(self) -> None:
        """Raise if no call may be made.

        :raises ClosedError: after `close`.
        :raises ForkedError: in a forked child, which has no lock on the directory.
        """
        if self._closed:
            raise ClosedError
        if self._lock is not None and not self._lock.is_held:
            raise ClosedError if os.getpid() == self._pid else ForkedError

    def check_writable(self) -> None:
        """Raise unless the directory may be written to.

        :raises ClosedError: after `close`.
        :raises ReadOnlyError: if it was opened so.
        """
        if self._closed or self._lock is None or not self._lock.is_held:
            self.check_open()
            raise ReadOnlyError

    @property
    def names(self) -> set[str]:
        """The names of the sessions' files that were listed; the writer keeps them up to date."""
        return self.listing.sessions

    def name(self, key: str) -> str:
        """Return the name of a session's file."""
        return file_name(key, self._suffix)

    def path_of(self, name: str) -> str:
        """Return the path of a file."""
        return os.path.join(self.path, name)

    def may_have(self, name: str) -> bool:
        """Say whether it is worth looking for a file."""
        return self.read_only or self.listing.may_have(name)

    def look_for(self, name: str) -> None:
        """Note the file that an interrupted write has left, if there is one."""
        with contextlib.suppress(OSError):
            if self.files.stat(name) is not None:
                self.names.add(name)

    def keys(self) -> set[str]:
        """Return the keys of the listed sessions' files, damaged files included."""
        return {key for name in list(self.names) if (key := self._key_of(name)) is not None}

    def _key_of(self, name: str) -> str | None:
        if not is_hashed(name, self._suffix):
            return key_of(name, self._suffix)
        if name not in self._hashed:
            try:
                key = self._read_key(self.files, name)
            except (OSError, NotRegularError, DecodeError, UnsupportedFormatError):
                return None
            if self.name(key) != name:
                return None
            self._hashed[name] = key
        return self._hashed[name]

    def sizes(self, prefix: str, suffix: str) -> dict[str, int]:
        """Return how many bytes the files of each listed session have, by key.

        :param suffix: of the names of further files of a session.
        :raises StorageError: if they cannot be read.
        """
        keys = [key for key in self.keys() if key.startswith(prefix)]
        return {key: self._bytes([file_name(key, self._suffix), file_name(key, suffix)]) for key in keys}

    def total_bytes(self) -> int:
        """Return how many bytes all files of the directory have.

        :raises StorageError: if they cannot be read.
        """
        try:
            names = self.files.names()
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error
        return self._bytes(names)

    def _bytes(self, names: Iterable[str]) -> int:
        try:
            found = [self.files.stat(name) for name in names]
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error
        return sum(one.st_size for one in found if one is not None and stat.S_ISREG(one.st_mode))

    def strays(self) -> list[Finding]:
        """Return the files that have the suffix, but neither a key's name nor a key in them, and those of other programs.

        :raises StorageError: if the directory cannot be read.
        """
        reason = "its name or its header is not that of a session"
        names = sorted(name for name in list(self.names) if self._key_of(name) is None)
        findings = [Finding(None, self.path_of(name), 0, reason) for name in names]
        try:
            foreign = foreign_in(self.files, self.files.names())
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error
        return findings + [
            Finding(None, self.path_of(name), None, foreign_finding(one)) for one in foreign for name in foreign[one]
        ]

    def remove(self, key: str, *, damaged: bool, mark: str | None = None) -> None:
        """Remove a session's file, durably.

        :param damaged: move it to quarantine instead.
        :param mark: rename it to this instead, unless `damaged`.
        :raises SaveFailedError: nothing was removed.
        :raises SaveOutcomeUnknownError: it was, but may come back after a power cut.
        """
        name = self.name(key)
        self.undeleted.add(key)
        try:
            self._drop(name, mark, damaged=damaged)
        except OSError as error:
            if not self._is_there(name):
                raise SaveOutcomeUnknownError(key, f"its deletion: {error.strerror}") from error
            raise SaveFailedError(key, f"it could not be deleted: {error.strerror}") from error
        self.names.discard(name)
        try:
            self.files.sync_directory()
        except OSError as error:
            raise SaveOutcomeUnknownError(key, f"its deletion: {error.strerror}") from error
        self.undeleted.discard(key)

    def _drop(self, name: str, mark: str | None, *, damaged: bool) -> None:
        try:
            if damaged:
                quarantine(self.files, name)
            elif mark is not None:
                self.files.rename(name, mark)
            else:
                self.files.unlink(name)
        except FileNotFoundError:
            pass

    def _is_there(self, name: str) -> bool:
        """Say whether a file that could not be removed is still there: the error may have come after the removal."""
        try:
            return self.files.stat(name) is not None
        except OSError:
            return True

    # Quarantine

    def quarantined(self, keys: Collection[str] | None = None) -> list[Quarantined]:
        """Describe the files in quarantine, the oldest first.

        :param keys: only those of these sessions.
        :raises StorageError: if the directory cannot be read.
        """
        self.check_open()
        try:
            return quarantined(self.files) if keys is None else quarantined_of(self.files, keys)
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error

    def read_quarantined(self, name: str) -> bytes | None:
        """Return the bytes of a file in quarantine; `None` if there is no such file.

        :raises StorageError: if it cannot be read.
        """
        self.check_open()
        try:
            return read(self.files, name)
        except OSError as error:
            raise StorageError(self.path_of(name), f"cannot be read: {error.strerror}") from error

    def purge_quarantined(self, name: str) -> bool:
        """Remove a file in quarantine, durably; return whether it was there.

        :raises SaveFailedError: if it cannot be removed, or may come back after a power cut.
        """
        self.check_writable()
        try:
            return purge(self.files, name)
        except OSError as error:
            raise SaveFailedError(None, f"{name} could not be removed: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the lock and the directory; idempotent."""
        if not self._closed:
            if self._lock is not None:
                self._lock.release()
            self.files.close_directory()
            self._closed = True


def _place_of(path: str) -> tuple[int, int] | None:
    """Return the device and the inode that a path has now; `None` if there is nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def reading(files: Files, key: str, name: str, decoded: Callable[[str], tuple[str, T]]) -> T | None:
    """Read a file, and check that it is the key's; return `None` if there is no file.

    :param decoded: reads the file, given its path for errors; returns the key in the file, and the value.
    :raises CorruptSessionError: if it is damaged, not a regular file, or another key's.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it cannot be read.
    """
    path = f"{files.path}{os.sep}{name}"
    try:
        found, value = decoded(path)
    except FileNotFoundError:
        return None
    except NotRegularError as error:
        raise_alone(CorruptSessionError(key, path, 0, f"is {error}"))
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise_alone(CorruptSessionError(key, path, error.offset, error.reason))
    if found != key:
        raise CorruptSessionError(key, path, 0, "is the file of another session")
    return value
