"""Hostile neighbours: whatever others put beside, or in the place of, our files, nothing outside of the storage is read or written."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from contextlib import closing, nullcontext
from datetime import timedelta

import pytest

from session_manager import InvalidStorageError, SessionManager, SessionManagerError, StorageError
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.names import file_name
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.strategies import CANARY

KINDS = ["snapshot", "log", "sqlite"]
KEY = "telegram:42"
#: What a decoy holds: it must not be read, so it is in no answer.
SECRET = "what only the decoy says"

kinds = pytest.mark.parametrize("kind", KINDS)


def url_of(kind, path):
    return f"{kind}:{path / 'chats.db' if kind == 'sqlite' else path}"


def session_names(kind, key=KEY):
    """The names of a session's files."""
    if kind == "sqlite":
        return ["chats.db"]
    return [
        file_name(key, ".session.json" if kind == "snapshot" else ".session.jsonl"),
        file_name(key, ".archive.jsonl"),
    ]


def state(path):
    """All that can be known of a file or a directory: bytes, numbers, times (but of access)."""
    found = {}
    for folder, folders, names in os.walk(path):
        for name in [*folders, *names]:
            place = os.path.join(folder, name)
            status = os.lstat(place)
            data = os.readlink(place) if stat.S_ISLNK(status.st_mode) else None
            if stat.S_ISREG(status.st_mode):
                with open(place, "rb") as file:
                    data = file.read()
            found[place] = (data, *(getattr(status, f"st_{one}") for one in ("ino", "mode", "nlink", "uid", "size")))
            found[place] += (status.st_mtime_ns, status.st_ctime_ns)
    status = os.lstat(path)
    found[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_ctime_ns)
    return found


def fill(m, text="ours", key=KEY):
    for number in range(3):
        m.add_message(key, "user", f"{text} {number}")
        m.save(key)
    m.truncate_history(key, 2)
    m.save(key)


def said(m, key=KEY):
    return [message.content for message in [*m.get_archive(key), *m.get_history(key)]]


#: Everything that touches the disk; returns what it read, if it read something.
CALLS = [
    lambda m: said(m),
    lambda m: [m.add_message(KEY, "user", "more"), m.save(KEY)],
    lambda m: [m.truncate_history(KEY, 1), m.save(KEY)],
    lambda m: m.list_sessions(),
    lambda m: m.search("decoy"),
    lambda m: [said(m, key) for key in m],
    lambda m: m.fork(KEY, "fork"),
    lambda m: [m.set_summary(KEY, "s"), m.compact(KEY)],
    lambda m: [m.clear(KEY), m.save(KEY)],
    lambda m: m.verify(),
    lambda m: m.health(),
    lambda m: m.expire(timedelta(days=20_000)),
    lambda m: m.delete(KEY),
    lambda m: [m.add_message(KEY, "user", "new"), m.save(KEY)],
]


def use(m):
    """Call everything; return what was raised, which is typed, and see that nothing of the decoy's was read."""
    failures = []
    for call in CALLS:
        try:
            shown = call(m)
        except SessionManagerError as error:
            failures.append(error)
            shown = error
        assert SECRET not in str(shown)
        if isinstance(shown, list):
            assert not [hit for hit in shown if SECRET in str(getattr(hit, "snippet", ""))]
    return failures


@pytest.fixture
def decoy(tmp_path):
    """A directory outside of the storage, with all files that any storage has, readable ones."""
    for kind in KINDS:
        path = tmp_path / "decoy"
        with SessionManager(url_of(kind, path / kind), archive=True) as m:
            fill(m, SECRET)
    # A database that is in use: it has a log that was not moved into it.
    with closing(SQLiteStore(path / "sqlite" / "chats.db")) as store, SessionManager(store) as m:
        m.add_message(KEY, "user", SECRET)
        m.save(KEY)
        shutil.copytree(path / "sqlite", path / "live")
    return path


# Planted links


def planted_names(kind):
    own = session_names(kind)
    if kind == "sqlite":
        return [f"chats.db{end}" for end in ("-wal", "-shm", ".lock", "-journal")]
    return [
        *own,
        ".lock",
        ".holder",
        ".clean",
        ".tmp-0123456789abcdef",
        f".quarantine-0123456789abcdef-{own[0]}",
        "x.json",
    ]


