"""Errors of single operations of the snapshot store. `tests.faults.test_every_call` fails all of them, of every call."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from datetime import timedelta

import pytest

from session_manager import SaveFailedError, SaveOutcomeUnknownError, SessionExistsError, SessionManager, StorageError
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.faulty_files import FaultyFiles, open_descriptors

KEY = "telegram:42"
NAME = "telegram~3a42.session.json"
CALLS = 30


def os_error(name):
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


@pytest.fixture
def faulty(tmp_path):
    """A manager with one saved and one unsaved message, its files, and the saved file's path."""
    with contextlib.ExitStack() as stack:

        def open_one(name):
            store = SnapshotStore(tmp_path / name, files=FaultyFiles)
            stack.callback(store.close)
            m = SessionManager(store)
            stack.callback(m.close, save=False)
            m.add_message(KEY, "user", "saved")
            m.save(KEY)
            m.add_message(KEY, "user", "unsaved")
            return m, store._files, tmp_path / name / NAME

        yield open_one


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def stored(path):
    """Return what another reader would find, by copying the file to a directory of its own."""
    copy = path.parent.parent / "copy"
    copy.mkdir(exist_ok=True, mode=0o700)
    (copy / NAME).write_bytes(path.read_bytes())
    with SessionManager(copy) as m:
        return texts(m)


def temporaries(path):
    return [name for name in os.listdir(path.parent) if name.startswith(".tmp")]


def test_a_temporary_file_left_by_a_failed_unlink_goes_at_the_next_open(tmp_path):
    store = SnapshotStore(tmp_path / "chats", files=FaultyFiles)
    m = SessionManager(store)
    m.add_message(KEY, "user", "a")
    store._files.fail(3, os_error("EIO"), sticky=True)
    with pytest.raises(SaveFailedError):
        m.save(KEY)
    assert temporaries(tmp_path / "chats" / NAME)
    m.close(save=False)
    store._files.heal()
    store.close()
    SessionManager(tmp_path / "chats").close()
    assert not temporaries(tmp_path / "chats" / NAME)


def test_short_writes_are_continued(faulty):
    m, files, path = faulty("one")
    files.short = True
    assert m.save(KEY) is True
    assert files.log.count("write") > 50
    assert stored(path) == ["saved", "unsaved"]


def test_a_file_whose_sync_failed_is_never_synced_again_but_written_anew(faulty):
    m, files, path = faulty("one")
    files.fail(3, os_error("EIO"))
    assert m.save(KEY) is True
    assert files.log[:8] == ["open_new", "write", "sync", "close", "unlink", "open_new", "write", "sync"]
    assert files.log[: files.log.index("rename")].count("sync") == 2
    assert stored(path) == ["saved", "unsaved"]


def test_a_failed_sync_of_the_directory_leaves_the_outcome_unknown(faulty):
    """It stays unknown until all is written again."""
    m, files, path = faulty("one")
    m.save(KEY)
    m.add_message(KEY, "user", "next")
    order = probe(m, files)
    files.fail(order.index("sync_directory") + 1, os_error("EIO"))
    with pytest.raises(SaveOutcomeUnknownError):
        m.save(KEY)
    inode = path.stat().st_ino
    assert m.health().dirty == (KEY,)
    assert m.save(KEY) is True
    assert path.stat().st_ino != inode, "the whole replacement is done again"
    assert m.save(KEY) is False
    assert stored(path) == ["saved", "unsaved", "next"]


def probe(m, files):
    """Return the operations of one save."""
    files.fail(0, None)
    m.add_message("probe", "user", "x")
    m.save("probe")
    m.save("probe")
    files.log, log = [], files.log
    return log


def test_a_fork_or_deletion_of_unknown_outcome_is_settled_as_promised(faulty):
    """The error says what settles it."""
    m, files, path = faulty("one")
    m.save(KEY)
    for action, call in [("fork", lambda: m.fork(KEY, "copy")), ("delete", lambda: m.delete(KEY))]:
        real = files.sync_directory
        files.sync_directory = lambda: (_ for _ in ()).throw(os_error("EIO"))
        with pytest.raises(SaveOutcomeUnknownError):
            call()
        files.sync_directory = real
        if action == "fork":
            assert (texts(m, "copy"), m.health().dirty) == (["saved", "unsaved"], ("copy",))
            assert (m.save("copy"), m.save("copy")) == (True, False)
        else:
            assert KEY not in m
            assert m.delete(KEY) is True
            assert m.delete(KEY) is False
            assert not path.exists()


def test_a_deletion_whose_error_comes_after_the_fact_is_not_called_failed(faulty):
    """The file was gone, and the error said that the session was still there."""
    m, files, path = faulty("one")
    m.save(KEY)
    files.fail(0, None)
    assert m.reload(KEY) == []
    with pytest.MonkeyPatch.context() as patched:

        def unlink(name):
            FaultyFiles.unlink(files, name)
            raise os_error("EIO")

        patched.setattr(files, "unlink", unlink)
        with pytest.raises(SaveOutcomeUnknownError):
            m.delete(KEY)
    assert not path.exists()
    assert m.get(KEY) is None
    assert m.delete(KEY) is True
    assert m.delete(KEY) is False


@pytest.mark.parametrize("call", ["delete", "expire"])
def test_a_deletion_that_is_interrupted_shows_what_is_stored(faulty, call):
    """The file was gone, and the session in RAM was shown as if it were saved."""
    m, files, path = faulty("one")
    m.save(KEY)
    files.sync_directory = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        m.delete(KEY) if call == "delete" else m.expire(m.get(KEY).updated + timedelta(days=1))
    del files.sync_directory
    assert not path.exists()
    assert KEY not in m
    assert m.get(KEY) is None
    m.add_message(KEY, "user", "new")
    assert m.save(KEY) is True
    assert stored(path) == ["new"]


