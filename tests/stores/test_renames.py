"""Renames that are cut short: by kills at every system call, by power cuts, by disks that fail. One session is left, and whole."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import sqlite3
import tempfile
from functools import cache, partial
from pathlib import Path

import pytest

from session_manager import ReadOnlyError, SessionExistsError, SessionManager, StorageError
from session_manager.stores.contract import Store
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import crash
from tests.support.faulty_files import FaultyFiles
from tests.support.killed_files import DyingFiles, KilledError, KilledFiles, killed
from tests.support.power_cut import PowerFiles

KEY, NEW = "telegram:42", "telegram:-10042"
STORES = {"snapshot": SnapshotStore, "log": LogStore}
TEXTS = (["old"], ["new", "newer"])


@pytest.fixture(params=STORES)
def kind(request):
    return request.param


def opened(kind, path, **more):
    path.mkdir(exist_ok=True)
    store = SQLiteStore(path / "chats.db", **more) if kind == "sqlite" else STORES[kind](path / "chats", **more)
    return SessionManager(store, archive=True)


@contextlib.contextmanager
def reopened(kind, path):
    """Open chats; close the manager at the end, and its store, which a manager that was given it does not close."""
    m = opened(kind, path)
    with contextlib.closing(m._residents.store), m:
        yield m


@cache
def _made(kind):
    """Make chats of a kind once; return where they are, and the version of the one that is renamed."""
    path = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    m = opened(kind, path)
    for text in ("old", "new", "newer"):
        m.add_message(KEY, "user", text, ref=f"ref of {text}")
    m.truncate_history(KEY, 2)
    m.add_message("telegram:43", "user", "another")
    m.save_all()
    version = m.get(KEY).version
    crash(m)
    return path, version


def filled(kind, path):
    made, version = _made(kind)
    shutil.copytree(made, path, dirs_exist_ok=True)
    return version


def shown(m, key):
    return [one.content for one in m.get_archive(key)], [one.content for one in m.get_history(key)]


def check_one_is_left(m, version, *, new=None, alone=()):
    """Check that all is there under one of the two keys; say whether that is the new one."""
    (there,) = [key for key in (KEY, NEW) if key in m]
    assert new is None or there == (NEW if new else KEY)
    assert shown(m, there) == TEXTS
    assert m.get(there).version == version
    assert m.get_message(there, "ref of new").position == 1
    assert sorted(m) == sorted([there, "telegram:43"])
    assert m.verify() == list(alone)
    m.add_message(there, "user", "goes on")
    m.save_all()
    return there == NEW


def begin_a_rename(m, new_key=NEW):
    """Rename a session as a process does that dies before the old one is deleted: the copy is there, and its note."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(m._residents.store, "delete", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            m.rename(KEY, new_key)


def names_of_two(path):
    return sorted(name for name in os.listdir(path / "chats") if "telegram" in name and "3a43" not in name)


def test_a_rename_that_was_killed_is_finished(kind, tmp_path):
    """After each system call: never neither is there; the next opening leaves one, and no file of the other."""
    number, cut, outcomes, both = 0, True, [], 0
    while cut:
        place = tmp_path / str(number)
        version = filled(kind, place)
        m = opened(kind, place, files=KilledFiles)
        m.get(KEY)
        cut = killed(m, lambda m=m: m.rename(KEY, NEW), number)
        with contextlib.closing(STORES[kind](place / "chats", read_only=True)) as reader:
            there = {key for key in (KEY, NEW) if reader.load(key) is not None}
            assert there, "neither is there"
            both += len(there) == 2
        with reopened(kind, place) as m:
            outcomes.append(check_one_is_left(m, version, new=NEW in there))
            crash(m)
        left = names_of_two(place)
        assert len(left) == 2, left
        assert all(("10042" in name) == outcomes[-1] for name in left)
        number += 1
    assert outcomes == sorted(outcomes)
    assert outcomes[0] is False
    assert outcomes[-1] is True
    assert both > 2
    assert number > 12


