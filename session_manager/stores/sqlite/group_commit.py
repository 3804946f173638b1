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
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs

from session_manager.errors import (
    CorruptSessionError,
    ReentrantCallError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    StorageError,
)
from session_manager.resource import Resource
from session_manager.stores.contract import Doubt
from session_manager.stores.sqlite.database import Database
from session_manager.threads import is_mine

__all__ = ["GroupCommit", "Request"]

T = TypeVar("T")

_PATIENCE = 0.05
#: When a batch has so many requests, those that come later are left for the next.
_MOST = 64


def _gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


@attrs.define(eq=False)
class Request(Resource):
    """Something to be done in a transaction.

    :param key: the session that it is about, for errors; `None`: none.
    :param work: does it, given the connection. Called again if the transaction is undone because of another request.
    :param has_landed: says whether it was done before; `None`: nobody can say.
    :param erases: whether the log must not keep what was there before, unless the work returns `False`.
    :param doubt: where it is noted that it may have landed, for who asks after an interrupt.
    """

    key: str | None
    work: Callable[[sqlite3.Connection], Any]
    has_landed: Callable[[sqlite3.Connection], bool] | None = None
    erases: bool = False
    doubt: Doubt = attrs.field(factory=Doubt)
    #: Whether its COMMIT was begun.
    doubtful: bool = False
    #: Whether the rest is final.
    done: bool = False
    #: What the work returned.
    result: Any = None
    #: Why it was not done.
    error: Exception | None = None
    _gate: threading.Lock = attrs.field(factory=_gate, init=False)

    def wait(self) -> None:
        """Wait until it is done, or it is time to lead, or the patience ends."""
        self._gate.acquire(timeout=_PATIENCE)

    def wake(self) -> None:
        """Let who waits for it look again."""
        if self._gate.locked():
            with contextlib.suppress(RuntimeError):
                self._gate.release()


class _UndoneError(Exception):
    """The transaction is to be undone. The cause is why."""


class GroupCommit(Resource):
    """Runs requests of any thread, many in one transaction.

    :param database: where. Nobody else uses its writer and its lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leader = threading.RLock()
        #: In line, in order.
        self._waiting: dict[Request, None] = {}
        #: A hint: whether somebody leads.
        self._leading = False

    def run(self, requests: list[Request]) -> None:
        """Do all of the requests, durably; the errors of those that were not done are in them.

        :raises ClosedError: if the database is closed.
        :raises ForkedError: in a child process.
        :raises ReentrantCallError: if this thread is leading already: a signal handler called.
        """
        self._check()
        if not requests:
            return
        try:
            for request in requests:
                self._waiting[request] = None
            if list(self._waiting)[:1] != requests[:1]:
                requests[0].wait()
            if not all(request.done for request in requests):
                with self._leader:
                    self._led(requests)
        finally:
            for request in requests:
                self._waiting.pop(request, None)
            self._wake_next()
            if not all(request.done or request.has_landed for request in requests):
                self._let_finish()

    def _let_finish(self) -> None:
        """Wait for whoever leads: who was interrupted may be in that batch, and could not ask later what became of it."""
        with self._leader:
            pass

    def _led(self, requests: Sequence[Request]) -> None:
        try:
            self._leading = True
            if not all(request.done for request in requests):
                self._lead()
        finally:
            self._leading = False

    def _wake_next(self) -> None:
        if not self._leading:
            for request in list(self._waiting):
                if not request.done:
                    request.wake()
                    return

    def alone(self, function: Callable[[], T]) -> T:
        """Call a function while nobody else writes, in this process or another.

        :raises StorageError: as `Database.locked` does; and as `run` does.
        """
        self._check()
        with self._leader:
            self._database.check()
            return self._database.locked(function)

    def close(self) -> None:
        """Close the database when nobody writes; idempotent.

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

    def _lead(self) -> None:
        self._database.check()
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
        """Return those in line that are not in a batch yet. While the others ran, more may have come."""
        there = set(batch)
        return [request for request in list(self._waiting) if not request.done and request not in there]

    def _transact(self, batch: list[Request], more: Callable[[list[Request]], Sequence[Request]]) -> Exception | None:
        """Run requests in one transaction; return what undid it: then none of them is done, and nothing has changed.

        :param batch: they are put here.
        :param more: gives those that are not in the batch yet.
        """
        try:
            self._database.locked(lambda: self._run(batch, more))
        except (sqlite3.Error, StorageError) as error:
            # It could not begin: nor could it for each of them.
            self._finish(batch or more(batch), error)
        except _UndoneError as error:
            cause = error.__cause__
            assert isinstance(cause, Exception)
            return cause
        return None

    def _run(self, batch: list[Request], more: Callable[[list[Request]], Sequence[Request]]) -> None:
        writer = self._database.writer
        self._database.check_place()
        writer.execute("BEGIN IMMEDIATE")
        changes = writer.total_changes
        while len(batch) < _MOST and (arrived := more(batch)):
            for request in arrived:
                batch.append(request)
                self._attempt(writer, request)
        if writer.total_changes != changes:
            self._mark()
        failure = self._commit(writer, batch)
        for request in batch:
            if failure is not None and request.error is None:
                request.error = SaveOutcomeUnknownError(request.key or "", str(failure))
                request.error.__cause__ = failure
            request.done = True
        for request in batch:
            self._waiting.pop(request, None)
            request.wake()
        if failure is None:
            erased = any(request.erases and request.error is None and request.result is not False for request in batch)
            self._database.checkpoint(truncate=erased)

    def _mark(self) -> None:
        try:
            self._database.mark()
        except sqlite3.Error as error:
            raise _UndoneError from error

    def _commit(self, writer: sqlite3.Connection, batch: list[Request]) -> sqlite3.Error | None:
        """Commit; return why that failed. After an interrupt nobody knows, unless there is still something to undo."""
        new = [request for request in batch if not request.doubtful]
        try:
            for request in new:
                request.doubtful = request.doubt.exists = request.error is None
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            return error
        except BaseException:
            if writer.in_transaction:
                for request in new:
                    request.doubtful = request.doubt.exists = False
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
        """Do what an interrupted COMMIT has perhaps done; that it has is no news to who waits for it."""
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
