"""Reading the file of one session, in the errors of the store contract."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from session_manager.atomic import NotRegularError
from session_manager.codec import DecodeError
from session_manager.errors import CorruptSessionError, StorageError
from session_manager.files import Files

__all__ = ["reading"]

T = TypeVar("T")


def reading(files: Files, key: str, name: str, decoded: Callable[[str], tuple[str, T]]) -> T | None:
    """Read a file, and check that it is the key's; return `None` if there is no file.

    :param decoded: reads it, given its path for errors; returns the key in it, and the value.
    :raises CorruptSessionError: if it is damaged, not a regular file, or another key's.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it cannot be read.
    """
    path = os.path.join(files.path, name)
    failure: DecodeError | None = None
    try:
        found, value = decoded(path)
    except FileNotFoundError:
        return None
    except NotRegularError as error:
        failure = DecodeError(0, f"is {error}")
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error
    except DecodeError as error:
        failure = error
    if failure is not None:
        raise CorruptSessionError(key, path, failure.offset, failure.reason)
    if found != key:
        raise CorruptSessionError(key, path, 0, "is the file of another session")
    return value
