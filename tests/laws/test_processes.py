"""Real processes and signals: who may open what, kill -9, fork, Ctrl-C, and the system calls of a save."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest

from session_manager import ForkedError, ReentrantCallError, SessionManager, StorageLockedError
from tests.support.interrupted import CALLS
from tests.support.places import ROOT
from tests.support.processes import start

DEADLINE = 60


HOLD = """
    import sys
    from session_manager import SessionManager
    m = SessionManager(sys.argv[1])
    m.add_message("k", "user", "from the holder")
    m.save("k")
    print("open", flush=True)
    sys.stdin.readline()
    m.close()
"""


def test_a_second_process_is_refused_at_once_and_told_who_has_it(tmp_path):
    with start(HOLD, tmp_path / "chats") as holder:
        assert holder.stdout.readline() == "open\n"
        before = time.monotonic()
        with pytest.raises(StorageLockedError) as raised:
            SessionManager(tmp_path / "chats")
        assert time.monotonic() - before < 5
        assert raised.value.holder["pid"] == holder.pid
        assert set(raised.value.holder) == {"pid", "host", "started"}
        assert str(holder.pid) in str(raised.value)
        holder.communicate("\n", DEADLINE)
    with SessionManager(tmp_path / "chats") as m:
        assert len(m.get_history("k")) == 1


def test_when_the_holder_is_killed_it_opens_at_once_with_all_of_it(tmp_path):
    with start(HOLD, tmp_path / "chats") as holder:
        assert holder.stdout.readline() == "open\n"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(DEADLINE)
    with SessionManager(tmp_path / "chats") as m:
        assert [message.content for message in m.get_history("k")] == ["from the holder"]


FORKING = """
    import os, signal, sys, warnings
    from session_manager import SessionManager
    m = SessionManager(sys.argv[1])
    warnings.simplefilter("ignore", DeprecationWarning)
    if not os.fork():
        print("forked", flush=True)
        sys.stdin.readline()
        os._exit(0)
    signal.pause()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("url", ["snapshot:{}", "log:{}", "sqlite:{}/chats.db"])
def test_a_forked_child_keeps_no_lock_of_a_parent_that_is_killed(url, tmp_path):
    url = url.format(tmp_path / "chats")
    with start(FORKING, url) as parent:
        assert parent.stdout.readline() == "forked\n"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(DEADLINE)
        with SessionManager(url) as m:
            m.add_message("k", "user", "a")
        parent.communicate("\n", DEADLINE)


