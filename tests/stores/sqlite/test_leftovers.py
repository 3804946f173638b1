"""What lies beside a database: a log or journal of another one is refused, and what a kill leaves never is."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import SessionManager, StorageError
from session_manager.stores import copy
from session_manager.stores.sqlite import erasing, leftovers
from session_manager.stores.sqlite.leftovers import log_header
from session_manager.stores.sqlite.schema import schema_version
from tests.support.laws import examples
from tests.support.places import ROOT
from tests.support.processes import python

KEY = "telegram:42"
ENDS = ("", "-wal", "-shm", "-journal")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chats.db"


def say(m, *said, key=KEY):
    for text in said:
        m.add_message(key, "user", text)
        m.save(key)


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def opened(path, **options):
    return SessionManager(f"sqlite:{path}", **options)


def found(path):
    """Open a database, check all of it, and return the texts of the session."""
    with opened(path) as m:
        assert m.verify() == []
        return texts(m)


def kept(path, place):
    """Copy a database and what is beside it as it is now, which is what a kill would leave."""
    place.mkdir(exist_ok=True)
    for end in ENDS:
        if os.path.exists(f"{path}{end}"):
            shutil.copyfile(f"{path}{end}", f"{place / 'chats.db'}{end}")
    return place / "chats.db"


def files(path):
    return {end: Path(f"{path}{end}").read_bytes() for end in ENDS if os.path.exists(f"{path}{end}")}


def frames(log):
    """Return the pages that the transactions of a log hold, and the size of a page."""
    size = struct.unpack(">I", log[8:12])[0]
    pages, open_ones = {}, {}
    for place in range(32, len(log) - 24 - size + 1, 24 + size):
        page, after, *salts = struct.unpack(">4I", log[place : place + 16])
        if struct.pack(">2I", *salts) != log[16:24]:
            break
        open_ones[page] = log[place + 24 : place + 24 + size]
        if after:
            pages |= open_ones
            open_ones = {}
    return pages, size


# Backups that are put beside a log of before


def by_file(path, backup):
    """Copy the file while it is closed."""
    shutil.copyfile(path, backup)


def by_vacuum(path, backup):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))


def by_backup(path, backup):
    """Copy page by page, as ``.backup`` does."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)


def by_pages(path, backup):
    """Copy the state of this moment as its very pages: ``.backup`` gives its copy another number of the schema."""
    by_backup(path, backup)
    with closing(sqlite3.connect(path)) as connection, open(backup, "r+b") as file:
        file.seek(40)
        file.write(struct.pack(">I", schema_version(connection)))


def by_copy(path, backup):
    assert copy(f"sqlite:{path}", f"sqlite:{backup}").ok


def of_another(_, backup):
    with opened(backup) as m:
        say(m, *(f"other {number}" for number in range(20)))


BACKUPS = {one.__name__: one for one in (by_file, by_vacuum, by_backup, by_copy, of_another)}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("how", sorted(BACKUPS))
def test_a_backup_beside_the_log_of_before_is_refused_and_left_as_it_is(how, read_only, path, tmp_path):
    """The log was replayed over it: 19 of 21 sessions were lost."""
    with opened(path) as m:
        say(m, *(f"old {number}" for number in range(20)))
    BACKUPS[how](path, tmp_path / "backup.db")
    expected = found(tmp_path / "backup.db") if how != "by_vacuum" else [f"old {number}" for number in range(20)]
    with opened(path) as m:
        say(m, "new 0")
    with opened(path) as m:
        say(m, *(f"new {number}" for number in range(1, 5)))
        killed = kept(path, tmp_path / "killed")
        complete = texts(m)
    before = killed.read_bytes()
    shutil.copyfile(tmp_path / "backup.db", killed)
    there = files(killed)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"its -wal belongs to another database.*move the -wal") as raised:
            opened(killed, read_only=read_only)
        assert raised.value.path == str(killed)
    assert files(killed) == there
    (tmp_path / "aside").mkdir()
    for end in ("-wal", "-shm"):  # as the error says: first the one thing
        shutil.move(f"{killed}{end}", tmp_path / "aside" / f"chats.db{end}")
    assert found(killed) == expected
    killed.write_bytes(before)  # and then the other
    for end in ("-wal", "-shm"):
        shutil.move(tmp_path / "aside" / f"chats.db{end}", f"{killed}{end}")
    assert found(killed) == complete


@pytest.mark.parametrize("how", ["by_vacuum", "by_backup", "by_copy"])
def test_a_backup_of_a_database_in_use_beside_its_own_log_is_refused(how, path, tmp_path):
    """It has the ids of the log's commits, or none of them, but other pages, or another number of the schema."""
    with opened(path) as m:
        say(m, *(f"old {number}" for number in range(20)))
        BACKUPS[how](path, tmp_path / "backup.db")
        say(m, "new")
        killed = kept(path, tmp_path / "killed")
    shutil.copyfile(tmp_path / "backup.db", killed)
    with pytest.raises(StorageError, match="its -wal belongs to another"):
        opened(killed)


