"""Many threads that write at once: one transaction, and an outcome of its own for each."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import attrs
import pytest

from session_manager import ClosedError, ConflictError, ReentrantCallError, SaveFailedError, SaveOutcomeUnknownError
from session_manager.model import Version
from session_manager.model.changes import Append, SetSummary
from session_manager.stores.contract import Commit
from session_manager.stores.sqlite import SQLiteStore, group_commit
from session_manager.stores.sqlite.group_commit import Request
from tests.support.faulty_sqlite import Faulty
from tests.support.places import ROOT
from tests.support.processes import start
from tests.support.small_sessions import AT, message, session_of
from tests.support.sqlite_saves import commit_of, write, write_new
from tests.support.strategies import facts

DEADLINE = 30


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chats.db")


@pytest.fixture
def store(path):
    with closing(SQLiteStore(path)) as one:
        yield one


class Held:
    """Holds the leader's place, so that requests of threads gather in line behind it."""

    def __init__(self, store):
        self.store = store
        self.leave = threading.Event()
        self.begun = threading.Event()
        self.interrupted = False
        self.thread = threading.Thread(target=self.lead)

    def lead(self):
        try:
            self.store._group.run([Request(None, self.wait)])
        except KeyboardInterrupt:
            self.interrupted = True

    def wait(self, connection):
        self.begun.set()
        assert self.leave.wait(DEADLINE)

    def __enter__(self):
        self.thread.start()
        assert self.begun.wait(DEADLINE)
        return self

    def in_line(self, number):
        """Wait until so many are in line, this one too."""
        end = time.monotonic() + DEADLINE
        while len(self.store._group._waiting) < number:
            assert time.monotonic() < end

    def __exit__(self, *_):
        self.leave.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


def together(store, calls):
    """Call each in a thread of its own, all in line before the first is run; return what each raised."""
    errors = [None] * len(calls)

    def run(number, call):
        try:
            call()
        except BaseException as error:
            errors[number] = error

    threads = []
    with Held(store) as held:
        for number, call in enumerate(calls):
            threads.append(threading.Thread(target=run, args=(number, call)))
            threads[-1].start()
            held.in_line(number + 2)
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    return errors


def new(key, *texts):
    return Commit(attrs.evolve(session_of(*texts or ("one",)), key=key, revision=1), (), None, token=f"{key} new")


def test_threads_share_a_transaction_and_each_has_its_own_outcome(store):
    write_new(store, key="there")
    commits = [new(f"k{number}") for number in range(10)]
    wrong = attrs.evolve(new("missing"), base=Version("g", 4))
    writes = [*commits[:5], new("there"), *commits[5:], wrong]
    seen = []
    store._database.writer.set_trace_callback(seen.append)
    errors = together(store, [lambda one=one: store.write(one) for one in writes])
    store._database.writer.set_trace_callback(None)
    assert [type(error) for error in errors if error is not None] == [ConflictError, ConflictError]
    assert (errors[5].key, errors[11].key) == ("there", "missing")
    assert sorted(store.keys()) == sorted(["there", *(f"k{number}" for number in range(10))])
    assert seen.count("COMMIT") == 1


def test_a_thread_behind_another_one_lets_it_lead_for_a_while(store):
    """Threads that asked for the lock at once led batches of three, where sixteen were in line."""
    first, second = Request(None, lambda _: None), Request(None, lambda _: None)
    store._group._waiting[first] = None  # of a thread that is about to lead
    began = time.monotonic()
    store._group.run([second])
    assert time.monotonic() - began >= group_commit._PATIENCE
    assert first.done
    assert second.done


