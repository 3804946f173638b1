"""The SQLite store and other processes: kill -9, races at a checkpoint, fork, limits."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import textwrap
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from session_manager import ForkedError
from session_manager.model.changes import SetSummary
from session_manager.stores.sqlite import SQLiteStore
from tests.support.processes import interpreter, python, run_python, start
from tests.support.small_sessions import AT
from tests.support.sqlite_saves import commit_of, raw_elsewhere, write, write_new
from tests.support.sqlite_writer import SESSIONS
from tests.support.strategies import facts

DEADLINE = 60


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chats.db")


def writer(path, who, saves, deletes):
    Path(f"{path}.{who}.log").touch()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return python("-m", "tests.support.sqlite_writer", path, who, saves, deletes, **pipes)


def lines(path, who, word):
    """Return a writer's lines of one kind: (message, session)."""
    text = Path(f"{path}.{who}.log").read_text()
    return [tuple(line.split(" ", 1)[1].rsplit(" ", 1)) for line in text.splitlines() if line.startswith(f"{word} ")]


@pytest.mark.long
@pytest.mark.parametrize("deletes", ["deletes", "keep"])
def test_four_killed_processes_on_five_sessions_lose_and_double_nothing(path, deletes):
    saves, kills, names = 120 if deletes == "keep" else 250, 6, "abcd"
    chance = random.Random(7)
    running = {who: writer(path, who, saves, deletes) for who in names}
    end = time.monotonic() + DEADLINE
    while running:
        assert time.monotonic() < end
        for who, process in list(running.items()):
            if process.poll() is not None:
                out, err = process.communicate()
                assert (out, process.returncode) == ("done\n", 0), err
                del running[who]
        if running and kills:
            who = chance.choice(sorted(running))
            before = len(lines(path, who, "saved"))
            while running[who].poll() is None and len(lines(path, who, "saved")) < before + chance.randrange(1, 20):
                assert time.monotonic() < end
            if running[who].poll() is None:
                running[who].send_signal(signal.SIGKILL)
                running[who].communicate()
                kills -= 1
                running[who] = writer(path, who, saves, deletes)
    check(path, names, saves)


def check(path, names, saves):
    assert raw_elsewhere(path, "PRAGMA integrity_check") == "ok"
    with closing(SQLiteStore(path)) as store:
        stored = {}
        for key in SESSIONS:
            session = store.load(key)
            stored[key] = [message.content for message in session.messages] if session else []
            assert store.verify(key) == []
        assert store.strays() == []
    for key, texts in stored.items():
        assert len(texts) == len(set(texts)), f"{key}: doubled"
    seen = {one for who in names for one in lines(path, who, "seen")}
    for who in names:
        acknowledged = lines(path, who, "saved")
        assert len(acknowledged) == saves
        for text, key in acknowledged:
            assert text in stored[key] or (text, key) in seen, f"{text} in {key} is lost"
        for texts in stored.values():
            mine = [int(text.split()[1]) for text in texts if text.startswith(f"{who} ")]
            assert mine == sorted(mine), "a writer's order is lost"


OPEN_AND_CLOSE = """
    import sys
    from session_manager import SessionManager
    from session_manager.stores.sqlite import SQLiteStore
    for number in range(20):
        store = SQLiteStore(sys.argv[1])
        with SessionManager(store) as m:
            m.add_message("k", "user", f"{sys.argv[2]} {number}")
            m.save("k")
            m.compact("k")
        store.close()
    print("done")
"""


def test_processes_that_open_close_and_checkpoint_at_once(path):
    workers = [start(OPEN_AND_CLOSE, path, who) for who in "abc"]
    for worker in workers:
        assert worker.communicate(timeout=DEADLINE)[0] == "done\n"
    with closing(SQLiteStore(path)) as store:
        texts = [message.content for message in store.load("k").messages]
        for who in "abc":
            assert [text for text in texts if text.startswith(who)] == [f"{who} {number}" for number in range(20)]
        assert store.strays() == []


LIMITED = """
    import os, resource, sys
    from session_manager import SaveError, SessionManager
    from session_manager.stores.sqlite import SQLiteStore
    store = SQLiteStore(sys.argv[1])
    m = SessionManager(store)
    m.add_message("k", "user", "before")
    m.save("k")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    m.add_message("k", "user", "x" * 300_000)
    for _ in range(3):
        try:
            m.save("k")
        except SaveError as error:
            print(type(error).__name__)
    assert [len(one.content) for one in store.load("k").messages] == [6]
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    m.save("k")
    print(len(store.load("k").messages))
    m.close()
    store.close()
"""


def test_a_disk_that_is_full_for_a_while(path):
    with start(LIMITED, path) as worker:
        said = worker.communicate(timeout=DEADLINE)[0].split()
    assert len(said) == 4
    assert {*said[:3]} <= {"SaveFailedError", "SaveOutcomeUnknownError"}
    assert said[3] == "2"
    assert raw_elsewhere(path, "PRAGMA integrity_check") == "ok"


