"""`restore`: a backup takes the place of a storage, and nothing undoes that."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from session_manager import (
    ClosedError,
    InvalidStorageError,
    SessionManager,
    StorageError,
    StorageLockedError,
    UnsupportedFormatError,
    converter,
    open_store,
)
from session_manager.operations import Restored, backup, restore, restoring
from session_manager.stores.contract import Store
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from tests.operations.storages import FILED, KINDS, Mortal, bytes_in, filled, held, path_of, say, url_of, versions
from tests.support.killed_files import KilledError

OLD = {key: [f"{key} {text}" for text in "abcd"] for key in ("one", "two")}
NEW = {"one": [*OLD["one"], "e", "f"], "three": ["g", "h", "i"]}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def url(kind, tmp_path):
    """A storage that has gone on since its backup."""
    url = filled(url_of(kind, tmp_path))
    backup(url, tmp_path / "backup")
    go_on(url)
    return url


def go_on(url):
    with SessionManager(url, archive=True) as m:
        say(m, "one", "e", "f")
        m.delete("two")
        say(m, "three", *"ghi")


@pytest.fixture
def made(url, tmp_path):
    return tmp_path / "backup"


def is_whole(url):
    """Say whether a storage can be opened for writing, and nothing is wrong with it."""
    with SessionManager(url) as m:
        assert m.verify() == []
        m.add_message("added", "user", "hi")
        m.save("added")
        m.delete("added")


def test_a_restore_brings_back_what_was_backed_up(kind, url, made):
    was = versions(url)
    told = []
    done = restore(made, url, progress=lambda *one: told.append(one))
    assert held(url) == OLD
    is_whole(url)
    assert (done.kind, done.path, done.sessions, done.messages, done.unreadable) == (kind, path_of(url), 2, 4, ())
    assert told[-1][:2] == (2, 2)
    assert converter.structure(json.loads(json.dumps(done.to_dict())), Restored) == done
    assert held(f"{kind}:{done.replaced}") == NEW
    assert {one.generation for one in was.values()}.isdisjoint(one.generation for one in versions(url).values())


def test_what_was_replaced_is_removed_only_if_told_so(url, made, tmp_path):
    before = set(os.listdir(tmp_path))
    assert restore(made, url, keep=False).replaced is None
    assert held(url) == OLD
    assert set(os.listdir(tmp_path)) - {name for name in before if name.endswith(("-wal", "-shm"))} <= before


def test_a_storage_that_is_not_there_is_made(kind, made, tmp_path):
    url = url_of(kind, tmp_path / "new" / "place", "other")
    assert restore(made, url).replaced is None
    assert held(url) == OLD
    bare = tmp_path / ("bare.db" if kind == "sqlite" else "bare")
    restore(made, bare)
    assert held(f"{kind}:{bare}") == OLD


def test_a_backup_can_be_restored_again_and_again(url, made):
    """Also after the restored storage has been written to."""
    for _ in range(3):
        restore(made, url)
        assert held(url) == OLD
        go_on(url)
        assert held(url) == NEW


def test_the_restored_storage_has_the_owner_and_the_mode_of_before(kind, url, made):
    path = path_of(url)
    os.chmod(path, 0o750 if kind != "sqlite" else 0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = os.stat(path)
    restore(made, url)
    for one in [path, *(os.path.join(path, name) for name in (os.listdir(path) if os.path.isdir(path) else ()))]:
        assert (os.stat(one).st_uid, os.stat(one).st_gid) == (before.st_uid, before.st_gid)
    assert os.stat(path).st_mode == before.st_mode
    if kind != "sqlite":
        assert {stat.S_IMODE(os.stat(os.path.join(path, name)).st_mode) for name in os.listdir(path)} == {0o600}


# An epoch of its own


class Reconnecting(Store):
    """A store that several managers share, like a server's: each call looks at what is there now."""

    shared = archives = True

    def __init__(self, url):
        self.url = url

    def _call(self, name, *arguments):
        with closing(open_store(self.url)) as store:
            found = getattr(store, name)(*arguments)
            return iter(list(found)) if name in ("keys", "archive") else found

    def load(self, key):
        return self._call("load", key)

    def write(self, commit):
        self._call("write", commit)

    def landed(self, commit):
        return self._call("landed", commit)

    def delete(self, key, expected=None):
        return self._call("delete", key, expected)

    def keys(self, prefix=""):
        return self._call("keys", prefix)

    def version(self, key):
        return self._call("version", key)

    def archive(self, key):
        return self._call("archive", key)

    def close(self):
        pass


