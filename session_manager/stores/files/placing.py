"""A file or a directory that takes another's name in one step, so that a kill or a power cut leaves the old one or the new one.

The new one is whole and durable under a name of its own. It gets the name under which the old one will be kept. Then the two
change places (`session_manager.stores.files.exchange`), and at no moment is there nothing, or a part, under the name. A killed process may
leave the new one under the name that is kept; nothing removes that.

Where a file system cannot exchange names, an old file is copied first, and the new one is renamed over it. An old directory
cannot be replaced in one step there, and is refused.
"""

from __future__ import annotations

import errno
import os
import secrets
from datetime import datetime

from session_manager.stores.files.atomic import read_pieces, write_all
from session_manager.stores.files.filesystem import Files

__all__ = ["CannotExchangeError", "NotDurableError", "copy_file", "kept_name", "like", "place"]

_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


class CannotExchangeError(Exception):
    """The file system cannot let two directories change places."""


class NotDurableError(Exception):
    """The new one is in its place, but a power cut may bring the old one back. The cause is the `OSError`."""


def kept_name(name: str, now: datetime) -> str:
    """Return a new name for what is replaced."""
    return f"{name}.replaced-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def place(files: Files, staged: str, name: str, kept: str) -> bool:
    """Give a staged file or directory a name, durably; return whether another one had it, and is kept.

    :param staged: its name; it is durable.
    :param kept: a new name for what has the name now.
    :raises CannotExchangeError: nothing has changed.
    :raises OSError: nothing has changed.
    :raises NotDurableError: it has the name.
    """
    if files.stat(name) is None:
        files.rename(staged, name)
        _sync(files)
        return False
    files.rename(staged, kept)
    try:
        files.sync_directory()
        files.exchange(kept, name)
    except OSError as error:
        files.rename(kept, staged)
        if error.errno not in _CANNOT:
            raise
        _replace(files, staged, name, kept)
    _sync(files)
    return True


def _sync(files: Files) -> None:
    try:
        files.sync_directory()
    except OSError as error:
        raise NotDurableError from error


def _replace(files: Files, staged: str, name: str, kept: str) -> None:
    if os.path.isdir(os.path.join(files.path, name)):
        raise CannotExchangeError
    copy_file(files, name, files, kept)
    files.sync_directory()
    files.rename(staged, name)


def copy_file(source: Files, name: str, target: Files, new: str) -> None:
    """Copy a file to a new one, durably.

    :raises NotRegularError, OSError: if that fails; what there is of the new one is left.
    """
    fd = target.open_new(new)
    try:
        for piece in read_pieces(source, name):
            write_all(target, fd, [piece])
        target.sync(fd)
    finally:
        target.close(fd)


def like(files: Files, name: str, old: os.stat_result) -> None:
    """Give a file or a directory the mode and the owner of the one that it is to replace: its program must be able to open it.

    :raises OSError: if that is not allowed.
    """
    files.own(name, old.st_mode & 0o777, old.st_uid, old.st_gid)