@pytest.mark.parametrize("dangling", [False, True], ids=["link", "dangling"])
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in planted_names(kind)])
def test_a_planted_link_is_neither_read_nor_written_through(kind, name, dangling, tmp_path, decoy):
    chats = tmp_path / "chats"
    with SessionManager(url_of(kind, chats), archive=True) as m:
        fill(m)
    live = decoy / ("live" if kind == "sqlite" else kind)
    target = live / name if (live / name).exists() else live / session_names(kind)[0]
    (chats / name).unlink(missing_ok=True)
    (chats / name).symlink_to(tmp_path / "nowhere" if dangling else target)
    before = state(decoy)
    failures = []
    try:
        with SessionManager(url_of(kind, chats), archive=True) as m:
            failures = use(m)
    except (StorageError, InvalidStorageError) as error:
        failures.append(error)
    assert state(decoy) == before
    assert sorted(os.listdir(tmp_path)) == ["chats", "decoy"]
    is_read = name in session_names(kind)
    assert bool(failures) == (name == ".lock" or is_read or kind == "sqlite")


@pytest.mark.parametrize("what", ["file", "link", "directory"])
@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_a_temporary_name_that_somebody_foresaw_is_not_written_to(kind, what, tmp_path, decoy, monkeypatch):
    """Such a name is nobody's but ours: what has it may be removed, as after a crash."""
    with SessionManager(url_of(kind, tmp_path / "chats"), archive=True) as m:
        fill(m)
        monkeypatch.setattr(secrets, "token_hex", lambda _: "0123456789abcdef")
        planted = tmp_path / "chats" / ".tmp-0123456789abcdef"
        before = state(decoy)
        match what:
            case "file":
                planted.write_bytes(b"planted")
            case "link":
                planted.symlink_to(decoy / kind / session_names(kind)[0])
            case "directory":
                planted.mkdir()
        with open(planted, "rb") if what == "file" else nullcontext() as file:
            m.add_message("new", "user", "text")
            with pytest.raises(SessionManagerError):
                m.save("new")
            assert file is None or file.read() == b"planted"
        assert state(decoy) == before
        monkeypatch.undo()
        assert m.save("new") is True


# Keys that try to escape

ESCAPES = [
    "../decoy/x",
    "/etc/passwd",
    "..",
    ".",
    "a/../../decoy",
    "~root",
    "..\\decoy",
    "x\0y",
    "C:\\x",
    "file:///x",
    "%2e%2e%2f",
]
ESCAPES += [
    "\u202e/../x",
    "a\n../b",
    "'; DROP TABLE sessions; --",
    "-rf",
    "con",
    "/" * 500,
    "../" * 100,
    "\uff0e\uff0e\uff0f",
]


@kinds
def test_no_key_leads_outside(kind, tmp_path, decoy):
    before = state(decoy)
    with SessionManager(url_of(kind, tmp_path / "chats"), archive=True) as m:
        for key in ESCAPES:
            try:
                fill(m, key=key)
            except SessionManagerError:
                assert key in (".", "..")
                continue
            assert len(said(m, key)) == 3
            m.compact(key)
            m.fork(key, f"{key}/fork")
            m.delete(key)
        assert sorted(m) == sorted(f"{key}/fork" for key in ESCAPES if key not in (".", ".."))
    assert state(decoy) == before
    assert sorted(os.listdir(tmp_path)) == ["chats", "decoy"]


# A swapped directory


@pytest.mark.parametrize("by", ["directory", "link"])
@kinds
def test_a_directory_in_the_place_of_ours_is_neither_read_nor_written(kind, by, tmp_path, decoy):
    """While it is open, the directory is renamed, and another one, or a link to one, gets its name."""
    chats = tmp_path / "chats"
    m = SessionManager(url_of(kind, chats), archive=True)
    fill(m)
    fill(m, key="other")
    chats.rename(tmp_path / "moved")
    live = decoy / ("live" if kind == "sqlite" else kind)
    if by == "link":
        chats.symlink_to(live)
    else:
        shutil.copytree(live, chats)
    before = state(decoy), state(chats)
    failures = use(m)
    m.close(save=False)
    if by == "directory":
        assert state(chats) == before[1]
    assert state(decoy) == before[0]
    assert bool(failures) == (kind == "sqlite")
    with SessionManager(url_of(kind, tmp_path / "moved"), archive=True) as m:
        assert said(m, "other") == ["ours 0", "ours 1", "ours 2"]
        assert said(m) == (["ours 0", "ours 1", "ours 2"] if kind == "sqlite" else ["new"])
        assert m.verify() == []


