"""Reading the logs in a directory: whole, or their ends; and knowing of each what was last read or written."""

from __future__ import annotations

import errno
from functools import partial

import attrs

from session_manager.atomic import NotRegularError, Signature, read_whole, signature
from session_manager.clean_mark import CleanMark
from session_manager.errors import CorruptSessionError, StorageError
from session_manager.live_bytes import Live
from session_manager.log_format import (
    MAX_STATE,
    LogState,
    check_format,
    encode_notes,
    is_whole,
    start_of,
    state_at_end,
)
from session_manager.log_replay import Log, decode
from session_manager.model import Session, Version, _Owned
from session_manager.resource import Resource
from session_manager.session_directory import SessionDirectory
from session_manager.session_file import reading
from session_manager.store import Finding

__all__ = ["Known", "LogReader"]

_ATTEMPTS = 5
_NOT_A_FILE = (errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO)


@attrs.frozen(eq=False, repr=False)
class Known:
    """The file of a session as it was last read or written."""

    name: str
    signature: Signature
    version: Version | None
    #: What tells its content from any other's.
    seal: int
    #: The session's metadata, and its encoding (`session_manager.log_format.encode_notes`).
    metadata: _Owned
    notes: tuple[bytes, bytes]
    #: Where a torn record begins, which is to be cut off.
    torn: int | None = None
    #: What is alive in it, once it is large enough to ask.
    live: Live | None = None


class LogReader(Resource):
    """Reads the logs of a directory.

    :param directory: open, for writing or read-only.
    :raises StorageError: if the mark of a clean end cannot be taken away.
    """

    def __init__(self, directory: SessionDirectory) -> None:
        self._directory = directory
        self._files = directory.files
        self._repairs: dict[tuple[str, int], Finding] = {}
        #: Keys of files whose content is not known to survive a power cut, and a sync would prove nothing.
        self.suspect: set[str] = set()
        #: Names of files that end with a torn record. Its state may be whole, though its beginning is not.
        self.torn_names: set[str] = set()
        self.mark: CleanMark | None = None
        if directory.read_only:
            return
        try:
            self.mark = CleanMark(self._files, directory.other_names, directory.names)
        except OSError as error:
            raise StorageError(directory.path, f"cannot be written to: {error.strerror}") from error

    def read(self, key: str, name: str) -> tuple[Session, Known] | None:
        """Return the session in a file, and what the file is known by; `None` if there is no file.

        Beside the writer, a file that looks damaged is read again if it has changed meanwhile.

        :raises CorruptSessionError: if it is damaged.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises StorageError: if it cannot be read, or not be synced when that is due.
        """
        self._believe(key, name)
        seen: list[Signature] = []

        def decoded(path: str) -> tuple[str, tuple[Log, Signature]]:
            data, status = read_whole(self._files, name, judge=partial(check_format, path=path))
            seen.append(signature(status))
            log = decode(data, path)
            return log.session.key, (log, seen[-1])

        found = None
        while True:
            damage = None
            try:
                found = reading(self._files, key, name, decoded)
            except CorruptSessionError as error:
                damage = error
            if damage is None:
                break
            if not self._directory.read_only or not seen or len(seen) >= _ATTEMPTS or not self._changed(name, seen[-1]):
                raise damage
        if found is None:
            return None
        log, read = found
        session = log.session
        self.torn_names.discard(name)
        if log.torn is not None:
            self.torn_names.add(name)
        if log.torn is not None and not self._directory.read_only:
            self._repairs[key, log.torn] = self.torn(key, name, log.torn)
        notes = encode_notes(session._metadata)
        return session, Known(name, read, session.version, log.seal, session._metadata, notes, log.torn)

    def _believe(self, key: str, name: str) -> None:
        """Sync a file that a killed process may have left in the page cache only."""
        if self.mark is None or name not in self.mark.unsynced:
            return
        failure = None
        try:
            self.mark.sync(name)
        except OSError as error:
            failure = error
        if failure is None or failure.errno in _NOT_A_FILE:
            return  # reading it says so
        if name not in self.mark.unsynced:
            self.suspect.add(key)
        path = self._directory.path_of(name)
        raise StorageError(path, f"cannot be synced: {failure.strerror}") from failure

    def is_still(self, name: str, known: Signature) -> bool:
        """Say whether a file is what it was.

        :raises OSError: if it cannot be looked at.
        """
        status = self._files.stat(name)
        return status is not None and signature(status) == known

    def _changed(self, name: str, seen: Signature) -> bool:
        try:
            return not self.is_still(name, seen)
        except OSError:
            return False

    def state(self, key: str, name: str) -> LogState | None:
        """Return the state at the end of a file; `None` if it takes the whole file to tell."""
        if name in self.torn_names or (self.mark is not None and name in self.mark.unsynced):
            return None  # after a power cut the end of a record may be there without its beginning
        start = start_of(key)
        try:
            fd = self._files.open_read(name)
            try:
                size = self._files.fstat(fd).st_size
                head = self._files.read_at(fd, len(start), 0)
                tail = self._files.read_at(fd, MAX_STATE, max(size - MAX_STATE, 0))
            finally:
                self._files.close(fd)
        except OSError:
            return None  # reading it says why
        return state_at_end(tail) if head == start else None

    def put_mark_back(self) -> None:
        """Create the mark of a clean end, unless a file ends with a torn record: its state must not be believed then."""
        if self.mark is not None and not self.torn_names:
            self.mark.put_back(self._ends_whole)

    def _ends_whole(self, name: str) -> bool:
        try:
            data, _ = read_whole(self._files, name)
        except NotRegularError:
            return False
        end = data.rfind(b"\n")
        return end == len(data) - 1 and is_whole(data[data.rfind(b"\n", 0, end) + 1 : end])

    def torn(self, key: str, name: str, offset: int) -> Finding:
        """Return what there is to say of a torn record."""
        return Finding(key, self._directory.path_of(name), offset, "a torn record: a save that was cut short")

    def repairs(self) -> list[Finding]:
        """Return the torn records that were found."""
        return list(self._repairs.values())

    def forget(self, key: str, name: str) -> None:
        """Take note that a file is gone."""
        self.suspect.discard(key)
        self.torn_names.discard(name)
        if self.mark is not None:
            self.mark.unsynced.discard(name)