@pytest.mark.parametrize("when", ["closed", "begun", "in use"])
def test_the_very_pages_that_a_log_goes_on_from_are_taken_and_complete(when, path, tmp_path):
    """They cannot be told from what a kill leaves, and what comes of them is the newest state."""
    with opened(path) as m:
        say(m, "old")
    if when == "closed":
        by_file(path, tmp_path / "backup.db")
    with opened(path) as m:
        if when == "begun":
            by_pages(path, tmp_path / "backup.db")
        say(m, "new")
        if when == "in use":
            by_pages(path, tmp_path / "backup.db")
        say(m, "newest")
        killed = kept(path, tmp_path / "killed")
    shutil.copyfile(tmp_path / "backup.db", killed)
    assert found(killed) == ["old", "new", "newest"]


def test_a_log_without_its_database_is_not_thrown_away(path, tmp_path):
    """SQLite removes the log of a database that is missing or empty, with all that was saved to it."""
    with opened(path) as m:
        say(m, "old")
        killed = kept(path, tmp_path / "killed")
    moved = killed.rename(tmp_path / "moved.db")
    for make in (lambda: None, killed.touch):
        make()
        with pytest.raises(StorageError, match="its -wal holds changes: put the database back"):
            opened(killed)
        assert os.path.getsize(f"{killed}-wal") > 0
    os.replace(moved, killed)
    assert found(killed) == ["old"]


def test_a_log_that_holds_nothing_is_no_ones(path):
    with opened(path) as m:
        say(m, "old")
    for content in (b"", b"\0" * 5000, os.urandom(5000), b"short"):
        Path(f"{path}-wal").write_bytes(content)
        assert found(path) == ["old"]
        assert log_header(f"{path}-wal") == b""


def put_beside_its_log(backup, killed):
    """Put a backup in the place of a database, and expect that it is refused."""
    shutil.copyfile(backup, killed)
    with pytest.raises(StorageError, match="its -wal belongs to another"):
        opened(killed)


def test_a_backup_of_the_midst_of_a_log_is_refused_beside_the_next_log(path, tmp_path):
    with opened(path) as m:
        say(m, *"abc")
        by_pages(path, tmp_path / "backup.db")
        say(m, *"def")
    with opened(path) as m:
        say(m, "g")
        killed = kept(path, tmp_path / "killed")
    put_beside_its_log(tmp_path / "backup.db", killed)


def test_a_backup_that_is_newer_than_a_log_is_refused(path, tmp_path):
    """The log would take the pages that it has back to what they were."""
    with opened(path) as m:
        say(m, *"abc")
        killed = kept(path, tmp_path / "killed")
        say(m, *"def")
        by_pages(path, tmp_path / "backup.db")
    put_beside_its_log(tmp_path / "backup.db", killed)


def test_a_change_that_adds_no_message_has_a_mark(path, tmp_path):
    with opened(path) as m:
        say(m, *"abc")
        by_pages(path, tmp_path / "backup.db")
        m.set_summary(KEY, "they said abc")
        m.save(KEY)
    with opened(path) as m:
        say(m, "d")
        killed = kept(path, tmp_path / "killed")
    put_beside_its_log(tmp_path / "backup.db", killed)


def test_a_backup_of_a_state_that_was_rolled_back_is_refused(path, tmp_path):
    """Both went on from one log, to the same highest id: only their marks tell them apart."""
    with opened(path) as m:
        say(m, *"abc")
        rolled_back = kept(path, tmp_path / "rolled back")
        say(m, *"de", key="other")
        by_pages(path, tmp_path / "backup.db")
    with opened(rolled_back) as m:
        say(m, *"fgh")
        killed = kept(rolled_back, tmp_path / "killed")
    shutil.copytree(killed.parent, tmp_path / "copy")
    assert found(tmp_path / "copy" / "chats.db") == list("abcfgh")
    put_beside_its_log(tmp_path / "backup.db", killed)


@examples(3, many=30)
@given(seed=st.integers(0, 2**32))
def test_a_backup_of_a_time_before_or_after_a_log_is_refused(tmp_path_factory, seed):
    chance, place = random.Random(seed), tmp_path_factory.mktemp("times")
    path, backups, logs = place / "chats.db", [], []
    with opened(path) as m, opened(path) as other:
        for number in range(10):
            one, key = chance.choice([m, other]), f"k{number % 2}"
            match chance.choice(["say", "say", "summary", "delete", "checkpoint"]):
                case "say":
                    say(one, *"abc"[: chance.randint(1, 3)], key=key)
                case "summary":
                    one.set_summary(key, f"{number}")
                    one.save(key)
                case "delete":
                    one.delete(key)
                case "checkpoint":
                    by_another(one, path)
            by_pages(path, place / f"{number}.db")
            backups.append((place / f"{number}.db").read_bytes())
            logs.append(log_header(f"{path}-wal"))
            kept(path, place / f"{number}")
    for number in (one for one, header in enumerate(logs) if header):
        # One call may be several commits, so the log may have been begun in the midst of the one before.
        first = max(0, logs.index(logs[number]) - 1)
        for backup in backups:
            if backup not in backups[first : number + 1]:
                killed = place / f"{number}" / "chats.db"
                killed.write_bytes(backup)
                with pytest.raises(StorageError, match="its -wal belongs to another"):
                    opened(killed, read_only=True)


