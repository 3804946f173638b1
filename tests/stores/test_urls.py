"""What a URL or path opens, and what is refused, with nothing created."""

from __future__ import annotations

import json
import os
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from session_manager import (
    AsyncSessionManager,
    InvalidStorageError,
    SessionManager,
    StorageError,
    StorageLockedError,
    open_store,
)
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.urls import place_of

OURS = "telegram~3a42.session.json"


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    """Each test works in an empty directory of its own, where relative paths lead."""
    (tmp_path / "cwd").mkdir(0o700)
    monkeypatch.chdir(tmp_path / "cwd")


def tree(directory: str | Path = ".") -> dict[str, Any]:
    """All that is in a directory, with the bytes of the files and the targets of the links."""
    found: dict[str, Any] = {}
    for path in sorted(Path(directory).rglob("*")):
        data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path)] = data
    return found


def saved(storage: Any) -> list[str]:
    """Save a session in a storage; return what is in it when it is opened again."""
    with SessionManager(storage) as m:
        m.add_message("telegram:42", "user", "hi")
    with SessionManager(storage) as m:
        assert [message.content for message in m.get_history("telegram:42")][:1] == ["hi"]
        return list(m)


# What opens


PATHS = [
    ("chats", "chats"),
    ("a/b/c", "a/b/c"),
    ("./chats/", "chats"),
    ("with space:colon", "with space:colon"),
    ("c:chats", "c:chats"),
    ("C:\\chats", "C:\\chats"),
    ("SNAPSHOT:chats", "SNAPSHOT:chats"),
    ("./~", "~"),
    ("漢 é", "漢 é"),
    ("chats.json", "chats.json"),
    ("chats.dbx", "chats.dbx"),
    (Path("chats"), "chats"),
    (Path("snapshot:chats"), "snapshot:chats"),
    (Path("memory:"), "memory:"),
    ("snapshot:chats", "chats"),
    ("snapshot:a/b/c", "a/b/c"),
    ("snapshot:chats.db", "chats.db"),
    ("snapshot:memory:", "memory:"),
    ("snapshot:snapshot:x", "snapshot:x"),
    ("snapshot: chats", " chats"),
]


@pytest.mark.parametrize(("storage", "directory"), PATHS)
def test_a_path_or_snapshot_url_keeps_sessions_in_that_directory(storage, directory):
    assert saved(storage) == ["telegram:42"]
    assert {OURS, ".lock"} == set(os.listdir(directory))
    assert Path(directory).stat().st_mode & 0o777 == 0o700


def test_an_absolute_path_is_one_too(tmp_path):
    assert saved(f"snapshot:{tmp_path}/a") == saved(tmp_path / "b") == saved(str(tmp_path / "c")) == ["telegram:42"]
    assert {OURS, ".lock"} == set(os.listdir(tmp_path / "a")) == set(os.listdir(tmp_path / "b"))


class PathLike:
    def __fspath__(self) -> str:
        return "chats"


def test_anything_with_a_path_is_a_path():
    assert saved(PathLike()) == ["telegram:42"]
    assert OURS in os.listdir("chats")


def test_a_relative_path_means_the_directory_of_when_it_was_opened(tmp_path, monkeypatch):
    with SessionManager("chats") as m:
        m.add_message("telegram:42", "user", "hi")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        m.save("telegram:42")
    assert tree() == {}
    assert (tmp_path / "cwd" / "chats" / OURS).exists()


@pytest.mark.parametrize("url", ["snapshot:chats", "chats", Path("chats")])
def test_open_store_opens_a_store_of_snapshots(url):
    with closing(open_store(url)) as store:
        assert type(store) is SnapshotStore
        assert store.path == os.path.abspath("chats")


def test_what_is_there_is_opened_again_under_either_name():
    os.makedirs("link/chats.db", 0o700)
    os.symlink("link/chats.db", "alias")
    for storage in ("snapshot:link/chats.db", "link/chats.db", "alias", Path("alias"), "snapshot:./alias/."):
        assert saved(storage) == ["telegram:42"]
    assert set(os.listdir("link/chats.db")) == {OURS, ".lock"}


