"""Adoption: a directory of another program's sessions becomes one of ours, in place, some sessions at a time.

What happens to a session, and what a kill leaves:

1. It is written as one of ours. Its metadata hold the digests of the other program's files, which are still there.
2. Each of these files gets the name ``NAME.migrated``, which nothing may have. That of the messages comes first, durably, then that of
   the metadata, since only the latter tell the key.

A kill before the end of 1 leaves the session as it was. A kill after it leaves both. The next adoption finds the digests of what is
still there in our session, and goes on with 2. Other digests mean that the other program has written again: then both stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Literal

import attrs

from session_manager.arguments import Progress, check_bool, check_path, check_progress
from session_manager.errors import (
    CorruptSessionError,
    InvalidKeyError,
    InvalidStorageError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.importers.adopted import AdoptedFile, Part
from session_manager.importers.formats import reader_of
from session_manager.importers.reading import Flaw, ImportedSession
from session_manager.importers.report import ImportedFile, ImportReport, Skipped
from session_manager.importers.writing import MARK, Origin, Outcome, Writer
from session_manager.model.json_value import JsonObject
from session_manager.model.key import check_key
from session_manager.stores.contract import Store
from session_manager.stores.files.atomic import NotRegularError, signature
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.foreign import ADOPTED, foreign_in
from session_manager.stores.files.kinds import sessions_in
from session_manager.stores.files.recognition import MIGRATED
from session_manager.stores.log.store import LogStore
from session_manager.stores.snapshot.store import SnapshotStore

__all__ = ["adopt"]

#: How many sessions are written at once, and from how many bytes on fewer.
_SESSIONS, _BYTES = 64, 4_000_000

_AGAIN = "that program has written to it again since it was adopted"
#: What is to be done with a file that stays.
_ELSEWHERE = "move it elsewhere, and import it from there if you need it"

_STORES = {"snapshot": SnapshotStore, "log": LogStore}


def adopt(
    path: str | os.PathLike[str],
    *,
    kind: Literal["snapshot", "log"] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    files: Callable[[str], Files] = Files,
) -> ImportReport:
    """Make a directory of picoclaw's sessions one of ours, in place. Stop picoclaw first: it knows nothing of our lock.

    Each session becomes one of ours, with all that `import_sessions` carries over, and is durable. Then picoclaw's files of it are
    renamed to ``NAME.migrated``. Nothing is removed. After an interruption, call it again.

    A session stays as it is, and is in the report, if its key is not known, if we have another session of its key, if ``NAME.migrated``
    is there, or if picoclaw has written to it again since it was adopted. As long as one is left, no store opens the directory. Move its
    files elsewhere, and import them from there if you want to (`import_sessions`).

    :param path: the directory.
    :param kind: what it becomes: a directory of snapshots (``"snapshot"``), as picoclaw's files are, or of logs (``"log"``), for long chats; by default
        what our sessions in it are, or else snapshots.
    :param dry_run: change nothing, and report what would be done.
    :param progress: called after each file, with how many are done, how many there are, and the session's key, or ``""``.
    :param files: opens the directory; for tests, which break it.
    :returns: by file, what was adopted. A session that an interrupted adoption has written counts as `present`.
    :raises TypeError, ValueError: if an argument is of another type, or none of those named.
    :raises InvalidStorageError: if it holds no sessions that can be adopted, and none that were; or if our sessions in it are not of this
        kind.
    :raises StorageLockedError: if a store has the directory open.
    :raises StorageError: if the directory is not there, or cannot be read, locked or written to.
    :raises SaveFailedError, SaveOutcomeUnknownError: if a session could not be written. Adopt again.
    """
    place = check_path(path, "path")
    if kind is not None and kind not in _STORES:
        raise ValueError(f"kind must be one of {', '.join(_STORES)}, not {kind!r}")
    check_bool(dry_run, "dry_run")
    check_progress(progress)
    found, there = _look(place, files)
    if not found and not there:
        raise InvalidStorageError(
            place, f"holds no sessions that can be adopted, which are those in the formats {', '.join(ADOPTED)}"
        )
    if not found:
        return ImportReport()
    directories: list[Files] = []

    def opened(path: str) -> Files:
        directory = files(path)
        directory.adopts = True
        directories.append(directory)
        return directory

    with closing(_STORES[kind or there or "snapshot"](place, read_only=dry_run, files=opened)) as store:
        return _Adoption(store, directories[0], place, is_dry=dry_run).run(progress)


def _look(place: str, files: Callable[[str], Files]) -> tuple[Mapping[str, Sequence[str]], str]:
    """Return the files of a directory that are to be adopted, and the kind of our sessions in it.

    :raises StorageError: if it is not there, or cannot be read.
    """
    names, found = _listed(place, files)
    there = next(iter(sessions_in(names)), "snapshot" if any(name.endswith(MIGRATED) for name in names) else "")
    return {one: found[one] for one in ADOPTED if one in found}, there


def _listed(place: str, files: Callable[[str], Files]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names in a directory, and the files with sessions of other programs."""
    try:
        directory = files(os.path.realpath(place))
        try:
            names = directory.names()
            return names, foreign_in(directory, names)
        finally:
            directory.close_directory()
    except OSError as error:
        raise StorageError(place, f"cannot be read: {error.strerror}") from error


