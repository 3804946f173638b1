"""`backup` beside a bot that writes, and `verify_backup`."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import zlib
from functools import partial

import attrs
import pytest

from session_manager import (
    InvalidStorageError,
    SessionManager,
    StorageError,
    UnsupportedFormatError,
    converter,
    open_store,
)
from session_manager.operations import Backup, backing_up, backup, verify_backup
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.staging import Staging
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import FaultyStore
from tests.operations.storages import FILED, KINDS, Mortal, bytes_in, filled, held, path_of, say, url_of
from tests.support.killed_files import KilledError
from tests.support.processes import python

STORES = {"snapshot": SnapshotStore, "log": LogStore}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "backup"


def opened(target, kind):
    """Return the URL of a backup."""
    return f"sqlite:{target / 'sessions.db'}" if kind == "sqlite" else f"{kind}:{target}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["url", "path", "store"])
def test_a_backup_holds_what_the_storage_holds(kind, given, tmp_path, target):
    url = filled(url_of(kind, tmp_path))
    with SessionManager(open_store(url)) as m:
        storage = {"url": url, "path": path_of(url), "store": m._residents.store}[given]
        made = backup(storage, target)
        say(m, "one", "later")
        assert held(opened(target, kind)) == {**held(m._residents.store), "one": [f"one {text}" for text in "abcd"]}
        m._residents.store.close()
    assert (made.kind, made.sessions, made.messages, made.archived, made.ok) == (kind, 2, 4, 4, True)
    assert made.size == sum(len(data) for name, data in bytes_in(target).items() if "manifest" not in name)
    assert verify_backup(target) == made
    assert converter.structure(json.loads(json.dumps(made.to_dict())), Backup) == made


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_only_reads_the_storage(kind, tmp_path, target):
    url = filled(url_of(kind, tmp_path))
    (tmp_path / "b").mkdir()
    with SessionManager(url) as m:
        m.get_history("one")
        before = bytes_in(tmp_path)
        backup(url, tmp_path / "b" / "backup")
        assert {name: data for name, data in bytes_in(tmp_path).items() if "/b/" not in name} == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_is_private_and_one_directory(kind, tmp_path):
    url = filled(url_of(kind, tmp_path))
    old = os.umask(0o277)
    try:
        backup(url, tmp_path / "new" / "backup")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "new" / "backup").iterdir()}
    assert modes == {0o600}
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "new/backup")} == {0o700}
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["backup"]


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_told_to_the_end(kind, tmp_path, target):
    told = []
    backup(filled(url_of(kind, tmp_path), *"abc"), target, progress=lambda *one: told.append(one))
    if kind == "sqlite":
        assert told[-1][0] == told[-1][1] > 1
    else:
        assert told == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    told.clear()
    verify_backup(target, progress=lambda *one: told.append(one))
    assert told[-1] == (len(told), len(told), "c")


# Beside a writer


WRITER = """
import sys
from session_manager import SessionManager

with SessionManager(sys.argv[1], archive=True) as m:
    number = 0
    while True:
        for key in map(str, range(8)):
            m.add_message(key, "user", f"{number}")
            if number % 3 == 2:
                m.truncate_history(key, keep_last=2)
            m.save(key)
        number += 1
        print(number, flush=True)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_of_a_running_bot_loses_nothing(kind, size, tmp_path):
    """Each message that was dropped meanwhile is in the session or in its archive."""
    url = url_of(kind, tmp_path)
    writer = python("-c", WRITER, url, stdout=subprocess.PIPE, text=True)
    try:
        for number in range(size.of(2, 6, 30)):
            for _ in range(4):
                assert writer.stdout.readline(), "the writer has ended"
            target = tmp_path / f"backup {number}"
            made = backup(url, target)
            assert verify_backup(target) == made
            for texts in held(opened(target, kind)).values():
                assert texts == [str(one) for one in range(len(texts))]
                assert len(texts) >= 4 * (number + 1)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


class Meddled(Files):
    """A directory in which something happens before an archive is read."""

    happens = None

    def open_read(self, name):
        if name.endswith(".archive.jsonl") and Meddled.happens is not None:
            work, Meddled.happens = Meddled.happens, None
            work()
        return super().open_read(name)


@pytest.mark.parametrize("kind", FILED)
@pytest.mark.parametrize("what", ["a save", "a clear", "a deletion", "a new one"])
def test_what_happens_between_a_session_and_its_archive(kind, what, tmp_path):
    """The session was copied with the archive of the session that came after a clear: four messages were in neither."""
    url = filled(url_of(kind, tmp_path), "one")
    with (
        SessionManager(url, archive=True) as m,
        SessionManager(STORES[kind](tmp_path / "chats", files=Meddled, read_only=True)) as reader,
    ):

        def work():
            if what == "a save":
                say(m, "one", "e", "f", "g")
            if what == "a clear":
                m.clear("one")
            if what in ("a deletion", "a new one"):
                m.delete("one")
            if what in ("a clear", "a new one"):
                say(m, "one", *"xyz")

        Meddled.happens = work
        pair = reader._residents.store.pair("one")
        assert Meddled.happens is None
        if what == "a deletion":
            assert pair is None
            return
        copied = tmp_path / "copied"
        copied.mkdir(0o700)
        for name, data in pair.files:
            (copied / name).write_bytes(data)
        assert held(f"{kind}:{copied}") == {"one": held(url)["one"]}
        reader._residents.store.close()


