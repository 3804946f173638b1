"""Salvage of a session in a directory: its own file, and its archive beside it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from session_manager.codec.json import DecodeError
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    StorageError,
    UnsupportedFormatError,
    raise_alone,
)
from session_manager.model.session import Session, Version
from session_manager.stores.archive.files import ArchiveFiles
from session_manager.stores.archive.salvage import Archived, edited_lines, whole_lines
from session_manager.stores.contract import missing
from session_manager.stores.files.atomic import NotRegularError, OutcomeUnknownError, read_whole, signature
from session_manager.stores.files.quarantine import keep_copy
from session_manager.stores.files.session_directory import SessionDirectory, reading
from session_manager.stores.salvaged import Flaw, Salvaged

__all__ = ["edited", "read_damaged", "with_archive", "write_salvaged"]


def read_damaged(
    directory: SessionDirectory,
    key: str,
    damage: CorruptSessionError | UnsupportedFormatError,
    salvage: Callable[[bytes, str, str], Salvaged],
) -> Salvaged:
    """Return all of a session's own file that is whole.

    :param damage: why it cannot be read as usual.
    :param salvage: reads it, given its bytes, the key and the path.
    :raises CorruptSessionError, UnsupportedFormatError: `damage`, if the file is not one of this store.
    :raises StorageError: if it cannot be read.
    """
    name = directory.name(key)
    path = directory.path_of(name)
    if damage.path != path:
        raise damage
    try:
        data, _ = read_whole(directory.files, name)
    except (FileNotFoundError, NotRegularError):
        raise damage from None
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error
    return salvage(data, key, path)


def edited(
    directory: SessionDirectory, archives: ArchiveFiles, key: str, read: Callable[[bytes, str], Session]
) -> Salvaged:
    """Return a session whose file, or archive, was edited by hand, to be written by `write_salvaged`.

    :param read: reads the session's own file, given its bytes and its path; may raise what decoding raises.
    :raises CorruptSessionError: if it is no session, or another one.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it cannot be read.
    """

    def decoded(path: str) -> tuple[str, Session]:
        session = read(read_whole(directory.files, name)[0], path)
        return session.key, session

    name = directory.name(key)
    session = reading(directory.files, key, name, decoded)
    if session is None or session.version is None:
        raise CorruptSessionError(key, directory.path_of(name), 0, "is not there")
    lines = _edited_lines(archives, key, session.version)
    archive = [(one.revision, one.message) for one in lines if session.at(one.message.position or 0) is None]
    paths = [directory.path_of(name), *([archives.path_of(key)] if archives.may_have(key) else [])]
    return Salvaged(
        session=session._with(revision=session.revision + 1, _archived=len(archive)),
        archive=archive,
        flaws=[Flaw(path, None, "was edited") for path in paths],
    )


def with_archive(salvaged: Salvaged, archives: ArchiveFiles, version_of: Callable[[str], Version | None]) -> Salvaged:
    """Return a salvaged session with all of its archive that is whole.

    :param version_of: returns the version that the session's own file tells; `None` if it does not.
    """
    session = salvaged.session
    lines, flaws = _whole_lines(archives, session.key, version_of)
    if lines and salvaged.flaws and version_of(session.key) is None:
        newest = max(line.revision for line in lines)
        session = session._with(generation=lines[0].generation, revision=max(session.revision, newest + 1))
    archive = [(one.revision, one.message) for one in lines if session.at(one.message.position or 0) is None]
    path = archives.path_of(session.key)
    if len(archive) < len(lines):
        flaws = [*flaws, Flaw(path, None, "messages are in the session and in its archive")]
    if reason := missing(salvaged.archived, len(archive)):
        flaws = [*flaws, Flaw(path, None, reason)]
    all_flaws = [*salvaged.flaws, *flaws]
    if flaws and not salvaged.flaws:
        session = session._with(revision=session.revision + 1)
    if all_flaws:
        session = session._with(_archived=len(archive))
    return attrs.evolve(salvaged, session=session, archive=archive, flaws=all_flaws)


def _whole_lines(
    archives: ArchiveFiles, key: str, version_of: Callable[[str], Version | None]
) -> tuple[list[Archived], list[Flaw]]:
    """Return the archived messages of a session that are whole, and what is wrong with its archive.

    Of a session whose version cannot be read, all lines of the newest generation are returned.

    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it cannot be read.
    """
    if not archives.may_have(key):
        return [], []
    flaws: list[Flaw] = []
    version = None
    try:
        version = version_of(key)
        archives.read(key, version_of)
    except CorruptSessionError as error:
        if version is not None:
            flaws = [Flaw(error.path, error.offset, error.reason)]
    lines = whole_lines(archives.raw(key) or b"", key)
    if version is None and lines:
        newest = max(lines, key=lambda line: line.revision)
        version = Version(newest.generation, newest.revision)
    return [one for one in lines if version is not None and _counts(one, version)], flaws


def _edited_lines(archives: ArchiveFiles, key: str, version: Version) -> list[Archived]:
    """Return the archived messages of a session whose archive was edited by hand.

    :param version: the session's.
    :raises CorruptSessionError: if a line is none.
    :raises StorageError: if it cannot be read.
    """
    if (data := archives.raw(key)) is None:
        return []
    try:
        lines = list(edited_lines(data, key))
    except DecodeError as error:
        raise_alone(CorruptSessionError(key, archives.path_of(key), error.offset, error.reason))
    return [one for one in lines if _counts(one, version)]


def _counts(line: Archived, version: Version) -> bool:
    return line.generation == version.generation and line.revision <= version.revision


def write_salvaged(
    directory: SessionDirectory,
    archives: ArchiveFiles,
    salvaged: Salvaged,
    put: Callable[[Callable[[], None]], None],
) -> list[str]:
    """Write a salvaged session in the place of a damaged one, as `Store.put_salvaged` says.

    The archive goes first: its whole lines count for the damaged session as well as for the new one.

    :param put: replaces the session's own file, given a check to call right before.
    """
    session = salvaged.session
    key, name = session.key, directory.name(session.key)
    kept: list[str] = []
    try:
        data, status = read_whole(directory.files, name)

        def check() -> None:
            there = directory.files.stat(name)
            if there is None or signature(there) != signature(status):
                raise ConflictError(key, session.version, None, "another program wrote the file")

        damaged = {flaw.path for flaw in salvaged.flaws}
        if directory.path_of(name) in damaged:
            kept.append(keep_copy(directory.files, name, data))
        if archives.path_of(key) in damaged:
            kept += archives.put_salvaged(key, session.generation, salvaged.archive)
        put(check)
    except NotRegularError as error:
        raise SaveFailedError(key, f"its file is {error}") from None
    except OutcomeUnknownError as error:
        raise SaveOutcomeUnknownError(key, getattr(error.__cause__, "strerror", "")) from error.__cause__
    except OSError as error:
        raise SaveFailedError(key, f"{error.strerror}") from error
    directory.names.add(name)
    return kept
