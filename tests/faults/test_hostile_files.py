"""Hostile files through the public calls: mutated ones, bombs, and what is no plain file. (The codecs alone: `test_hostile_bytes`.)"""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from random import Random

import pytest

from session_manager import CorruptSessionError, SessionManager, SessionManagerError
from tests.faults.bombs import KEY, NAMES, bombs
from tests.faults.decoding import FORMATS
from tests.faults.mutations import mutated
from tests.support.processes import run_python
from tests.support.strategies import CANARY, held_text

#: In which store a file of each format lies.
STORES = {"snapshot": "snapshot", "log": "log", "archive": "log", "sqlite": "sqlite"}

CALLS = [
    lambda m: m.list_sessions(),
    lambda m: m.get(KEY),
    lambda m: m.get_archive(KEY),
    lambda m: m.search("漢"),
    lambda m: m.search("漢", key=KEY),
    lambda m: m.verify(),
    lambda m: m.health(),
    lambda m: m.add_message(KEY, "user", "more"),
    lambda m: m.truncate_history(KEY, 1),
    lambda m: m.save(KEY),
    lambda m: m.fork(KEY, "fork"),
    lambda m: m.compact(KEY),
    lambda m: m.expire(timedelta(days=20_000)),
    lambda m: m.clear(KEY),
    lambda m: m.save_all(),
    lambda m: m.delete(KEY),
    lambda m: m.get(KEY),
]
GET, DELETE = 1, len(CALLS) - 2


def use(url):
    """Call everything on a storage; return the numbers of the calls that raised: typed errors, that show nothing."""
    failures = {}
    m = None
    try:
        m = SessionManager(url, archive=True)
    except SessionManagerError as error:
        failures[-1] = error
    for number, call in enumerate(CALLS if m is not None else ()):
        try:
            call(m)
        except SessionManagerError as error:
            failures[number] = error
    if m is not None:
        m.close(save=False)
    for failure in failures.values():
        assert CANARY not in held_text(failure)
    return set(failures)


@pytest.mark.parametrize("name", FORMATS)
def test_every_call_on_a_mutated_file_returns_or_raises_a_typed_error(name, tmp_path, count, size):
    """What nobody could read, and was deleted, lies in quarantine, byte by byte."""
    form, chance = FORMATS[name], Random(f"calls {name}")
    everything = [data for one in FORMATS.values() for data in one.files.values()]
    files = size.of(10, 40, 2000)
    for number in range(files):
        path = tmp_path / str(number)
        path.mkdir(mode=0o700)
        if name == "archive":
            (path / NAMES["log"]).write_bytes(FORMATS["log"].files["plain.session.jsonl"])
        data = mutated(chance, chance.choice(list(form.files.values())), chance.choice(everything))
        if chance.random() < 0.5:
            data = form.resealed(data)
        (path / NAMES[name]).write_bytes(data)
        failed = use(f"{STORES[name]}:{path}")
        count["files"] += 1
        count["calls"] += len(CALLS)
        count["errors"] += len(failed)
        if name != "archive" and GET in failed and DELETE not in failed:
            assert data in [file.read_bytes() for file in path.iterdir() if file.name.startswith(".quarantine-")]
            count["files in quarantine"] += 1
        shutil.rmtree(path)
    count.check(files=files, errors=1, **({} if name == "archive" else {"files in quarantine": files // 10}))


# Bombs

#: What reading a bomb may take: seconds for a call of each kind, on a machine that does something else besides; bytes for each of its own.
SECONDS, FACTOR = 30.0, 200


@pytest.mark.parametrize("kind", NAMES)
def test_a_bomb_takes_bounded_time_and_memory(kind, count, size):
    """Eight megabytes in a soak. See `tests.faults.bombs` for what they are."""
    megabytes = size.of(0.02, 0.25, 8)
    done = run_python("-m", "tests.faults.bombs", kind, megabytes, timeout=size.of(100, 100, 1000))
    told = json.loads(done.stdout)
    for name, (outcome, seconds) in told["results"].items():
        assert set(outcome.split()) <= {"value", "CorruptSessionError"}, name
        assert seconds < SECONDS * (megabytes + 1), (name, seconds)
        count["bombs"] += 1
        count["damaged"] += "CorruptSessionError" in outcome
    count["megabytes of memory"] = told["bytes"] // 10**6
    assert told["bytes"] < FACTOR * 1_000_000 * (megabytes + 1)
    count.check(bombs=2 * len(bombs(10)), damaged=20)


@pytest.mark.parametrize("name", FORMATS)
def test_eight_megabytes_of_brackets(name, tmp_path):
    path = tmp_path / "chats"
    path.mkdir(mode=0o700)
    if name == "archive":
        (path / NAMES["log"]).write_bytes(FORMATS["log"].files["plain.session.jsonl"])
    (path / NAMES[name]).write_bytes(b"[" * 8_000_000)
    with SessionManager(f"{STORES[name]}:{path}") as m:
        for call in (m.get_archive,) if name == "archive" else (m.get, m.get_history):
            with pytest.raises(CorruptSessionError):
                call(KEY)
        assert len(m.verify()) == 1


# What is no plain file


def plant(kind, path, tmp_path):
    """Put something that is no plain file of ours in the place of one; return what must not be touched."""
    decoy = tmp_path / "decoy"
    data = path.read_bytes()
    decoy.write_bytes(data)
    path.unlink()
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a link":
            path.symlink_to(decoy)
        case "a dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "a link to itself":
            path.symlink_to(path)
        case "a device":
            path.symlink_to("/dev/zero")
        case "a directory":
            path.mkdir(mode=0o700)
            (path / "in it").write_bytes(b"")
        case "a hard link":
            os.link(decoy, path)
        case "somebody else's":
            path.write_bytes(data)
            os.chown(path, 12345, 12345)
        case "unreadable":
            path.write_bytes(data)
            path.chmod(0)
    return decoy, data


KINDS = ["a FIFO", "a link", "a dangling link", "a link to itself", "a device", "a directory", "a hard link"]
KINDS += ["somebody else's", "unreadable"]
#: A plain file, whoever else has it.
READABLE = {"a hard link", "somebody else's", "unreadable"}
#: SQLite would keep a log beside each name.
REFUSED = ("sqlite", "a hard link")


#: The path of a database is the user's, who may give that of a link.
OTHERS = {("sqlite", "a link")}


@pytest.mark.parametrize(("name", "kind"), sorted({(name, kind) for name in NAMES for kind in KINDS} - OTHERS))
def test_what_is_no_plain_file_is_not_followed_and_nobody_hangs(name, kind, tmp_path):
    """A file of another user, or with another name elsewhere, is a file: it is read, and never written in place; a database with another name is refused."""
    if kind == "somebody else's" and os.geteuid() != 0:
        pytest.skip("needs root")
    path = tmp_path / "chats"
    path.mkdir(mode=0o700)
    url = f"{STORES[name]}:{path / NAMES[name] if name == 'sqlite' else path}"
    with SessionManager(url, archive=True) as m:
        m.add_message(KEY, "user", "one")
        m.add_message(KEY, "user", "two")
        m.save(KEY)
        m.truncate_history(KEY, 1)
    decoy, data = plant(kind, path / NAMES[name], tmp_path)
    failed = use(url)
    readable = kind in READABLE and (kind != "unreadable" or os.geteuid() == 0) and (name, kind) != REFUSED
    assert bool(failed) == (not readable)
    assert decoy.read_bytes() == data
    assert sorted(tmp_path.iterdir()) == [path, decoy]
