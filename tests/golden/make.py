"""Write the golden databases and the golden archive into a directory that is empty: how those beside this file were made.

    python -m tests.golden.make /tmp/new

They are never made again: what they are for is that files which an older version wrote load for ever. A new format gets new
files, made by the first version that writes it; ``README.md`` beside this file says which version made which.
"""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import attrs

from session_manager import Message
from session_manager.model.changes import Append, Truncate, fold
from session_manager.stores.contract import Commit
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.sqlite.schema import MIGRATIONS
from tests.golden.sessions import AT, SESSIONS
from tests.support.strategies import CANARY

LATER = AT + timedelta(minutes=1)

#: What is in a database, by key: each is there as it was written whole, but for the one that was saved once more.
STORED = [
    SESSIONS["plain"],
    SESSIONS["no_messages"],
    SESSIONS["nasty"],
    attrs.evolve(SESSIONS["ascii_header"], key="ascii"),
]
APPENDED = [
    Append(at=LATER, messages=(Message("user", f"漢 {CANARY}", created_at=LATER, ref="r"),), turn="update-1"),
    Truncate(at=LATER, start=1),
]
SAVED = fold(SESSIONS["plain"], APPENDED)._with(revision=2)

#: What is archived of the one that was saved once more, in a database of format 2 and in the archive's file.
ARCHIVED = [(0, SESSIONS["plain"].messages[0])]


def make_database(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        for session in STORED:
            store.write(Commit(session, (), None, token=f"token of {session.key}"))
        archived = {} if len(MIGRATIONS) < 2 else {"archived": tuple(ARCHIVED)}
        store.write(Commit(SAVED, tuple(APPENDED), SESSIONS["plain"].version, token="again", **archived))
        gone = attrs.evolve(SESSIONS["plain"], key="gone")
        store.write(Commit(gone, (), None, token="gone"))
        store.delete("gone")
        assert store.search("Hi, Ada") != []


def make_archive(path: Path) -> None:
    from session_manager.stores.archive.format import body_of, encode_header, encode_lines  # noqa: PLC0415 - format 1 has none

    key, generation = SESSIONS["nasty"].key, SESSIONS["nasty"].generation
    archived = [SESSIONS["plain"].messages[0], *SESSIONS["nasty"].messages]
    lines = [(revision, body_of(message)) for revision, message in zip((3, 3, 7, 8), archived, strict=True)]
    path.write_bytes(encode_header(key) + encode_lines(key, generation, 0, lines))


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    make_database(directory / f"format_{len(MIGRATIONS)}.sqlite")
    if len(MIGRATIONS) > 1:
        make_archive(directory / "nasty.archive.jsonl")
