"""The stores, and how a URL becomes one. A store's module is imported when it is asked for."""

from __future__ import annotations

import os
import re

from session_manager.errors import InvalidStorageError, StorageError
from session_manager.store import Store

__all__ = ["open_store"]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(.*)\Z", re.DOTALL)
_DATABASE = (".db", ".sqlite", ".sqlite3")
_SQLITE_MAGIC = b"SQLite format 3\0"
_LOG_SUFFIX = ".session.jsonl"
_SNAPSHOT_SUFFIX = ".session.json"


def open_store(url: str | os.PathLike[str]) -> Store:
    """Open the store that a URL or path names.

    ``"memory:"`` keeps sessions in RAM, ``"snapshot:PATH"`` as JSON files in a directory. A bare path opens the store that is
    there, recognized by its content, and else creates a directory of snapshots.

    :param url: one of these; a `pathlib.Path` is always a bare path.
    :raises InvalidStorageError: if the URL is none of these, or contradicts what is there; it names
        the right one, and creates nothing.
    :raises StorageLockedError: if another process has it open.
    :raises StorageError: if it cannot be read or created.
    """
    text: object = os.fspath(url)
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidStorageError(str(text), "must be a path, or a URL such as snapshot:PATH")
    if not _is_encodable(text):
        raise InvalidStorageError(text, "is not a name that a file system can hold")
    match = _SCHEME.match(text) if isinstance(url, str) else None
    scheme, path = match.groups() if match else ("", text)
    if scheme == "memory":
        return _memory(text, path)
    if scheme not in ("", "snapshot"):
        raise InvalidStorageError(text, f"this version has no {scheme}: store, only memory: and snapshot:PATH")
    if not path:
        raise InvalidStorageError(text, "needs a path, such as snapshot:chats")
    try:
        _check_snapshot_path(text, path, scheme)
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error
    from session_manager.stores.snapshot import SnapshotStore  # noqa: PLC0415 - only when it is asked for

    return SnapshotStore(path)


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _memory(text: str, path: str) -> Store:
    if path:
        raise InvalidStorageError(text, "memory: takes no path")
    from session_manager.stores.memory import MemoryStore  # noqa: PLC0415 - only when it is asked for

    return MemoryStore()


def _check_snapshot_path(url: str, path: str, scheme: str) -> None:
    if os.path.isdir(path):
        names = os.listdir(path)
        ours = any(name.endswith(_SNAPSHOT_SUFFIX) for name in names)
        if not ours and any(name.endswith(_LOG_SUFFIX) for name in names):
            raise InvalidStorageError(url, f"holds logs: open it as log:{path}")
    elif os.path.lexists(path):
        raise InvalidStorageError(url, _what_file(path))
    elif not scheme and path.endswith(_DATABASE):
        raise InvalidStorageError(url, f"a new path with the name of a database: give sqlite:{path} or snapshot:{path}")


def _what_file(path: str) -> str:
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC:
                return f"is a SQLite database: open it as sqlite:{path}"
    return "is not a directory"