def test_a_fork_that_is_interrupted_after_the_fact_is_there(faulty):
    """It was on the disk, but not in RAM; forking again raised a ConflictError."""
    m, files, _ = faulty("one")
    m.save(KEY)
    files.sync_directory = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        m.fork(KEY, "copy")
    del files.sync_directory
    assert (texts(m, "copy"), m.health().dirty) == (["saved", "unsaved"], ("copy",))
    assert (m.save("copy"), m.save("copy")) == (True, False)
    with pytest.raises(SessionExistsError):
        m.fork(KEY, "copy")


def test_a_file_that_cannot_be_read_does_not_keep_the_storage_from_opening(tmp_path):
    (tmp_path / "chats").mkdir(0o700)
    (tmp_path / "chats" / "bad.json").write_text("{}")

    class Unreadable(FaultyFiles):
        def open_read(self, name):
            if name == "bad.json":
                raise os_error("EIO")
            return super().open_read(name)

    store = SnapshotStore(tmp_path / "chats", files=Unreadable)
    assert store.strays() == []
    assert store.load("good") is None
    store.close()


def test_messages_added_during_an_unknown_outcome_go_with_the_next_save(faulty):
    m, files, path = faulty("one")
    files.fail(probe(m, files).index("sync_directory") + 1, os_error("EIO"))
    with pytest.raises(SaveOutcomeUnknownError):
        m.save(KEY)
    m.add_message(KEY, "user", "meanwhile")
    assert texts(m) == ["saved", "unsaved", "meanwhile"]
    assert m.save(KEY) is True
    assert stored(path) == ["saved", "unsaved", "meanwhile"]


def test_reload_settles_an_unknown_outcome_first(faulty):
    m, files, path = faulty("one")
    files.fail(probe(m, files).index("sync_directory") + 1, os_error("EIO"))
    with pytest.raises(SaveOutcomeUnknownError):
        m.save(KEY)
    m.add_message(KEY, "user", "given up")
    given_up = m.reload(KEY)
    assert len(given_up) == 1
    assert texts(m) == stored(path) == ["saved", "unsaved"]


@pytest.mark.parametrize("store_class", [SnapshotStore, LogStore])
def test_a_write_is_not_said_to_have_landed_where_another_program_wrote(tmp_path, store_class):
    """The session was clean then, and what was in it only was lost."""
    with contextlib.closing(store_class(tmp_path / "ours")) as store:
        m = SessionManager(store)
        m.add_message(KEY, "user", "a")
        m.save(KEY)
        (path,) = (tmp_path / "ours").glob("*.session.json*")
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / path.name).write_bytes(path.read_bytes())
        with SessionManager(tmp_path / "theirs") as other:
            for text in "xy":
                other.add_message(KEY, "user", text)
                other.save(KEY)
        m.add_message(KEY, "user", "b")
        commit = m._residents.peek(KEY).commit("token")
        os.replace(tmp_path / "theirs" / path.name, path)
        theirs = path.read_bytes()
        assert store.landed(commit) is None
        assert path.read_bytes() == theirs
        m.close(save=False)


def test_save_all_names_the_one_that_failed_and_saves_the_others(faulty):
    m, files, _ = faulty("one")
    m.save_all()
    for key in ("a", "b", "c"):
        m.add_message(key, "user", key)
    write = files.write

    def full(fd, buffers):
        if b'"key":"b"' in buffers[0]:
            raise os_error("ENOSPC")
        return write(fd, buffers)

    files.write = full
    with pytest.raises(SaveFailedError) as raised:
        m.save_all()
    files.write = write
    assert set(raised.value.failures) == {"b"}
    assert m.health().dirty == ("b",)
    assert m.save_all() == 1


def test_opening_fails_typed_at_every_call_and_leaves_nothing_locked(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        m.add_message(KEY, "user", "a")
    (tmp_path / "chats" / "export.json").write_text('{"messages":[]}')
    number, clean = 0, False
    while not clean:
        number += 1
        assert number < CALLS
        descriptors = open_descriptors()

        def breaking(path, number=number):
            files = FaultyFiles(path)
            files.fail(number, os_error("EIO"))
            return files

        with contextlib.suppress(StorageError):
            SnapshotStore(tmp_path / "chats", files=breaking).close()
        clean = not FaultyFiles.opened.struck
        assert open_descriptors() <= descriptors
    with SessionManager(tmp_path / "chats") as m:
        assert texts(m) == ["a"]


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_a_reloaded_session_is_not_saved_over_another_programs_file(kind, tmp_path):
    """The bug: a reload made the store forget what it had just read, so that a file of the same version passed for it."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with SessionManager(f"{kind}:{ours}") as m:
        m.add_message(KEY, "user", "one")
    shutil.copytree(ours, theirs)
    with SessionManager(f"{kind}:{theirs}") as other:
        other.add_message(KEY, "user", "theirs")
    with SessionManager(f"{kind}:{ours}") as m:
        m.add_message(KEY, "user", "two")
        m.save(KEY)
        m.reload(KEY)
        [path] = ours.glob("*.session.json*")
        os.replace(theirs / path.name, path)
        m.add_message(KEY, "user", "three")
        m.save(KEY)
        assert texts(m) == ["one", "theirs", "three"]
        m.reload(KEY)
        assert texts(m) == ["one", "theirs", "three"]
