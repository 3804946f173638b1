"""Adoption: a directory of another program's sessions becomes one of ours, in place, session by session.

What happens to a session, and what a kill leaves:

1. It is written as one of ours. Its metadata hold the digests of the other program's files, which are still there.
2. Each of these files gets the name ``NAME.migrated``, which nothing may have; the directory is synced after each. That of the
   messages comes before that of the metadata, since only the latter tell the key.

A kill before the end of 1 leaves the session as it was. A kill after it leaves both. The next adoption finds the digests of what is
still there in our session, and goes on with 2. Other digests mean that the other program has written again: then both stay.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
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
from session_manager.importers.formats import reader_of
from session_manager.importers.reading import Flaw, ImportedSession, SourceDatabase, SourceFile
from session_manager.importers.report import ImportedFile, ImportReport, Skipped
from session_manager.importers.writing import MARK, Origin, Outcome, Writer
from session_manager.model.json_value import JsonObject
from session_manager.model.key import check_key
from session_manager.stores.contract import Store
from session_manager.stores.files.atomic import NotRegularError, Signature, read_whole, signature
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.foreign import ADOPTED, foreign_in
from session_manager.stores.files.kinds import sessions_in
from session_manager.stores.files.recognition import META, MIGRATED, metas_in
from session_manager.stores.log.store import LogStore
from session_manager.stores.snapshot.store import SnapshotStore

__all__ = ["adopt"]

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
    adopter: list[Files] = []

    def opened(path: str) -> Files:
        adopter.append(files(path))
        adopter[0].adopts = True
        return adopter[0]

    with closing(_STORES[kind or there or "snapshot"](place, read_only=dry_run, files=opened)) as store:
        return _Adoption(store, adopter[0], place, is_dry=dry_run).run(progress)


def _look(place: str, files: Callable[[str], Files]) -> tuple[Mapping[str, Sequence[str]], str]:
    """Return the files of a directory that are to be adopted, and the kind of our sessions in it.

    :raises StorageError: if it is not there, or cannot be read.
    """
    try:
        directory = files(os.path.realpath(place))
        try:
            names = directory.names()
            found = foreign_in(directory, names)
        finally:
            directory.close_directory()
    except OSError as error:
        raise StorageError(place, f"cannot be read: {error.strerror}") from error
    there = next(iter(sessions_in(names)), "snapshot" if any(name.endswith(MIGRATED) for name in names) else "")
    return {one: found[one] for one in ADOPTED if one in found}, there


@attrs.define
class _Part:
    """A file of another program's session, as it was read."""

    name: str
    data: bytes
    signature: Signature

    @property
    def digest(self) -> str:
        """Its SHA-256, in hex."""
        return hashlib.sha256(self.data).hexdigest()