@pytest.mark.parametrize("rewrite", ["VACUUM", "CREATE TABLE mine (a)", "CREATE INDEX mine ON messages (checksum)"])
@pytest.mark.parametrize("said", ["short", "x" * 20_000], ids=["in its pages", "in more pages"])
@pytest.mark.parametrize("is_open", [False, True], ids=["before", "meanwhile"])
def test_a_copy_of_before_another_program_moved_the_rows_is_refused(is_open, said, rewrite, path, tmp_path):
    """A `VACUUM` leaves the mark as it is. The log that was begun after it was replayed, and the database was malformed."""
    with opened(path) as m:
        say(m, *("x" * 3000 for _ in range(20)), key="gone")
        say(m, *(f"old {number}" for number in range(20)))
        m.delete("gone")
    by_file(path, tmp_path / "backup.db")
    with opened(path) if is_open else closing(sqlite3.connect(path)):
        by_statement(path, rewrite)
        by_another(None, path)
    with opened(path) as m:
        say(m, said, "newest")
        killed = kept(path, tmp_path / "killed")
    shutil.copytree(killed.parent, tmp_path / "copy")
    assert found(tmp_path / "copy" / "chats.db")[-2:] == [said, "newest"]
    put_beside_its_log(tmp_path / "backup.db", killed)


@pytest.mark.parametrize("later", ["a lease", "a table"])
def test_a_copy_by_vacuum_beside_a_log_with_new_tables_is_refused(later, path, tmp_path):
    """Its number of the schema is that of the log's last commits, but the pages are others."""
    with opened(path) as m:
        say(m, *(f"old {number}" for number in range(20)))
        m.delete("gone")
    by_vacuum(path, tmp_path / "backup.db")
    with opened(path) as m:
        say(m, "new")
        if later == "a lease":
            m._residents.store.take_lease(KEY, "owner", 1)
        else:
            by_statement(path, "CREATE TABLE mine (a)")
        say(m, "newest")
        killed = kept(path, tmp_path / "killed")
    shutil.copytree(killed.parent, tmp_path / "copy")
    assert found(tmp_path / "copy" / "chats.db")[-2:] == ["new", "newest"]
    put_beside_its_log(tmp_path / "backup.db", killed)


@pytest.mark.parametrize("by", ["0.2", "this version"])
def test_a_first_lease_that_begins_a_log_is_no_reason_to_refuse(by, path, tmp_path, monkeypatch):
    """Its commit makes a table. Version 0.2 noted the schema that it left, and this notes the one that it found."""
    if by == "0.2":
        mark = "UPDATE last_commit SET earlier = latest, latest = randomblob(16), schema = ?"
        monkeypatch.setattr(
            "session_manager.stores.sqlite.database.mark",
            lambda writer, _: writer.execute(mark, (f"{schema_version(writer):08x}",)),
        )
    with opened(path) as m:
        say(m, "old")
    with opened(path) as m:
        m._residents.store.take_lease(KEY, "owner", 1)
        killed = kept(path, tmp_path / "killed")
        say(m, "new")
        later = kept(path, tmp_path / "later")
    assert os.path.getsize(f"{killed}-wal") > 0
    assert found(killed) == ["old"]
    assert found(later) == ["old", "new"]


def by_itself(m, path):
    """In the same tick of the file system's clock as the last look at the file."""
    database, before = m._residents.store._database, os.stat(path).st_mtime_ns
    assert database.locked(database.checkpoint, truncate=True)
    os.utime(path, ns=(before, before))


