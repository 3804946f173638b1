"""Salvage of damaged sessions: at least 99 of 100 messages after a flipped byte, all rows of the good pages of a database."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from session_manager import (
    CorruptSessionError,
    InvalidKeyError,
    InvalidStorageError,
    SessionManager,
    StorageError,
    StorageLockedError,
    converter,
    open_store,
)
from session_manager.operations import Gap, SalvageReport, salvage
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite.pages import Pages
from session_manager.testing import FaultyStore
from tests.support.killed_files import CHANGING, KilledError, KilledFiles
from tests.support.power_cut import PowerFiles
from tests.support.processes import run_python

STORES = {"snapshot": SnapshotStore, "log": LogStore}
SUFFIXES = {"snapshot": ".session.json", "log": ".session.jsonl"}
COUNT = 100


def written(kind, path, *, each=True, key="k"):
    """Write a session of 100 messages, in records of one message each or all at once; return its messages."""
    with SessionManager(f"{kind}:{path}") as m:
        for number in range(COUNT):
            m.add_message(key, "user", f"text number {number}, ä")
            if each:
                m.save(key)
        m.set_summary(key, "the summary")
        return {one.position: one for one in m.get_history(key)}


def file_of(kind, path, key="k"):
    return Path(path) / f"{key}{SUFFIXES[kind]}"


def flip(file, place, mask=0xFF):
    with open(file, "r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ mask]))


def is_damaged(kind, path):
    with contextlib.closing(open_store(f"{kind}:{path}", read_only=True)) as store:
        try:
            store.load("k")
        except StorageError:
            return True
    return False


@pytest.mark.parametrize(("kind", "each"), [("snapshot", False), ("log", True), ("log", False)])
def test_a_flipped_byte_costs_one_message_at_most(kind, each, size, tmp_path):
    there = written(kind, tmp_path / "c", each=each)
    file = file_of(kind, tmp_path / "c")
    data, chance = file.read_bytes(), random.Random(7)
    places = {0, len(data) - 1, data.find(b"\n"), *chance.sample(range(len(data)), size.of(15, 40, 400))}
    for place in sorted(places):
        file.write_bytes(data)
        flip(file, place, chance.choice([1, 0x20, 0x80, 0xFF]))
        if not is_damaged(kind, tmp_path / "c"):  # a torn record
            continue
        (found,) = salvage(f"{kind}:{tmp_path / 'c'}").sessions
        positions = [one.position for one in found.messages]
        assert len(positions) >= COUNT - 1
        assert positions == sorted(set(positions))
        assert all(there[one.position] == one for one in found.messages)
        assert found.findings


@pytest.mark.parametrize("kind", STORES)
def test_the_missing_message_is_named_and_a_dry_run_writes_nothing(kind, tmp_path):
    written(kind, tmp_path / "c")
    file = file_of(kind, tmp_path / "c")
    flip(file, file.read_bytes().index(b"text number 50,"), 1)
    before = {one: one.read_bytes() for one in (tmp_path / "c").iterdir()}
    report = salvage(f"{kind}:{tmp_path / 'c'}")
    (found,) = report.sessions
    assert (found.missing, found.lost, found.written) == ((Gap(50, 50),), 1, False)
    assert found.summary == "the summary"
    assert {one: one.read_bytes() for one in (tmp_path / "c").iterdir()} == before
    assert not report.ok
    assert converter.structure(report.to_dict(), SalvageReport) == report
    json.dumps(report.to_dict())


@pytest.mark.parametrize("kind", STORES)
def test_what_is_whole_takes_the_place_of_the_damaged_bytes(kind, tmp_path):
    """The damaged file is in quarantine, byte by byte; the bot goes on with 99 messages, at the next positions."""
    written(kind, tmp_path / "c")
    file = file_of(kind, tmp_path / "c")
    flip(file, file.read_bytes().index(b"text number 50,"), 1)
    damaged = file.read_bytes()
    report = salvage(f"{kind}:{tmp_path / 'c'}", "k", write=True)
    (found,) = report.sessions
    assert report.ok
    assert found.written
    assert [(tmp_path / "c" / name).read_bytes() for name in found.quarantined] == [damaged]
    with SessionManager(f"{kind}:{tmp_path / 'c'}") as m:
        assert len(m.get_history("k")) == COUNT - 1
        assert m.get_summary("k") == "the summary"
        assert m.add_message("k", "user", "more").position == COUNT
        m.save("k")
        assert m.verify() == []
    assert salvage(f"{kind}:{tmp_path / 'c'}").sessions == ()


def test_messages_are_doubtful_once_a_record_of_a_log_is_lost(tmp_path):
    """A lost edit would bring old text back, a lost truncation old messages; the latter is known by the states behind it."""
    with SessionManager(f"log:{tmp_path / 'c'}") as m:
        for number in range(5):
            m.add_message("k", "user", f"{number}")
            m.save("k")
        m.truncate_history("k", 3)
        m.save("k")
        m.update_message("k", 3, {"role": "user", "content": "edited"})
        m.save("k")
        m.add_message("k", "user", "5")
        m.save("k")
        m.add_message("k", "user", "6")
    file = file_of("log", tmp_path / "c")
    data = file.read_bytes()
    flip(file, data.index(b'"change":"truncate"') + 12, 1)
    (found,) = salvage(f"log:{tmp_path / 'c'}").sessions
    assert [one.content for one in found.messages] == ["2", "edited", "4", "5", "6"]
    assert found.doubtful == (2, 3, 4, 5, 6)
    assert found.lost == 0
    file.write_bytes(data)
    flip(file, data.index(b'"change":"edit"') + 12, 1)
    (found,) = salvage(f"log:{tmp_path / 'c'}").sessions
    assert [one.content for one in found.messages] == ["2", "3", "4", "5", "6"]
    assert found.doubtful == (2, 3, 4, 5, 6)


def test_a_record_that_replaces_the_history_ends_the_doubt(tmp_path):
    with SessionManager(f"log:{tmp_path / 'c'}") as m:
        for number in range(5):
            m.add_message("k", "user", f"text {number}")
            m.save("k")
        m.set_history("k", [{"role": "user", "content": "new"}])
        m.save("k")
        m.add_message("k", "user", "newer")
    file = file_of("log", tmp_path / "c")
    flip(file, file.read_bytes().index(b"text 2"), 1)
    (found,) = salvage(f"log:{tmp_path / 'c'}").sessions
    assert [one.content for one in found.messages] == ["new", "newer"]
    assert found.doubtful == ()


def test_the_messages_of_a_damaged_turn_keep_their_positions(tmp_path):
    """Of a record of many messages only the damaged one is lost; those behind it are counted from the record's end."""
    with SessionManager(f"log:{tmp_path / 'c'}") as m:
        m.add_message("k", "user", "0")
        m.save("k")
        with m.turn("k") as turn:
            for number in range(1, 6):
                turn.add_message("user", f"text {number}")
        m.add_message("k", "user", "6")
    file = file_of("log", tmp_path / "c")
    flip(file, file.read_bytes().index(b'user","content":"text 3"') + 4, 0xFF)
    (found,) = salvage(f"log:{tmp_path / 'c'}").sessions
    assert [(one.position, one.content[-1]) for one in found.messages] == [(n, str(n)) for n in (0, 1, 2, 4, 5, 6)]


