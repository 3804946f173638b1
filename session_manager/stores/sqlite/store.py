"""A SQLite database: every message a row, every save a transaction that several processes may make.

A save costs the same at message 10 and at message 10,000. Any number of processes may have it open. Any standard tool
reads it; `session_manager.stores.sqlite.schema` describes the tables.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from session_manager.arguments import check_bool, check_callable, check_path, check_seconds
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    ReadOnlyError,
    SaveFailedError,
    StorageError,
    raise_alone,
)
from session_manager.history.search import SearchHit
from session_manager.model.fence import Fence
from session_manager.model.ids import random_id
from session_manager.model.message import Message
from session_manager.model.session import Session, Version, agree
from session_manager.stores.contract import Commit, Finding, SessionInfo, Store
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.erasure import Erasure
from session_manager.stores.files.filesystem import real_path
from session_manager.stores.order import Order
from session_manager.stores.rows.decoding import DamageError
from session_manager.stores.rows.encoding import TOKEN_BYTES, encode_state_row, token_digest
from session_manager.stores.rows.plans import Plan
from session_manager.stores.sqlite.connecting import Connect
from session_manager.stores.sqlite.database import Database
from session_manager.stores.sqlite.erasing import Erasures
from session_manager.stores.sqlite.group_commit import GroupCommit, Request
from session_manager.stores.sqlite.leases import check_lease, forget_leases, is_leased, release, renew, take
from session_manager.stores.sqlite.listing import page_by_key, put_in_place, recent_page, sizes
from session_manager.stores.sqlite.page_copy import Counts, copy_pages
from session_manager.stores.sqlite.quarantine import purge as purge_quarantined
from session_manager.stores.sqlite.quarantine import quarantined
from session_manager.stores.sqlite.quarantine import read as read_quarantined
from session_manager.stores.sqlite.rows import (
    all_keys,
    damages,
    keys,
    last_id,
    load,
    load_archive,
    load_newer,
    load_window,
    read_info,
    read_tokens,
    read_version,
)
from session_manager.stores.sqlite.schema import schema_version
from session_manager.stores.sqlite.search_index import missing, search
from session_manager.stores.sqlite.writes import erase, load_base, move, purge, quarantine, write_plan

if TYPE_CHECKING:
    from session_manager.stores.salvaged import Salvaged

__all__ = ["SQLiteStore"]

_log = logging.getLogger("session_manager")

T = TypeVar("T")

#: SQLite counts it in milliseconds, of 31 bits.
_LONGEST_TIMEOUT = 2_000_000.0
#: Of so many sessions at most it is known up to where they were read.
_MARKS = 4096
#: So often sessions are put in order for one page, 500 at a time, before they are all read.
_ROUNDS = 10_000


class SQLiteStore(Store):
    """Sessions in a SQLite database, which any number of processes may have open.

    **Durability.** A write returns when its transaction is synced (WAL, ``synchronous=FULL``). Writes of several threads
    share a transaction. **Concurrency.** Every method may be called from any thread. Reads never wait.

    :param path: the database; created, 0600, if it is missing, and brought up to date if it is older. Links are followed once.
    :param read_only: only read it, beside its writers; it must exist. Calls that would write raise `ReadOnlyError`.
    :param exclusive: no other process writes to it. Sessions in RAM are then not compared with the database at each read.
        Writes are still refused over a version that they are not based on.
    :param busy_timeout: how many seconds to wait for another process that writes, at most: from 0 to 2,000,000.
    :param connect: opens connections as `sqlite3.connect` does; for tests, which break them.
    :raises TypeError: if an argument is of another type; like every error, before anything is opened.
    :raises ValueError: if `busy_timeout` is out of range.
    :raises InvalidStorageError: if the file is something else, or has a second name (a hard link), and is left as it is; or if no
        file system can hold the path.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageError: if it cannot be opened or created.
    """

    archives = True
    windowed = True
    together = True
    ordered = True
    compacts_all = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        exclusive: bool = False,
        busy_timeout: float = 30.0,
        connect: Connect = sqlite3.connect,
    ) -> None:
        place = check_path(path, "path")
        check_bool(read_only, "read_only")
        check_bool(exclusive, "exclusive")
        check_seconds(busy_timeout, "busy_timeout", most=_LONGEST_TIMEOUT)
        check_callable(connect, "connect")
        self.path = real_path(place)
        self._connect = connect
        self._database = Database(self.path, read_only=read_only, busy_timeout=busy_timeout, connect=connect)
        self._group = GroupCommit(self._database)
        #: How many things are in quarantine, as far as this process knows; `None`: to be counted.
        self._count_quarantined: int | None = None
        #: The tokens of writes that were said not to have landed: none of them may land any more.
        self._voided: set[str] = set()
        #: The version of a session that was loaded, and up to which row messages had been written then, by its key.
        self._marks: dict[str, tuple[Version, int]] = {}
        self.shared = not exclusive
        self.leases = not (exclusive or read_only)
        self.indexed = self._database.has_index
        self._erasures = Erasures(self._database, self._group)

    # Reading

    def archive(self, key: str) -> Iterator[Message]:
        return iter(self._read(key, load_archive))

    def load(self, key: str) -> Session | None:
        return self._marking(key, load)

    def newer(self, known: Session) -> Session | None:
        if agree(self.version(known.key), known.version):
            return known
        version, mark = self._marks.get(known.key, (None, 0))
        is_usable = (
            version is not None and version.generation == known.generation and version.revision <= known.revision
        )
        return self._marking(known.key, partial(load_newer, known=known, mark=mark if is_usable else None))

    def _marking(self, key: str, function: Callable[[sqlite3.Connection, str], Session | None]) -> Session | None:
        """Call a function that reads a session, and note up to where the rows of messages were read."""

        def read(connection: sqlite3.Connection, key: str) -> tuple[Session | None, int]:
            return function(connection, key), last_id(connection)

        session, mark = self._read(key, read)
        if session is not None and session.version is not None:
            if len(self._marks) >= _MARKS:
                self._marks.clear()
            self._marks[key] = session.version, mark
        return session

    def release(self, key: str) -> None:
        self._marks.pop(key, None)

    def window(
        self, key: str, *, limit: int | None = None, before: int | None = None, after: int | None = None
    ) -> list[Message] | None:
        return self._read(key, partial(load_window, limit=limit, before=before, after=after))

    def describe(self, key: str) -> SessionInfo | None:
        return self._read(key, read_info)

    def infos(
        self,
        prefix: str = "",
        *,
        after: SessionInfo | None = None,
        limit: int | None = None,
        order: Order = "recent",
    ) -> list[SessionInfo]:
        if order == "key":
            return self._database.read(_in_transaction(page_by_key), self.path, prefix, after, limit)
        for _ in range(_ROUNDS):
            found, misplaced = self._database.read(_in_transaction(recent_page), self.path, prefix, after, limit)
            if not misplaced:
                return found
            if not self._put_in_place(misplaced):
                break
        return super().infos(prefix, after=after, limit=limit, order=order)

    def _put_in_place(self, misplaced: Sequence[int]) -> bool:
        """Put rows in their places in lists; say whether that could be written."""
        if self._database.read_only:
            return False
        request = Request(None, partial(put_in_place, numbers=misplaced), has_landed=lambda _: False)
        self._group.run([request])
        if request.error is not None:
            _log.warning("sessions could not be put in order: %s", request.error)
        return request.error is None

    def version(self, key: str) -> Version | None:
        return self._undamaged(key, lambda: self._database.read(read_version, key))

    def _read(self, key: str, function: Callable[[sqlite3.Connection, str], T]) -> T:
        """Call a function that reads a session, in a transaction; raise the contract's errors."""

        def read(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN")
            return self._undamaged(key, lambda: function(connection, key))

        try:
            return self._database.read(read)
        except StorageError as error:
            if type(error.__cause__) is not sqlite3.DatabaseError:
                raise
            raise CorruptSessionError(key, self.path, None, error.reason) from error.__cause__

    def _undamaged(self, key: str, function: Callable[[], T]) -> T:
        try:
            return function()
        except DamageError as error:
            raise_alone(CorruptSessionError(key, self.path, None, str(error)))

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._database.check()
        return self._keys(prefix.encode("utf-8", "surrogatepass"))

    def _keys(self, prefix: bytes) -> Iterator[str]:
        """Iterate, a chunk in each transaction: one that stays open would keep the log from being reused."""
        chunk = self._database.read(keys, prefix, b"")
        while chunk:
            for key in chunk:
                text = _text(key)
                if text is not None:
                    yield text
            chunk = self._database.read(keys, prefix, chunk[-1])

    def copy_to(self, path: str, progress: Callable[[int, int], object] | None = None) -> Counts:
        """Copy the database as it is at one moment into an empty file, which is not durable then.

        :param path: the file.
        :param progress: called with how many pages are done, and how many there are.
        :raises StorageError: if it cannot be read, or the copy cannot be written.
        """
        return self._database.read(partial(copy_pages, path=path, progress=progress, connect=self._connect))

    # Writing

    def write(self, commit: Commit) -> None:
        self._run(self._writing(commit))

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        self._check_writable()
        requests = [self._writing(commit) for commit in commits]
        self._group.run(requests)
        return [request.error for request in requests]

    def write_together(self, commits: Sequence[Commit]) -> None:
        self._check_writable()
        requests = [self._writing(commit) for commit in commits]
        if not requests:
            return

        def work(connection: sqlite3.Connection) -> None:
            for request in requests:
                request.work(connection)

        erases = any(request.erases for request in requests)
        doubts = tuple(commit.doubt for commit in commits)
        self._run(Request(requests[0].key, work, requests[0].has_landed, erases, doubts))

    def _writing(self, commit: Commit) -> Request:
        """Return the request that writes a commit, encoded as far as possible."""
        self._check_writable()
        key, planned, state = commit.session.key, Plan.of(commit), encode_state_row(commit.session)
        clears = planned is None or planned.clears
        has_landed = partial(_has_landed, key=key, digest=commit.session._token) if commit.token else None

        def work(connection: sqlite3.Connection) -> None:
            if commit.token in self._voided:
                raise ConflictError(key, commit.base, read_version(connection, key), "it was said not to have landed")
            if commit.fence is not None:
                check_lease(connection, commit)
            try:
                plan = planned or Plan.over(commit, load_base(connection, commit))
                write_plan(plan, state, connection, indexed=self.indexed)
            except DamageError as error:
                raise_alone(CorruptSessionError(key, self.path, None, str(error)))
            if commit.fence is not None:
                release(connection, key, commit.fence)

        return Request(key, work, has_landed, clears, (commit.doubt,))

    def landed(self, commit: Commit) -> bool | None:
        key, digest = commit.session.key, token_digest(commit.token)
        self._check_writable()

        def read(connection: sqlite3.Connection) -> bool | None:
            tokens, version = self._undamaged(
                key, lambda: (read_tokens(connection, key), read_version(connection, key))
            )
            if digest in _each(tokens):
                return True
            landed = commit.unknown_token(len(tokens) // TOKEN_BYTES, version) if commit.doubt.exists else False
            if landed is False and commit.token:
                self._voided.add(commit.token)
            return landed

        look = Request(key, read)
        look.has_landed = lambda _: False
        landed: bool | None = self._run(look)
        return landed

    def take_lease(self, key: str, owner: str, seconds: float) -> Fence | None:
        self._check_writable()
        if self._database.read(is_leased, key, owner):  # to be asked again and again, and no writer waits for it
            return None
        fence: Fence | None = self._leasing(partial(take, key=key, owner=owner, seconds=seconds))
        return fence

    def renew_leases(self, held: Mapping[str, Fence], seconds: float) -> None:
        self._check_writable()
        self._leasing(partial(renew, held=held, seconds=seconds))

    def release_lease(self, key: str, fence: Fence) -> None:
        self._check_writable()
        self._leasing(partial(release, key=key, fence=fence))

    def _leasing(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something about leases in a transaction. Doing it twice does no harm.

        :raises StorageError: if it failed, or that is unknown.
        """
        result: T = self._run(Request(None, work, has_landed=lambda _: False))
        return result

    def delete(self, key: str, expected: Version | None = None) -> bool:
        self._check_writable()

        def delete(connection: sqlite3.Connection) -> bool:
            session, damage = None, None
            try:
                session = load(connection, key)
            except DamageError as error:
                damage = str(error)
            if session is None and damage is None:
                return False
            if expected is not None:
                if damage is not None:
                    raise CorruptSessionError(key, self.path, None, damage)
                if session is None or not agree(session.version, expected):
                    return False
            if damage is not None:
                quarantine(connection, key)
                self._count_quarantined = None
            erase(connection, key, indexed=self.indexed)
            return True

        return bool(self._run(Request(key, delete, erases=True)))

    def rename(self, key: str, new_key: str, expected: Version) -> None:
        self._check_writable()

        def work(connection: sqlite3.Connection) -> None:
            self._undamaged(key, lambda: move(connection, key, new_key, expected))

        def is_moved(connection: sqlite3.Connection) -> bool:
            there, left = (self._undamaged(one, partial(read_version, connection, one)) for one in (new_key, key))
            return there == expected and left != expected

        self._run(Request(key, work, is_moved))

    def _run(self, request: Request) -> Any:
        self._group.run([request])
        if request.error is not None:
            raise request.error
        return request.result

    def _check_writable(self) -> None:
        self._database.check()
        if self._database.read_only:
            raise ReadOnlyError

    def compact(self, key: str) -> None:
        self._check_writable()
        self._run(Request(key, partial(purge, indexed=self.indexed)))
        self._leasing(forget_leases)
        try:
            self._group.alone(self._compact)
        except sqlite3.Error as error:
            raise SaveFailedError(key, f"it could not be compacted: {error}") from error

    def _compact(self) -> None:
        writer = self._database.writer
        optimize = "INSERT INTO search (search) VALUES ('optimize');" if self.indexed else ""
        # As a script, which runs its last statement to its end: each step frees one page.
        writer.executescript(f"BEGIN IMMEDIATE; {optimize} PRAGMA incremental_vacuum")
        self._database.mark(writer, schema_version(writer))
        writer.execute("COMMIT")
        self._database.checkpoint(truncate=True)

    # Searching

    def search(
        self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20, skip: Collection[str] = ()
    ) -> list[SearchHit]:
        if key is None and self.indexed:
            try:
                self._catch_up()
                return self._database.read(_in_transaction(search), text, prefix, limit, skip)
            except StorageError as error:
                _log.warning("searched without the index: %s", error)
        return super().search(text, key=key, prefix=prefix, limit=limit, skip=skip)

    def _catch_up(self) -> None:
        """Index messages that are not indexed yet. If that fails, they are searched without the index."""
        while not self._database.read_only:
            found = self._database.read(_in_transaction(missing))
            if found is None:
                return
            request = Request(None, found.run, has_landed=lambda _: False)
            self._group.run([request])
            if request.error is not None:
                _log.warning("the index for search could not be brought up to date: %s", request.error)
                return

    # Sizes

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._database.read(_in_transaction(sizes), prefix)

    def total_bytes(self) -> int:
        self._database.check()
        found = 0
        for suffix in ("", "-wal", "-shm"):
            try:
                found += os.stat(self.path + suffix).st_size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(self.path, f"cannot be read: {error.strerror}") from error
        return found

    # Salvage

    def salvage(self, key: str) -> Salvaged | None:
        from session_manager.stores.sqlite.salvage import load_whole

        try:
            found = self._read(key, load_whole)
        except CorruptSessionError:
            found = None
        except StorageError as error:
            if not isinstance(error.__cause__, sqlite3.DatabaseError):
                raise
            found = None
        return found or self._database.read(_in_transaction(self._on_pages), key)

    def _on_pages(self, connection: sqlite3.Connection, key: str) -> Salvaged | None:
        """Read the whole rows of a session from the pages, in a transaction, which keeps them where they are."""
        from session_manager.stores.sqlite.salvage import Carved

        with contextlib.suppress(sqlite3.Error):
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            return Carved(self.path).salvage(key)
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror}") from error

    def put_salvaged(self, salvaged: Salvaged) -> list[str]:
        session = salvaged.session

        def found(connection: sqlite3.Connection) -> Salvaged:
            there = self._on_pages(connection, session.key)
            if there is None or not there.agrees(salvaged):
                raise ConflictError(session.key, session.version, None, "it has changed since")
            return salvaged

        return self._put(session.key, found)

    def accept_edits(self, key: str) -> list[str]:
        from session_manager.stores.sqlite.salvage import edited

        return self._put(key, lambda connection: self._undamaged(key, lambda: edited(connection, key)))

    def _put(self, key: str, found: Callable[[sqlite3.Connection], Salvaged]) -> list[str]:
        """Move the rows of a session to quarantine, and write it anew, in one transaction."""
        self._check_writable()

        def work(connection: sqlite3.Connection) -> str | None:
            salvaged = found(connection)
            archived = tuple((one.position or 0, one) for _, one in salvaged.archive)
            plan = Plan.of(Commit(salvaged.session, (), None, archived=archived, token=random_id()))
            kept = quarantine(connection, key)
            erase(connection, key, indexed=self.indexed)
            if plan is not None:
                write_plan(plan, encode_state_row(salvaged.session), connection, indexed=self.indexed)
            return kept

        kept = self._run(Request(key, work, erases=True))
        self._count_quarantined = None
        return [] if kept is None else [str(kept)]

    # Quarantine

    def quarantined(self) -> list[Quarantined]:
        return self._database.read(quarantined)

    def count_quarantined(self) -> int:
        if self._count_quarantined is None:
            try:
                self._count_quarantined = len(self.quarantined())
            except StorageError as error:
                _log.warning("the quarantine cannot be read: %s", error)
                return 0
        return self._count_quarantined

    def read_quarantined(self, name: str) -> bytes | None:
        return self._database.read(read_quarantined, name)

    def purge_quarantined(self, name: str) -> bool:
        self._check_writable()
        self._count_quarantined = None
        return bool(self._run(Request(None, partial(purge_quarantined, name=name), erases=True)))

    # Erasing

    def erase(self, keys: Sequence[str], tell: Callable[[str], object] = str) -> Erasure:
        self._check_writable()
        self._count_quarantined = None
        return self._erasures.run(keys, tell)

    def repairs(self) -> list[Finding]:
        return self._erasures.found

    # Checking

    def verify(self, key: str) -> list[Finding]:
        try:
            reasons = self._database.read(_in_transaction(damages), key)
        except StorageError as error:
            reasons = [error.reason]
        return [Finding(key, self.path, None, reason) for reason in reasons]

    def strays(self) -> list[Finding]:
        try:
            reasons = self._database.read(_in_transaction(_strays))
            if self.indexed and not self._database.read_only:
                check = "INSERT INTO search (search) VALUES ('integrity-check')"
                request = Request(None, lambda connection: connection.execute(check).close())
                self._group.run([request])
                if request.error is not None:
                    reasons.append(f"the index for search: {request.error}")
        except StorageError as error:
            reasons = [error.reason]
        findings = [Finding(None, self.path, None, reason) for reason in reasons]
        with contextlib.suppress(StorageError):  # of which the reasons tell
            findings += self._erasures.unfinished()
        return findings

    def close(self) -> None:
        self._group.close()

    def __repr__(self) -> str:
        return f"<SQLiteStore {self.path!r}>"


def _each(tokens: bytes) -> list[bytes]:
    return [tokens[first : first + TOKEN_BYTES] for first in range(0, len(tokens), TOKEN_BYTES)]


def _has_landed(connection: sqlite3.Connection, *, key: str, digest: bytes) -> bool:
    return digest in _each(read_tokens(connection, key))


def _in_transaction(function: Callable[..., T]) -> Callable[..., T]:
    def call(connection: sqlite3.Connection, *arguments: object) -> T:
        connection.execute("BEGIN")
        return function(connection, *arguments)

    return call


def _strays(connection: sqlite3.Connection) -> list[str]:
    reasons = [row[0].decode(errors="replace") for row in connection.execute("PRAGMA integrity_check(100)")]
    reasons = [] if reasons == ["ok"] else reasons
    for table in ("messages", "archive"):
        rows = f"SELECT count(*) FROM {table} WHERE session NOT IN (SELECT id FROM sessions)"  # noqa: S608 - of constants
        count = connection.execute(rows).fetchone()[0]
        if count:
            reasons.append(f"{count} {'messages' if table == 'messages' else 'archived messages'} belong to no session")
    return reasons + ["a session whose key is no text" for key in all_keys(connection) if _text(key) is None]


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None
