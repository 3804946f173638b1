"""Group commit: the writes of many threads in one transaction, and one sync.

A thread that writes puts a request in line. The first thread takes the leader's lock and runs all requests in line, in one
transaction. Every other thread waits at a gate of its own. The leader opens the gate when the request is done, or when its
thread is the next leader. So the group needs no thread of its own. An interrupt may have ended the thread that was told to
lead. Therefore a thread waits for its gate for `_PATIENCE` seconds at most, and then takes the leader's lock itself.

**A failed request fails alone.** A request that is refused before it has changed anything (a conflict) is left out. A request
that fails later undoes the transaction; then each request gets a transaction of its own.

**Interrupts** (Ctrl-C) may arrive between any two bytecodes. A request stays in line until it is done, or until its thread
leaves. So an interrupted leader loses no request: the next leader runs it, unless it was committed. A thread that cannot know
whether its request was committed is told that the outcome is unknown. The requests of an interrupted thread run before all
later ones, so a later question about their outcome gets a final answer.
"""

from __future__ import annotations

import contextlib
import operator
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from session_manager.errors import (
    CorruptSessionError,
    ReentrantCallError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    StorageError,
)
from session_manager.frozen import Part
from session_manager.resource import Resource
from session_manager.stores.commits import Doubt
from session_manager.stores.sqlite.database import Database
from session_manager.stores.sqlite.schema import schema_version
from session_manager.threads import is_mine

__all__ = ["GroupCommit", "Request"]

T = TypeVar("T")

_PATIENCE = 0.05
#: A batch takes so many requests at most; later ones are left for the next batch.
_MOST = 64


def _closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


class Request(Resource, Part):
    """Something to be done in a transaction.

    :param key: the session that it is about, for errors; `None`: none.
    :param work: does it, given the connection. Called again if the transaction is undone because of another request.
    :param has_landed: says whether it was done before; `None` if that cannot be told.
    :param erases: whether the log must not keep the old text, unless the work returns `False`.
    :param doubts: set before the write may land, for questions after an interrupt.
    """

    key: str | None
    work: Callable[[sqlite3.Connection], Any]
    has_landed: Callable[[sqlite3.Connection], bool] | None = None
    erases: bool = False
    doubts: Sequence[Doubt] = ()
    #: Whether its COMMIT was begun.
    doubtful: bool = False
    #: Whether the other attributes are final.
    done: bool = False
    #: What the work returned.
    result: Any = None
    #: The error, if it was not done.
    error: Exception | None = None
    #: Where its thread waits; `None` if no other one was in line before it.
    gate: threading.Lock | None = None

    def set_doubtful(self, doubtful: bool) -> None:  # noqa: FBT001 - a setter
        """Note whether its COMMIT was begun."""
        self.doubtful = doubtful
        for doubt in self.doubts:
            doubt.exists = doubtful

    def wake(self) -> None:
        """Let the waiting thread look again."""
        if self.gate is not None:
            with contextlib.suppress(RuntimeError):  # it is open already
                self.gate.release()


class _UndoneError(Exception):
    """The transaction must be undone. The cause says why."""


_is_done: Callable[[Request], bool] = operator.attrgetter("done")


def _are_done(requests: Sequence[Request]) -> bool:
    return requests[0].done and all(map(_is_done, requests))


def _some_erased(requests: Sequence[Request]) -> bool:
    for request in requests:  # noqa: SIM110 - `any` takes three times as long
        if request.erases and request.error is None and request.result is not False:
            return True
    return False


