"""Limits that the system sets: no space, no inode, no descriptor, no memory, files that cannot be changed. And then it can go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.processes import run_python
from tests.support.sizes import Size

DEADLINE = 60
KINDS = ("snapshot", "log", "sqlite")
FAILED = "SaveFailedError"
EVERY = ("large", "small", "new", "turned", "forked", "all")
#: Which calls must fail, and how; others may. A log needs no inode, and a database that is open no descriptor.
MUST_FAIL = {
    ("fsize", "snapshot"): (("large", "forked", "all"), FAILED, "EFBIG"),
    ("fsize", "log"): (("forked", "all"), FAILED, "EFBIG"),
    ("fsize", "sqlite"): (("large", "all"), FAILED, ""),
    ("nofile", "snapshot"): (EVERY, FAILED, "EMFILE"),
    ("nofile", "log"): (EVERY, FAILED, "EMFILE"),
    ("nofile", "sqlite"): ((), "", ""),
    **{("memory", kind): (("large", "forked", "all"), "MemoryError", "") for kind in KINDS},
    ("immutable", "snapshot"): (("large", "small", "turned", "all"), FAILED, "EPERM"),
    ("immutable", "log"): (("large", "small", "turned"), FAILED, "EPERM"),
    ("immutable", "sqlite"): (("large", "all"), FAILED, ""),
    ("full", "snapshot"): (EVERY, FAILED, "ENOSPC"),
    ("full", "log"): (("new", "forked", "all"), FAILED, "ENOSPC"),
    ("full", "sqlite"): (("large", "all"), FAILED, ""),
    ("inodes", "snapshot"): (EVERY, FAILED, "ENOSPC"),
    ("inodes", "log"): (("new", "forked", "all"), FAILED, "ENOSPC"),
    ("inodes", "sqlite"): ((), "", ""),
    **{("readonly", kind): (("open",), "StorageError", "EROFS") for kind in KINDS},
}
MOUNTS = ("full", "inodes", "readonly")


def namespace():
    """Return the command in front of one that mounts, and whose mounts end with it."""
    for command in (["unshare", "-m"], ["unshare", "-Urm"]):
        probe = [*command, "mount", "-t", "tmpfs", "none", "/mnt"]
        if shutil.which("unshare") and not subprocess.run(probe, capture_output=True, check=False).returncode:
            return command
    pytest.skip("no mounts here")


@pytest.fixture
def on_disk():
    """A directory beside the tests: on a disk, if they are."""
    with tempfile.TemporaryDirectory(prefix=".tests-", dir=ROOT) as path:
        yield Path(path)


def can_make_immutable(path):
    """Say whether a file can be made immutable, also for a process that has it open: tmpfs still lets that one write."""
    probe = path / "probe"
    with open(probe, "ab", buffering=0) as file:
        if (
            shutil.which("chattr") is None
            or subprocess.run(["chattr", "+i", probe], capture_output=True, check=False).returncode
        ):
            return False
        try:
            file.write(b"x")
        except PermissionError:
            return True
        finally:
            subprocess.run(["chattr", "-i", probe], check=True)
    return False


def limited(prefix, name, kind, path, *more):
    """Run `tests.faults.limited`; return what became of each call while the limit held."""
    words = ["-m", "tests.faults.limited", name, kind, str(path), *more]
    if prefix:
        command = [*prefix, sys.executable, "-W", "error", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    else:
        done = run_python(*words, cwd=ROOT, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr or f"it ended by signal {-done.returncode}"
    return json.loads(done.stdout)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="made for Linux")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in MUST_FAIL))
def test_a_limit_fails_calls_and_nothing_else_until_it_is_lifted(name, kind, tmp_path, on_disk, record_property):
    """Without memory, msgspec used to end the process in the middle of a save."""
    path = on_disk if name == "immutable" else tmp_path
    if name == "immutable" and not can_make_immutable(path):
        pytest.skip("no file can be made immutable here, for who has it open, too")
    outcomes = limited(namespace() if name in MOUNTS else [], name, kind, path)
    record_property("outcomes", outcomes)
    print(f"{name} {kind}: {outcomes}")
    keys, error, number = MUST_FAIL[name, kind]
    assert {key: outcomes[key] for key in keys} == {key: [error, number] for key in keys}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="made for Linux")
@pytest.mark.timeout(1200)
@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_ends_anywhere(kind, tmp_path, size):
    """From no byte left to more than enough, in steps: the limit meets another allocation each time."""
    failed = 0
    steps = range(80) if size == Size.SOAK else (10,)
    for step in steps:
        path = tmp_path / str(step)
        path.mkdir()
        outcomes = limited([], "memory", kind, path, str(step * 0.5))
        failed += any(outcomes.values())
    print(f"{kind}: {failed} of {len(steps)} amounts of memory were not enough")
    assert failed > 0
    assert outcomes["small"] == ""
