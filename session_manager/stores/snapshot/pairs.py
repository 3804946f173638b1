"""The snapshot of a session as bytes, read beside its writer and without decoding its messages."""

from __future__ import annotations

import os
from collections.abc import Sequence

from session_manager.codec.json import DecodeError
from session_manager.errors import CorruptSessionError, StorageError, UnsupportedFormatError
from session_manager.model.session import Version
from session_manager.stores.archive.pairs import Pair
from session_manager.stores.contract import Finding
from session_manager.stores.files.atomic import NotRegularError, read_whole
from session_manager.stores.files.filesystem import Files
from session_manager.stores.snapshot.format import decode_header
from session_manager.stores.snapshot.picoclaw_files import LegacyFiles

__all__ = ["read_legacy", "read_snapshot"]


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


def read_legacy(files: Files, key: str, legacy: LegacyFiles) -> Pair | None:
    """Return the file of a session of picoclaw's; `None` if there is none.

    :raises OSError: if it cannot be read.
    """
    found = _there(files, legacy.names_of(key, damaged=True))
    if not found:
        return None
    try:
        session = legacy.load(key)
    except (CorruptSessionError, StorageError) as error:
        return Pair(found, damage=Finding(key, error.path, getattr(error, "offset", None), error.reason))
    return None if session is None else Pair(found, session.version, len(session.messages))


def _there(files: Files, names: Sequence[str]) -> tuple[tuple[str, bytes], ...]:
    found = []
    for name in names:
        try:
            found.append((name, read_whole(files, name)[0]))
        except (FileNotFoundError, NotRegularError):
            continue
    return tuple(found)
