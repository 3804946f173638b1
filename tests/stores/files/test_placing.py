"""A file or a directory takes another's name in one step: every disk that a power cut may leave."""

from __future__ import annotations

import errno
import os
from datetime import datetime, timezone

import pytest

from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.placing import CannotExchangeError, kept_name, place
from tests.faults.disk import Disk, SimulatedFiles

OLD, NEW = b"the old storage", b"what takes its place"


def explored(content, files=SimulatedFiles):
    """Put a staged file in the place of another; return what each power cut leaves, and the disk in the end."""
    disk = Disk(content)
    left = []
    there = files("/simulated", disk)
    fd = there.open_new("staged")
    there.write(fd, [NEW])
    there.sync(fd)
    there.close(fd)
    disk.changed = lambda: left.extend(map(dict, disk.freeze().disks(fine=True)))
    is_kept = place(there, "staged", "chats", "kept")
    disk.changed()
    return is_kept, left, disk.content()


def test_a_power_cut_leaves_the_old_one_or_the_new_one():
    is_kept, left, end = explored({"chats": OLD})
    assert is_kept
    assert {one.get("chats") for one in left} == {OLD, NEW}
    assert all(OLD in one.values() for one in left)
    assert (end, left[-1]) == ({"chats": NEW, "kept": OLD},) * 2


def test_a_power_cut_leaves_nothing_or_the_new_one():
    is_kept, left, end = explored({})
    assert not is_kept
    assert {one.get("chats") for one in left} == {None, NEW}
    assert (end, left[-1]) == ({"chats": NEW},) * 2


def test_without_a_sync_in_between_there_could_be_nothing():
    """What the test of power cuts would see."""

    class Hasty(SimulatedFiles):
        def sync_directory(self):
            pass

    _, left, _ = explored({"chats": OLD}, Hasty)
    assert {one.get("chats") for one in left} != {OLD, NEW} or not all(OLD in one.values() for one in left)


class Plain(Files):
    """A file system that cannot exchange names."""

    error = errno.EINVAL

    def exchange(self, one, other):
        raise OSError(self.error, os.strerror(self.error))


def test_a_file_is_copied_where_names_cannot_be_exchanged(tmp_path):
    (tmp_path / "chats").write_bytes(OLD)
    (tmp_path / "staged").write_bytes(NEW)
    files = Plain(str(tmp_path))
    assert place(files, "staged", "chats", "kept")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"chats": NEW, "kept": OLD}
    files.close_directory()


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EBUSY])
def test_a_directory_is_left_where_names_cannot_be_exchanged(error, tmp_path, monkeypatch):
    """A directory that is mounted by itself is busy."""
    monkeypatch.setattr(Plain, "error", error)
    for name in ("chats", "staged"):
        (tmp_path / name).mkdir()
    (tmp_path / "chats" / "old").touch()
    files = Plain(str(tmp_path))
    with pytest.raises(CannotExchangeError if error == errno.EINVAL else OSError):
        place(files, "staged", "chats", "kept")
    assert {one.name for one in tmp_path.iterdir()} == {"chats", "staged"}
    assert (tmp_path / "chats" / "old").exists()
    files.close_directory()


def test_each_kept_name_is_another():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert kept_name("chats", now).startswith("chats.replaced-20260102T030405Z-")
    assert kept_name("chats", now) != kept_name("chats", now)


def test_two_names_change_places(tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "directory").mkdir()
    files = Files(str(tmp_path))
    files.exchange("file", "directory")
    assert (tmp_path / "directory").read_text() == "a file"
    assert (tmp_path / "file").is_dir()
    with pytest.raises(FileNotFoundError):
        files.exchange("file", "nowhere")
    files.close_directory()