@attrs.define
class _Case:
    """A session that is being adopted."""

    name: str
    format: str
    source: AdoptedFile | None = None
    session: ImportedSession | None = None
    flaws: tuple[Skipped, ...] = ()
    #: What becomes of it; `None`: that is to be seen when it is written.
    outcome: Outcome | None = None

    def skip(self, reason: str) -> None:
        """Note why its files stay."""
        found = self.outcome or Outcome()
        key = None if self.session is None else self.session.key
        self.outcome = attrs.evolve(found, skipped=(*found.skipped, Skipped(reason=reason, key=key)))

    @property
    def is_ours(self) -> bool:
        """Whether it is durable as one of ours."""
        return self.outcome is not None and (self.outcome.is_written or self.outcome.is_present)

    @property
    def report(self) -> ImportedFile:
        """What has become of it."""
        outcome = self.outcome or Outcome()
        return ImportedFile(
            name=self.name,
            format=self.format,
            sessions=int(outcome.is_written),
            messages=outcome.messages,
            present=int(outcome.is_present),
            skipped=outcome.skipped,
        )


class _Adoption:
    """The adoption of a directory.

    :param store: has the directory open.
    :param files: the directory.
    :param path: it, as the caller names it.
    """

    def __init__(self, store: Store, files: Files, path: str, *, is_dry: bool) -> None:
        self._store, self._files, self._path, self._is_dry = store, files, path, is_dry
        self._writer = Writer(store, "skip", is_dry=is_dry)
        self._names = frozenset(files.names())

    def run(self, progress: Progress | None) -> ImportReport:
        """Adopt all sessions: some are written at once, and then their files are renamed."""
        found = foreign_in(self._files, self._names)
        wanted = sorted((name, known) for known in ADOPTED for name in found.get(known, ()))
        reports: list[ImportedFile] = []
        for batch in self._batches(wanted):
            cases = [self._read(name, known) for name, known in batch]
            self._write([case for case in cases if case.outcome is None])
            if not self._is_dry:
                self._rename([case for case in cases if case.is_ours])
            for case in cases:
                reports.append(case.report)
                if progress is not None:
                    progress(len(reports), len(wanted), "" if case.session is None else case.session.key)
        return ImportReport(files=tuple(reports))

    def _batches(self, wanted: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
        """Put small files together."""
        batch, size = [], 0
        for one in wanted:
            status = self._files.stat(one[0])
            batch.append(one)
            size += 0 if status is None else status.st_size
            if len(batch) == _SESSIONS or size >= _BYTES:
                yield batch
                batch, size = [], 0
        yield batch

    def _read(self, name: str, known: str) -> _Case:
        """Read a session, and look whether it may be written."""
        case = _Case(name, known)
        try:
            case.source = AdoptedFile(self._files, name, self._names)
        except (OSError, NotRegularError) as error:
            case.skip(f"cannot be read: {error if isinstance(error, NotRegularError) else error.strerror}")
            return case
        read = list(reader_of(known)(case.source, None))
        case.flaws = tuple(
            Skipped(reason=one.reason, line=one.line, key=one.key) for one in read if isinstance(one, Flaw)
        )
        case.session = next((one for one in read if isinstance(one, ImportedSession)), None)
        if case.session is None:
            case.outcome = Outcome(skipped=case.flaws)
        else:
            self._look(case, case.source, case.session.key)
        return case

    def _look(self, case: _Case, source: AdoptedFile, key: str) -> None:
        """Look for our session of a key: it may be the same one, or stand in the way, and so may a file."""
        reason = ""
        try:
            there = self._store.load(check_key(key))
        except InvalidKeyError:
            return  # as the writer says
        except (CorruptSessionError, UnsupportedFormatError):
            there, reason = None, "our session of this key cannot be read"
        adopted = {} if there is None else _adopted(there.metadata)
        if there is not None and not source.digests.items() <= adopted.items():
            is_again = adopted.keys() & source.digests.keys()
            reason = _AGAIN if is_again else "we have another session of its key"
        taken = [f"{name}{MIGRATED}" for name in source.digests if f"{name}{MIGRATED}" in self._names]
        if reason or taken:
            case.skip(f"{reason or f'{taken[0]} is there already'}: {_ELSEWHERE}")
        elif there is not None:
            case.outcome = Outcome(is_present=True)

    def _write(self, cases: Sequence[_Case]) -> None:
        """Write sessions, each whole and durable.

        :raises SaveError: if one cannot be written.
        """
        pairs = [
            (case.session, Origin(case.format, case.name, case.source.digests))
            for case in cases
            if case.session is not None and case.source is not None
        ]
        for case, outcome in zip(cases, self._writer.write(pairs), strict=True):
            case.outcome = attrs.evolve(outcome, skipped=(*case.flaws, *outcome.skipped))

    def _rename(self, cases: Sequence[_Case]) -> None:
        """Rename the files of sessions that are durable as ours: those of the messages, and then those of the metadata.

        :raises StorageError: if that fails.
        """
        ready = [(case, case.source.parts) for case in cases if case.source is not None]
        for step in range(2):
            renamed = [
                (case, parts) for case, parts in ready if len(parts) > step and self._is_renamed(case, parts[step])
            ]
            try:
                if renamed:
                    self._files.sync_directory()
            except OSError as error:
                raise StorageError(self._path, f"cannot be synced: {error.strerror}") from error
            ready = renamed

    def _is_renamed(self, case: _Case, part: Part) -> bool:
        """Rename a file, unless it was written to since it was read; say whether it was renamed."""
        try:
            status = self._files.stat(part.name)
            if status is None or signature(status) != part.signature:
                case.skip(f"{part.name} was written to while it was adopted")
                return False
            self._files.rename_new(part.name, f"{part.name}{MIGRATED}")
        except OSError as error:
            raise StorageError(os.path.join(self._path, part.name), f"cannot be renamed: {error.strerror}") from error
        return True


def _adopted(metadata: Mapping[str, object] | JsonObject) -> dict[str, object]:
    """Return the digests of the files that a session of ours was adopted from, by their names."""
    mark = metadata.get(MARK)
    adopted = mark.get("adopted") if isinstance(mark, Mapping) else None
    return dict(adopted) if isinstance(adopted, Mapping) else {}