def by_another(_, path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


@pytest.mark.parametrize("checkpoint", [by_itself, by_another])
def test_the_first_save_after_a_checkpoint_has_a_mark(checkpoint, path, tmp_path):
    """It begins a log, in a manager that stays open, perhaps in the same tick of the file system's clock."""
    with opened(path) as m:
        say(m, *"abc")
        by_pages(path, tmp_path / "backup.db")
        say(m, *"def")
        checkpoint(m, path)
        say(m, *"gh")
        killed = kept(path, tmp_path / "killed")
    shutil.copytree(killed.parent, tmp_path / "copy")
    assert found(tmp_path / "copy" / "chats.db") == list("abcdefgh")
    put_beside_its_log(tmp_path / "backup.db", killed)


def test_each_save_has_a_mark_where_the_file_system_counts_seconds(path, tmp_path):
    """Another process may have made a checkpoint in the second of the one before."""
    with opened(path) as m:
        say(m, "a")
        by_another(m, path)
        os.utime(path, (2**30, 2**30))
        say(m, *"bc")
        by_pages(path, tmp_path / "backup.db")
        say(m, "d")
        by_another(m, path)
        os.utime(path, (2**30, 2**30))
        say(m, "e")
        killed = kept(path, tmp_path / "killed")
    put_beside_its_log(tmp_path / "backup.db", killed)


def test_a_compaction_that_begins_a_log_has_a_mark(path, tmp_path):
    with opened(path) as m, closing(sqlite3.connect(path)) as reader:
        for text in "abc":
            say(m, text)
            m.search(text * 3)
        say(m, "d")
        by_pages(path, tmp_path / "backup.db")
        say(m, "e")
        by_itself(m, path)
        reader.execute("BEGIN")  # so that the log is not emptied again
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == (5,)
        m.compact(KEY)
        killed = kept(path, tmp_path / "killed")
    put_beside_its_log(tmp_path / "backup.db", killed)


def test_a_compaction_that_frees_pages_begins_no_strange_log(path, tmp_path):
    with opened(path) as m, closing(sqlite3.connect(path)) as reader:
        say(m, *("x" * 3000 for _ in range(20)), key="gone")
        say(m, *"abc")
        m.delete("gone")
        by_itself(m, path)
        reader.execute("BEGIN")  # so that the log is not emptied again
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == (3,)
        m.compact(KEY)
        killed = kept(path, tmp_path / "killed")
    assert os.path.getsize(f"{killed}-wal") > 0
    assert found(killed) == list("abc")


def test_the_end_of_an_erasure_that_frees_pages_begins_no_strange_log(path, tmp_path):
    with opened(path) as m:
        say(m, *"abc")
        m._residents.store.erase([f"{number}" * 50 for number in range(100, 400)])
        killed = kept(path, tmp_path / "killed")
    assert os.path.getsize(f"{killed}-wal") > 0
    assert found(killed) == list("abc")


# What a kill leaves


@pytest.mark.parametrize("seed", range(6))
def test_a_checkpoint_that_was_cut_short_anywhere_is_no_strange_log(seed, path, tmp_path, size):
    """Any part of the log's pages may be in the database already, and the log may have been begun anew before."""
    with opened(path) as m:
        database = m._residents.store._database
        for number in range(12):
            say(m, f"{number}" * (1 + 997 * (number % 3)), key=f"k{number % 4}")
            if number % 5 == 4:
                database.locked(partial(database.checkpoint, truncate=number == 9))
                database._checkpoints._truncate_again = False
        m.truncate_history("k1", 1)
        m.save("k1")
        killed = kept(path, tmp_path / "killed")
        expected = {key: texts(m, key) for key in m}
    pages, length = frames(Path(f"{killed}-wal").read_bytes())
    assert pages
    before = files(killed)
    chance = random.Random(seed)
    for number in range(0, 12, size.of(4, 1, 1)):
        for end, content in before.items():
            Path(f"{killed}{end}").write_bytes(content)
        data = bytearray(before[""])
        for page in chance.sample(sorted(pages), number * len(pages) // 11):
            first = (page - 1) * length
            data += b"\0" * (first + length - len(data))
            data[first : first + length] = pages[page]
        killed.write_bytes(data)
        with opened(killed, read_only=True) as m:
            assert {key: texts(m, key) for key in m} == expected
        with opened(killed) as m:
            assert {key: texts(m, key) for key in m} == expected
            assert m.verify() == []


def by_sectors(data, log, chance):
    """Return a main file into which a checkpoint has moved some sectors of the first transactions, when the power was cut."""
    pages, length = frames(log[: chance.randint(32, len(log))])
    data = bytearray(data)
    for page, content in pages.items():
        first = (page - 1) * length
        data += b"\0" * (first + length - len(data))
        for sector in range(0, length, 512):
            if chance.random() < 0.5:
                data[first + sector : first + sector + 512] = content[sector : sector + 512]
    return bytes(data)


#: What another program may do to the highest ids that SQLite keeps.
FORGETS = (
    "DELETE FROM sqlite_sequence",
    "UPDATE sqlite_sequence SET seq = CAST(seq AS TEXT)",
    "UPDATE sqlite_sequence SET seq = seq + 0.5",
    "INSERT INTO sqlite_sequence VALUES ('messages', 5)",
    "INSERT INTO sqlite_sequence VALUES ('messages', -1)",
    "INSERT INTO sqlite_sequence SELECT printf('%040d', id), 7 FROM messages, (SELECT 1 UNION SELECT 2)",
)


def by_statement(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        for statement in statements:
            connection.execute(statement).fetchall()
        connection.commit()


NUMBERS = ("-5", "2147483647", "-2147483648", "-268435457", "268435455", "5")


@examples(5, many=50)
@given(seed=st.integers(0, 2**32))
def test_a_power_cut_in_any_checkpoint_of_any_history_is_no_strange_log(tmp_path_factory, seed):
    chance = random.Random(seed)
    place = tmp_path_factory.mktemp("history")
    path = place / "chats.db"
    with opened(path):
        pass
    start = 2 ** chance.choice([0, 7, 15, 23, 31, 47]) - chance.randint(1, 6)
    by_statement(path, f"INSERT INTO sqlite_sequence VALUES ('messages', {max(start, 0)})")
    steps = ["say"] * 4 + [
        "many",
        "summary",
        "delete",
        "passive",
        "checkpoint",
        "close",
        "forget",
        "erase",
        "lease",
        "rewrite",
    ]
    with opened(path) as m, opened(path) as other:
        for number in range(chance.randint(2, 14)):
            key = f"k{number % 3}"
            match chance.choice(steps):
                case "say" | "many" as step:
                    say(chance.choice([m, other]), *(f"{one}" for one in range(60 if step == "many" else 2)), key=key)
                case "summary":
                    m.set_summary(key, f"{number}")
                    m.save(key)
                case "delete":
                    m.delete(key)
                case "passive":
                    by_statement(path, "PRAGMA wal_checkpoint(PASSIVE)")
                case "checkpoint":
                    by_itself(other, path)
                case "close":
                    m.close()
                    m = opened(path)
                case "forget":
                    by_statement(path, chance.choice(FORGETS))
                case "erase":
                    m._residents.store.erase(["another"])
                case "lease":
                    m._residents.store.take_lease(key, "owner", 0)
                case "rewrite":
                    by_statement(
                        path,
                        chance.choice(
                            [
                                "VACUUM",
                                f"CREATE TABLE mine{number} (a)",
                                f"PRAGMA schema_version = {chance.choice(NUMBERS)}",
                            ]
                        ),
                    )
        with m:
            say(m, "last")
            killed = kept(path, place / "killed")
            expected = {key: texts(m, key) for key in m}
    before = files(killed)
    for _ in range(4):
        for end, content in before.items():
            Path(f"{killed}{end}").write_bytes(content)
        killed.write_bytes(by_sectors(before[""], before["-wal"], chance))
        with opened(killed, read_only=True) as m:
            assert {key: texts(m, key) for key in m} == expected


def test_ids_that_another_program_has_forgotten_are_no_reason_to_refuse(path, tmp_path):
    with opened(path) as m:
        say(m, *"ab")
        by_itself(m, path)
        say(m, *"cd")
        by_statement(path, "DELETE FROM sqlite_sequence")
        by_statement(path, "PRAGMA wal_checkpoint(PASSIVE)")
        killed = kept(path, tmp_path / "killed")
    assert found(killed) == list("abcd")


DAMAGES = (
    "DELETE FROM last_commit",
    "UPDATE last_commit SET latest = 'x', schema = x'00'",
    "UPDATE last_commit SET latest = x'00'",
)


@pytest.mark.parametrize("number", NUMBERS)
def test_any_number_of_the_schema_is_no_reason_to_refuse(number, path, tmp_path):
    """It was compared with and without its sign; and below -2**28 it took nine characters, so that the mark was not seen."""
    killed = []
    with opened(path) as m:
        say(m, "first")
        for begins, lasts in ((True, "1"), (False, "2"), (True, "3")):
            by_itself(m, path)
            if not begins:
                say(m, "begun")
            by_statement(path, f"PRAGMA schema_version = {number}", f"CREATE TABLE mine{lasts} (a)")
            say(m, "said")
            m._residents.store.take_lease(KEY, "owner", 0)
            killed.append((kept(path, tmp_path / f"{lasts} killed"), texts(m)))
            by_statement(path, "PRAGMA wal_checkpoint(PASSIVE)")
            killed.append((kept(path, tmp_path / f"{lasts} moved"), texts(m)))
    for place, expected in killed:
        assert found(place) == expected


@pytest.mark.parametrize("what", ["DROP TABLE last_commit", *DAMAGES])
def test_a_log_that_begins_with_another_change_of_marks_is_no_strange_log(what, path, tmp_path):
    with opened(path) as m:
        say(m, "a")
        by_itself(m, path)
        by_statement(path, what)
        with opened(path) as other:
            say(other, *"bc")
            killed = kept(path, tmp_path / "killed")
    assert found(killed) == list("abc")


def test_a_table_made_while_an_index_is_begun_anew_is_no_reason_to_refuse(path, tmp_path, monkeypatch):
    """The erasure noted the number of the schema of before it let another program in."""

    def purge(writer, *, indexed):
        writer.execute("ROLLBACK")
        by_statement(path, "CREATE TABLE mine (a)", "PRAGMA wal_checkpoint(TRUNCATE)")
        writer.execute("BEGIN IMMEDIATE")
        raise sqlite3.DatabaseError("the index is damaged")

    with opened(path) as m:
        say(m, "a")
        database = m._residents.store._database
        monkeypatch.setattr(erasing, "purge", purge)
        database.locked(erasing._merge_index, database)
        say(m, "b")
        killed = kept(path, tmp_path / "killed")
    assert found(killed) == list("ab")


def test_a_log_that_grows_while_it_is_looked_at_is_read_to_its_end(path, tmp_path, monkeypatch):
    """A frame was appended between two reads: ``struct.error: unpack requires a buffer of 24 bytes``."""
    with opened(path) as m:
        say(m, *"ab")
        killed = kept(path, tmp_path / "killed")
    log = Path(f"{killed}-wal").read_bytes()

    class Growing(io.BytesIO):
        def read(self, size=-1, /):
            data = super().read(size)
            if size == 24 and not data:
                self.write(log[32:])
                self.seek(len(log))
            return data

    monkeypatch.setattr(leftovers, "_opened", lambda _: Growing(log))
    assert found(killed) == list("ab")


def test_a_log_that_begins_with_a_large_commit_is_told_from_another_ones(path, tmp_path):
    """No more than 4,096 pages were looked at, and a backup of before was taken."""
    with opened(path) as m:
        say(m, *("x" * 3000 for _ in range(300)), key="gone")
    by_file(path, tmp_path / "backup.db")
    with opened(path) as m:
        m.delete("gone")
        say(m, "a")
    with opened(path) as m:
        for _ in range(4):
            m.add_message(KEY, "user", "y" * 4_500_000)
        m.save(KEY)
        say(m, "b", key="gone")
        killed = kept(path, tmp_path / "killed")
    put_beside_its_log(tmp_path / "backup.db", killed)


@examples(7)
@given(cut=st.floats(0, 1), zeros=st.booleans())
def test_a_log_that_was_torn_anywhere_is_no_strange_log(tmp_path_factory, cut, zeros):
    tmp_path = tmp_path_factory.mktemp("torn")
    path = tmp_path / "chats.db"
    with opened(path) as m:
        say(m, "first")
    with opened(path) as m:
        say(m, *"abcdef")
        killed = kept(path, tmp_path / "killed")
    log = Path(f"{killed}-wal").read_bytes()
    end = int(cut * len(log))
    Path(f"{killed}-wal").write_bytes(log[:end] + (b"\0" * (len(log) - end) if zeros else b""))
    said = found(killed)
    assert said == ["first", *"abcdef"][: len(said)]
    assert len(said) >= 1


def test_frames_of_an_earlier_log_behind_a_torn_one_are_no_marks(path, tmp_path):
    """A power cut may leave the head of a frame of the new log, and the page of the old one."""
    with opened(path) as m:
        say(m, *"abcdef")
        killed = kept(path, tmp_path / "killed")
    old = Path(f"{killed}-wal").read_bytes()
    with opened(path) as m:
        say(m, *"ghij")
    with closing(sqlite3.connect(path)) as connection:  # another program: its commits have no marks
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE mine (a)")
        connection.commit()
        killed = kept(path, tmp_path / "killed")
    new = Path(f"{killed}-wal").read_bytes()
    size = struct.unpack(">I", new[8:12])[0]
    tail = bytearray(old[len(new) :])
    for place in range(0, len(tail) - 24, 24 + size):
        tail[place + 8 : place + 16] = new[16:24]  # the salts of the new log
    Path(f"{killed}-wal").write_bytes(new + tail)
    assert found(killed) == list("abcdefghij")


def index(connection, _):
    connection.execute("CREATE INDEX mine ON messages (checksum)")
    connection.commit()


def rewritten(connection, _):
    connection.execute("VACUUM")


def mine(connection, _):
    connection.execute("CREATE TABLE mine (a)")
    connection.execute("INSERT INTO mine VALUES (zeroblob(100000))")
    connection.commit()


def restored(connection, tmp_path):
    """As ``.restore`` does: in one transaction that writes every page."""
    with closing(sqlite3.connect(tmp_path / "backup.db")) as source:
        source.backup(connection)


OTHERS = {one.__name__: one for one in (index, rewritten, mine, restored)}


@pytest.mark.parametrize("after", ["nothing", "saves", "a new log and saves"])
@pytest.mark.parametrize("what", sorted(OTHERS))
def test_what_other_programs_commit_is_no_strange_log(what, after, path, tmp_path):
    with opened(path) as m:
        say(m, *"ab")
    by_pages(path, tmp_path / "backup.db")
    with opened(path) as m:
        say(m, "c")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    OTHERS[what](connection, tmp_path)
    expected = list("ab" if what == "restored" else "abc")
    if after == "a new log and saves":
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    if after != "nothing":
        with opened(path) as m:
            say(m, "d")
            expected.append("d")
            killed = kept(path, tmp_path / "killed")
    else:
        killed = kept(path, tmp_path / "killed")
    connection.close()
    assert Path(f"{killed}-wal").stat().st_size > 0
    with opened(killed, read_only=True) as m:
        assert texts(m) == expected
    assert found(killed) == expected


def test_a_database_of_an_older_version_gets_its_marks(path, tmp_path):
    with opened(path) as m:
        say(m, "old")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE last_commit")
        connection.commit()
    by_file(path, tmp_path / "backup.db")
    with opened(path) as m:
        say(m, "new")
        killed = kept(path, tmp_path / "killed")
    assert found(killed) == ["old", "new"]
    with opened(path) as m:
        say(m, "newest")
        killed = kept(path, tmp_path / "killed")
    shutil.copyfile(tmp_path / "backup.db", tmp_path / "other.db")
    with opened(tmp_path / "other.db"):
        pass
    shutil.copyfile(tmp_path / "other.db", killed)
    with pytest.raises(StorageError, match="its -wal belongs to another"):
        opened(killed)


@pytest.mark.parametrize("damage", DAMAGES)
def test_marks_that_are_damaged_are_no_reason_to_refuse(damage, path, tmp_path):
    """The second mark after it names whole ids, and not the damaged one."""
    with opened(path) as m:
        say(m, "one")
    by_statement(path, damage)
    with opened(path) as m:
        say(m, "two")
        killed = kept(path, tmp_path / "killed")
        m.set_summary(KEY, "they said one, two")
        m.save(KEY)
        later = kept(path, tmp_path / "later")
    assert found(killed) == found(later) == ["one", "two"]


# Kills


WRITER = """
import os, sys
from session_manager.stores.sqlite import checkpoints
from session_manager import SessionManager
path, said, rounds = sys.argv[1], open(sys.argv[2], "a", buffering=1), int(sys.argv[3])
checkpoints._CHECKPOINT_BYTES = 30_000
for _ in range(rounds):
    with SessionManager(f"sqlite:{path}", archive=True) as m:
        for number in range(4):
            text = os.urandom(8).hex()
            m.add_message(f"k{number % 2}", "user", text + "x" * 2000)
            m.save(f"k{number % 2}")
            print(text, file=said)
        m.truncate_history("k0", 5)
        m.save("k0")
        m.search("needle")
        m.compact("k0")
"""


def writer(path, *, rounds, trace=()):
    words = ["-c", textwrap.dedent(WRITER), str(path), f"{path}.said", str(rounds)]
    with open(f"{path}.failed", "ab") as failed:
        if not trace:
            return python(*words, stderr=failed)
        command = [*trace, sys.executable, *words]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=failed)


def check_all_is_there(path):
    """Open what a kill has left: nothing that was acknowledged is missing, and nothing is refused."""
    with opened(path, archive=True) as m:
        assert m.verify() == []
        there = {text[:16] for key in m for text in [*texts(m, key), *(one.content for one in m.get_archive(key))]}
    said = Path(f"{path}.said").read_text().split() if os.path.exists(f"{path}.said") else []
    assert set(said) <= there
    return len(said)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.faults)])
