"""Many logs saved at once: each record is durable or named as failed, whatever happens to the others."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

import pytest

from session_manager import SaveFailedError, SessionManager
from session_manager.stores.files import atomic
from session_manager.stores.log import LogStore
from tests.support.faulty_files import FaultyFiles, open_descriptors
from tests.support.threads import alive

KEYS = [f"session-{number:02}" for number in range(20)]
SAVED = {key: ["saved", "unsaved"] for key in KEYS}


def failure(number):
    return OSError(number, os.strerror(number))


@contextlib.contextmanager
def dirty(path, texts=("saved", "unsaved")):
    """Give a manager with sessions that were saved, and have one more message each."""
    with contextlib.closing(LogStore(path, files=FaultyFiles)) as store, SessionManager(store) as m:
        for text in texts:
            m.save_all()
            for key in KEYS:
                m.add_message(key, "user", text)
        FaultyFiles.opened.begin()
        yield m


def stored(path):
    with SessionManager(f"log:{path}", read_only=True) as m:
        return {key: [message.content for message in m.get_history(key)] for key in KEYS}


def test_all_records_are_written_before_the_first_sync(tmp_path):
    with dirty(tmp_path) as m:
        assert m.save_all() == len(KEYS)
        log = FaultyFiles.opened.log
        assert (log.count("write"), log.count("sync_data"), log.count("rename")) == (len(KEYS), len(KEYS), 0)
        assert "write" not in log[log.index("sync_data") :]
    assert stored(tmp_path) == SAVED


def test_new_logs_are_renamed_together_and_the_directory_is_synced_once(tmp_path):
    with dirty(tmp_path, texts=("saved",)) as m:
        assert m.save_all() == len(KEYS)
        assert FaultyFiles.opened.log.count("sync_directory") == 1
    assert stored(tmp_path) == {key: ["saved"] for key in KEYS}


def test_the_syncs_of_records_run_at_once(tmp_path):
    with dirty(tmp_path) as m:
        together, waiting = threading.Barrier(atomic._THREADS), threading.Semaphore(atomic._THREADS)
        files = FaultyFiles.opened
        sync = files.sync_data

        def meet(fd):
            if waiting.acquire(blocking=False):
                together.wait(timeout=20)
            sync(fd)

        files.sync_data = meet
        assert m.save_all() == len(KEYS)
    assert stored(tmp_path) == SAVED


def test_a_failed_sync_is_that_session_s_only_and_its_log_is_written_whole(tmp_path):
    with dirty(tmp_path) as m:
        files, failed = FaultyFiles.opened, []
        sync = files.sync_data

        def break_one(fd):
            if os.readlink(f"/proc/self/fd/{fd}").endswith(f"{KEYS[7]}.session.jsonl"):
                failed.append(fd)
                raise failure(errno.EIO)
            sync(fd)

        files.sync_data = break_one
        assert m.save_all() == len(KEYS)
        assert (len(failed), files.log.count("rename")) == (1, 1)
    assert stored(tmp_path) == SAVED


def test_save_all_names_the_logs_that_failed_and_has_saved_the_others(tmp_path):
    with dirty(tmp_path) as m:
        path = tmp_path / f"{KEYS[7]}.session.jsonl"
        path.write_bytes((tmp_path / f"{KEYS[8]}.session.jsonl").read_bytes())
        with pytest.raises(SaveFailedError) as caught:
            m.save_all()
        assert set(caught.value.failures) == {KEYS[7]}
        assert m.health().dirty == (KEYS[7],)
        m.reload(KEYS[0])
        assert m.get_history(KEYS[0])[-1].content == "unsaved"
        path.unlink()
    assert stored(tmp_path) == {**SAVED, KEYS[7]: ["unsaved"]}


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("name", ["open_append", "fstat", "write", "sync_data", "close"])
def test_an_interrupt_leaves_no_thread_and_no_descriptor_and_nothing_twice(tmp_path, name, after):
    with dirty(tmp_path) as m:
        files, descriptors, threads = FaultyFiles.opened, open_descriptors(), alive()
        operation, left = getattr(files, name), [None] * 9

        def interrupted(*arguments):
            if not left:
                return operation(*arguments)
            left.pop()
            result = operation(*arguments) if left or after or name == "close" else None
            if left:
                return result
            if name == "open_append" and result is not None:
                os.close(result)
            raise KeyboardInterrupt

        setattr(files, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            m.save_all()
        assert alive() <= threads
        assert open_descriptors() <= descriptors
        assert m.save_all() == len(KEYS)
    assert stored(tmp_path) == SAVED


def test_logs_are_saved_one_by_one_where_descriptors_are_few(tmp_path):
    with dirty(tmp_path) as m:
        files, room = FaultyFiles.opened, threading.Semaphore(3)
        opened, close = files.open_append, files.close

        def open_some(name):
            if not room.acquire(blocking=False):
                raise failure(errno.EMFILE)
            return opened(name)

        def close_one(fd):
            close(fd)
            room.release()

        files.open_append, files.close = open_some, close_one
        assert m.save_all() == len(KEYS)
    assert stored(tmp_path) == SAVED
