"""Renames that Python has no call for: two names that change places, and a name that nothing may have yet.

Both are `renameat2`, with ``RENAME_EXCHANGE`` and ``RENAME_NOREPLACE``, from Linux 3.15.

A C library may lack it, so the system call is then made by its number
(https://man7.org/linux/man-pages/man2/rename.2.html, https://gpages.juszkiewicz.com.pl/syscalls-table/syscalls.html).
"""

from __future__ import annotations

import errno
import os
import platform
import sys

__all__ = ["exchange", "rename_new"]

_NO_REPLACE, _EXCHANGE = 1, 2
_NUMBERS = {"x86_64": 316, "aarch64": 276, "riscv64": 276}


def exchange(directory: int, one: str, other: str) -> None:
    """Let two names in an open directory change places, atomically.

    :param directory: its descriptor.
    :raises OSError: if that fails; nothing has changed. ``ENOSYS``: the system has no such call. ``EINVAL``: the file system has not.
    """
    _renameat2(directory, one, other, _EXCHANGE)


def rename_new(directory: int, source: str, target: str) -> None:
    """Give a file in an open directory another name, atomically, unless something has that name.

    :param directory: its descriptor.
    :raises FileExistsError: if something has it.
    :raises OSError: as `exchange` does.
    """
    _renameat2(directory, source, target, _NO_REPLACE)


def _renameat2(directory: int, one: str, other: str, flags: int) -> None:
    if not sys.platform.startswith("linux"):  # pragma: no cover - other systems
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import ctypes  # only a restore and an adoption need it, and it takes time to import

    library = ctypes.CDLL(None, use_errno=True)
    names = (directory, os.fsencode(one), directory, os.fsencode(other), flags)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(*names)
    elif platform.machine() in _NUMBERS:
        failed = library.syscall(_NUMBERS[platform.machine()], *names)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
