"""Databases of other programs: read, never written to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote

from session_manager.errors import StorageError, raise_alone
from session_manager.stores.files.filesystem import absolute
from session_manager.stores.files.recognition import format_of_tables

__all__ = ["ForeignDatabase", "objection", "tables_of"]

#: How many sessions a database has, by its format.
_COUNTS = {
    "zeroclaw-db": "SELECT count(*) FROM (SELECT session_key FROM session_metadata UNION SELECT session_key FROM sessions)",
    "openai-agents": "SELECT count(*) FROM agent_sessions",
    "llm": "SELECT count(*) FROM conversations",
}


class ForeignDatabase:
    """A SQLite database of another program. Each call opens it for itself, and closes it again.

    A database without a log beside it is opened as one that nobody changes, so that SQLite makes no file beside it. One with a
    log is read as beside its writer.

    :param path: where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def tables(self) -> frozenset[str]:
        """Return the names of its tables.

        :raises StorageError: if it is no database, or damaged.
        """
        rows = self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        return frozenset(str(row["name"]) for row in rows)

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the names of a table's columns, in their order; none if there is no such table.

        :raises StorageError: if it is no database, or damaged.
        """
        return tuple(str(row["name"]) for row in self.rows("SELECT name FROM pragma_table_info(?)", (table,)))

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """Iterate over the rows of a query, by the names of its columns. Texts that are no UTF-8 come as bytes.

        :raises StorageError: if it is no database, or damaged.
        """
        try:
            with closing(self._connected()) as connection:
                cursor = connection.execute(query, parameters)
                names = [column[0] for column in cursor.description]
                for row in cursor:
                    yield dict(zip(names, row, strict=True))
        except sqlite3.Error as error:
            raise StorageError(self._path, f"cannot be read as a database: {error}") from error
        except UnicodeDecodeError:  # of a column's name; it holds the text
            raise_alone(StorageError(self._path, "cannot be read as a database: a name in it is no UTF-8"))

    def _connected(self) -> sqlite3.Connection:
        still = "" if os.path.exists(f"{self._path}-wal") or os.path.exists(f"{self._path}-journal") else "&immutable=1"
        connection = sqlite3.connect(f"file:{quote(absolute(self._path))}?mode=ro{still}", uri=True)
        connection.text_factory = _text
        return connection


def tables_of(path: str) -> frozenset[str]:
    """Return the names of the tables of a database; none if it is no database, or cannot be read."""
    try:
        return ForeignDatabase(path).tables()
    except StorageError:
        return frozenset()


def objection(path: str) -> str:
    """Say why a database of another program is no storage; how many sessions it has, if its format is known.

    :param path: where it is.
    """
    database = ForeignDatabase(path)
    known = format_of_tables(tables_of(path))
    if known is None:
        return "is a SQLite database of something else"
    try:
        count = f"{next(iter(database.rows(_COUNTS[known])))['count(*)']:,} sessions"
    except (KeyError, StorageError):
        count = "sessions"
    return f"holds {count} in the format {known}: import them with import_sessions({path!r}, STORAGE), or session-manager import"


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