class _Source(SourceFile):
    """A file in an open directory, and the file with its metadata: both as they were at one moment."""

    def __init__(self, files: Files, name: str, names: frozenset[str]) -> None:
        self.name = name
        self.names, self.metas = names, metas_in(names)
        data, status = read_whole(files, name)
        self.modified = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, timezone.utc)
        #: The files of the session, in the order in which they are renamed.
        self.parts = [_Part(name, data, signature(status))]
        meta = f"{self.stem}{META}"
        if name.endswith(".jsonl") and meta in names:
            data, status = read_whole(files, meta)
            self.parts.append(_Part(meta, data, signature(status)))

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the bytes: one piece."""
        yield self.parts[0].data

    def database(self) -> SourceDatabase:
        """Raise: it is none."""
        raise StorageError(self.name, "is no database")

    def beside(self, name: str) -> bytes | None:
        """Return the bytes of the file with the metadata, if it is that."""
        return next((part.data for part in self.parts[1:] if part.name == name), None)


class _Adoption:
    """The adoption of a directory.

    :param store: has the directory open.
    :param files: the directory.
    :param path: it, as the caller names it.
    """

    def __init__(self, store: Store, files: Files, path: str, *, is_dry: bool) -> None:
        self._store, self._files, self._path, self._is_dry = store, files, path, is_dry
        self._writer = Writer(store, "skip", is_dry=is_dry)

    def run(self, progress: Progress | None) -> ImportReport:
        """Adopt all sessions, one after the other."""
        names = frozenset(self._files.names())
        found = foreign_in(self._files, names)
        wanted = sorted((name, known) for known in ADOPTED for name in found.get(known, ()))
        reports = []
        for number, (name, known) in enumerate(wanted, 1):
            key, outcome = self._adopt(name, known, names)
            reports.append(
                ImportedFile(
                    name=name,
                    format=known,
                    sessions=int(outcome.is_written),
                    messages=outcome.messages,
                    present=int(outcome.is_present),
                    skipped=outcome.skipped,
                )
            )
            if progress is not None:
                progress(number, len(wanted), key or "")
        return ImportReport(files=tuple(reports))

    def _adopt(self, name: str, known: str, names: frozenset[str]) -> tuple[str | None, Outcome]:
        """Adopt a session; return its key, if that is known, and what has become of it."""
        try:
            source = _Source(self._files, name, names)
        except (OSError, NotRegularError) as error:
            return None, _left(
                None, f"cannot be read: {error if isinstance(error, NotRegularError) else error.strerror}"
            )
        read = list(reader_of(known)(source, None))
        flaws = tuple(Skipped(reason=one.reason, line=one.line, key=one.key) for one in read if isinstance(one, Flaw))
        session = next((one for one in read if isinstance(one, ImportedSession)), None)
        if session is None:
            return None, Outcome(skipped=flaws)
        origin = Origin(known, name, {part.name: part.digest for part in source.parts})
        outcome = self._present(session, origin)
        taken = next((part.name for part in source.parts if f"{part.name}{MIGRATED}" in names), None)
        if taken is not None and (outcome is None or outcome.is_present):
            return session.key, _left(session.key, f"{taken}{MIGRATED} is there already: {_ELSEWHERE}")
        if outcome is None:
            outcome = self._writer.write([(session, origin)])[0]
            outcome = attrs.evolve(outcome, skipped=(*flaws, *outcome.skipped))
        if (outcome.is_written or outcome.is_present) and not self._is_dry:
            outcome = attrs.evolve(outcome, skipped=(*outcome.skipped, *self._rename(source, session.key)))
        return session.key, outcome

    def _present(self, session: ImportedSession, origin: Origin) -> Outcome | None:
        """Say what the session of ours is that has the key of another one; `None` if there is none."""
        try:
            there = self._store.load(check_key(session.key))
        except InvalidKeyError:
            return None  # as the writer says
        except (CorruptSessionError, UnsupportedFormatError):
            return _left(session.key, f"our session of this key cannot be read: {_ELSEWHERE}")
        if there is None:
            return None
        adopted, found = _adopted(there.metadata), origin.adopted or {}
        if found.items() <= adopted.items():
            return Outcome(is_present=True)
        again = "that program has written to it again since it was adopted"
        return _left(
            session.key,
            f"{again if adopted.keys() & found.keys() else 'we have another session of its key'}: {_ELSEWHERE}",
        )

    def _rename(self, source: _Source, key: str) -> list[Skipped]:
        """Rename the files of a session that is durable as one of ours; return why they stay, if they do.

        :raises StorageError: if that fails.
        """
        for part in source.parts:
            try:
                status = self._files.stat(part.name)
                if status is None or signature(status) != part.signature:
                    return [Skipped(reason=f"{part.name} was written to while it was adopted", key=key)]
                self._files.rename_new(part.name, f"{part.name}{MIGRATED}")
                self._files.sync_directory()
            except OSError as error:
                raise StorageError(
                    os.path.join(self._path, part.name), f"cannot be renamed: {error.strerror}"
                ) from error
        return []


def _adopted(metadata: Mapping[str, object] | JsonObject) -> dict[str, object]:
    """Return the digests of the files that a session of ours was adopted from, by their names."""
    mark = metadata.get(MARK)
    adopted = mark.get("adopted") if isinstance(mark, Mapping) else None
    return dict(adopted) if isinstance(adopted, Mapping) else {}


def _left(key: str | None, reason: str) -> Outcome:
    return Outcome(skipped=(Skipped(reason=reason, key=key),))