def test_one_storage_is_open_once_whatever_it_is_called():
    with SessionManager("chats"):
        for storage in ("snapshot:chats", Path("chats"), os.path.abspath("chats")):
            with pytest.raises(StorageLockedError):
                SessionManager(storage)


KINDS = {"snapshot": "snapshots", "log": "logs", "sqlite": "database"}


@pytest.mark.parametrize("scheme", KINDS)
def test_a_bare_path_opens_whatever_store_is_there(scheme):
    name = KINDS[scheme]
    assert saved(f"{scheme}:{name}") == ["telegram:42"]
    for url in (name, Path(name), f"./{name}"):
        with closing(open_store(url)) as store:
            assert type(store).__name__.lower() == f"{scheme}store"
            assert list(store.keys()) == ["telegram:42"]


@pytest.mark.parametrize("scheme", KINDS)
def test_read_only_opens_what_is_there_and_creates_nothing(scheme):
    before = tree()
    for url in (f"{scheme}:chats", f"{scheme}:a/b"):
        with pytest.raises(StorageError, match="not there"):
            open_store(url, read_only=True)
    assert tree() == before
    assert saved(f"{scheme}:chats") == ["telegram:42"]
    with SessionManager("chats", read_only=True) as m:
        assert list(m) == ["telegram:42"]


def test_an_empty_file_becomes_a_database():
    Path("empty").write_bytes(b"")
    assert saved("empty") == ["telegram:42"]
    assert Path("empty").read_bytes().startswith(b"SQLite format 3")


def test_an_open_database_keeps_its_locks_when_its_path_is_opened_again():
    with SessionManager("sqlite:chats.db") as one:
        one.add_message("telegram:42", "user", "hi")
        one.save("telegram:42")
        with SessionManager("chats.db") as other:
            assert list(other) == ["telegram:42"]
            other.add_message("telegram:42", "user", "there")
        one.add_message("telegram:42", "user", "again")
        one.save("telegram:42")
        assert [message.content for message in one.get_history("telegram:42")] == ["hi", "there", "again"]


def test_memory_keeps_sessions_in_ram_and_touches_no_disk():
    with closing(open_store("memory:")) as store:
        assert type(store) is MemoryStore
    for arguments in ((), ("memory:",)):
        with SessionManager(*arguments) as m:
            m.add_message("telegram:42", "user", "hi")
            assert (m.save("telegram:42"), m.save_all(), m.health().store) == (False, 0, "memory:")
    assert tree() == {}


@pytest.mark.parametrize("storage", [None, ""])
def test_no_storage_by_mistake_keeps_sessions_in_ram_and_warns(storage):
    with pytest.warns(UserWarning, match="nothing is saved") as caught:
        m = SessionManager(storage)
    assert [warning.filename for warning in caught] == [__file__]
    with m:
        m.add_message("telegram:42", "user", "hi")
        assert m.health().store == "memory:"
    assert tree() == {}


def test_no_storage_on_purpose_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SessionManager().close()
        SessionManager("memory:").close()


def test_a_store_is_used_as_it_is_and_not_closed():
    with closing(open_store("chats")) as store:
        with SessionManager(store) as m:
            m.add_message("telegram:42", "user", "hi")
        assert store.load("telegram:42") is not None


# What does not


