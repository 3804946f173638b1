"""A directory of logs: each session is one file, to which a save appends what has changed.

A save is one write of one line, and one sync, whatever the session's length. Readable (``tail -f``), restorable by ``cp``.
One process writes.

**What is appended to.** The file must be the one that was last read or written, by its name and by its open descriptor
(device, inode, size, time of modification), else it is read again: another version in it, or another content, is a
`ConflictError`. One that has a second name, as backups of hard links give it, is replaced instead. After a write or a sync that failed, what it left is cut off, its descriptor is never used again (Linux
forgets a failed sync, see `session_manager.atomic`), and the session is written whole, by replacing the file: at once, and
if that fails, too, by the next save.

**What is read back is durable.** See `session_manager.clean_mark`. Of an append that was begun and not finished, nothing is
believed that is read back: the session is written whole before it is shown.

**Compaction** replaces a log by its first line. It happens when more than half of a file over 64 KiB is dead, instead of an
append when a session is cleared, and on `compact`. It changes neither content nor revision.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator

import attrs

from session_manager.archive_files import ArchiveFiles
from session_manager.arguments import check_bool, check_callable, check_int, check_path
from session_manager.atomic import OutcomeUnknownError, Signature, read_start, read_whole, replace, signature
from session_manager.change_codec import encode_changes
from session_manager.changes import Clear
from session_manager.descriptors import Descriptors
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.files import Files
from session_manager.live_bytes import Live
from session_manager.log_format import (
    MAX_KEY,
    SUFFIX,
    encode_first,
    encode_notes,
    encode_record,
    encode_state,
    first_size,
    key_in,
    next_seal,
)
from session_manager.log_reader import Known, LogReader
from session_manager.model import Message, Session, Version, _Owned
from session_manager.quarantine import keep_copy
from session_manager.session_directory import SessionDirectory
from session_manager.store import Commit, Finding, SessionInfo, Store

__all__ = ["LogStore"]

_log = logging.getLogger("session_manager")

_COMPACT_FROM = 64 * 1024
_ATTEMPTS = 5


class LogStore(Store):
    """Sessions as append-only logs in a directory, which one process at a time may open for writing.

    :param path: the directory; created, 0700, if it is missing.
    :param read_only: read beside the writer, and see what it saves.
    :param max_descriptors: how many files to keep open for appending; from 0.
    :param files: opens the directory; for tests, which break it.
    :raises TypeError: if an argument is of another type; like every error, before anything is opened.
    :raises ValueError: if `max_descriptors` is negative.
    :raises InvalidStorageError: if no file system can hold the path, or if the directory holds snapshots, also picoclaw's; nothing has changed.
    :raises StorageLockedError: if another process, or another store, has it open for writing.
    :raises StorageError: if it cannot be created, read or locked; with `read_only`, if it is not there.
    """

    archives = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        max_descriptors: int = 64,
        files: Callable[[str], Files] = Files,
    ) -> None:
        check_path(path, "path")
        check_bool(read_only, "read_only")
        check_int(max_descriptors, "max_descriptors", least=0)
        check_callable(files, "files")
        self.shared = read_only
        self._known: dict[str, Known] = {}
        #: Writes that were begun, and of which nobody knows whether they survive a power cut.
        self._doubtful: dict[str, Commit] = {}
        #: Keys of files that hold what is durable, but are not to be appended to.
        self._spent: set[str] = set()
        #: Sizes of files from which on a compaction that failed is tried again.
        self._patience: dict[str, int] = {}
        self._closed = False
        self._directory = SessionDirectory(path, SUFFIX, _key_in, files=files, read_only=read_only)
        self.path, self._files = self._directory.path, self._directory.files
        self._descriptors = Descriptors(self._files, max_descriptors)
        try:
            self._reader = LogReader(self._directory)
            self._archives = ArchiveFiles(self._directory, SUFFIX)
        except BaseException:
            self._directory.close()
            raise
        #: Keys of files that an append was begun to, and not finished.
        self._suspect = self._reader.suspect

    # Reading

    def load(self, key: str) -> Session | None:
        found = self._load(key)
        return None if found is None else found[0]

    def _load(self, key: str) -> tuple[Session, Known] | None:
        self._directory.check_open()
        if key in self._doubtful:
            self.landed(self._doubtful[key])
        found = self._look(key)
        if found is None:
            return None
        session, known = found
        if key not in self._suspect:
            self._known[key] = known
            return found
        self._rewrite(session, known)
        return session, self._known.get(key, known)

    def _look(self, key: str) -> tuple[Session, Known] | None:
        """Return what a session's file holds, whether or not that is durable, and what it is known by."""
        name = self._directory.name(key)
        found = self._reader.read(key, name) if self._directory.may_have(name) else None
        if found is None:
            self._known.pop(key, None)
            self._directory.names.discard(name)
        return found

    def _rewrite(self, session: Session, known: Known) -> None:
        """Make a session durable that was only read back, where a sync would prove nothing."""
        failure: SaveError | ConflictError | None = None
        try:
            self._compact(session, known)
        except (SaveError, ConflictError) as error:
            failure = error
        if failure is not None:
            raise StorageError(self._directory.path_of(known.name), "cannot be made durable") from failure

    def has_archive(self, key: str) -> bool:
        return self._archives.may_have(key)

    def archive(self, key: str) -> Iterator[Message]:
        self._directory.check_open()
        return iter(self._archives.read(key, self.version))

    def release(self, key: str) -> None:
        self._known.pop(key, None)

    # Writing

    def write(self, commit: Commit) -> None:
        self._directory.check_writable()
        key = commit.session.key
        self._prepare_archive(commit, (commit.base,))
        if (
            commit.base is None
            or key in self._suspect
            or key in self._spent
            or key in self._doubtful
            or Clear in map(type, commit.changes)
        ):
            self._replace(commit, (commit.base,))
        else:
            self._append(commit, commit.base)
        self._finish_archive(commit)

    def landed(self, commit: Commit) -> bool | None:
        self._directory.check_writable()
        try:
            self._prepare_archive(commit, (commit.base, commit.session.version))
            self._replace(commit, (commit.base, commit.session.version))
        except ConflictError:
            return None
        self._finish_archive(commit)
        return True

    def _prepare_archive(self, commit: Commit, bases: tuple[Version | None, ...]) -> None:
        key = commit.session.key

        def actual() -> Version | None:
            known = self._verified(key, bases)
            if known is not None and (key in self._suspect or key in self._spent or key in self._doubtful):
                self._make_durable(key, known.name)
            return self.version(key)

        if self._archives.concerns(commit):
            self._archives.prepare(commit, actual)

    def _make_durable(self, key: str, name: str) -> None:
        """Write a session whole as it is read back.

        What a failed append left may come back after a power cut, and must not find its archive cut.
        """
        found = self._reader.read(key, name)
        if found is not None:
            self._compact(*found)

    def _finish_archive(self, commit: Commit) -> None:
        left = self._archives.finish(commit)
        if left is not None:
            self._doubtful[commit.session.key] = commit
            raise SaveOutcomeUnknownError(commit.session.key, f"its archive: {left.strerror}") from left

    def _append(self, commit: Commit, base: Version) -> None:
        session = commit.session
        key = session.key
        ready = self._ready(key, base)
        if ready is None:
            self._replace(commit, (base,))
            return
        known, fd = ready
        try:
            notes = known.notes if session._metadata is known.metadata else encode_notes(session._metadata)
            state = encode_state(session, notes[1])
            line = encode_record(encode_changes(commit.changes), state)
            self._suspect.add(key)
            self._known.pop(key, None)
            failure, written = self._written(fd, line)
        except BaseException:
            self._cut_back(key, known, fd)
            raise
        if failure is not None:
            self._recover(commit, known, fd, failure)
            return
        self._descriptors.give_back(known.name)
        self._suspect.discard(key)
        if written is None:
            return
        live = None
        if written[2] > _COMPACT_FROM:
            live = (known.live and known.live.after(commit, len(notes[0]))) or Live.of(session)
        seal = next_seal(line, known.seal)
        known = Known(known.name, written, session.version, seal, session._metadata, notes, None, live)
        self._known[key] = known
        if live is not None and live.sizes.messages * 2 < written[2]:
            self._reclaim(session, state, known)

    def _written(self, fd: int, line: bytes) -> tuple[OSError | None, Signature | None]:
        """Append a line, durably; return why that failed, and what the file is known by.

        That is asked before the sync, which changes nothing about it: what follows a sync runs with cold caches.
        """
        try:
            if self._files.write(fd, (line,)) != len(line):
                return OSError(errno.EIO, "only a part of it was written"), None
            written = self._signature_of(fd)
            self._files.sync_data(fd)
        except OSError as error:
            return error, None
        return None, written

    def _signature_of(self, fd: int) -> Signature | None:
        """Return what a file is known by after a write; if that cannot be told, the next write reads it again."""
        try:
            return signature(self._files.fstat(fd))
        except OSError:
            return None

    def _ready(self, key: str, base: Version) -> tuple[Known, int] | None:
        """Return a file that is the one last read or written, at a version, and a descriptor to append to it.

        `None` if it has another name besides, as backups of hard links give it: it is not to be written to in place.
        """
        failure = None
        try:
            for _ in range(_ATTEMPTS):
                known = self._known.get(key)
                status = self._files.stat(self._directory.name(key))
                is_known = known is not None and status is not None and known.signature == signature(status)
                if known is None or known.version != base or not is_known:
                    known = self._current(key, (base,))
                if status is not None and status.st_nlink > 1:
                    return None
                if known.torn is not None:
                    known = self._mended(key, known)
                fd, device, inode = self._descriptors.take(known.name)
                if (device, inode) == known.signature[:2]:
                    return known, fd
                self._descriptors.drop(known.name)
        except OSError as error:
            failure = error
        if failure is not None:
            self._descriptors.drop(self._directory.name(key))
            raise SaveFailedError(key, f"{failure.strerror}") from failure
        raise ConflictError(key, base, base, "another program keeps writing the file")

    def _current(self, key: str, bases: tuple[Version | None, ...]) -> Known:
        """Read a file again, and return what it is known by.

        :raises ConflictError: unless it is at one of these versions, and has not been changed.
        """
        known = self._known.get(key)
        found = self._reader.read(key, self._directory.name(key))
        if found is None:
            raise ConflictError(key, bases[0], None)
        there = found[1]
        self._directory.names.add(there.name)
        changed = known is not None and known.version == there.version and known.seal != there.seal
        if there.version not in bases or changed:
            raise ConflictError(key, bases[0], there.version, "another program wrote the file" if changed else "")
        self._known[key] = there
        return there

    def _mended(self, key: str, known: Known) -> Known:
        """Cut off a torn record, which goes to quarantine; return what the file is known by then.

        A file that is another one by now is left alone.

        :raises OSError: nothing has changed.
        """
        if known.torn is None:
            return known
        self._keep_torn(known, known.torn)
        fd, device, inode = self._descriptors.take(known.name)
        if (device, inode) != known.signature[:2]:
            self._descriptors.drop(known.name)
            return known
        self._spent.add(key)
        try:
            self._files.truncate(fd, known.torn)
            self._files.sync(fd)
            mended = attrs.evolve(known, signature=signature(self._files.fstat(fd)), torn=None)
        except BaseException:
            self._known.pop(key, None)
            self._descriptors.drop(known.name)
            raise
        self._known[key] = mended
        self._spent.discard(key)
        return mended

    def _keep_torn(self, known: Known, torn: int) -> None:
        data, _ = read_whole(self._files, known.name)
        keep_copy(self._files, known.name, data[torn:])

    def _cut_back(self, key: str, known: Known, fd: int) -> bool:
        """Cut off what a failed append left, durably, and let go of the descriptor; say whether that worked."""
        self._spent.add(key)
        try:
            self._files.truncate(fd, known.signature[2])
            self._files.sync(fd)  # of bytes that were synced before
        except OSError:
            return False
        else:
            self._suspect.discard(key)
            return True
        finally:
            self._descriptors.drop(known.name)

    def _recover(self, commit: Commit, known: Known, fd: int, failure: OSError) -> None:
        """After a failed append: cut it back, and write the session whole.

        :raises SaveFailedError: if that fails, too; the old state is there.
        :raises SaveOutcomeUnknownError: nobody knows what is there.
        """
        key = commit.session.key
        is_cut = self._cut_back(key, known, fd)

        def check() -> None:
            status = self._files.stat(known.name)
            if status is None or (status.st_dev, status.st_ino) != known.signature[:2]:
                raise ConflictError(key, commit.base, None, "another program replaced the file")

        again = None
        try:
            self._put(commit.session, check, commit)
        except SaveFailedError as error:
            again = error
        if again is None:
            return
        if not is_cut:
            self._doubtful[key] = commit
            raise SaveOutcomeUnknownError(key, f"{failure.strerror}, and then {again.reason}") from failure
        raise SaveFailedError(key, f"{failure.strerror}, and then {again.reason}") from failure

    # Writing whole

    def _replace(self, commit: Commit, bases: tuple[Version | None, ...]) -> None:
        key = commit.session.key
        self._put(commit.session, lambda: self._check_base(key, bases), commit)

    def _check_base(self, key: str, bases: tuple[Version | None, ...]) -> None:
        """Raise unless the file is the one last read or written, at one of these versions."""
        known = self._verified(key, bases)
        if known is not None and known.torn is not None:
            self._keep_torn(known, known.torn)

    def _verified(self, key: str, bases: tuple[Version | None, ...]) -> Known | None:
        status = self._files.stat(self._directory.name(key))
        if status is None:
            if None not in bases:
                raise ConflictError(key, bases[0], None)
            return None
        known = self._known.get(key)
        if known is None or known.version not in bases or known.signature != signature(status):
            known = self._current(key, bases)
        return known

    def _put(self, session: Session, check: Callable[[], None], commit: Commit | None = None) -> None:
        """Replace a session's file by its first line.

        :param check: what it raises leaves the old file as it is.
        :param commit: what this makes durable, if anything.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: it was replaced, but that may not survive a power cut.
        """
        key, name = session.key, self._directory.name(session.key)
        notes = encode_notes(session._metadata)
        encoded = encode_first(session, notes)
        failure: OSError | None = None
        unknown: BaseException | None = None
        known, was_suspect = self._known.get(key), key in self._suspect

        def checked() -> None:
            nonlocal known
            check()
            known = self._known.pop(key, None)
            self._suspect.add(key)

        try:
            written = replace(self._files, name, encoded.buffers, checked)
        except OSError as error:
            failure = error
        except OutcomeUnknownError as error:
            unknown = error.__cause__
        if failure is not None:
            if known is not None:
                self._known[key] = known
            if not was_suspect:
                self._suspect.discard(key)
            raise SaveFailedError(key, f"{failure.strerror}") from failure
        self._descriptors.drop(name)
        self._directory.names.add(name)
        self._directory.undeleted.discard(key)
        if unknown is not None:
            if commit is not None:
                self._doubtful[key] = commit
            raise SaveOutcomeUnknownError(key, f"{getattr(unknown, 'strerror', '')}") from unknown
        live = Live(encoded.sizes, session.end) if written[2] > _COMPACT_FROM else None
        self._known[key] = Known(name, written, session.version, encoded.seal, session._metadata, notes, None, live)
        self._doubtful.pop(key, None)
        self._spent.discard(key)
        self._patience.pop(key, None)
        self._reader.forget(key, name)

    def compact(self, key: str) -> None:
        self._directory.check_writable()
        before = self._known.get(key)
        found = self._load(key)
        if found is None:
            return
        session, known = found
        try:
            if key in self._spent:
                self._compact(session, known)
            self._archives.tidy(key, session.version)
            size = first_size(session, Live.of(session).sizes, encode_state(session, known.notes[1]))
            if size != known.signature[2]:
                self._compact(session, known)
        finally:
            if before is None or (known.version, known.seal) != (before.version, before.seal):
                self._unread(key, before)

    def _unread(self, key: str, before: Known | None) -> None:
        """Let a write still tell what somebody else put into a file, which was only looked at.

        :param before: what the file was known by.
        """
        if before is None:
            self._known.pop(key, None)
        else:
            self._known[key] = before

    def _compact(self, session: Session, known: Known) -> None:
        """Replace a log by its first line, if it is still what it is known by."""
        key = session.key

        def check() -> None:
            if not self._reader.is_still(known.name, known.signature):
                raise ConflictError(key, known.version, None, "another program wrote the file")
            if known.torn is not None:
                self._keep_torn(known, known.torn)

        self._put(session, check)

    def _reclaim(self, session: Session, state: bytes, known: Known) -> None:
        """Compact a log if more than half of it is dead; what was saved is saved, whatever becomes of that."""
        key = session.key
        assert known.live is not None
        live, size = known.live.counted(session), known.signature[2]
        self._known[key] = known = attrs.evolve(known, live=live)
        if first_size(session, live.sizes, state) * 2 >= size or size < self._patience.get(key, 0):
            return
        try:
            self._compact(session, known)
        except (SaveError, ConflictError) as error:
            self._patience[key] = size * 2
            _log.warning("a log was not compacted: %s", error)

    # The rest of the contract

    def delete(self, key: str, expected: Version | None = None) -> bool:
        self._directory.check_writable()
        before = self._known.get(key)
        self._directory.look_for(self._directory.name(key))
        damaged = False
        try:
            found = self._look(key)
        except (CorruptSessionError, UnsupportedFormatError):
            if expected is not None:
                raise
            damaged = True
        else:
            if found is None and key not in self._directory.undeleted and key not in self._doubtful:
                if expected is None:
                    self._archives.remove(key, damaged=False)
                return False
            if expected is not None and (found is None or found[0].version != expected):
                return False
        name = self._directory.name(key)
        self._descriptors.drop(name)
        try:
            self._directory.remove(key, iter(()), damaged=damaged, mark=self._archives.mark_of(key))
        finally:
            if name not in self._directory.names:
                self._forget(key, name)
            else:
                self._unread(key, before)
        self._archives.remove(key, damaged=damaged)
        return True

    def _forget(self, key: str, name: str) -> None:
        self._known.pop(key, None)
        self._doubtful.pop(key, None)
        self._patience.pop(key, None)
        self._spent.discard(key)
        self._reader.forget(key, name)

    def version(self, key: str) -> Version | None:
        self._directory.check_open()
        known = self._known.get(key)
        with contextlib.suppress(OSError):
            if known is not None and self._reader.is_still(known.name, known.signature):
                return known.version
        info = self.describe(key)
        return None if info is None else info.version

    def describe(self, key: str) -> SessionInfo | None:
        self._directory.check_open()
        name = self._directory.name(key)
        if not self._directory.may_have(name):
            return None
        state = self._reader.state(key, name)
        if state is None or state.metadata is None:
            found = self._reader.read(key, name)
            return None if found is None else SessionInfo.of(found[0])
        return SessionInfo(
            key=key,
            count=state.count,
            created=state.created,
            updated=state.updated,
            last_message_at=state.last_message_at,
            start=state.start,
            end=state.end,
            has_summary=state.has_summary,
            metadata=_Owned(state.metadata),
            version=Version(state.generation, state.revision),
        )

    def verify(self, key: str) -> list[Finding]:
        """Check a session. What is only checked does not count as read: a write still tells what somebody else put there."""
        before = self._known.get(key)
        try:
            findings = [*super().verify(key), *self._archives.alone(key=key)]
            known = self._known.get(key)
            if not findings and known is not None and known.torn is not None:
                findings.append(self._reader.torn(key, known.name, known.torn))
            return findings
        finally:
            self._unread(key, before)

    def repairs(self) -> list[Finding]:
        self._directory.check_open()
        return [*self._reader.repairs(), *self._archives.repairs()]

    def strays(self) -> list[Finding]:
        self._directory.check_open()
        return [*self._directory.strays(), *self._archives.alone()]

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._directory.check_open()
        if self._directory.read_only:
            self._directory.listed()
        found = self._directory.keys()
        return iter([key for key in found if key.startswith(prefix)])

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            idle = self._descriptors.close()
            if idle and not (self._doubtful or self._suspect or self._spent):
                self._reader.put_mark_back()
        finally:
            self._directory.close()

    def __repr__(self) -> str:
        return f"<LogStore {self.path!r}>"


def _key_in(files: Files, name: str) -> str:
    return key_in(read_start(files, name, MAX_KEY), os.path.join(files.path, name))
