"""Whether a backup is still what was written: its files against the manifest, and then its sessions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime

import attrs

from session_manager.arguments import Progress, check_path, check_progress
from session_manager.as_dict import AsDict
from session_manager.errors import InvalidStorageError, StorageError, UnsupportedFormatError
from session_manager.operations.manifest import File, Manifest, decode_manifest
from session_manager.stores.contract import Finding, Store
from session_manager.stores.directory_store import DirectoryStore
from session_manager.stores.files.atomic import NotRegularError, read_pieces, read_whole
from session_manager.stores.files.filesystem import Files, real_path
from session_manager.stores.files.kinds import MANIFEST
from session_manager.stores.log.store import LogStore
from session_manager.stores.snapshot.store import SnapshotStore
from session_manager.stores.sqlite.store import SQLiteStore

__all__ = [
    "DATABASE",
    "Backup",
    "check_files",
    "described",
    "digest_of",
    "opened_backup",
    "opened_directory",
    "read_manifest",
    "verify_backup",
]

#: The name of the database in the backup of a database.
DATABASE = "sessions.db"


@attrs.frozen(kw_only=True)
class Backup(AsDict):
    """A backup, and what is wrong with it."""

    #: Its directory.
    path: str
    #: What it is a backup of: ``"snapshot"``, ``"log"`` or ``"sqlite"``.
    kind: str
    #: When it was begun: aware, UTC.
    made: datetime
    #: How many sessions it holds.
    sessions: int
    #: How many messages these have.
    messages: int
    #: How many messages are archived.
    archived: int
    #: How many bytes its files are.
    size: int
    #: Files that are not what was written: they are missing, changed, or strange. `restore` refuses such a backup.
    damaged: tuple[Finding, ...] = ()
    #: Sessions that could not be read when they were backed up. Their bytes are kept as they were.
    unreadable: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every file is what was written, and every session can be read."""
        return not self.damaged and not self.unreadable


def described(path: str, manifest: Manifest) -> Backup:
    """Return the backup that a manifest tells of."""
    return Backup(
        path=path,
        kind=manifest.kind,
        made=manifest.made,
        sessions=manifest.sessions,
        messages=manifest.messages,
        archived=manifest.archived,
        size=sum(one.size for one in manifest.files),
    )


def verify_backup(backup: str | os.PathLike[str], *, progress: Progress | None = None) -> Backup:
    """Check a backup: every byte of it against the manifest, and then every session as `SessionManager.verify` does.

    Nothing is written, and the backup may be on a medium that is read-only.

    :param backup: its directory.
    :param progress: called with how many files and sessions are done, how many there are, and the key or file done last.
    :returns: the backup, with what is wrong in `Backup.damaged` and `Backup.unreadable`.
    :raises InvalidStorageError: if it is no backup.
    :raises UnsupportedFormatError: if a newer version made it.
    :raises StorageError: if it cannot be read, or its manifest is damaged.
    """
    check_progress(progress)
    path, manifest = read_manifest(backup)
    total = len(manifest.files) + manifest.sessions

    def tell(done: int, key: str) -> None:
        if progress is not None:
            progress(min(done, total), total, key)

    damaged = tuple(check_files(path, manifest, tell))
    unreadable = () if damaged else tuple(_unreadable(path, manifest, tell))
    return attrs.evolve(described(path, manifest), damaged=damaged, unreadable=unreadable)


def read_manifest(backup: str | os.PathLike[str]) -> tuple[str, Manifest]:
    """Return the real path of a backup, and its manifest; raise as `verify_backup` does."""
    given = check_path(backup, "backup")
    path = real_path(given)
    try:
        with opened_directory(path) as files:
            data, _ = read_whole(files, MANIFEST)
    except (FileNotFoundError, NotADirectoryError, NotRegularError):
        raise InvalidStorageError(given, f"is not a backup: there is no {MANIFEST} in it") from None
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error
    manifest = decode_manifest(data, os.path.join(path, MANIFEST))
    if manifest.kind not in ("snapshot", "log", "sqlite"):
        raise UnsupportedFormatError(path, manifest.kind, "snapshot, log and sqlite")
    return path, manifest


def check_files(path: str, manifest: Manifest, tell: Callable[[int, str], object]) -> Iterator[Finding]:
    """Yield what differs between the files of a backup and its manifest.

    :param tell: called after each file with how many are done, and its name.
    :raises StorageError: if a file cannot be read.
    """
    with opened_directory(path) as files:
        yield from _differences(files, path, manifest, tell)


def _differences(files: Files, path: str, manifest: Manifest, tell: Callable[[int, str], object]) -> Iterator[Finding]:
    strange = {name for name in files.names() if not name.startswith(".")} - {MANIFEST}
    for number, one in enumerate(manifest.files, 1):
        strange.discard(one.name)
        if (reason := _difference(files, one)) is not None:
            yield Finding(None, os.path.join(path, one.name), None, reason)
        tell(number, one.name)
    for name in sorted(strange):
        yield Finding(None, os.path.join(path, name), None, "is not in the manifest")


def _difference(files: Files, one: File) -> str | None:
    """Say in what a file of a backup differs from its manifest; `None` if in nothing."""
    try:
        found = digest_of(files, one.name)
    except (FileNotFoundError, NotRegularError):
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if found == (one.size, one.sha256) else "is not what was written: its SHA-256 differs"


def opened_backup(path: str, kind: str) -> DirectoryStore | SQLiteStore:
    """Open a backup read-only."""
    if kind == "sqlite":
        return SQLiteStore(os.path.join(path, DATABASE), read_only=True)
    return (LogStore if kind == "log" else SnapshotStore)(path, read_only=True)


def _unreadable(path: str, manifest: Manifest, tell: Callable[[int, str], object]) -> Iterable[Finding]:
    with closing(opened_backup(path, manifest.kind)) as store:
        yield from _findings(store, len(manifest.files), tell)


def _findings(store: Store, done: int, tell: Callable[[int, str], object]) -> Iterator[Finding]:
    for number, key in enumerate(sorted(store.keys()), done + 1):
        yield from store.verify(key)
        tell(number, key)
    yield from store.strays()


def digest_of(files: Files, name: str) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file.

    :raises NotRegularError, OSError: if it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    for piece in read_pieces(files, name):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


@contextmanager
def opened_directory(path: str) -> Iterator[Files]:
    """Open a directory for a ``with``.

    :raises OSError: if it cannot be opened.
    """
    files = Files(path)
    try:
        yield files
    finally:
        files.close_directory()
