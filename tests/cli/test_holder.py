"""The command ``holder``."""

from __future__ import annotations

import os
import socket

from session_manager import SessionManager, converter
from session_manager.operations import Holder
from tests.support.command import run
from tests.support.processes import start


def test_the_process_that_has_a_storage_open_is_named(storage):
    with SessionManager(storage):
        done = run("holder", "-s", storage)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"process {os.getpid()}")
        assert ("since" in done.out) == (not storage.startswith("sqlite"))
        found = converter.structure(run("holder", "-s", storage, "--json").json, Holder)
        assert (found.pid, found.alive) == (os.getpid(), True)


def test_nobody_has_a_storage_open(storage):
    assert run("holder", "-s", storage).out == "no process has it open\n"
    assert run("holder", "-s", storage, "--json").out == "null\n"


def test_a_process_that_was_killed_has_ended(log):
    code = "import sys; from session_manager import *; m = SessionManager(sys.argv[1]); print(1, flush=True); input()"
    with start(code, log) as process:
        process.stdout.readline()
        process.kill()
        process.wait()
        done = run("holder", "-s", log)
    assert done.out.startswith(f"process {process.pid} on {socket.gethostname()} since ")
    assert done.out.endswith("which has ended: the storage is free\n")


def test_a_storage_that_is_not_there_has_no_holder(tmp_path):
    done = run("holder", "-s", tmp_path / "nope")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
