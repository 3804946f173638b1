"""How a URL or path becomes a store. A store's module is imported when it is asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from session_manager.arguments import check_bool, check_path, expanded
from session_manager.errors import InvalidStorageError, StorageError, raise_alone
from session_manager.stores.contract import Store
from session_manager.stores.files.filesystem import resolved
from session_manager.stores.files.kinds import (
    LOCK,
    SUFFIXES,
    archives_in,
    databases_in,
    is_json_name,
    json_objection,
    marked_archive,
    objection,
    sessions_in,
)

__all__ = ["Place", "anchored", "keeps_leases", "open_store", "parts_of", "place_of", "settled_scheme"]

# Each is compiled when it is used first: most programs that import this open one storage.
_SCHEME = r"(?s)([a-z][a-z0-9+.-]+|[A-Za-z][A-Za-z0-9+.-]+(?=://)):(.*)\Z"
#: A URL in quotes or behind a space, as files of settings have it; a connection string of libpq. Each would be a path, and its password a name.
_QUOTED = r"""[\s"']+(?:[A-Za-z][A-Za-z0-9+.-]+://|(?:memory|snapshot|log|sqlite|postgres(?:ql)?):)"""
_CONNECTION = r"(?s)\s*(?:host|hostaddr|port|dbname|user|password|service)\s*=.*\s\w+\s*="
_DATABASE = (".db", ".sqlite", ".sqlite3")
_PATHS = ("snapshot", "log", "sqlite")
_SERVERS = ("postgresql", "postgres")
#: Words that mean a store, and no directory, and the URL to give.
_WORDS = {
    **dict.fromkeys(("memory", ":memory:"), "memory:"),
    **{scheme: f"{scheme}:chats" for scheme in ("snapshot", "log")},
    **dict.fromkeys(("sqlite", "sqlite3"), "sqlite:chats.db"),
}


def open_store(url: str | os.PathLike[str], *, read_only: bool = False) -> Store:
    """Open the store that a URL or path names.

    ``"memory:"`` keeps sessions in RAM. ``"snapshot:PATH"`` keeps them as JSON files in a directory, and ``"log:PATH"`` as
    append-only logs. ``"sqlite:PATH"`` keeps them in a SQLite database, which several processes may write to,
    ``"postgresql://USER@HOST/DATABASE"`` in the schema ``session_manager`` of a PostgreSQL database, or in another one by ``?schema=NAME``.
    Several machines may write to it (`session_manager.stores.postgres.PostgresStore` has more options). A bare path
    opens the existing store, recognized by its content, or creates a directory of snapshots. A storage is refused if the
    store would not show its sessions: a directory of another kind, or of two kinds. Under a bare path, a directory with a
    database or with nothing but archives is refused as well.

    :param url: one of these; a `pathlib.Path` is always a bare path.
    :param read_only: open it beside its writer; it must exist.
    :raises TypeError: if an argument is of another type.
    :raises InvalidStorageError: if the URL is none of these, or contradicts what is there; it names
        the right one, and creates nothing.
    :raises StorageLockedError: if another process has it open.
    :raises StorageError: if it cannot be read or created.
    """
    check_bool(read_only, "read_only")
    text, scheme, path = parts_of(url)
    if scheme == "memory":
        return _memory(text, path)
    if scheme == "postgresql":
        return _postgres(str(url), read_only=read_only)
    scheme = _settled(text, scheme, path, read_only=read_only, is_text=isinstance(url, str))
    try:
        return _opened(scheme, path, read_only=read_only)
    except InvalidStorageError as error:
        raise_alone(InvalidStorageError(text, error.reason))


def parts_of(url: str | os.PathLike[str]) -> tuple[str, str, str]:
    """Return a URL or path as text, its scheme (``""`` for a bare path), and its path.

    :raises TypeError: if it is of another type.
    :raises InvalidStorageError: if it is neither.
    """
    text = check_path(url, "url", "must be a path, or a URL such as snapshot:PATH")
    match = re.match(_SCHEME, text) if isinstance(url, str) else None
    scheme, path = match.groups() if match else ("", text)
    if isinstance(url, str) and (re.match(_QUOTED, text) or (scheme in (*_PATHS, *_SERVERS) and text != text.rstrip())):
        raise InvalidStorageError(text.strip(" \t\r\n\"'"), "has a space, a quote or a line break around it")
    if isinstance(url, str) and re.match(_CONNECTION, text):
        raise InvalidStorageError("postgresql:", "give a URL: postgresql://USER@HOST:PORT/DATABASE")
    if scheme in _SERVERS:
        return "postgresql:", "postgresql", ""
    path = expanded(path)
    if scheme == "memory":
        return text, scheme, path
    if scheme not in ("", *_PATHS):
        hint = "; for a PostgreSQL server write postgresql://" if scheme.lower().startswith("postgres") else ""
        raise InvalidStorageError(
            text, f"there is no such store: memory:, snapshot:PATH, log:PATH, sqlite:PATH and postgresql: are{hint}"
        )
    if not path:
        raise InvalidStorageError(text, f"needs a path, such as {scheme}:chats")
    if scheme and path.startswith("//"):
        bare = path.lstrip("/") or "chats"
        raise InvalidStorageError(text, f"takes a path, without //: give {scheme}:{bare} or {scheme}:/{bare}")
    if scheme == "sqlite" and path == ":memory:":
        raise InvalidStorageError(text, "would be a file of that name: give memory: to keep everything in RAM")
    return text, scheme, path


class Place(NamedTuple):
    """What tells a storage from all others, however its URL is spelled."""

    #: A path without links, or the URL of a server as it was given.
    name: str
    #: The scheme that the URL or the files name; ``""`` if that is open.
    scheme: str


def place_of(url: str | os.PathLike[str]) -> Place:
    """Return the place of the storage that a URL or path names; it need not be there.

    A relative path and a symbolic link name what they lead to. Two spellings of a server's URL are two places.

    :raises TypeError: if it is of another type.
    :raises InvalidStorageError: if it is neither.
    :raises StorageError: if it is a relative path, and the working directory is gone.
    """
    text, scheme, path = parts_of(url)
    if scheme in ("", *_PATHS):
        return Place(resolved(path), scheme)
    name = str(url)
    return Place(text if scheme == "memory" else f"{scheme}:{name.partition(':')[2]}", scheme)


def anchored(url: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return a URL or path that names the same storage whatever the working directory is when it is opened.

    Symbolic links are not followed yet. What cannot be opened is returned as it is: the opening tells why.

    :raises TypeError: if it is of another type.
    """
    try:
        text, scheme, path = parts_of(url)
        if scheme not in ("", *_PATHS) or (isinstance(url, str) and text in _WORDS):
            return url
        full = os.path.join(os.getcwd(), path)  # links and `..` are left to the opening
    except (InvalidStorageError, OSError):
        return url
    if not scheme:
        return full if isinstance(url, str) else Path(full)
    return f"{scheme}:{full}"


def settled_scheme(url: str | os.PathLike[str], *, read_only: bool) -> str:
    """Return the scheme of the store that `open_store` opens for a URL or path.

    :raises InvalidStorageError, StorageError: as `open_store` does.
    """
    text, scheme, path = parts_of(url)
    if scheme not in ("", *_PATHS):
        return scheme
    return _settled(text, scheme, path, read_only=read_only, is_text=isinstance(url, str))


def keeps_leases(url: str | os.PathLike[str]) -> bool:
    """Say whether the store that `open_store` opens for a URL or path may keep leases. Nothing is opened or created.

    :raises InvalidStorageError, StorageError: as `open_store` does.
    """
    return settled_scheme(url, read_only=False) not in SUFFIXES


def _settled(url: str, scheme: str, path: str, *, read_only: bool, is_text: bool) -> str:
    """Return the scheme of the store to open, by the URL and the files that are there.

    :param is_text: whether it was given as a text, not as an object that is always a path.
    :raises InvalidStorageError: if the two contradict each other.
    :raises StorageError: if what is there cannot be looked at, or nothing is there to be read.
    """
    was_there = os.path.lexists(path)  # asked first: another process may create it meanwhile
    try:
        there = _there(url, scheme, path)
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error
    if there == "sqlite" and scheme != there and is_json_name(path):
        raise InvalidStorageError(url, json_objection(path))
    if there == "sqlite" and scheme not in ("", there):
        raise InvalidStorageError(url, f"is a file, as only a database is: open it as sqlite:{path}")
    if not scheme and not there and is_text and url in _WORDS:
        raise InvalidStorageError(url, f"would be a directory: give {_WORDS[url]}, or ./{url} if you mean a directory")
    is_new = not was_there and not there
    if is_new and not scheme and path.endswith(_DATABASE):
        raise InvalidStorageError(url, f"a new path with the name of a database: give sqlite:{path} or snapshot:{path}")
    if is_new and read_only:
        raise StorageError(path, "is not there, and read-only creates nothing")
    if scheme == "sqlite" and not is_new and not there:
        raise InvalidStorageError(url, "is a directory: give the path of a file in it, or snapshot: or log:")
    return scheme or there or "snapshot"


def _memory(text: str, path: str) -> Store:
    if path:
        raise InvalidStorageError(text, "memory: takes no path")
    from session_manager.stores.memory import MemoryStore  # noqa: PLC0415 - only when it is asked for

    return MemoryStore()


def _postgres(url: str, *, read_only: bool) -> Store:
    try:
        from session_manager.stores.postgres import PostgresStore  # noqa: PLC0415 - only when it is asked for
    except ImportError as error:
        raise InvalidStorageError("postgresql:", str(error)) from error
    return PostgresStore(url, read_only=read_only)


def _opened(scheme: str, path: str, *, read_only: bool) -> Store:
    if scheme == "log":
        from session_manager.stores.log.store import LogStore  # noqa: PLC0415 - only when it is asked for

        return LogStore(path, read_only=read_only)
    if scheme == "sqlite":
        from session_manager.stores.sqlite.store import SQLiteStore  # noqa: PLC0415 - only when it is asked for

        return SQLiteStore(path, read_only=read_only)
    from session_manager.stores.snapshot.store import SnapshotStore  # noqa: PLC0415 - only when it is asked for

    return SnapshotStore(path, read_only=read_only)


def _there(url: str, scheme: str, path: str) -> str:
    """Return the scheme of the store that is at a path; ``""`` if there is none, or an empty directory.

    A file is taken for a database, which SQLite checks later. It is not opened here: closing a descriptor of a database that
    is open in this process would drop SQLite's locks (https://www.sqlite.org/howtocorrupt.html, 2.2).

    :raises InvalidStorageError: if its sessions would not be seen; a store of a directory looks for itself.
    """
    if not os.path.lexists(path):  # asked first: another process may create it meanwhile
        return ""
    if os.path.isdir(path):
        return "" if scheme in SUFFIXES else _kind_of_directory(url, scheme, path)
    if os.path.isfile(path):
        return "sqlite"
    raise InvalidStorageError(url, "is neither a directory nor a file")


def _kind_of_directory(url: str, scheme: str, path: str) -> str:
    names = os.listdir(path)
    found = sessions_in(names)
    reason = objection(path, found, scheme)
    if not scheme and not found:
        archives, databases = sorted(archives_in(names).difference(map(marked_archive, names))), databases_in(names)
        if archives:
            reason = f"holds archives, such as {archives[0]}, and no sessions: put these back, or give snapshot:{path} or log:{path}"
        elif databases:
            reason = f"holds a database: give sqlite:{os.path.join(path, databases[0])}, or snapshot:{path} for a directory beside it"
        elif LOCK not in names:
            reason = next(
                filter(None, (_foreign(path, name) for name in sorted(names) if name.endswith(_DATABASE))), ""
            )
    if reason:
        raise InvalidStorageError(url, reason)
    return next(iter(found), "")


def _foreign(path: str, name: str) -> str:
    """Say why a directory with a database of another program's sessions is no storage; ``""`` if it is none of these."""
    from session_manager.stores.files.recognition import format_of_tables  # noqa: PLC0415 - only when it is asked for
    from session_manager.stores.sqlite.foreign import objection, tables_of  # noqa: PLC0415 - likewise

    place = os.path.join(path, name)
    is_known = format_of_tables(tables_of(place)) is not None
    return (
        f"has the database {name}, which {objection(place)}; or give snapshot:{path} for a directory beside it"
        if is_known
        else ""
    )
