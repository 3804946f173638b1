"""Write-behind: saved in time or by number, retried, flushed at the end; and what a crash may lose is what the docs say."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import textwrap
import threading
import time
import warnings

import pytest

from session_manager import (
    Autosave,
    ClosedError,
    ForkedError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    Session,
    SessionManager,
)
from session_manager.manager.autosave import Autosaver
from session_manager.manager.cache.entry import Entry
from session_manager.model import utc_now
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.processes import interpreter, start
from tests.support.strategies import CANARY
from tests.support.threads import alive

DEADLINE = 60
NEVER = 10**6


def until(condition):
    """Wait until something is so."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.002)
    raise AssertionError("it never became so")


#: Threads of tests of other modules, whose managers may be collected at any moment.
_others = set()


def threads():
    return [thread for thread in alive() - _others if thread.name == "session-manager-autosave"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    _others.update(alive())
    yield
    if threads():
        gc.collect()
    until(lambda: not threads())
    _others.clear()


def said(store, key="k"):
    session = store.load(key)
    return None if session is None else [message.content for message in session.messages]


class Moody(MemoryStore):
    """Fails while it is told to; counts the attempts; can be made to wait in a write."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error
        self.times = []
        self.writing = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def write(self, commit):
        self.times.append(time.monotonic())
        self.writing.set()
        assert self.go_on.wait(DEADLINE)
        if self.error is not None:
            raise self.error
        super().write(commit)


# When


def test_a_session_is_saved_when_it_has_waited_for_the_interval():
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=0.2, messages=NEVER)) as m:
        before = time.monotonic()
        m.add("k", *[{"role": "user", "content": text} for text in "ab"])
        until(lambda: store.version("k"))
        assert 0.15 < time.monotonic() - before < 10
        assert said(store) == ["a", "b"]
        until(lambda: m.health().dirty == ())
        m.set_summary("k", "s")
        until(lambda: store.load("k").summary == "s")
        assert store.version("k").revision == 2


def test_a_session_is_saved_at_once_when_it_has_that_many_unsaved_messages():
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=NEVER, messages=5)) as m:
        for number in range(4):
            m.add_message("k", "user", str(number))
        m.add("other", *[{"role": "user", "content": "x"}] * 7)
        until(lambda: store.version("other"))
        assert store.version("k") is None
        m.add_message("k", "user", "4")
        until(lambda: store.version("k"))
        for _ in range(5):
            m.add_message("k", "user", "x")
        until(lambda: len(said(store)) == 10)


def test_whichever_comes_first():
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=0.05, messages=3)) as m:
        m.add("many", *[{"role": "user", "content": "x"}] * 3)
        m.add_message("one", "user", "x")
        until(lambda: store.version("many") and store.version("one"))


def test_a_session_that_was_only_created_is_saved():
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=0.01)) as m:
        m.get_or_create("k")
        until(lambda: store.version("k"))
        assert said(store) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.set_history("k", [{"role": "user", "content": "new"}]),
        lambda m: m.truncate_history("k", 0),
        lambda m: m.remove_last("k"),
        lambda m: m.update_last("k", {"role": "user", "content": "new"}),
        lambda m: m.update_metadata("k", {"a": 1}),
        lambda m: m.clear("k"),
    ],
)
def test_every_change_is_saved(call):
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=0.01)) as m:
        m.add_message("k", "user", "x")
        until(lambda: m.health().dirty == ())
        call(m)
        until(lambda: m.health().dirty == ())
        assert store.load("k") == m.get("k")


@pytest.mark.parametrize("saver", ["the thread", "the user"])
def test_what_is_changed_while_a_save_is_under_way_is_saved_too(saver):
    store = Moody()
    store.go_on.clear()
    rule = Autosave(interval=0.02, messages=NEVER)
    with SessionManager(store, autosave=rule) as m:
        m.add_message("k", "user", "before")
        user = threading.Thread(target=m.save, args=("k",))
        if saver == "the user":
            user.start()
        assert store.writing.wait(DEADLINE)
        m.add_message("k", "user", "during")
        m.get_or_create("created meanwhile")
        store.go_on.set()
        until(lambda: said(store) == ["before", "during"] and store.version("created meanwhile"))
        if saver == "the user":
            user.join(DEADLINE)


def test_a_session_that_was_deleted_meanwhile_stays_deleted():
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=0.05)) as m:
        m.add_message("k", "user", "x")
        m.delete("k")
        m.add_message("other", "user", "x")
        until(lambda: store.version("other"))
        assert store.version("k") is None
        assert "k" not in m


def test_a_copy_whose_outcome_is_unknown_is_settled():
    """Nobody told the thread of it."""

    class Unsure(MemoryStore):
        unsure = False

        def write(self, commit):
            super().write(commit)
            if self.unsure:
                raise SaveOutcomeUnknownError(commit.session.key, "?")

    store = Unsure()
    with SessionManager(store, autosave=Autosave(interval=0.02)) as m:
        m.add_message("k", "user", "x")
        m.save("k")
        store.unsure = True
        with pytest.raises(SaveOutcomeUnknownError):
            m.fork("k", "copy")
        store.unsure = False
        until(lambda: m.health().dirty == ())
        assert said(store, "copy") == ["x"]


def test_many_threads_and_sessions_are_all_saved(tmp_path):
    with SessionManager(tmp_path / "chats", autosave=Autosave(interval=0.02, messages=3)) as m:

        def work(who):
            for number in range(40):
                m.add_message(f"own:{who}:{number % 5}", "user", str(number))
                m.add_message("shared", "user", f"{who}.{number}")

        workers = [threading.Thread(target=work, args=(who,)) for who in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(DEADLINE)
        until(lambda: m.health().dirty == ())
        shown = {key: m.get(key) for key in m}
        for key, session in shown.items():
            m.reload(key)
            assert m.get(key) == session
        assert len(shown["shared"].messages) == 240


def test_with_a_bound_what_is_saved_goes():
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=0.02), max_resident_bytes=4000) as m:
        for number in range(100):
            m.add_message(f"k:{number}", "user", "x")
        until(lambda: m.health().resident < 5)
        assert len(m) == 100


# Failures


@pytest.mark.parametrize("error", [SaveFailedError("k", "disk full"), RuntimeError(CANARY)])
def test_a_save_that_fails_is_logged_shown_and_tried_again_later_and_later(caplog, error):
    """An error that is none of the library's was not in `health`."""
    caplog.set_level(logging.DEBUG, "session_manager")
    store = Moody(error)
    with SessionManager(store, autosave=Autosave(interval=0.008, messages=1)) as m:
        m.add_message("k", "user", CANARY)
        until(lambda: len(store.times) >= 3 and "k" in m.health().failures)
        assert m.health().dirty == ("k",)
        assert m.health().failures == {"k": error}
        assert not m.health().ok
        until(lambda: len(store.times) >= 5)
        waits = [after - before for before, after in zip(store.times, store.times[1:], strict=False)]
        assert all(wait > 0.006 * 2 ** (number + 1) for number, wait in enumerate(waits[:4]))
        store.error = None
        until(lambda: m.health().ok and m.health().dirty == ())
        assert said(store) == [CANARY]
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(logged) >= 3
    assert all("autosave failed, again in" in text and CANARY not in text for text in logged)
    assert all(("disk full" in text) is isinstance(error, SaveFailedError) for text in logged)
    assert not any(record.exc_info for record in caplog.records)


def test_one_session_that_cannot_be_saved_does_not_hold_up_the_others():
    class Half(MemoryStore):
        def write(self, commit):
            if commit.session.key == "bad":
                raise SaveFailedError("bad", "no")
            super().write(commit)

    store = Half()
    m = SessionManager(store, autosave=Autosave(interval=0.02))
    for key in ("a", "bad", "c"):
        m.add_message(key, "user", "x")
    until(lambda: store.version("a") and store.version("c"))
    m.add_message("d", "user", "x")
    until(lambda: store.version("d"))
    assert m.health().dirty == ("bad",)
    m.close(save=False)


def test_a_write_of_unknown_outcome_is_settled():
    class Unsure(MemoryStore):
        count = 0

        def write(self, commit):
            super().write(commit)
            self.count += 1
            raise SaveOutcomeUnknownError(commit.session.key, "?")

    store = Unsure()
    with SessionManager(store, autosave=Autosave(interval=0.02)) as m:
        m.add_message("k", "user", "x")
        until(lambda: store.count and m.health().dirty == ())
        assert (store.count, m.health().ok) == (1, True)


# The end


def test_close_saves_what_is_unsaved_and_ends_the_thread():
    before = alive()
    store = MemoryStore()
    m = SessionManager(store, autosave=Autosave(interval=NEVER, messages=NEVER))
    assert len(alive() - before) == 1
    m.add_message("k", "user", "x")
    m.close()
    assert said(store) == ["x"]
    assert alive() <= before
    m.close()


def test_close_waits_for_the_save_under_way(tmp_path):
    store = Moody()
    store.go_on.clear()
    m = SessionManager(store, autosave=Autosave(interval=0.01))
    m.add_message("k", "user", "x")
    assert store.writing.wait(DEADLINE)
    closer = threading.Thread(target=m.close)
    closer.start()

    def is_refused():
        try:
            m.add_message("k", "user", "y")
        except ClosedError:
            return True
        return False

    until(is_refused)
    assert closer.is_alive()
    store.go_on.set()
    closer.join(DEADLINE)
    assert said(store)[0] == "x"
    assert threads() == []


def test_a_close_that_fails_leaves_the_thread_running():
    store = Moody(SaveFailedError("k", "no"))
    m = SessionManager(store, autosave=Autosave(interval=0.05))
    m.add_message("k", "user", "x")
    with pytest.raises(SaveFailedError):
        m.close()
    assert len(threads()) == 1
    m.add_message("other", "user", "y")
    store.error = None
    until(lambda: said(store) == ["x"] and said(store, "other") == ["y"])
    m.close()


def test_what_was_due_during_a_close_that_failed_is_saved_later():
    """The thread is refused while the manager is being closed; it must not forget the sessions that it wanted to save."""
    asked = []

    def save(keys):
        asked.append(sorted(keys))
        if len(asked) == 1:
            raise ClosedError
        return {}

    saver = Autosaver(Autosave(interval=0.01), save, lambda key: False)
    entry = Entry.of(Session(key="k", generation="9f", created=utc_now(), updated=utc_now()))
    saver.watch("k", entry)
    try:
        until(lambda: len(asked) == 2)
    finally:
        saver.stop()
    assert asked == [["k"], ["k"]]


def test_close_without_saving_gives_up_and_ends_the_thread():
    store = MemoryStore()
    m = SessionManager(store, autosave=Autosave(interval=NEVER))
    m.add_message("k", "user", "x")
    m.close(save=False)
    assert said(store) is None
    assert threads() == []


def test_a_collected_manager_warns_lets_go_and_its_thread_ends(tmp_path):
    m = SessionManager(tmp_path / "chats", autosave=Autosave(interval=NEVER))
    m.add_message("k", "user", "x")
    with pytest.warns(ResourceWarning, match="1 unsaved sessions"):
        del m
        gc.collect()
    assert threads() == []
    SessionManager(tmp_path / "chats").close()


def test_a_collected_manager_that_has_saved_says_nothing(tmp_path):
    def use():
        m = SessionManager(tmp_path / "chats", autosave=Autosave(interval=0.01))
        m.add_message("k", "user", "x")
        until(lambda: m.health().dirty == ())

    use()
    gc.collect()
    assert threads() == []
    SessionManager(tmp_path / "chats").close()


def test_a_manager_collected_during_a_save_closes_the_store_after_it(tmp_path, monkeypatch):
    """The directory's descriptor was closed under the save, which then wrote wherever the number led."""
    monkeypatch.setattr("session_manager.manager.manager._PATIENCE", 0.01)
    writing, go_on, order = threading.Event(), threading.Event(), []

    def write(self, commit, _write=SnapshotStore.write):
        writing.set()
        assert go_on.wait(DEADLINE)
        _write(self, commit)
        order.append("written")

    def close(self, _close=SnapshotStore.close):
        order.append("closing")
        _close(self)
        order.append("closed")

    monkeypatch.setattr(SnapshotStore, "write", write)
    monkeypatch.setattr(SnapshotStore, "close", close)
    m = SessionManager(tmp_path / "chats", autosave=Autosave(interval=0.01))
    m.add_message("k", "user", "x")
    assert writing.wait(DEADLINE)
    with pytest.warns(ResourceWarning, match="1 unsaved"):
        del m
        gc.collect()
    assert order == []
    go_on.set()
    until(lambda: order == ["written", "closing", "closed"])
    with SessionManager(tmp_path / "chats") as again:
        assert len(again.get_history("k")) == 1


@pytest.mark.parametrize("count", [1, 20])
def test_managers_leave_no_thread_and_no_exit_handler_behind(count):
    from session_manager.manager import ending

    before = set(ending._open)  # a manager of an earlier test may be collected meanwhile
    for _ in range(count):
        SessionManager(MemoryStore(), autosave=Autosave()).close()
    assert threads() == []
    assert set(ending._open) <= before


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"interval": 0}, ValueError),
        ({"interval": -1.0}, ValueError),
        ({"interval": float("inf")}, ValueError),
        ({"interval": float("nan")}, ValueError),
        ({"interval": 1e300}, ValueError),
        ({"interval": 10**400}, ValueError),
        ({"interval": "5"}, TypeError),
        ({"interval": None}, TypeError),
        ({"interval": True}, TypeError),
        ({"messages": 0}, ValueError),
        ({"messages": -1}, ValueError),
        ({"messages": 1.5}, TypeError),
        ({"messages": True}, TypeError),
        ({"messages": None}, TypeError),
    ],
)
def test_a_rule_is_of_positive_numbers_that_a_thread_can_wait_for(arguments, error):
    with pytest.raises(error):
        Autosave(**arguments)


