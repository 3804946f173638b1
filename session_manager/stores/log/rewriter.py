"""Whole writes of a session, which replace its log by one line: for compaction, and for saves that cannot append."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import attrs

from session_manager.errors import (
    ConflictError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
)
from session_manager.model.session import Session, Version
from session_manager.resource import Resource
from session_manager.stores.contract import Commit
from session_manager.stores.files.atomic import (
    AT_ONCE,
    OutcomeUnknownError,
    Replacement,
    Signature,
    replace,
    replace_many,
    signature,
)
from session_manager.stores.files.session_directory import SessionDirectory
from session_manager.stores.log.file import Facts, LogFile, Status
from session_manager.stores.log.format import Encoded, encode_first, encode_metadata
from session_manager.stores.log.reader import LogReader

__all__ = ["LogRewriter"]

_log = logging.getLogger("session_manager")


@attrs.define(eq=False, repr=False)
class _Whole:
    """The first line of a session, which takes the place of its file."""

    file: LogFile
    session: Session
    check: Callable[[], None]
    metadata: tuple[bytes, bytes]
    encoded: Encoded
    #: What the file was, once it is about to be replaced.
    before: tuple[Status, Facts | None] | None = None

    def checked(self) -> None:
        """Check the file, and note that it is about to be replaced."""
        self.check()
        self.before = self.file.replacing()


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
        self._write(file, commit, lambda: self._check(file, bases))

    def _check(self, file: LogFile, bases: tuple[Version | None, ...]) -> None:
        """Raise unless a file may be replaced. A torn record goes to quarantine first."""
        facts = self.verified(file, bases)
        if facts is not None and facts.torn is not None:
            self._reader.keep_torn(file, facts.torn)

    def write_many(self, wanted: Sequence[tuple[LogFile, Commit]]) -> list[Exception | None]:
        """Write sessions whole, each as `write` does, at once (`session_manager.stores.files.atomic.replace_many`).

        :returns: the error of each, or `None`.
        """
        errors: list[Exception | None] = []
        begun: list[_Whole] = []
        size = 0
        for file, commit in wanted:
            one = self._begun(file, commit.session, partial(self._check, file, (commit.base,)))
            begun.append(one)
            size += one.encoded.size
            if size > AT_ONCE:
                errors += self._replaced(begun)
                begun, size = [], 0
        errors += self._replaced(begun)
        for (file, commit), error in zip(wanted, errors, strict=True):
            if isinstance(error, SaveOutcomeUnknownError):
                file.doubt(commit)
        return errors

    def _replaced(self, begun: Sequence[_Whole]) -> Iterator[Exception | None]:
        """Replace files at once; give the error of each, or `None`."""
        wanted = [Replacement(one.file.name, one.encoded.buffers, one.checked) for one in begun]
        for one, outcome in zip(begun, replace_many(self._files, wanted), strict=True):
            failure: Exception | None = None
            try:
                one.file.replaced(self._ended(one, outcome))
            except SessionManagerError as error:
                failure = error
            yield failure

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
        one = self._begun(file, session, check, encoded)
        outcome: Signature | Exception
        try:
            outcome = replace(self._files, file.name, one.encoded.buffers, one.checked)
        except (OSError, OutcomeUnknownError) as error:
            outcome = error
        return self._ended(one, outcome)

    def _begun(
        self, file: LogFile, session: Session, check: Callable[[], None], encoded: Encoded | None = None
    ) -> _Whole:
        metadata = encode_metadata(session._metadata)
        return _Whole(file, session, check, metadata, encoded or encode_first(session, metadata))

    def _ended(self, one: _Whole, outcome: Signature | Exception) -> Facts:
        """Note the outcome of the replacement of a file, and return its facts; raise as `_put` does."""
        file, session = one.file, one.session
        if isinstance(outcome, Exception) and not isinstance(outcome, OutcomeUnknownError):
            if one.before is not None:
                file.undone(*one.before)
            if isinstance(outcome, OSError):
                raise SaveFailedError(file.key, f"{outcome.strerror}") from outcome
            raise outcome
        self._directory.names.add(file.name)
        self._directory.undeleted.discard(file.key)
        if isinstance(outcome, Exception):
            reason = getattr(outcome.__cause__, "strerror", "")
            raise SaveOutcomeUnknownError(file.key, f"{reason}") from outcome.__cause__
        self._reader.rewritten(file)
        skipped = session.end - len(session.messages)
        return Facts(
            outcome, session.version, one.encoded.fingerprint, session._metadata, one.metadata, None, skipped, 0
        )
