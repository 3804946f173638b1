"""Forks, spawned processes, signals that end a program or call the manager, the end of the interpreter: nothing hangs or breaks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from session_manager import SessionManager
from session_manager.stores.contract import MAX_TOKENS
from tests.faults.attacks import ROOT, attack
from tests.faults.worker import Place
from tests.support.sizes import Size
from tests.support.spawned import take_turns

KINDS = ("snapshot", "log", "sqlite")
DEADLINE = 60
TIMES = (8, 50, 2000)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def run(code, *arguments, deadline=DEADLINE):
    """Run some code in a process of its own, which is killed if it hangs; return what it prints."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=deadline, check=False)


# Signals that end a program


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_is_told_to_end_at_any_moment_saves_all_and_ends(kind, number, tmp_path, size, record_property):
    """SIGTERM becomes `SystemExit`, SIGINT is `KeyboardInterrupt`; the manager is closed, and nothing is unsaved."""
    times = size.of(*TIMES)
    seen = attack("arena", kind=kind, path=str(tmp_path), seed=int(number), kills=times, told=int(number))
    record_property("seen", seen)
    print(f"{kind} {number}: {seen}")
    assert seen["wrong"] == ""
    assert seen["kills"] == times
    assert seen["acknowledged"] > size.of(1, 5, 5) * times
    assert size == Size.SMOKE or seen["under_way"] > times // 10, "hardly any signal came in the middle of a call"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_unsaved_when_a_deletion_was_interrupted_is_gone_with_it(kind, tmp_path):
    """It started a new session at the next save: neither the old one nor none."""
    with Place(kind, str(tmp_path)).opened() as m:
        m.add_message("k", "user", "saved")
        m.save("k")
        m.add_message("k", "user", "unsaved")
        store = m._residents.store
        deletes = store.delete

        def interrupted(*arguments):
            deletes(*arguments)
            raise KeyboardInterrupt

        store.delete = interrupted
        with pytest.raises(KeyboardInterrupt):
            m.delete("k")
        del store.delete
        m.save_all()
        assert m.get("k") is None
    with Place(kind, str(tmp_path)).opened() as again:
        assert list(again) == []


def test_a_write_that_was_interrupted_before_its_commit_has_not_landed(tmp_path):
    """Nobody could tell, if the session had been written often, deleted, and created again: `save` raised a conflict."""
    refuse_before_commit(tmp_path, lambda store: (store._group, "run"))


def test_a_write_interrupted_before_the_store_saw_it_has_not_landed(tmp_path):
    """The manager had begun it; the store had not noted its token yet, and took it for one that may have landed."""
    refuse_before_commit(tmp_path, lambda store: (store, "write"))


def refuse_before_commit(tmp_path, where):
    with Place("sqlite", str(tmp_path)).opened() as m:
        for number in range(MAX_TOKENS + 1):
            m.add_message("k", "user", str(number))
            m.save("k")
        m.delete("k")
        m.add_message("k", "user", "new")
        owner, name = where(m._residents.store)

        def interrupted(requests):
            raise KeyboardInterrupt

        setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            m.save("k")
        delattr(owner, name)
        assert m.save("k")
    with Place("sqlite", str(tmp_path)).opened() as again:
        assert [message.content for message in again.get_history("k")] == ["new"]