@pytest.mark.parametrize("kind", FILED)
@pytest.mark.parametrize("clears", [False, True])
def test_a_session_that_always_moves_is_taken_if_it_stays_the_same(kind, clears, tmp_path):
    url = filled(url_of(kind, tmp_path), "one")
    with SessionManager(url, archive=True) as m:
        store = STORES[kind](tmp_path / "chats", files=Meddled, read_only=True)

        def again():
            Meddled.happens = again
            if clears:
                m.clear("one")
            say(m, "one", "more")

        Meddled.happens = again
        if clears:
            with pytest.raises(StorageError, match="all the time"):
                store.pair("one")
        else:
            assert store.pair("one").version.generation == m.get("one").generation
        Meddled.happens = None
        store.close()


@pytest.mark.parametrize("kind", FILED)
def test_a_session_that_is_renamed_meanwhile_is_there_once(kind, tmp_path, target):
    """Listed as one key, and read after it had got another, it was missing; copied before, it was there twice."""
    keys = [f"{number:02}" for number in range(66)]
    with SessionManager(url_of(kind, tmp_path)) as m:
        for key in keys:
            m.add_message(key, "user", key)
        m.save_all()

        def rename(done, total, key):
            if key == "00":
                m.rename("01", "x")  # which has been copied
                m.rename("65", "y")  # which has only been listed

        made = backup(url_of(kind, tmp_path), target, progress=rename)
        expected = held(url_of(kind, tmp_path))
    assert held(opened(target, kind)) == expected
    assert verify_backup(target).ok
    assert made.sessions == 66


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_takes_the_key_of_a_copied_one_is_there(kind, tmp_path, target):
    """It was listed under its old key, and read under neither: the backup had the session that was deleted in its place."""
    keys = [f"{number:02}" for number in range(66)]
    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        for key in keys:
            m.add_message(key, "user", key)
            m.add_message(key, "user", "again")
            m.truncate_history(key, 1)
        m.save_all()

        def rename(done, total, key):
            assert done <= total
            if key == "00" and "65" in m:
                m.delete("00")
                m.rename("65", "00")
                m.rename("01", "x")
                m.rename("64", "01")
                m.add_message("64", "user", "a new one")
                m.save_all()

        made = backup(url_of(kind, tmp_path), target, progress=rename)
        expected = held(url_of(kind, tmp_path))
    assert held(opened(target, kind)) == expected
    assert verify_backup(target).ok
    assert made.sessions == 66


# What is not right in the storage


@pytest.mark.parametrize("kind", FILED)
def test_a_damaged_session_is_copied_as_it_is_and_named(kind, tmp_path, target):
    url = filled(url_of(kind, tmp_path))
    (path,) = (tmp_path / "chats").glob("one.session.*")
    path.write_bytes(path.read_bytes()[:-9] + b"something")
    made = backup(url, target)
    assert (target / path.name).read_bytes() == path.read_bytes()
    assert kind == "snapshot" or [one.key for one in made.unreadable] == ["one"]
    found = verify_backup(target)
    assert ({one.key for one in found.unreadable}, found.damaged, found.ok) == ({"one"}, (), False)


def test_a_torn_record_is_left_out(tmp_path, target):
    url = filled(url_of("log", tmp_path))
    with open(tmp_path / "chats" / "one.session.jsonl", "ab") as file:
        file.write(b'{"changes":[{"cha')
    assert backup(url, target).ok
    assert verify_backup(target).ok
    assert held(opened(target, "log")) == held(url)


@pytest.mark.parametrize("kind", FILED)
def test_an_archive_without_its_session_is_copied(kind, tmp_path, target):
    url = filled(url_of(kind, tmp_path))
    (path,) = (tmp_path / "chats").glob("one.session.*")
    path.unlink()
    backup(url, target)
    assert (target / "one.archive.jsonl").exists()
    assert "archive without its session" in verify_backup(target).unreadable[0].reason


# Mistakes, and calls that are cut short


