"""Many threads on one manager: nothing lost, nothing doubled, nobody waits for another's disk."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from session_manager import ClosedError, ReentrantCallError, SaveFailedError, SessionManager, Version
from session_manager.stores.memory import MemoryStore
from tests.support.threads import run

DEADLINE = 60


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("kind", ["memory store", "snapshot"])
def test_32_threads_on_shared_and_own_sessions_lose_and_double_nothing(tmp_path, kind):
    storage = MemoryStore() if kind == "memory store" else tmp_path / "chats"
    count = 12

    def worker(m, who):
        def work():
            for number in range(count):
                for key in ("shared:1", "shared:2", f"own:{who}"):
                    m.add_message(key, "user", f"{who}.{number}")
                    if number % 3 == who % 3:
                        m.save(key)
                m.get_history("shared:1")
                if number == who % count:
                    m.save_all()
                    m.list_sessions()

        return work

    with SessionManager(storage) as m:
        run(*[worker(m, who) for who in range(32)])
    with SessionManager(storage) as again:
        for key in again:
            texts = [message.content for message in again.get_history(key)]
            writers = [key.split(":")[1]] if key.startswith("own") else [str(who) for who in range(32)]
            assert len(texts) == count * len(writers)
            for who in writers:
                mine = [text for text in texts if text.split(".")[0] == who]
                assert mine == [f"{who}.{number}" for number in range(count)]
        assert len(again) == 34


@pytest.mark.usefixtures("switching_often")
def test_concurrent_creation_makes_one_session(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        generations = []
        run(*[lambda: generations.append(m.get_or_create("k").generation)] * 16)
        assert len(set(generations)) == 1


class SlowStore(MemoryStore):
    """Waits in every write until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.writing = threading.Event()
        self.go_on = threading.Event()
        self.writes = []

    def write(self, commit):
        self.writing.set()
        assert self.go_on.wait(DEADLINE)
        super().write(commit)
        self.writes.append((commit.session.revision, len(commit.session.messages)))


def test_a_message_added_during_a_save_goes_out_with_the_next():
    store = SlowStore()
    m = SessionManager(store)
    m.add_message("k", "user", "before")
    saver = threading.Thread(target=m.save, args=("k",))
    saver.start()
    assert store.writing.wait(DEADLINE)
    m.add_message("k", "user", "during")
    assert [message.content for message in m.get_history("k")] == ["before", "during"]
    store.go_on.set()
    saver.join(DEADLINE)
    assert len(store.load("k").messages) == 1
    assert m.health().dirty == ("k",)
    assert m.save("k") is True
    assert store.writes == [(1, 1), (2, 2)]
    assert m.save("k") is False


def test_two_saves_at_once_never_leave_the_older_state():
    store = SlowStore()
    m = SessionManager(store)
    m.add_message("k", "user", "1")
    first = threading.Thread(target=m.save, args=("k",))
    first.start()
    assert store.writing.wait(DEADLINE)
    m.add_message("k", "user", "2")
    results = []
    second = threading.Thread(target=lambda: results.append(m.save("k")))
    second.start()
    store.go_on.set()
    first.join(DEADLINE)
    second.join(DEADLINE)
    assert results == [True]
    assert len(store.load("k").messages) == 2
    assert store.writes == [(1, 1), (2, 2)]


def test_a_slow_disk_delays_no_reader_and_no_writer_of_what_is_in_ram():
    class Slow(MemoryStore):
        def write(self, commit):
            time.sleep(0.2)
            super().write(commit)

    m = SessionManager(Slow())
    for key in ("saved", "other"):
        m.add(key, *[{"role": "user", "content": "x"}] * 1000)
    stop = threading.Event()

    def save():
        while not stop.is_set():
            m.add_message("saved", "user", "x")
            m.save("saved")

    saver = threading.Thread(target=save)
    saver.start()
    try:
        durations = []
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            before = time.perf_counter()
            m.get_history("saved")
            m.get_history("other")
            m.add_message("other", "user", "x")
            m.add_message("saved", "user", "x")
            durations.append(time.perf_counter() - before)
    finally:
        stop.set()
        saver.join(DEADLINE)
    m.save_all()
    durations.sort()
    assert len(durations) > 100
    assert durations[int(len(durations) * 0.99)] < 0.05


