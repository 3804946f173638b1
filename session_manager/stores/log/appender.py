"""Appends of records to a session's log file, and cuts of a torn record or a failed append at its end.

A save opens the file, checks what it has opened, writes one line, and syncs. The descriptor serves one save only. A failed
sync spoils it, since Linux forgets the failure (`session_manager.stores.files.atomic`). A compaction puts another file in its
place. A save computes everything before the sync: code that runs after a sync runs with cold caches.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from session_manager.codec.changes import encode_changes
from session_manager.errors import ConflictError, SaveFailedError, SessionManagerError
from session_manager.model.changes import Append, Remove, Replace, Truncate
from session_manager.model.session import Version
from session_manager.resource import Resource
from session_manager.stores.contract import Commit
from session_manager.stores.files.atomic import at_once, signature
from session_manager.stores.files.session_directory import SessionDirectory
from session_manager.stores.log.file import Facts, LogFile
from session_manager.stores.log.format import encode_metadata, encode_record, encode_state, next_fingerprint
from session_manager.stores.log.reader import NOT_A_FILE, LogReader

__all__ = ["Left", "LogAppender"]

#: What is left to be done after an append: write the session whole, because its file has a second name; or perhaps compact the file.
Left: TypeAlias = Literal["whole", "compact"]

_ATTEMPTS = 5
#: Changes that write messages, or let them go, and nothing else.
_OF_MESSAGES = frozenset((Append, Replace, Truncate, Remove))


class _Begun(msgspec.Struct, gc=False):
    """A record that is about to be written, or was written and is not synced yet."""

    file: LogFile
    fd: int
    #: The facts of the file without it, and with it; `None` if the system does not tell.
    before: Facts
    after: Facts | None = None
    left: Left | None = None
    #: Why it could not be written or synced.
    failure: OSError | None = None

    def __repr__(self) -> str:
        return f"<a record for {self.file.name[:80]!a}>"


def _is_written(one: _Begun) -> bool:
    return one.failure is None


class LogAppender(Resource):
    """Appends to the logs of a directory.

    :param directory: open for writing.
    :param reader: reads them again if another program has written to one.
    """

    def __init__(self, directory: SessionDirectory, reader: LogReader) -> None:
        self._files = directory.files
        self._reader = reader

    def append(self, file: LogFile, commit: Commit, base: Version) -> Left | OSError | None:
        """Append the record of a commit, durably. The file then is clean, or unread if the system does not tell its facts.

        If the file has a second name (a backup by hard links), nothing is written, and it is spent.

        :param base: the version that the commit is based on.
        :returns: what is left to be done, or why it failed; mostly `None`. After a failure the file is spent if the failed append was
            cut off, else suspect.
        :raises ConflictError: if the file is at another version; nothing has changed.
        :raises CorruptSessionError: if it is damaged; nothing has changed.
        :raises SaveFailedError: if it cannot be opened, or a torn record cannot be cut off; nothing has changed.
        """
        fd = self._opened(file, base)
        if fd is None:
            return "whole"
        left: Left | OSError | None = None
        facts = file.facts
        assert facts is not None
        try:
            after = self._written(file, fd, facts, commit)
            if after is not None and file.is_wasteful(after, commit.session):
                left = "compact"
            self._files.sync_data(fd)
            file.appended(after)
        except OSError as error:
            left = error
            self._cut_back(file, fd, facts)
        except BaseException:
            if file.status == "suspect":  # else the record is durable, or not begun
                self._cut_back(file, fd, facts)
            raise
        finally:
            try:  # noqa: SIM105 - it runs after the sync of every save
                self._files.close(fd)
            except OSError:  # tells nothing new: the bytes were synced before, or the save has failed
                pass
        return left

    def append_many(self, wanted: Sequence[tuple[LogFile, Commit, Version]]) -> list[Left | Exception | None]:
        """Append the records of several commits, each to a file of its own, as `append` does.

        All are written first, and then synced by several threads, since a journal commits simultaneous syncs together.

        :param wanted: the arguments of `append` for each.
        :returns: for each, what `append` would return or raise. After an interrupt, a file whose record was written is suspect.
        """
        begun: list[_Begun] = []
        outcomes: list[Left | Exception | None]
        try:
            outcomes = [self._begun(file, commit, base, begun) for file, commit, base in wanted]
            at_once(self._sync, filter(_is_written, begun))
            ended = map(self._ended, begun)
            return [next(ended) if outcome is None else outcome for outcome in outcomes]
        finally:
            self._close_each(iter([one.fd for one in begun]))

    def _begun(self, file: LogFile, commit: Commit, base: Version, begun: list[_Begun]) -> Left | Exception | None:
        """Write the record of a commit, without a sync.

        :param begun: gets the record, also one that could not be written, if its file could be opened.
        :returns: what `append` would return or raise if it could not.
        """
        try:
            fd = self._opened(file, base)
        except SessionManagerError as error:
            return error
        if fd is None:
            return "whole"
        facts = file.facts
        assert facts is not None
        one = _Begun(file, fd, facts)
        begun.append(one)
        try:
            one.after = self._written(file, fd, facts, commit)
        except OSError as error:
            one.failure = error
            return None
        if one.after is not None and file.is_wasteful(one.after, commit.session):
            one.left = "compact"
        return None

    def _sync(self, one: _Begun) -> None:
        try:
            self._files.sync_data(one.fd)
        except OSError as error:
            one.failure = error

    def _ended(self, one: _Begun) -> Left | OSError | None:
        """Note what became of a record; return what `append` would return."""
        if one.failure is None:
            one.file.appended(one.after)
        else:
            self._cut_back(one.file, one.fd, one.before)
        return one.failure or one.left

    def _written(self, file: LogFile, fd: int, facts: Facts, commit: Commit) -> Facts | None:
        """Write the record of a commit, without a sync. What was made for it is let go of when this returns, before the sync.

        :param facts: of the file without it.
        :returns: the facts of the file with it; `None` if the system does not tell.
        :raises OSError: if not all of it was written.
        """
        session, changes = commit.session, encode_changes(commit.changes)
        is_same = session._metadata is facts.metadata
        metadata = facts.encoded_metadata if is_same else encode_metadata(session._metadata)
        record = encode_record(changes, encode_state(session, metadata[1]))
        size = sum(map(len, record))
        file.appending()
        if self._files.write(fd, record) != size:
            raise OSError(errno.EIO, "only a part of it was written")
        try:
            written = signature(self._files.fstat(fd))
        except OSError:
            return None
        overhead = facts.overhead
        if overhead is not None:
            is_of_messages = _OF_MESSAGES.issuperset(map(type, commit.changes))
            overhead += size - len(changes) if is_of_messages else size
        fingerprint = next_fingerprint(record[-1], facts.fingerprint)
        return Facts(written, session.version, fingerprint, session._metadata, metadata, None, facts.skipped, overhead)

    def _cut_back(self, file: LogFile, fd: int, facts: Facts) -> None:
        """Cut off a failed append, durably, if possible."""
        try:
            self._files.truncate(fd, facts.signature[2])
            self._files.sync(fd)  # of bytes that were synced before
        except OSError:
            return
        file.cut_back()

    def _opened(self, file: LogFile, base: Version) -> int | None:
        """Open the file to append to it. It must be the file that was last read or written, at a version.

        :returns: a descriptor; `None` if the file has a second name.
        """
        try:
            for _ in range(_ATTEMPTS):
                fd, is_right = self._files.open_append(file.name), False
                try:
                    status, facts = self._files.fstat(fd), file.facts
                    if facts is not None and facts.signature == signature(status) and facts.version == base:
                        if status.st_nlink > 1:
                            file.link_found()
                            return None
                        if facts.torn is not None:
                            self._cut_torn(file, fd, facts, facts.torn)
                        is_right = True
                        return fd
                finally:
                    if not is_right:
                        self._close(fd)
                self._reader.current(file, (base,))
        except OSError as error:
            if error.errno in NOT_A_FILE:
                self._reader.current(file, (base,))  # tells what is there instead
            raise SaveFailedError(file.key, f"{error.strerror}") from error
        raise ConflictError(file.key, base, base, "another program keeps writing the file")

    def _cut_torn(self, file: LogFile, fd: int, facts: Facts, torn: int) -> None:
        """Cut off a torn record, durably. It goes to quarantine first.

        :raises OSError: the durable session has not changed.
        """
        self._reader.keep_torn(file, torn)
        file.cutting()
        self._files.truncate(fd, torn)
        self._files.sync(fd)
        file.cut(msgspec.structs.replace(facts, signature=signature(self._files.fstat(fd)), torn=None))

    def _close(self, fd: int) -> None:
        """Close a descriptor. An error tells nothing new: the bytes were synced before, or the save has failed."""
        try:  # noqa: SIM105 - it runs after the sync of every save
            self._files.close(fd)
        except OSError:
            pass

    def _close_each(self, left: Iterator[int]) -> None:
        try:
            for fd in left:
                self._close(fd)
        finally:
            for fd in left:  # after an interrupt
                self._close(fd)