def test_the_longest_interval_works():
    """A thread that was to wait for longer than it can had ended with an error."""
    store = MemoryStore()
    with SessionManager(store, autosave=Autosave(interval=threading.TIMEOUT_MAX, messages=2)) as m:
        m.add_message("k", "user", "a")
        m.add_message("k", "user", "b")
        until(lambda: store.version("k"))
        m.add_message("k", "user", "c")


def test_what_autosave_is_not(tmp_path):
    for wrong in (5, True, "5", {"interval": 5}):
        with pytest.raises(TypeError, match="autosave"):
            SessionManager(tmp_path / "chats", autosave=wrong)
    with pytest.raises(ValueError, match="exclude"):
        SessionManager(tmp_path / "chats", autosave=Autosave(), read_only=True)
    assert os.listdir(tmp_path) == []


def test_in_ram_only_there_is_nothing_to_save_and_no_thread():
    with SessionManager(autosave=Autosave()) as m:
        m.add_message("k", "user", "x")
        assert threads() == []


# Processes


def start_interpreter(code, *arguments):
    """Start a fresh interpreter, whose end is tested."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return interpreter("-c", textwrap.dedent(code), *arguments, **pipes)


EXIT = """
    import sys, threading
    from session_manager import Autosave, SessionManager
    from session_manager.stores.snapshot import SnapshotStore

    saving, go_on = threading.Event(), threading.Event()

    class Slow(SnapshotStore):
        def write(self, commit):
            if commit.session.key == "slow":
                saving.set()
                go_on.wait(30)
            super().write(commit)

    m = SessionManager(Slow(sys.argv[1]), autosave=Autosave(interval=1000, messages=2))
    m.add_message("first", "user", "x")
    if sys.argv[2] == "in a save":
        m.add("slow", {"role": "user"}, {"role": "user"})
        saving.wait(30)
        threading.Timer(0.1, go_on.set).start()
    m.add_message("last", "user", "y")
    if sys.argv[2] == "error":
        raise SystemExit("an error")
