"""Who has a storage open: `holder`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from session_manager import InvalidStorageError, SessionManager, StorageError, converter, open_store
from session_manager.operations import Holder, holder
from session_manager.stores.files import holders
from session_manager.stores.memory import MemoryStore
from tests.support.processes import python

KINDS = ("snapshot", "log", "sqlite")
DIRECTORIES = KINDS[:2]
BOT = """
import sys, time
from session_manager import SessionManager
with SessionManager(sys.argv[1]) as manager:
    manager.add_message("k", "user", "hi")
    manager.save("k")
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def bot(request):
    """Start processes that have a storage open until their standard input ends."""
    running = []

    def start(url):
        process = python("-c", BOT, url, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_process_that_has_it_open_is_named_and_not_disturbed(kind, tmp_path, bot):
    url = f"{kind}:{tmp_path / 'c'}"
    process = bot(url)
    found = holder(url)
    assert (found.pid, found.host, found.alive) == (process.pid, socket.gethostname(), True)
    if kind != "sqlite":
        assert timedelta() <= datetime.now(timezone.utc) - found.since < timedelta(minutes=1)
    assert converter.structure(found.to_dict(), Holder) == found
    process.stdin.close()
    assert process.wait(30) == 0
    assert holder(url) is None


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_a_killed_process_has_left_its_name_and_does_not_live(kind, tmp_path, bot):
    url = f"{kind}:{tmp_path / 'c'}"
    process = bot(url)
    process.kill()
    process.wait()
    assert (holder(url).pid, holder(url).alive) == (process.pid, False)
    with SessionManager(url):
        assert (holder(url).pid, holder(url).alive) == (os.getpid(), True)
    assert holder(url) is None


def test_all_processes_that_have_a_database_open_are_named(tmp_path, bot):
    url = f"sqlite:{tmp_path / 'c'}"
    pids = sorted([bot(url).pid, bot(url).pid])
    found = holder(url)
    assert [found.pid, *found.others] == pids


def name(path, **fields):
    path.mkdir(exist_ok=True)
    written = {"pid": os.getpid(), "host": socket.gethostname(), "started": "2026-01-01T00:00:00+00:00", **fields}
    (path / ".holder").write_text(json.dumps(written))


def test_without_a_list_of_locks_the_name_counts(tmp_path, monkeypatch):
    """As on macOS; a number that belongs to a later process by now is not the holder's."""
    monkeypatch.setattr(holders, "_LOCKS", "/nowhere")
    now = datetime.now(timezone.utc)
    with SessionManager(f"log:{tmp_path / 'c'}"):
        assert holder(f"log:{tmp_path / 'c'}").alive is True
    name(tmp_path / "d")
    assert holder(tmp_path / "d").alive is False
    name(tmp_path / "d", started=(now + timedelta(seconds=9)).isoformat())
    assert holder(tmp_path / "d").alive is True
    name(tmp_path / "d", host="elsewhere.example")
    assert (holder(tmp_path / "d").alive, holder(tmp_path / "d").host) == (None, "elsewhere.example")
    with SessionManager(f"sqlite:{tmp_path / 'e'}"), pytest.raises(StorageError, match="does not tell"):
        holder(f"sqlite:{tmp_path / 'e'}")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid":"x","host":1}', '{"pid":1}'])
def test_a_name_that_cannot_be_read_is_nobody(text, tmp_path):
    (tmp_path / ".holder").write_text(text)
    assert holder(tmp_path) is None


def test_a_damaged_time_is_none(tmp_path):
    for started in (None, 5, "yesterday", "2026-01-01T00:00:00"):
        name(tmp_path / "d", started=started, host="elsewhere.example")
        assert holder(tmp_path / "d").since is None


def test_a_holder_that_could_not_leave_its_name_is_found_by_its_lock(tmp_path):
    with SessionManager(f"log:{tmp_path / 'c'}"):
        (tmp_path / "c" / ".holder").unlink()
        assert (holder(tmp_path / "c").pid, holder(tmp_path / "c").since) == (os.getpid(), None)


def test_an_open_store_and_mistakes(tmp_path):
    store = open_store(f"log:{tmp_path / 'c'}")
    assert holder(store).pid == os.getpid()
    store.close()
    assert holder(store) is None
    assert holder(MemoryStore()) is holder("memory:") is None
    with pytest.raises(StorageError, match="not there"):
        holder(tmp_path / "nothing")
    with pytest.raises(InvalidStorageError):
        holder("mysql:x")
    with pytest.raises(TypeError):
        holder(1)
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]
