"""A session's file and its archive as bytes that belong together, read beside the writer.

The session is read first, then its archive, then the session's version once more. An archive that is newer than its session does
no harm, since what it holds besides is still in that session. An older one would lack what a save has moved into it meanwhile.
So if the session has moved, both are read again. A session that moves each time is taken as long as its generation stays: only
a `clear` or a deletion takes lines out of an archive.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from session_manager.errors import StorageError
from session_manager.model.session import Version
from session_manager.stores.archive.format import SUFFIX
from session_manager.stores.contract import Finding
from session_manager.stores.files.atomic import NotRegularError, read_whole
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.names import file_name

__all__ = ["Pair", "read_pair"]

_ATTEMPTS = 8
_MOVES = "is cleared, or deleted and made again, all the time: try once more"


@attrs.frozen(eq=False, repr=False)
class Pair:
    """The files of a session, as they are on disk."""

    #: Names and bytes.
    files: tuple[tuple[str, bytes], ...]
    #: Its version; `None` if it cannot be read.
    version: Version | None = None
    #: How many messages it has.
    messages: int = 0
    #: How many messages were archived.
    archived: int = 0
    #: What is wrong, if it cannot be read.
    damage: Finding | None = None


def read_pair(
    files: Files, key: str, session: Callable[[str], Pair | None], version: Callable[[str], Version | None]
) -> Pair | None:
    """Return the file of a session and its archive; `None` if there is no such session.

    :param files: the directory.
    :param session: returns the session's own file.
    :param version: returns the version that this file has now.
    :raises StorageError: if they cannot be read, or never belong together.
    """
    found: Pair | None = None
    for _ in range(_ATTEMPTS):
        found = session(key)
        if found is None:
            return None
        archive = _archive(files, key)
        if archive is not None:
            found = attrs.evolve(found, files=(*found.files, archive))
        now = _quiet(version, key)
        if found.version is not None and found.version == now:
            return found
    if found is None or found.version is None or (now is not None and now.generation == found.version.generation):
        return found
    raise StorageError(files.path, _MOVES)


def _archive(files: Files, key: str) -> tuple[str, bytes] | None:
    name = file_name(key, SUFFIX)
    try:
        return name, read_whole(files, name)[0]
    except (FileNotFoundError, NotRegularError):
        return None


def _quiet(version: Callable[[str], Version | None], key: str) -> Version | None:
    """Return a version; `None` for a session that cannot be read."""
    try:
        return version(key)
    except StorageError:
        return None