TAKEN_ALONG = """
    import signal, sqlite3, sys, threading, time
    from session_manager import SessionManager
    from session_manager.stores.sqlite import SQLiteStore
    end = time.monotonic() + 30
    armed = threading.Event()

    def until(condition):
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.001)

    class Connection(sqlite3.Connection):
        def execute(self, statement, *arguments):
            if armed.is_set() and threading.current_thread() is not threading.main_thread():
                if statement == "BEGIN IMMEDIATE":
                    until(lambda: len(waiting) == 2)
                if statement == "COMMIT":
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                    until(lambda: len(waiting) == 1)
            return super().execute(statement, *arguments)

    store = SQLiteStore(sys.argv[1], connect=lambda *a, **k: sqlite3.connect(*a, factory=Connection, **k))
    waiting = store._group._waiting
    m = SessionManager(store)
    m.add_message("k", "user", "saved")
    m.save("k")
    m.add_message("k", "user", "unsaved")
    m.add_message("other", "user", "x")
    armed.set()
    leader = threading.Thread(target=m.save, args=("other",))
    leader.start()
    until(lambda: len(waiting) == 1)
    try:
        m.delete("k")
        sys.exit("it was not interrupted")
    except KeyboardInterrupt:
        pass
    leader.join()
    m.close()
    with SessionManager(SQLiteStore(sys.argv[1])) as again:
        print([message.content for message in again.get_history("k")])
"""


def test_an_interrupted_deletion_that_another_thread_commits_is_seen(tmp_path):
    """It was looked for before that COMMIT; so what was unsaved started a new session at the next save."""
    done = run(TAKEN_ALONG, tmp_path / "chats.db")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


# Signal handlers that call the manager


HANDLER = """
    import faulthandler, itertools, random, signal, sys, time
    from session_manager import ReentrantCallError, SessionManager, StorageError
    m = SessionManager(sys.argv[1], max_resident_bytes=20_000)
    faulthandler.dump_traceback_later(20 + float(sys.argv[2]), exit=True)
    chance, numbers = random.Random(1), itertools.count()
    outcomes = {"done": 0, "refused": 0}
    said = {"main": [], "handler": []}

    def turn(key, text):
        with m.turn(key) as turn:
            turn.add_message("user", text)
        said[key].append(text)

    def add(key, text):
        m.add_message(key, "user", text)
        said[key].append(text)

    calls = [
        add, turn, lambda key, text: m.save(key), lambda key, text: m.get("main"), lambda key, text: m.list_sessions(),
        lambda key, text: m.search(text), lambda key, text: m.compact(key), lambda key, text: m.save_all(),
        lambda key, text: m.summarize(key, lambda *_: "s", keep_last=10**6), lambda key, text: m.delete("none"),
    ]

    def handler(number, frame):
        try:
            chance.choice(calls)("handler", f"h{next(numbers)}")
            outcomes["done"] += 1
        except (ReentrantCallError, RuntimeError) as error:
            outcomes["refused"] += 1
            assert isinstance(error, ReentrantCallError) or "turn" in str(error), error

    own = random.Random(2)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0011)
    end = time.monotonic() + float(sys.argv[2])
    count = 0
    while time.monotonic() < end or outcomes["done"] < int(sys.argv[3]):
        own.choice(calls)("main", f"m{count}")
        count += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    m.save_all()
    def texts(m, key):
        return [message.content for message in m.get_history(key)]
    assert texts(m, "main") == said["main"], "lost or doubled"
    shown = texts(m, "handler")
    assert len(shown) == len(set(shown)) and set(said["handler"]) <= set(shown), "lost or doubled by the handler"
    m.close()
    with SessionManager(sys.argv[1]) as again:
        assert (texts(again, "main"), texts(again, "handler")) == (said["main"], shown)
    print(outcomes["done"], outcomes["refused"], count)
"""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_handler_may_call_anything_and_is_served_or_refused(kind, tmp_path, size, record_property):
    done = run(HANDLER, Place(kind, str(tmp_path)).url, size.of(0.15, 1, 60), size.of(4, 21, 21), deadline=100)
    assert done.returncode == 0, done.stderr
    served, refused, calls = map(int, done.stdout.split())
    record_property("seen", (served, refused, calls))
    print(f"{kind}: {served} calls of a handler were served, {refused} refused, in the middle of {calls} calls")


# Forks