def database(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE sessions (key TEXT)")
        connection.commit()


def directory_of(name: str, *files: str) -> None:
    os.mkdir(name, 0o700)
    for file in files:
        Path(name, file).write_bytes(b"{}\n")


def prepare() -> None:
    """Everything that a storage could be taken for."""
    database("chats.sqlite3")
    database("innocent")
    Path("file").write_bytes(b"hello")
    Path("empty").write_bytes(b"")
    Path("short.db").write_bytes(b"SQLite format 3")
    os.symlink("nowhere", "dangling")
    os.symlink("chats.sqlite3", "alias")
    os.mkfifo("fifo")
    directory_of("logs", "telegram~3a42.session.jsonl", "other.txt")
    directory_of("snapshots", OURS)
    directory_of("directory")
    directory_of("both", "telegram~3a42.session.jsonl", OURS)
    directory_of("picoclaw")
    Path("picoclaw", "old_1.json").write_bytes(b'{"key":"old:1","messages":[{"role":"user","content":"hi"}]}')
    directory_of("archives", "telegram~3a42.archive.jsonl")
    directory_of("around", "chats.db", "chats.db.lock")


BOTH = (
    "holds both snapshots (1, such as telegram~3a42.session.json) and logs (1, such as telegram~3a42.session.jsonl): "
    "move one kind to a directory of its own"
)
PICOCLAW = (
    "holds 1 file of sessions in the format picoclaw-json (such as old_1.json), which are not adopted, or not to the end: stop that "
    "program, and call adopt('PATH'), or session-manager adopt; or import them into another storage with import_sessions('PATH', STORAGE)"
)
NO_SUCH_STORE = "there is no such store: memory:, snapshot:PATH, log:PATH, sqlite:PATH and postgresql: are"

REFUSED = {
    # URLs that are none
    "snapshot:": "needs a path, such as snapshot:chats",
    "memory:chats": "memory: takes no path",
    "memory: ": "memory: takes no path",
    "memory://": "memory: takes no path",
    "log:": "needs a path, such as log:chats",
    "sqlite:": "needs a path, such as sqlite:chats",
    "sqlite:///chats.db": "takes a path, without //: give sqlite:chats.db or sqlite:/chats.db",
    "log://chats": "takes a path, without //: give log:chats or log:/chats",
    "sqlite::memory:": "would be a file of that name: give memory: to keep everything in RAM",
    "snapshots:chats": NO_SUCH_STORE,
    "telegram:42": NO_SUCH_STORE,
    "mysql://host/db": NO_SUCH_STORE,
    "http://host": NO_SUCH_STORE,
    "postgresql+psycopg://host/db": f"{NO_SUCH_STORE}; for a PostgreSQL server write postgresql://",
    "POSTGRESQL://host/db": f"{NO_SUCH_STORE}; for a PostgreSQL server write postgresql://",
    "a\0b": "must be a path, or a URL such as snapshot:PATH",
    "snapshot:a\0b": "must be a path, or a URL such as snapshot:PATH",
    # New paths with the name of a database
    "chats.db": "a new path with the name of a database: give sqlite:chats.db or snapshot:chats.db",
    "a/chats.sqlite": "a new path with the name of a database: give sqlite:a/chats.sqlite or snapshot:a/chats.sqlite",
    "new.sqlite3": "a new path with the name of a database: give sqlite:new.sqlite3 or snapshot:new.sqlite3",
    # What is there is something else
    "chats.sqlite3": "is a SQLite database of something else",
    "sqlite:chats.sqlite3": "is a SQLite database of something else",
    "innocent": "is a SQLite database of something else",
    "alias": "is a SQLite database of something else",
    "file": "is not a SQLite database",
    "sqlite:file": "is not a SQLite database",
    "short.db": "is not a SQLite database",
    "snapshot:chats.sqlite3": "is a file, as only a database is: open it as sqlite:chats.sqlite3",
    "log:chats.sqlite3": "is a file, as only a database is: open it as sqlite:chats.sqlite3",
    "snapshot:file": "is a file, as only a database is: open it as sqlite:file",
    "fifo": "is neither a directory nor a file",
    "sqlite:fifo": "is neither a directory nor a file",
    "dangling": "is neither a directory nor a file",
    "snapshot:dangling": "is neither a directory nor a file",
    "sqlite:dangling": "is neither a directory nor a file",
    "snapshot:logs": "is a directory of logs: open it as log:logs",
    "sqlite:./logs/": "is a directory of logs: open it as log:./logs/",
    "log:snapshots": "is a directory of snapshots: open it as snapshot:snapshots",
    "both": BOTH,
    "snapshot:both": BOTH,
    "log:both": BOTH,
    "sqlite:both": BOTH,
    "picoclaw": PICOCLAW.replace("PATH", "picoclaw"),
    "snapshot:picoclaw": PICOCLAW.replace("PATH", "picoclaw"),
    "log:./picoclaw/": PICOCLAW.replace("PATH", "./picoclaw/"),
    "archives": "holds archives, such as telegram~3a42.archive.jsonl, and no sessions: put these back, or give "
    "snapshot:archives or log:archives",
    "around": "holds a database: give sqlite:around/chats.db, or snapshot:around for a directory beside it",
    "sqlite:directory": "is a directory: give the path of a file in it, or snapshot: or log:",
}


@pytest.mark.parametrize(("url", "reason"), REFUSED.items(), ids=range(len(REFUSED)))
@pytest.mark.parametrize("opened", [open_store, SessionManager])
def test_a_wrong_kind_of_storage_is_refused_with_the_right_url(url, reason, opened):
    """Nothing is created."""
    prepare()
    before = tree()
    with pytest.raises(InvalidStorageError) as caught:
        opened(url)
    assert (caught.value.url, caught.value.reason) == (url, reason)
    assert tree() == before


@pytest.mark.parametrize(
    "url",
    [
        " postgresql://u:hunter2@h/d",
        '"postgresql://u:hunter2@h/d"',
        "'postgres://u:hunter2@h/d'",
        "postgresql://u:hunter2@h/d\n",
        "\tmysql://u:hunter2@h/d",
        " sqlite:chats.db",
        "'log:chats'",
        "snapshot:chats\n",
        "host=h port=5432 user=u password=hunter2 dbname=d",
        "user = u  password = hunter2",
    ],
)
@pytest.mark.parametrize("opened", [open_store, SessionManager, AsyncSessionManager.shared])
def test_a_url_of_a_file_of_settings_is_no_path(url, opened):
    """It became a directory whose name has the password."""
    with pytest.raises(InvalidStorageError, match=r"around it|give a URL") as caught:
        opened(url)
    assert "hunter2" not in repr(caught.value) + str(caught.value)
    assert tree() == {}


@pytest.mark.parametrize("path", ["user=u", "user=u/password=p", "a b", "chats\n", "port=1 ", "'chats'", " chats"])
def test_a_path_may_look_odd(path):
    assert saved(path) == ["telegram:42"]


@pytest.mark.parametrize("url", ["", os.fsencode("chats")], ids=["empty", "bytes"])
def test_open_store_refuses_what_is_no_path(url):
    with pytest.raises(InvalidStorageError):
        open_store(url)
    assert tree() == {}


@pytest.mark.parametrize("url", [5, 4.2, object(), ["chats"], True])
def test_what_is_not_even_path_like_is_a_type_error(url):
    for opened in (open_store, SessionManager):
        with pytest.raises(TypeError):
            opened(url)
    assert tree() == {}


def test_refused_pathlib_paths_are_named_as_they_were_given():
    prepare()
    before = tree()
    for name, reason in [("chats.db", "a new path with the name of a database"), ("file", "is not a SQLite database")]:
        with pytest.raises(InvalidStorageError, match=reason) as caught:
            SessionManager(Path(name))
        assert caught.value.url == name
    assert tree() == before


@pytest.mark.parametrize("storage", ["file/chats", "snapshot:file/chats", "x" * 300, "snapshot:" + "a/" * 3000])
def test_a_path_that_cannot_be_created_is_a_storage_error(storage):
    """Nothing is created."""
    prepare()
    before = tree()
    with pytest.raises(StorageError) as caught:
        SessionManager(storage)
    assert isinstance(caught.value.__cause__, OSError)
    assert tree() == before


def test_what_was_refused_can_be_opened_under_its_right_url():
    with pytest.raises(InvalidStorageError):
        SessionManager("chats.db")
    assert saved("snapshot:chats.db") == saved("chats.db") == ["telegram:42"]


def test_a_name_that_no_file_system_can_hold_is_refused():
    with pytest.raises(InvalidStorageError):
        open_store("\ud800")


# Slips


@pytest.fixture
def home(tmp_path, monkeypatch):
    place = tmp_path / "cwd" / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    return place


@pytest.mark.parametrize("given", [str, Path], ids=["text", "path"])
@pytest.mark.parametrize(
    "make", [open_store, SnapshotStore, LogStore, SQLiteStore, SessionManager], ids=lambda make: make.__name__
)
def test_a_tilde_is_the_home(make, given, home):
    """`~/chats` was a directory named `~`."""
    made = make(given("~/chats"))
    made.close()
    assert os.listdir(home.parent) == ["home"]
    assert (home / "chats").exists()


@pytest.mark.parametrize("kind", ["snapshot", "log", "sqlite"])
def test_a_tilde_in_a_url_is_the_home(kind, home):
    with SessionManager(f"{kind}:~/chats") as m:
        m.add_message("k", "user", "hi")
    assert os.listdir(home.parent) == ["home"]
    with SessionManager(f"{kind}:~/chats", read_only=True) as m:
        assert len(m.get_history("k")) == 1
    with SessionManager(f"{kind}:./~") as m:
        m.add_message("k", "user", "hi")
    assert "~" in os.listdir(home.parent)


@pytest.mark.anyio
async def test_a_tilde_is_the_home_for_the_async_manager(home):
    async with AsyncSessionManager("log:~/chats") as m:
        await m.add_message("k", "user", "hi")
    assert os.listdir(home.parent) == ["home"]


@pytest.mark.parametrize("storage", ["~nobody-of-this-name/chats", "log:~nobody-of-this-name/chats"])
def test_the_home_of_an_unknown_user_is_refused(storage, home):
    with pytest.raises(InvalidStorageError, match=r"there is no home ~nobody-of-this-name: give \./~nobody"):
        SessionManager(storage)
    os.mkdir("~nobody-of-this-name")
    SessionManager(storage).close()


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("memory", "memory:"),
        (":memory:", "memory:"),
        ("snapshot", "snapshot:chats"),
        ("log", "log:chats"),
        ("sqlite", "sqlite:chats.db"),
        ("sqlite3", "sqlite:chats.db"),
    ],
)
@pytest.mark.parametrize("make", [open_store, SessionManager], ids=["open_store", "manager"])
def test_a_word_that_means_a_store_is_refused(make, word, right, home):
    """`"memory"` made a directory of that name."""
    with pytest.raises(InvalidStorageError, match=f"give {right},"):
        make(word)
    assert os.listdir() == ["home"]


