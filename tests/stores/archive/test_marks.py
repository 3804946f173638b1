"""An archive without its session: kept and reported, unless a deletion left it."""

from __future__ import annotations

import os

import pytest

from session_manager import SaveFailedError, SessionManager
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.faulty_files import FaultyFiles
from tests.support.killed_files import KilledFiles, killed

STORES = {"snapshot": SnapshotStore, "log": LogStore}
SESSION = {"snapshot": "telegram~3a42.session.json", "log": "telegram~3a42.session.jsonl"}
KEY = "telegram:42"
ARCHIVE = "telegram~3a42.archive.jsonl"


@pytest.fixture(params=STORES)
def kind(request):
    return request.param


def opened(kind, path, **more):
    return SessionManager(STORES[kind](path / "chats", **more), archive=not more.get("read_only", False))


def fill(m, *texts):
    for text in texts:
        m.add_message(KEY, "user", text)
    m.truncate_history(KEY, keep_last=1)


def end(m):
    store = m._residents.store
    m.close(save=False)
    store.close()


@pytest.fixture
def chats(kind, tmp_path):
    """A closed directory: one message is in the archive of a session, one is in the session."""
    m = opened(kind, tmp_path)
    fill(m, "old", "new")
    m.save_all()
    end(m)
    return tmp_path / "chats"


def texts(messages):
    return [message.content for message in messages]


def test_a_session_that_was_moved_aside_keeps_its_archive(kind, chats, tmp_path):
    """An opening in the meantime removed the archive, in silence."""
    (chats / SESSION[kind]).rename(tmp_path / "aside")
    before = (chats / ARCHIVE).read_bytes()
    for _ in range(2):
        m = opened(kind, tmp_path)
        m.add_message("discord:1", "user", "hi")
        m.save_all()
        m.compact(KEY)
        (finding,) = m.verify()
        assert (finding.key, finding.path) == (KEY, str(chats / ARCHIVE))
        assert "without its session" in finding.reason
        assert [finding] == m.verify(KEY) == list(m.health().repairs)
        assert list(m) == ["discord:1"]
        end(m)
    reader = opened(kind, tmp_path, read_only=True)
    assert reader.verify() == reader.verify(KEY) == [finding]
    end(reader)
    assert (chats / ARCHIVE).read_bytes() == before
    (tmp_path / "aside").rename(chats / SESSION[kind])
    m = opened(kind, tmp_path)
    assert (texts(m.get_archive(KEY)), texts(m.get_history(KEY))) == (["old"], ["new"])
    assert (m.verify(), m.health().repairs) == ([], ())
    end(m)


@pytest.mark.parametrize("archiving", [False, True])
def test_a_new_session_moves_a_lone_archive_to_quarantine(kind, chats, archiving, tmp_path):
    """It was overwritten by the archive of the new session, or removed."""
    (chats / SESSION[kind]).unlink()
    before = (chats / ARCHIVE).read_bytes()
    m = opened(kind, tmp_path)
    fill(m, *(["a", "b"] if archiving else ["b"]))
    m.save(KEY)
    assert (texts(m.get_archive(KEY)), texts(m.get_history(KEY))) == (["a"] if archiving else [], ["b"])
    assert (m.verify(), m.health().repairs) == ([], ())
    end(m)
    (kept,) = chats.glob(".quarantine-*.archive.jsonl")
    assert kept.read_bytes() == before
    m = opened(kind, tmp_path)
    assert kept.exists(), "an opening removed what is in quarantine"
    end(m)


def test_a_lone_archive_is_deleted_by_its_key(kind, chats, tmp_path):
    (chats / SESSION[kind]).unlink()
    m = opened(kind, tmp_path)
    assert not m.delete(KEY)
    assert not (chats / ARCHIVE).exists()
    assert (m.verify(), m.health().repairs) == ([], ())
    end(m)


def test_expiry_leaves_a_lone_archive_alone(kind, chats, tmp_path):
    """A session that was moved aside while it was about to expire is not deleted, and neither is its archive."""
    m = opened(kind, tmp_path)
    store = m._residents.store
    version = store.version(KEY)
    (chats / SESSION[kind]).rename(tmp_path / "aside")
    assert not store.delete(KEY, version)
    assert (chats / ARCHIVE).exists()
    end(m)


