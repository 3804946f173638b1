"""Opening a directory: what is listed when, and what a refused opening leaves as it was."""

from __future__ import annotations

import contextlib
import fcntl
import os
from contextlib import closing
from functools import partial

import pytest

from session_manager import InvalidStorageError, SessionManager, StorageLockedError
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore

KINDS = {"snapshot": (SnapshotStore, LogStore), "log": (LogStore, SnapshotStore)}


class Watched(Files):
    """A directory that notes, for each list of its names, whether a writer holds its lock; and each opening of the lock file."""

    def __init__(self, path, steps):
        super().__init__(path)
        self.steps = steps

    def names(self):
        self.steps.append("listed, locked" if is_held(self.path) else "listed")
        return super().names()

    def open_lock(self, name):
        self.steps.append("lock opened")
        return super().open_lock(name)


def is_held(path) -> bool:
    with contextlib.suppress(FileNotFoundError), open(os.path.join(path, ".lock")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def opening(store_class, path) -> list[str]:
    """Open a directory, and return the steps of it."""
    steps: list[str] = []
    with contextlib.suppress(InvalidStorageError), closing(store_class(path, files=partial(Watched, steps=steps))):
        pass
    return steps


def state(path):
    """Return the names and bytes in a directory, and when a name in it was last changed."""
    return {one.name: one.read_bytes() for one in path.iterdir()}, os.stat(path).st_mtime_ns


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def chats(tmp_path, kind):
    with SessionManager(f"{kind}:{tmp_path / 'chats'}") as m:
        m.add_message("telegram:42", "user", "hi")
    return tmp_path / "chats"


def test_the_names_are_listed_once_under_the_lock(chats, kind):
    """Another process may write before the lock is held, so only a list under the lock tells what is there."""
    assert opening(KINDS[kind][0], chats) == ["lock opened", "listed, locked"]


def test_a_directory_without_a_lock_file_is_listed_first(chats, kind):
    """It may be another program's: then nothing is created in it."""
    (chats / ".lock").unlink()
    assert opening(KINDS[kind][0], chats) == ["listed", "lock opened", "listed, locked"]
    (chats / ".lock").unlink()
    before = state(chats)
    assert opening(KINDS[kind][1], chats) == ["listed"]
    assert state(chats) == before


def test_a_store_of_another_kind_leaves_all_as_it_was(chats, kind):
    """Also the name of a holder that was killed."""
    (chats / ".holder").write_text('{"pid": 1, "host": "another", "started": null}')
    before = state(chats)
    with pytest.raises(InvalidStorageError, match=f"open it as {kind}:"):
        KINDS[kind][1](chats)
    assert state(chats) == before
    KINDS[kind][0](chats).close()


def test_an_open_directory_of_another_kind_is_named_as_such(chats, kind):
    same, other = KINDS[kind]
    with closing(same(chats)):
        before = state(chats)
        with pytest.raises(InvalidStorageError, match=f"open it as {kind}:"):
            other(chats)
        with pytest.raises(StorageLockedError) as caught:
            same(chats)
        assert caught.value.holder["pid"] == os.getpid()
        assert state(chats) == before


def test_a_backup_with_a_lock_file_is_not_written_to(chats, kind):
    (chats / "backup.manifest").write_bytes(b"{}")
    before = state(chats)
    with pytest.raises(InvalidStorageError, match="is a backup"):
        KINDS[kind][0](chats)
    assert state(chats) == before


def test_another_programs_lock_file_is_not_taken(tmp_path, kind):
    """A program may lock a file of this name, too. It then has written its process into it, as ours has not."""
    chats = tmp_path / "chats"
    chats.mkdir(0o700)
    (chats / ".lock").write_text("4711\n")
    (chats / "export.jsonl").write_bytes(b'{"messages": [{"role": "user", "content": "hi"}]}\n')
    (chats / "other.session.json").write_bytes(b"{}")
    (chats / "other.session.jsonl").write_bytes(b"{}")
    before = state(chats)
    assert opening(KINDS[kind][0], chats) == ["listed"]
    assert state(chats) == before
