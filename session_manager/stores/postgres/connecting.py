"""Connections to a server: opened when they are needed, kept for the next call, looked at before they are used again."""

from __future__ import annotations

import contextlib
import os
import re
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from session_manager.arguments import check_type
from session_manager.errors import ClosedError, ForkedError, InvalidStorageError, StorageError, raise_alone
from session_manager.resource import Resource
from session_manager.stores.postgres.failures import connecting_error, storage_error
from session_manager.stores.postgres.handle import Handle, Statement

__all__ = ["Connect", "Connection", "Connections", "Limits", "Pool", "connecting_to", "place_of", "split_schema"]

Connection = psycopg.Connection[tuple[Any, ...]]
#: Opens a connection.
Connect = Callable[[], Connection]

#: After some 30 s without a sign of life from the server's machine a connection ends: with bytes that it has not acknowledged,
#: and while an answer is awaited. Linux would wait for some 15 minutes, and two hours.
_NETWORK = {"tcp_user_timeout": 30_000, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
#: The server's settings of the same for its own end, which is left as it is by 0. Without them it waits for two hours for a machine that
#: has vanished, and keeps the locks of its transaction. For its timeouts are off while it reads a request, and behind a pipeline: that ends with
#: a Flush, which ends the wait that ``idle_in_transaction_session_timeout`` bounds.
_AT_SERVER = {
    "tcp_user_timeout": "tcp_user_timeout",
    "keepalives_idle": "tcp_keepalives_idle",
    "keepalives_interval": "tcp_keepalives_interval",
    "keepalives_count": "tcp_keepalives_count",
}
#: A statement ends after them; so does a transaction whose client stands still behind a request, and its locks.
_TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout")
#: So many idle connections are kept.
_IDLE = 8
#: A connection that is open, and in no transaction.
_READY = TransactionStatus.IDLE
#: What a store must know of a server. A pooler has another id for its process than the server.
_LOOK = """
    SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only'),
        current_setting('synchronous_commit'), current_setting('fsync'), pg_backend_pid()
"""
#: Through a pooler nothing is set, since another program may have the connection next.
_SET_IF_DIRECT = f"{_LOOK}, CASE WHEN %s OR pg_backend_pid() = %s THEN {{settings}} END"
_SET, _SHORTEN = (
    f"set_config('{{name}}', {value}, false)"
    for value in ("%s", "least(nullif(current_setting('{name}'), '0')::int, %s)::text")
)
#: The oldest server with `sha256` and generated identities.
_OLDEST = 11
#: The oldest server with this bound for its end of a connection.
_WITH_USER_TIMEOUT = 120000


class Pool(Protocol):
    """What a store needs of a pool, such as `psycopg_pool.ConnectionPool`."""

    def connection(self) -> AbstractContextManager[Connection]:
        """Lend a connection for as long as the block runs."""
        ...


@attrs.frozen
class Limits:
    """How a store uses connections."""

    #: How many seconds to wait for a connection.
    connect_timeout: float
    #: How many seconds a statement may run on the server, and a transaction wait for the next one; `None`: as the server has it.
    statement_timeout: float | None
    #: Whether the connections go through a pooler in transaction mode; `None`: if the server's process is not the one that answers.
    pooled: bool | None
    #: Whether a server that may lose acknowledged commits is refused.
    durable: bool
    #: Whether nothing is written.
    read_only: bool


def split_schema(url: str) -> tuple[str, str | None]:
    """Return a URL without its parameter ``schema``, which libpq does not know, and the schema; `None` if it names none.

    >>> split_schema("postgresql://db.internal/chats?sslmode=require&schema=bot")
    ('postgresql://db.internal/chats?sslmode=require', 'bot')
    """
    start, _, query = url.rpartition("?")
    if not start.startswith(("postgresql://", "postgres://")) or "@" in query:  # a password, which has a ? in it
        return url, None
    parts = query.split("&")
    named = [part for part in parts if part.startswith("schema=")]
    rest = "&".join(part for part in parts if part not in named)
    return (f"{start}?{rest}" if rest else start), named[-1].partition("=")[2] if named else None


def place_of(url: str) -> str:
    """Return a URL, or another connection string of libpq, as errors show it: without a user, a password and options.

    :raises InvalidStorageError: if it is none; it shows nothing of it.
    """
    try:
        told = conninfo_to_dict(url)
    except psycopg.Error:  # whose sentence quotes a part of it
        raise_alone(
            InvalidStorageError(
                "postgresql:",
                "is no connection string: give postgresql://USER@HOST:PORT/DATABASE, behind ? parameters of libpq alone, and in a password write % as %25",
            )
        )
    host, port, database = (str(told.get(name) or "") for name in ("host", "port", "dbname"))
    if any(name != name.strip() for name in (host, port, database)):
        raise InvalidStorageError("postgresql:", "has a space or a line break at its end")
    if "@" in host or not re.fullmatch(r"[0-9,]*", port):  # parts of a password that was not quoted
        raise InvalidStorageError(
            "postgresql:", "has no plain host and port: in a password, write @ as %40, : as %3A and / as %2F"
        )
    return f"postgresql://{host}{':' if port else ''}{port}/{database}"


def connecting_to(url: str, limits: Limits) -> Connect:
    """Return a function that opens a connection to a URL."""
    told = conninfo_to_dict(url)
    # A database without an encoding would have its connections without one.
    defaults: dict[str, str | int] = {
        **_NETWORK,
        "client_encoding": "UTF8",
        "connect_timeout": max(2, round(limits.connect_timeout)),
    }
    conninfo = make_conninfo(url, **{name: value for name, value in defaults.items() if name not in told})
    return lambda: psycopg.connect(conninfo, autocommit=True)


class Connections(Resource):
    """The connections of a store, which any thread may `use`.

    :param path: the place, for errors.
    :param connect: opens a connection.
    :param pool: lends connections instead; it stays open when the store is closed.
    """

    def __init__(self, path: str, schema: str, limits: Limits, connect: Connect | None, pool: Pool | None) -> None:
        self.path = path
        self.is_closed = False
        #: That the server may lose acknowledged commits, and why; ``""`` if it does not.
        self.risk = ""
        self._schema = schema
        self._limits = limits
        self._connect = connect
        self._pool = pool
        #: Whether another program may have a connection after each transaction, so that no statement is prepared, and nothing is set.
        self._is_pooled = limits.pooled is True
        self._pid = os.getpid()
        self._idle: deque[Handle] = deque()
        self._checked: weakref.WeakSet[Connection] = weakref.WeakSet()

    def check(self) -> None:
        """Raise if no call may be made.

        :raises ForkedError: in a child process, which must not use the parent's connections.
        :raises ClosedError: after `close`.
        """
        if os.getpid() != self._pid:
            raise ForkedError
        if self.is_closed:
            raise ClosedError

    def use(self) -> AbstractContextManager[Handle]:
        """Lend a connection to this thread for a block, which leaves no transaction open.

        :raises ClosedError, ForkedError: as `check` does.
        :raises StorageError: if there is no connection. Nothing was sent then.
        """
        self.check()
        return _Lent(self) if self._pool is None else self._settled(self._pool)

    @contextmanager
    def _settled(self, pool: Pool) -> Iterator[Handle]:
        with self._of_pool(pool) as connection:
            if connection not in self._checked:
                self._settle(connection)
                self._checked.add(connection)
            yield self._handle(connection)

    def _handle(self, connection: Connection) -> Handle:
        return Handle(connection, self._schema, not self._is_pooled)

    @contextmanager
    def _of_pool(self, pool: Pool) -> Iterator[Connection]:
        with contextlib.ExitStack() as stack:
            try:
                lent = pool.connection()
                found: object = stack.enter_context(lent) if hasattr(lent, "__enter__") else lent
            except Exception as error:  # noqa: BLE001 - psycopg_pool's are of psycopg.Error; another pool has its own
                raise connecting_error(self.path, error) from error
            connection = _checked(found, "pool must lend")  # a pool for asyncio does not
            before = connection.autocommit
            connection.autocommit = True
            try:
                yield connection
            finally:
                _clean(connection)
                if not connection.closed:
                    connection.autocommit = before

    def _taken(self) -> Handle | None:
        """Return an idle connection; `None` if there is none that is alive."""
        while self._idle:
            try:
                handle = self._idle.pop()
            except IndexError:
                return None
            if handle.connection.pgconn.transaction_status == _READY and not handle.is_readable:
                return handle
            handle.connection.close()
        return None

    def _opened(self) -> Handle:
        assert self._connect is not None
        try:
            found: object = self._connect()
        except Exception as error:  # noqa: BLE001 - a caller's function may fail in a way of its own
            raise connecting_error(self.path, error) from error
        connection = _checked(found, "connect must return")
        is_settled = False
        try:
            connection.autocommit = True
            self._settle(connection)
            is_settled = True
        finally:
            if not is_settled:
                connection.close()
        return self._handle(connection)

    def _give_back(self, handle: Handle) -> None:
        connection = handle.connection
        if connection.pgconn.transaction_status != _READY:
            _clean(connection)
        if self.is_closed or connection.pgconn.transaction_status != _READY or len(self._idle) >= _IDLE:
            connection.close()
        else:
            self._idle.append(handle)

    def _settle(self, connection: Connection) -> None:
        """Look at the server's settings, and set a new connection's own.

        :raises StorageError: if the server is too old, may lose commits, or takes no writes.
        """
        limits = self._limits
        is_ours = self._pool is None and not limits.pooled
        statement = _settling(connection, limits) if is_ours else (_LOOK, ())
        try:
            row = Handle(connection, self._schema, prepared=False).run(*statement).fetchone()
        except psycopg.Error as error:
            raise storage_error(self.path, error) from error
        assert row is not None
        version, is_standby, takes_no_writes, synchronous, fsync, process = row[:6]
        if isinstance(version, bytes):
            raise StorageError(
                self.path, "needs connections with client_encoding=UTF8: with SQL_ASCII a text has no meaning"
            )
        if int(str(version).partition(".")[0].partition("rc")[0].partition("beta")[0]) < _OLDEST:
            raise StorageError(self.path, f"is PostgreSQL {version}: {_OLDEST} is the oldest that works")
        if is_standby and not limits.read_only:
            raise StorageError(
                self.path, "is a standby, which takes no writes and may be behind: connect to the primary"
            )
        if takes_no_writes == "on" and not limits.read_only:
            raise StorageError(
                self.path, "takes no writes: default_transaction_read_only is on; read_only=True accepts that"
            )
        if "off" in (synchronous, fsync):
            self.risk = f"may lose saved sessions: synchronous_commit={synchronous}, fsync={fsync}"
            if limits.durable and not limits.read_only:
                raise StorageError(self.path, f"{self.risk}; durable=False accepts that")
        if limits.pooled is None and process != connection.info.backend_pid:
            self._is_pooled = True
        if self._is_pooled:
            connection.prepare_threshold = None

    def close(self) -> None:
        """Close all connections; those in use when they are given back. Idempotent.

        :raises ForkedError: in a child process.
        """
        if os.getpid() != self._pid:
            raise ForkedError
        self.is_closed = True
        while self._idle:
            self._idle.pop().connection.close()


class _Lent:
    """The block of a connection of one's own. `contextmanager` would cost as much as what is bound of a turn."""

    __slots__ = ("_connections", "_handle")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> Handle:
        self._handle = self._connections._taken() or self._connections._opened()
        return self._handle

    def __exit__(self, *_: object) -> None:
        self._connections._give_back(self._handle)


def _checked(connection: object, what: str) -> Connection:
    """Return a caller's connection.

    :raises TypeError: if it is not one of psycopg 3 that waits for its answers.
    """
    check_type(connection, (psycopg.Connection,), f"{what} a psycopg.Connection")
    assert isinstance(connection, psycopg.Connection)
    return connection


def _settling(connection: Connection, limits: Limits) -> Statement:
    """Return the statement that looks at a server, and makes the settings of a new connection.

    A loser waits for the row of a session, and looks at it again: at other levels of isolation, which a database may have as its default, it
    fails. The server gives a client up as the client gives the server up, or earlier, if it has a shorter bound.
    """
    told: dict[str, str | int] = {**_NETWORK, **connection.info.get_parameters()}
    settings: dict[str, str | int] = {"default_transaction_isolation": "read committed"}
    if limits.statement_timeout is not None:
        settings |= dict.fromkeys(_TIMEOUTS, f"{round(limits.statement_timeout * 1000)}")
    bounds = {name: int(told[of_client]) for of_client, name in _AT_SERVER.items()}
    if connection.info.server_version < _WITH_USER_TIMEOUT:
        del bounds["tcp_user_timeout"]
    settings |= {name: bound for name, bound in bounds.items() if bound > 0}
    parts = [(_SHORTEN if name in bounds else _SET).format(name=name) for name in settings]
    values = (limits.pooled is False, connection.info.backend_pid, *settings.values())
    return _SET_IF_DIRECT.format(settings=" || ".join(parts)), values


def _clean(connection: Connection) -> None:
    """Leave no transaction open; close a connection that cannot be left so."""
    if connection.closed or connection.pgconn.transaction_status == _READY:
        return
    try:
        if connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            connection.execute("ROLLBACK", prepare=False)
            return
    except psycopg.Error:
        pass
    connection.close()
