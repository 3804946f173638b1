"""Erasures in a directory: each has a mark in it until no byte of the session is left in any file.

The mark is durable before anything is removed: ``.erasing-<name of the key>.json``, one JSON object with ``key``, and the ``generation``
of the session, ``null`` if there is none that can be read. The session goes next, with its archive; then its files in quarantine,
and temporary files; the mark goes last. The next opening of the directory finishes what a mark tells of. A session of another
generation was created since, and stays.

A file is told by its name, or by the key in its first bytes. A copy that another program has put there is reported, and stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat as stat_module
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from session_manager.codec.json import encode_json
from session_manager.errors import (
    CorruptSessionError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.resource import Resource
from session_manager.stores.contract import Finding, Store
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.erasure import Erasure
from session_manager.stores.files.atomic import NotRegularError, OutcomeUnknownError, is_orphan, read_whole, replace
from session_manager.stores.files.kinds import ARCHIVE_SUFFIX, SUFFIXES
from session_manager.stores.files.names import file_name
from session_manager.stores.files.owners import key_inside
from session_manager.stores.files.recognition import META, MIGRATED
from session_manager.stores.files.session_directory import SessionDirectory

__all__ = ["Erasures"]

_log = logging.getLogger("session_manager")

_PREFIX, _SUFFIX = ".erasing-", ".json"
_SECOND_NAME = "has a second name (a hard link), under which the text stays: remove that, too"
_COPY = "is not a file of ours, and has the text of the session: a copy, or what was adopted; look at it, and remove it"
_UNFINISHED = "an erasure was begun, and is not finished: erase it again"
_UNREADABLE = "an erasure was begun, and is not finished; it cannot be read of which session: erase that again, and remove this file"


class _Mark(msgspec.Struct):
    key: str
    generation: str | None


class Erasures(Resource):
    """The erasures in a directory of sessions.

    :param directory: open.
    :param store: reads and deletes its sessions.
    """

    def __init__(self, directory: SessionDirectory, store: Store) -> None:
        self._directory, self._store = directory, store
        self._files = directory.files

    def run(self, keys: Sequence[str], tell: Callable[[str], object]) -> Erasure:
        """Erase sessions, as `Store.erase` says; and those whose erasure has been cut short."""
        finished = [key for key in self._begun() if self._is_finished(key)]
        deleted = []
        for key in keys:
            self._mark(key)
            if self._store.delete(key):
                deleted.append(key)
            tell(key)
        gone = {*keys, *finished}
        quarantined, files = self._sweep(gone)
        self._forget(gone)
        return Erasure(
            sessions=tuple(deleted),
            quarantined=tuple(quarantined),
            files=tuple(files),
            finished=tuple(finished),
        )

    def finish(self) -> None:
        """Finish what was cut short, when the directory is opened. What fails is left to the next opening."""
        names = self._directory.other_names
        if not any(name.startswith(_PREFIX) for name in names):
            return
        try:
            self._finish()
        except SessionManagerError as error:
            _log.warning("%s: an erasure could not be finished: %s", self._directory.path, error)

    def _finish(self) -> None:
        finished = {key for key in self._begun() if self._is_finished(key)}
        self._sweep(finished)
        self._forget(finished)

    def unfinished(self) -> list[Finding]:
        """Return the erasures that were begun, and are not finished.

        :raises StorageError: if the directory cannot be read.
        """
        found = []
        for name in self._marks():
            mark, path = self._read(name), self._directory.path_of(name)
            found.append(
                Finding(None, path, None, _UNREADABLE) if mark is None else Finding(mark.key, path, None, _UNFINISHED)
            )
        return found

    # Marks

    def _begun(self) -> list[str]:
        """Return the keys of all marks that can be read."""
        return [mark.key for name in self._marks() if (mark := self._read(name)) is not None]

    def _marks(self) -> list[str]:
        return sorted(name for name in self._names() if name.startswith(_PREFIX) and name.endswith(_SUFFIX))

    def _mark(self, key: str) -> None:
        """Mark a session as one that is about to be erased, durably."""
        data = encode_json(msgspec.to_builtins(_Mark(key, self._generation(key)))) + b"\n"
        try:
            replace(self._files, _name(key), [data], lambda: None)
        except (OSError, OutcomeUnknownError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            raise SaveFailedError(key, f"its erasure: {getattr(cause, 'strerror', '')}") from cause

    def _generation(self, key: str) -> str | None:
        with contextlib.suppress(CorruptSessionError, UnsupportedFormatError):
            version = self._store.version(key)
            return None if version is None else version.generation
        return None

    def _read(self, name: str) -> _Mark | None:
        """Return the mark in a file; `None` if there is none, or it cannot be read."""
        with contextlib.suppress(OSError, NotRegularError, msgspec.MsgspecError):
            mark = msgspec.json.decode(read_whole(self._files, name)[0], type=_Mark)
            return mark if _name(mark.key) == name else None
        return None

    def _is_finished(self, key: str) -> bool:
        """Delete the session of a mark, unless it is a newer one; say whether it is gone now."""
        mark = self._read(_name(key))
        if mark is None:
            return False
        there = self._generation(key)
        if there is None or there == mark.generation:
            self._store.delete(key)
        return True

    def _forget(self, keys: Iterable[str]) -> None:
        """Remove marks. One that stays, or that a power cut brings back, finds nothing to do."""
        with contextlib.suppress(OSError):
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    self._files.unlink(_name(key))
            self._files.sync_directory()

    # Files beside the sessions

    def _names(self) -> list[str]:
        try:
            return self._files.names()
        except OSError as error:
            raise StorageError(self._directory.path, f"cannot be read: {error.strerror}") from error

    def _sweep(self, keys: Collection[str]) -> tuple[list[Quarantined], list[tuple[str, str]]]:
        """Remove the files of sessions in quarantine, and temporary ones, durably; return them."""
        purged = [one for one in self._directory.quarantined(keys) if self._directory.purge_quarantined(one.name)]
        temporary = [name for name in self._names() if is_orphan(name)]
        owned = [
            (name, key) for name in temporary if (key := key_inside(self._files, name)) in keys and key is not None
        ]
        try:
            for name, _ in owned:
                self._files.unlink(name)
            self._files.sync_directory()
        except OSError as error:
            key = owned[0][1] if owned else next(iter(keys), "")
            raise SaveOutcomeUnknownError(key, f"its erasure: {error.strerror}") from error
        return purged, [(self._directory.path_of(name), key) for name, key in owned]

    def _second_names(self, key: str) -> list[Finding]:
        """Return the files of a session that have another name, which cannot be found."""
        found = []
        for suffix in (*SUFFIXES.values(), ARCHIVE_SUFFIX):
            name = file_name(key, suffix)
            with contextlib.suppress(OSError):
                status = self._files.stat(name)
                if status is not None and stat_module.S_ISREG(status.st_mode) and status.st_nlink > 1:
                    found.append(Finding(key, self._directory.path_of(name), None, _SECOND_NAME))
        return found

    def copies(self, keys: Collection[str]) -> list[Finding]:
        """Return the files with texts of sessions that an erasure leaves: of second names, and of other programs.

        :raises StorageError: if the directory cannot be read.
        """
        if self._directory.read_only:
            self._directory.listed()
        ours = set(self._directory.names)
        ours -= {os.path.basename(one.path) for one in self._directory.strays()}
        archives = {name.removesuffix(suffix) + ARCHIVE_SUFFIX for name in ours for suffix in SUFFIXES.values()}
        archives |= {file_name(key, ARCHIVE_SUFFIX) for key in keys}
        others = [name for name in self._names() if name not in ours and name not in archives and name[0] != "."]
        owners = {name: key for name in others if (key := key_inside(self._files, name)) in keys}
        parts = {part: key for name, key in owners.items() if (part := _part_of(name)) in others}
        found = sorted({**parts, **owners}.items())
        linked = [finding for key in keys for finding in self._second_names(key)]
        return [*linked, *(Finding(key, self._directory.path_of(name), None, _COPY) for name, key in found)]


def _part_of(name: str) -> str:
    """Return the file with the messages beside a file that has the key of a session of picoclaw's, also if both were adopted."""
    base = name.removesuffix(MIGRATED)
    return f"{base.removesuffix(META)}.jsonl{name[len(base) :]}" if base.endswith(META) else ""


def _name(key: str) -> str:
    return _PREFIX + file_name(key, _SUFFIX)