def test_ones_failure_is_not_anothers(path):
    """A failing request undoes the shared transaction: the others are done again, each in one of its own."""
    with closing(SQLiteStore(path)) as store:
        before = write_new(store, attrs.evolve(session_of("a"), key="damaged", revision=1))
        store._group.alone(
            lambda: store._database.writer.execute(
                "INSERT INTO messages (session, position, line, checksum) VALUES (1, 1, 'x', 1)"
            )
        )
        bad = commit_of(before, Append(at=AT, messages=(message("new"),)))
        writes = [new("a"), bad, new("b")]
        errors = together(store, [lambda one=one: store.write(one) for one in writes])
        assert [type(error).__name__ for error in errors] == ["NoneType", "CorruptSessionError", "NoneType"]
        assert sorted(store.keys()) == ["a", "b", "damaged"]
        assert store.version("damaged") == before.version


def test_a_bug_in_ones_request_is_its_own(store):
    def broken(connection):
        connection.execute("INSERT INTO garbage VALUES (12345)")
        raise ZeroDivisionError

    errors = together(
        store, [lambda: store.write(new("a")), lambda: store._run(Request("b", broken)), lambda: store.write(new("c"))]
    )
    assert [type(error) for error in errors] == [type(None), ZeroDivisionError, type(None)]
    assert sorted(store.keys()) == ["a", "c"]


def test_when_the_commit_fails_all_of_them_are_unknown(path):
    with closing(
        SQLiteStore(path, connect=lambda *args, **options: sqlite3.connect(*args, factory=Faulty, **options))
    ) as store:
        Faulty.failing = "COMMIT"
        try:
            commits = [new(f"k{number}") for number in range(3)]
            errors = together(store, [lambda one=one: store.write(one) for one in commits])
        finally:
            Faulty.failing = None
        assert [(type(error), error.key) for error in errors] == [(SaveOutcomeUnknownError, f"k{n}") for n in range(3)]
        assert [store.landed(one) for one in commits] == [False] * 3
        again = [attrs.evolve(one, token=f"{one.token} again") for one in commits]
        assert store.write_many(again) == [None] * 3


def test_threads_of_different_sessions_and_readers_all_at_once(store):
    failures = []

    def work(who):
        try:
            session = write_new(store, attrs.evolve(session_of(), key=f"k{who}", revision=1))
            for number in range(40):
                session = write(store, session, Append(at=AT, messages=(message(f"{who} {number}"),)))
                assert store.version(f"k{who}") == session.version
                assert len(store.load(f"k{(who + 1) % 8}").messages if store.version(f"k{(who + 1) % 8}") else "") <= 40
                if not number % 13:
                    store.search("needle")
            assert facts(store.load(f"k{who}")) == facts(session)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert failures == []
    assert len(store._database._idle) <= 8
    assert store.strays() == []


def test_a_request_whose_thread_is_gone_is_settled_before_any_answer(store):
    """As an interrupt in the wrong place leaves it: still in line, and nobody waits for it."""
    commit = new("k")
    store._group._waiting[store._writing(commit)] = None
    assert store.landed(commit) is True


class Interrupting(sqlite3.Connection):
    """Interrupts a COMMIT, before or after doing it."""

    armed: str | None = None

    def execute(self, statement, *parameters):
        armed = Interrupting.armed
        if statement != "COMMIT" or armed is None:
            return super().execute(statement, *parameters)
        Interrupting.armed = None
        if armed == "after":
            super().execute(statement, *parameters)
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_in_the_leaders_commit_is_no_business_of_the_others(path, when):
    def connect(*args, **options):
        return sqlite3.connect(*args, factory=Interrupting, **options)

    with closing(SQLiteStore(path, connect=connect)) as store:
        before = write_new(store, key="old")
        commits = [new("a"), new("b"), commit_of(before, SetSummary(at=AT, text="s"))]
        Interrupting.armed = when
        assert together(store, [lambda one=one: store.write(one) for one in commits]) == [None] * 3
        assert Interrupting.armed is None
        assert [facts(store.load(one.session.key)) for one in commits] == [facts(one.session) for one in commits]
        assert [store.landed(one) for one in commits] == [True] * 3


