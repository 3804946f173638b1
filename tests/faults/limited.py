"""A process that meets a limit of the system in the middle of its work, does all that it can, and goes on when it is lifted.

    python -m tests.faults.limited fsize log /tmp/x

It prints, as JSON, what became of each call while the limit held. It asserts the rest:

* each error is a typed one, and nothing is left over;
* the stored session is the old one, or the new one if the call returned;
* a session whose save failed is dirty, and the same manager saves everything afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys

from session_manager import SaveFailedError, SaveOutcomeUnknownError, SessionManager, StorageError
from tests.faults.expected import digest, shown
from tests.faults.worker import DATABASE, DIRECTORY
from tests.support.threads import alive

LARGE = 4_000_000
MEGABYTE = 1 << 20


def run(*command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


@contextlib.contextmanager
def limit(which, soft):
    before, hard = resource.getrlimit(which)
    resource.setrlimit(which, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (before, hard))


def fsize(path):
    return limit(resource.RLIMIT_FSIZE, 100_000)


def nofile(path):
    free = os.dup(0)
    os.close(free)
    return limit(resource.RLIMIT_NOFILE, free)


def memory(path, megabytes=2.0):
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    return limit(resource.RLIMIT_AS, pages * resource.getpagesize() + int(megabytes * MEGABYTE))


@contextlib.contextmanager
def full(path):
    """The disk has no byte left."""
    with open(os.path.join(path, "filler"), "wb", buffering=0) as file:
        for size in (MEGABYTE, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    yield
    os.unlink(os.path.join(path, "filler"))


@contextlib.contextmanager
def inodes(path):
    """The disk has no inode left."""
    names = []
    with contextlib.suppress(OSError):
        while True:
            name = os.path.join(path, f"filler-{len(names)}")
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
            names.append(name)
    yield
    for name in names:
        os.unlink(name)


@contextlib.contextmanager
def immutable(path):
    """No file of a session can be changed."""
    where = os.path.join(path, DIRECTORY)
    names = (
        [os.path.join(where, name) for name in os.listdir(where) if ".session." in name]
        if os.path.isdir(where)
        else [os.path.join(path, name) for name in os.listdir(path) if not name.endswith((".lock", "-shm"))]
    )
    run("chattr", "+i", *names)
    try:
        yield
    finally:
        run("chattr", "-i", *names)


#: What breaks, and the options of the small disk that it needs.
BREAKERS = {
    "fsize": (fsize, ""),
    "nofile": (nofile, ""),
    "memory": (memory, ""),
    "immutable": (immutable, ""),
    "full": (full, "size=32m"),
    "inodes": (inodes, "size=64m,nr_inodes=64"),
}


def calls(m):
    """Calls on sessions, by the key of the one that they change; those that fail are tried a second time."""

    def turn():
        with m.turn("turned", "r1") as turn:
            turn.add_message("user", "t" * 50_000)

    return {
        "large": lambda: m.save("large"),
        "small": lambda: m.save("small"),
        "new": lambda: m.save("new"),
        "turned": turn,
        "forked": lambda: m.fork("large", "forked"),
        "compacted": lambda: m.compact("compacted"),
        "all": m.save_all,
    }


def attempt(call):
    """Return what became of a call: ``""``, or the error's type and number."""
    try:
        call()
    except (StorageError, MemoryError) as error:
        failures = list(getattr(error, "failures", {}).values()) or [error]
        cause = failures[0]
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__
        return type(error).__name__, errno.errorcode.get(getattr(cause, "errno", 0), "")
    return ""


def prepare(m):
    for key in ("large", "small", "turned", "compacted", "untouched"):
        m.add_message(key, "user", f"{key} \u00fc")
        m.save(key)
        m.add_message(key, "user", "old")
        m.save(key)
    m.add_message("large", "user", "x" * LARGE)
    m.add_message("small", "user", "y" * 200)
    m.add_message("new", "user", "z")


def work(breaker, kind, path):
    url = f"{kind}:{os.path.join(path, DATABASE if kind == 'sqlite' else DIRECTORY)}"
    with SessionManager(url) as m:
        prepare(m)
        stored = look(url)
        threads, descriptors = alive(), descriptors_of()
        outcomes = {}
        with breaker(path):
            for key, call in calls(m).items():
                outcomes[key] = attempt(call)
            for key in ("large", "small", "turned", "untouched"):
                assert m.get_history(key)[0].content.startswith(key), "what is in RAM is there"
            dirty = m.health().dirty
        check(outcomes, stored, look(url), dirty)
        assert descriptors_of() <= descriptors, "descriptors that were left open"
        assert alive() <= threads
        m.save_all()
        if not m.get("turned").refs:
            calls(m)["turned"]()
        assert (m.health().ok, m.health().dirty) == (True, ())
        assert m.verify() == []
        expected = {key: digest(shown(m, key)) for key in m}
        assert {"large", "small", "new", "turned", "compacted", "untouched"} <= set(expected)
    with SessionManager(url) as again:
        assert {key: digest(shown(again, key)) for key in again} == expected
        assert len(again.get_history("turned")) == 3, "a turn that failed is lost, or there twice"
    left = [name for name in os.listdir(path) + os.listdir(os.path.dirname(url.partition(":")[2])) if "tmp-" in name]
    assert left == [], left
    return outcomes


def check(outcomes, before, after, dirty):
    """Assert that what failed is dirty, and is stored as it was; unless nobody knows."""
    failed = {key: one[0] for key, one in outcomes.items() if one}
    for key in ("large", "small", "turned"):
        if key in failed and "all" in failed:
            assert key in dirty or failed[key] == "MemoryError", f"{key} has failed, and is not dirty"
        if failed.get(key) in (None, SaveFailedError.__name__) and key in dirty:
            assert after[key] == before[key], f"{key} has failed, and is another one"
        if key not in failed:
            assert after[key] != before[key], f"{key} was saved, and is not stored"
    assert set(failed.values()) <= {
        SaveFailedError.__name__,
        SaveOutcomeUnknownError.__name__,
        "MemoryError",
        "StorageError",
    }
    assert after["untouched"] == before["untouched"]
    assert after["compacted"] == before["compacted"]


def look(url):
    """Return what is stored, as another manager sees it."""
    with SessionManager(url, read_only=True) as m:
        return {key: digest(shown(m, key)) for key in m}


def descriptors_of():
    return len(os.listdir("/proc/self/fd"))


def read_only(kind, path):
    """A disk that was mounted again, to be read only: sessions can be read; written again when it can be."""
    url = f"{kind}:{os.path.join(path, DATABASE if kind == 'sqlite' else DIRECTORY)}"
    with SessionManager(url) as m:
        prepare(m)
    stored = look(url)
    run("mount", "-o", "remount,ro", path)
    outcome = attempt(lambda: SessionManager(url))
    assert outcome, "it was opened to be written"
    assert look(url) == stored
    run("mount", "-o", "remount,rw", path)
    with SessionManager(url) as m:
        m.add_message("small", "user", "again")
        assert m.save("small")
    assert look(url)["untouched"] == stored["untouched"]
    return {"open": outcome}


def main(name, kind, path, *megabytes):
    if megabytes:
        print(json.dumps(work(lambda place: memory(place, float(*megabytes)), kind, path)))
        return
    if name == "readonly":
        run("mount", "-t", "tmpfs", "-o", "mode=0700,size=64m", "none", path)
        outcomes = read_only(kind, path)
    else:
        breaker, options = BREAKERS[name]
        if options:
            run("mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "none", path)
        outcomes = work(breaker, kind, path)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