FORKS = """
    import faulthandler, os, signal, sys, threading, time, warnings
    from session_manager import Autosave, ForkedError, SessionManager
    warnings.simplefilter("ignore", DeprecationWarning)
    url, own_url, forks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    faulthandler.dump_traceback_later(60 + forks, exit=True)
    m = SessionManager(url, autosave=Autosave(interval=0.001, messages=3))
    m.add_message("k", "user", "x")
    stop = threading.Event()
    counts = [0] * 3

    def write(who):
        while not stop.is_set():
            with m.turn(f"t{who}") as turn:
                turn.add_message("user", str(counts[who]))
            counts[who] += 1
            m.add_message(f"t{who}", "user", str(counts[who]))
            counts[who] += 1
            if counts[who] % 40 == 0:
                m.truncate_history(f"t{who}", 4)

    def child(number):
        signal.alarm(30)  # the watchdog: whoever hangs is killed
        calls = [
            lambda: m.get("k"), lambda: m.add_message("k", "user", "y"), lambda: m.save("k"), lambda: m.save_all(),
            lambda: m.turn("k").__enter__(), lambda: m.delete("k"), lambda: m.list_sessions(), lambda: m.health(), m.close,
        ]
        for at, call in enumerate(calls):
            try:
                call()
            except ForkedError:
                continue
            print(f"call {at} was not refused", file=sys.stderr)
            return 2
        with SessionManager(own_url.replace("#", str(number))) as own:
            own.add_message(f"c{number}", "user", "from a child")
            own.save(f"c{number}")
        return 0

    threads = [threading.Thread(target=write, args=(who,)) for who in range(len(counts))]
    for thread in threads:
        thread.start()
    well = 0
    for number in range(forks):
        time.sleep(0.0007 * (number % 5))
        pid = os.fork()
        if not pid:
            code = 3
            try:
                code = child(number)
            finally:
                os._exit(code)
        well += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    while min(counts) == 0 or sum(counts) <= forks:  # on a busy machine, a thread may hardly have begun
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    m.close()
    with SessionManager(url) as again:
        for who, count in enumerate(counts):
            texts = [message.content for message in again.get_history(f"t{who}")]
            assert texts == [str(number) for number in range(count)][-len(texts):] and texts, "lost or doubled"
        assert [message.content for message in again.get_history("k")] == ["x"]
    print(well, sum(counts))
"""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_forks_while_threads_write_and_autosave_runs(kind, tmp_path, size, record_property):
    """A child is refused by every call, whichever thread held which lock. It can open a manager of its own; the parent goes on.

    In SQLite, a child that was forked in the middle of a thread's transaction took it for one of its own that still ran. It
    waited in vain, and all other processes for it. The fork waited for the end of one, but other threads were faster.
    """
    forks = size.of(5, 20, 1000)
    url = Place(kind, str(tmp_path)).url
    done = run(FORKS, url, url if kind == "sqlite" else f"{kind}:{tmp_path}/own-#", forks, deadline=900)
    assert done.returncode == 0, done.stderr
    well, messages = map(int, done.stdout.split())
    record_property("seen", (well, messages))
    print(f"{kind}: {well} of {forks} children ended well, beside {messages} messages")
    assert well == forks


OUTLIVED = """
    import os, sys
    from session_manager import SessionManager
    url = sys.argv[1]
    m = SessionManager(url)
    m.add_message("parent", "user", "x")
    m.save("parent")
    (opened, opens), (closed, closes) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        code = 3
        try:
            os.close(closes)
            with SessionManager(url) as own:
                for text in ("before", "after"):
                    own.add_message("child", "user", text)
                    own.save("child")
                    os.write(opens, b"x")
                    os.read(closed, 1)
            code = 0
        finally:
            os._exit(code)
    os.close(opens)
    assert os.read(opened, 1)
    m.close()
    os.close(closes)
    assert os.waitpid(pid, 0)[1] == 0
    with SessionManager(url) as again:
        print([message.content for message in again.get_history("child")], again.verify())
"""