def test_an_interrupt_before_the_commit_is_known_to_have_written_nothing(path):
    with closing(SQLiteStore(path, connect=lambda *a, **o: sqlite3.connect(*a, factory=Interrupting, **o))) as store:
        before = write_new(store)
        one = commit_of(before, SetSummary(at=AT, text="s"))
        Interrupting.armed = "before"
        with pytest.raises(KeyboardInterrupt):
            store.write(one)
        assert one.doubt.exists is False
        assert store.landed(one) is False
        assert facts(store.load("k")) == facts(before)


def test_an_interrupted_commit_that_may_be_its_own_is_told_as_unknown(path):
    with closing(SQLiteStore(path, connect=lambda *a, **o: sqlite3.connect(*a, factory=Interrupting, **o))) as store:
        write_new(store, key="old")
        Interrupting.armed = "after"
        [error] = together(store, [lambda: store.delete("old")])
        assert isinstance(error, SaveOutcomeUnknownError)
        assert store.delete("old") is False


def test_an_interrupt_in_the_leader_loses_nobodys_request(store):
    calls = []

    def interrupted(connection):
        calls.append(1)
        connection.execute("INSERT INTO garbage VALUES (12345)")
        if len(calls) == 1:
            raise KeyboardInterrupt

    writes = [
        lambda: store.write(new("a")),
        lambda: store._run(Request(None, interrupted)),
        lambda: store.write(new("b")),
    ]
    assert together(store, writes) == [None] * 3
    assert len(calls) == 2
    assert sorted(store.keys()) == ["a", "b"]


def test_a_handler_that_writes_in_the_middle_of_a_write_is_refused(store):
    def again(connection):
        with pytest.raises(ReentrantCallError):
            store.write(new("inner"))
        with pytest.raises(ReentrantCallError):
            store.close()

    store._run(Request(None, again))
    write_new(store)


def test_those_who_wait_when_it_is_closed_are_told(store):
    errors = []

    def write_later():
        try:
            store.write(new("k"))
        except ClosedError as error:
            errors.append(error)

    with Held(store) as held:
        closer = threading.Thread(target=store.close)
        closer.start()
        waiting = threading.Thread(target=write_later)
        waiting.start()
        held.in_line(2)
    closer.join(DEADLINE)
    waiting.join(DEADLINE)
    assert not closer.is_alive()
    assert not waiting.is_alive()
    with closing(SQLiteStore(store.path)) as again:
        assert (again.load("k") is None) == bool(errors)


HOLD_LOCK = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""
HOLD_TRANSACTION = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.close()
"""


@pytest.mark.parametrize(
    ("code", "suffix", "stop"), [(HOLD_LOCK, ".lock", False), (HOLD_LOCK, ".lock", True), (HOLD_TRANSACTION, "", False)]
)
def test_a_holder_in_another_process_is_waited_for_as_long_as_set(path, code, suffix, stop):
    with closing(SQLiteStore(path, busy_timeout=0.1)) as store:
        session = write_new(store)
        with start(code, path + suffix) as holder:
            assert holder.stdout.readline() == "held\n"
            if stop:
                holder.send_signal(signal.SIGSTOP)
            before = time.monotonic()
            commits = [commit_of(session, SetSummary(at=AT, text="s")), *(new(f"k{n}") for n in range(9))]
            errors = store.write_many(commits)
            assert time.monotonic() - before < 5
            assert all(isinstance(error, SaveFailedError) for error in errors)
            assert [error.key for error in errors] == ["k", *(f"k{n}" for n in range(9))]
            assert "busy" in errors[0].reason or "locked" in errors[0].reason
            assert facts(store.load("k")) == facts(session)
            with pytest.raises(SaveFailedError):
                store.landed(commits[0])
            if stop:
                holder.send_signal(signal.SIGCONT)
            holder.communicate("\n", DEADLINE)
        assert store.write_many(commits) == [None] * 10


@pytest.mark.long
def test_ctrl_c_at_any_moment_neither_loses_nor_doubles_nor_leaves_a_lock(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "tests.support.interrupted_sqlite", str(tmp_path / "chats.db")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "well\n", done.stderr
