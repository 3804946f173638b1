"""A file of which no more than a piece is in RAM while it is written, and which has its name when it is whole.

The steps are those of `session_manager.stores.files.atomic`: a temporary file in the same directory, 0600, is written, synced and
renamed, and the directory is synced. Nothing is tried twice, as the pieces are there only once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat as stat_module
from collections.abc import Iterable

from session_manager.stores.files.atomic import NotRegularError, write_all
from session_manager.stores.files.filesystem import Files

__all__ = ["write_pieces"]


def write_pieces(path: str, pieces: Iterable[bytes], files: Files | None = None) -> int:
    """Write a file, or replace one, durably; return how many bytes it has.

    :param path: where it is to be. If that is a link, the file that it leads to is replaced.
    :param files: the directory of that file, which stays open; by default it is opened.
    :raises NotRegularError: if something else than a file is there. It stays as it is.
    :raises OSError: if the file cannot be written. What was there stays as it is, unless the sync of the directory failed.
    """
    place, name = os.path.split(os.path.realpath(path))
    its = Files(place) if files is None else files
    try:
        return _write(its, name, pieces)
    finally:
        if files is None:
            its.close_directory()


def _write(files: Files, name: str, pieces: Iterable[bytes]) -> int:
    status = files.stat(name) if name else None
    if not name or (status is not None and not stat_module.S_ISREG(status.st_mode)):
        raise NotRegularError("no regular file")
    temporary, size = f".tmp-{secrets.token_hex(8)}", 0
    is_renamed = False
    try:
        fd = files.open_new(temporary)
        try:
            for piece in pieces:
                write_all(files, fd, [piece])
                size += len(piece)
            files.sync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, name)
        is_renamed = True
    finally:
        if not is_renamed:
            with contextlib.suppress(OSError):
                files.unlink(temporary)
    files.sync_directory()
    return size
