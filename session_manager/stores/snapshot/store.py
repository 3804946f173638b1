"""A directory of snapshots: each session is one JSON file, replaced whole by each save.

Readable, diffable, restorable by ``cp``. A save costs the bare writing of the session's bytes, and two
syncs. One process writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from session_manager.arguments import check_bool, check_callable, check_int, check_path
from session_manager.codec.json import DecodeError
from session_manager.codec.state import State
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    UnsupportedFormatError,
    raise_alone,
)
from session_manager.frozen import Frozen
from session_manager.history.search import SearchHit, best
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.stores.archive.pairs import Pair
from session_manager.stores.contract import Commit, Finding, SessionInfo
from session_manager.stores.directory_store import DirectoryStore
from session_manager.stores.files.atomic import (
    AT_ONCE,
    CROWDED,
    NotRegularError,
    OutcomeUnknownError,
    Replacement,
    Signature,
    read_start,
    read_whole,
    replace,
    replace_many,
    signature,
)
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.needles import may_hold, may_score
from session_manager.stores.files.session_directory import reading
from session_manager.stores.snapshot.edited import read_edited
from session_manager.stores.snapshot.format import (
    SUFFIX,
    Fingerprint,
    Lines,
    check_format,
    decode,
    decode_header,
    encode,
    fingerprint,
    is_intact,
)
from session_manager.stores.snapshot.line_cache import LineCache
from session_manager.stores.snapshot.pairs import read_snapshot
from session_manager.stores.snapshot.salvage import MAX_KEY, key_in_damaged, salvage

if TYPE_CHECKING:
    from session_manager.stores.salvaged import Salvaged

__all__ = ["SnapshotStore"]

T = TypeVar("T")

_CACHE_BYTES = 64 * 1024 * 1024


class _Facts(Frozen, frozen=True):
    """The file of a session as it was last read or written."""

    signature: Signature
    version: Version | None
    fingerprint: Fingerprint


class _Begun(Frozen, frozen=True):
    """A write of a session that has begun, and the versions that the file may have."""

    commit: Commit
    lines: Lines
    bases: tuple[Version | None, ...]
    replacement: Replacement
    version: Version | None
    fingerprint: Fingerprint


class SnapshotStore(DirectoryStore):
    """Sessions as JSON snapshots in a directory, which one process at a time may open for writing.

    :param path: the directory; created, 0700, if it is missing.
    :param read_only: read beside the writer, and see what it saves.
    :param cache_bytes: how many bytes of encoded messages to keep in RAM for faster saves; from 0.
    :param files: opens the directory; for tests, which break it.
    :raises TypeError: if an argument is of another type; like every error, before anything is opened.
    :raises ValueError: if `cache_bytes` is negative.
    :raises InvalidStorageError: if no file system can hold the path, or if the directory holds logs, or sessions of another program; nothing has changed.
    :raises StorageLockedError: if another process, or another store, has it open for writing.
    :raises StorageError: if it cannot be created, read or locked; with `read_only`, if it is not there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        cache_bytes: int = _CACHE_BYTES,
        files: Callable[[str], Files] = Files,
    ) -> None:
        place = check_path(path, "path")
        check_bool(read_only, "read_only")
        check_int(cache_bytes, "cache_bytes", least=0)
        check_callable(files, "files")
        self._cache = LineCache(cache_bytes)
        self._facts: dict[str, _Facts] = {}
        #: Writes that may or may not survive a power cut.
        self._doubtful: dict[str, Commit] = {}
        super().__init__(place, SUFFIX, _key_in, read_only=read_only, files=files)

    def load(self, key: str) -> Session | None:
        session, facts = self._shown(key)
        name = self._directory.name(key)
        if facts is None:
            self._facts.pop(name, None)
        else:
            self._facts[name] = facts
        return session

    def _shown(self, key: str) -> tuple[Session | None, _Facts | None]:
        """Return the session in a file, once that is durable, and the facts. They are not noted: a load does that."""
        self._directory.check_open()
        if key in self._doubtful:
            self.landed(self._doubtful[key])
        return self._look(key)

    def _look(self, key: str) -> tuple[Session | None, _Facts | None]:
        """Return the session in a file, durable or not, and the facts."""
        self._cache.forget(key)
        name = self._directory.name(key)
        found = self._read(key, name) if self._directory.may_have(name) else None
        if found is not None:
            return found
        self._directory.names.discard(name)
        return None, None

    def _read(self, key: str, name: str) -> tuple[Session, _Facts] | None:
        """Return the session in a file, and the facts; `None` if there is no file."""

        def decoded(path: str) -> tuple[str, tuple[Session, _Facts]]:
            data, status = read_whole(self._files, name, judge=partial(check_format, path=path))
            session, fingerprint = decode(data, path)
            return session.key, (session, _Facts(signature(status), session.version, fingerprint))

        return reading(self._files, key, name, decoded)

    def search(
        self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20, skip: Collection[str] = ()
    ) -> list[SearchHit]:
        found = None
        if key is not None and key not in skip and key not in self._doubtful and not self.has_archive(key):
            self._directory.check_open()
            found = self._searched(key, text)
        if key is None or found is None:
            return super().search(text, key=key, prefix=prefix, limit=limit, skip=skip)
        return best(text, ((key, one) for one in found), limit)

    def _searched(self, key: str, text: str) -> Sequence[Message] | None:
        """Return the messages of a file if one of them may contain a text, otherwise none.

        :returns: `None` if the file is anything but whole: `load` tells what it is.
        """
        name = self._directory.name(key)
        try:
            data = self._bytes(name)
            if not may_hold(data, text):
                return () if is_intact(data, key) else None
            session, _ = decode(data, name)
        except (OSError, NotRegularError, UnsupportedFormatError, DecodeError):
            return None
        return session.messages if session.key == key else None

    def may_score(self, key: str, text: str, least: float) -> bool:
        self._directory.check_open()
        if self.has_archive(key) or key in self._doubtful:
            return True
        try:
            data = self._bytes(self._directory.name(key))
            return not is_intact(data, key) or may_score(data, text, least)
        except (OSError, NotRegularError, UnsupportedFormatError, DecodeError):
            return True

    def _bytes(self, name: str) -> bytes:
        return read_whole(self._files, name, judge=partial(check_format, path=name))[0]

    def _pair(self, key: str) -> Pair | None:
        return read_snapshot(self._files, key, self._directory.name(key))

    def _state(self, key: str, name: str) -> State | None:
        """Return the header of a file; `None` if there is no file."""

        def decoded(path: str) -> tuple[str, State]:
            state = _header(self._files, name, path)
            return state.key, state

        return reading(self._files, key, name, decoded)

    def write(self, commit: Commit) -> None:
        self._directory.check_writable()
        self._replace(commit, self._cache.lines(commit), (commit.base,))

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        """Make commits durable; those of sessions without an archive together (`session_manager.stores.files.atomic.replace_many`)."""
        self._directory.check_writable()
        if len(commits) == 1:
            return super().write_many(commits)
        outcomes: dict[str, Exception | None] = {}
        begun: list[_Begun] = []
        size = 0
        for commit in commits:
            if self._archives.concerns(commit):
                outcomes[commit.session.key] = self._attempt(commit)
                continue
            lines = self._cache.lines(commit)
            begun.append(self._begun(commit, lines, (commit.base,)))
            size += lines.size
            if size > AT_ONCE:
                outcomes.update(self._write_at_once(begun))
                begun, size = [], 0
        outcomes.update(self._write_at_once(begun))
        return [outcomes[commit.session.key] for commit in commits]

    def _write_at_once(self, begun: list[_Begun]) -> Iterator[tuple[str, Exception | None]]:
        written = replace_many(self._files, [one.replacement for one in begun])
        for one, outcome in zip(begun, written, strict=True):
            failure: Exception | None = None
            try:
                self._ended(one, outcome)
            except SessionManagerError as error:
                failure = error
            if isinstance(outcome, OSError) and outcome.errno in CROWDED:
                failure = self._attempt(one.commit)
            yield one.commit.session.key, failure

    def landed(self, commit: Commit) -> bool | None:
        self._directory.check_writable()
        whole = Lines().appended(commit.session.messages, commit.session.end)
        try:
            self._replace(commit, whole, (commit.base, commit.session.version))
        except ConflictError:
            return None
        return True

    def _replace(self, commit: Commit, lines: Lines, bases: tuple[Version | None, ...]) -> None:
        key = commit.session.key
        archives = self._archives.concerns(commit)
        if archives:
            self._archives.prepare(commit, partial(self._actual, key, self._directory.name(key), bases))
        begun = self._begun(commit, lines, bases)
        outcome: Signature | Exception
        try:
            one = begun.replacement
            outcome = replace(self._files, one.name, one.buffers, one.check)
        except (OSError, OutcomeUnknownError) as error:
            outcome = error
        self._ended(begun, outcome)
        left = self._archives.finish(commit) if archives else None
        if left is not None:
            self._doubtful[key] = commit
            raise SaveOutcomeUnknownError(key, f"its archive: {left.strerror}") from left

    def _begun(self, commit: Commit, lines: Lines, bases: tuple[Version | None, ...]) -> _Begun:
        session = commit.session
        name, buffers = self._directory.name(session.key), encode(session, lines)
        check = partial(self._check_base, session.key, name, bases)
        made = fingerprint(buffers[0], lines.crc)
        return _Begun(commit, lines, bases, Replacement(name, buffers, check), session.version, made)

    def _ended(self, begun: _Begun, outcome: Signature | Exception) -> None:
        """Note the outcome of the writing of a file."""
        key, name = begun.commit.session.key, begun.replacement.name
        if isinstance(outcome, OSError):
            raise SaveFailedError(key, f"{outcome.strerror}") from outcome
        if isinstance(outcome, Exception) and not isinstance(outcome, OutcomeUnknownError):
            raise outcome
        self._directory.names.add(name)
        self._directory.undeleted.discard(key)
        if isinstance(outcome, Exception):
            self._doubtful[key] = begun.commit
            reason = getattr(outcome.__cause__, "strerror", "")
            raise SaveOutcomeUnknownError(key, f"{reason}") from outcome.__cause__
        self._facts[name] = _Facts(outcome, begun.version, begun.fingerprint)
        self._cache.keep(key, begun.version, begun.lines)
        self._doubtful.pop(key, None)

    def _actual(self, key: str, name: str, bases: tuple[Version | None, ...]) -> Version | None:
        self._check_base(key, name, bases)
        return self.version(key)

    def _check_base(self, key: str, name: str, bases: tuple[Version | None, ...]) -> None:
        """Raise unless the file is the one last read or written, at one of these versions."""
        status = self._files.stat(name)
        if status is None:
            if None not in bases:
                raise ConflictError(key, bases[0], None)
            return
        facts = self._facts.get(name)
        if facts is not None and facts.signature == signature(status) and facts.version in bases:
            return
        found = self._read(key, name)
        if found is None:
            raise ConflictError(key, bases[0], None)
        self._directory.names.add(name)
        there = found[1]
        changed = facts is not None and facts.version == there.version and facts.fingerprint != there.fingerprint
        if there.version not in bases or changed:
            raise ConflictError(key, bases[0], there.version, "another program wrote the file" if changed else "")

    def release(self, key: str) -> None:
        self._facts.pop(self._directory.name(key), None)

    def delete(self, key: str, expected: Version | None = None) -> bool:
        self._directory.check_writable()
        name = self._directory.name(key)
        self._directory.look_for(name)
        session, damaged = None, False
        try:
            session, _ = self._look(key)
        except (CorruptSessionError, UnsupportedFormatError):
            if expected is not None:
                raise
            damaged = True
        else:
            if session is None and key not in self._directory.undeleted and key not in self._doubtful:
                if expected is None:
                    self._archives.remove(key, damaged=False)
                return False
            if expected is not None and (session is None or session.version != expected):
                return False
        self._cache.forget(key)
        try:
            self._directory.remove(key, damaged=damaged, mark=self._archives.mark_of(key))
        finally:
            if name not in self._directory.names:
                self._facts.pop(name, None)
                self._doubtful.pop(key, None)
        self._archives.remove(key, damaged=damaged)
        return True

    def version(self, key: str) -> Version | None:
        facts = self._facts.get(self._directory.name(key))
        if facts is not None and self._is_still(key, facts):
            return facts.version
        info = self.describe(key)
        return None if info is None else info.version

    def _is_still(self, key: str, facts: _Facts) -> bool:
        self._directory.check_open()
        try:
            status = self._files.stat(self._directory.name(key))
        except OSError:
            return False
        return status is not None and signature(status) == facts.signature

    def describe(self, key: str) -> SessionInfo | None:
        self._directory.check_open()
        name = self._directory.name(key)
        state = self._state(key, name) if self._directory.may_have(name) else None
        return None if state is None else SessionInfo.of_state(state)

    def compact(self, key: str) -> None:
        self._directory.check_writable()
        self._archives.tidy(key, self.version(key))

    def verify(self, key: str) -> list[Finding]:
        """Check a session. The check notes no facts, so that the next write still notices another program's file."""
        findings = self._checked(key, lambda key: self._shown(key)[0])
        return [*findings, *self._archives.alone(key=key)]

    def salvage(self, key: str) -> Salvaged | None:
        from session_manager.stores.archive.salvaging import read_damaged, with_archive
        from session_manager.stores.salvaged import Salvaged

        self._directory.check_open()
        try:
            session = self._shown(key)[0]
        except (CorruptSessionError, UnsupportedFormatError) as error:
            damage = error
        else:
            if session is None:
                return None
            return with_archive(Salvaged(session=session, archived=session._archived), self._archives, self.version)
        found = read_damaged(self._directory, key, damage, salvage)
        return with_archive(found, self._archives, self._told_version)

    def _told_version(self, key: str) -> Version | None:
        """Return the version in a damaged file; `None` if its header is damaged."""
        with contextlib.suppress(CorruptSessionError, UnsupportedFormatError):
            return self.version(key)
        return None

    def put_salvaged(self, salvaged: Salvaged) -> list[str]:
        from session_manager.stores.archive.salvaging import write_salvaged

        self._directory.check_writable()
        session = salvaged.session
        key, name = session.key, self._directory.name(session.key)
        lines = Lines().appended(session.messages, session.end)

        def put(check: Callable[[], None]) -> None:
            replace(self._files, name, encode(session, lines), check)

        kept = write_salvaged(self._directory, self._archives, salvaged, put)
        self._cache.forget(key)
        self._facts.pop(name, None)
        self._doubtful.pop(key, None)
        return kept

    def accept_edits(self, key: str) -> list[str]:
        from session_manager.stores.archive.salvaging import edited

        self._directory.check_writable()
        return self.put_salvaged(edited(self._directory, self._archives, key, read_edited))


def _header(files: Files, name: str, path: str) -> State:
    data, _ = read_whole(files, name, until=b"\n", judge=partial(check_format, path=path))
    return decode_header(data[: data.find(b"\n") + 1] or data, path)


def _key_in(files: Files, name: str) -> str:
    try:
        return _header(files, name, name).key
    except DecodeError as error:
        key = key_in_damaged(read_start(files, name, MAX_KEY))
        if key is None:
            raise_alone(error)
        return key