def test_what_cannot_be_backed_up_is_refused(tmp_path, target):
    url = filled(url_of("snapshot", tmp_path))
    for storage in ("memory:", MemoryStore(), FaultyStore(MemoryStore()), "nothing:x"):
        with pytest.raises(InvalidStorageError):
            backup(storage, target)
    with pytest.raises(StorageError, match="is not there"):
        backup(tmp_path / "nowhere", target)
    with pytest.raises(InvalidStorageError, match="lies in the storage"):
        backup(url, tmp_path / "chats" / "backup")
    with pytest.raises(TypeError, match="progress"):
        backup(url, target, progress=1)
    target.mkdir()
    with pytest.raises(InvalidStorageError, match="is there already"):
        backup(url, target)
    assert os.listdir(target) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be created"):
        backup(url, tmp_path / "file" / "backup")


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_that_is_given_up_leaves_nothing(kind, tmp_path, target):
    url = filled(url_of(kind, tmp_path))

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(url, target, progress=interrupt)
    assert list(tmp_path.glob("backup*")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_told_and_leaves_nothing(kind, tmp_path, target, monkeypatch):
    url = filled(url_of(kind, tmp_path))

    class Full(Files):
        def sync(self, fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(backing_up, "Staging", partial(Staging, files=Full))
    with pytest.raises(StorageError, match="No space left"):
        backup(url, target)
    assert list(tmp_path.glob("backup*")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_anywhere_leaves_no_part_under_the_name(kind, tmp_path, target, monkeypatch):
    url = filled(url_of(kind, tmp_path))
    expected = held(url)
    monkeypatch.setattr(backing_up, "Staging", partial(Staging, files=Mortal))
    number, ended = 0, False
    while not ended:
        Mortal.left = number
        try:
            backup(url, target)
            ended = True
        except KilledError:
            pass
        Mortal.left = 10**9
        if target.exists():
            assert verify_backup(target).ok
            assert held(opened(target, kind)) == expected
            for one in target.iterdir():
                one.unlink()
            target.rmdir()
        number += 1
    assert number > 6


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_durable_before_it_has_its_name(kind, tmp_path, target, monkeypatch):
    """A power cut left a backup of empty files."""
    url = filled(url_of(kind, tmp_path))
    monkeypatch.setattr(backing_up, "Staging", partial(Staging, files=Mortal))
    monkeypatch.setattr(Mortal, "log", [])
    backup(url, target)
    calls = [name for name, _, _ in Mortal.log]
    files = len(os.listdir(target))
    renamed = calls.index("rename")
    assert calls[:renamed].count("open_new") == files
    assert calls[:renamed].count("sync") == files + calls[:renamed].count("sync_directory")
    assert calls[renamed - 2 :] == ["sync_directory", "sync", "rename", "sync_directory", "sync"]
    assert Mortal.log[renamed - 2][1] != Mortal.log[renamed + 1][1] == str(tmp_path)


# Checking a backup


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_that_has_changed_is_noticed(kind, tmp_path, target):
    backup(filled(url_of(kind, tmp_path), "one"), target)
    for path in sorted(target.iterdir()):
        data = path.read_bytes()
        for place in range(0, len(data), max(len(data) // 20, 1)):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            if path.name == "backup.manifest":
                with pytest.raises((StorageError, InvalidStorageError)):
                    verify_backup(target)
            else:
                assert [os.path.basename(one.path) for one in verify_backup(target).damaged] == [path.name]
        path.write_bytes(data)
        if path.name != "backup.manifest":
            path.rename(target / "elsewhere")
            reasons = [one.reason for one in verify_backup(target).damaged]
            assert reasons == ["is missing", "is not in the manifest"]
            (target / "elsewhere").rename(path)
    assert verify_backup(target).ok


def test_a_directory_that_is_no_backup_is_refused(tmp_path, target):
    filled(url_of("log", tmp_path))
    for path in (tmp_path / "chats", tmp_path / "nowhere", tmp_path / "chats" / "one.session.jsonl"):
        with pytest.raises(InvalidStorageError, match="is not a backup"):
            verify_backup(path)


def test_a_backup_of_a_newer_version_is_refused(tmp_path, target):
    backup(filled(url_of("log", tmp_path)), target)
    path = target / "backup.manifest"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"backup/1", b"backup/2"))
    with pytest.raises(UnsupportedFormatError):
        verify_backup(target)
    for old, new in ((b'"kind":"log"', b'"kind":"tar"'), (b'"name":"one', b'"name":"../one')):
        covered = data[: data.rindex(b',"crc32"')].replace(old, new)
        path.write_bytes(covered + b',"crc32":"%08x"}\n' % zlib.crc32(covered))
        with pytest.raises(StorageError):
            verify_backup(target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_is_read_like_a_storage_and_never_written(kind, tmp_path, target):
    backup(filled(url_of(kind, tmp_path)), target)
    before = bytes_in(target)
    with SessionManager(opened(target, kind), read_only=True) as m:
        assert len(m) == 2
    for storage in (target, f"snapshot:{target}", f"log:{target}", opened(target, kind)):
        with pytest.raises(InvalidStorageError):
            SessionManager(storage)
    if kind == "sqlite":
        with pytest.raises(InvalidStorageError, match=r"sessions\.db"):
            SessionManager(target, read_only=True)
    assert bytes_in(target) == before


def test_the_value_says_whether_all_is_well(tmp_path, target):
    made = backup(filled(url_of("log", tmp_path)), target)
    finding = verify_backup(target).unreadable
    assert made.ok
    assert finding == ()
    assert attrs.asdict(made)["path"] == str(target)