def in_a_child(check):
    """Fork, and call a function in the child; return whether it returned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            check()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + DEADLINE
    pid, status = 0, 0
    while not pid and time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
    if not pid:
        os.kill(child, signal.SIGKILL)
    return pid and os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("writes", [False, True])
def test_a_process_that_has_a_database_open_twice_forks_at_once(path, writes):
    """The fork waited for its own lock file, 5 s for each store but the first, and no child could open the database."""
    with closing(SQLiteStore(path)) as one, closing(SQLiteStore(path)) as two, closing(SQLiteStore(path)) as three:
        stores, stop, began = (one, two, three), threading.Event(), threading.Barrier(4)

        def write_on(store):
            session = write_new(store, key=threading.current_thread().name)
            began.wait(DEADLINE)
            while not stop.is_set():
                session = write(store, session, SetSummary(at=AT, text=str(session.revision)))

        def check():
            with closing(SQLiteStore(path)) as own:
                write_new(own, key="child")

        threads = [threading.Thread(target=write_on, args=(store,)) for store in stores if writes]
        try:
            for thread in threads:
                thread.start()
            if writes:
                began.wait(DEADLINE)
            well = in_a_child(check)
        finally:
            stop.set()
            for thread in threads:
                thread.join(DEADLINE)
        assert well
        for number, store in enumerate(stores):
            write_new(store, key=f"after {number}")
            assert store.version("child") is not None
            assert store.strays() == []


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_to_open_its_own_even_while_a_thread_writes(path):
    with closing(SQLiteStore(path)) as store:
        session = write_new(store)
        held, leave = threading.Event(), threading.Event()
        holder = threading.Thread(target=store._group.alone, args=(lambda: (held.set(), leave.wait(DEADLINE)),))
        holder.start()
        assert held.wait(DEADLINE)

        def check():
            one = commit_of(session)
            calls = [store.load, store.version, store.describe, store.delete, store.keys, store.search, store.verify]
            for call in [lambda call=call: call("k") for call in calls] + [lambda: store.write(one), store.close]:
                with pytest.raises(ForkedError):
                    call()
            assert store._database._writer is None

        well = in_a_child(check)
        leave.set()
        holder.join(DEADLINE)
        assert well
        one = commit_of(session, SetSummary(at=AT, text="s"))
        store.write(one)
        assert facts(store.load("k")) == facts(one.session)


FORK = """
    import gc, os, sys, warnings
    from session_manager.stores.sqlite import SQLiteStore
    from tests.support.sqlite_saves import write_new
    warnings.simplefilter("ignore", DeprecationWarning)
    store = SQLiteStore(sys.argv[1])
    write_new(store)
    child = os.fork()
    if not child:
        del store
        gc.collect()
        other = SQLiteStore(sys.argv[1])
        write_new(other, key="child")
        other.close()
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    write_new(store, key="after")
    print(sorted(store.keys()), os.path.exists(sys.argv[1] + "-wal"), flush=True)
    sys.stdin.readline()
    store.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_ends_takes_nothing_of_its_parent_along(path):
    """SQLite's connections must not even be closed there: that would drop the parent's locks, or remove its log."""
    with start(FORK, path) as parent:
        assert parent.stdout.readline() == "['after', 'child', 'k'] True\n"
        with closing(SQLiteStore(path)) as store:
            assert sorted(store.keys()) == ["after", "child", "k"]
        assert os.path.exists(f"{path}-wal"), "the parent has it open"
        parent.communicate("\n", DEADLINE)
    assert raw_elsewhere(path, "PRAGMA integrity_check") == "ok"


def test_the_database_is_opened_by_sqlite_alone(path):
    """Any other descriptor on it, when closed, would drop the locks of the process. (There are none on its log.)"""
    probe = f"""
        import os, sys, builtins
        from session_manager.stores.sqlite import SQLiteStore
        from tests.support.sqlite_saves import write_new
        opened = []
        sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
        for _ in range(2):
            store = SQLiteStore({path!r})
            if not store.version("k"):
                write_new(store)
            store.search("one"), store.delete("k"), store.verify("k"), store.strays(), store.compact("k")
            store.close()
        print([name.rsplit("/", 1)[-1] for name in opened if "chats.db" in name and not name.endswith("-wal")])
    """
    done = run_python("-c", textwrap.dedent(probe))
    assert re.findall(r"'([^']*)'", done.stdout) == ["chats.db.lock", "chats.db", "chats.db.lock"], "created once"


def test_no_database_is_opened_while_a_process_forks(tmp_path):
    """A thread that opened a database in that moment left SQLite's locks to the child, which hung in its next call of SQLite."""
    code = """
        import os, sqlite3, sys, threading, warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on a fork beside threads
        opening, opened = threading.Event(), threading.Event()

        def connect(*arguments, **options):
            opening.set()
            return sqlite3.connect(*arguments, **options)

        def open_database():
            SQLiteStore(sys.argv[1] + "/other.db", connect=connect).close()
            opened.set()

        def in_the_middle():
            threading.Thread(target=open_database).start()
            print("opened in the middle" if opening.wait(0.2) else "held up", flush=True)

        os.register_at_fork(before=in_the_middle)  # the first to be registered is called last
        from session_manager.stores.sqlite import SQLiteStore

        store = SQLiteStore(sys.argv[1] + "/chats.db")
        child = os.fork()
        if not child:
            SQLiteStore(sys.argv[1] + "/childs.db").close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0 and opened.wait(30)
        store.close()
    """
    with interpreter("-c", textwrap.dedent(code), tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=DEADLINE)[0] == "held up\n"
    assert process.returncode == 0
