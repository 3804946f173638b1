"""`erase`: no byte of a session stays in any file of its storage, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import timedelta

import pytest

from session_manager import (
    InvalidKeyError,
    SaveError,
    SessionManager,
    StorageError,
    StorageLockedError,
    converter,
    open_store,
)
from session_manager.importers import adopt
from session_manager.operations import EraseReport, backup, erase, quarantine, restore, verify
from session_manager.stores.files.names import file_name
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import FaultyStore
from tests.support.faulty_sqlite import Faulty
from tests.support.killed_files import KilledError, KilledFiles
from tests.support.power_cut import PowerFiles
from tests.support.processes import start
from tests.support.traces import TRACES, bytes_of, flip, leave_temporary, storage, talk, traces_in

KINDS = ("snapshot", "log", "sqlite")
FILED = {"snapshot": SnapshotStore, "log": LogStore}
KEY = "telegram:42"
LONG = "telegram:" + "é" * 200

kinds = pytest.mark.parametrize("kind", KINDS)
filed = pytest.mark.parametrize("kind", FILED)


def texts(url, but=None):
    """Return what each session of a storage says, but one."""
    with closing(open_store(url, read_only=True)) as store:
        keys = [key for key in list(store.keys()) if key != but]
        return {key: [one.to_dict() for one in [*store.archive(key), *store.load(key).messages]] for key in keys}


# Nothing is left


@kinds
@pytest.mark.parametrize("key", [KEY, LONG], ids=["short", "long"])
def test_no_byte_of_an_erased_session_is_in_any_file(kind, key, tmp_path):
    url = storage(kind, tmp_path, key)
    leave_temporary(url, key)
    before = traces_in(tmp_path)
    assert set(before) == {*TRACES, "a letter"} - ({"killed"} if kind == "sqlite" else set())
    others = texts(url, but=key)
    report = erase(url, key)
    assert traces_in(tmp_path) == {}
    assert report.ok
    (one,) = report.sessions
    assert (one.key, one.found, one.messages, one.archived, len(one.quarantined)) == (key, True, 5, 1, 1)
    assert texts(url) == others
    assert verify(url) == []
    with SessionManager(url) as m:
        assert m.health().quarantined == 0
        assert m.search("trace") == []
        assert m.search("nothing")
        m.add_message(key, "user", "a new one")
    assert traces_in(tmp_path) == {}
    assert len(texts(url)[key]) == 1


@kinds
@pytest.mark.parametrize("key", [KEY, LONG], ids=["short", "long"])
def test_a_damaged_session_is_erased_with_its_copies(kind, key, tmp_path):
    url = storage(kind, tmp_path, key)
    flip(url, key)
    report = erase(url, key)
    (one,) = report.sessions
    assert one.found
    assert traces_in(tmp_path) == {}
    assert quarantine.list(url) == ()
    assert verify(url) == []


@kinds
def test_what_a_deletion_has_left_is_erased(kind, tmp_path):
    """The session was damaged, and deleted; its bytes are in quarantine only."""
    url = storage(kind, tmp_path, LONG)
    flip(url, LONG)
    with SessionManager(url) as m:
        m.delete(LONG)
    assert traces_in(tmp_path)
    assert {one.key for one in quarantine.list(url)} == {LONG}
    report = erase(url, LONG)
    assert [(one.found, len(one.quarantined) >= 1) for one in report.sessions] == [(False, True)]
    assert traces_in(tmp_path) == {}


@kinds
def test_a_prefix_erases_its_sessions_and_no_other(kind, tmp_path):
    """Sessions of which only something in quarantine is left belong to it."""
    url = storage(kind, tmp_path, LONG)
    with SessionManager(url, archive=True) as m:
        for key in ("telegram:42", "telegram", "Telegram:42"):
            talk(m, key, traced=key.startswith("telegram:"))
    flip(url, LONG)
    with SessionManager(url) as m:
        m.delete(LONG)
    others = {one: said for one, said in texts(url).items() if not one.startswith("telegram:")}
    told = []
    report = erase(url, prefix="telegram:", progress=lambda *one: told.append(one))
    assert [one.key for one in report.sessions] == ["telegram:1", "telegram:42", LONG]
    assert told == [(1, 3, "telegram:1"), (2, 3, "telegram:42"), (3, 3, LONG)]
    assert traces_in(tmp_path) == {}
    assert texts(url) == others
    assert sorted(others) == ["Telegram:42", "other", "telegram"]
    assert verify(url) == []


@kinds
def test_a_dry_run_reports_the_same_and_touches_nothing(kind, tmp_path):
    url = storage(kind, tmp_path, KEY)
    with SessionManager(url) as m:  # a bot may be at work
        m.get(KEY)
        before = {name: data for name, data in bytes_of(tmp_path).items() if not name.endswith("-shm")}
        report = erase(url, KEY, dry_run=True)
        assert {name: data for name, data in bytes_of(tmp_path).items() if not name.endswith("-shm")} == before
    assert report.dry_run
    assert report.sessions == erase(url, KEY).sessions
    assert converter.structure(report.to_dict(), EraseReport) == report
    assert traces_in(tmp_path) == {}


@kinds
def test_a_session_that_is_not_there_is_no_error(kind, tmp_path):
    """A job that erases may run again."""
    url = storage(kind, tmp_path, KEY)
    erase(url, KEY)
    report = erase(url, KEY, "nobody")
    assert (report.sessions, report.ok) == ((), True)
    assert erase(url, prefix="no").sessions == ()
    assert len(texts(url)) == 2


def test_an_open_store_and_one_that_is_wrapped_are_taken(tmp_path):
    for wrapped in (lambda store: store, FaultyStore):
        for kind in KINDS:
            url = storage(kind, tmp_path / kind, KEY)
            with closing(open_store(url)) as store:
                leave_temporary(url, KEY)  # while it is open: no opening removes it
                report = erase(wrapped(store), KEY)
                assert len(report.sessions[0].files) == (0 if kind == "sqlite" else 2)
                assert traces_in(tmp_path / kind) == {}
                assert store.count_quarantined() == 0
                assert store.repairs() == store.strays() == []
            shutil.rmtree(tmp_path / kind)


def test_the_memory_is_erased_by_the_default():
    store = MemoryStore()
    with SessionManager(store) as m:
        m.add_message("k", "user", "hi")
    assert erase(store, "k").sessions[0].messages == 1
    assert list(store.keys()) == []


# Other calls


def changed(call):
    return pytest.param(call, id=call.__name__)


def delete(m):
    m.delete(KEY)


def expire(m):
    m.expire(timedelta(0), prefix=KEY)


def clear(m):
    m.clear(KEY)
    m.update_metadata(KEY, {}, ["note"])
    m.save(KEY)


def edit(m):
    """What only a log keeps: what was taken back, changed and truncated."""
    m.update_message(KEY, TRACES["reference"], {"role": "user", "content": "changed"})
    m.save(KEY)
    m.undo(KEY)
    m.set_summary(KEY, "")
    m.update_metadata(KEY, {}, ["note"])
    m.truncate_history(KEY, 0)
    m.save(KEY)
    m.compact(KEY)


@kinds
@pytest.mark.parametrize("call", [changed(one) for one in (delete, expire, clear, edit)])
def test_no_text_is_left_by_what_removes_text(kind, call, tmp_path):
    """But in quarantine, and what of a database is named in docs/privacy.md."""
    url = f"{kind}:{tmp_path / 'chats'}"
    with SessionManager(url, archive=call is not edit) as m:
        talk(m, "other", traced=False)
        talk(m, KEY)
        m.search("trace")
        assert len(traces_in(tmp_path)) >= len(TRACES) - 3
        call(m)
        for _ in "open", "closed":
            left = traces_in(tmp_path)
            if kind == "sqlite" and sqlite3.sqlite_version_info < (3, 42):
                left.pop("a letter", None)
            assert left == {}
            m.close()


@kinds
def test_a_renamed_session_leaves_nothing_under_its_old_key(kind, tmp_path):
    url = storage(kind, tmp_path, KEY)
    erase(url, KEY)
    with SessionManager(url, archive=True) as m:
        talk(m, KEY)
        m.search("trace")
        m.rename(KEY, LONG)
    assert len(traces_in(tmp_path)) >= len(TRACES) - 2
    assert erase(url, KEY).sessions == ()
    assert len(texts(url)[LONG]) == 6
    erase(url, LONG)
    assert traces_in(tmp_path) == {}


# SQLite


def moved_about(path, chance):
    """Make a database whose rows have moved from page to page, as archived messages of several sessions do."""
    with SessionManager(f"sqlite:{path}", archive=True) as m:
        for _ in range(500):
            key = f"k{chance.randrange(12)}"
            word = TRACES["content"] if key == "k3" else "nothing of that"
            m.add_message(key, "user", word * chance.choice([1, 3, 8, 100]) + "x" * chance.randrange(300))
            if chance.random() < 0.15:
                m.truncate_history(key, keep_last=5)
            m.save(key)


@pytest.mark.long
def test_copies_in_unused_parts_of_pages_are_erased(tmp_path):
    """A row that was moved to another page left a copy in the first one, which a deletion does not find."""
    for seed in range(40):
        path = tmp_path / f"{seed}" / "chats.db"
        path.parent.mkdir()
        moved_about(path, random.Random(seed))
        shutil.copytree(path.parent, tmp_path / f"{seed}-deleted")
        with closing(SQLiteStore(tmp_path / f"{seed}-deleted" / "chats.db")) as store:
            store.delete("k3")
            store.compact("k1")
        erase(path, "k3")
        assert traces_in(path.parent) == {}
        assert verify(path) == []
        if traces_in(tmp_path / f"{seed}-deleted"):
            return
    pytest.fail("a deletion left nothing: the test shows nothing")


def test_a_reader_that_holds_the_log_is_waited_for(tmp_path):
    url = storage("sqlite", tmp_path, KEY)
    with closing(sqlite3.connect(tmp_path / "chats.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        report = erase(url, KEY)
        assert not report.ok
        assert "waits for a reader" in report.waits[0]
        assert traces_in(tmp_path)
        assert [(one.key, "not finished" in one.reason) for one in verify(url)] == [(KEY, True)]
        with SessionManager(url) as m:
            assert [one.key for one in m.health().repairs] == [KEY]
            assert KEY not in m
    with closing(open_store(url)) as store:  # the next opening empties the log
        assert store.strays() == store.repairs() == []
        assert traces_in(tmp_path) == {}


def test_a_database_that_cannot_be_written_anew_waits(tmp_path):
    storage("sqlite", tmp_path, KEY)

    def connect(*arguments, **options):
        return sqlite3.connect(*arguments, factory=Faulty, **options)

    with closing(SQLiteStore(tmp_path / "chats.db", connect=connect)) as store:
        Faulty.failing, Faulty.error = "VACUUM", sqlite3.OperationalError("database or disk is full")
        try:
            report = erase(store, KEY)
        finally:
            Faulty.failing, Faulty.error = None, sqlite3.OperationalError("disk I/O error")
        assert "disk is full" in report.waits[0]
        assert [one.key for one in store.strays()] == [KEY]
    with closing(open_store(tmp_path / "chats.db")) as store:
        assert [one.key for one in store.repairs()] == [KEY]
    report = erase(tmp_path / "chats.db", "other")
    assert (report.finished, report.ok) == ((KEY,), True)
    assert traces_in(tmp_path) == {}
    assert verify(tmp_path / "chats.db") == []


STATEMENTS = (
    "BEGIN",
    "COMMIT",
    "CREATE",
    "INSERT",
    "DELETE",
    "VACUUM",
    "UPDATE erasures",
    "DELETE FROM erasures",
    "PRAGMA",
)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", STATEMENTS)
def test_a_statement_that_fails_leaves_the_session_whole_or_named(failing, after, tmp_path):
    url = storage("sqlite", tmp_path, KEY)

    def connect(*arguments, **options):
        return sqlite3.connect(*arguments, factory=Faulty, **options)

    is_named = False
    with closing(SQLiteStore(tmp_path / "chats.db", connect=connect)) as store:
        Faulty.failing, Faulty.after = failing, after
        try:
            with contextlib.suppress(StorageError):
                is_named = bool(erase(store, KEY).waits)
        finally:
            Faulty.failing, Faulty.after = None, False
            Faulty.error = sqlite3.OperationalError("disk I/O error")
        gc.collect()  # the traceback of the other one holds a statement, and SQLite writes nothing anew then
        if store.version(KEY) is not None:
            assert not is_named
            assert len(store.load(KEY).messages) == 5
        else:
            assert [one.key for one in store.strays()] == [KEY]
        assert erase(store, KEY).ok
        assert store.strays() == []
    assert traces_in(tmp_path) == {}
    assert verify(url) == []


def test_a_damaged_index_is_begun_anew(tmp_path):
    url = storage("sqlite", tmp_path, KEY)
    with SessionManager(url) as m:
        m.search("hi")
        store = m._residents.store
        with closing(sqlite3.connect(tmp_path / "chats.db")) as db, db:
            db.execute("UPDATE search_data SET block = zeroblob(20) WHERE id > 10")
        report = erase(store, KEY)
        assert report.ok
        assert traces_in(tmp_path) == {}
        assert m.search("nothing")


def test_other_programs_go_on_beside_an_erasure(tmp_path):
    url = storage("sqlite", tmp_path, KEY)
    with SessionManager(url, archive=True) as m:
        m.get(KEY)
        m.add_message("other", "user", "unsaved")
        assert erase(url, KEY).ok
        assert KEY not in m
        m.save_all()
        m.add_message(KEY, "user", "a new one")
    assert traces_in(tmp_path) == {}
    assert [len(texts(url)[key]) for key in ("other", KEY)] == [7, 1]


# Cut short


def is_whole_or_gone(url, place, others):
    """Open a storage as the next program does; say whether the session is gone. Then nothing of it is left."""
    with SessionManager(url, archive=True) as m:
        is_gone = KEY not in m
        assert m.verify() == []
        assert m.health().repairs == ()
    now = texts(url)
    assert texts(url, but=KEY) == others
    if is_gone:
        assert traces_in(place) == {}
    else:
        assert len(now[KEY]) == 6
    return is_gone


@filed
def test_a_kill_anywhere_leaves_the_session_whole_or_nothing_of_it(kind, tmp_path):
    storage(kind, tmp_path / "begin", KEY)
    others = texts(f"{kind}:{tmp_path / 'begin' / 'chats'}", but=KEY)
    found, number = [], 0
    while found[-1:] != ["done"]:
        place = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "begin", place)
        store = FILED[kind](place / "chats", files=KilledFiles)
        leave_temporary(f"{kind}:{place / 'chats'}", KEY)
        store._files.left = number
        try:
            erase(store, KEY)
            found.append("done")
        except KilledError:
            store._files.left = 10**9
            store._directory._lock.release()
            found.append(is_whole_or_gone(f"{kind}:{place / 'chats'}", place, others))
        store._files.left = 10**9
        store.close()
        shutil.rmtree(place)
        gc.collect()
        number += 1
    assert found[:-1] == sorted(found[:-1])
    assert {False, True} == set(found[:-1])
    assert number > 10


@filed
def test_a_kill_while_an_erasure_is_finished_harms_nothing(kind, tmp_path):
    """The opening after a kill is killed as well, anywhere."""
    storage(kind, tmp_path / "begin", KEY)
    flip(f"{kind}:{tmp_path / 'begin' / 'chats'}", KEY)
    others = texts(f"{kind}:{tmp_path / 'begin' / 'chats'}", but=KEY)
    store = FILED[kind](tmp_path / "begin" / "chats", files=KilledFiles)
    store._files.left = 6
    with pytest.raises(KilledError):
        erase(store, KEY)
    store._files.left = 10**9
    store._directory._lock.release()
    store._files.close_directory()
    assert [one.key for one in verify(f"{kind}:{tmp_path / 'begin' / 'chats'}") if "not finished" in one.reason] == [
        KEY
    ]
    number, is_done = 0, False
    while not is_done:
        place = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "begin", place)
        KilledFiles.left = number
        try:
            FILED[kind](place / "chats", files=KilledFiles).close()
            is_done = True
        except KilledError:
            pass
        finally:
            KilledFiles.left = 10**9
        gc.collect()
        assert is_whole_or_gone(f"{kind}:{place / 'chats'}", place, others)
        shutil.rmtree(place)
        number += 1
    assert number > 5


@filed
def test_a_power_cut_leaves_the_session_whole_or_nothing_of_it(kind, tmp_path, size):
    storage(kind, tmp_path / "begin", KEY)
    others = texts(f"{kind}:{tmp_path / 'begin' / 'chats'}", but=KEY)
    chance, found = random.Random(kind), set()
    for number in range(size.of(30, 60, 400)):
        place, after = tmp_path / f"{number}", tmp_path / f"{number}-after"
        shutil.copytree(tmp_path / "begin", place)
        (after / "chats").mkdir(parents=True)
        store = FILED[kind](place / "chats", files=PowerFiles)
        files = PowerFiles.opened
        files.fail(chance.randrange(1, 70), KilledError(), sticky=True)
        with contextlib.suppress(KilledError):
            erase(store, KEY)
            found.add("done")
        files.heal()
        files.cut(after / "chats", chance, hidden=(".erasing-", ".quarantine-", ".deleted-", ".tmp-"))
        store._directory._lock.release()
        store.close()
        found.add(is_whole_or_gone(f"{kind}:{after / 'chats'}", after, others))
        for one in (place, after):
            shutil.rmtree(one)
    assert found >= {False, True}


def test_a_kill_at_any_statement_of_a_database_is_finished_or_reported(tmp_path, size):
    """What a kill leaves: the files as they are between two statements, and in the middle of the writing anew."""
    storage("sqlite", tmp_path / "begin", KEY)
    others = texts(f"sqlite:{tmp_path / 'begin' / 'chats.db'}", but=KEY)
    places = []

    def keep():
        place = tmp_path / "kept" / f"{len(places)}"
        place.mkdir(parents=True)
        for end in ("", "-wal", ".lock"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(tmp_path / "begin" / f"chats.db{end}", place / f"chats.db{end}")
        places.append(place)
        return 0

    class Watched(sqlite3.Connection):
        def execute(self, statement, *parameters):
            keep()
            if statement == "VACUUM":
                self.set_progress_handler(keep, 1000)
            try:
                return super().execute(statement, *parameters)
            finally:
                self.set_progress_handler(None, 0)

    with closing(
        SQLiteStore(
            tmp_path / "begin" / "chats.db",
            connect=lambda *arguments, **options: sqlite3.connect(*arguments, factory=Watched, **options),
        )
    ) as store:
        places.clear()
        shutil.rmtree(tmp_path / "kept")
        erase(store, KEY)
        keep()
    found, outcomes = [], set()
    assert len(places) > 50
    for place in places[:: size.of(3, 2, 1)]:
        url = f"sqlite:{place / 'chats.db'}"
        now = texts(url)
        is_gone = KEY not in now
        assert {one: said for one, said in now.items() if one != KEY} == others
        assert is_gone or len(now[KEY]) == 6
        if is_gone:
            has_traces = bool(traces_in(place))
            is_reported = [one.key for one in verify(url)] == [KEY]
            with SessionManager(url) as m:
                is_reported_again = [one.key for one in m.health().repairs] == [KEY]
            assert is_reported or not has_traces, "neither finished nor reported"
            assert is_reported_again or not traces_in(place), "neither finished nor reported by an opening"
            assert erase(url, "nobody").finished == ((KEY,) if is_reported_again else ())
            assert traces_in(place) == {}
            outcomes.add((has_traces, is_reported_again))
        assert verify(url) == []
        found.append(is_gone)
    assert found == sorted(found)
    assert {False, True} == set(found)
    assert outcomes == {(True, True), (True, False), (False, False)}


ERASE = "import sys; from session_manager.operations import erase; print(flush=True); input(); erase(*sys.argv[1:])"


@kinds
def test_a_killed_process_leaves_the_session_whole_or_named_or_nothing(kind, tmp_path, size):
    """A kill in earnest, at any moment."""
    storage(kind, tmp_path / "begin", KEY)
    name = "chats.db" if kind == "sqlite" else "chats"
    others = texts(f"{kind}:{tmp_path / 'begin' / name}", but=KEY)
    chance = random.Random(kind)
    for number in range(size.of(2, 10, 100)):
        place = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "begin", place)
        url = f"{kind}:{place / name}"
        with start(ERASE, url, KEY) as process:
            process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.random() * 0.05)
            process.kill()
        if kind != "sqlite" or KEY in texts(url):
            is_whole_or_gone(url, place, others)
            continue
        with SessionManager(url) as m:
            is_named = [one.key for one in m.health().repairs] == [KEY]
        assert is_named or traces_in(place) == {}
        assert erase(url, KEY).ok
        assert is_whole_or_gone(url, place, others)


@filed
def test_a_session_that_was_begun_anew_is_not_erased(kind, tmp_path):
    """The mark of an erasure came back, such as after a power cut."""
    url = storage(kind, tmp_path, KEY)

    def give_up(*_):
        raise KeyboardInterrupt

    with closing(open_store(url)) as store:
        with pytest.raises(KeyboardInterrupt):
            erase(store, KEY, progress=give_up)
        (mark,) = (tmp_path / "chats").glob(".erasing-*")
        data = mark.read_bytes()
        assert [one.key for one in store.strays()] == [KEY]
        report = erase(store, "other")
        assert (report.finished, mark.exists()) == ((KEY,), False)
        assert traces_in(tmp_path) == {}
    assert b"trace" not in data
    with SessionManager(url) as m:
        m.add_message(KEY, "user", "a new one")
    mark.write_bytes(data)
    with SessionManager(url) as m:
        assert len(m.get_history(KEY)) == 1
    assert not mark.exists()
    mark.write_bytes(b"{")
    assert ["cannot be read of which" in one.reason for one in verify(url)] == [True]


@filed
def test_an_erasure_that_fails_goes_on_at_the_next_opening(kind, tmp_path):
    url = storage(kind, tmp_path, KEY)
    store = open_store(url)

    def broken(name):
        raise OSError(5, "EIO")

    store._files.unlink = broken
    with pytest.raises(SaveError):
        erase(store, KEY)
    store.close()
    assert traces_in(tmp_path)
    assert "not finished" in str(verify(url))
    with SessionManager(url) as m:
        assert KEY not in m
    assert traces_in(tmp_path) == {}


# What it does not remove


@filed
def test_copies_of_other_programs_are_named_and_stay(kind, tmp_path):
    url = storage(kind, tmp_path, KEY)
    file = next((tmp_path / "chats").glob("telegram~3a42.session.*"))
    for name in (f"{file.name}.bak", f"Copy of {file.name}", "x.archive.jsonl"):
        shutil.copyfile(file, file.parent / name)
    os.link(file, tmp_path / "linked")
    before = erase(url, KEY, dry_run=True).left
    report = erase(url, KEY)
    assert report.left == before
    assert not report.ok
    left = {os.path.basename(one.path): one.reason for one in report.left}
    assert set(left) == {file.name, f"{file.name}.bak", f"Copy of {file.name}", "x.archive.jsonl"}
    assert "second name" in left[file.name]
    assert {name for names in traces_in(tmp_path).values() for name in names} == {
        "linked",
        *(f"chats/{name}" for name in left if name != file.name),
    }


@kinds
def test_what_a_restore_has_kept_is_named(kind, tmp_path):
    url = storage(kind, tmp_path, KEY)
    backup(url, tmp_path / "backup")
    replaced = restore(tmp_path / "backup", url).replaced
    report = erase(url, KEY)
    assert [one.path for one in report.left if not one.path.endswith("-wal")] == [replaced]
    assert any("backups" in one for one in report.unreachable)
    names = {os.path.join(tmp_path, name) for some in traces_in(tmp_path).values() for name in some}
    assert {name for name in names if not name.startswith((replaced, str(tmp_path / "backup")))} == set()
    assert names


@filed
def test_adopted_files_are_named_and_stay(kind, tmp_path):
    """An adoption keeps the files of the other program under other names; the key may be in a file of its own."""
    chats = tmp_path / "chats"
    chats.mkdir(0o700)
    said = {"role": "user", "content": TRACES["content"]}
    (chats / "telegram_42.json").write_text(json.dumps({"key": KEY, "messages": [said], "summary": ""}))
    for key in ("telegram:7", "slack:1"):
        stem = key.replace(":", "_")
        (chats / f"{stem}.jsonl").write_text(json.dumps(said) + "\n")
        (chats / f"{stem}.meta.json").write_text(json.dumps({"key": key, "summary": "", "skip": 0, "count": 1}))
    adopt(chats, kind=kind)
    report = erase(f"{kind}:{chats}", prefix="telegram:")
    assert [one.key for one in report.sessions] == [KEY, "telegram:7"]
    theirs = ["telegram_42.json.migrated", "telegram_7.jsonl.migrated", "telegram_7.meta.json.migrated"]
    assert [os.path.basename(one.path) for one in report.left] == theirs
    for name in theirs:
        (chats / name).unlink()
    assert {os.path.basename(name) for name in traces_in(tmp_path)["content"]} == {
        "slack_1.jsonl.migrated",
        file_name("slack:1", ".session.json" if kind == "snapshot" else ".session.jsonl"),
    }


# Mistakes


def test_mistakes(tmp_path):
    url = storage("log", tmp_path, KEY)
    for call, error in (
        (lambda: erase(url), ValueError),
        (lambda: erase(url, KEY, prefix="t"), ValueError),
        (lambda: erase(url, ""), InvalidKeyError),
        (lambda: erase(url, prefix=1), TypeError),
        (lambda: erase(url, KEY, dry_run=1), TypeError),
        (lambda: erase(url, KEY, progress=1), TypeError),
        (lambda: erase(f"log:{tmp_path / 'nowhere'}", KEY), StorageError),
        (lambda: erase(f"sqlite:{tmp_path / 'nowhere.db'}", KEY), StorageError),
    ):
        with pytest.raises(error):
            call()
    assert not list(tmp_path.glob("nowhere*"))
    with SessionManager(url), pytest.raises(StorageLockedError):
        erase(url, KEY)
    assert len(texts(url)) == 3


def test_the_name_of_a_key_in_quarantine_is_found_inside(tmp_path):
    """A long key's file name does not tell the key, nor does a damaged file of another session count."""
    url = storage("log", tmp_path, LONG)
    (one,) = quarantine.list(url)
    assert one.key == LONG
    kept = tmp_path / "chats" / one.name
    kept.write_bytes(b"x" * 10)
    assert [one.key for one in quarantine.list(url)] == [None]
    assert [one.key for one in quarantine.list(url, key=LONG)] == [LONG]
    assert quarantine.list(url, key=LONG + "é") == ()
    assert kept.name.endswith(file_name(LONG, ".session.jsonl"))
