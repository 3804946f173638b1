"""The golden database files and the golden archive load for ever; never write them anew (``golden/README.md``).

(Snapshots: `tests/stores/snapshot/test_snapshot_format.py`; logs: `tests/stores/log/test_log_format.py`; picoclaw's: `tests/importers/test_picoclaw_json.py`.)
"""

from __future__ import annotations

import shutil
from contextlib import closing

import pytest

from session_manager import StorageError, Version
from session_manager.stores.archive.format import SUFFIX, decode, decode_bodies
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.sqlite.schema import MIGRATIONS
from tests.golden.make import ARCHIVED, SAVED, STORED, make_archive
from tests.golden.sessions import SESSIONS
from tests.support.places import GOLDEN
from tests.support.strategies import facts

ARCHIVE = (GOLDEN / f"nasty{SUFFIX}").read_bytes()
NASTY = SESSIONS["nasty"]

EXPECTED = {session.key: session for session in [*STORED, SAVED]}


@pytest.fixture(params=[1, 2, 3])
def database(request, tmp_path):
    """A copy of a golden database, and its format."""
    shutil.copy(GOLDEN / f"format_{request.param}.sqlite", tmp_path / "chats.db")
    return tmp_path / "chats.db", request.param


def check(store, archived):
    assert sorted(store.keys()) == sorted(EXPECTED)
    for key, session in EXPECTED.items():
        assert facts(store.load(key)) == facts(session)
        assert store.version(key) == session.version
        assert store.describe(key).count == len(session.messages)
        assert [facts(message) for message in store.archive(key)] == [facts(one) for one in archived.get(key, ())]
        assert store.verify(key) == []
    assert store.load("gone") is None
    assert {hit.key for hit in store.search("canary")} == {SAVED.key, NASTY.key}
    assert store.strays() == []


def test_a_golden_database_loads_for_ever(database):
    path, number = database
    archived = {SAVED.key: [message for _, message in ARCHIVED]} if number >= 2 else {}
    for _ in "as it was", "brought up":
        with closing(SQLiteStore(path)) as store:
            check(store, archived)


def test_a_golden_database_of_the_newest_format_is_read_beside_its_writer(database):
    path, number = database
    before = path.read_bytes()
    if number < len(MIGRATIONS):
        with pytest.raises(StorageError, match=f"format {number}"):
            SQLiteStore(path, read_only=True)
    else:
        with closing(SQLiteStore(path, read_only=True)) as store:
            check(store, {SAVED.key: [message for _, message in ARCHIVED]})
    assert path.read_bytes() == before


def test_the_golden_archive_loads_for_ever():
    found = decode(ARCHIVE, NASTY.key, Version(NASTY.generation, 8), "path")
    assert (found.damage, found.torn, found.end, found.count, found.mixed) == (None, None, len(ARCHIVE), 4, False)
    assert [revision for revision, _ in found.lines] == [3, 3, 7, 8]
    messages = decode_bodies(body for _, body in found.lines)
    assert list(map(facts, messages)) == list(map(facts, [SESSIONS["plain"].messages[0], *NASTY.messages]))
    assert len(decode(ARCHIVE, NASTY.key, Version(NASTY.generation, 7), "path").lines) == 3
    assert decode(ARCHIVE, NASTY.key, Version("another", 8), "path").lines == []


def test_an_archive_is_written_as_the_same_bytes_for_ever(tmp_path):
    make_archive(tmp_path / "archive")
    assert (tmp_path / "archive").read_bytes() == ARCHIVE


def test_there_are_golden_files_of_every_format():
    names = {path.name for path in GOLDEN.glob("*.sqlite")}
    assert names == {f"format_{number}.sqlite" for number in range(1, len(MIGRATIONS) + 1)}
    assert [path.name for path in GOLDEN.glob(f"*{SUFFIX}")] == [f"nasty{SUFFIX}"]
    assert [path.name for path in GOLDEN.glob("*.json") if not path.name.endswith(".session.json")] == [
        "telegram_42.json"
    ]