@pytest.mark.parametrize("store_class", [SnapshotStore, LogStore])
def test_a_directory_swapped_during_the_opening_is_refused(store_class, tmp_path, decoy):
    """The lock was taken by its path: in the other directory, which got a file of ours, while ours had no lock."""
    chats, moved = tmp_path / "chats", tmp_path / "moved"
    chats.mkdir(mode=0o700)

    def swapped(path):
        files = Files(path)
        chats.rename(moved)
        decoy.rename(chats)
        return files

    inside = decoy / "snapshot"
    before = state(inside), os.listdir(decoy)
    with pytest.raises(StorageError, match="was replaced while it was being opened"):
        store_class(chats, files=swapped)
    chats.rename(decoy)
    assert (state(inside), os.listdir(decoy)) == before
    with closing(store_class(moved)) as store, SessionManager(store) as m:
        fill(m)


def test_a_second_reader_does_not_open_a_database_in_the_place_of_ours(tmp_path, decoy):
    """Connections are opened by name: it read the other database, and made a checkpoint of it when it was closed."""
    with closing(SQLiteStore(tmp_path / "chats" / "chats.db")) as store, SessionManager(store) as m:
        fill(m)
        (tmp_path / "chats").rename(tmp_path / "moved")
        shutil.copytree(decoy / "live", tmp_path / "chats")
        before = state(tmp_path / "chats")

        def nested(connection):
            assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
            with pytest.raises(StorageError, match="moved, removed or replaced"):
                store.load(KEY)
            return True

        assert store._database.read(nested)
    assert state(tmp_path / "chats") == before


# Modes


def modes(path):
    return {
        os.path.relpath(os.path.join(folder, name), path): stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode)
        for folder, folders, names in os.walk(path)
        for name in [*folders, *names]
    }


@pytest.mark.parametrize("umask", [0o000, 0o777, 0o077], ids=oct)
@kinds
def test_every_file_is_0600_and_every_directory_0700_at_every_moment(kind, umask, tmp_path):
    """Also what SQLite puts beside a database, archives, what is in quarantine, and torn ends that are kept."""
    seen = {}

    def look():
        found = modes(tmp_path / "new")
        assert {mode for name, mode in found.items() if name in ("deep", "deep/chats")} == {0o700}
        assert {mode for name, mode in found.items() if name not in ("deep", "deep/chats")} <= {0o600}, found
        seen.update(found)

    old = os.umask(umask)
    try:
        with SessionManager(url_of(kind, tmp_path / "new" / "deep" / "chats"), archive=True) as m:
            look()
            fill(m)
            look()
            for call in CALLS:
                call(m)
                look()
            fill(m, CANARY)
        look()
        if kind != "sqlite":
            for name in session_names(kind):
                with open(tmp_path / "new" / "deep" / "chats" / name, "ab") as file:
                    file.write(b'{"torn')
            with SessionManager(url_of(kind, tmp_path / "new" / "deep" / "chats"), archive=True) as m:
                for call in (lambda: fill(m), lambda: m.delete(KEY)):
                    try:
                        call()
                    except SessionManagerError:
                        assert kind == "snapshot"
                    look()
        with SessionManager(url_of(kind, tmp_path / "new" / "deep" / "chats"), read_only=True) as m:
            m.list_sessions()
            look()
    finally:
        os.umask(old)
    ends = (
        ("-wal", "-shm", ".lock")
        if kind == "sqlite"
        else (".lock", ".holder", ".archive.jsonl", session_names(kind)[0])
    )
    for end in ends:
        assert any(name.endswith(end) for name in seen), (end, sorted(seen))
    assert kind == "sqlite" or any(".quarantine-" in name for name in seen)
