"""An open database: its connections, its forks, and the lock between processes that every writer holds.

**Connections.** One writes. Others, in a pool, read, and never wait for it (WAL). The file is created 0600 before SQLite opens
it, so that SQLite's files beside it are 0600 as well. No code opens the file in any other way: closing a second descriptor
would drop the locks that SQLite holds for this process.

**The lock.** A thread that writes, checkpoints, opens or closes holds ``<path>.lock``. SQLite before 3.51.3 can damage a database
when connections of several processes race at a checkpoint. All checkpoints are made under the lock.

**Forks.** All connections are closed when the process forks, and opened again after it: see `session_manager.stores.sqlite.forks`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import attrs

from session_manager.errors import (
    ClosedError,
    ForkedError,
    InvalidStorageError,
    SaveFailedError,
    SessionManagerError,
    StorageError,
    raise_alone,
)
from session_manager.resource import Resource
from session_manager.stores.files.filesystem import create_directory
from session_manager.stores.files.kinds import BACKUP_OBJECTION, MANIFEST
from session_manager.stores.files.process_lock import ProcessLock
from session_manager.stores.sqlite.checkpoints import Checkpoints
from session_manager.stores.sqlite.connecting import Connect, Opener, Place
from session_manager.stores.sqlite.forks import Held, hold, is_inherited, leave_for_ever, watch
from session_manager.stores.sqlite.schema import is_marked, is_readable, mark
from session_manager.threads import is_mine

__all__ = ["Database"]

_log = logging.getLogger("session_manager")

P = ParamSpec("P")
T = TypeVar("T")

_IDLE_READERS = 8
_DAMAGED_SCHEMA = "the schema is damaged"
_IN_USE = "was in use by another thread when this process was forked: open it in a process that is spawned"


@attrs.define(eq=False)
class _Reader(Resource):
    """A connection that reads, and its lock. A thread that uses, opens or closes the connection holds the lock."""

    connection: sqlite3.Connection | None = None
    lock: threading.RLock = attrs.field(factory=threading.RLock)

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class Database(Resource):
    """An open database of sessions.

    Any thread may `read`. One thread at a time, chosen by the caller, may use `locked` and `writer`.

    :param path: the file; created if it is missing, unless `read_only`.
    :param busy_timeout: how many seconds to wait for another process, at most.
    :param connect: opens a connection; for tests, which break it.
    :raises InvalidStorageError: if it is a database of something else, or no database; it is left as it is.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it cannot be opened.
    """

    def __init__(self, path: str, *, read_only: bool, busy_timeout: float, connect: Connect = sqlite3.connect) -> None:
        self.path = path
        self.read_only = read_only
        self.is_closed = False
        #: Whether the table ``search`` can be used.
        self.has_index = False
        #: Whether commits are marked. Marks tell whether a log belongs to the database.
        self._is_marked = False
        self._busy_timeout = busy_timeout
        self._opener = Opener(path, read_only, busy_timeout, connect)
        self._pid = os.getpid()
        self._idle: deque[_Reader] = deque()
        #: All of them, those in use included.
        self._readers: list[_Reader] = []
        #: Each call passes through it at its beginning. A fork holds it, and waits only for calls that have begun.
        self._gate = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._lock: ProcessLock | None = None
        #: Whether a call was running when the process forked.
        self._is_inherited = False
        #: Held while `locked` runs: the process does not fork then.
        self._at_work = threading.RLock()
        self._checkpoints = Checkpoints(path, busy_timeout)
        self._place: Place | None = None
        watch(self, self._at_work)
        try:
            self._open()
        except OSError as error:
            raise StorageError(path, f"cannot be opened: {error.strerror}") from error
        except sqlite3.Error as error:
            raise self.error(error) from error
        except UnicodeDecodeError:
            raise_alone(self._damaged_schema())
        finally:
            self._at_work.release()
            if not self._is_opened:
                self.close()

    # Opening

    @property
    def _is_opened(self) -> bool:
        return self._writer is not None or any(reader.connection is not None for reader in list(self._idle))

    def _open(self) -> None:
        if is_inherited(self._opener.place()):
            raise StorageError(self.path, _IN_USE)
        if self.read_only:
            self._place = self._opener.place()
            self._opener.identify()
            reader = self._add_reader()
            reader.connection = self._opener.reader(self._place)
            self._idle.append(reader)
            self.has_index = is_readable(reader.connection)
            return
        parent = os.path.dirname(self.path)
        if not os.path.isdir(parent):
            create_directory(parent)
        if os.path.exists(os.path.join(parent, MANIFEST)):
            raise InvalidStorageError(self.path, BACKUP_OBJECTION)
        place = self._opener.place()
        if place is not None:
            self._opener.identify()
        self._lock = ProcessLock(f"{self.path}.lock")
        self._writer = self.locked(self._opener.writer, place)
        self._place = self._opener.place()
        self.has_index = is_readable(self._writer)
        self._is_marked = is_marked(self._writer)
        if self._checkpoints.is_log_long():
            self.locked(self.checkpoint, truncate=True)

    # Using

    def check(self) -> None:
        """Raise if no call may be made.

        :raises ForkedError: in a child process.
        :raises ClosedError: after `close`.
        """
        if os.getpid() != self._pid:
            raise ForkedError
        if self.is_closed:
            raise ClosedError

    def check_process(self) -> None:
        """Raise `ForkedError` in a child process, where another thread's lock would never be released."""
        if os.getpid() != self._pid:
            raise ForkedError

    @property
    def writer(self) -> sqlite3.Connection:
        """The connection that writes; used under `locked`."""
        if self._writer is None:
            self._reopen()
        assert self._writer is not None
        return self._writer

    def mark(self, writer: sqlite3.Connection, schema: int) -> None:
        """Mark the transaction of the writer as the newest commit, if the database can be marked.

        :param schema: `schema_version` as the transaction has found it.
        :raises sqlite3.Error: if the mark cannot be written.
        """
        if self._is_marked:
            mark(writer, schema)

    def _reopen(self) -> None:
        """Open the connection that writes again, after a fork. The lock is held.

        :raises StorageError: if the database is not in its place.
        :raises sqlite3.Error: if it cannot be opened.
        """
        if self.is_closed:
            raise ClosedError
        self.check_place()
        self._writer = self._opener.writer(self._place)
        self._checkpoints.begin_with_another_writer()

    def check_place(self) -> None:
        """Raise unless the open file still has the path: otherwise no other program would find the saved sessions.

        :raises SaveFailedError: if the file was moved, removed or replaced.
        """
        try:
            status = os.lstat(self.path)  # as `Opener.place`, without its call: each save looks here
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._place:
            raise SaveFailedError(None, f"{self.path} was moved, removed or replaced while it was open")

    def read(self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function with a connection that reads. It may begin a transaction, and need not end it.

        :raises StorageError: instead of the driver's errors.
        """
        self.check()
        self._go_in()
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = self._add_reader()
        try:
            with reader.lock:
                try:
                    if reader.connection is None:
                        reader.connection = self._opener.reader(self._place)
                    return function(reader.connection, *args, **kwargs)
                finally:
                    self._give_back(reader)
        except sqlite3.Error as error:
            raise self.error(error) from error
        except UnicodeDecodeError:
            raise_alone(self._damaged_schema())

    def _go_in(self) -> None:
        """Wait while a fork closes the connections. Calls that the fork waits for go on."""
        if not is_mine(self._at_work):
            with self._gate:
                pass

    def _add_reader(self) -> _Reader:
        reader = _Reader()
        with self._gate:
            self._readers.append(reader)
        return reader

    def _damaged_schema(self) -> StorageError:
        """Return the error for a sentence of SQLite's that cannot be decoded: it quotes a damaged schema."""
        return StorageError(self.path, _DAMAGED_SCHEMA)

    def _give_back(self, reader: _Reader) -> None:
        """Put a reader back into the pool. Requires its lock."""
        with contextlib.suppress(sqlite3.Error):
            if reader.connection is not None and reader.connection.in_transaction:
                reader.connection.execute("ROLLBACK")
        if self.is_closed or len(self._idle) >= _IDLE_READERS:
            reader.close()
            self._readers.remove(reader)
        else:
            self._idle.append(reader)

    def locked(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function while no other process writes. A transaction that it leaves open is undone.

        :raises SaveFailedError: if another process held the lock for too long.
        :raises StorageError: if the file system cannot lock.
        """
        self._go_in()
        with self._at_work:
            try:
                try:
                    assert self._lock is not None
                    if not self._lock.acquire(self._busy_timeout):
                        raise SaveFailedError(None, "the database is busy in another process")
                    return function(*args, **kwargs)
                finally:
                    self._let_go()
            finally:
                # Once more, since an interrupt may have cut the first one short.
                self._let_go()

    def _let_go(self) -> None:
        try:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        finally:
            if self._lock is not None:
                self._lock.release()

    def error(self, error: sqlite3.Error) -> SessionManagerError:
        """Return the library's error for one of the driver's. The driver's sentences hold no text of a message."""
        if self.is_closed:
            return ClosedError()
        return StorageError(
            self.path, str(error) or _DAMAGED_SCHEMA
        )  # Python 3.10 drops a sentence that cannot be decoded

    @property
    def checkpoint_due(self) -> int:
        """From how many changes of the writer on `checkpoint` may do something."""
        return self._checkpoints.due

    def checkpoint(self, *, truncate: bool = False) -> bool:
        """Move a long log into the database, and say whether it is empty now: see `Checkpoints.make`. Requires the lock."""
        return self._checkpoints.make(self.writer, truncate=truncate)

    # Closing

    def close(self) -> None:
        """Close every connection; idempotent. Requires the lock: closing the last connection of all processes makes a checkpoint.

        After an interrupt, call it again: the lock exists for as long as a connection does.

        :raises ForkedError: in a child process.
        """
        self.check_process()
        self.is_closed = True
        with self._at_work:
            self._close()

    def _close(self) -> None:
        lock = self._lock
        try:
            if lock is not None and self._is_opened and not lock.acquire(self._busy_timeout):
                _log.warning("%s is closed while it is busy in another process", self.path)
            self._close_connections()
        finally:
            if lock is not None and self._is_opened:
                lock.release()
            elif lock is not None:
                lock.close()

    def _close_connections(self) -> None:
        while self._idle:
            reader = self._idle.pop()
            with reader.lock:
                reader.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    # Forks

    def pause(self, end: float, held: Held) -> bool:
        """Let no call begin, and wait for the writer; say whether none is writing.

        :param end: until when (`time.monotonic`) others are waited for.
        :param held: undone in the parent after the fork.
        """
        return hold(self._gate, end, held) and hold(self._at_work, end, held)

    def before_fork(self, end: float, held: Held, *, idle: bool) -> None:
        """Close every connection that is idle, or becomes idle in time.

        :param end: until when (`time.monotonic`) others are waited for.
        :param held: undone in the parent after the fork, which opens the writer.
        :param idle: the result of `pause`.
        """
        idle = idle and self._locked_until(end, held)
        if idle and self._writer is not None:
            writer, self._writer = self._writer, None
            held.callback(self._after_fork)
            writer.close()
        for reader in list(self._readers):
            if hold(reader.lock, end, held):
                reader.close()
            else:
                idle = False
        self._is_inherited = not idle

    def _locked_until(self, end: float, held: Held) -> bool:
        """Take the lock between processes, under which the last connection is closed."""
        if self._lock is None or self.is_closed:
            return True
        with contextlib.suppress(StorageError):
            return held.hold_file(self._lock, end)
        return False

    def _after_fork(self) -> None:
        """Open the writer again. If that fails, the next write tries once more, and raises the error."""
        with contextlib.suppress(sqlite3.Error, SessionManagerError, OSError):
            self._reopen()

    def after_in_child(self) -> None:
        """In a forked child, neither use nor close the connections that the fork found in use."""
        left = [self._writer, *(reader.connection for reader in self._readers)]
        leave_for_ever(left, (self._place or self._opener.place()) if self._is_inherited else None)
        self._writer = None
        self._idle, self._readers = deque(), []