"""


@pytest.mark.parametrize("how", ["end", "error", "in a save"])
def test_the_end_of_the_interpreter_saves_without_close(tmp_path, how):
    """What was added while a save was under way was not saved."""
    with start_interpreter(EXIT, tmp_path / "chats", how) as process:
        _, errors = process.communicate(timeout=DEADLINE)
    assert errors.strip() == ("an error" if how == "error" else "")
    with SessionManager(tmp_path / "chats") as m:
        assert list(m) == ["first", "last"] + ["slow"] * (how == "in a save")


HANGS = """
    import sys, threading, time
    from session_manager import Autosave, SessionManager
    from session_manager.stores.memory import MemoryStore
    from session_manager.stores.snapshot import SnapshotStore

    class Hanging(MemoryStore):
        def write(self, commit):
            threading.Event().wait()

    hanging = [SessionManager(Hanging(), autosave=Autosave(interval=1000)) for _ in range(3)]
    for m in hanging:
        m.add_message("k", "user", "x")
    well = SessionManager(sys.argv[1], autosave=Autosave(interval=1000))
    well.add_message("k", "user", "x")
    print(time.time(), flush=True)
"""


@pytest.mark.long
def test_hanging_stores_delay_neither_the_exit_nor_the_saves_of_others(tmp_path):
    """Each of them was waited for in turn."""
    with start_interpreter(HANGS, tmp_path / "chats") as process:
        began = float(process.stdout.readline())
        process.communicate(timeout=DEADLINE)
        assert time.time() - began < 10
    with SessionManager(tmp_path / "chats") as m:
        assert len(m.get_history("k")) == 1


WORK = """
    import sys, time
    from session_manager import Autosave, SessionManager
    m = SessionManager(sys.argv[1], autosave=Autosave(interval=0.25, messages=10))
    number = 0
    while True:
        added = m.add_message("k", "user", str(number)).created_at
        print(number, added.timestamp(), flush=True)
        number += 1
        time.sleep(0.001 if number % 40 else 0.1)