def test_a_directory_of_such_a_name_can_be_opened(home):
    with SessionManager("./log") as m:
        m.add_message("k", "user", "hi")
    for storage in ("log", Path("log"), "snapshot:log"):
        with SessionManager(storage) as m:
            assert len(m.get_history("k")) == 1
    SessionManager(Path("memory")).close()
    assert os.path.isdir("memory")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("chats.json", "is a JSON file: sessions live in a directory"),
        ("chats.jsonl", "is a JSON file"),
        ("history", "is a JSON file"),
        ("k.session.json", r"is the JSON file of one session: open its directory, [./]"),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_a_json_file_is_called_what_it_is(name, reason, size, home):
    """It was told to be a database."""
    content = json.dumps([{"role": "user", "content": "hi"}] * size)
    with open(name, "w") as file:
        file.write(content)
    schemes = ["", "sqlite:"] + ["snapshot:", "log:"] * name.endswith(("json", "jsonl"))
    for make in [SQLiteStore, *(lambda path, scheme=scheme: SessionManager(scheme + path) for scheme in schemes)]:
        with pytest.raises(InvalidStorageError, match=reason):
            make(name)
    with open(name) as file:
        assert file.read() == content


@pytest.mark.parametrize(
    ("url", "name", "scheme"),
    [
        ("memory:", "memory:", "memory"),
        ("postgres://bot@db/chats", "postgresql://bot@db/chats", "postgresql"),
        ("postgresql://bot@db/chats", "postgresql://bot@db/chats", "postgresql"),
        ("log:there/../chats", "{0}/chats", "log"),
        ("chats", "{0}/chats", ""),
        ("sqlite:link/chats.db", "{0}/chats.db", "sqlite"),
    ],
)
def test_a_place_is_what_all_spellings_of_a_storage_have_in_common(tmp_path, monkeypatch, url, name, scheme):
    """It need not be there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(".")
    assert place_of(url) == (name.format(os.path.realpath(tmp_path)), scheme)


def test_a_database_that_another_process_creates_meanwhile_is_opened(monkeypatch):
    """It was neither a directory nor a file for a process that looked for both before, or a directory."""
    is_there = os.path.lexists

    def is_there_and_then_created(path):
        found = is_there(path)
        Path("chats.db").touch()
        return found

    monkeypatch.setattr(os.path, "lexists", is_there_and_then_created)
    open_store("sqlite:chats.db").close()