def test_close_waits_for_a_running_save_and_then_refuses_everybody():
    store = SlowStore()
    m = SessionManager(store)
    m.add_message("k", "user", "a")
    saver = threading.Thread(target=m.save, args=("k",))
    saver.start()
    assert store.writing.wait(DEADLINE)
    closer = threading.Thread(target=m.close)
    closer.start()
    end = time.monotonic() + DEADLINE
    refused = False
    while not refused and time.monotonic() < end:
        try:
            m.get("k")
        except ClosedError:
            refused = True
    assert refused
    assert closer.is_alive()
    store.go_on.set()
    saver.join(DEADLINE)
    closer.join(DEADLINE)
    assert store.version("k") == Version(store.load("k").generation, 1)


def test_close_while_others_write_loses_nothing_that_was_acknowledged(tmp_path):
    m = SessionManager(tmp_path / "chats")
    acknowledged = []

    def write():
        try:
            while True:
                acknowledged.append(m.add_message("k", "user", "x").position)
        except ClosedError:
            pass

    def close():
        while len(acknowledged) < 200:
            time.sleep(0)
        m.close()

    run(write, write, close)
    with SessionManager(tmp_path / "chats") as again:
        assert [message.position for message in again.get_history("k")] == sorted(acknowledged)


def test_a_failed_close_leaves_the_manager_open_for_everybody():
    class Broken(MemoryStore):
        broken = True

        def write(self, commit):
            if self.broken:
                raise SaveFailedError(commit.session.key, "broken")
            super().write(commit)

    store = Broken()
    m = SessionManager(store)
    m.add_message("k", "user", "a")
    with pytest.raises(SaveFailedError):
        m.close()
    m.add_message("k", "user", "b")
    store.broken = False
    m.close()
    assert len(store.load("k").messages) == 2


@pytest.mark.usefixtures("switching_often")
def test_verify_works_while_others_save_and_delete(tmp_path, size):
    """It iterated over a set that others changed."""
    m = SessionManager(tmp_path / "chats")
    begun, stop = threading.Event(), threading.Event()

    def churn():
        number = 0
        while not stop.is_set():
            if number == 20:
                begun.set()
            key = f"k:{number % 100}"  # else there would be more and more to verify
            m.add_message(key, "user", "x")
            m.save(key)
            if number % 3 == 2:
                m.delete(key)
            number += 1

    def verify():
        try:
            assert begun.wait(DEADLINE)
            for _ in range(size.of(30, 120, 1200)):
                assert m.verify() == []
        finally:
            stop.set()

    run(churn, verify)
    m.close()


def test_when_two_threads_close_both_return_with_the_directory_let_go(tmp_path):
    for _ in range(30):
        m = SessionManager(tmp_path / "chats")
        m.add_message("k", "user", "x")

        let_go = []

        def close(m=m, let_go=let_go):
            m.close()
            let_go.append(m._residents.store._directory._closed)

        run(close, close, close)
        assert let_go == [True] * 3


def test_a_signal_handler_that_saves_cannot_deadlock_with_save_all():
    """The handler held one session's lock and waited for another's, in the wrong order."""

    class Signalling(MemoryStore):
        def write(self, commit):
            if threading.current_thread() is threading.main_thread():
                others.start()
                end = time.monotonic() + DEADLINE
                while "a" not in m._residents.keyed._locks and time.monotonic() < end:
                    time.sleep(0)
                signal.raise_signal(signal.SIGALRM)
            super().write(commit)

    m = SessionManager(Signalling())
    for key in ("a", "b"):
        m.add_message(key, "user", "x")
    others = threading.Thread(target=m.save_all, daemon=True)
    refused = []

    def handler(number, frame):
        try:
            m.save("a")
        except ReentrantCallError as error:
            refused.append(error)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        assert m.save("b") is True
    finally:
        signal.signal(signal.SIGALRM, before)
    others.join(DEADLINE)
    assert not others.is_alive()
    assert len(refused) == 1
    assert m.health().dirty == ()