"""


def test_kill_9_loses_no_more_than_the_docstring_says(tmp_path):
    with start(WORK, tmp_path / "chats") as process:
        lines = [process.stdout.readline() for _ in range(250)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.wait(DEADLINE)
    added = [line.split() for line in lines]
    added = [(int(pair[0]), float(pair[1])) for pair in added if len(pair) == 2]
    with SessionManager(tmp_path / "chats") as m:
        kept = [int(message.content) for message in m.get_history("k")]
    assert kept == list(range(len(kept)))
    assert kept, "nothing was saved"
    # What is slow on a busy machine is allowed for: a save, and the wait for the processor.
    assert added[-1][1] - added[len(kept) - 1][1] < 0.25 + 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_saves_nothing_and_hangs_nowhere(tmp_path):
    store = SnapshotStore(tmp_path / "chats")
    m = SessionManager(store, autosave=Autosave(interval=NEVER))
    m.add_message("k", "user", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        code = 1
        try:
            refused = 0
            for call in (lambda: m.add_message("k", "user", "y"), m.close, lambda: m.save("k")):
                try:
                    call()
                except ForkedError:
                    refused += 1
            from session_manager.manager import ending

            ending._end_all()
            del m
            gc.collect()
            with SessionManager(MemoryStore(), autosave=Autosave(interval=0.01)) as own:
                own.add_message("k", "user", "x")
                until(lambda: own.health().dirty == ())
            code = 0 if refused == 3 else 2
        finally:
            os._exit(code)
    end = time.monotonic() + DEADLINE
    pid = 0
    while not pid and time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
    if not pid:
        os.kill(child, signal.SIGKILL)
        raise AssertionError("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0
    assert m.health().dirty == ("k",)
    m.close()
    assert said(store) == ["x"]
    store.close()


IN_THE_END = """
    import atexit, json, sys
    from session_manager import Autosave, SessionManager
    m = SessionManager(sys.argv[1], autosave=Autosave(interval=1000))
    atexit.register(lambda: m.add_message("k", "user", "in a handler"))
    m.add_message("k", "user", "before")
    print(json.dumps(m.health().dirty), flush=True)
"""


def test_what_a_later_registered_exit_handler_adds_is_saved(tmp_path):
    with start_interpreter(IN_THE_END, tmp_path / "chats") as process:
        out, errors = process.communicate(timeout=DEADLINE)
    assert (json.loads(out), errors) == (["k"], "")
    with SessionManager(tmp_path / "chats") as m:
        assert len(m.get_history("k")) == 2
