"""A store of append-only logs: each session is one file in a directory, to which a save appends what has changed.

A save is one write of one line, and one sync, whatever the session's length. You can read a log (``tail -f``), and restore
one by ``cp``. One process writes.

**A save** looks at the status of the session's `LogFile` (`session_manager.stores.log.file`). It appends a record
(`session_manager.stores.log.appender`). A new session, a cleared one, and one whose file must not be appended to are written
whole, by replacing the file (`session_manager.stores.log.rewriter`). A failed append is cut off, and followed by a whole write.

**Another program's content is never overwritten.** If the file is not the one that was last read or written (device, inode,
size, time of modification), it is read again. Another version, or another content, is a `ConflictError`.

**What a load returns is durable.** After a process was killed, each file is synced before its first reading
(`session_manager.stores.log.clean_shutdown`). A file whose write has failed is written whole before its session is shown.

**Compaction** replaces a log by its first line. It happens when more than half of a file over 64 KiB is dead, and on
`compact`. It changes neither content nor revision.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from session_manager.arguments import check_bool, check_callable, check_path
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.history.search import SearchHit, best
from session_manager.model.changes import Clear
from session_manager.model.session import Session, Version
from session_manager.stores.archive.pairs import Pair
from session_manager.stores.contract import Commit, Finding, SessionInfo
from session_manager.stores.directory_store import DirectoryStore
from session_manager.stores.files.atomic import CROWDED, read_start
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log.appender import Left, LogAppender
from session_manager.stores.log.edited import read_edited
from session_manager.stores.log.file import APPENDABLE, BELIEVED, WHOLE, Facts, LogFile
from session_manager.stores.log.format import MAX_KEY, SUFFIX, encode_first, key_in
from session_manager.stores.log.pairs import read_log
from session_manager.stores.log.reader import LogReader
from session_manager.stores.log.rewriter import LogRewriter

if TYPE_CHECKING:
    from session_manager.stores.salvaged import Salvaged

__all__ = ["LogStore"]


class LogStore(DirectoryStore):
    """Sessions as append-only logs in a directory, which one process at a time may open for writing.

    :param path: the directory; created, 0700, if it is missing.
    :param read_only: read beside the writer, and see what it saves.
    :param files: opens the directory; for tests, which break it.
    :raises TypeError: if an argument is of another type; like every error, before anything is opened.
    :raises InvalidStorageError: if no file system can hold the path, or if the directory holds snapshots, or sessions of another program; nothing has changed.
    :raises StorageLockedError: if another process, or another store, has it open for writing.
    :raises StorageError: if it cannot be created, read or locked; with `read_only`, if it is not there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        files: Callable[[str], Files] = Files,
    ) -> None:
        place = check_path(path, "path")
        check_bool(read_only, "read_only")
        check_callable(files, "files")
        #: The files with something to remember, by key.
        self._logs: dict[str, LogFile] = {}
        self._closed = False
        super().__init__(place, SUFFIX, _key_in, read_only=read_only, files=files)

    def _prepare(self) -> None:
        self._reader = LogReader(self._directory)
        self._appender = LogAppender(self._directory, self._reader)
        self._rewriter = LogRewriter(self._directory, self._reader)

    def _file(self, key: str) -> LogFile:
        """Return the `LogFile` of a session; a new one if there is nothing to remember."""
        return self._logs.get(key) or LogFile(key, self._directory.name(key), self._logs)

    # Reading

    def load(self, key: str) -> Session | None:
        self._directory.check_open()
        file = self._file(key)
        found = self._shown(file)
        session, facts = found or (None, None)
        file.read(facts)
        return session

    def _shown(self, file: LogFile) -> tuple[Session, Facts] | None:
        """Return the session in a file, once that is durable, and the facts. They are not noted: a load does that."""
        if file.commit is not None:
            self.landed(file.commit)
        found = self._look(file)
        if found is None or file.status in BELIEVED:
            return found
        session, facts = found
        try:
            return session, self._rewriter.compact(file, session, facts)
        except (SaveError, ConflictError) as error:
            raise StorageError(self._directory.path_of(file.name), "cannot be made durable") from error

    def _look(self, file: LogFile) -> tuple[Session, Facts] | None:
        """Return the session in a file, durable or not, and the facts."""
        found = self._reader.read(file) if self._directory.may_have(file.name) else None
        if found is None:
            self._directory.names.discard(file.name)
        return found

    def search(
        self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20, skip: Collection[str] = ()
    ) -> list[SearchHit]:
        found = None
        if key is not None and key not in skip and not self.has_archive(key):
            self._directory.check_open()
            found = self._reader.searched(self._file(key), text)
        if key is None or found is None:
            return super().search(text, key=key, prefix=prefix, limit=limit, skip=skip)
        return best(text, ((key, one) for one in found), limit)

    def may_score(self, key: str, text: str, least: float) -> bool:
        self._directory.check_open()
        return self.has_archive(key) or self._reader.may_score(self._file(key), text, least)

    def _pair(self, key: str) -> Pair | None:
        return read_log(self._files, key, self._directory.name(key))

    def release(self, key: str) -> None:
        file = self._logs.get(key)
        if file is not None:
            file.release()

    # Writing

    def write(self, commit: Commit) -> None:
        self._directory.check_writable()
        session, base = commit.session, commit.base
        file = self._logs.get(session.key) or self._file(session.key)
        archives = self._archives.concerns(commit)
        if archives:
            self._archives.prepare(commit, partial(self._settled_version, file, (base,)))
        if base is None or file.status not in APPENDABLE or Clear in map(type, commit.changes):
            self._rewriter.write(file, commit, (base,))
        else:
            left = self._appender.append(file, commit, base)
            if left is not None:
                self._finish_append(file, commit, left)
        if archives:
            self._finish_archive(file, commit)

    def _finish_append(self, file: LogFile, commit: Commit, left: Left | Exception) -> None:
        """Do what is left after an append: recover from its failure, write the session whole, or compact the file."""
        if isinstance(left, OSError):
            self._rewriter.recover(file, commit, left)
        elif isinstance(left, Exception):
            raise left
        elif left == "whole":
            self._rewriter.write(file, commit, (commit.base,))
        elif file.facts is not None:
            self._rewriter.reclaim(file, commit.session)

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        """Make commits durable: all records are written first, and then synced together; all new sessions are written together."""
        self._directory.check_writable()
        if len(commits) == 1:
            return super().write_many(commits)
        appends: list[tuple[LogFile, Commit, Version]] = []
        whole: list[tuple[LogFile, Commit]] = []
        outcomes: dict[str, Exception | None] = {}
        for commit in commits:
            key, base = commit.session.key, commit.base
            file = self._file(key)
            if self._archives.concerns(commit):
                outcomes[key] = self._attempt(commit)
            elif base is None or file.status not in APPENDABLE or Clear in map(type, commit.changes):
                whole.append((file, commit))
            else:
                appends.append((file, commit, base))
        for (file, commit, _), outcome in zip(appends, self._appender.append_many(appends), strict=True):
            try:
                if outcome is not None:
                    self._finish_append(file, commit, outcome)
                outcomes[file.key] = None
            except SessionManagerError as error:
                outcomes[file.key] = error
        for (file, _), outcome in zip(whole, self._rewriter.write_many(whole), strict=True):
            outcomes[file.key] = outcome
        return [
            self._attempt(commit) if _is_crowded(outcome) else outcome
            for commit in commits
            for outcome in [outcomes[commit.session.key]]
        ]

    def landed(self, commit: Commit) -> bool | None:
        self._directory.check_writable()
        file, bases = self._file(commit.session.key), (commit.base, commit.session.version)
        archives = self._archives.concerns(commit)
        try:
            if archives:
                self._archives.prepare(commit, partial(self._settled_version, file, bases))
            self._rewriter.write(file, commit, bases)
        except ConflictError:
            return None
        if archives:
            self._finish_archive(file, commit)
        return True

    def _settled_version(self, file: LogFile, bases: tuple[Version | None, ...]) -> Version | None:
        """Return the version of a file, which must be one of these, and survive a power cut.

        Otherwise a power cut could bring a failed append back, whose archive has been cut by then.
        """
        facts = self._rewriter.verified(file, bases)
        if facts is not None and file.status not in APPENDABLE:
            found = self._reader.read(file)
            if found is not None:
                self._rewriter.compact(file, *found)
        return self.version(file.key)

    def _finish_archive(self, file: LogFile, commit: Commit) -> None:
        left = self._archives.finish(commit)
        if left is not None:
            file.doubt(commit)
            raise SaveOutcomeUnknownError(file.key, f"its archive: {left.strerror}") from left

    def compact(self, key: str) -> None:
        self._directory.check_writable()
        file = self._file(key)
        found = self._shown(file)
        if found is None:
            return
        session, facts = found
        if file.status == "spent":
            facts = self._rewriter.compact(file, session, facts)
        self._archives.tidy(key, session.version)
        encoded = encode_first(session)
        if encoded.size != facts.signature[2]:
            self._rewriter.compact(file, session, facts, encoded)

    # The rest of the contract

    def delete(self, key: str, expected: Version | None = None) -> bool:
        self._directory.check_writable()
        file = self._file(key)
        self._directory.look_for(file.name)
        damaged = False
        try:
            found = self._look(file)
        except (CorruptSessionError, UnsupportedFormatError):
            if expected is not None:
                raise
            damaged = True
        else:
            if found is None and key not in self._directory.undeleted and file.commit is None:
                if expected is None:
                    self._archives.remove(key, damaged=False)
                return False
            if expected is not None and (found is None or found[0].version != expected):
                return False
        try:
            self._directory.remove(key, damaged=damaged, mark=self._archives.mark_of(key))
        finally:
            if file.name not in self._directory.names:
                self._reader.rewritten(file)
                file.gone()
        self._archives.remove(key, damaged=damaged)
        return True

    def version(self, key: str) -> Version | None:
        self._directory.check_open()
        file = self._logs.get(key)
        facts = None if file is None else file.facts
        with contextlib.suppress(OSError):
            if file is not None and facts is not None and self._reader.is_still(file.name, facts.signature):
                return facts.version
        info = self.describe(key)
        return None if info is None else info.version

    def describe(self, key: str) -> SessionInfo | None:
        self._directory.check_open()
        file = self._file(key)
        if not self._directory.may_have(file.name):
            return None
        state = self._reader.state(file)
        if state is None or state.metadata is None:
            found = self._reader.read(file)
            return None if found is None else SessionInfo.of(found[0])
        return SessionInfo.of_log_state(key, state)

    def verify(self, key: str) -> list[Finding]:
        """Check a session. The check notes no facts, so that the next write still notices another program's file."""
        torn: list[Finding] = []

        def shown(key: str) -> Session | None:
            self._directory.check_open()
            file = self._file(key)
            found = self._shown(file)
            if found is None:
                return None
            session, facts = found
            if facts.torn is not None:
                torn.append(self._reader.torn(file, facts.torn))
            return session

        return [*self._checked(key, shown), *self._archives.alone(key=key)] or torn

    def salvage(self, key: str) -> Salvaged | None:
        from session_manager.stores.archive.salvaging import read_damaged, with_archive
        from session_manager.stores.log.salvage import salvage
        from session_manager.stores.salvaged import Salvaged

        self._directory.check_open()
        try:
            found = self._shown(self._file(key))
        except (CorruptSessionError, UnsupportedFormatError) as error:
            damage = error
        else:
            if found is None:
                return None
            whole = Salvaged(session=found[0], archived=found[0]._archived)
            return with_archive(whole, self._archives, self.version)
        salvaged = read_damaged(self._directory, key, damage, salvage)
        told = Version(salvaged.session.generation, salvaged.session.revision - 1) if salvaged.expected else None
        return with_archive(salvaged, self._archives, lambda _: told)

    def put_salvaged(self, salvaged: Salvaged) -> list[str]:
        from session_manager.stores.archive.salvaging import write_salvaged

        self._directory.check_writable()
        file = self._file(salvaged.session.key)
        return write_salvaged(
            self._directory, self._archives, salvaged, partial(self._rewriter.put_salvaged, file, salvaged.session)
        )

    def accept_edits(self, key: str) -> list[str]:
        from session_manager.stores.archive.salvaging import edited

        self._directory.check_writable()
        return self.put_salvaged(edited(self._directory, self._archives, key, read_edited))

    def repairs(self) -> list[Finding]:
        self._directory.check_open()
        return [*self._reader.repairs(), *super().repairs()]

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if all(file.status in WHOLE for file in list(self._logs.values())):
                self._reader.put_mark_back()
        finally:
            super().close()


def _is_crowded(failure: Exception | None) -> bool:
    """Say whether a save failed that may succeed alone: for want of room, or of descriptors."""
    return isinstance(failure, SaveFailedError) and getattr(failure.__cause__, "errno", None) in CROWDED


def _key_in(files: Files, name: str) -> str:
    return key_in(read_start(files, name, MAX_KEY), os.path.join(files.path, name))