def test_an_opening_removes_no_file_that_it_does_not_know(kind, tmp_path):
    """All that ended like an archive was unlinked: quarantine, links, and what other programs had put there."""
    chats = tmp_path / "chats"
    chats.mkdir(0o700)
    names = ["theirs.archive.jsonl", "Not A Key.archive.jsonl", ".quarantine-0123456789abcdef-a.archive.jsonl"]
    for name in names:
        (chats / name).write_bytes(b"what is this?")
    (chats / "dangling.archive.jsonl").symlink_to("nowhere")
    m = opened(kind, tmp_path)
    m.add_message("discord:1", "user", "hi")
    m.save_all()
    reported = {os.path.basename(finding.path) for finding in m.verify()}
    end(m)
    assert reported == {*names[:2], "dangling.archive.jsonl"}
    assert {*names, "dangling.archive.jsonl"} < set(os.listdir(chats))


def test_a_deletion_that_was_killed_is_finished(kind, tmp_path):
    """Deleted is gone: an archive that a deletion left is known to be garbage, and nothing is reported."""
    number, cut = 0, True
    while cut:
        place = tmp_path / str(number)
        m = opened(kind, place)
        fill(m, "old", "new")
        m.save_all()
        end(m)
        m = opened(kind, place, files=KilledFiles)
        m.get(KEY)
        cut = killed(m, lambda m=m: m.delete(KEY), number)
        there = (place / "chats" / SESSION[kind]).exists()
        m = opened(kind, place)
        assert (texts(m.get_archive(KEY)), texts(m.get_history(KEY))) == ((["old"], ["new"]) if there else ([], []))
        assert (m.verify(), m.health().repairs) == ([], ())
        end(m)
        left = {name for name in os.listdir(place / "chats") if "telegram" in name}
        assert left == ({SESSION[kind], ARCHIVE} if there else set())
        number += 1
    assert number > 5


def test_a_creation_that_was_killed_leaves_nothing(kind, tmp_path):
    """What it archived was of no session that ever was."""
    number, cut = 0, True
    while cut:
        place = tmp_path / str(number)
        m = opened(kind, place, files=KilledFiles)
        fill(m, "old", "new")
        cut = killed(m, lambda m=m: m.save(KEY), number)
        there = (place / "chats" / SESSION[kind]).exists()
        m = opened(kind, place)
        assert (texts(m.get_archive(KEY)), texts(m.get_history(KEY))) == ((["old"], ["new"]) if there else ([], []))
        assert (m.verify(), m.health().repairs) == ([], ())
        end(m)
        left = {name for name in os.listdir(place / "chats") if "telegram" in name}
        assert left == ({SESSION[kind], ARCHIVE} if there else set())
        number += 1
    assert number > 8


def test_the_archive_of_a_created_session_is_not_garbage(kind, tmp_path):
    """The mark of a creation goes with it, else a session that is moved aside later would lose its archive."""
    m = opened(kind, tmp_path, files=FaultyFiles)
    fill(m, "old", "new")
    unlink = m._residents.store._files.unlink
    m._residents.store._files.unlink = lambda name: (_ for _ in ()).throw(OSError(5, "EIO"))
    m.save(KEY)
    m._residents.store._files.unlink = unlink
    m.add_message(KEY, "user", "more")
    m.save(KEY)
    end(m)
    (tmp_path / "chats" / SESSION[kind]).rename(tmp_path / "aside")
    end(opened(kind, tmp_path))
    assert (tmp_path / "chats" / ARCHIVE).exists()


def test_a_deletion_that_fails_leaves_all_as_it_was(kind, chats, tmp_path):
    m = opened(kind, tmp_path, files=FaultyFiles)
    files = m._residents.store._files
    rename, files.rename = files.rename, lambda *names: (_ for _ in ()).throw(OSError(28, "ENOSPC"))
    with pytest.raises(SaveFailedError, match="could not be deleted"):
        m.delete(KEY)
    files.rename = rename
    assert (texts(m.get_archive(KEY)), texts(m.get_history(KEY)), m.verify()) == (["old"], ["new"], [])
    assert m.delete(KEY)
    assert not [name for name in os.listdir(chats) if "telegram" in name]
    end(m)
