"""Files of other programs: written by hand in ``tests/importers/files``, one directory for each format, and given to readers."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import timezone, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from session_manager.importers.formats import reader_of
from session_manager.importers.reading import Flaw, ImportedSession, SourceDatabase
from session_manager.stores.sqlite.foreign import ForeignDatabase
from tests.support.source_files import GivenFile

__all__ = ["Example", "database_of", "examples", "plain", "read_all"]

FILES = Path(__file__).parent.parent / "importers" / "files"


class GivenDatabase(GivenFile):
    """A file that may be a database.

    :param directory: where to put it to open it.
    """

    directory = ""

    def database(self) -> SourceDatabase:
        path = Path(self.directory, "given.db")
        path.write_bytes(b"".join(self.pieces()))
        return ForeignDatabase(str(path))


@attrs.frozen
class Example:
    """A file of a format."""

    format: str
    name: str
    data: bytes

    @property
    def is_lines(self) -> bool:
        return self.name.endswith(".jsonl")


@lru_cache(maxsize=1)
def examples() -> tuple[Example, ...]:
    """Return the files that are written by hand; of SQL, the database that it makes."""
    found = []
    for path in sorted(FILES.glob("*/*")):
        is_database = path.suffix == ".sql"
        data = database_of(path.read_text()) if is_database else path.read_bytes()
        found.append(Example(path.parent.name, f"{path.stem}.db" if is_database else path.name, data))
    return tuple(found)


def database_of(script: str) -> bytes:
    """Return the database that SQL makes."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "made.db")
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
            connection.commit()
        return path.read_bytes()


def read_all(
    format: str,
    name: str,
    data: bytes,
    *,
    zone: tzinfo | None = timezone.utc,
    beside: Mapping[str, bytes] | None = None,
    pieces: int = 1 << 20,
) -> tuple[list[ImportedSession], list[Flaw]]:
    """Return the sessions and flaws in a file."""
    with tempfile.TemporaryDirectory() as directory:
        file = GivenDatabase(name, data, beside, piece=pieces)
        file.directory = directory
        found = list(reader_of(format)(file, zone))
    return [one for one in found if isinstance(one, ImportedSession)], [one for one in found if isinstance(one, Flaw)]


def plain(session: ImportedSession) -> list[dict[str, Any]]:
    """Return the objects of a session's messages."""
    return [message.to_dict() for message in session.messages]