def test_what_killed_processes_leave_is_never_refused(kills, path):
    """Two processes at a time, with checkpoints all the time, which are killed at random moments."""
    chance = random.Random(1)
    for _ in range(kills):
        workers = [writer(path, rounds=1000) for _ in range(2)]
        deadline = time.monotonic() + 60
        size = os.path.getsize(f"{path}.said") if os.path.exists(f"{path}.said") else 0
        while not os.path.exists(f"{path}.said") or os.path.getsize(f"{path}.said") <= size:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(chance.random() * 0.1)  # a random moment
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            assert worker.wait(60) == -signal.SIGKILL, Path(f"{path}.failed").read_text()
        check_all_is_there(path)
    assert check_all_is_there(path) >= kills


@pytest.mark.parametrize("read_only", [False, True])
def test_a_log_that_is_in_use_is_never_refused(read_only, path, size):
    """A reader looks at it without a lock, while its writer moves it into the database and begins it anew."""
    worker = writer(path, rounds=1000)
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(f"{path}.said") or not os.path.getsize(f"{path}.said"):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        logs = set()
        while len(logs) < size.of(8, 20, 200):
            assert time.monotonic() < deadline
            with opened(path, read_only=read_only) as m:
                assert len(m) in (1, 2)
            logs.add(log_header(f"{path}-wal"))
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait(60)


