"""A directory of snapshots: each session is one JSON file, replaced whole by each save.

Readable, diffable, restorable by ``cp``. A save costs the bare writing of the session's bytes, and two
syncs. One process writes; picoclaw's directories open as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

from session_manager.atomic import (
    NotRegularError,
    OutcomeUnknownError,
    Signature,
    read_whole,
    remove_orphans,
    replace,
    signature,
)
from session_manager.codec import DecodeError, State
from session_manager.directory_lock import DirectoryLock
from session_manager.errors import (
    ClosedError,
    ConflictError,
    CorruptSessionError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.files import Files, create_directory
from session_manager.legacy_files import LegacyFiles
from session_manager.line_cache import LineCache
from session_manager.model import Session, Version, _Owned
from session_manager.names import file_name, is_hashed, key_of
from session_manager.quarantine import quarantine
from session_manager.snapshot_format import SUFFIX, Lines, Seal, decode, decode_header, encode, seal
from session_manager.store import Commit, Finding, SessionInfo, Store

__all__ = ["SnapshotStore"]

T = TypeVar("T")

_CACHE_BYTES = 64 * 1024 * 1024


@attrs.frozen
class _Known:
    """The file of a session as it was last read or written."""

    signature: Signature
    version: Version | None
    seal: Seal


class SnapshotStore(Store):
    """Sessions as JSON snapshots in a directory, which one process at a time may open.

    :param path: the directory; created, 0700, if it is missing.
    :param cache_bytes: how many bytes of encoded messages to keep in RAM for faster saves.
    :param files: opens the directory; for tests, which break it.
    :raises StorageLockedError: if another process, or another store, has it open.
    :raises StorageError: if it cannot be created, read or locked.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cache_bytes: int = _CACHE_BYTES,
        files: Callable[[str], Files] = Files,
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._closed = False
        self._cache = LineCache(cache_bytes)
        self._known: dict[str, _Known] = {}
        #: Writes and deletions that were begun, and of which nobody knows whether they survive a power cut.
        self._doubtful: dict[str, Commit] = {}
        self._undeleted: set[str] = set()
        self._hashed: dict[str, str] = {}
        try:
            create_directory(self.path)
            self._files = files(self.path)
        except OSError as error:
            raise StorageError(self.path, f"cannot be opened: {error.strerror}") from error
        try:
            self._lock = DirectoryLock(self._files)
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        except BaseException:
            self._files.close_directory()
            raise

    def _open(self) -> None:
        """List the directory. What a killed process renamed is made durable before it is believed."""
        try:
            names = self._files.names()
            remove_orphans(self._files, names)
            self._files.sync_directory()
            self._names = {name for name in names if name.endswith(SUFFIX)}
            self._legacy = LegacyFiles(self._files, names)
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error

    def load(self, key: str) -> Session | None:
        self._check_open()
        if key in self._doubtful:
            self.landed(self._doubtful[key])
        self._cache.forget(key)
        name = file_name(key, SUFFIX)
        if name not in self._names:
            return self._legacy.load(key)
        found = self._read(key, name)
        if found is None:
            self._names.discard(name)
            return self._legacy.load(key)
        session, self._known[name] = found
        return session

    def _read(self, key: str, name: str) -> tuple[Session, _Known] | None:
        """Return the session in a file, and what the file is known by; `None` if there is no file."""

        def decoded(path: str) -> tuple[str, tuple[Session, _Known]]:
            data, status = read_whole(self._files, name)
            session, seal = decode(data, path)
            return session.key, (session, _Known(signature(status), session.version, seal))

        return self._reading(key, name, decoded)

    def _state(self, key: str, name: str) -> State | None:
        """Return the header of a file; `None` if there is no file."""

        def decoded(path: str) -> tuple[str, State]:
            state = self._header(name, path)
            return state.key, state

        return self._reading(key, name, decoded)

    def _header(self, name: str, path: str) -> State:
        data, _ = read_whole(self._files, name, until=b"\n")
        return decode_header(data[: data.find(b"\n") + 1] or data, path)

    def _reading(self, key: str, name: str, decoded: Callable[[str], tuple[str, T]]) -> T | None:
        """Read a file and check that it is the key's, in the errors of the contract."""
        path = os.path.join(self.path, name)
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

    def write(self, commit: Commit) -> None:
        self._check_open()
        self._replace(commit, self._cache.lines(commit), (commit.base,))

    def landed(self, commit: Commit) -> bool | None:
        self._check_open()
        whole = Lines().appended(commit.session.messages, commit.session.end)
        try:
            self._replace(commit, whole, (commit.base, commit.session.version))
        except ConflictError:
            return None
        return True

    def _replace(self, commit: Commit, lines: Lines, bases: tuple[Version | None, ...]) -> None:
        session = commit.session
        name = file_name(session.key, SUFFIX)
        buffers = encode(session, lines)
        failure: OSError | None = None
        unknown: BaseException | None = None
        try:
            written = replace(self._files, name, buffers, lambda: self._check_base(session.key, name, bases))
        except OSError as error:
            failure = error
        except OutcomeUnknownError as error:
            unknown = error.__cause__
        if failure is not None:
            raise SaveFailedError(session.key, f"{failure.strerror}") from failure
        self._names.add(name)
        self._undeleted.discard(session.key)
        if unknown is not None:
            self._doubtful[session.key] = commit
            raise SaveOutcomeUnknownError(session.key, f"{getattr(unknown, 'strerror', '')}") from unknown
        self._known[name] = _Known(written, session.version, seal(buffers[0], lines.crc))
        self._cache.keep(commit, lines)
        self._doubtful.pop(session.key, None)
        self._legacy.superseded(session.key, {session.generation, *(base.generation for base in bases if base)})

    def _check_base(self, key: str, name: str, bases: tuple[Version | None, ...]) -> None:
        """Raise unless the file is the one last read or written, at one of these versions."""
        status = self._files.stat(name)
        if status is None:
            legacy = self._legacy.load(key)
            if (None if legacy is None else legacy.version) not in bases:
                raise ConflictError(key, bases[0], None if legacy is None else legacy.version)
            return
        known = self._known.get(name)
        if known is not None and known.signature == signature(status) and known.version in bases:
            return
        found = self._read(key, name)
        if found is None:
            raise ConflictError(key, bases[0], None)
        self._names.add(name)
        there = found[1]
        changed = known is not None and known.version == there.version and known.seal != there.seal
        if there.version not in bases or changed:
            raise ConflictError(key, bases[0], there.version, "another program wrote the file" if changed else "")

    def delete(self, key: str, expected: Version | None = None) -> bool:
        self._check_open()
        name = file_name(key, SUFFIX)
        session, damaged = None, False
        try:
            session = self.load(key)
        except (CorruptSessionError, UnsupportedFormatError):
            if expected is not None:
                raise
            damaged = True
        else:
            if session is None and key not in self._undeleted:
                return False
            if expected is not None and (session is None or session.version != expected):
                return False
        self._cache.forget(key)
        self._remove(key, name, () if session is None else (session.generation,), damaged=damaged)
        return True

    def _remove(self, key: str, name: str, generations: tuple[str, ...], *, damaged: bool) -> None:
        """Remove a session's files: older ones first, so that none of them comes back after a power cut."""
        self._undeleted.add(key)
        dropped = False
        try:
            for legacy in self._legacy.names_of(key, damaged=damaged):
                self._legacy.drop(legacy, generations)
                dropped = True
                self._files.sync_directory()
            self._legacy.forget(key)
            self._drop(name, damaged=damaged)
        except OSError as error:
            if dropped:
                raise SaveOutcomeUnknownError(key, f"its deletion: {error.strerror}") from error
            raise SaveFailedError(key, f"it could not be deleted: {error.strerror}") from error
        self._names.discard(name)
        self._known.pop(name, None)
        self._doubtful.pop(key, None)
        try:
            self._files.sync_directory()
        except OSError as error:
            raise SaveOutcomeUnknownError(key, f"its deletion: {error.strerror}") from error
        self._undeleted.discard(key)

    def _drop(self, name: str, *, damaged: bool) -> None:
        try:
            if damaged:
                quarantine(self._files, name)
            else:
                self._files.unlink(name)
        except FileNotFoundError:
            pass

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._check_open()
        names = list(self._names)
        found = {key for name in names if (key := self._key_of(name)) is not None}
        return iter([key for key in found.union(self._legacy.keys()) if key.startswith(prefix)])

    def _key_of(self, name: str) -> str | None:
        if not is_hashed(name, SUFFIX):
            return key_of(name, SUFFIX)
        if name not in self._hashed:
            try:
                key = self._header(name, name).key
            except (OSError, NotRegularError, DecodeError, UnsupportedFormatError):
                return None
            if file_name(key, SUFFIX) != name:
                return None
            self._hashed[name] = key
        return self._hashed[name]

    def version(self, key: str) -> Version | None:
        info = self.describe(key)
        return None if info is None else info.version

    def describe(self, key: str) -> SessionInfo | None:
        self._check_open()
        name = file_name(key, SUFFIX)
        state = self._state(key, name) if name in self._names else None
        if state is None:
            session = self._legacy.load(key)
            return None if session is None else SessionInfo.of(session)
        return SessionInfo(
            key=key,
            count=state.count,
            created=state.created,
            updated=state.updated,
            last_message_at=state.last_message_at,
            start=state.start,
            end=state.end,
            has_summary=bool(state.summary),
            metadata=_Owned(state.metadata),
            version=Version(state.generation, state.revision),
        )

    def strays(self) -> list[Finding]:
        self._check_open()
        reason = "its name or its header is not that of a session"
        names = sorted(name for name in list(self._names) if self._key_of(name) is None)
        findings = [Finding(None, os.path.join(self.path, name), 0, reason) for name in names]
        superseded = self._legacy.keys()
        for key in superseded:
            if file_name(key, SUFFIX) in self._names:
                for name in self._legacy.names_of(key, damaged=False):
                    path = os.path.join(self.path, name)
                    findings.append(Finding(key, path, None, "is superseded by the session's snapshot"))
        return findings

    def close(self) -> None:
        if not self._closed:
            self._lock.release()
            self._files.close_directory()
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError

    def __repr__(self) -> str:
        return f"<SnapshotStore {self.path!r}>"