@pytest.mark.parametrize("unsaved", [False, True])
def test_a_manager_with_newer_sessions_does_not_undo_a_restore(url, made, unsaved):
    """Its state was of a revision that the restored session came to as well, and it took its own for that one."""
    with SessionManager(Reconnecting(url), archive=True) as m:
        m.add_message("one", "user", "in RAM")
        m.save("one")
        was = m.get("one").revision
        if unsaved:
            m.add_message("one", "user", "unsaved")
        restore(made, url)
        with SessionManager(url, archive=True) as other:
            while other.get("one").revision < was:
                other.add_message("one", "user", "another")
                other.save("one")
        others = held(url)["one"]
        assert others[:4] == OLD["one"]
        if not unsaved:
            assert [one.content for one in m.get_history("one")] == others[2:]
        m.add_message("one", "user", "goes on")
        m.save_all()
        assert held(url)["one"] == [*others, *(["unsaved"] if unsaved else []), "goes on"]
        assert sorted(m) == ["one", "two"]


# What is refused


def test_a_storage_that_is_open_is_refused(kind, url, made):
    before = bytes_in(made.parent)
    with SessionManager(url), pytest.raises(StorageLockedError):
        restore(made, url)
    assert held(url) == NEW
    if kind == "sqlite":
        with SessionManager(url, read_only=True), pytest.raises(StorageLockedError):
            restore(made, url)
        with closing(sqlite3.connect(path_of(url))) as connection:
            connection.execute("SELECT count(*) FROM sessions").fetchone()
            with pytest.raises(StorageLockedError):
                restore(made, url)
    assert held(url) == NEW
    assert set(bytes_in(made.parent)) - set(before) <= {f"{made.parent.name}/chats.db-wal"}


def test_a_damaged_backup_is_refused(url, made):
    for path in sorted(made.iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
        with pytest.raises(StorageError, match="damaged"):
            restore(made, url)
        path.write_bytes(data)
    assert held(url) == NEW
    assert list(made.parent.glob("chats*.re*")) == []


def test_another_kind_of_storage_is_refused(kind, url, made, tmp_path):
    other = KINDS[KINDS.index(kind) - 1]
    with pytest.raises(InvalidStorageError, match="another kind"):
        restore(made, f"{other}:{path_of(url)}")
    there = filled(url_of(other, tmp_path, "other"))
    with pytest.raises(InvalidStorageError):
        restore(made, path_of(there))
    assert held(there) == OLD
    with pytest.raises(InvalidStorageError):
        restore(made, "memory:")
    with pytest.raises(TypeError):
        restore(made, open_store("memory:"))


def test_a_directory_with_other_files_is_refused(made, url, kind, tmp_path):
    if kind == "sqlite":
        pytest.skip("a database is one file")
    (tmp_path / "chats" / "config.toml").write_text("token = 1")
    with pytest.raises(InvalidStorageError, match=r"config\.toml"):
        restore(made, url)
    (tmp_path / "chats" / "config.toml").unlink()
    (tmp_path / "chats" / "folder").mkdir()
    with pytest.raises(InvalidStorageError, match="folder"):
        restore(made, url)
    assert held(url) == NEW


def test_what_is_no_backup_is_refused(url, made, tmp_path):
    for what in (tmp_path / "nowhere", path_of(url)):
        with pytest.raises(InvalidStorageError, match="is not a backup"):
            restore(what, url)
    for place in (made, made / "new", tmp_path):
        with pytest.raises(InvalidStorageError):
            restore(made, place)
    assert held(url) == NEW


def test_a_database_of_something_else_is_left_alone(tmp_path):
    url = filled(url_of("sqlite", tmp_path))
    backup(url, tmp_path / "backup")
    for name, lock in (("other.db", False), ("locked.db", True)):
        with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
            connection.execute("CREATE TABLE theirs (a)")
        if lock:
            (tmp_path / f"{name}.lock").touch()
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InvalidStorageError, match="something else"):
            restore(tmp_path / "backup", f"sqlite:{tmp_path / name}")
        assert (tmp_path / name).read_bytes() == before
    (tmp_path / "text.db").write_text("no database at all, and never was one")
    with pytest.raises(InvalidStorageError, match="is not a SQLite database"):
        restore(tmp_path / "backup", f"sqlite:{tmp_path / 'text.db'}")


