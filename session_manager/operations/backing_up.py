"""Backups: a copy of a whole storage, made while a bot uses it, that tells by itself whether it is still what was written.

A backup is a directory: the files of the sessions as they are, or the database as ``sessions.db``, and the manifest
(`session_manager.operations.manifest`). You can open it read-only like any storage.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from contextlib import closing, suppress

import attrs

from session_manager.arguments import Progress, check_path, check_progress
from session_manager.errors import InvalidStorageError, StorageError
from session_manager.model.session import Version
from session_manager.model.times import utc_now
from session_manager.operations.manifest import File, Manifest, encode_manifest
from session_manager.operations.verification import DATABASE, Backup, described, digest_of
from session_manager.stores.archive.pairs import Pair
from session_manager.stores.contract import Store
from session_manager.stores.directory_store import DirectoryStore
from session_manager.stores.files.atomic import NotRegularError, Signature, at_once, read_whole, signature
from session_manager.stores.files.filesystem import absolute, real_path
from session_manager.stores.files.kinds import MANIFEST, is_ours
from session_manager.stores.files.staging import Staging
from session_manager.stores.log.store import LogStore
from session_manager.stores.snapshot.store import SnapshotStore
from session_manager.stores.sqlite.store import SQLiteStore
from session_manager.stores.urls import open_store

__all__ = ["backup"]

#: How many sessions are copied before the progress is told.
_AT_ONCE = 64
#: How often a directory is listed again, for sessions that got another key meanwhile.
_LISTINGS = 10
_IN_RAM = "has no files to back up: copy its sessions to another storage (session_manager.stores.copy)"


def backup(
    storage: Store | str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Progress | None = None
) -> Backup:
    """Copy a whole storage to a new directory, while a bot uses it.

    The storage is only read, and no writer waits. The target has its name when it is whole and durable, and not before. Each
    session is there as it was at one moment, with its archive; a database as a whole is of one moment. Quarantined files of a
    directory are left out. Sessions are copied without being decoded: `verify_backup` reads all of them.

    A killed process leaves ``TARGET.writing-…``, which the next backup to the same target removes.

    :param storage: its URL or path; or a store that is open.
    :param target: the new directory; missing parents are created, 0700, and so is it.
    :param progress: called with how many sessions are done, how many there are, and the key of the last one; of a database with
        how many pages, and ``""``. It is called in this thread, and may raise to give up.
    :returns: the backup; `Backup.unreadable` has the sessions of which a glance tells that they are damaged.
    :raises InvalidStorageError: if the storage is in RAM, or cannot be what it says; or if the target is there already, or lies in it.
    :raises StorageError: if the storage cannot be read, or the target cannot be written. Nothing is left of it then.
    """
    check_progress(progress)
    with closing(_opened(storage)) as store:
        path = _free(target, store)
        try:
            staging = Staging(path, "writing")
        except OSError as error:
            raise StorageError(path, f"cannot be created: {error.strerror}") from error
        done = False
        try:
            staging.remove_abandoned()
            found = _Writer(store, staging, progress).run(path)
            done = True
        except OSError as error:
            raise StorageError(path, f"cannot be written: {error.strerror}") from error
        finally:
            if not done:
                staging.discard()
            staging.close()
    return found


def _opened(storage: Store | str | os.PathLike[str]) -> DirectoryStore | SQLiteStore:
    """Open a storage read-only, for itself, so that this process may use it as well."""
    if isinstance(storage, SnapshotStore | LogStore | SQLiteStore):
        return type(storage)(storage.path, read_only=True)
    if isinstance(storage, Store):
        raise InvalidStorageError(repr(storage), _IN_RAM)
    store = open_store(storage, read_only=True)
    if isinstance(store, DirectoryStore | SQLiteStore):
        return store
    store.close()
    raise InvalidStorageError(repr(store), _IN_RAM)


def _free(target: str | os.PathLike[str], store: DirectoryStore | SQLiteStore) -> str:
    """Return the real path of a target, where nothing may be."""
    given = check_path(target, "target")
    if os.path.lexists(given):
        raise InvalidStorageError(given, "is there already: give a new name, such as one with the date")
    path = absolute(given)
    path = os.path.join(real_path(os.path.dirname(path)), os.path.basename(path))
    if not isinstance(store, SQLiteStore) and os.path.commonpath([path, store.path]) == store.path:
        raise InvalidStorageError(given, "lies in the storage itself")
    return path


class _Writer:
    """Writes one backup."""

    def __init__(self, store: DirectoryStore | SQLiteStore, staging: Staging, progress: Progress | None) -> None:
        self._store, self._staging, self._progress = store, staging, progress
        self._made = utc_now()
        self._files: dict[str, File] = {}
        self._pairs: dict[str, Pair] = {}
        #: The signatures of the sessions' files, right before they were copied.
        self._identities: dict[str, Signature | None] = {}

    def run(self, path: str) -> Backup:
        store = self._store
        if isinstance(store, SQLiteStore):
            kind, counts = "sqlite", self._copy_database(store)
        else:
            kind = "log" if isinstance(store, LogStore) else "snapshot"
            self._copy_sessions(store)
            pairs = self._pairs.values()
            counts = len(pairs), sum(one.messages for one in pairs), sum(one.archived for one in pairs)
        sessions, messages, archived = counts
        files = tuple(self._files[name] for name in sorted(self._files))
        manifest = Manifest(
            kind=kind, made=self._made, sessions=sessions, messages=messages, archived=archived, files=files
        )
        self._staging.write(MANIFEST, [encode_manifest(manifest)])
        self._staging.rename(self._staging.name)
        unreadable = (one.damage for one in self._pairs.values() if one.damage is not None)
        return attrs.evolve(described(path, manifest), unreadable=tuple(unreadable))

    def _copy_database(self, store: SQLiteStore) -> tuple[int, int, int]:
        files, progress = self._staging.files, self._progress
        files.close(files.open_new(DATABASE))
        tell = None if progress is None else (lambda done, total: progress(done, total, ""))
        counts = store.copy_to(os.path.join(self._staging.path, DATABASE), tell)
        found: dict[int, tuple[int, str]] = {}

        def finish(number: int) -> None:
            """Make the copy durable, or read it once more for its checksum: the disk does the one, a processor the other."""
            if number:
                self._staging.sync(DATABASE)
            else:
                found[number] = digest_of(files, DATABASE)

        at_once(finish, (0, 1))
        self._files[DATABASE] = File(DATABASE, *found[0])
        return counts

    def _copy_sessions(self, store: DirectoryStore) -> None:
        """Copy all sessions; then those that a rename has given another key meanwhile, and files that belong to no session."""
        done = 0
        for _ in range(_LISTINGS):
            new = sorted(key for key in set(store.keys()) if not self._is_copied(store, key))
            if not new:
                break
            for start in range(0, len(new), _AT_ONCE):
                some = new[start : start + _AT_ONCE]
                for key in some:
                    self._drop(key)
                self._copy_some(store, some, done, len(new) - start)
                done += len(some)
        self._drop_renamed(set(store.keys()))
        for finding in store.strays():
            self._copy_stray(store, os.path.basename(finding.path))

    def _is_copied(self, store: DirectoryStore, key: str) -> bool:
        """Say whether the session that has a key now was copied. A rename may have moved one there after another one was deleted."""
        pair = self._pairs.get(key)
        if pair is None:
            return False
        if _identity(store, key) == self._identities[key]:
            return True
        with suppress(StorageError):
            now = store.version(key)
            return now is None or (pair.version is not None and pair.version.generation == now.generation)
        return True

    def _copy_some(self, store: DirectoryStore, keys: list[str], done: int, left: int) -> None:
        copied: deque[tuple[str, Pair, list[File]]] = deque()

        def copy(key: str) -> None:
            self._identities[key] = _identity(store, key)
            pair = store.pair(key)
            if pair is not None:
                copied.append((key, pair, [self._write(name, data) for name, data in pair.files]))

        at_once(copy, keys)
        for key, pair, files in copied:
            self._pairs[key] = attrs.evolve(pair, files=tuple((one.name, b"") for one in files))
            self._files.update((one.name, one) for one in files)
        for number, key in enumerate(keys, done + 1):
            if self._progress is not None:
                self._progress(number, done + left, key)

    def _write(self, name: str, data: bytes) -> File:
        self._staging.write(name, [data])
        return File(name, len(data), hashlib.sha256(data).hexdigest())

    def _drop_renamed(self, keys: set[str]) -> None:
        """Drop the session that a rename has moved to another key after it was copied: it is there under that key."""
        there = {
            pair.version.generation for key, pair in self._pairs.items() if key in keys and pair.version is not None
        }
        for key, pair in list(self._pairs.items()):
            if key not in keys and isinstance(pair.version, Version) and pair.version.generation in there:
                self._drop(key)

    def _drop(self, key: str) -> None:
        """Remove the copy of a session, if there is one."""
        pair = self._pairs.pop(key, None)
        for name, _ in () if pair is None else pair.files:
            self._staging.files.unlink(name)
            del self._files[name]

    def _copy_stray(self, store: DirectoryStore, name: str) -> None:
        if name in self._files or not is_ours(name):
            return
        try:
            data, _ = read_whole(store._files, name)
        except (FileNotFoundError, NotRegularError):
            return
        self._files[name] = self._write(name, data)


def _identity(store: DirectoryStore, key: str) -> Signature | None:
    """Return the signature of a session's file; `None` if there is none."""
    status = store._files.stat(store._directory.name(key))
    return None if status is None else signature(status)