def test_no_checksum_proves_a_snapshot_that_is_cut_off(tmp_path):
    written("snapshot", tmp_path / "c")
    file = file_of("snapshot", tmp_path / "c")
    data = file.read_bytes()
    file.write_bytes(data[: data.index(b"text number 60,")])
    (found,) = salvage(f"snapshot:{tmp_path / 'c'}").sessions
    assert [one.position for one in found.messages] == list(range(60))
    assert found.doubtful == tuple(range(60))
    assert (found.lost, found.missing) == (40, (Gap(60, 99),))


@pytest.mark.parametrize("kind", STORES)
def test_a_file_without_anything_whole_stays_as_it_is(kind, tmp_path):
    written(kind, tmp_path / "c")
    file = file_of(kind, tmp_path / "c")
    file.write_bytes(bytes(1000))
    (found,) = salvage(f"{kind}:{tmp_path / 'c'}", write=True).sessions
    assert (found.messages, found.written) == ((), False)
    assert file.read_bytes() == bytes(1000)


@pytest.mark.parametrize("kind", STORES)
def test_a_file_of_a_newer_version_is_not_salvaged(kind, tmp_path):
    written(kind, tmp_path / "c")
    file = file_of(kind, tmp_path / "c")
    data = file.read_bytes().replace(b'/1","key":"k",', b'/2","key":"k","new":1,', 1)
    file.write_bytes(data)
    (found,) = salvage(f"{kind}:{tmp_path / 'c'}", write=True).sessions
    assert (found.messages, found.written) == ((), False)
    assert file.read_bytes() == data


