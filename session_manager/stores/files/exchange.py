"""Two names of a directory that change places in one step: `renameat2` with ``RENAME_EXCHANGE``, from Linux 3.15.

Python has no call for it. A C library may lack it as well, so the system call is then made by its number
(https://man7.org/linux/man-pages/man2/rename.2.html, https://gpages.juszkiewicz.com.pl/syscalls-table/syscalls.html).
"""

from __future__ import annotations

import errno
import os
import platform
import sys

__all__ = ["exchange"]

_EXCHANGE = 2
_NUMBERS = {"x86_64": 316, "aarch64": 276, "riscv64": 276}


def exchange(directory: int, one: str, other: str) -> None:
    """Let two names in an open directory change places, atomically.

    :param directory: its descriptor.
    :raises OSError: if that fails; nothing has changed. ``ENOSYS``: the system has no such call. ``EINVAL``: the file system has not.
    """
    if not sys.platform.startswith("linux"):  # pragma: no cover - other systems
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import ctypes  # only a restore needs it, and it takes time to import

    library = ctypes.CDLL(None, use_errno=True)
    names = (directory, os.fsencode(one), directory, os.fsencode(other), _EXCHANGE)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(*names)
    elif platform.machine() in _NUMBERS:
        failed = library.syscall(_NUMBERS[platform.machine()], *names)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
