"""Replacing many files at once: each is the old one or the new one, whatever happens to the others."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import itertools
import multiprocessing
import os
import threading
import traceback

import pytest

from session_manager import SaveFailedError, SaveOutcomeUnknownError, SessionManager
from session_manager.stores.files import atomic
from session_manager.stores.files.atomic import OutcomeUnknownError, Replacement, replace_many
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.faulty_files import FaultyFiles, open_descriptors
from tests.support.threads import alive

NAMES = [f"file-{number}" for number in range(40)]
KEYS = [f"session-{number}" for number in range(40)]
SAVED = {key: ["saved", "unsaved"] for key in KEYS}


def io_error():
    return OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def files(tmp_path):
    """A directory with the files, whose content is b"old"."""
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    files = FaultyFiles(str(tmp_path))
    yield files
    files.close_directory()


def wanted(check=lambda name: None):
    return [Replacement(name, [b"new ", name.encode()], lambda name=name: check(name)) for name in NAMES]


def contents(files):
    """Return what is in the directory."""
    found = {}
    for name in os.listdir(files.path):
        with open(os.path.join(files.path, name), "rb") as file:
            found[name] = file.read()
    return found


def new(*names):
    return {name: b"new " + name.encode() if name in names else b"old" for name in NAMES}


def test_all_are_synced_before_the_first_rename_and_the_directory_last(files):
    """The directory is synced once, after the last rename. The old files are closed after that, which frees what they take."""
    descriptors = open_descriptors()
    known = replace_many(files, wanted())
    assert contents(files) == new(*NAMES)
    for name, one in zip(NAMES, known, strict=True):
        status = os.stat(os.path.join(files.path, name))
        assert one == (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    first = files.log.index("open_read")
    assert files.log[:first].count("sync") == len(NAMES)
    renames, synced = ["open_read", "rename"] * len(NAMES), ["sync_directory", "sync"]
    assert files.log[first:] == [*renames, *synced, *["close"] * len(NAMES)]
    assert open_descriptors() <= descriptors


def test_the_syncs_run_at_once(files):
    together = threading.Barrier(atomic._THREADS)
    sync = files.sync

    def meet(fd):
        if fd != files._fd:
            together.wait(timeout=20)
        sync(fd)

    files.sync = meet
    assert replace_many(files, wanted())
    assert contents(files) == new(*NAMES)


def test_the_failure_of_one_is_not_that_of_another(files):
    def check(name):
        if name == NAMES[3]:
            raise LookupError(name)

    os.remove(os.path.join(files.path, NAMES[5]))
    os.mkdir(os.path.join(files.path, NAMES[5]))
    outcomes = dict(zip(NAMES, replace_many(files, wanted(check)), strict=True))
    os.rmdir(os.path.join(files.path, NAMES[5]))
    assert isinstance(outcomes.pop(NAMES[3]), LookupError)
    assert isinstance(outcomes.pop(NAMES[5]), IsADirectoryError)
    assert all(isinstance(outcome, tuple) for outcome in outcomes.values())
    expected = new(*outcomes)
    del expected[NAMES[5]]
    assert contents(files) == expected


def test_a_failed_sync_is_tried_on_a_new_file_and_then_fails_that_one_only(files):
    sync, write, opened, failed = files.sync, files.write, {}, []

    def noted(fd, buffers):
        opened[fd] = b"".join(buffers)
        return write(fd, buffers)

    def break_one(fd):
        if opened.get(fd) == b"new file-7":
            failed.append(fd)
            raise io_error()
        sync(fd)

    files.write, files.sync = noted, break_one
    outcomes = replace_many(files, wanted())
    assert len(failed) == 2
    assert isinstance(outcomes[7], OSError)
    assert contents(files) == new(*NAMES[:7], *NAMES[8:])


def test_without_the_sync_of_the_directory_nobody_knows_of_any(files):
    files.sync_directory = lambda: (_ for _ in ()).throw(io_error())
    outcomes = replace_many(files, wanted())
    assert {type(outcome) for outcome in outcomes} == {OutcomeUnknownError}
    assert {outcome.__cause__.errno for outcome in outcomes} == {errno.EIO}


@pytest.mark.parametrize("started", [0, 3])
def test_each_file_is_written_once_where_no_thread_can_be_started(files, monkeypatch, started):
    start, left = threading.Thread.start, [None] * started

    def refuse(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    replace_many(files, wanted())
    assert contents(files) == new(*NAMES)
    assert files.log.count("open_new") == len(NAMES)


@pytest.mark.parametrize("name", ["open_new", "write", "sync", "fstat", "close", "rename", "sync_directory"])
@pytest.mark.parametrize("number", [1, 9, 40])
def test_an_interrupt_leaves_old_or_new_no_thread_and_no_temporary_file(files, name, number):
    operation, calls, descriptors = getattr(files, name), itertools.count(1), open_descriptors()
    threads = alive()
    number = 1 if name == "sync_directory" else number

    def interrupted(*arguments):
        if next(calls) == number:
            raise KeyboardInterrupt
        return operation(*arguments)

    setattr(files, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_many(files, wanted())
    assert alive() <= threads
    there = contents(files)
    assert set(there) == set(NAMES)
    assert all(there[name] in (b"old", b"new " + name.encode()) for name in NAMES)
    assert len(open_descriptors() - descriptors) == (name == "close")  # nothing was closed where close was interrupted


def test_an_interrupt_while_waiting_for_others_leaves_nothing_of_theirs(files, monkeypatch):
    here, sync, join = threading.current_thread(), files.sync, threading.Thread.join
    hold, interrupts, threads = threading.Event(), [KeyboardInterrupt()], alive()

    def interrupted(thread, timeout=None):
        if interrupts:
            hold.set()
            raise interrupts.pop()
        join(thread, timeout)

    def held(fd):
        if threading.current_thread() is not here:
            assert hold.wait(20)
        sync(fd)

    files.sync = held
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_many(files, wanted())
    assert alive() <= threads
    assert contents(files) == new()


@contextlib.contextmanager
def dirty(path, files=Files):
    """Give a manager with sessions that were saved, and have one more message each."""
    store = SnapshotStore(path, files=files)
    with contextlib.closing(store), SessionManager(store) as m:
        for text in ("saved", "unsaved"):
            if text == "unsaved":
                m.save_all()
            for key in KEYS:
                m.add_message(key, "user", text)
        yield m


def stored(path):
    with SessionManager(path, read_only=True) as m:
        return {key: [message.content for message in m.get_history(key)] for key in KEYS}


def test_save_all_syncs_the_directory_once_for_all(tmp_path):
    with dirty(tmp_path / "chats", FaultyFiles) as m:
        FaultyFiles.opened.log.clear()
        assert m.save_all() == len(KEYS)
        assert FaultyFiles.opened.log.count("sync_directory") == 1
        assert m.save_all() == 0
    assert stored(tmp_path / "chats") == SAVED


def test_no_more_bytes_than_some_are_held_ready(tmp_path, monkeypatch):
    monkeypatch.setattr("session_manager.stores.snapshot.store.AT_ONCE", 2000)
    with dirty(tmp_path / "chats", FaultyFiles) as m:
        FaultyFiles.opened.log.clear()
        assert m.save_all() == len(KEYS)
        assert 2 < FaultyFiles.opened.log.count("sync_directory") < len(KEYS)
    assert stored(tmp_path / "chats") == SAVED


def test_save_all_names_those_that_failed_and_has_saved_the_others(tmp_path):
    with dirty(tmp_path / "chats") as m:
        path = tmp_path / "chats" / f"{KEYS[7]}.session.json"
        path.write_text("what another program put there")
        with pytest.raises(SaveFailedError) as caught:
            m.save_all()
        assert set(caught.value.failures) == {KEYS[7]}
        assert m.health().dirty == (KEYS[7],)
        assert path.read_text() == "what another program put there"
        m.reload(KEYS[0])
        assert m.get_history(KEYS[0])[-1].content == "unsaved"
        path.unlink()
    assert stored(tmp_path / "chats") == {**SAVED, KEYS[7]: ["unsaved"]}


def test_when_the_directory_cannot_be_synced_all_stay_dirty_until_it_can(tmp_path):
    with dirty(tmp_path / "chats", FaultyFiles) as m:
        files = FaultyFiles.opened
        sync_directory = files.sync_directory
        files.sync_directory = lambda: (_ for _ in ()).throw(io_error())
        with pytest.raises(SaveFailedError) as caught:
            m.save_all()
        assert {type(error) for error in caught.value.failures.values()} == {SaveOutcomeUnknownError}
        assert set(m.health().dirty) == set(KEYS)
        files.sync_directory = sync_directory
        assert m.save_all() == len(KEYS)
    assert stored(tmp_path / "chats") == SAVED


def save_all_in_child(path, told):
    """Save all; write to a file what went wrong, or where each thread is after half a minute."""
    with open(told, "w") as file:
        faulthandler.dump_traceback_later(30, exit=True, file=file)
        try:
            with dirty(path) as m:
                m.save_all()
        except BaseException:
            traceback.print_exc(file=file)
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_saves_its_own_sessions_at_once_too(tmp_path):
    with dirty(tmp_path / "parent") as m:
        m.save_all()
        arguments = (tmp_path / "child", tmp_path / "told")
        child = multiprocessing.get_context("fork").Process(target=save_all_in_child, args=arguments)
        child.start()
        child.join(60)
        assert child.exitcode == 0, (tmp_path / "told").read_text()
    assert stored(tmp_path / "child") == SAVED


def test_save_all_saves_one_by_one_where_there_is_no_room_for_all(tmp_path):
    """`save_all` on a nearly full disk failed: each new file had to be there before the first old one could go."""
    room = threading.Semaphore(3)

    class Small(Files):
        """A disk with room for three files more."""

        def open_new(self, name):
            if not room.acquire(blocking=False):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().open_new(name)

        def rename(self, source, target):
            super().rename(source, target)
            room.release()

        def unlink(self, name):
            super().unlink(name)
            room.release()

    with dirty(tmp_path / "chats", Small) as m:
        assert m.save_all() == len(KEYS)
        assert m.health().dirty == ()
    assert stored(tmp_path / "chats") == SAVED


@pytest.mark.parametrize("store_class", [SnapshotStore, LogStore])
def test_a_session_that_an_interrupted_save_has_left_is_deleted(tmp_path, store_class):
    """It was in no list yet, so nothing was deleted, and the next process had it."""

    class Interrupted(Files):
        hit = False

        def sync_directory(self):
            super().sync_directory()
            if Interrupted.hit:
                Interrupted.hit = False
                raise KeyboardInterrupt

    with contextlib.closing(store_class(tmp_path / "chats", files=Interrupted)) as store:
        m = SessionManager(store)
        m.add_message("k", "user", "hi")
        Interrupted.hit = True
        with pytest.raises(KeyboardInterrupt):
            m.save("k")
        assert m.delete("k")
        assert store.load("k") is None
    with contextlib.closing(store_class(tmp_path / "chats")) as store:
        assert list(store.keys()) == []


def test_the_next_save_uses_what_a_reload_has_read(tmp_path):
    """It forgot it again: each save after a reload read the file once more."""
    reads = []

    class Counting(Files):
        def open_read(self, name):
            reads.append(name)
            return super().open_read(name)

    with contextlib.closing(LogStore(tmp_path / "chats", files=Counting)) as store:
        m = SessionManager(store)
        m.add_message("k", "user", "hi")
        m.save("k")
        m.reload("k")
        reads.clear()
        m.add_message("k", "user", "there")
        m.save("k")
        assert reads == []
