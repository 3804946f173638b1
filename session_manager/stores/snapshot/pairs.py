"""The snapshot of a session as bytes, read beside its writer and without decoding its messages."""

from __future__ import annotations

import os

from session_manager.codec.json import DecodeError
from session_manager.errors import UnsupportedFormatError
from session_manager.model.session import Version
from session_manager.stores.archive.pairs import Pair
from session_manager.stores.contract import Finding
from session_manager.stores.files.atomic import NotRegularError, read_whole
from session_manager.stores.files.filesystem import Files
from session_manager.stores.snapshot.format import decode_header

__all__ = ["read_snapshot"]


def read_snapshot(files: Files, key: str, name: str) -> Pair | None:
    """Return the file of a session, of which only the header is checked; `None` if there is no file.

    :raises OSError: if it cannot be read.
    """
    path = os.path.join(files.path, name)
    try:
        data, _ = read_whole(files, name)
    except FileNotFoundError:
        return None
    except NotRegularError as error:
        return Pair((), damage=Finding(key, path, 0, f"is {error}"))
    try:
        state = decode_header(data[: data.find(b"\n") + 1] or data, path)
    except DecodeError as error:
        return Pair(((name, data),), damage=Finding(key, path, error.offset, error.reason))
    except UnsupportedFormatError as error:
        return Pair(((name, data),), damage=Finding(key, path, 0, error.reason))
    return Pair(((name, data),), Version(state.generation, state.revision), state.count, state.archived or 0)
