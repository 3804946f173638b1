"""Importing: sessions of other programs become sessions of a storage."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from typing import get_args

import attrs

from session_manager.arguments import Progress, check_bool, check_path, check_progress, check_type
from session_manager.errors import InvalidStorageError, StorageError
from session_manager.importers.formats import format_of_file, reader_of
from session_manager.importers.reading import Flaw, ImportedSession
from session_manager.importers.report import ImportedFile, ImportReport, Skipped
from session_manager.importers.source import FoundFile, files_of
from session_manager.importers.writing import OnConflict, Origin, Outcome, Writer
from session_manager.stores.contract import Store
from session_manager.stores.files.recognition import MIGRATED
from session_manager.stores.memory import MemoryStore
from session_manager.stores.opening import Storage, opened
from session_manager.stores.urls import parts_of

__all__ = ["OnConflict", "import_sessions"]

#: How many sessions, and messages, are written at once.
_SESSIONS, _MESSAGES = 256, 5_000


def import_sessions(
    source: str | os.PathLike[str],
    into: Storage,
    *,
    format: str | None = None,
    on_conflict: OnConflict = "skip",
    dry_run: bool = False,
    timezone: tzinfo | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import the sessions of another program's files, with their times, summaries, tool calls and metadata.

    The source is only read. What cannot be imported is in the report, with its file and line, and the rest is imported. The import
    holds one session at a time in RAM, and a number of small ones. A session is durable, whole, before the report counts it.
    After an interruption the same call goes on: what is there already is not written again.

    Each session that was imported says so in its metadata, as ``imported``: its format, file, number of messages and their digest.

    :param source: a file, or a directory: all files below it, but for hidden ones.
    :param into: the URL or path of a storage, or an open `Store`.
    :param format: the format of all files (`session_manager.importers.FORMATS`); without it, each file is recognized by its content,
        and those that are not recognized are left out.
    :param on_conflict: what to do if the storage has a session of this key that is not the same import. ``"skip"``: leave it alone,
        and report it. ``"replace"``: put the imported one in its place, in one step; it keeps its ``created``. ``"append"``: add the
        messages that an earlier import has not added; summary and metadata stay. ``"fail"``: raise; what was imported before stays.
    :param dry_run: write nothing, and report what would be done.
    :param timezone: the zone of times that name none; this machine's by default.
    :param progress: called after each session, with how many bytes of the source were read, how many there are, and the key.
    :returns: sessions, messages, and what was skipped, by file.
    :raises TypeError, ValueError: if an argument is of another type, or none of those named.
    :raises StorageError: if the source is not there or cannot be read, or the storage cannot be read or written.
    :raises InvalidStorageError: if nothing in the source is of a known format, or the storage cannot be what it says.
    :raises SessionExistsError: with ``on_conflict="fail"``, at the first session that is there.
    :raises StorageLockedError: if another process has the storage open.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises SaveFailedError, SaveOutcomeUnknownError: if a session could not be written. Import again.
    """
    path = check_path(source, "source")
    if on_conflict not in get_args(OnConflict):
        raise ValueError(f"on_conflict must be one of {', '.join(get_args(OnConflict))}, not {on_conflict!r}")
    check_bool(dry_run, "dry_run")
    if timezone is not None:
        check_type(timezone, (tzinfo,), "timezone must be a tzinfo, such as zoneinfo.ZoneInfo('Europe/Berlin')")
    check_progress(progress)
    if format is not None:
        reader_of(format)
    files, lost = files_of(path)
    tallies = [_tally(file, format, is_alone=not os.path.isdir(path)) for file in files]
    unread = [ImportedFile(name=one.name, format=None, skipped=(Skipped(reason=one.reason),)) for one in lost]
    _check_known(path, [*(tally.report() for tally in tallies), *unread])
    with opened(_target(into, dry_run=dry_run), read_only=dry_run) as store:
        writer = Writer(store, on_conflict, is_dry=dry_run)
        _write_all(writer, tallies, timezone, progress)
    return ImportReport(files=(*(tally.report() for tally in tallies), *unread))


