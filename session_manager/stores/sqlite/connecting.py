"""Opening a database of sessions: foreign files are refused and left alone, and connections are set up."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat as stat_module
from collections.abc import Callable
from urllib.parse import quote

import attrs

from session_manager.errors import InvalidStorageError, StorageError, UnsupportedFormatError
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.kinds import json_objection
from session_manager.stores.sqlite.foreign import objection
from session_manager.stores.sqlite.leftovers import (
    MainFile,
    holds_changes,
    is_strange_journal,
    is_strange_log,
    log_header,
)
from session_manager.stores.sqlite.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    create_index,
    create_last_commit,
    has_trigrams,
    is_marked,
    mark,
    migrate,
    schema_version,
    strange_table,
)

__all__ = ["Connect", "Opener", "Place"]

_log = logging.getLogger("session_manager")

#: Opens a connection as `sqlite3.connect` does.
Connect = Callable[..., sqlite3.Connection]

#: The device and the inode of a file.
Place = tuple[int, int]

#: The ends of the names of SQLite's files beside a database.
_BESIDE = ("-wal", "-journal", "-shm")
_REPLACED = "was moved, removed or replaced while it was open"
_NAMES = (
    "has a second name (a hard link), and SQLite keeps a log beside each name, so that saves would be lost:"
    " remove the other names, and keep the one with the -wal beside it, if there is one"
)

_STRANGE_LOG = (
    "its -wal belongs to another database, or to another state of this one, and would destroy it: if you have put a backup"
    " here, move the -wal and the -shm away and open it again; else put back the database that the -wal belongs to"
)
_STRANGE_JOURNAL = (
    "its -journal would be rolled back over it, and was not left by this library: if you have put a backup here, move the"
    " -journal away and open it again; if another program was killed while it wrote here, let that one open it once"
)
_LEFT_ALONE = (
    "is not there, or is empty, but its -wal holds changes: put the database back that the -wal belongs to, or move the"
    " -wal and the -shm away to begin a new one"
)
#: What SQLite says where it cannot create its files beside a database.
_CANNOT_CREATE = ("readonly database", "unable to open database file")
_DIRECTORY = (
    "while no writer has it open, SQLite must create its -shm beside it, also to read, and this user cannot write the directory"
    " {}: allow that, or copy the database to a directory that you can write, or keep it on a file system that is mounted read-only"
)
_UNREAD_LOG = (
    "its -wal holds changes, which cannot be read on a read-only file system: copy the database with its -wal to a"
    " directory that you can write, and open it there"
)
#: A damaged id is none: no log names it.
_LATEST = "SELECT latest FROM last_commit WHERE id = 1 AND typeof(latest) = 'blob' AND length(latest) = 16"
#: How often a strange file is checked again: another program may be in the middle of writing a page.
_LOOKS = 3

#: How many bytes a database has, at least. SQLite takes a file of one byte for an empty one, and overwrites it.
_SMALLEST = 512

_EVERY_CONNECTION = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA wal_autocheckpoint = 0",
)
_WRITER = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA foreign_keys = ON",
)


@attrs.frozen
class Opener:
    """Opens connections to one database.

    :param path: the file.
    :param read_only: write nothing.
    :param busy_timeout: how many seconds SQLite waits for a lock.
    :param connect: opens a connection.
    """

    path: str
    read_only: bool
    busy_timeout: float
    connect: Connect

    def identify(self) -> None:
        """Refuse a file that is no database of ours, without touching it: ``immutable`` takes no locks and creates no files.

        :raises InvalidStorageError: if it is a database of something else, or no database.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises StorageError: if it is not there.
        """
        status = self._status()
        if status is None:
            raise StorageError(self.path, "there is no database")
        self._check_files()
        if 0 < status.st_size < _SMALLEST:
            raise InvalidStorageError(self.path, self._what_else())
        connection = self._connection("mode=ro&immutable=1")
        try:
            self._check_format(connection)
        except sqlite3.DatabaseError as error:
            # A main file that a killed process left in the middle of a checkpoint may look torn by itself.
            if "not a database" in str(error):
                raise InvalidStorageError(self.path, self._what_else()) from error
        except UnicodeDecodeError:
            pass  # SQLite has quoted a damaged schema
        finally:
            connection.close()

    def _what_else(self) -> str:
        """Say what a file is that is no database. Nobody has it open as one, so that no lock is lost."""
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            if file.read(_SMALLEST).lstrip()[:1] in (b"{", b"["):
                return json_objection(self.path)
        return "is not a SQLite database"

    def place(self) -> Place | None:
        """Return the device and the inode of the file that has the path now; `None` if there is none."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _status(self, end: str = "") -> os.stat_result | None:
        """Return the status of the path, or of the path with an end. The path has no links, so a link there was put there later."""
        try:
            return os.lstat(self.path + end)
        except FileNotFoundError:
            return None

    def _check_files(self) -> None:
        """Refuse a database, or a file of SQLite's beside it, that is a link or has a second name."""
        for end in ("", *_BESIDE):
            status = self._status(end)
            what = f"its {end} " if end else ""
            if status is not None and not stat_module.S_ISREG(status.st_mode):
                raise InvalidStorageError(self.path, f"{what}is not a file")
            if status is not None and status.st_nlink > 1:
                raise InvalidStorageError(self.path, what + _NAMES)

    def _check_place(self, expected: Place | None) -> None:
        if expected is not None and self.place() != expected:
            raise StorageError(self.path, _REPLACED)

    def _check_beside(self) -> None:
        """Refuse a log or a journal beside the database that does not belong to it, before SQLite takes it.

        :raises StorageError: if there is one; it says what to do.
        """
        self._check_files()
        reason = None
        for _ in range(_LOOKS):
            try:
                reason = self._strange()
            except OSError as error:
                raise StorageError(self.path, f"what lies beside it cannot be read: {error.strerror}") from error
            if reason is None:
                return
        raise StorageError(self.path, str(reason))

    def _strange(self) -> str | None:
        log, journal = f"{self.path}-wal", f"{self.path}-journal"
        header, status = log_header(log), self._status()
        if not header and not os.path.lexists(journal):
            return None
        if status is None or not status.st_size:
            if holds_changes(log):
                return _LEFT_ALONE
            return _STRANGE_JOURNAL if is_strange_journal(journal, None) else None
        main = self._main_file()
        if main is None:
            return None
        if is_strange_journal(journal, main):
            return _STRANGE_JOURNAL
        is_strange = is_strange_log(log, header, main)
        # A log that was begun anew meanwhile belongs to a program that has the database open.
        return _STRANGE_LOG if is_strange and log_header(log) == header else None

    def _main_file(self) -> MainFile | None:
        """Return what the main file says; `None` if a killed process has left it torn."""
        connection = self._connection("mode=ro&immutable=1")
        try:
            connection.execute("BEGIN")  # the first page is read once: a checkpoint may be writing it
            schema = schema_version(connection)
            user_version, pages, free = (
                _number(connection, name) for name in ("user_version", "page_count", "freelist_count")
            )
            found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'last_commit'").fetchone()
            row = connection.execute(_LATEST).fetchone() if found else None
        except (sqlite3.Error, UnicodeDecodeError):
            return None
        finally:
            connection.close()
        return MainFile(user_version, schema, pages, free, row[0] if row else None, found[0] if found else 0)

    def _check_format(self, connection: sqlite3.Connection) -> int:
        """Return the number of the format, 0 for an empty file."""
        application, found = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (application or found or tables):
            raise InvalidStorageError(self.path, objection(self.path))
        if found > len(MIGRATIONS):
            raise UnsupportedFormatError(self.path, str(found), str(len(MIGRATIONS)))
        return int(found)

    def _check_tables(self, connection: sqlite3.Connection, found: int) -> None:
        """Refuse a database with other objects in the place of our tables: a view may have endless rows."""
        name = strange_table(connection, MIGRATIONS[:found])
        if name is not None:
            raise InvalidStorageError(self.path, f"its table {name!a} is not the one of this format, or has a trigger")

    def writer(self, place: Place | None) -> sqlite3.Connection:
        """Return the connection that writes, to a database of the newest format, which is created if it is missing.

        No other thread or process opens, closes or writes the database meanwhile.

        :param place: the file that the caller has looked at; `None` if there was none.
        :raises StorageError: if another file is there now, or if a log or a journal beside it is not its own.
        :raises sqlite3.Error: if it cannot be opened.
        :raises OSError: if it cannot be created; and as `identify` does.
        """
        created = not os.path.lexists(self.path)
        self._check_beside()
        if created:
            self._create_file()
        connection = self._connection("mode=rw")
        done = False
        try:
            self._check_place(place)
            for pragma in _WRITER:
                connection.execute(pragma)
            found = self._check_format(connection)
            self._check_tables(connection, found)
            schema = schema_version(connection)
            if not found:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != b"wal":
                raise StorageError(self.path, "this file system cannot hold a database in WAL mode")
            migrate(connection, found, MIGRATIONS)
            self._make(connection, create_last_commit, "a foreign -wal beside it will not be noticed")
            if has_trigrams():
                self._make(connection, create_index, "there is no index for search")
            if schema_version(connection) != schema and is_marked(connection):
                connection.execute("BEGIN IMMEDIATE")
                mark(connection, schema_version(connection))
                connection.execute("COMMIT")
            if not found:
                # The main file alone tells whose it is.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            done = True
        finally:
            if not done:
                connection.close()
        return connection

    def _make(
        self, connection: sqlite3.Connection, create: Callable[[sqlite3.Connection], None], otherwise: str
    ) -> None:
        """Create a table without which sessions can be read and written, if the database lets it be created."""
        try:
            create(connection)
        except sqlite3.Error as error:
            _log.warning("%s: %s: %s", self.path, otherwise, error)
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _create_file(self) -> None:
        files = Files(os.path.dirname(self.path))
        try:
            with contextlib.suppress(FileExistsError):
                files.close(files.open_new(os.path.basename(self.path)))
            files.sync_directory()
        finally:
            files.close_directory()

    def _connection(self, query: str) -> sqlite3.Connection:
        # What follows two slashes would be taken for a host.
        start = "file://" if self.path.startswith("/") else "file:"
        connection: object = self.connect(
            f"{start}{quote(os.fsencode(self.path))}?{query}",
            uri=True,
            timeout=self.busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(f"connect() must return a sqlite3.Connection, not {type(connection).__name__}")
        done = False
        try:
            connection.text_factory = bytes
            for pragma in _EVERY_CONNECTION:
                connection.execute(pragma)
            done = True
        finally:
            if not done:
                connection.close()
        return connection

    def reader(self, place: Place | None) -> sqlite3.Connection:
        """Return a connection that reads.

        :param place: the file that the caller has looked at.
        :raises StorageError: if another file is there now, or, with `read_only`, if a log beside it is not its own, or the directory
            cannot be written, where nobody has it open: unless its file system is read-only, and nothing can change.
        :raises sqlite3.Error: if it cannot be opened.
        """
        if not self.read_only:
            return self._reader(place, "mode=rw")
        try:
            return self._reader(place, "mode=ro")
        except sqlite3.OperationalError as error:
            # A reader, too, creates the files beside a database in WAL mode, unless its writer has them open.
            directory = os.path.dirname(self.path)
            if os.access(directory, os.W_OK) or not any(text in str(error) for text in _CANNOT_CREATE):
                raise
            if not os.statvfs(self.path).f_flag & os.ST_RDONLY:
                raise StorageError(self.path, _DIRECTORY.format(directory)) from error
            if holds_changes(f"{self.path}-wal"):
                raise StorageError(self.path, _UNREAD_LOG) from error
        return self._reader(place, "mode=ro&immutable=1")

    def _reader(self, place: Place | None, query: str) -> sqlite3.Connection:
        self._check_place(place)
        if self.read_only:
            self._check_beside()
        connection = self._connection(query)
        done = False
        try:
            self._check_place(place)
            connection.execute("PRAGMA query_only = ON")
            if self.read_only:
                self._check_readable(connection)
            done = True
        finally:
            if not done:
                connection.close()
        return connection

    def _check_readable(self, connection: sqlite3.Connection) -> None:
        found = self._check_format(connection)
        if not found:
            raise StorageError(self.path, "is an empty database")
        if found < len(MIGRATIONS):
            raise StorageError(self.path, f"is of format {found}: open it once for writing, to bring it up to date")
        self._check_tables(connection, found)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
