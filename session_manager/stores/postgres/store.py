"""A PostgreSQL schema: every message a row, every save a transaction that processes on several machines may make.

`session_manager.stores.postgres.schema` describes the tables.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

import attrs
import psycopg

from session_manager.arguments import check_bool, check_callable, check_seconds, check_type
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    InvalidStorageError,
    ReadOnlyError,
    StorageError,
    raise_alone,
)
from session_manager.history.search import SearchHit, best
from session_manager.model.fence import Fence
from session_manager.model.ids import random_id
from session_manager.model.message import Message
from session_manager.model.session import Session, Version, agree
from session_manager.stores.contract import Commit, Finding, SessionInfo, Store
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.erasure import Erasure
from session_manager.stores.order import Order
from session_manager.stores.postgres.commits import Prepared
from session_manager.stores.postgres.connecting import (
    Connect,
    Connections,
    Limits,
    Pool,
    connecting_to,
    place_of,
    split_schema,
)
from session_manager.stores.postgres.failures import is_lost, storage_error
from session_manager.stores.postgres.handle import Handle
from session_manager.stores.postgres.leases import forget_leases, release, renew, take
from session_manager.stores.postgres.listing import page_of, sizes, total_bytes
from session_manager.stores.postgres.reads import (
    damages,
    keys,
    load,
    load_archive,
    load_newer,
    load_window,
    read_info,
    read_version,
    server_time,
    strays,
    texts_of,
)
from session_manager.stores.postgres.removals import erase, locked_row, move, quarantine, settle, vacuum
from session_manager.stores.postgres.salvage import (
    edited,
    purge_quarantined,
    quarantined,
    read_quarantined,
    salvage_rows,
)
from session_manager.stores.postgres.schema import create_index, open_schema
from session_manager.stores.postgres.search import candidates, read_missing
from session_manager.stores.postgres.writing import Writing
from session_manager.stores.rows.decoding import DamageError
from session_manager.stores.rows.plans import Plan
from session_manager.stores.salvaged import Salvaged

__all__ = ["PostgresStore"]

_log = logging.getLogger("session_manager")

T = TypeVar("T")

_SCHEMA, _PLAIN = re.compile(r"[a-z_][a-z0-9_]{0,62}"), "1 to 63 of a to z, 0 to 9 and _, without a digit at its start"
#: So many connections of a row are tried for a call that only reads: one that has died unnoticed costs no error.
_TRIES = 2
_LONGEST = 2_000_000.0


class PostgresStore(Store):
    """Sessions in a schema of a PostgreSQL database, which processes on any number of machines may use.

    **Durability.** A write returns when the server has acknowledged its commit. How much that is worth is the server's setting:
    with ``synchronous_commit=on`` and ``fsync=on``, which are the defaults, it survives a crash and a power cut of the server.
    A server with one of them off is refused, unless `durable` is false. A standby that takes over may be behind, unless the
    server waits for it (``synchronous_standby_names``).

    **Concurrency.** Every method may be called from any thread; each call that runs has a connection of its own. Eight idle
    connections are kept.

    **Errors** name the server and the database, and never a password. The user is named where the server itself does it.

    :param url: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, or any other connection string of libpq, with all of its
        parameters, such as ``sslmode`` and ``target_session_attrs``. It says where the store is, also if `connect` or `pool` is
        given. A URL may name the schema: ``?schema=bot``. ``tcp_user_timeout``, in milliseconds, and ``keepalives_idle``,
        ``keepalives_interval`` and ``keepalives_count`` bound how long either end waits for a machine that has vanished, 30
        seconds by default. The server then gives up the locks of its transaction.
    :param schema: the schema of the tables: lower-case letters, digits and ``_``. Created, if it is missing, and brought up to
        date, if it is older. `None`: that of the URL, or ``session_manager``.
    :param read_only: only read it; it must exist. Calls that would write raise `ReadOnlyError`.
    :param exclusive: no other process writes to it. Sessions in RAM are then not compared with the server at each read.
        Writes are still refused over a version that they are not based on.
    :param search: keep an index for `search`, which searches fill. Without it each search reads all messages.
    :param durable: refuse a server that may lose acknowledged commits.
    :param pooled: whether the connections go through a pooler in transaction mode, such as pgbouncer. Then no statement is prepared, and no
        setting is made: ``docs/scaling.md`` says which ones to set for the role and in the pooler. `None`: so it is done if a pooler is
        noticed. `False`: the pooler, if there is one, gives each client a connection of its own.
    :param connect_timeout: how many seconds to wait for a connection, unless the URL says so. libpq waits for 2 at least.
    :param statement_timeout: how many seconds a statement may run on the server, and an open transaction wait for its client's next
        request, unless several were sent together; `None`: as the server has it. `compact`, `sizes`, `strays` and what changes tables may run longer: they wait so long for a lock.
    :param connect: opens connections instead: returns one of `psycopg.connect`.
    :param pool: lends connections instead, such as a `psycopg_pool.ConnectionPool`, which stays open when the store is closed.
        Timeouts are those that you have given it.
    :raises TypeError: if an argument is of another type; like every error, before anything is created.
    :raises ValueError: if a number of seconds, or the name of the schema, is out of range, or the URL names another schema.
    :raises InvalidStorageError: if `url` is no connection string, or the schema holds tables of something else.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if the server cannot be reached, or may lose commits.
    """

    archives = True
    windowed = True
    together = True
    ordered = True
    compacts_all = True

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        read_only: bool = False,
        exclusive: bool = False,
        search: bool = True,
        durable: bool = True,
        pooled: bool | None = None,
        connect_timeout: float = 10.0,
        statement_timeout: float | None = 30.0,
        connect: Connect | None = None,
        pool: Pool | None = None,
    ) -> None:
        check_type(url, (str,), "url must be a str")
        url, named = split_schema(url)
        if named is not None and not _SCHEMA.fullmatch(named):
            raise InvalidStorageError("postgresql:", f"needs a schema of {_PLAIN}")
        schema = schema if schema is not None else named or "session_manager"
        check_type(schema, (str,), "schema must be a str")
        if not _SCHEMA.fullmatch(schema):
            raise ValueError(f"schema must be {_PLAIN}")
        if named not in (None, schema):
            raise ValueError(f"the URL names the schema {named}, and schema= another one")
        for value, name in ((read_only, "read_only"), (exclusive, "exclusive"), (search, "search")):
            check_bool(value, name)
        check_bool(durable, "durable")
        if pooled is not None:
            check_bool(pooled, "pooled")
        check_seconds(connect_timeout, "connect_timeout", most=_LONGEST)
        if statement_timeout is not None:
            check_seconds(statement_timeout, "statement_timeout", most=_LONGEST)
        _check_lenders(connect, pool)
        #: The server, the database and the schema, as errors name them.
        self.server = f"{place_of(url)}, schema {schema}"
        self.read_only = read_only
        limits = Limits(connect_timeout, statement_timeout, pooled, durable, read_only)
        opener = connect or connecting_to(url, limits)
        self._connections = Connections(self.server, schema, limits, opener, pool)
        self._writing = Writing(self._connections)
        self.shared = not exclusive
        self.leases = not (exclusive or read_only)
        self.indexed = search
        self._count_quarantined = 0
        is_open = False
        try:
            self._call(partial(open_schema, path=self.server, read_only=read_only))
            if search and not read_only:
                self._call(create_index)
            self._recount()
            is_open = True
        finally:
            if not is_open:
                self._connections.close()

    # Reading

    def load(self, key: str) -> Session | None:
        return self._read(key, load)

    def newer(self, known: Session) -> Session | None:
        return self._read(known.key, partial(load_newer, known=known))

    def archive(self, key: str) -> Iterator[Message]:
        return iter(self._read(key, load_archive))

    def window(
        self, key: str, *, limit: int | None = None, before: int | None = None, after: int | None = None
    ) -> list[Message] | None:
        return self._read(key, partial(load_window, limit=limit, before=before, after=after))

    def describe(self, key: str) -> SessionInfo | None:
        return self._read(key, read_info)

    def version(self, key: str) -> Version | None:
        return self._read(key, read_version)

    def now(self) -> datetime:
        return self._call(server_time)

    def infos(
        self,
        prefix: str = "",
        *,
        after: SessionInfo | None = None,
        limit: int | None = None,
        order: Order = "recent",
    ) -> list[SessionInfo]:
        return self._call(partial(page_of, path=self.server, prefix=prefix, after=after, limit=limit, order=order))

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._connections.check()
        return self._keys(prefix.encode("utf-8", "surrogatepass"))

    def _keys(self, prefix: bytes) -> Iterator[str]:
        chunk = self._call(partial(keys, prefix=prefix, after=b""))
        while chunk:
            yield from texts_of(chunk)
            chunk = self._call(partial(keys, prefix=prefix, after=chunk[-1]))

    def _read(self, key: str, function: Callable[[Handle, str], T]) -> T:
        """Call a function that reads a session; raise the contract's errors."""
        try:
            return self._call(lambda handle: function(handle, key))
        except DamageError as error:
            raise_alone(CorruptSessionError(key, self.server, None, str(error)))

    def _call(self, function: Callable[[Handle], T]) -> T:
        """Call a function that reads, or whose repetition does no harm.

        :raises StorageError: instead of the driver's errors.
        """
        tries = _TRIES
        while True:
            tries -= 1
            with self._connections.use() as handle:
                try:
                    return function(handle)
                except psycopg.Error as error:
                    if tries == 0 or not is_lost(error, handle.connection):
                        raise storage_error(self.server, error) from error

    # Writing

    def write(self, commit: Commit) -> None:
        self._check_writable()
        self._writing.write(commit)

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        self._check_writable()
        return self._writing.write_many(commits)

    def write_together(self, commits: Sequence[Commit]) -> None:
        self._check_writable()
        self._writing.write_together(commits)

    def landed(self, commit: Commit) -> bool | None:
        self._check_writable()
        return self._writing.alone(commit.session.key, partial(settle, commit=commit))

    def take_lease(self, key: str, owner: str, seconds: float) -> Fence | None:
        self._check_writable()
        return self._call(partial(take, key=key, owner=owner, seconds=seconds))

    def renew_leases(self, held: Mapping[str, Fence], seconds: float) -> None:
        self._check_writable()
        self._call(partial(renew, held=held, seconds=seconds))

    def release_lease(self, key: str, fence: Fence) -> None:
        self._check_writable()
        self._call(partial(release, key=key, fence=fence))

    def delete(self, key: str, expected: Version | None = None) -> bool:
        self._check_writable()
        reasons: list[str] = []

        def delete(handle: Handle) -> bool:
            version = locked_row(handle, key)
            if version is None:
                return False
            if expected is not None and not agree(version, expected):
                return False
            reasons[:] = damages(handle, key)
            if reasons and expected is not None:
                raise DamageError(reasons[0])
            if reasons:
                quarantine(handle, key)
            erase(handle, key)
            return True

        is_deleted = self._writing.alone(key, delete)
        if reasons:
            self._recount()
        return is_deleted

    def rename(self, key: str, new_key: str, expected: Version) -> None:
        self._check_writable()
        self._writing.alone(key, partial(move, key=key, new_key=new_key, expected=expected))

    def _check_writable(self) -> None:
        self._connections.check()
        if self.read_only:
            raise ReadOnlyError

    def compact(self, key: str) -> None:  # noqa: ARG002 - the space is that of all sessions
        self._check_writable()
        self._call(forget_leases)
        self._vacuum()

    def _vacuum(self) -> list[str]:
        """Give back the room of rows that are gone; return the tables of which another role must do it."""
        left = self._call(vacuum)
        if left:
            _log.warning("%s: %s could not be vacuumed: another role owns them", self.server, ", ".join(left))
        return left

    # Searching

    def search(
        self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20, skip: Collection[str] = ()
    ) -> list[SearchHit]:
        if key is not None or not self.indexed:
            return super().search(text, key=key, prefix=prefix, limit=limit, skip=skip)

        def find(handle: Handle) -> list[SearchHit]:
            with handle.reading():
                return best(text, candidates(handle, text, prefix, skip), limit)

        while not self.read_only and self._call(_catch_up):
            pass
        return self._call(find)

    # Sizes

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._call(partial(sizes, prefix=prefix))

    def total_bytes(self) -> int:
        return self._call(total_bytes)

    # Salvage

    def salvage(self, key: str) -> Salvaged | None:
        def find(handle: Handle) -> Salvaged | None:
            with handle.reading():
                return salvage_rows(handle, self.server, key)

        return self._call(find)

    def put_salvaged(self, salvaged: Salvaged) -> list[str]:
        session = salvaged.session

        def found(handle: Handle) -> Salvaged:
            there = salvage_rows(handle, self.server, session.key)
            if there is None or not there.agrees(salvaged):
                raise ConflictError(session.key, session.version, None, "it has changed since")
            return salvaged

        return self._put(session.key, found)

    def accept_edits(self, key: str) -> list[str]:
        return self._put(key, partial(edited, key=key))

    def _put(self, key: str, found: Callable[[Handle], Salvaged]) -> list[str]:
        """Move the rows of a session to quarantine, and write it anew, in one transaction."""
        self._check_writable()

        def work(handle: Handle) -> list[str]:
            locked_row(handle, key)
            there = found(handle)
            archived = tuple((one.position or 0, one) for _, one in there.archive)
            plan = Plan.of(Commit(there.session, (), None, archived=archived, token=random_id()))
            assert plan is not None
            name = quarantine(handle, key)
            erase(handle, key)
            handle.run(*Prepared.of(plan, None).statement())
            return [] if name is None else [name]

        names = self._writing.alone(key, work)
        self._recount()
        return names

    def erase(self, keys: Sequence[str], tell: Callable[[str], object] = str) -> Erasure:
        done = super().erase(keys, tell)
        left = self._vacuum()
        if not left:
            return done
        reason = f"deleted rows stay in the server's files until the role that owns {', '.join(left)} vacuums them"
        return attrs.evolve(done, waits=(*done.waits, reason))

    # Quarantine

    def quarantined(self) -> list[Quarantined]:
        return self._call(quarantined)

    def read_quarantined(self, name: str) -> bytes | None:
        return self._call(partial(read_quarantined, name=name))

    def purge_quarantined(self, name: str) -> bool:
        self._check_writable()
        is_purged = self._call(partial(purge_quarantined, name=name))
        self._recount()
        return is_purged

    def count_quarantined(self) -> int:
        """Return how many damaged sessions are in quarantine, from RAM: as this store has seen it when it last used it."""
        self._connections.check()
        return self._count_quarantined

    def _recount(self) -> None:
        try:
            self._count_quarantined = len(self.quarantined())
        except StorageError as error:
            _log.warning("the quarantine cannot be read: %s", error)

    # Checking

    def verify(self, key: str) -> list[Finding]:
        try:
            reasons = self._call(partial(damages, key=key))
        except StorageError as error:
            reasons = [error.reason]
        return [Finding(key, self.server, None, reason) for reason in reasons]

    def strays(self) -> list[Finding]:
        return [Finding(None, self.server, None, reason) for reason in self._call(strays)]

    def close(self) -> None:
        self._connections.close()

    def __repr__(self) -> str:
        risk = self._connections.risk
        return f"<PostgresStore {self.server!r}{f', which {risk}' if risk else ''}>"


def _check_lenders(connect: object, pool: object) -> None:
    if connect is not None:
        check_callable(connect, "connect")
    if pool is not None:
        check_callable(getattr(pool, "connection", None), "pool.connection")


def _catch_up(handle: Handle) -> bool:
    with handle.transaction():
        return read_missing(handle)
