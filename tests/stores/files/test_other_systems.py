"""Windows and macOS, as far as they can be simulated on Linux."""

from __future__ import annotations

import os
import shutil
import textwrap
from contextlib import closing

import pytest

from session_manager import SaveFailedError, SessionManager
from session_manager.stores.files import filesystem
from session_manager.stores.files.names import file_name
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import StoreContract
from tests.support.other_systems import MacFiles, WindowsFiles, pretend_mac, pretend_windows
from tests.support.processes import DEADLINE, interpreter

SUFFIXES = {SnapshotStore: ".session.json", LogStore: ".session.jsonl"}


#: Takes what POSIX alone has from a process before it imports the package, and then uses every store of it.
WITHOUT_POSIX = """
    import os, sys
    import filelock, multiprocessing, pathlib, signal, socket, sqlite3, subprocess, tempfile  # have their own ways on Windows
    filelock.lock_descriptor(os.open(sys.argv[1] + "/any", os.O_RDWR | os.O_CREAT), blocking=False)
    sys.modules["fcntl"] = sys.modules["resource"] = sys.modules["pwd"] = None
    for name in ("fork", "register_at_fork", "pread", "preadv", "pwrite", "writev", "fchmod", "chown", "fdatasync", "sync",
                 "getuid", "geteuid", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "statvfs", "sched_getaffinity"):
        delattr(os, name)
    for place in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        place.clear()
    from session_manager import SessionManager
    from session_manager.cli import main
    directory = sys.argv[1]
    for url in ("snapshot:{}/a", "log:{}/b", "sqlite:{}/c.db"):
        url = url.format(directory)
        with SessionManager(url, archive=True) as m:
            for number in range(4):
                with m.turn("k", f"r{number}") as turn:
                    turn.add_message("user", f"a{number}")
                    turn.add_message("assistant", "b")
            m.truncate_history("k", keep_last=2)
            m.save("k")
            m.add_message("gone", "user", "c")
            m.save("gone")
            m.delete("gone")
            m.rename("k", "K")
        with SessionManager(url, archive=True) as m:
            assert list(m) == ["K"], list(m)
            assert [one.content for one in m.get_archive("K")][:2] == ["a0", "b"]
            assert [hit.snippet for hit in m.search("a0")] == ["**a0**"]
            assert m.verify() == []
        for command in (["verify"], ["ls"], ["backup", url.partition(":")[2] + ".backup"]):
            sys.argv[1:] = [*command, "--storage", url]
            try:
                main()
            except SystemExit as end:
                assert not end.code, command
"""


class _Contract(StoreContract):
    tokens = False
    kind: type = SnapshotStore
    files: type = WindowsFiles
    pretend = staticmethod(pretend_windows)

    @pytest.fixture
    def open_store(self, tmp_path, monkeypatch):
        self.pretend(monkeypatch)
        return lambda: self.kind(tmp_path / "chats", files=self.files)

    @pytest.fixture
    def damage(self, tmp_path):
        return lambda key: os.truncate(tmp_path / "chats" / file_name(key, SUFFIXES[self.kind]), 100)


@pytest.mark.long
class TestSnapshotsOnWindows(_Contract):
    pass


@pytest.mark.long
class TestLogsOnWindows(_Contract):
    kind = LogStore


@pytest.mark.long
class TestSnapshotsOnMac(_Contract):
    files = MacFiles
    pretend = staticmethod(pretend_mac)


def names_of(path):
    return sorted(os.listdir(path))


@pytest.fixture(params=[SnapshotStore, LogStore])
def open_windows(request, tmp_path, monkeypatch):
    """Opens a store on Windows, simulated."""
    pretend_windows(monkeypatch)
    return lambda name="chats": request.param(tmp_path / name, files=WindowsFiles)


def talk(manager, key):
    manager.add_message(key, "user", "a")
    manager.add_message(key, "assistant", "b")
    manager.save(key)


def test_a_life_on_windows(open_windows, tmp_path):
    """Keys that differ in case only, a device's name, archives, a deletion, a killed process, and what is found again."""
    keys = ["Ab", "aB", "ab", "con", "telegram:42", "ends with a dot.", "ä", "a\u0308"]
    with closing(open_windows()) as store, SessionManager(store, archive=True) as manager:
        for key in keys:
            talk(manager, key)
        manager.truncate_history("ab", keep_last=1)
        manager.save("ab")
        manager.delete("con")
        manager.rename("Ab", "Cd")
        shutil.copytree(tmp_path / "chats", tmp_path / "killed")
    for name in ("chats", "killed"):
        with closing(open_windows(name)) as store, SessionManager(store, archive=True) as manager:
            assert sorted(manager) == sorted({*keys, "Cd"} - {"con", "Ab"})
            assert [message.content for message in manager.get_archive("ab")] == ["a"]
            assert all(len(manager.get_history(key)) == (1 if key == "ab" else 2) for key in manager)


def test_another_program_that_reads_a_file_is_waited_for_on_windows(open_windows, tmp_path, monkeypatch):
    """A scanner of viruses had the file open: the save failed."""
    with closing(open_windows()) as store, SessionManager(store) as manager:
        talk(manager, "k")
        scanner = WindowsFiles(str(tmp_path / "chats"))
        for key, change in (("k", lambda: manager.rename("k", "j")), ("j", lambda: manager.delete("j"))):
            [name] = [name for name in names_of(tmp_path / "chats") if name.startswith(f"{key}.")]
            open_files = [scanner.open_read(name)]
            monkeypatch.setattr(filesystem.time, "sleep", lambda seconds, fds=open_files: scanner.close(fds.pop()))
            change()
            assert not open_files
        assert list(manager) == []


def test_a_file_that_stays_open_fails_the_save_and_nothing_is_lost(tmp_path, monkeypatch):
    pretend_windows(monkeypatch)
    monkeypatch.setattr(filesystem, "_PATIENCE", 0.0)
    with closing(SnapshotStore(tmp_path / "chats", files=WindowsFiles)) as store, SessionManager(store) as manager:
        talk(manager, "k")
        reader = WindowsFiles(str(tmp_path / "chats"))
        fd = reader.open_read("k.session.json")
        manager.add_message("k", "user", "c")
        with pytest.raises(SaveFailedError):
            manager.save("k")
        assert manager.health().dirty == ("k",)
        reader.close(fd)
        manager.save("k")
        assert not [name for name in names_of(tmp_path / "chats") if name.startswith(".tmp-")]


def test_the_package_works_without_what_posix_alone_has(tmp_path):
    """No ``fcntl``, no ``fork``, no descriptors of directories, no ``pread``: every store, the archives, and the command's checks."""
    with interpreter("-c", textwrap.dedent(WITHOUT_POSIX), tmp_path) as process:
        assert process.wait(DEADLINE) == 0
