"""The lock of a directory: one writer, whichever version and whichever system call it uses."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
from contextlib import closing

import filelock
import pytest

from session_manager import StorageError, StorageLockedError
from session_manager.stores.files.directory_lock import DirectoryLock
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.processes import DEADLINE, python, start

#: What a version before this one does: flock on a descriptor of the same file, its name beside it.
OLDER = """
    import fcntl, os, sys
    fd = os.open(sys.argv[1] + "/.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("refused", flush=True)
    else:
        print("locked", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture(params=[SnapshotStore, LogStore])
def store_class(request):
    return request.param


@pytest.fixture
def directory(tmp_path, store_class):
    store_class(tmp_path / "chats").close()
    return tmp_path / "chats"


def ended_process() -> int:
    done = python("-c", "")
    done.wait(DEADLINE)
    return done.pid


def test_an_older_version_is_refused_by_this_one(directory, store_class):
    with closing(store_class(directory)), start(OLDER, directory) as older:
        assert older.stdout.readline() == "refused\n"
    with start(OLDER, directory) as older:
        assert older.stdout.readline() == "locked\n"
        older.communicate("\n", DEADLINE)


def test_this_version_is_refused_by_an_older_one(directory, store_class):
    inode = os.stat(directory / ".lock").st_ino
    with start(OLDER, directory) as older:
        assert older.stdout.readline() == "locked\n"
        with pytest.raises(StorageLockedError):
            store_class(directory)
        os.kill(older.pid, signal.SIGKILL)
        older.wait(DEADLINE)
    store_class(directory).close()
    assert os.stat(directory / ".lock").st_ino == inode


def test_a_program_that_uses_filelock_is_refused_and_refuses(directory, store_class):
    theirs = filelock.FileLock(directory / ".lock", timeout=0)
    with closing(store_class(directory)), pytest.raises(filelock.Timeout):
        theirs.acquire()
    with theirs, pytest.raises(StorageLockedError):
        store_class(directory)
    store_class(directory).close()


def test_the_lock_is_in_the_open_directory_not_at_its_path(tmp_path):
    """Another directory at the path has a lock of its own."""
    (tmp_path / "chats").mkdir()
    files = Files(str(tmp_path / "chats"))
    (tmp_path / "chats").rename(tmp_path / "moved")
    (tmp_path / "chats").mkdir()
    lock = DirectoryLock(files)
    assert (tmp_path / "moved" / ".lock").exists()
    assert not os.listdir(tmp_path / "chats")
    with pytest.raises(StorageLockedError):
        SnapshotStore(tmp_path / "moved")
    SnapshotStore(tmp_path / "chats").close()
    lock.release()
    SnapshotStore(tmp_path / "moved").close()


@pytest.mark.parametrize("target", ["a file", "nothing"])
def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path, store_class, target):
    (tmp_path / "chats").mkdir()
    if target == "a file":
        (tmp_path / "target").write_text("theirs")
    (tmp_path / "chats" / ".lock").symlink_to(tmp_path / "target")
    with pytest.raises(StorageError):
        store_class(tmp_path / "chats")
    assert (tmp_path / "target").exists() == (target == "a file")


def test_a_file_system_that_cannot_lock_is_named(tmp_path, monkeypatch):
    """As some network file systems do: the call is there, and fails."""

    def no_locks(fd, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StorageError, match=r"\.lock: cannot be locked: No locks available"):
        SnapshotStore(tmp_path / "chats")


def locked_beside(directory, holder) -> StorageLockedError:
    """The error beside a process that has the lock, and could not sign."""
    with start(OLDER, directory) as other:
        assert other.stdout.readline() == "locked\n"
        (directory / ".holder").write_text(json.dumps(holder))
        with pytest.raises(StorageLockedError) as raised:
            SnapshotStore(directory)
        other.communicate("\n", DEADLINE)
    return raised.value


@pytest.fixture
def snapshots(tmp_path):
    SnapshotStore(tmp_path / "chats").close()
    return tmp_path / "chats"


def test_a_name_of_a_process_that_is_gone_is_told_apart(snapshots):
    """The last holder was killed, and the next one had no room to leave its name."""
    holder = {"pid": ended_process(), "host": socket.gethostname(), "started": "2026-01-01T00:00:00+00:00"}
    error = locked_beside(snapshots, holder)
    assert error.holder == {**holder, "gone": True}
    assert f"gone (process {holder['pid']} on {holder['host']} since 2026-01-01" in str(error)


@pytest.mark.parametrize("pid", [0, -1, -(2**30), -(2**80), 2**80, True, "1", None, [1], 1])
def test_a_name_that_cannot_be_asked_for_is_shown_as_it_is(snapshots, pid):
    """Process 1 belongs to another user, or is there; the others are no process, and the first ones would be groups."""
    error = locked_beside(snapshots, {"pid": pid, "host": socket.gethostname(), "started": None})
    assert error.holder == {"pid": pid, "host": socket.gethostname(), "started": None}


def test_a_process_of_another_host_is_not_looked_for_here(snapshots):
    error = locked_beside(snapshots, {"pid": ended_process(), "host": "another", "started": None})
    assert "gone" not in error.holder


FORKING = """
    import os, sys, warnings
    from session_manager.stores.snapshot import SnapshotStore
    store = SnapshotStore(sys.argv[1])
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    if not child:
        print(store._directory._lock.is_held, flush=True)
        store._directory._lock.release()
        print("let go", flush=True)
        sys.stdin.readline()
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_a_child_that_lets_go_takes_nothing_from_its_parent(tmp_path):
    """`flock` of a descriptor that both have would be one lock for both."""
    with start(FORKING, tmp_path / "chats") as parent:
        assert parent.stdout.readline() == "False\n"
        assert parent.stdout.readline() == "let go\n"
        with pytest.raises(StorageLockedError) as raised:
            SnapshotStore(tmp_path / "chats")
        assert raised.value.holder["pid"] == parent.pid
        parent.communicate("\n", DEADLINE)
