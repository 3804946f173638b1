"""A backup that takes the place of a storage, whole, in one step.

The new storage is written beside the old one, and made durable. Then the two change places. A process that is killed anywhere
leaves the old storage or the new one. What was replaced is kept beside it.

**A new epoch.** Every restored session gets a new generation. A manager that knows a newer state of it, of before, neither shows that
as the newest one nor writes it over what was restored.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing

import attrs

from session_manager.arguments import Progress, check_bool, check_progress
from session_manager.as_dict import AsDict
from session_manager.errors import (
    CorruptSessionError,
    InvalidStorageError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.model.ids import renewed
from session_manager.model.times import utc_now
from session_manager.operations.manifest import Manifest
from session_manager.operations.verification import DATABASE, check_files, opened_backup, read_manifest
from session_manager.stores.contract import Commit
from session_manager.stores.directory_store import DirectoryStore
from session_manager.stores.files.atomic import read_whole
from session_manager.stores.files.directory_lock import DirectoryLock
from session_manager.stores.files.filesystem import Files, create_directory, real_path
from session_manager.stores.files.kinds import archives_in, is_ours, objection, sessions_in
from session_manager.stores.files.placing import CannotExchangeError, NotDurableError, kept_name, like, place
from session_manager.stores.files.staging import Staging, remove_tree
from session_manager.stores.log.store import LogStore
from session_manager.stores.snapshot.store import SnapshotStore
from session_manager.stores.sqlite.restoring import replace_database
from session_manager.stores.urls import parts_of

__all__ = ["Restored", "restore"]

#: How many sessions are written at once.
_AT_ONCE = 64
_MOVE_IT = "cannot be replaced in one step on this file system: move it away, and restore it to the free place"


@attrs.frozen(kw_only=True)
class Restored(AsDict):
    """What a restore has done."""

    #: The storage.
    path: str
    #: What it is: ``"snapshot"``, ``"log"`` or ``"sqlite"``.
    kind: str
    #: How many sessions it has.
    sessions: int
    #: How many messages these have.
    messages: int
    #: Where the storage of before is kept; `None` if there was none, or it was not to be kept.
    replaced: str | None
    #: Keys of sessions that were damaged when the backup was made. Their files were put back as they were.
    unreadable: tuple[str, ...] = ()


def restore(
    backup: str | os.PathLike[str],
    storage: str | os.PathLike[str],
    *,
    keep: bool = True,
    progress: Progress | None = None,
) -> Restored:
    """Put a backup in the place of a storage, durably and in one step; close every manager of the storage first.

    Every byte of the backup is checked before anything is written. The storage gets what the backup holds, and nothing else. It
    has the mode and the owner of the old one. What was replaced stays beside it, as ``NAME.replaced-…``, a storage
    that you can open.

    A process that is killed leaves the old storage or the new one. It may also leave ``NAME.restoring-…``, which the next restore removes, or
    the new one as ``NAME.replaced-…``.

    :param backup: the directory that `session_manager.operations.backup` has made.
    :param storage: the URL or path of the storage; it need not be there.
    :param keep: keep what is replaced. Otherwise it is removed when the new one is in its place.
    :param progress: called with how many sessions are done, how many there are, and the key of the last one.
    :raises InvalidStorageError: if one of the two is not what it should be: no backup, a storage of another kind, or a directory with other files.
    :raises StorageLockedError: if a program has the storage open for writing, or a database at all.
    :raises StorageError: if the backup is damaged, or something cannot be read or written. The storage is the old one,
        unless the error says that it is restored.
    :raises UnsupportedFormatError: if a newer version made the backup, or the database that it is to replace.
    """
    check_bool(keep, "keep")
    check_progress(progress)
    source, manifest = read_manifest(backup)
    text, path = _target(storage, manifest.kind)
    if os.path.commonpath([source, path]) in (source, path):
        raise InvalidStorageError(text, "is the backup itself, or lies in it, or holds it")
    for finding in check_files(source, manifest, lambda *_: None):
        raise StorageError(finding.path, f"{finding.reason}: the backup is damaged, and nothing was restored")
    replaced, unreadable = _replaced(text, path, source, manifest, progress)
    if not keep and replaced is not None:
        _remove(replaced)
        replaced = None
    if progress is not None and manifest.kind == "sqlite":
        progress(manifest.sessions, manifest.sessions, "")
    return Restored(
        path=path,
        kind=manifest.kind,
        sessions=manifest.sessions,
        messages=manifest.messages,
        replaced=replaced,
        unreadable=unreadable,
    )


def _replaced(
    text: str, path: str, source: str, manifest: Manifest, progress: Progress | None
) -> tuple[str | None, tuple[str, ...]]:
    """Put a backup in its place; return where the storage of before is kept, and the keys of damaged sessions."""
    try:
        if not os.path.isdir(os.path.dirname(path)):
            create_directory(os.path.dirname(path))
        if manifest.kind == "sqlite":
            return replace_database(path, os.path.join(source, DATABASE), utc_now(), files=Files)
        return _Restoring(text, path, manifest, progress).run(source)
    except CannotExchangeError:
        raise StorageError(path, _MOVE_IT) from None
    except NotDurableError as error:
        reason = getattr(error.__cause__, "strerror", "")
        raise StorageError(path, f"is restored, but a power cut may undo it: {reason}") from error.__cause__
    except OSError as error:
        raise StorageError(path, f"cannot be restored: {error.strerror}") from error


def _target(storage: str | os.PathLike[str], kind: str) -> tuple[str, str]:
    """Return the storage as it was given, and its real path."""
    text, scheme, path = parts_of(storage)
    if scheme not in ("", kind):
        raise InvalidStorageError(text, f"the backup is of another kind: give {kind}:{path or 'PATH'}")
    path = real_path(path)
    is_directory = os.path.isdir(path)
    if os.path.lexists(path) and is_directory is (kind == "sqlite"):
        what = "a directory" if is_directory else "no directory"
        raise InvalidStorageError(text, f"is {what}, and the backup is of another kind ({kind})")
    return text, path


def _remove(path: str) -> None:
    """Remove what was replaced.

    :raises StorageError: if it cannot be removed.
    """
    place, name = os.path.split(path)
    files = Files(place)
    try:
        if os.path.isdir(path):
            remove_tree(files, name)
        else:
            _unlink(files, name)
        files.sync_directory()
    except OSError as error:
        raise StorageError(path, f"was replaced, and cannot be removed: {error.strerror}") from error
    finally:
        files.close_directory()


def _unlink(files: Files, start: str) -> None:
    """Remove the files whose names start with a text."""
    for name in files.names():
        if name.startswith(start):
            files.unlink(name)


class _Restoring:
    """Puts the backup of a directory in the place of another one."""

    def __init__(self, text: str, path: str, manifest: Manifest, progress: Progress | None) -> None:
        self._text, self._path, self._manifest, self._progress = text, path, manifest, progress
        self._name = os.path.basename(path)

    def run(self, source: str) -> tuple[str | None, tuple[str, ...]]:
        with ExitStack() as stack:
            if os.path.isdir(self._path):
                self._lock(stack)
            staging = Staging(self._path, "restoring", Files)
            stack.callback(staging.close)
            done = False
            try:
                staging.remove_abandoned()
                unreadable = self._write(source, staging)
                kept = kept_name(self._name, utc_now())
                is_kept = self._place(staging, kept)
                done = True
            finally:
                if not done:
                    staging.discard()
        return (os.path.join(os.path.dirname(self._path), kept) if is_kept else None), unreadable

    def _lock(self, stack: ExitStack) -> None:
        """Take the lock of the storage, which must hold nothing but sessions of the backup's kind.

        :raises StorageLockedError: if a program has it open.
        """
        files = Files(self._path)
        stack.callback(files.close_directory)
        names = files.names()
        found = sessions_in(names)
        if reason := objection(self._text, found, self._manifest.kind):
            raise InvalidStorageError(self._text, reason)
        ours = {name for some in found.values() for name in some} | archives_in(names)
        if strange := sorted(name for name in names if name not in ours and not name.startswith(".")):
            raise InvalidStorageError(
                self._text, f"holds other files, such as {strange[0]}: move them away, or restore to another place"
            )
        lock = DirectoryLock(files)
        stack.callback(lock.release)
        lock.sign()

    def _write(self, source: str, staging: Staging) -> tuple[str, ...]:
        """Write the sessions, each with a new generation, and as they are those that cannot be read."""
        unreadable: list[str] = []
        with closing(opened_backup(source, self._manifest.kind)) as there:
            assert isinstance(there, SnapshotStore | LogStore)
            with closing(type(there)(staging.path, files=Files)) as here:
                self._copy(there, here, unreadable)
            files = self._others(there, unreadable)
        written = set(staging.files.names())
        for name, data in dict(files).items():
            if name not in written:
                staging.write(name, [data])
        return tuple(unreadable)

    def _others(self, there: DirectoryStore, unreadable: list[str]) -> list[tuple[str, bytes]]:
        """Return the files, by name, that are written as they are."""
        files = [file for key in unreadable if (pair := there.pair(key)) is not None for file in pair.files]
        return [*files, *((name, read_whole(there._files, name)[0]) for name in self._strays(there))]

    def _strays(self, there: DirectoryStore) -> Iterator[str]:
        names = (os.path.basename(finding.path) for finding in there.strays())
        yield from filter(is_ours, names)

    def _copy(self, there: DirectoryStore, here: DirectoryStore, unreadable: list[str]) -> None:
        keys = sorted(there.keys())
        for start in range(0, len(keys), _AT_ONCE):
            commits = []
            for key in keys[start : start + _AT_ONCE]:
                try:
                    session, archive = there.load(key), list(there.archive(key))
                except (CorruptSessionError, UnsupportedFormatError):
                    unreadable.append(key)
                    continue
                if session is not None:
                    count = max(session._archived, len(archive))
                    session = session._with(generation=renewed(session.generation), _archived=count)
                    commits.append(
                        Commit(session, (), None, archived=tuple((one.position or 0, one) for one in archive))
                    )
            for error in here.write_many(commits):
                if error is not None:
                    raise error
            for number, key in enumerate(keys[start : start + _AT_ONCE], start + 1):
                if self._progress is not None:
                    self._progress(number, len(keys), key)

    def _place(self, staging: Staging, kept: str) -> bool:
        old = staging.parent.stat(self._name)
        if old is not None and stat.S_ISDIR(old.st_mode):
            for name in staging.files.names():
                staging.files.own(name, 0o600, old.st_uid, old.st_gid)
            like(staging.parent, staging.staged, old)
        staging.files.sync_directory()
        is_kept = place(staging.parent, staging.staged, self._name, kept)
        staging.staged = self._name
        return is_kept
