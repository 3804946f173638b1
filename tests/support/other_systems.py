"""Directories as Windows and macOS have them, simulated on the directory that is there."""

from __future__ import annotations

import errno
import os
import re
import unicodedata

from session_manager.stores.files import exchange, filesystem
from session_manager.stores.files.filesystem import Files

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)
_NO_CHARACTER = re.compile(r'[<>:"/\\|?*\x00-\x1f]')

#: The open files, those of all directories: descriptor -> (path, whether it can be written).
_open: dict[int, tuple[str, bool]] = {}


class FoldingFiles(Files):
    """A directory in which names that differ in case, or in the form of Unicode, are one."""

    def fold(self, name: str) -> str:
        """Return what is equal for two names of one file."""
        return unicodedata.normalize("NFD", name).casefold()

    def _at(self, name):
        wanted = self.fold(name)
        return super()._at(next((there for there in super().names() if self.fold(there) == wanted), name))


class MacFiles(FoldingFiles):
    """A directory of macOS, whose listing shows names in another form than they were given in."""

    def names(self):
        return [unicodedata.normalize("NFD", name) for name in super().names()]


class WindowsFiles(FoldingFiles):
    """A directory of Windows, of a process that `pretend_windows` has prepared.

    Some names are refused (https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
    """

    def fold(self, name):
        return name.casefold()

    def _at(self, name):
        if _NO_CHARACTER.search(name) or _DEVICE.match(name) or name.endswith((".", " ")):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        return super()._at(name)

    def open_read(self, name):
        return _opened(self._at(name), super().open_read(name), writable=False)

    def open_new(self, name):
        return _opened(self._at(name), super().open_new(name), writable=True)

    def open_append(self, name):
        return _opened(self._at(name), super().open_append(name), writable=True)

    def close(self, fd):
        _open.pop(fd, None)
        super().close(fd)


def _opened(path, fd, *, writable):
    _open[fd] = (path.casefold(), writable)
    return fd


def _refused_while_open(step):
    """Refuse to rename or remove a file that is open, whoever has opened it.

    The C library opens files without ``FILE_SHARE_DELETE`` (https://learn.microsoft.com/windows/win32/fileio/creating-and-opening-files).
    """

    def refuse(*paths, **options):
        there = {path for path, _ in [*_open.values()]}
        for path in paths:
            if path.casefold() in there:
                raise PermissionError(errno.EACCES, "used by another process", path)
        return step(*paths, **options)

    return refuse


def _writers_only(sync):
    """Refuse to sync a file through a descriptor that only reads: ``FlushFileBuffers`` wants one that writes."""

    def refuse(fd):
        if fd in _open and not _open[fd][1]:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return sync(fd)

    return refuse


def pretend_mac(monkeypatch):
    """Let directories be `MacFiles`."""
    monkeypatch.setattr(filesystem, "_HAS_DIR_FD", False)


def pretend_windows(monkeypatch):
    """Let directories be `WindowsFiles`, and let the system refuse what Windows refuses."""
    monkeypatch.setattr(filesystem, "_HAS_DIR_FD", False)
    monkeypatch.setattr(filesystem, "_SYNCS_READERS", False)
    monkeypatch.setattr(filesystem, "_PATIENCE", 2.0)
    monkeypatch.setattr(filesystem, "_sync_data", _writers_only(os.fsync))
    monkeypatch.setattr(os, "fsync", _writers_only(os.fsync))
    monkeypatch.setattr(os, "replace", _refused_while_open(os.replace))
    monkeypatch.setattr(os, "unlink", _refused_while_open(os.unlink))
    for missing in ("pread", "fchmod", "chown", "register_at_fork"):
        monkeypatch.delattr(os, missing)
    monkeypatch.setattr(filesystem, "_HAS_WRITEV", False)
    monkeypatch.setattr(exchange.sys, "platform", "win32")
