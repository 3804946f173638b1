"""The archives in a directory of sessions: files beside the sessions' own (`session_manager.stores.archive.format`).

**A write that archives.** The store first checks that the session's file is at the version that the write is based on. Lines
that do not count at that version are cut off the archive. The new lines are appended and synced (`prepare`). Only then is the
session written. So a line begins to count when its message leaves the session.

**Every write** of a session cuts first, even one that archives nothing. Otherwise the lines of a failed write would count as
soon as another write reaches their revision. Archives that this process has cut or appended to need no second look.

**A cut** replaces the file. A file is appended to only if it is certainly whole. After a failed append, or a replacement of
unknown outcome, the file is replaced.

**A clear** gives the session another generation, at which no old line counts. Lines that it spares are appended again, for that
generation, before the session is written. After that, all other lines and their text are removed.

**A deletion** removes the session first, then its archive, which has a mark until then (`session_manager.stores.archive.marks`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from session_manager.errors import (
    CorruptSessionError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    StorageError,
    raise_alone,
)
from session_manager.model.archive import is_kept
from session_manager.model.message import Message
from session_manager.model.session import Version
from session_manager.resource import Resource
from session_manager.stores.archive.format import (
    SUFFIX,
    Found,
    body_of,
    check_format,
    decode,
    decode_bodies,
    encode_lines,
    position_of,
)
from session_manager.stores.archive.marks import ArchiveMarks
from session_manager.stores.archive.writer import ArchiveWriter
from session_manager.stores.contract import Commit, Finding
from session_manager.stores.files.atomic import (
    NotRegularError,
    OutcomeUnknownError,
    Signature,
    read_whole,
    signature,
)
from session_manager.stores.files.kinds import archives_in
from session_manager.stores.files.names import file_name
from session_manager.stores.files.quarantine import keep_copy
from session_manager.stores.files.session_directory import SessionDirectory, reading

__all__ = ["ArchiveFiles"]

_ATTEMPTS = 5


@attrs.frozen(eq=False, repr=False)
class _Facts:
    """The file of an archive, as it was last read or written: all of its lines count."""

    signature: Signature
    #: How many lines it has.
    count: int


class ArchiveFiles(Resource):
    """The archives of the sessions in a directory.

    :param directory: open, for writing or read-only.
    :param suffix: how the names of sessions' files end.
    """

    def __init__(self, directory: SessionDirectory, suffix: str) -> None:
        self._directory = directory
        self._files = directory.files
        self._facts: dict[str, _Facts] = {}
        #: The facts of files that were prepared for a write. They hold once the write lands.
        self._prepared: dict[str, _Facts] = {}
        self._marks = ArchiveMarks(directory, suffix)
        self._writer = ArchiveWriter(directory)
        #: Archives that had no session when the directory was opened.
        self._found_alone: dict[str, Finding] = {}
        if not directory.read_only:
            self._writer.names.update(archives_in(directory.other_names))
            self._finish_deletions()
            alone = sorted(name for name in self._writer.names if not self._marks.is_listed(name))
            self._found_alone = {name: self._marks.finding(name) for name in alone}

    def _finish_deletions(self) -> None:
        """Remove the archives that have a mark and no session, then the marks. The next opening tries again after a failure."""
        for name in sorted(self._marks.marked):
            with contextlib.suppress(OSError):
                if name in self._writer.names and not self._marks.is_listed(name):
                    self._unlink(name)
                self._marks.remove(name)

    # Reading

    def path_of(self, key: str) -> str:
        """Return the path of a session's archive."""
        return self._directory.path_of(file_name(key, SUFFIX))

    def may_have(self, key: str) -> bool:
        """Say whether a session may have an archive; a reader beside the writer cannot tell."""
        return self._directory.read_only or file_name(key, SUFFIX) in self._writer.names

    def read(self, key: str, version_of: Callable[[str], Version | None]) -> list[Message]:
        """Return the archived messages of a session, by position.

        Beside the writer, it is read again if the session has changed meanwhile.

        :param version_of: returns the version that the session's own file has.
        :raises CorruptSessionError: if it is damaged.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises StorageError: if it cannot be read.
        """
        name = file_name(key, SUFFIX)
        read_only = self._directory.read_only
        if not self.may_have(key):
            return []
        damage: CorruptSessionError | None = None
        found: list[Message] | None = None
        for _ in range(_ATTEMPTS):
            version, damage = version_of(key), None
            try:
                found = self._read(key, name, version)
            except CorruptSessionError as error:
                damage = error
            if not read_only or version_of(key) == version:
                break
        if damage is not None:
            raise damage
        return found or []

    def _read(self, key: str, name: str, version: Version | None) -> list[Message] | None:
        def decoded(path: str) -> tuple[str, list[Message]]:
            judge = None if version is None else partial(check_format, path=path)
            found = decode(read_whole(self._files, name, judge=judge)[0], key, version, path)
            if found.damage is not None and version is not None:
                raise found.damage
            return key, decode_bodies(body for _, body in found.lines)

        return reading(self._files, key, name, decoded)

    # Writing

    def concerns(self, commit: Commit) -> bool:
        """Say whether a write needs `prepare`."""
        if commit.archived:
            return True
        key = commit.session.key
        if not self._writer.names or (name := file_name(key, SUFFIX)) not in self._writer.names:
            return False
        return commit.spared is not None or key not in self._facts or name in self._marks.marked

    def prepare(self, commit: Commit, actual: Callable[[], Version | None]) -> None:
        """Bring a session's archive into the form that a commit needs, durably. Until the commit is written, it reads as before.

        :param actual: returns the version of the session's own file: the one before the commit, or after it.
        :raises SaveFailedError: the session must not be written.
        :raises CorruptSessionError: if the file is no archive.
        """
        key = commit.session.key
        name = file_name(key, SUFFIX)
        try:
            self._prepare(commit, name, actual())
        except NotRegularError:
            raise_alone(CorruptSessionError(key, self._directory.path_of(name), 0, "is not a regular file"))
        except (OSError, OutcomeUnknownError) as error:
            _raise_failed(key, error)
        except StorageError as error:
            if type(error) is not StorageError:
                raise
            _raise_failed(key, error)

    def _prepare(self, commit: Commit, name: str, actual: Version | None) -> None:
        session, spare = commit.session, commit.spared
        key = session.key
        if actual is not None and actual == session.version:
            return  # the write has landed before, and its archive with it
        self._prepared.pop(key, None)
        facts = self._facts.pop(key, None)
        bodies: list[bytes] = []
        if spare is not None or facts is None or not self._writer.is_still(name, facts.signature):
            facts, found = self._settled(key, name, actual, keeps=spare is None)
            if found is not None and spare is not None:
                bodies = [body for _, body in found.lines if is_kept(position_of(body), spare)]
        bodies += [body_of(message) for _, message in commit.archived]
        if bodies:
            if actual is None:
                self._marks.put(name)
            revised = [(session.revision, body) for body in bodies]
            data = encode_lines(key, session.generation, 0 if facts is None else facts.count, revised)
            written = (
                self._writer.create(key, name, data)
                if facts is None
                else self._writer.append(name, facts.signature, data)
            )
            self._prepared[key] = _Facts(written, (0 if facts is None else facts.count) + len(bodies))
        elif facts is not None and spare is None:
            self._facts[key] = facts

    def finish(self, commit: Commit) -> OSError | None:
        """Note that a commit was written; return the error that kept the text of a cleared archive from being removed."""
        key = commit.session.key
        prepared = self._prepared.pop(key, None)
        name = file_name(key, SUFFIX) if self._marks.marked or commit.spared is not None else ""
        if name in self._marks.marked:
            with contextlib.suppress(OSError):
                self._marks.remove(name)
        if commit.spared is None or commit.base is None:
            if prepared is not None:
                self._facts[key] = prepared
            return None
        failure: OSError | None = None
        try:
            facts = self._settled(key, name, commit.session.version, clear=True)[0]
            if facts is not None:
                self._facts[key] = facts
        except OSError as error:
            failure = error
        except OutcomeUnknownError as error:
            failure = error.__cause__ if isinstance(error.__cause__, OSError) else OSError()
        except NotRegularError:
            return None
        return failure

    def tidy(self, key: str, version: Version | None) -> None:
        """Remove lines that do not count, and their text. Without a session, do nothing.

        :raises SaveFailedError: if they cannot be removed; the lines that count are there.
        """
        if version is None:
            return
        try:
            facts = self._settled(key, file_name(key, SUFFIX), version, keeps=True)[0]
            if facts is not None:
                self._facts[key] = facts
        except (OSError, OutcomeUnknownError) as error:
            _raise_failed(key, error)
        except NotRegularError:
            return

    def _settled(
        self, key: str, name: str, version: Version | None, *, clear: bool = False, keeps: bool = False
    ) -> tuple[_Facts | None, Found | None]:
        """Cut off the lines that do not count at a version; return the facts of the file then, and its content.

        Where there is no session, an archive that is alone goes to quarantine.

        :param clear: also remove what is damaged.
        :param keeps: copy an archive to quarantine first, if its session's file is an older one.
        """
        if name not in self._writer.names:
            return None, None
        self._facts.pop(key, None)
        if version is None:
            self._unlink(name, aside=not self._marks.is_marked(name))
            return None, None
        try:
            data, status = read_whole(self._files, name)
        except FileNotFoundError:
            self._unlink(name)
            return None, None
        found = decode(data, key, version, self._directory.path_of(name))
        removes = clear or found.damage is None
        if keeps and found.ahead:
            keep_copy(self._files, name, data)
        if not found.lines and removes:
            self._unlink(name)
            return None, None
        if found.torn is not None and not clear:
            keep_copy(self._files, name, data[found.torn :])
        if removes and (found.mixed or found.damage is not None):
            lines = encode_lines(key, version.generation, 0, found.lines)
            return _Facts(self._writer.create(key, name, lines), len(found.lines)), found
        written = signature(status)
        stays = data[: found.end]
        whole = stays.endswith(b"\n")  # else a part of its header is missing
        if not whole or len(stays) != len(data) or name in self._writer.doubtful:
            written = self._writer.replace(name, [stays] if whole else [stays, b"\n"])
        return _Facts(written, found.count), found

    # Salvage

    def raw(self, key: str) -> bytes | None:
        """Return the bytes of a session's archive; `None` if there is no regular file.

        :raises StorageError: if it cannot be read.
        """
        name = file_name(key, SUFFIX)
        try:
            return read_whole(self._files, name)[0] if self.may_have(key) else None
        except (FileNotFoundError, NotRegularError):
            return None
        except OSError as error:
            raise StorageError(self._directory.path_of(name), f"cannot be read: {error.strerror}") from error

    def put_salvaged(self, key: str, generation: str, lines: Sequence[tuple[int, Message]]) -> list[str]:
        """Replace a damaged archive by its whole lines, durably; return the name of its copy in quarantine, if there was a file.

        :param generation: that of the session.
        :param lines: of each, the revision that dropped it, and the message.
        :raises OSError: the archive is as it was.
        :raises OutcomeUnknownError: it may be the old one after a power cut.
        """
        name = file_name(key, SUFFIX)
        self._facts.pop(key, None)
        self._prepared.pop(key, None)
        kept: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            kept.append(keep_copy(self._files, name, read_whole(self._files, name)[0]))
        if lines:
            bodies = [(revision, body_of(message)) for revision, message in lines]
            self._writer.create(key, name, encode_lines(key, generation, 0, bodies))
        elif name in self._writer.names:
            self._unlink(name)
        return kept

    # Removing

    def _unlink(self, name: str, *, aside: bool = False) -> None:
        self._writer.remove(name, aside=aside)
        self._found_alone.pop(name, None)

    def mark_of(self, key: str) -> str | None:
        """Return the name of the mark that a deletion makes of a session's file; `None` if it has no archive."""
        name = file_name(key, SUFFIX)
        return self._marks.to_be(name) if name in self._writer.names else None

    def remove(self, key: str, *, damaged: bool) -> None:
        """Remove the archive of a session that was removed, and the mark, durably.

        :param damaged: move the archive to quarantine instead, like its session.
        :raises SaveOutcomeUnknownError: it may still be there.
        """
        name = file_name(key, SUFFIX)
        self._facts.pop(key, None)
        self._prepared.pop(key, None)
        if name not in self._writer.names and name not in self._marks.marked:
            return
        try:
            if name in self._writer.names:
                self._unlink(name, aside=damaged)
            if name in self._marks.marked:
                self._marks.remove(name)
                self._files.sync_directory()
        except OSError as error:
            self._directory.undeleted.add(key)
            raise SaveOutcomeUnknownError(key, f"its deletion: {error.strerror}") from error

    # Archives that are alone

    def repairs(self) -> list[Finding]:
        """Return the archives that had no session at the opening, and were not removed since; from RAM."""
        return list(self._found_alone.values())

    def alone(self, *, key: str | None = None) -> list[Finding]:
        """Return the archives that have no session now.

        :param key: only the archive of this key.
        :raises StorageError: if the directory cannot be read.
        """
        if key is not None:
            names = {file_name(key, SUFFIX)}
        else:
            names = archives_in(self._directory.listed()) if self._directory.read_only else set(self._writer.names)
        return self._marks.alone(names)


def _raise_failed(key: str, error: Exception) -> None:
    """Raise the error of a save for one of a file operation; return if it is none."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if cause is not None:
        raise SaveFailedError(key, f"its archive: {getattr(cause, 'strerror', '')}") from cause
