"""An open directory, and the operations on it that all disk access goes through.

A store takes the class, or a factory of it; tests give one that fails or records. Every operation takes a plain name, never
a path, and works on the directory's descriptor. So no other program can swap the directory under it. Symbolic links are
never followed.

It is written for POSIX. Without ``dir_fd`` (Windows) the operations work on joined paths, and the directory is not synced.
macOS gets ``F_FULLFSYNC``. Tests simulate both systems; nobody has run it on them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat as stat_module
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

from session_manager.errors import StorageError
from session_manager.resource import Resource
from session_manager.stores.files.exchange import exchange, rename_new

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Files", "absolute", "create_directory", "real_path", "resolved"]

P = ParamSpec("P")

_log = logging.getLogger("session_manager")

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_HAS_DIR_FD = os.open in os.supports_dir_fd
#: Whether a descriptor that only reads can be synced. Windows syncs a file through one that writes (``FlushFileBuffers``).
_SYNCS_READERS = os.name == "posix"
#: How many seconds a rename or a removal waits, at most, while another program has the file open. Windows refuses it until then.
_PATIENCE = 0.0 if os.name == "posix" else 2.0
_PAUSE = 0.01
_NOWHERE = "is relative, and the working directory is gone: give an absolute path"
_HAS_WRITEV = hasattr(os, "writev")
_MAX_BUFFERS = 1024
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_LOCK = os.O_RDWR | os.O_CREAT | (_READ ^ os.O_RDONLY)
_APPEND = os.O_WRONLY | os.O_APPEND | (_READ ^ os.O_RDONLY)
_BINARY = getattr(os, "O_BINARY", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)


class Files(Resource):
    """An open directory. Any thread may use it; `close_directory` only when no call is running.

    :param path: the directory, which must exist.
    :raises OSError: each method, as the system call does.
    """

    #: How many files of it are in quarantine: those at the opening, and those moved there since.
    quarantined = 0

    #: Whether another program's sessions in it are being taken over: a store does not refuse it for them then.
    adopts = False

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_CLOEXEC", 0)) if _HAS_DIR_FD else None

    def _at(self, name: str) -> str:
        return name if _HAS_DIR_FD else os.path.join(self.path, name)

    def names(self) -> list[str]:
        """Return the names in the directory, in no order."""
        return os.listdir(self.path if self._fd is None else self._fd)

    def place(self) -> tuple[int, int] | None:
        """Return the device and the inode of the directory; `None` where that is not known."""
        if self._fd is None:
            return None
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of a name (of a link itself, not of its target); `None` if there is no such name."""
        try:
            return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def fstat(self, fd: int) -> os.stat_result:
        """Return the status of an open file."""
        return os.fstat(fd)

    def open_read(self, name: str) -> int:
        """Open a file for reading, without waiting (a FIFO), and without following a link."""
        return os.open(self._at(name), _READ | _BINARY, dir_fd=self._fd)

    def open_new(self, name: str) -> int:
        """Create a file, which must not exist, for writing; its mode is 0600 under any umask."""
        fd = os.open(self._at(name), _NEW | _BINARY, 0o600, dir_fd=self._fd)
        try:
            if hasattr(os, "fchmod") and stat_module.S_IMODE(os.fstat(fd).st_mode) != 0o600:
                os.fchmod(fd, 0o600)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open_append(self, name: str) -> int:
        """Open a file, which must exist, for writing at its end, without waiting, and without following a link."""
        return os.open(name if _HAS_DIR_FD else self._at(name), _APPEND | _BINARY, dir_fd=self._fd)

    def open_to_sync(self, name: str) -> int:
        """Open a file, which must exist, for `sync`; it is neither read nor written."""
        return self.open_read(name) if _SYNCS_READERS else self.open_append(name)

    def open_old(self, name: str) -> list[int]:
        """Open a file that is about to be replaced, if there is one, and return its descriptor; it is not used but for `close`.

        What the file takes on the disk is then freed by `close`, and not by the rename. Windows does not replace an open file.
        """
        with contextlib.suppress(OSError):
            return [] if _PATIENCE else [self.open_read(name)]
        return []

    def open_lock(self, name: str) -> int:
        """Open a lock file, without following a link; it is created if it is missing."""
        return os.open(self._at(name), _LOCK, 0o600, dir_fd=self._fd)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes; ``b""`` is the end."""
        return os.read(fd, size)

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes from a place in a file."""
        if hasattr(os, "pread"):
            return os.pread(fd, size, offset)
        here = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            return os.read(fd, size)
        finally:
            os.lseek(fd, here, os.SEEK_SET)

    def write(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        """Write some of the buffers, in order, and return how many bytes."""
        if _HAS_WRITEV:
            return os.writev(fd, buffers[:_MAX_BUFFERS])
        return os.write(fd, b"".join(buffers))  # pragma: no cover - Windows

    def sync(self, fd: int) -> None:
        """Make a file's bytes and size survive a power cut. Never call it again after it failed."""
        _sync(fd)

    def sync_file(self, name: str) -> None:
        """Make a file durable that other code has written, as `sync` does.

        :raises OSError: if that fails.
        """
        fd = self.open_to_sync(name)
        try:
            self.sync(fd)
        finally:
            self.close(fd)

    def sync_data(self, fd: int) -> None:
        """Make a file's bytes and size survive a power cut, but not its times. Never call it again after it failed."""
        if _FULL_SYNC is not None:
            self.sync(fd)  # pragma: no cover - macOS
        else:
            _sync_data(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file off."""
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        """Close a file; an error here means that its bytes may be missing."""
        os.close(fd)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically; a file that has the name is replaced."""
        _patiently(os.replace, self._at(source), self._at(target), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def rename_new(self, source: str, target: str) -> None:
        """Give a file another name, unless something has that name. Where one step cannot do both, it looks first.

        :raises FileExistsError: if something has the name.
        """
        try:
            rename_new(-1 if self._fd is None else self._fd, self._at(source), self._at(target))
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
                raise
            if self.stat(target) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            self.rename(source, target)

    def exchange(self, one: str, other: str) -> None:
        """Let two names, of files or of directories, change places in one step.

        :raises OSError: with ``ENOSYS`` or ``EINVAL`` where the system, or the file system, cannot do that.
        """
        exchange(-1 if self._fd is None else self._fd, self._at(one), self._at(other))

    def make_directory(self, name: str) -> None:
        """Create a directory in this one; its mode is 0700 under any umask."""
        os.mkdir(self._at(name), 0o700, dir_fd=self._fd)
        os.chmod(self._at(name), 0o700, dir_fd=self._fd)

    def own(self, name: str, mode: int, user: int, group: int) -> None:
        """Give a file or a directory a mode and an owner. It must be no link."""
        status = os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)
        if hasattr(os, "chown") and (status.st_uid, status.st_gid) != (user, group):
            os.chown(self._at(name), user, group, dir_fd=self._fd, follow_symlinks=False)
        os.chmod(self._at(name), mode, dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove a name."""
        _patiently(os.unlink, self._at(name), dir_fd=self._fd)

    def remove_directory(self, name: str) -> None:
        """Remove an empty directory."""
        os.rmdir(self._at(name), dir_fd=self._fd)

    def sync_directory(self) -> None:
        """Make the names in the directory survive a power cut."""
        if self._fd is not None:
            self.sync(self._fd)

    def close_directory(self) -> None:
        """Close the directory; idempotent. Later calls fail."""
        if self._fd is not None and self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _patiently(step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Rename or remove a file, which may be open in another program for a moment on Windows: a search, a backup, a scanner of viruses.

    :raises OSError: as the step does; `PermissionError` after `_PATIENCE` seconds.
    """
    end = None
    while True:
        try:
            return step(*args, **kwargs)
        except PermissionError:
            now = time.monotonic()
            end = now + _PATIENCE if end is None else end
            if now >= end:
                raise
        time.sleep(_PAUSE)


def _sync(fd: int) -> None:
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(fd, _FULL_SYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return
    os.fsync(fd)


def resolved(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file or directory without links.

    :raises StorageError: if it is relative, and the working directory is gone.
    """
    try:
        return os.path.realpath(path)
    except FileNotFoundError as error:
        raise StorageError(os.fspath(path), _NOWHERE) from error


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file or directory, with its links.

    :raises StorageError: as `resolved` does.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError as error:
        raise StorageError(os.fspath(path), _NOWHERE) from error


def real_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a storage without links, so that all its openers name it alike.

    :raises StorageError: if it is a link to nothing: no storage is created through a link. Also as `resolved` does.
    """
    given = os.fspath(path)
    found = resolved(given)
    if os.path.islink(given) and not os.path.lexists(found):
        raise StorageError(given, f"is a link to {found}, which is not there: create that, or remove the link")
    return found


def create_directory(path: str) -> None:
    """Create a directory and its missing parents, each 0700, and make their names durable.

    The deepest existing directory is made durable as well: its creator may have been killed before that.

    :param path: an absolute path.
    :raises OSError: if it cannot be created, or is not a directory.
    """
    missing = []
    place = Path(path)
    while not place.exists():
        missing.append(place)
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    _sync_path(place.parent, required=False)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(0o700)
            directory.chmod(0o700)
        _sync_path(directory.parent, required=True)
    if os.name == "posix" and stat_module.S_IMODE(os.stat(path).st_mode) & 0o077:
        _log.warning("%s is open to other users: the keys of its sessions are not private (chmod 700)", path)


def _sync_path(path: Path, *, required: bool) -> None:
    if not _HAS_DIR_FD:  # pragma: no cover - Windows
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        if required:
            raise
        return
    try:
        _sync(fd)
    except OSError as error:
        if required or error.errno not in (errno.EINVAL, errno.EROFS, errno.EBADF):
            raise
    finally:
        os.close(fd)
