"""One storage, one name: links, second names, relative paths, and files that are swapped while they are opened."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from session_manager import InvalidStorageError, SaveFailedError, SessionManager, StorageError, StorageLockedError
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.processes import run_python

ROOT = Path(__file__).parents[1]
KEY = "telegram:42"
DIRECTORIES = {"snapshot": SnapshotStore, "log": LogStore}


def say(m, text):
    m.add_message(KEY, "user", text)
    m.save(KEY)


def texts(m):
    return [message.content for message in m.get_history(KEY)]


def killed(url, *said):
    """Save messages in a process that is killed then."""
    script = f"""
import os, signal
from session_manager import SessionManager
m = SessionManager({str(url)!r})
for text in {said!r}:
    m.add_message({KEY!r}, "user", text)
    m.save({KEY!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python("-c", script).returncode == -signal.SIGKILL


@pytest.fixture
def real(tmp_path):
    """A directory, and a link to it beside it."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    return tmp_path / "real"


# SQLite


@pytest.mark.parametrize("how", ["file", "directory", "link to a link", "parent of a link"])
def test_a_database_behind_a_link_has_one_lock_and_one_log(how, tmp_path, real):
    """The lock was named after the link, so that two writers were inside at once."""
    path = real / "chats.db"
    with SessionManager(f"sqlite:{path}") as m:
        say(m, "one")
    if how == "file":
        link = tmp_path / "elsewhere.db"
        link.symlink_to(path)
    elif how == "link to a link":
        (tmp_path / "inner.db").symlink_to(path)
        link = tmp_path / "elsewhere.db"
        link.symlink_to("inner.db")
    elif how == "directory":
        link = tmp_path / "link" / "chats.db"
    else:
        (real / "sub").mkdir()
        (tmp_path / "deep").symlink_to("real/sub")
        link = tmp_path / "deep" / ".." / "chats.db"
    with closing(SQLiteStore(path)) as store, closing(SQLiteStore(link)) as other:
        assert other.path == store.path == str(path)
        assert store._database._lock.acquire(0)
        assert not other._database._lock.acquire(0)
        store._database._lock.release()
        with SessionManager(other) as m:
            say(m, "two")
        assert other._database._checkpoints._log_size() == os.stat(f"{path}-wal").st_size > 0
    with SessionManager(link, read_only=True) as m:
        assert texts(m) == ["one", "two"]
    assert not list(tmp_path.glob("*.lock"))


def test_what_a_killed_process_saved_through_a_link_is_there(tmp_path, real):
    (tmp_path / "elsewhere.db").symlink_to(real / "chats.db")
    with SessionManager(f"sqlite:{real / 'chats.db'}") as m:
        say(m, "one")
    killed(f"sqlite:{tmp_path / 'elsewhere.db'}", "two", "three")
    with SessionManager(f"sqlite:{real / 'chats.db'}") as m:
        assert texts(m) == ["one", "two", "three"]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_with_a_second_name_is_refused(tmp_path, read_only):
    """After a kill, the other name showed nothing, and took a save that was lost."""
    path, other = tmp_path / "chats.db", tmp_path / "other.db"
    killed(f"sqlite:{path}", "one")
    os.link(path, other)
    before = {place.name: place.read_bytes() for place in tmp_path.iterdir() if place.name != "chats.db.lock"}
    for name in (path, other):
        with pytest.raises(InvalidStorageError, match=r"second name.*remove the other names"):
            SessionManager(f"sqlite:{name}", read_only=read_only)
        with pytest.raises(InvalidStorageError, match="second name"):
            SQLiteStore(name, read_only=read_only)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not (tmp_path / "other.db-wal").exists()
    os.unlink(other)
    with SessionManager(f"sqlite:{path}") as m:
        assert texts(m) == ["one"]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("how", ["link", "hard link", "directory"])
@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_a_file_beside_a_database_is_no_link(end, how, read_only, tmp_path):
    path, target = tmp_path / "chats.db", tmp_path / "target"
    with SessionManager(f"sqlite:{path}") as m:
        say(m, "one")
    beside = tmp_path / f"chats.db{end}"
    target.write_bytes(b"somebody else's")
    if how == "link":
        beside.symlink_to(target)
    elif how == "hard link":
        os.link(target, beside)
    else:
        beside.mkdir()
    with pytest.raises(InvalidStorageError, match=f"its {end} "):
        SQLiteStore(path, read_only=read_only)
    assert target.read_bytes() == b"somebody else's"
    beside.rmdir() if how == "directory" else beside.unlink()
    with SessionManager(f"sqlite:{path}") as m:
        assert texts(m) == ["one"]


@pytest.mark.parametrize("store_class", [SQLiteStore, SnapshotStore, LogStore])
def test_no_storage_is_created_through_a_link_to_nothing(store_class, tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(StorageError, match=r"is a link to .*nowhere, which is not there"):
        store_class(tmp_path / "link")
    assert os.listdir(tmp_path) == ["link"]


def test_a_link_that_leads_round_in_a_circle_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("link")
    for store_class in (SQLiteStore, SnapshotStore, LogStore):
        with pytest.raises((StorageError, InvalidStorageError)):
            store_class(tmp_path / "link")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_that_is_swapped_while_it_is_opened_is_not_used(tmp_path, read_only):
    """What was checked was one file, and what was opened another one."""
    path, foreign = tmp_path / "chats.db", tmp_path / "foreign"
    for place, text in ((path, "ours"), (foreign / "chats.db", "theirs")):
        with SessionManager(f"sqlite:{place}") as m:
            say(m, text)
    before = (foreign / "chats.db").read_bytes()
    swapped = []

    def connect(database, **options):
        if "immutable" not in database and not swapped:
            swapped.append(os.rename(path, tmp_path / "moved.db"))
            shutil.copy(foreign / "chats.db", path)
        return sqlite3.connect(database, **options)

    with pytest.raises(StorageError, match="moved, removed or replaced"):
        SQLiteStore(path, read_only=read_only, connect=connect)
    assert swapped
    assert path.read_bytes() == before
    os.replace(tmp_path / "moved.db", path)
    with SessionManager(f"sqlite:{path}") as m:
        assert texts(m) == ["ours"]


def test_an_open_database_moved_behind_a_link_is_not_written_to(tmp_path):
    """The link led to the same file, but to another log."""
    path = tmp_path / "chats.db"
    with closing(SQLiteStore(path)) as store, SessionManager(store) as m:
        say(m, "one")
        os.rename(path, tmp_path / "moved.db")
        path.symlink_to("moved.db")
        m.add_message(KEY, "user", "two")
        with pytest.raises(SaveFailedError, match="moved, removed or replaced"):
            m.save(KEY)
        os.replace(tmp_path / "moved.db", path)
        assert m.save(KEY)
        assert texts(m) == ["one", "two"]


# All of them


@pytest.mark.parametrize("kind", ["snapshot", "log", "sqlite"])
def test_a_relative_path_stays_when_the_process_goes_elsewhere(kind, tmp_path, monkeypatch):
    name = "chats.db" if kind == "sqlite" else "chats"
    for place in ("a", "b"):
        (tmp_path / place).mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path / "a")
    with SessionManager(f"{kind}:{name}", archive=True) as m:
        say(m, "one")
        monkeypatch.chdir(tmp_path / "b")
        say(m, "two")
        m.truncate_history(KEY, 1)
        m.save(KEY)
        m.fork(KEY, "fork")
        assert m.delete("fork")
        m.compact(KEY)
        assert m.verify() == []
        with SessionManager(f"{kind}:{tmp_path / 'a' / name}", read_only=True) as beside:
            monkeypatch.chdir(tmp_path)
            assert texts(beside) == ["two"]
            assert [message.content for message in beside.get_archive(KEY)] == ["one"]
    assert os.listdir(tmp_path / "b") == []


@pytest.mark.parametrize("how", ["link", "parent of a link"])
@pytest.mark.parametrize("kind", sorted(DIRECTORIES))
def test_a_directory_behind_a_link_has_one_lock(kind, how, tmp_path, real):
    """Of link/.. the store took the link away by its text, and opened another directory than the one that was looked at."""
    (real / "chats").mkdir(mode=0o700)
    (real / "sub").mkdir(mode=0o700)
    (tmp_path / "deep").symlink_to("real/sub")
    link = tmp_path / "link" / "chats" if how == "link" else tmp_path / "deep" / ".." / "chats"
    with SessionManager(f"{kind}:{real / 'chats'}") as m:
        say(m, "one")
        for given in (f"{kind}:{link}", link):
            with pytest.raises(StorageLockedError):
                SessionManager(given)
        with SessionManager(f"{kind}:{link}", read_only=True) as beside:
            assert texts(beside) == ["one"]
    with SessionManager(link) as m:
        assert texts(m) == ["one"]
    assert not (tmp_path / "chats").exists()
