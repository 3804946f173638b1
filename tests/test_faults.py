"""Errors at every single call of a save, a deletion, a fork and a load; see the invariants in `check`."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest

from session_manager import (
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    StorageError,
)
from session_manager.stores.snapshot import SnapshotStore
from tests.faulty_files import FaultyFiles, open_descriptors

KEY = "telegram:42"
NAME = "telegram~3a42.session.json"
ERRNOS = ["EIO", "ENOSPC", "EDQUOT", "EMFILE", "EROFS", "EACCES", "EINTR"]
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


@pytest.mark.parametrize("when", ["once", "sticky", "after"])
@pytest.mark.parametrize("name", ERRNOS)
def test_a_save_that_fails_at_any_call_changes_nothing_and_works_again(faulty, name, when):
    number, clean = 0, False
    while not clean:
        number += 1
        assert number < CALLS
        m, files, path = faulty(f"{number}")
        before, descriptors = path.read_bytes(), open_descriptors()
        files.fail(number, os_error(name), sticky=when == "sticky", after=when == "after")
        error = None
        try:
            m.save(KEY)
        except SaveError as raised:
            error = raised
        clean = not files.struck
        check(m, files, path, error, before, swept=when != "sticky" and "unlink" not in files.log)
        assert open_descriptors() == descriptors


def check(m, files, path, error, before, *, swept):
    assert texts(m) == ["saved", "unsaved"]
    if error is None:
        assert stored(path) == ["saved", "unsaved"]
        assert m.health().dirty == ()
    else:
        assert isinstance(error.__cause__, OSError)
        assert m.health().dirty == (KEY,)
        assert m.health().failures[KEY] is error
    if isinstance(error, SaveFailedError):
        assert path.read_bytes() == before
    if isinstance(error, SaveOutcomeUnknownError):
        assert stored(path) in (["saved"], ["saved", "unsaved"])
    if swept:
        assert temporaries(path) == []
    files.heal()
    m.add_message(KEY, "user", "later")
    assert m.save(KEY) is True
    assert stored(path) == texts(m) == ["saved", "unsaved", "later"]


def test_an_unlink_that_fails_once_leaves_a_temporary_file_that_the_next_open_removes(tmp_path):
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


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_at_any_call_neither_loses_nor_doubles_a_message(faulty, kind, when):
    number, clean = 0, False
    while not clean:
        number += 1
        assert number < CALLS
        m, files, path = faulty(f"{number}")
        files.fail(number, kind(), after=when == "after")
        with contextlib.suppress(kind):
            m.save(KEY)
        clean = not files.struck
        files.heal()
        assert texts(m) == ["saved", "unsaved"]
        assert stored(path) in (["saved"], ["saved", "unsaved"])
        m.add_message(KEY, "user", "later")
        assert m.save(KEY) is True
        assert stored(path) == texts(m) == ["saved", "unsaved", "later"]


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


def test_a_directory_that_cannot_be_synced_leaves_the_outcome_unknown_until_all_is_written_again(faulty):
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


def test_a_fork_or_deletion_whose_outcome_is_unknown_is_settled_as_the_error_says(faulty):
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


def test_a_deletion_that_got_half_way_is_not_called_failed(tmp_path):
    """picoclaw's file was gone, and the error said that the session was still there."""
    (tmp_path / "chats").mkdir(0o700)
    (tmp_path / "chats" / "t_1.json").write_text('{"key":"t:1","messages":[]}')
    store = SnapshotStore(tmp_path / "chats", files=FaultyFiles)
    real, store._files.sync_directory = store._files.sync_directory, lambda: (_ for _ in ()).throw(os_error("EIO"))
    with pytest.raises(SaveOutcomeUnknownError):
        store.delete("t:1")
    store._files.sync_directory = real
    assert store.delete("t:1") is True
    assert store.delete("t:1") is False
    store.close()


def test_a_file_that_cannot_be_read_does_not_keep_the_storage_from_opening(tmp_path):
    (tmp_path / "chats").mkdir(0o700)
    (tmp_path / "chats" / "bad.json").write_text("{}")

    class Unreadable(FaultyFiles):
        def open_read(self, name):
            if name == "bad.json":
                raise os_error("EIO")
            return super().open_read(name)

    store = SnapshotStore(tmp_path / "chats", files=Unreadable)
    with pytest.raises(StorageError, match="Input/output error"):
        store.load("bad")
    assert store.load("good") is None
    store.close()


def test_what_is_added_while_the_outcome_is_unknown_goes_out_with_the_next_save(faulty):
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


def test_save_all_names_the_one_that_failed_and_saves_the_others(faulty):
    m, files, _ = faulty("one")
    m.save_all()
    for key in ("a", "b", "c"):
        m.add_message(key, "user", key)
    per_save = len(probe(m, files))
    files.fail(per_save + 2, os_error("ENOSPC"))
    with pytest.raises(SaveFailedError) as raised:
        m.save_all()
    assert set(raised.value.failures) == {"b"}
    assert m.save_all() == 1


@pytest.mark.parametrize("when", ["once", "after"])
@pytest.mark.parametrize("action", ["delete", "fork", "load", "damaged delete"])
def test_other_calls_fail_with_a_typed_error_and_work_again(faulty, tmp_path, action, when):
    number, clean = 0, False
    while not clean:
        number += 1
        assert number < CALLS
        m, files, path = faulty(f"{number}")
        m.save(KEY)
        if action in ("load", "damaged delete"):
            m.close()
            m = SessionManager(m._residents.store)
        if action == "damaged delete":
            path.write_bytes(b"damaged")
        descriptors = open_descriptors()
        files.fail(number, os_error("EIO"), after=when == "after")
        call = {
            "delete": lambda m=m: m.delete(KEY),
            "damaged delete": lambda m=m: m.delete(KEY),
            "fork": lambda m=m: m.fork(KEY, "copy") and True,
            "load": lambda m=m: bool(m.get(KEY)),
        }[action]
        failed = False
        try:
            assert call() is True
        except StorageError:
            failed = True
        clean = not files.struck
        files.heal()
        assert open_descriptors() == descriptors
        if failed and not (action == "fork" and "copy" in m):
            assert call() is True
        if "delete" in action:
            assert KEY not in m
            assert not path.exists()
        elif action == "fork":
            assert texts(m, "copy") == ["saved", "unsaved"]
        assert texts(m) == ([] if "delete" in action else ["saved", "unsaved"])
        m.close(save=False)


def test_opening_fails_with_a_typed_error_at_every_call_and_leaves_nothing_locked(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        m.add_message(KEY, "user", "a")
    (tmp_path / "chats" / "legacy.json").write_text('{"key":"legacy","messages":[]}')
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
        assert open_descriptors() == descriptors
    with SessionManager(tmp_path / "chats") as m:
        assert texts(m) == ["a"]
