"""Commits on their way to the server: what an error means for each, and many of them in one transaction.

**Unknown** is the outcome if the connection ends while the answer to a commit is awaited. `settle` then finds out, and stops a request that
is still under way. An error that the server itself sends means that nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import psycopg

from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    LeaseLostError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    StorageError,
    UnsupportedFormatError,
    raise_alone,
)
from session_manager.model.session import Session, agree
from session_manager.resource import Resource
from session_manager.stores.commits import Commit
from session_manager.stores.postgres.commits import LOCK_KEY, Prepared, key_lock
from session_manager.stores.postgres.connecting import Connections
from session_manager.stores.postgres.failures import is_lost, is_retried, save_error
from session_manager.stores.postgres.handle import Handle
from session_manager.stores.postgres.leases import is_taken
from session_manager.stores.postgres.reads import load, read_checked_version
from session_manager.stores.rows.decoding import DamageError
from session_manager.stores.rows.plans import Plan

__all__ = ["Writing"]

T = TypeVar("T")

#: So often a transaction is tried that others undo.
_TRIES = 5
#: So many commits are written in one transaction, at most.
_MOST = 100


@attrs.define(eq=False)
class _Sent:
    """Whether a COMMIT may have reached the server."""

    commit: bool = False


class Writing(Resource):
    """Writes commits.

    :param connections: the connections that it uses.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def write(self, commit: Commit) -> None:
        """Make a commit durable, as `Store.write` says."""
        key = commit.session.key

        def work(handle: Handle, sent: _Sent) -> None:
            prepared = self._prepared(handle, commit)
            if not prepared.is_one_statement:
                self._change(handle, prepared, sent)
                return
            sent.commit = commit.doubt.exists = True
            if not _run_whole(handle, [prepared])[0]:
                sent.commit = False
                raise self._refusal(handle, commit)

        self._retried(key, work)

    def _prepared(self, handle: Handle, commit: Commit) -> Prepared:
        """Return a commit, encoded; the server is asked for its base, if the caller does not have it."""
        plan = Plan.of(commit)
        before = commit.before
        if plan is None:
            before = self._base(handle, commit)
            plan = Plan.over(commit, before)
        return Prepared.of(plan, None if commit.base is None else before)

    def _base(self, handle: Handle, commit: Commit) -> Session:
        """Return the picture that a commit is based on.

        :raises ConflictError: if it is not there.
        :raises DamageError: if it is damaged.
        """
        before = load(handle, commit.session.key)
        if before is None or not agree(before.version, commit.base):
            raise ConflictError(commit.session.key, commit.base, None if before is None else before.version)
        return before

    def _change(self, handle: Handle, prepared: Prepared, sent: _Sent) -> None:
        """Write a commit of which rows go."""
        handle.run("BEGIN", prepare=False)
        is_there = prepared.run(handle)
        if not is_there:
            handle.run("ROLLBACK", prepare=False)
            raise self._refusal(handle, prepared.commit)
        sent.commit = prepared.commit.doubt.exists = True
        handle.run("COMMIT", prepare=False)

    def _refusal(self, handle: Handle, commit: Commit) -> Exception:
        """Return why the server did not take a commit.

        :raises DamageError: if the session is damaged.
        """
        key = commit.session.key
        if commit.fence is not None and is_taken(handle, key, commit.fence):
            return LeaseLostError(key)
        actual = read_checked_version(handle, key)
        reason = "the storage holds something else at this version" if actual == commit.base else ""
        if actual is not None and agree(actual, commit.base):
            reason = "it was said not to have landed"
        return ConflictError(key, commit.base, actual, reason)

    def write_together(self, commits: Sequence[Commit]) -> None:
        """Make commits of different sessions durable, all or none, as `Store.write_together` says.

        The rows are locked in the order of the keys, as `write_many` does.
        """
        ordered = sorted(commits, key=lambda one: one.session.key.encode())

        def work(handle: Handle, sent: _Sent) -> None:
            prepared = [self._prepared(handle, commit) for commit in ordered]
            handle.run("BEGIN", prepare=False)
            for number in sorted(key_lock(handle.schema, one.key) for one in prepared if one.commit.base is None):
                handle.run(LOCK_KEY, (number,))
            for one in prepared:
                is_there = (
                    handle.run(*one.statement()).fetchone() is not None if one.is_one_statement else one.run(handle)
                )
                if not is_there:
                    handle.run("ROLLBACK", prepare=False)
                    raise self._refusal(handle, one.commit)
            for commit in ordered:
                commit.doubt.exists = True
            sent.commit = True
            handle.run("COMMIT", prepare=False)

        if ordered:
            self._retried(ordered[0].session.key, work)

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        """Make commits of different sessions durable, as `Store.write_many` says.

        Those that are one statement each are written together. If that fails, each is written alone.
        """
        errors: list[Exception | None] = [None] * len(commits)
        together: list[tuple[int, Prepared]] = []
        alone: list[int] = []
        for number, commit in enumerate(commits):
            plan = Plan.of(commit)
            prepared = None if plan is None else Prepared.of(plan, None if commit.base is None else commit.before)
            if prepared is not None and prepared.is_one_statement:
                together.append((number, prepared))
            else:
                alone.append(number)
        together.sort(key=lambda one: one[1].key.encode())
        for first in range(0, len(together), _MOST):
            alone += self._write_together(together[first : first + _MOST], errors)
        for number in alone:
            errors[number] = self._attempt(commits[number])
        return errors

    def _write_together(self, batch: Sequence[tuple[int, Prepared]], errors: list[Exception | None]) -> list[int]:
        """Write commits in one transaction; return the numbers of those that are to be written alone."""

        def work(handle: Handle, sent: _Sent) -> list[bool]:
            for _, prepared in batch:
                prepared.commit.doubt.exists = True
            sent.commit = True
            return _run_whole(handle, [prepared for _, prepared in batch])

        try:
            landed = self._retried("", work)
        except SaveOutcomeUnknownError as error:
            for number, prepared in batch:
                errors[number] = SaveOutcomeUnknownError(prepared.key, error.reason)
                errors[number].__cause__ = error.__cause__  # type: ignore[union-attr]
            return []
        except SessionManagerError:
            return [number for number, _ in batch]
        # The one that was refused is written alone: it is refused again, and says why.
        return [number for (number, _), is_there in zip(batch, landed, strict=True) if not is_there]

    def _attempt(self, commit: Commit) -> Exception | None:
        try:
            self.write(commit)
        except SessionManagerError as error:
            return error
        return None

    def alone(self, key: str, function: Callable[[Handle], T]) -> T:
        """Call a function in a transaction of its own.

        :param key: the session that it is about, for errors.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: if the answer to its commit was lost.
        """

        def work(handle: Handle, sent: _Sent) -> T:
            handle.run("BEGIN", prepare=False)
            result = function(handle)
            sent.commit = True
            handle.run("COMMIT", prepare=False)
            return result

        return self._retried(key, work)

    def _retried(self, key: str, work: Callable[[Handle, _Sent], T]) -> T:
        """Call a function that writes, again if another transaction undoes it; raise the contract's errors."""
        tries = _TRIES
        while True:
            tries -= 1
            sent = _Sent()
            try:
                with self._connections.use() as handle:
                    try:
                        return work(handle, sent)
                    except psycopg.Error as error:
                        is_unknown = sent.commit and is_lost(error, handle.connection)
                        if is_unknown or tries == 0 or not is_retried(error):
                            raise save_error(key, self._connections.path, error, is_unknown=is_unknown) from error
            except DamageError as error:
                raise_alone(CorruptSessionError(key, self._connections.path, None, str(error)))
            except (SaveError, CorruptSessionError, UnsupportedFormatError):
                raise
            except StorageError as error:
                raise SaveFailedError(key, error.reason) from error


def _run_whole(handle: Handle, batch: Sequence[Prepared]) -> list[bool]:
    """Write commits that are one statement each, in one transaction and one round trip; return which bases were there."""
    locks = sorted(key_lock(handle.schema, one.key) for one in batch if one.commit.base is None)
    statements = [one.statement() for one in batch]
    if not locks and len(statements) == 1:
        return [handle.row(*statements[0]) is not None]
    cursors = handle.together(*[(LOCK_KEY, (number,)) for number in locks], *statements)
    return [cursor.fetchone() is not None for cursor in cursors[len(locks) :]]
