"""Reading the logs in a directory: whole, or their ends."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial

from session_manager.codec.json import DecodeError
from session_manager.errors import ConflictError, CorruptSessionError, StorageError, UnsupportedFormatError
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.resource import Resource
from session_manager.stores.contract import Finding
from session_manager.stores.files.atomic import NotRegularError, Signature, read_whole, signature
from session_manager.stores.files.needles import may_hold, may_score
from session_manager.stores.files.quarantine import keep_copy
from session_manager.stores.files.session_directory import SessionDirectory, reading
from session_manager.stores.log.clean_shutdown import CleanMark
from session_manager.stores.log.file import WHOLE, Facts, LogFile
from session_manager.stores.log.format import (
    MAX_STATE,
    LogState,
    are_whole,
    check_format,
    encode_metadata,
    is_whole,
    start_of,
    state_at_end,
)
from session_manager.stores.log.replay import Log, decode

__all__ = ["NOT_A_FILE", "LogReader"]

_ATTEMPTS = 5
#: The errors of opening a name that is no regular file. Reading it raises the error for users.
NOT_A_FILE = (errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR)


class LogReader(Resource):
    """Reads the logs of a directory.

    :param directory: open, for writing or read-only.
    :raises StorageError: if the mark of a clean end cannot be taken away.
    """

    def __init__(self, directory: SessionDirectory) -> None:
        self._directory = directory
        self._files = directory.files
        #: Each torn record that was found, once.
        self._repairs: dict[Finding, None] = {}
        self.mark: CleanMark | None = None
        if directory.read_only:
            return
        try:
            self.mark = CleanMark(self._files, directory.listing)
        except OSError as error:
            raise StorageError(directory.path, f"cannot be written to: {error.strerror}") from error

    def read(self, file: LogFile) -> tuple[Session, Facts] | None:
        """Return the session in a file, and the facts of the file; `None` if there is no file.

        Beside the writer, a file that looks damaged is read again if it has changed meanwhile.

        :raises CorruptSessionError: if it is damaged.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises StorageError: if it cannot be read, or cannot be synced when it must be.
        """
        self._believe(file)
        key, name = file.key, file.name
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
        file.looked_at(torn=log.torn is not None)
        if log.torn is not None and not self._directory.read_only:
            self._repairs[self.torn(file, log.torn)] = None
        encoded = encode_metadata(session._metadata)
        return session, Facts(read, session.version, log.fingerprint, session._metadata, encoded, log.torn)

    def searched(self, file: LogFile, text: str) -> Sequence[Message] | None:
        """Return the messages of a file if one of them may contain a text, otherwise none.

        :returns: `None` if the file is anything but whole and durable: `read` tells what it is.
        """
        data = self._durable(file)
        if data is None:
            return None
        if not may_hold(data, text):
            return () if are_whole(data) else None
        try:
            log = decode(data, file.name)
        except (UnsupportedFormatError, DecodeError):
            return None
        return log.session.messages if log.torn is None else None

    def may_score(self, file: LogFile, text: str, least: float) -> bool:
        """Say whether a message of a file may have at least a score, or the file is anything but whole and durable."""
        data = self._durable(file)
        return data is None or not are_whole(data) or may_score(data, text, least)

    def _durable(self, file: LogFile) -> bytes | None:
        """Return the bytes of a file that is durable; `None` if it may not be, or is no log of its key."""
        name = file.name
        if file.status not in WHOLE or (self.mark is not None and name in self.mark.unsynced):
            return None
        try:
            data, _ = read_whole(self._files, name, judge=partial(check_format, path=name))
        except (OSError, NotRegularError, UnsupportedFormatError, DecodeError):
            return None
        return data if data.startswith(start_of(file.key)) else None

    def current(self, file: LogFile, bases: tuple[Version | None, ...]) -> Facts:
        """Read a file again, and note the facts.

        :raises ConflictError: unless it is at one of these versions, and has the content that the file had at that version.
        """
        before, found = file.facts, self.read(file)
        if found is None:
            raise ConflictError(file.key, bases[0], None)
        there = found[1]
        self._directory.names.add(file.name)
        changed = before is not None and before.version == there.version and not there.is_of(before)
        if there.version not in bases or changed:
            raise ConflictError(file.key, bases[0], there.version, "another program wrote the file" if changed else "")
        file.read(there)
        return there

    def _believe(self, file: LogFile) -> None:
        """Sync a file that a killed process may have left in the page cache only."""
        name = file.name
        if self.mark is None or name not in self.mark.unsynced:
            return
        try:
            self.mark.sync(name)
        except OSError as error:
            if error.errno in NOT_A_FILE:
                return  # reading the file tells
            if name not in self.mark.unsynced:
                file.distrust()
            raise StorageError(self._directory.path_of(name), f"cannot be synced: {error.strerror}") from error
        except BaseException:
            if name not in self.mark.unsynced:
                file.distrust()  # nobody knows what became of the sync
            raise

    def is_still(self, name: str, seen: Signature) -> bool:
        """Say whether a file still has a signature.

        :raises OSError: if it cannot be looked at.
        """
        status = self._files.stat(name)
        return status is not None and signature(status) == seen

    def _changed(self, name: str, seen: Signature) -> bool:
        try:
            return not self.is_still(name, seen)
        except OSError:
            return False

    def state(self, file: LogFile) -> LogState | None:
        """Return the state at the end of a file; `None` if the whole file must be read to tell it."""
        name = file.name
        if file.status not in WHOLE or (self.mark is not None and name in self.mark.unsynced):
            return None  # after a power cut the end of a record may be there without its beginning
        start = start_of(file.key)
        try:
            fd = self._files.open_read(name)
            try:
                size = self._files.fstat(fd).st_size
                tail = self._files.read_at(fd, MAX_STATE, max(size - MAX_STATE, 0))
                head = tail if size <= MAX_STATE else self._files.read_at(fd, len(start), 0)
            finally:
                self._files.close(fd)
        except OSError:
            return None  # reading the file tells why
        return state_at_end(tail) if head.startswith(start) else None

    def put_mark_back(self) -> None:
        """Create the clean-shutdown marker, unless a file that no call has read ends with a torn record."""
        if self.mark is not None:
            self.mark.put_back(self._ends_whole)

    def _ends_whole(self, name: str) -> bool:
        try:
            data, _ = read_whole(self._files, name, judge=partial(check_format, path=name))
        except (NotRegularError, DecodeError, UnsupportedFormatError):
            return False
        end = data.rfind(b"\n")
        return end == len(data) - 1 and is_whole(data[data.rfind(b"\n", 0, end) + 1 : end])

    def torn(self, file: LogFile, offset: int) -> Finding:
        """Return the finding for a torn record."""
        return Finding(file.key, self._directory.path_of(file.name), offset, "a torn record: a save that was cut short")

    def keep_torn(self, file: LogFile, offset: int) -> None:
        """Copy a torn record to quarantine, durably.

        :raises OSError: if that fails.
        """
        data, _ = read_whole(self._files, file.name)
        keep_copy(self._files, file.name, data[offset:])

    def repairs(self) -> list[Finding]:
        """Return a finding for each torn record found."""
        return list(self._repairs)

    def rewritten(self, file: LogFile) -> None:
        """Note that a file was written whole, or is gone: it needs no sync."""
        if self.mark is not None:
            self.mark.unsynced.discard(file.name)