@pytest.mark.parametrize("kind", [*STORES, "sqlite"])
def test_a_damaged_archive_loses_the_damaged_message(kind, tmp_path):
    path = tmp_path / "c"
    with SessionManager(f"{kind}:{path}", archive=True) as m:
        for number in range(10):
            m.add_message("k", "user", f"text {number}")
        m.save("k")
        m.truncate_history("k", 4)
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE archive SET line = replace(line, 'text 2', 'next 2')")
    else:
        file = path / "k.archive.jsonl"
        flip(file, file.read_bytes().index(b"text 2"), 1)
    (found,) = salvage(f"{kind}:{path}", write=True).sessions
    assert [one.position for one in found.archived] == [0, 1, 3, 4, 5]
    assert found.written
    with SessionManager(f"{kind}:{path}", archive=True) as m:
        assert m.verify() == []
        assert [one.position for one in m.get_archive("k")] == [0, 1, 3, 4, 5]
        assert len(m.get_history("k")) == 4


@pytest.mark.parametrize("kind", ["snapshot", "log"])
@pytest.mark.parametrize("left", [b"", b"garbage", bytes(100)], ids=["nothing", "garbage", "zeros"])
def test_an_archive_without_a_whole_line_is_lost(kind, left, tmp_path):
    """A salvage of it was a ValueError."""
    path = tmp_path / "c"
    with SessionManager(f"{kind}:{path}", archive=True) as m:
        m.add("k", *({"role": "user", "content": f"text {number}"} for number in range(6)))
        m.save("k")
        m.truncate_history("k", 2)
    (path / "k.archive.jsonl").write_bytes(left)
    (found,) = salvage(f"{kind}:{path}", write=True).sessions
    assert (len(found.messages), len(found.archived)) == (2, 0)
    with SessionManager(f"{kind}:{path}", archive=True) as m:
        assert m.verify() == []
        assert list(m.get_archive("k")) == []


@pytest.mark.parametrize("kind", STORES)
def test_a_kill_leaves_the_damaged_session_or_the_new_one(kind, tmp_path):
    """Whatever operation is the last one: no message that was whole is lost, and a second salvage ends what the first began."""
    written(kind, tmp_path / "c", each=False)
    file = file_of(kind, tmp_path / "c")
    flip(file, file.read_bytes().index(b"text number 50,"), 1)
    damaged = file.read_bytes()
    number = 0
    while True:
        place = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "c", place)
        store = STORES[kind](place, files=KilledFiles)
        store._files.left = number
        try:
            salvage(store, write=True)
            ended = True
        except KilledError:
            ended = False
        store._files.left = 10**9
        store.close()
        there = file_of(kind, place).read_bytes()
        if there != damaged:
            quarantined = [one.read_bytes() for one in place.iterdir() if one.name.startswith(".quarantine-")]
            assert quarantined == [damaged]
        assert salvage(f"{kind}:{place}", write=True).ok
        with SessionManager(f"{kind}:{place}", read_only=True) as m:
            assert len(m.get_history("k")) == COUNT - 1
        if ended:
            break
        number += 1
    assert number > 6


class DyingFiles(PowerFiles):
    """A simulated disk that keeps what was durable, and whose process dies at some operation."""

    left = 10**9

    def _operate(self, name, arguments):
        if name in CHANGING:
            self.left -= 1
            if self.left < 0:
                raise KilledError
        return super()._operate(name, arguments)


@pytest.mark.parametrize("kind", STORES)
def test_a_power_cut_leaves_the_damaged_session_or_the_new_one(kind, size, tmp_path):
    """The new one is there only with the damaged bytes in quarantine."""
    written(kind, tmp_path / "c", each=False)
    file = file_of(kind, tmp_path / "c")
    flip(file, file.read_bytes().index(b"text number 50,"), 1)
    damaged = file.read_bytes()
    seen = set()
    for number in range(0, 36, size.of(3, 1, 1)):
        chance = random.Random(number)
        before, place = tmp_path / f"{number}", tmp_path / f"{number}-cut"
        shutil.copytree(tmp_path / "c", before)
        place.mkdir()
        store = STORES[kind](before, files=DyingFiles)
        store._files.left = number // 2
        with contextlib.suppress(KilledError):
            salvage(store, write=True)
        store._files.left = 10**9
        store._files.cut(place, chance, hidden=(".quarantine-",))
        store.close()
        there = file_of(kind, place).read_bytes()
        seen.add(there == damaged)
        if there != damaged:
            assert damaged in [one.read_bytes() for one in place.iterdir() if one.name.startswith(".quarantine-")]
        assert salvage(f"{kind}:{place}", write=True).ok
        with SessionManager(f"{kind}:{place}", read_only=True) as m:
            assert len(m.get_history("k")) == COUNT - 1
    assert seen == {True, False}