def in_a_process_that_dies(work):
    """Run something in a process of its own; return how it ended: 0, or 7 if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 7)
    return status


forking = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@forking[0]
@forking[1]
def test_the_finishing_of_a_rename_may_be_killed(kind, tmp_path, size):
    """The opening that finishes it is cut short at each system call, and the next one finishes it."""
    number, status = 0, 7
    while status == 7:
        place = tmp_path / str(number)
        version = filled(kind, place)
        begun = opened(kind, place)
        begin_a_rename(begun)
        crash(begun)

        def work(place=place, number=number):
            DyingFiles.left = number
            opened(kind, place, files=DyingFiles)

        status = in_a_process_that_dies(work)
        with reopened(kind, place) as m:
            check_one_is_left(m, version, new=True)
            crash(m)
        assert len(names_of_two(place)) == 2
        number += size.of(3, 1, 1)
    assert number > 5


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_rename_on_a_disk_that_fails(kind, tmp_path, error, after, size):
    """An error at each system call: the session is as it was, or there under its new key; calling again finishes it."""
    number, struck, refused = 1, True, 0
    while struck:
        place = tmp_path / str(number)
        version = filled(kind, place)
        m = opened(kind, place, files=FaultyFiles)
        m.get(KEY)
        files = m._residents.store._files
        files.fail(number, error, after=after)
        try:
            m.rename(KEY, NEW)
            done = True
        except (StorageError, SessionExistsError, KeyboardInterrupt):
            done = False
            refused += 1
        struck = files.struck
        files.heal()
        if not done and m.get(KEY) is not None:
            assert shown(m, KEY) == TEXTS
            m.rename(KEY, NEW)
        check_one_is_left(m, version, new=True)
        crash(m)
        with reopened(kind, place) as m:
            assert NEW in m
            assert KEY not in m
            assert m.verify() == []
            crash(m)
        assert len(names_of_two(place)) == 2
        number += 1 if size.of(0, 0, 1) else 1 + (isinstance(error, KeyboardInterrupt) or after)
    assert refused > 5
    assert number > 20


def test_a_session_that_went_on_after_a_failed_rename_stays(kind, tmp_path):
    """The copy under the new key is older by then. It would have taken the place of the session with the new message."""
    filled(kind, tmp_path)
    m = opened(kind, tmp_path)
    begin_a_rename(m)
    assert KEY in m
    m.add_message(KEY, "user", "newest")
    m.save(KEY)
    crash(m)
    with reopened(kind, tmp_path) as m:
        assert shown(m, KEY) == (["old"], ["new", "newer", "newest"])
        assert NEW not in m
        assert m.verify() == []
    assert len(names_of_two(tmp_path)) == 2


def test_a_rename_to_another_key_takes_the_failed_one_back(kind, tmp_path):
    version = filled(kind, tmp_path)
    m = opened(kind, tmp_path)
    begin_a_rename(m, "telegram:-1")
    m.rename(KEY, NEW)
    check_one_is_left(m, version, new=True)
    crash(m)


def test_a_note_that_came_back_harms_nobody(kind, tmp_path):
    """A power cut may bring back the note of a rename that was finished, and undone by another one."""
    version = filled(kind, tmp_path)
    m = opened(kind, tmp_path)
    notes = []
    unlink = Files.unlink

    def keeping(self, name):
        if name.startswith(".renaming-"):
            notes.append((name, (tmp_path / "chats" / name).read_bytes()))
        unlink(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "unlink", keeping)
        m.rename(KEY, NEW)
        m.rename(NEW, KEY)
    crash(m)
    assert len(notes) == 2
    for name, data in notes:
        (tmp_path / "chats" / name).write_bytes(data)
    with reopened(kind, tmp_path) as m:
        check_one_is_left(m, version, new=False)
    assert not [name for name in os.listdir(tmp_path / "chats") if name.startswith(".renaming-")]


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"key":"a","new_key":"b","generation":"g","revision":1}'])
def test_a_note_that_is_none_is_left_alone(kind, tmp_path, data):
    version = filled(kind, tmp_path)
    note = tmp_path / "chats" / ".renaming-telegram~3a42.json"
    note.write_bytes(data)
    with reopened(kind, tmp_path) as m:
        check_one_is_left(m, version, new=False)
    assert note.read_bytes() == data


def test_a_damaged_copy_does_not_take_the_sessions_place(kind, tmp_path):
    filled(kind, tmp_path)
    m = opened(kind, tmp_path)
    begin_a_rename(m)
    crash(m)
    (copy,) = (name for name in names_of_two(tmp_path) if "10042.session" in name)
    data = bytearray((tmp_path / "chats" / copy).read_bytes())
    data[-20] ^= 1
    (tmp_path / "chats" / copy).write_bytes(data)
    with reopened(kind, tmp_path) as m:
        assert shown(m, KEY) == TEXTS


def test_a_rename_and_power_cuts(kind, tmp_path):
    """What a power cut leaves at each moment of a rename, with files and names that were not synced lost at random."""
    chance = random.Random(5)
    number, struck = 1, True
    while struck:
        place = tmp_path / str(number)
        version = filled(kind, place)
        m = opened(kind, place, files=PowerFiles)
        m.get(KEY)
        files = m._residents.store._files
        files.fail(number, KilledError(), sticky=True)
        with contextlib.suppress(KilledError):
            m.rename(KEY, NEW)
        struck = files.struck
        for one in range(2):
            after = tmp_path / f"{number}-{one}"
            (after / "chats").mkdir(parents=True, mode=0o700)
            files.cut(after / "chats", chance, hidden=(".renaming-",))
            with reopened(kind, after) as left:
                # The marks of archives are hidden, and not simulated.
                alone = [one for one in left.verify() if "without its session" in one.reason]
                check_one_is_left(left, version, alone=alone)
                crash(left)
        files.heal()
        with contextlib.suppress(KilledError):
            crash(m)
        number += 3
    assert number > 20


# SQLite


class DyingConnection(sqlite3.Connection):
    """Ends the process at a statement, before or after it."""

    left = 10**9
    after = False

    def _dies(self):
        DyingConnection.left -= 1
        return DyingConnection.left < 0

    def execute(self, *arguments):
        return self._run(super().execute, arguments)

    def executemany(self, *arguments):
        return self._run(super().executemany, arguments)

    def _run(self, call, arguments):
        dies = self._dies()
        if dies and not DyingConnection.after:
            os._exit(7)
        result = call(*arguments)
        if dies:
            os._exit(7)
        return result


@forking[0]
@forking[1]
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_process_that_dies_in_a_rename_leaves_one_in_sqlite(tmp_path, after, size):
    number, status, outcomes = 0, 7, []
    while status == 7:
        place = tmp_path / str(number)
        version = filled("sqlite", place)

        def work(place=place, number=number):
            m = opened("sqlite", place, connect=partial(sqlite3.connect, factory=DyingConnection))
            m.get(KEY)
            DyingConnection.left, DyingConnection.after = number, after
            m.rename(KEY, NEW)

        status = in_a_process_that_dies(work)
        with reopened("sqlite", place) as m:
            outcomes.append(check_one_is_left(m, version))
            crash(m)
        number += size.of(5, 1, 1)
    assert outcomes == sorted(outcomes)
    assert (outcomes[0], outcomes[-1]) == (False, True)
    assert number > 8


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_statement_that_fails_leaves_one_in_sqlite(tmp_path, after):
    for number, statement in enumerate(
        (
            "BEGIN",
            "UPDATE messages",
            "UPDATE archive",
            "UPDATE sessions",
            "INSERT OR REPLACE",
            "DELETE FROM tomb",
            "COMMIT",
        )
    ):
        place = tmp_path / str(number)
        version = filled("sqlite", place)

        class Failing(sqlite3.Connection):
            failing = ""

            def _run(self, call, given, arguments):
                if not (Failing.failing and given.strip().startswith(Failing.failing)):
                    return call(given, *arguments)
                Failing.failing = ""
                if after:
                    call(given, *arguments).close()  # else the frames of the error would keep the database open
                raise sqlite3.OperationalError("disk I/O error")

            def execute(self, given, *arguments):
                return self._run(super().execute, given, arguments)

            def executemany(self, given, *arguments):
                return self._run(super().executemany, given, arguments)

        m = opened("sqlite", place, connect=lambda *args, **more: sqlite3.connect(*args, factory=Failing, **more))  # noqa: B023
        m.get(KEY)
        Failing.failing = statement
        try:
            m.rename(KEY, NEW)
        except StorageError:
            if KEY in m:
                m.rename(KEY, NEW)
        check_one_is_left(m, version, new=True)
        crash(m)


def test_the_search_of_sqlite_finds_a_renamed_session(tmp_path):
    filled("sqlite", tmp_path)
    with reopened("sqlite", tmp_path) as m:
        assert {hit.key for hit in m.search("new")} == {KEY}
        m.rename(KEY, NEW)
        assert {hit.key for hit in m.search("new")} == {NEW}
        assert {hit.key for hit in m.search("old")} == {NEW}


# Stores without a way of their own


class Plain(MemoryStore):
    """A store that has what the contract gives it."""

    rename = Store.rename


def test_a_store_of_your_own_writes_first_and_then_deletes():
    store, done = Plain(), []
    with SessionManager(store, archive=True) as m:
        m.add_message(KEY, "user", "hi")
        write, delete = store.write, store.delete
        m.save(KEY)
        store.write = lambda commit: (done.append("write"), write(commit))[1]
        store.delete = lambda *given: (done.append("delete"), delete(*given))[1]
        m.rename(KEY, NEW)
        assert done == ["write", "delete"]
        assert list(m) == [NEW]
    assert list(store.keys()) == [NEW]


@pytest.mark.parametrize("kind", ["snapshot", "log", "sqlite"])
def test_a_reader_does_not_rename(kind, tmp_path):
    filled(kind, tmp_path)
    path = tmp_path / ("chats.db" if kind == "sqlite" else "chats")
    store = SQLiteStore(path, read_only=True) if kind == "sqlite" else STORES[kind](path, read_only=True)
    with contextlib.closing(store), pytest.raises(ReadOnlyError):
        store.rename(KEY, NEW, store.version(KEY))
