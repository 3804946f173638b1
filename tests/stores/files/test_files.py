"""The operations on a directory, the atomic replacement, and real limits of real disks."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import textwrap

import pytest

from session_manager import SessionManager, StorageError
from session_manager.stores.files import filesystem as files
from session_manager.stores.files.atomic import NotRegularError, read_whole, remove_orphans, replace
from session_manager.stores.files.filesystem import Files, create_directory
from tests.support.processes import run_python

KEY = "k"
NAME = "k.session.json"


@pytest.fixture
def directory(tmp_path):
    opened = Files(str(tmp_path))
    yield opened
    opened.close_directory()


def nothing():
    pass


def test_missing_directories_are_created_0700_and_others_left_alone(tmp_path):
    (tmp_path / "there").mkdir(0o755)
    create_directory(str(tmp_path / "there" / "a" / "b"))
    modes = [(tmp_path / part).stat().st_mode & 0o777 for part in ("there", "there/a", "there/a/b")]
    assert modes == [0o755, 0o700, 0o700]


def test_each_parent_of_a_new_directory_is_synced(tmp_path, monkeypatch):
    synced = []
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or original(fd))
    create_directory(str(tmp_path / "a" / "b"))
    assert synced == [str(tmp_path.parent), str(tmp_path), str(tmp_path / "a")]


def test_a_directory_that_others_may_read_is_warned_of_in_the_log(tmp_path, caplog):
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats").chmod(0o755)
    with caplog.at_level(logging.WARNING), SessionManager(tmp_path / "chats"):
        pass
    assert "open to other users" in caplog.text


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_path_that_cannot_be_a_directory_is_an_error(tmp_path, kind):
    (tmp_path / "file").write_text("x")
    with pytest.raises((StorageError, ValueError)):
        SessionManager(tmp_path / "file" / ("chats" if kind == "below a file" else ""))
    assert (tmp_path / "file").read_text() == "x"


def test_a_replacement_is_new_0600_and_leaves_nothing_else(tmp_path, directory):
    (tmp_path / "f").write_text("old")
    replace(directory, "f", [b"n", b"", b"ew"], nothing)
    assert (tmp_path / "f").read_text() == "new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_check_that_raises_leaves_the_old_file(tmp_path, directory):
    (tmp_path / "f").write_text("old")
    with pytest.raises(ZeroDivisionError):
        replace(directory, "f", [b"new"], lambda: 1 // 0)
    assert (tmp_path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_thousands_of_pieces_are_written_whole(tmp_path, directory):
    pieces = [f"{number},".encode() for number in range(5000)]
    replace(directory, "f", pieces, nothing)
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)


def test_a_planted_link_is_neither_read_nor_written_through(tmp_path, directory):
    victim = tmp_path / "victim"
    victim.write_text("victim")
    (tmp_path / "f").symlink_to(victim)
    with pytest.raises(NotRegularError):
        read_whole(directory, "f")
    replace(directory, "f", [b"new"], nothing)
    assert victim.read_text() == "victim"
    assert (tmp_path / "f").read_text() == "new"


def test_a_new_file_is_never_one_that_is_there(tmp_path, directory):
    (tmp_path / "f").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("f", "link"):
        with pytest.raises(FileExistsError):
            directory.open_new(name)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_regular_file_is_not_read_and_nobody_hangs(tmp_path, directory, kind):
    os.mkfifo(tmp_path / "f") if kind == "fifo" else (tmp_path / "f").mkdir()
    with pytest.raises(NotRegularError):
        read_whole(directory, "f")


def test_only_our_temporary_files_are_orphans(tmp_path, directory):
    ours, others = ".tmp-0123456789abcdef", [".tmp-x", "tmp-0123456789abcdef", ".tmp-0123456789abcdef.txt"]
    for name in [ours, *others]:
        (tmp_path / name).write_text("")
    remove_orphans(directory, os.listdir(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(others)


def test_a_swapped_directory_is_not_followed(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        (tmp_path / "chats").rename(tmp_path / "moved")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "chats").symlink_to(tmp_path / "elsewhere")
        m.add_message(KEY, "user", "a")
        m.save(KEY)
    assert os.listdir(tmp_path / "elsewhere") == []
    assert NAME in os.listdir(tmp_path / "moved")


# What cannot run here, simulated


def test_a_full_sync_is_used_where_there_is_one_and_fsync_where_refused(directory, monkeypatch, tmp_path):
    calls = []

    def fcntl(fd, command):
        calls.append(command)
        if refusal:
            raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(files, "_FULL_SYNC", 51)
    monkeypatch.setattr(files.fcntl, "fcntl", fcntl)
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync") or original(fd))
    fd = os.open(tmp_path, os.O_RDONLY)
    for refusal, expected in [(0, [51]), (errno.ENOTSUP, [51, "fsync"]), (errno.EIO, [51])]:
        calls.clear()
        try:
            directory.sync(fd)
        except OSError:
            assert refusal == errno.EIO
        assert calls == expected
    os.close(fd)


def test_a_new_directorys_name_gets_a_full_sync_too(monkeypatch, tmp_path):
    """On macOS the name of a new storage was flushed to the drive, and not out of the drive's cache."""
    calls = []
    monkeypatch.setattr(files, "_FULL_SYNC", 51)
    monkeypatch.setattr(files.fcntl, "fcntl", lambda fd, command: calls.append((os.fstat(fd).st_ino, command)))
    files.create_directory(str(tmp_path / "chats"))
    assert (tmp_path.stat().st_ino, 51) in calls