def test_a_newer_database_is_not_replaced(tmp_path):
    url = filled(url_of("sqlite", tmp_path))
    backup(url, tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "chats.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UnsupportedFormatError):
        restore(tmp_path / "backup", url)


# Storages that are not well


def test_a_damaged_storage_is_replaced_and_kept(kind, url, made):
    path = made.parent / os.path.basename(path_of(url))
    damaged = path if kind == "sqlite" else next(path.glob("one.session.*"))
    damaged.write_bytes(b"nothing of a session" + damaged.read_bytes()[20:])
    data = damaged.read_bytes()
    done = restore(made, url)
    assert held(url) == OLD
    is_whole(url)
    kept = done.replaced if kind == "sqlite" else os.path.join(done.replaced, damaged.name)
    with open(kept, "rb") as file:
        assert file.read() == data


def killed(url, path):
    """Let a process be killed that has a database open: its log is left."""
    with SessionManager(url, archive=True) as m:
        say(m, "one", "in the log")
        for end in ("", "-wal"):
            shutil.copyfile(f"{path_of(url)}{end}", f"{path}{end}")
    shutil.copyfile(f"{path_of(url)}.lock", f"{path}.lock")
    return f"sqlite:{path}"


def test_the_log_of_a_killed_process_is_folded_into_what_is_kept(tmp_path):
    """It was replayed over the backup, and destroyed it."""
    url = filled(url_of("sqlite", tmp_path))
    backup(url, tmp_path / "backup")
    go_on(url)
    there = killed(url, tmp_path / "killed.db")
    assert os.stat(tmp_path / "killed.db-wal").st_size
    done = restore(tmp_path / "backup", there)
    assert held(there) == OLD
    is_whole(there)
    assert held(f"sqlite:{done.replaced}") == {**NEW, "one": [*NEW["one"], "in the log"]}
    assert [
        name for name in os.listdir(tmp_path) if name.startswith("killed.db.replaced") and name.endswith("-wal")
    ] in (
        [],
        [f"{os.path.basename(done.replaced)}-wal"],
    )


def test_the_log_of_a_damaged_database_is_kept_beside_it(tmp_path):
    url = filled(url_of("sqlite", tmp_path))
    backup(url, tmp_path / "backup")
    there = killed(url, tmp_path / "killed.db")
    (tmp_path / "killed.db").write_bytes(b"x" * 4096)
    log = (tmp_path / "killed.db-wal").read_bytes()
    done = restore(tmp_path / "backup", there)
    assert held(there) == OLD
    is_whole(there)
    with open(f"{done.replaced}-wal", "rb") as file:
        assert file.read() == log


def test_a_log_without_its_database_keeps_a_restore_off(tmp_path):
    url = filled(url_of("sqlite", tmp_path))
    backup(url, tmp_path / "backup")
    there = killed(url, tmp_path / "killed.db")
    (tmp_path / "killed.db").unlink()
    with pytest.raises(StorageError, match="its -wal holds changes"):
        restore(tmp_path / "backup", there)
    assert not (tmp_path / "killed.db").exists()


@pytest.mark.parametrize("kind", FILED)
def test_a_session_that_was_damaged_then_is_put_back_as_it_was(kind, tmp_path):
    url = filled(url_of(kind, tmp_path))
    path = next((tmp_path / "chats").glob("one.session.*"))
    path.write_bytes(path.read_bytes()[:-9] + b"something")
    backup(url, tmp_path / "backup")
    data = path.read_bytes()
    path.unlink()
    done = restore(tmp_path / "backup", url)
    assert done.unreadable == ("one",)
    assert path.read_bytes() == data
    assert (tmp_path / "chats" / "one.archive.jsonl").exists()
    with SessionManager(url) as m:
        assert {one.key for one in m.verify()} == {"one"}
        assert len(m.get_history("two")) == 2


def test_a_row_that_was_damaged_then_is_put_back_as_it_was(tmp_path):
    url = filled(url_of("sqlite", tmp_path))
    with closing(sqlite3.connect(tmp_path / "chats.db")) as connection, connection:
        connection.execute("UPDATE sessions SET checksum = 0 WHERE key = 'one'")
    backup(url, tmp_path / "backup")
    assert restore(tmp_path / "backup", url).unreadable == ("one",)
    with SessionManager(url) as m:
        assert {one.key for one in m.verify()} == {"one"}
        assert len(m.get_history("two")) == 2


# Cut short


def test_a_restore_that_is_given_up_changes_nothing(kind, url, made, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    class Full(Files):
        def sync(self, fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if kind != "sqlite":
        with pytest.raises(KeyboardInterrupt):
            restore(made, url, progress=interrupt)
    with monkeypatch.context() as patched:
        patched.setattr(restoring, "Files", Full)
        with pytest.raises(StorageError):
            restore(made, url)
    assert held(url) == NEW
    is_whole(url)
    assert list(tmp_path.glob("chats*.re*")) == []


def test_a_kill_anywhere_leaves_the_old_storage_or_the_new_one(kind, url, made, tmp_path, monkeypatch, size):
    monkeypatch.setattr(restoring, "Files", Mortal)
    monkeypatch.setattr(Mortal, "log", [])
    restore(made, url)
    calls, Mortal.log = len(Mortal.log), None
    found = []
    step = 1 if kind == "sqlite" else size.of(9, 1, 1)
    for number in sorted({*range(0, calls, step), *range(calls - 14, calls + 1)}):
        if held(url) == OLD:
            go_on(url)
        Mortal.left = number
        with contextlib.suppress(KilledError):
            restore(made, url)
            assert number >= calls
        Mortal.left = 10**9
        gc.collect()  # the locks of a killed process are gone
        there = held(url)
        found.append(there == OLD)
        assert there in (OLD, NEW)
        is_whole(url)
        if number % 4 == 0:
            restore(made, url)
            assert held(url) == OLD
            assert list(tmp_path.glob("chats*.restoring*")) == []
        for one in tmp_path.glob("chats*.re*"):
            (shutil.rmtree if one.is_dir() else os.unlink)(one)
    assert sorted(found) == found
    assert {False, True} == set(found)


def test_everything_is_durable_before_it_takes_the_place(url, made, monkeypatch):
    monkeypatch.setattr(restoring, "Files", Mortal)
    monkeypatch.setattr(Mortal, "log", [])
    restore(made, url)
    log = Mortal.log
    swapped = next(number for number, (name, _, _) in enumerate(log) if name == "exchange")
    staged = next(one[2][0] for one in reversed(log[:swapped]) if one[0] == "rename")
    inside = [one for one in log[:swapped] if os.path.basename(one[1]) == staged or one[2][:1] == (staged,)]
    assert log[swapped - 2][0] == log[swapped + 1][0] == "sync_directory"
    assert log[swapped - 3][0] == "rename"
    written = [number for number, one in enumerate(inside) if one[0] == "write"]
    syncs = [number for number, one in enumerate(inside) if one[0] == "sync_directory"]
    if os.path.isdir(path_of(url)):
        assert syncs[-1] > written[-1]


def test_an_error_of_the_last_sync_says_that_it_is_restored(url, made, monkeypatch):
    class Unsynced(Files):
        exchanged = False

        def exchange(self, one, other):
            super().exchange(one, other)
            Unsynced.exchanged = True

        def sync_directory(self):
            if Unsynced.exchanged:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().sync_directory()

    monkeypatch.setattr(restoring, "Files", Unsynced)
    with pytest.raises(StorageError, match="is restored, but a power cut may undo it: Input/output error"):
        restore(made, url)
    assert held(url) == OLD


def test_what_cannot_be_removed_is_named(url, made, monkeypatch):
    class Full(Files):
        def unlink(self, name):
            if ".replaced-" in f"{self.path}{name}":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            super().unlink(name)

    monkeypatch.setattr(restoring, "Files", Full)
    with pytest.raises(StorageError, match="was replaced, and cannot be removed"):
        restore(made, url, keep=False)
    assert held(url) == OLD


def test_a_file_system_that_cannot_exchange_names(kind, url, made, tmp_path, monkeypatch):
    class Plain(Files):
        def exchange(self, one, other):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(restoring, "Files", Plain)
    if kind == "sqlite":
        done = restore(made, url)
        assert held(url) == OLD
        assert held(f"sqlite:{done.replaced}") == NEW
        is_whole(url)
        return
    with pytest.raises(StorageError, match="move it away"):
        restore(made, url)
    assert held(url) == NEW
    assert list(tmp_path.glob("chats*.re*")) == []
    os.rename(tmp_path / "chats", tmp_path / "before")
    restore(made, url)
    assert held(url) == OLD


RESTORE = "import sys; from session_manager.operations import restore; restore(*sys.argv[1:])"
CALLS = (
    "pwrite64",
    "fsync",
    "renameat2",
    *(pytest.param(call, marks=pytest.mark.faults) for call in ("unlink", "close")),
)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_a_system_call_leaves_the_old_or_the_new_database(call, size, tmp_path):
    """The old database has a log, as a killed process leaves it: a restore that renamed first had it replayed over the backup."""
    url = filled(url_of("sqlite", tmp_path))
    backup(url, tmp_path / "backup")
    go_on(url)
    (tmp_path / "begin").mkdir()
    newest = held(killed(url, tmp_path / "begin" / "killed.db"))

    def run(*inject):
        for place in tmp_path.glob("killed.db*"):
            place.unlink()
        for place in (tmp_path / "begin").iterdir():
            shutil.copyfile(place, tmp_path / place.name)
        there = f"sqlite:{tmp_path / 'killed.db'}"
        trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}", *inject]
        code = subprocess.run(
            [*trace, sys.executable, "-c", RESTORE, tmp_path / "backup", there], check=False
        ).returncode
        assert code in (0, -signal.SIGKILL)
        is_whole(there)
        assert held(there) in (OLD, newest)
        assert code or held(there) == OLD
        return code

    assert run("--seccomp-bpf") == 0
    lines = (tmp_path / "trace").read_text().splitlines()
    own = [number for number, line in enumerate(lines, 1) if call != "close" or number > len(lines) - 40]
    if not own:
        assert call not in ("pwrite64", "renameat2") or pytest.skip("this machine does not let strace trace")
        return
    places = size.of(1, 8, len(own))
    for when in sorted({own[(len(own) - 1) * (number + 1) // (places + 1)] for number in range(places)}):
        assert run("-e", f"inject={call}:signal=SIGKILL:when={when}")


@pytest.mark.parametrize("kind", FILED)
def test_an_opener_that_a_restore_overtakes_is_refused(kind, tmp_path):
    """It had opened the directory that was moved away, and what it saved there was lost."""
    url = filled(url_of(kind, tmp_path))
    backup(url, tmp_path / "backup")

    class Overtaken(Files):
        def open_lock(self, name):
            if not restored:
                restored.append(restore(tmp_path / "backup", url))
            return super().open_lock(name)

    restored = []
    with pytest.raises(StorageError, match="open it once more"):
        (LogStore if kind == "log" else SnapshotStore)(tmp_path / "chats", files=Overtaken)
    assert restored
    is_whole(url)


def test_a_store_that_was_open_at_a_restore_is_of_no_use_later(tmp_path):
    """As a process that was paused while it had the database closed, in a fork."""
    url = filled(url_of("sqlite", tmp_path))
    backup(url, tmp_path / "backup")
    m = SessionManager(url)
    m.close()
    restore(tmp_path / "backup", url)
    with pytest.raises(ClosedError):
        m.add_message("one", "user", "late")