def _check_known(path: str, files: Sequence[ImportedFile]) -> None:
    """Refuse a source of which nothing is known.

    :raises StorageError: if nothing is known, and something cannot be read.
    :raises InvalidStorageError: if nothing is known.
    """
    if any(file.format for file in files):
        return
    for file in files:
        for one in file.skipped:
            raise StorageError(os.path.join(path, file.name), one.reason)
    raise InvalidStorageError(path, "holds no sessions of a format that is known; give format= if you know it")


def _tally(file: FoundFile, format: str | None, *, is_alone: bool) -> _Tally:
    """Return the tally of a file of a format. In a directory, files that were adopted have none, nor those that cannot be read.

    :raises StorageError: if the only file cannot be read.
    """
    if format is not None and (is_alone or not file.name.endswith(MIGRATED)):
        return _Tally(file, format)
    try:
        return _Tally(file, format_of_file(file))
    except StorageError as error:
        if is_alone:
            raise
        return _Tally(file, None, skipped=[Skipped(reason=error.reason)])


def _target(into: Storage, *, dry_run: bool) -> Storage:
    """Return the storage to open: an empty one for a dry run, if it is not there."""
    if dry_run and not isinstance(into, Store):
        _, scheme, path = parts_of(into)
        if scheme == "memory" or (path and not os.path.lexists(path)):
            return MemoryStore()
    return into


@attrs.define
class _Tally:
    """What has become of a file so far."""

    file: FoundFile
    format: str | None
    sessions: int = 0
    messages: int = 0
    present: int = 0
    skipped: list[Skipped] = attrs.field(factory=list)

    def count(self, outcome: Outcome) -> None:
        """Count what has become of a session."""
        self.sessions += outcome.is_written
        self.messages += outcome.messages
        self.present += outcome.is_present
        self.skipped.extend(outcome.skipped)

    def report(self) -> ImportedFile:
        """Return what has become of the file."""
        return ImportedFile(
            name=self.file.name,
            format=self.format,
            sessions=self.sessions,
            messages=self.messages,
            present=self.present,
            skipped=tuple(self.skipped),
        )


def _sessions(tallies: Iterable[_Tally], zone: tzinfo | None) -> Iterator[tuple[_Tally, ImportedSession]]:
    """Read file by file; what cannot be read is noted at once."""
    for tally in tallies:
        if tally.format is None:
            continue
        try:
            for found in reader_of(tally.format)(tally.file, zone):
                if isinstance(found, Flaw):
                    tally.skipped.append(Skipped(reason=found.reason, line=found.line, key=found.key))
                else:
                    yield tally, found
        except StorageError as error:
            tally.skipped.append(Skipped(reason=error.reason))


def _write_all(writer: Writer, tallies: list[_Tally], zone: tzinfo | None, progress: Progress | None) -> None:
    """Write what the files hold, and count what becomes of it."""
    known = [tally for tally in tallies if tally.format is not None]
    total = sum(tally.file.size for tally in known)
    for batch in _batches(_sessions(known, zone)):
        outcomes = writer.write([(one, Origin(tally.format or "", tally.file.name)) for tally, one in batch])
        read = sum(tally.file.read for tally in known)
        for (tally, one), outcome in zip(batch, outcomes, strict=True):
            tally.count(outcome)
            if progress is not None:
                progress(read, total, one.key)


def _batches(
    sessions: Iterable[tuple[_Tally, ImportedSession]],
) -> Iterator[list[tuple[_Tally, ImportedSession]]]:
    """Put small sessions together, which a store may write at once."""
    batch, messages = [], 0
    for pair in sessions:
        batch.append(pair)
        messages += len(pair[1].messages) + len(pair[1].archived)
        if len(batch) >= _SESSIONS or messages >= _MESSAGES:
            yield batch
            batch, messages = [], 0
    if batch:
        yield batch