def test_where_there_is_no_dir_fd_paths_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_HAS_DIR_FD", False)
    with SessionManager(tmp_path / "chats") as m:
        m.add_message(KEY, "user", "a")
        m.save(KEY)
        m.add_message("gone", "user", "b")
        m.save("gone")
        m.delete("gone")
    with SessionManager(tmp_path / "chats") as m:
        assert (list(m), len(m.get_history(KEY))) == ([KEY], 1)


# Real limits


def limited(limit, code, path):
    """Run code in a process that meets a limit of the system in the middle."""
    script = f"""
        import resource, sys
        from session_manager import SaveFailedError, SessionManager
        m = SessionManager(sys.argv[1])
        m.add_message("k", "user", "saved")
        m.save("k")
        before = open(sys.argv[1] + "/{NAME}", "rb").read()
        m.add_message("k", "user", "x" * 100_000)
        soft, hard = resource.getrlimit({limit})
        {code}
        try:
            m.save("k")
        except SaveFailedError as error:
            cause = type(error.__cause__).__name__, error.__cause__.errno
        resource.setrlimit({limit}, (soft, hard))
        assert open(sys.argv[1] + "/{NAME}", "rb").read() == before
        assert m.health().dirty == ("k",)
        assert m.save("k") is True
        m.close()
        print(cause[1])
    """
    return int(run_python("-c", textwrap.dedent(script), path).stdout)


def test_too_many_open_files_fails_the_save_and_nothing_else(tmp_path):
    code = "resource.setrlimit(resource.RLIMIT_NOFILE, (len(__import__('os').listdir('/proc/self/fd')) - 1, hard))"
    assert limited("resource.RLIMIT_NOFILE", code, str(tmp_path / "chats")) == errno.EMFILE
    assert not [name for name in os.listdir(tmp_path / "chats") if name.startswith(".tmp")]


def test_a_file_size_limit_fails_the_save_and_nothing_else(tmp_path):
    code = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))"
    assert limited("resource.RLIMIT_FSIZE", code, str(tmp_path / "chats")) == errno.EFBIG
    assert not [name for name in os.listdir(tmp_path / "chats") if name.startswith(".tmp")]


def test_a_full_disk_fails_only_the_save_until_there_is_room_again(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", mount]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this needs the right to mount a file system")
    try:
        with SessionManager(mount / "chats") as m:
            m.add_message(KEY, "user", "saved")
            m.save(KEY)
            before = (mount / "chats" / NAME).read_bytes()
            filler = mount / "filler"
            filler.write_bytes(b"x" * 200 * 1024)
            m.add_message(KEY, "user", "y" * 100_000)
            with pytest.raises(StorageError) as raised:
                m.save(KEY)
            assert raised.value.__cause__.errno == errno.ENOSPC
            assert (mount / "chats" / NAME).read_bytes() == before
            assert sorted(os.listdir(mount / "chats")) == sorted([NAME, ".lock", ".holder"])
            filler.unlink()
            assert m.save(KEY) is True
    finally:
        subprocess.run(["umount", mount], check=True)