class GroupCommit(Resource):
    """Runs requests of any thread, many in one transaction.

    :param database: the database. No other code uses its writer and its lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leader = threading.RLock()
        #: The requests in line, in order.
        self._waiting: dict[Request, None] = {}
        #: A hint: whether a thread leads.
        self._leading = False

    def run(self, requests: list[Request]) -> None:
        """Run all requests, durably. A request that was not done holds its error.

        :raises ClosedError: if the database is closed.
        :raises ForkedError: in a child process.
        :raises ReentrantCallError: if this thread is leading already: a signal handler called.
        """
        self._check()
        if not requests:
            return
        waiting = self._waiting
        gate = requests[0].gate = _closed_gate() if waiting else None
        try:
            for request in requests:
                waiting[request] = None
            # Without a gate, another thread came between, and this one asks for the lock at once.
            if gate is not None and list(waiting)[:1] != requests[:1]:
                gate.acquire(timeout=_PATIENCE)
            if not _are_done(requests):
                with self._leader:
                    self._lead(requests)
        finally:
            are_known = True
            for request in requests:
                waiting.pop(request, None)
                are_known = are_known and (request.done or request.has_landed is not None)
            if waiting:
                self._wake_next()
            if not are_known:
                self._let_finish()

    def _let_finish(self) -> None:
        """Wait for the leader. An interrupted request may be in its batch, and its outcome could not be told later."""
        with self._leader:
            pass

    def _wake_next(self) -> None:
        if not self._leading:
            for request in list(self._waiting):
                if not request.done:
                    request.wake()
                    return

    def alone(self, function: Callable[[], T]) -> T:
        """Call a function while no other thread or process writes.

        :raises StorageError: as `Database.locked` does; and as `run` does.
        """
        self._check()
        with self._leader:
            self._database.check()
            return self._database.locked(function)

    def close(self) -> None:
        """Close the database when no thread writes; idempotent.

        :raises ForkedError: in a child process.
        :raises ReentrantCallError: if this thread is leading.
        """
        self._database.check_process()
        if is_mine(self._leader):
            raise ReentrantCallError
        with self._leader:
            self._database.close()

    def _check(self) -> None:
        self._database.check()
        if is_mine(self._leader):
            raise ReentrantCallError

    def _lead(self, requests: Sequence[Request]) -> None:
        try:
            self._leading = True
            if not _are_done(requests):
                self._database.check()
                self._run_line()
        finally:
            self._leading = False

    def _run_line(self) -> None:
        """Run the requests in line, together or, if that fails, each by itself."""
        batch: list[Request] = []
        failure = self._transact(batch, self._arrived)
        if failure is None:
            return
        if len(batch) == 1:
            self._finish(batch, failure)
            return
        for request in batch:
            failure = self._transact([], partial(_only, request))
            if failure is not None:
                self._finish([request], failure)

    def _arrived(self, batch: list[Request]) -> Sequence[Request]:
        """Return the requests in line that are in no batch yet. More may have come while a batch ran."""
        waiting = list(self._waiting)
        if waiting == batch:
            return ()
        there = set(batch)
        return [request for request in waiting if not request.done and request not in there]

    def _transact(self, batch: list[Request], more: Callable[[list[Request]], Sequence[Request]]) -> Exception | None:
        """Run requests in one transaction; return the error that undid it: then no request is done, and nothing has changed.

        :param batch: the requests are put here.
        :param more: returns the requests that are not in the batch yet.
        """
        try:
            self._database.locked(self._run, batch, more)
        except (sqlite3.Error, StorageError) as error:
            # It could not begin, and would not for each request either.
            self._finish(batch or more(batch), error)
        except _UndoneError as error:
            cause = error.__cause__
            assert isinstance(cause, Exception)
            return cause
        return None

    def _run(self, batch: list[Request], more: Callable[[list[Request]], Sequence[Request]]) -> None:
        database = self._database
        writer = database.writer
        database.check_place()
        writer.execute("BEGIN IMMEDIATE")
        schema = schema_version(writer)
        changes = writer.total_changes
        while len(batch) < _MOST and (arrived := more(batch)):
            for request in arrived:
                batch.append(request)
                self._attempt(writer, request)
        if writer.total_changes != changes:
            try:
                database.mark(writer, schema)
            except sqlite3.Error as error:
                raise _UndoneError from error
        # Looked at here: what follows the sync runs with cold caches.
        truncate = _some_erased(batch)
        due = truncate or writer.total_changes >= database.checkpoint_due
        failure = self._commit(writer, batch)
        for request in batch:
            if failure is not None and request.error is None:
                request.error = SaveOutcomeUnknownError(request.key or "", str(failure))
                request.error.__cause__ = failure
            request.done = True
        for request in batch:
            self._waiting.pop(request, None)
            if request.gate is not None:
                request.wake()
        if due and failure is None:
            database.checkpoint(truncate=truncate)

    def _commit(self, writer: sqlite3.Connection, batch: list[Request]) -> sqlite3.Error | None:
        """Commit; return the error, if that failed. After an interrupt the outcome is unknown, unless the transaction is still open."""
        new = [request for request in batch if not request.doubtful]
        try:
            for request in new:
                request.set_doubtful(request.error is None)
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            return error
        except BaseException:
            if writer.in_transaction:
                for request in new:
                    request.set_doubtful(False)
            raise
        return None

    def _attempt(self, writer: sqlite3.Connection, request: Request) -> None:
        changes = writer.total_changes
        request.result = request.error = None
        try:
            request.result = self._settled(writer, request) if request.doubtful else request.work(writer)
        except sqlite3.Error as error:
            raise _UndoneError from error
        except Exception as error:
            if writer.total_changes != changes:
                raise _UndoneError from error
            request.error = error
        if not writer.in_transaction:
            raise _UndoneError from sqlite3.OperationalError("the transaction was undone")

    def _settled(self, writer: sqlite3.Connection, request: Request) -> Any:
        """Run a request that an interrupted COMMIT may have committed already, unless it has landed."""
        if request.has_landed is None:
            raise SaveOutcomeUnknownError(request.key or "", "the commit was interrupted")
        return None if request.has_landed(writer) else request.work(writer)

    def _finish(self, batch: Sequence[Request], failure: Exception) -> None:
        for request in batch:
            if not request.done:
                request.error = self._error(request, failure)
                request.done = True

    def _error(self, request: Request, failure: Exception) -> Exception:
        key = request.key or ""
        error: SessionManagerError
        match failure:
            case sqlite3.IntegrityError():
                error = CorruptSessionError(key, self._database.path, None, "has rows that its state does not tell of")
            case sqlite3.Error():
                error = SaveFailedError(key, str(failure))
            case StorageError(reason=str(reason)) if not isinstance(failure, CorruptSessionError):
                error = SaveFailedError(key, reason)
            case _:
                return failure
        error.__cause__ = failure
        return error


def _only(request: Request, batch: list[Request]) -> Sequence[Request]:
    return [] if batch else [request]
