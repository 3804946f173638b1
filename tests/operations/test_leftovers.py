"""What killed operations leave beside a storage or a target: it is named, and the next run of the same operation removes it."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing

import pytest

from session_manager import SessionManager
from session_manager.operations import backup, erase, salvage, verify, verify_backup
from session_manager.stores.files.staging import Staging
from tests.operations.storages import KINDS, filled, url_of
from tests.support.processes import run_python

#: Ends the process by a kill when it has written a file of the staged directory, or renames it.
KILLED = """
import os, signal, sys
from session_manager.operations import backup, salvage
from session_manager.stores.files.staging import Staging
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(Staging, sys.argv[1], die)
if sys.argv[2] == "backup":
    backup(*sys.argv[3:])
else:
    salvage(sys.argv[3], write=True)
"""


def killed(step, *arguments):
    assert run_python("-c", KILLED, step, *arguments).returncode == -signal.SIGKILL


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_backup_to_the_same_target_removes_what_a_killed_one_left(kind, tmp_path):
    url = filled(url_of(kind, tmp_path))
    (tmp_path / "mine.writing-0").mkdir()
    for step in ("write", "rename"):
        killed(step, "backup", url, tmp_path / "backup")
        (left,) = tmp_path.glob("backup.writing-*")
    backup(url, tmp_path / "backup2")
    assert left.exists(), "it is of another target"
    assert verify_backup(backup(url, tmp_path / "backup").path).ok
    assert list(tmp_path.glob("backup.writing-*")) == []
    assert (tmp_path / "mine.writing-0").exists()


def test_what_another_process_is_writing_stays(tmp_path):
    url = filled(url_of("log", tmp_path))
    at_work = Staging(str(tmp_path / "backup"), "writing")
    at_work.write("half", [b"x"])
    backup(url, tmp_path / "backup")
    assert (tmp_path / at_work.staged / "half").exists()
    at_work.close()
    other = Staging(str(tmp_path / "backup"), "writing")
    other.remove_abandoned()
    assert not (tmp_path / at_work.staged).exists()
    other.discard()
    other.close()


def damaged_pages(url):
    """Damage a page of a database that SQLite needs to write."""
    path = url.partition(":")[2]
    with closing(sqlite3.connect(path)) as db:
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sessions'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 16)


def test_the_next_salvage_removes_what_a_killed_one_left(tmp_path):
    url = filled(url_of("sqlite", tmp_path))
    damaged_pages(url)
    killed("discard", "salvage", url)
    (left,) = tmp_path.glob("chats.db.salvaging-*")
    assert [one.path for one in verify(url)] == [str(left)], "the new database is in its place"
    damaged_pages(url)
    salvage(url, write=True)
    assert list(tmp_path.glob("chats.db.salvaging-*")) == []
    assert verify(url) == []
    with SessionManager(url, read_only=True) as m:
        assert len(m.get_history("one")) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_a_storage_is_named(kind, tmp_path):
    url = filled(url_of(kind, tmp_path))
    path = tmp_path / os.path.basename(url.partition(":")[2])
    names = [f"{path.name}.restoring-{'0' * 16}", f"{path.name}.salvaging-{'1' * 16}"]
    for name in (*names, f"{path.name}.replaced-20260101T000000Z-0", "x.restoring-0", f"{path.name}.restored-0"):
        (tmp_path / name).touch()
    assert [os.path.basename(one.path) for one in verify(url)] == names
    report = erase(url, "one", dry_run=True)
    assert sorted(os.path.basename(one.path) for one in report.left) == sorted(
        [*names, f"{path.name}.replaced-20260101T000000Z-0"]
    )
    assert not report.ok
