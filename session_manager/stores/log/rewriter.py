"""Whole writes of a session, which replace its log by one line: for compaction, and for saves that cannot append."""

from __future__ import annotations

import logging
from collections.abc import Callable

from session_manager.errors import ConflictError, SaveError, SaveFailedError, SaveOutcomeUnknownError
from session_manager.model.session import Session, Version
from session_manager.resource import Resource
from session_manager.stores.contract import Commit
from session_manager.stores.files.atomic import OutcomeUnknownError, replace, signature
from session_manager.stores.files.session_directory import SessionDirectory
from session_manager.stores.log.file import Facts, LogFile
from session_manager.stores.log.format import Encoded, encode_first, encode_metadata
from session_manager.stores.log.reader import LogReader

__all__ = ["LogRewriter"]

_log = logging.getLogger("session_manager")


class LogRewriter(Resource):
    """Replaces the logs of a directory.

    :param directory: open for writing.
    :param reader: reads them again if another program has written to one.
    """

    def __init__(self, directory: SessionDirectory, reader: LogReader) -> None:
        self._directory = directory
        self._files = directory.files
        self._reader = reader

    # Saves

    def write(self, file: LogFile, commit: Commit, bases: tuple[Version | None, ...]) -> None:
        """Make a commit durable by writing its session whole.

        :param bases: the versions that the file may have; `None` stands for no file.
        :raises ConflictError: if it has another one; nothing has changed.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: the file is doubtful.
        """

        def check() -> None:
            facts = self.verified(file, bases)
            if facts is not None and facts.torn is not None:
                self._reader.keep_torn(file, facts.torn)

        self._write(file, commit, check)

    def recover(self, file: LogFile, commit: Commit, failure: OSError) -> None:
        """Make a commit durable after its append failed. The file is spent or suspect.

        :param failure: why.
        :raises SaveFailedError: if that fails as well, and the append is cut off; the old session is there.
        :raises SaveOutcomeUnknownError: the file is doubtful.
        """
        facts, is_cut_back = file.facts, file.status == "spent"

        def check() -> None:
            status = self._files.stat(file.name)
            if status is None or facts is None or signature(status)[:2] != facts.signature[:2]:
                raise ConflictError(file.key, commit.base, None, "another program replaced the file")

        again = None
        try:
            self._write(file, commit, check)
        except SaveFailedError as error:
            again = error
        if again is None:
            return
        reason = f"{failure.strerror}, and then {again.reason}"
        if is_cut_back:
            raise SaveFailedError(file.key, reason) from failure
        file.doubt(commit)
        raise SaveOutcomeUnknownError(file.key, reason) from failure

    def _write(self, file: LogFile, commit: Commit, check: Callable[[], None]) -> None:
        try:
            file.replaced(self._put(file, commit.session, check))
        except SaveOutcomeUnknownError:
            file.doubt(commit)
            raise

    def verified(self, file: LogFile, bases: tuple[Version | None, ...]) -> Facts | None:
        """Return the facts of a file at one of these versions; `None` if there is no file, and `None` is among them.

        :raises ConflictError: if it has another one, or another content.
        """
        status = self._files.stat(file.name)
        if status is None:
            if None not in bases:
                raise ConflictError(file.key, bases[0], None)
            return None
        facts = file.facts
        if facts is None or facts.version not in bases or facts.signature != signature(status):
            return self._reader.current(file, bases)
        return facts

    # Compaction

    def compact(self, file: LogFile, session: Session, found: Facts, encoded: Encoded | None = None) -> Facts:
        """Replace a log by its first line, if it has not changed since it was read; return its facts.

        They are noted only if this store wrote or loaded the content. So the next write still notices another program's file.

        :param session: the session that was read.
        :param encoded: its first line, if it was encoded before.
        :raises ConflictError: if it has changed since.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: the file is suspect.
        """
        before = file.facts

        def check() -> None:
            if not self._reader.is_still(file.name, found.signature):
                raise ConflictError(file.key, found.version, None, "another program wrote the file")
            if found.torn is not None:
                self._reader.keep_torn(file, found.torn)

        facts = self._put(file, session, check, encoded)
        file.replaced(facts if found.is_of(before) else before)
        return facts

    def put_salvaged(self, file: LogFile, session: Session, check: Callable[[], None]) -> None:
        """Replace a damaged log by the first line of what is left of it.

        :param check: called before the file is replaced; if it raises, the old file stays as it is.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: the file is suspect.
        """
        file.replaced(self._put(file, session, check))

    def reclaim(self, file: LogFile, session: Session) -> None:
        """Compact a log that looks wasteful, if more than half of it is dead. A failure is logged: the session is saved anyway."""
        facts = file.facts
        assert facts is not None
        encoded, size = encode_first(session, facts.encoded_metadata), facts.signature[2]
        if encoded.size * 2 >= size:
            file.measured(session, encoded.size)
            return
        try:
            self.compact(file, session, facts, encoded)
        except (SaveError, ConflictError) as error:
            file.patience = size * 2
            _log.warning("a log was not compacted: %s", error)

    # Both

    def _put(self, file: LogFile, session: Session, check: Callable[[], None], encoded: Encoded | None = None) -> Facts:
        """Replace a session's file by its first line; return its facts, which the caller notes.

        :param check: called before the file is replaced; if it raises, the old file stays as it is.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: it was replaced, but that may not survive a power cut.
        """
        metadata = encode_metadata(session._metadata)
        encoded = encoded or encode_first(session, metadata)
        before = None

        def checked() -> None:
            nonlocal before
            check()
            before = file.replacing()

        unknown: BaseException | None = None
        try:
            written = replace(self._files, file.name, encoded.buffers, checked)
        except OSError as error:
            if before is not None:
                file.undone(*before)
            raise SaveFailedError(file.key, f"{error.strerror}") from error
        except OutcomeUnknownError as error:
            unknown = error.__cause__
        self._directory.names.add(file.name)
        self._directory.undeleted.discard(file.key)
        if unknown is not None:
            raise SaveOutcomeUnknownError(file.key, f"{getattr(unknown, 'strerror', '')}") from unknown
        self._reader.rewritten(file)
        skipped = session.end - len(session.messages)
        return Facts(written, session.version, encoded.fingerprint, session._metadata, metadata, None, skipped, 0)