@pytest.mark.parametrize("kind", STORES)
def test_a_long_key_is_found_in_a_damaged_header(kind, tmp_path):
    """The name of its file is a hash, which proves the key."""
    key = "telegram:" + "x" * 300
    with SessionManager(f"{kind}:{tmp_path / 'c'}") as m:
        m.add_message(key, "user", "hi")
        m.set_summary(key, "the summary")
    (file,) = (tmp_path / "c").glob("*.session.json*")
    flip(file, file.read_bytes().index(b"the summary"), 1)
    (found,) = salvage(f"{kind}:{tmp_path / 'c'}", write=True).sessions
    assert (found.key, [one.content for one in found.messages]) == (key, ["hi"])
    assert salvage(f"{kind}:{tmp_path / 'c'}").sessions == ()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database of six sessions, one of them with an archive, in one file; what is in it, and on which pages."""
    path = tmp_path_factory.mktemp("salvage") / "chats.db"
    with SessionManager(f"sqlite:{path}", archive=True) as m:
        for session in range(4):
            for number in range(100):
                m.add_message(f"k:{session}", "user", f"{session} {number} " + "x" * (6000 if number == 50 else 30))
        m.save_all()
        m.truncate_history("k:1", 60)
        m.save_all()
        there = {key: {one.position: one for one in m.get_history(key)} for key in m}
        archive = {one.position: one for one in m.get_archive("k:1")}
    return path, there, archive


@pytest.mark.parametrize("damage", [bytes(4096), b"\1" + random.Random(3).randbytes(4095)], ids=["zeros", "garbage"])
def test_a_bad_page_leaves_all_rows_of_the_others(database, damage, size, tmp_path):
    """Also the first page, with the schema, and those of indexes and inner pages: without SQLite, no row hangs on another page."""
    path, there, archive = database
    data = path.read_bytes()
    on_page = rows_on_pages(path)
    for page in range(damage[0] % 2, len(data) // 4096, size.of(4, 2, 1)):
        file = tmp_path / f"{page}.db"
        file.write_bytes(data[: page * 4096] + damage + data[page * 4096 + 4096 :])
        (tmp_path / f"{page}.db.lock").touch()
        report = salvage(f"sqlite:{file}")
        lost = lost_of(report, there, archive)
        assert report.checked == len(there)
        assert lost <= on_page.get(page + 1, 1)  # an overflow page is one message's


def rows_on_pages(path):
    counts = {}
    for record in Pages(str(path)).records():
        if len(record.values) == 5 and record.values[0] is None:
            counts[record.page] = counts.get(record.page, 0) + 1
    return counts


def lost_of(report, there, archive):
    """Return how many messages are lost; those that are there must be right."""
    lost = 0
    for found in report.sessions:
        wanted = there[found.key]
        assert all(wanted[one.position] == one for one in found.messages)
        lost += len(wanted) - len(found.messages)
        if found.key == "k:1":
            assert all(archive[one.position] == one for one in found.archived)
            lost += len(archive) - len(found.archived)
    return lost


def test_a_database_that_sqlite_cannot_write_is_written_anew(database, tmp_path):
    """Bad pages of every kind: the first, a leaf, an index. The damaged database is kept, byte for byte, and nothing else is left."""
    path, there, archive = database
    data = path.read_bytes()
    on_page = rows_on_pages(path)
    leaf = max(on_page, key=on_page.get) - 1
    for page in (0, 3, leaf):
        place = tmp_path / f"{page}"
        place.mkdir()
        file = place / "chats.db"
        damaged = data[: page * 4096] + b"\1" * 4096 + data[page * 4096 + 4096 :]
        file.write_bytes(damaged)
        (place / "chats.db.lock").touch()
        report = salvage(f"sqlite:{file}", write=True)
        assert report.ok
        assert lost_of(report, there, archive) <= on_page.get(page + 1, 0)
        kept = Path(report.replaced)
        assert kept.stat().st_size == len(damaged)
        assert sorted(place.iterdir()) == sorted([file, kept, place / "chats.db.lock"])
        with SessionManager(f"sqlite:{file}", archive=True) as m:
            assert m.verify() == []
            assert sorted(m) == sorted(there)
            assert len(m.get_history("k:3")) >= 100 - on_page.get(page + 1, 0)
            assert m.add_message("k:3", "user", "more").position == 100
            assert m.search("more")


def test_a_database_that_is_open_is_not_written_anew(database, tmp_path):
    data = bytearray(database[0].read_bytes())
    leaf = max(rows_on_pages(database[0]).items(), key=lambda item: item[1])[0] - 1
    data[leaf * 4096 : leaf * 4096 + 4096] = b"\1" * 4096
    file = tmp_path / "chats.db"
    file.write_bytes(data)
    with SessionManager(f"sqlite:{file}"):
        with pytest.raises(StorageLockedError):
            salvage(f"sqlite:{file}", write=True)
        assert file.exists()
    assert salvage(f"sqlite:{file}", write=True).ok


def test_a_kill_while_a_database_is_written_anew_leaves_the_old_one(database, tmp_path):
    data = bytearray(database[0].read_bytes())
    data[:4096] = b"\1" * 4096
    file = tmp_path / "chats.db"
    file.write_bytes(data)
    (tmp_path / "chats.db.lock").touch()
    program = "import os, sys; from session_manager.operations import salvage\n"
    program += "salvage('sqlite:' + sys.argv[1], write=True, progress=lambda done, *_: done == 2 and os._exit(9))"
    assert run_python("-c", program, file).returncode == 9
    assert file.read_bytes() == data
    report = salvage(f"sqlite:{file}", write=True)
    assert lost_of(report, database[1], database[2]) == 0


def test_a_foreign_database_is_no_damage(tmp_path):
    file = tmp_path / "chats.db"
    file.write_bytes(b"x" * 9000)
    for write in (False, True):
        with pytest.raises(InvalidStorageError):
            salvage(f"sqlite:{file}", write=write)
    assert file.read_bytes() == b"x" * 9000


def test_damaged_rows_of_a_database_go_to_quarantine(database, tmp_path):
    file = tmp_path / "chats.db"
    shutil.copy(database[0], file)
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE messages SET line = line || ' ' WHERE position = 70 AND session = 1")
        db.execute("UPDATE sessions SET state = state || ' ' WHERE key = 'k:2'")
    report = salvage(f"sqlite:{file}", write=True)
    assert [(one.key, len(one.messages), one.written) for one in report.sessions] == [
        ("k:0", 99, True),
        ("k:2", 100, True),
    ]
    with SessionManager(f"sqlite:{file}") as m:
        assert m.verify() == []
        assert len(m.get_history("k:0")) == 99
        assert m.add_message("k:2", "user", "more").position == 100
    with contextlib.closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT count(*) FROM quarantine").fetchone() == (202,)


def test_a_sound_session_is_returned_if_it_is_asked_for(tmp_path):
    written("snapshot", tmp_path / "c")
    report = salvage(f"snapshot:{tmp_path / 'c'}", "k")
    assert [(len(one.messages), one.findings, one.missing) for one in report.sessions] == [(COUNT, (), ())]
    assert report.ok
    assert salvage(f"snapshot:{tmp_path / 'c'}", "nobody").sessions == ()


def test_progress_and_mistakes(tmp_path):
    written("snapshot", tmp_path / "c")
    url, said = f"snapshot:{tmp_path / 'c'}", []
    salvage(url, progress=lambda *told: said.append(told))
    assert said == [(1, 1, "k")]
    with pytest.raises(InvalidKeyError):
        salvage(url, "")
    with pytest.raises(TypeError):
        salvage(url, write=1)
    with SessionManager(url):
        assert salvage(url).checked == 1
        with pytest.raises(StorageLockedError):
            salvage(url, write=True)


def test_a_store_of_ones_own_gives_all_or_nothing():
    """The contract's default loads the session."""
    store = FaultyStore(MemoryStore())
    with SessionManager(store) as m:
        m.add_message("k", "user", "hi")
    assert len(salvage(store, "k").sessions[0].messages) == 1

    def load(key):
        raise CorruptSessionError(key, "memory", 0, "is damaged")

    store.store.load = load
    (found,) = salvage(store, "k", write=True).sessions
    assert (found.messages, found.findings[0].reason) == ((), "is damaged")