def test_a_second_manager_of_one_process_is_refused_too(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        with pytest.raises(StorageLockedError) as raised:
            SessionManager(tmp_path / "chats")
        assert raised.value.holder["pid"] == os.getpid()
        m.add_message("k", "user", "still works")
        m.save("k")


def test_close_from_another_thread_lets_go_of_the_lock(tmp_path):
    m = SessionManager(tmp_path / "chats")
    closer = threading.Thread(target=m.close)
    closer.start()
    closer.join(DEADLINE)
    SessionManager(tmp_path / "chats").close()


def test_the_lock_file_is_never_deleted(tmp_path):
    SessionManager(tmp_path / "chats").close()
    inode = (tmp_path / "chats" / ".lock").stat().st_ino
    SessionManager(tmp_path / "chats").close()
    assert (tmp_path / "chats" / ".lock").stat().st_ino == inode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_to_open_its_own_manager(tmp_path):
    """A thread of the parent may hold the lock at the moment of the fork."""
    m = SessionManager(tmp_path / "chats")
    m.add_message("k", "user", "a")
    held, leave = threading.Event(), threading.Event()

    def hold():
        with m._residents.lock.checked:
            held.set()
            leave.wait(DEADLINE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(DEADLINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            calls = [lambda: m.get("k"), lambda: m.save("k"), lambda: m.add_message("k", "user"), lambda: m.close()]
            refused = 0
            for call in calls:
                try:
                    call()
                except ForkedError:
                    refused += 1
            del m
            code = 0 if refused == len(calls) else 2
        finally:
            os._exit(code)
    end = time.monotonic() + DEADLINE
    pid = 0
    while not pid and time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
    leave.set()
    holder.join(DEADLINE)
    if not pid:
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(status) == 0
    with pytest.raises(StorageLockedError):
        SessionManager(tmp_path / "chats")
    m.save("k")
    m.close()


def test_a_signal_handler_inside_a_call_is_refused_and_nothing_breaks(tmp_path):
    m = SessionManager(tmp_path / "chats")
    m.add_message("k", "user", "0")
    outcomes = {"added": 0, "refused": 0}

    def handler(number, frame):
        try:
            m.add_message("k", "user", "from the handler")
            m.save("k")
            outcomes["added"] += 1
        except ReentrantCallError:
            outcomes["refused"] += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    try:
        end = time.monotonic() + 2
        added = 1
        while not outcomes["added"] or (time.monotonic() < end and added < 1500):
            assert time.monotonic() < end + DEADLINE, "each call of the handler is refused"
            m.add_message("k", "user", str(added))
            added += 1
            if not added % 10:
                m.save("k")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    m.save("k")
    texts = [message.content for message in m.get_history("k")]
    assert [text for text in texts if text != "from the handler"] == [str(number) for number in range(added)]
    m.close()
    with SessionManager(tmp_path / "chats") as again:
        assert [message.content for message in again.get_history("k")] == texts


def interrupted(*arguments):
    command = [sys.executable, "-m", "tests.support.interrupted", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)


def test_ctrl_c_at_any_moment_neither_loses_nor_doubles(tmp_path, size):
    done = interrupted("messages", tmp_path / "chats", size.of(0.7, 2.5, 30))
    assert done.stdout == "well\n", done.stderr


@pytest.mark.long
@pytest.mark.parametrize("call", sorted(CALLS))
def test_ctrl_c_at_any_moment_leaves_no_lock_behind(tmp_path, call):
    """Interrupts between a lock and the try that would have released it used to hang `close` and other threads."""
    done = interrupted("locks", tmp_path / "chats", call)
    assert done.stdout == "well\n", done.stderr


TRACED = """
    import os, sys
    from session_manager import SessionManager
    m = SessionManager(sys.argv[1])
    m.add_message("k", "user", "one")
    m.save("k")
    m.add_message("k", "user", "two")
    os.write(2, b"BEGIN")
    m.save("k")
    os.write(2, b"ACKNOWLEDGED")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_order_of_the_system_calls_of_a_save(tmp_path):
    trace = tmp_path / "trace"
    calls = "openat,write,writev,pwrite64,fsync,fdatasync,close,rename,renameat,renameat2,fchmod"
    command = ["strace", "-f", "-o", trace, "-e", f"trace={calls}", sys.executable, "-c", textwrap.dedent(TRACED)]
    done = subprocess.run([*command, tmp_path / "chats"], capture_output=True, timeout=DEADLINE, check=False)
    if b"PTRACE" in done.stderr or b"ptrace" in done.stderr:
        pytest.skip("this machine does not let strace trace")
    lines = trace.read_text().split("BEGIN", 1)[1].split("\n")[1:]
    last = next(number for number, line in enumerate(lines) if "ACKNOWLEDGED" in line)
    between = [line for line in lines[:last] if not line.strip().endswith("resumed>)")]
    steps = [re.search(r"(\w+)\((.*)", line).groups() for line in between if "(" in line]
    assert [name for name, _ in steps] == ["openat", "writev", "fsync", "close", "renameat", "fsync"]
    opened = steps[0][1]
    directory = opened.split(",")[0]
    for flag in ("O_EXCL", "O_CREAT", "O_NOFOLLOW", "O_CLOEXEC", "0600", '".tmp-'):
        assert flag in opened
    temporary = opened.rsplit("=", 1)[1].strip()
    assert steps[1][1].startswith(f"{temporary},")
    assert steps[2][1].startswith(f"{temporary})")
    assert steps[4][1].startswith(f"{directory}, ")
    assert '"k.session.json"' in steps[4][1]
    assert steps[5][1].startswith(f"{directory})")