def test_a_forked_child_keeps_its_saves_after_its_parent_has_closed(tmp_path):
    """In the child SQLite took the parent's locks for its own; so the parent was the last, and removed the child's log."""
    done = run(OUTLIVED, Place("sqlite", str(tmp_path)).url)
    assert (done.returncode, done.stdout) == (0, "['before', 'after'] []\n"), done.stderr


BUSY = """
    import os, sys, threading, warnings
    import session_manager.stores.sqlite.forks
    from session_manager import SessionManager, StorageError
    warnings.simplefilter("ignore", DeprecationWarning)
    session_manager.stores.sqlite.forks._PATIENCE = 0.05
    url, other = sys.argv[1:]
    m = SessionManager(url)
    began, goes_on = threading.Event(), threading.Event()

    def read(connection):
        connection.execute("BEGIN")
        began.set()
        goes_on.wait()
        return connection.execute("SELECT count(*) FROM sessions").fetchone()

    database = m._residents.store._database
    reader = threading.Thread(target=database.read, args=(read,))
    reader.start()
    began.wait()
    pid = os.fork()
    if not pid:
        code = 3
        try:
            SessionManager(other).close()
            SessionManager(url)
        except StorageError as error:
            code = 0 if "forked" in error.reason else 4
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    goes_on.set()
    reader.join()
    m.add_message("k", "user", "x")
    m.close()
"""


def test_a_child_forked_in_the_middle_of_a_call_cannot_open_the_database(tmp_path):
    """The fork does not wait for ever. What a child would save is not safe then: it is refused."""
    done = run(BUSY, Place("sqlite", str(tmp_path)).url, f"sqlite:{tmp_path}/other.db")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks in a process that has threads
def test_every_way_to_start_a_process_beside_an_open_manager(method, tmp_path):
    context = multiprocessing.get_context(method)
    url = Place("sqlite", str(tmp_path)).url
    with SessionManager(url) as m:
        m.add_message("shared", "user", "parent")
        m.save("shared")
        workers = [context.Process(target=take_turns, args=(url, who, 10)) for who in range(3)]
        for worker in workers:
            worker.start()
        m.add_message("shared", "user", "beside")
        m.save("shared")
        for worker in workers:
            worker.join(DEADLINE)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with SessionManager(url) as again:
        texts = [message.content for message in again.get_history("shared")]
    assert sorted(texts) == sorted(
        ["parent", "beside", *(f"{who} {number}" for who in range(3) for number in range(10))]
    )


# The end of the interpreter


EXIT = """
    import os, signal, sys, threading
    from session_manager import Autosave, SessionManager
    how = sys.argv[2]
    m = SessionManager(sys.argv[1], autosave=Autosave(interval=0.002, messages=2), archive=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    def add(key, number):
        m.add_message(key, "user", f"{number} " + "x" * 2000)
        if number % 20 == 19:
            m.truncate_history(key, 5)

    def forever():
        for number in range(10**9):
            add("thread", number)

    if how == "thread":
        threading.Thread(target=forever, daemon=True).start()
    for number in range(300):
        for key in "ab":
            add(key, number)
    if how == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "SIGINT":
        os.kill(os.getpid(), signal.SIGINT)
    while how in ("SIGTERM", "SIGINT"):
        pass
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "thread"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_interpreter_while_autosave_is_busy(kind, how, tmp_path):
    """What was added before is saved without `close`; what a thread adds meanwhile, up to some message."""
    url = Place(kind, str(tmp_path)).url
    done = run(EXIT, url, how)
    assert done.returncode == (-signal.SIGINT if how == "SIGINT" else 0), done.stderr
    with SessionManager(url) as m:
        for key in m:
            there = [*m.get_archive(key), *m.get_history(key)]
            numbers = [int(message.content.split()[0]) for message in there]
            assert numbers == list(range(len(numbers))), "lost or doubled"
            assert key == "thread" or len(numbers) == 300
        assert m.verify() == []