CALLS = ("pwrite64", "fdatasync", *(pytest.param(call, marks=pytest.mark.faults) for call in ("ftruncate", "unlink")))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("begun", ["nothing", "a database", "a copy by SQLite"])
def test_a_kill_at_any_system_call_leaves_what_can_be_opened(begun, call, size, path, tmp_path):
    """A copy by SQLite is not in WAL mode: opening it leaves a journal, which is no strange one.

    A smoke run kills at one of the calls, `--faults` at ten, a soak at each.
    """
    if begun != "nothing":
        with opened(tmp_path / "source.db") as m:
            say(m, *"abc")
        (by_vacuum if begun == "a copy by SQLite" else by_file)(tmp_path / "source.db", tmp_path / "begin.db")

    def run(*inject):
        for place in tmp_path.glob("chats.db*"):
            place.unlink()
        if begun != "nothing":
            shutil.copyfile(tmp_path / "begin.db", path)
        trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}", *inject]
        code = writer(path, rounds=1, trace=trace).wait(120)
        assert code in (0, -signal.SIGKILL), Path(f"{path}.failed").read_text()
        ended = code == 0
        check_all_is_there(path)
        assert begun == "nothing" or found(path) == list("abc")
        return ended

    assert run("--seccomp-bpf")  # which is quicker, but injects nothing
    calls = (tmp_path / "trace").read_text().count(f"{call}(")
    if not calls:
        assert call != "pwrite64" or pytest.skip("this machine does not let strace trace")
        return
    places = size.of(1, 10, calls)
    for when in sorted({1 + (calls - 1) * (number + 1) // (places + 1) for number in range(places)}):
        assert not run("-e", f"inject={call}:signal=SIGKILL:when={when}")


# Journals


def hot(path, statement="UPDATE messages SET checksum = checksum + 1"):
    """Leave what a program leaves that is killed while it writes a database that is not in WAL mode."""
    place = path.parent / "hot"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(statement)
        connection.execute("CREATE TABLE more (a)")
        connection.execute("INSERT INTO more VALUES (zeroblob(200000))")
        killed = kept(path, place)
    finally:
        connection.execute("ROLLBACK")
        connection.close()
    assert Path(f"{killed}-journal").read_bytes()[:1] == b"\xd9"
    return killed


@pytest.mark.parametrize("read_only", [False, True])
def test_a_journal_of_another_database_is_refused_and_left_as_it_is(path, tmp_path, read_only):
    """It was rolled back over the database."""
    for name, count in (("chats.db", 30), ("other.db", 4)):
        with opened(tmp_path / name) as m:
            say(m, *(f"{name} {number}" for number in range(count)))
    expected = found(path)
    journal = Path(f"{hot(tmp_path / 'other.db')}-journal")
    shutil.copyfile(journal, f"{path}-journal")
    before = files(path)
    for _ in range(2):
        with pytest.raises(StorageError, match="its -journal would be rolled back over it"):
            opened(path, read_only=read_only)
    assert files(path) == before
    os.unlink(f"{path}-journal")
    assert found(path) == expected


def test_a_journal_that_another_program_left_is_left_to_that_program(path):
    with opened(path) as m:
        say(m, *"abc")
    killed = hot(path)
    with pytest.raises(StorageError, match="let that one open it once"):
        opened(killed)
    with closing(sqlite3.connect(killed)) as connection:
        connection.execute("SELECT count(*) FROM messages").fetchone()
    assert found(killed) == list("abc")


def test_a_journal_of_a_database_being_created_spares_a_backup(path, tmp_path):
    """It holds an empty database, and the backup became one."""
    with opened(tmp_path / "backup.db") as m:
        say(m, *"abc")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA application_id = 1")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE more (a)")
        connection.execute("INSERT INTO more VALUES (zeroblob(200000))")
        killed = kept(path, tmp_path / "killed")
    shutil.copyfile(tmp_path / "backup.db", killed)
    with pytest.raises(StorageError, match="its -journal would be rolled back"):
        opened(killed)
    os.unlink(f"{killed}-journal")
    assert found(killed) == list("abc")


def test_a_journal_with_other_free_pages_is_not_rolled_back(path, tmp_path):
    """It took pages of sessions for free ones, and the backup was damaged: `verify` found a bad freelist."""
    with opened(path) as m:
        say(m, *("x" * 2000 for _ in range(20)), key="gone")
        say(m, *"abc")
        m.delete("gone")
    before = shutil.copyfile(path, tmp_path / "before.db")
    with opened(path) as m:
        say(m, *("y" * 2000 for _ in range(20)), key="new")
    sizes = []
    for database in (before, path):
        with closing(sqlite3.connect(database)) as connection:
            sizes.append(
                [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")]
            )
    (pages, free), (pages_now, free_now) = sizes
    assert pages == pages_now
    assert free > free_now

    with closing(sqlite3.connect(before, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA user_version = 2")
        journal = bytearray(Path(f"{before}-journal").read_bytes())
    journal[:12] = bytes.fromhex("d9d505f920a163d7 00000001")  # what SQLite writes there when it syncs the journal
    Path(f"{path}-journal").write_bytes(journal)

    with pytest.raises(StorageError, match="its -journal would be rolled back"):
        opened(path)
    os.unlink(f"{path}-journal")
    assert found(path) == list("abc")


def test_a_journal_beside_no_database_is_not_thrown_away(path, tmp_path):
    with opened(path) as m:
        say(m, *"abc")
    killed = hot(path)
    killed.unlink()
    with pytest.raises(StorageError, match="its -journal would be rolled back"):
        opened(killed)
    assert os.path.exists(f"{killed}-journal")


@pytest.mark.parametrize("content", [b"", b"\0" * 600, b"something else" * 50], ids=["empty", "ended", "foreign"])
def test_a_journal_that_is_over_is_no_strange_one(path, content):
    with opened(path) as m:
        say(m, *"abc")
    Path(f"{path}-journal").write_bytes(content)
    assert found(path) == list("abc")
