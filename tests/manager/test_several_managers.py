"""Several managers on one store in one process: shared stores serialize them, any other store refuses the second."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from contextlib import closing

import pytest

from session_manager import (
    Autosave,
    ClosedError,
    ConflictError,
    InvalidMessageError,
    SaveFailedError,
    SessionExistsError,
    SessionManager,
    StorageLockedError,
    StoreInUseError,
)
from session_manager.stores import copy
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.wrapped import WrappedStore
from session_manager.testing import FaultyStore, crash

KEY = "telegram:42"
DEADLINE = 60

EXCLUSIVE = {
    "snapshot": SnapshotStore,
    "log": LogStore,
    "sqlite, exclusive": lambda path: SQLiteStore(path / "chats.db", exclusive=True),
}
SHARED = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda path: SQLiteStore(path / "chats.db"),
    "memory, wrapped": lambda _: FaultyStore(MemoryStore()),
    "sqlite, wrapped": lambda path: FaultyStore(SQLiteStore(path / "chats.db")),
}


@pytest.fixture(params=sorted(EXCLUSIVE))
def store(request, tmp_path):
    with closing(EXCLUSIVE[request.param](tmp_path / "chats")) as one:
        yield one


def say(m, text, key=KEY):
    m.add_message(key, "user", text)
    m.save(key)


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def managers_of_threads(open_one, count=4, saves=40):
    """Let a thread with a manager of its own save in each of three sessions; return what was acknowledged, and refusals."""
    acknowledged, refused, failures = [], [], []
    start = threading.Barrier(count)

    def work(number):
        start.wait(DEADLINE)
        try:
            with open_one() as m:
                for save in range(saves):
                    key, text = f"k{save % 3}", f"{number}.{save}"
                    say(m, text, key)
                    acknowledged.append((key, text))
        except StoreInUseError as error:
            refused.append(error)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert failures == []
    return acknowledged, refused


def check_all_are_there(store, acknowledged):
    with SessionManager(store) as m:
        assert m.verify() == []
        found = [(key, text) for key in m for text in texts(m, key)]
    assert sorted(found) == sorted(acknowledged)
    for key, text in acknowledged:
        writer = text.split(".")[0]
        own = [one for one in found if one[0] == key and one[1].split(".")[0] == writer]
        assert own == [one for one in acknowledged if one[0] == key and one[1].split(".")[0] == writer]


@pytest.mark.parametrize("kind", sorted(SHARED))
def test_managers_of_a_shared_store_lose_nothing(kind, tmp_path):
    with closing(SHARED[kind](tmp_path)) as store:
        acknowledged, refused = managers_of_threads(lambda: SessionManager(store))
        assert refused == []
        assert len(acknowledged) == 160
        check_all_are_there(store, acknowledged)


def test_a_session_that_another_manager_deleted_is_not_deleted_twice(tmp_path):
    url = f"sqlite:{tmp_path}/chats.db"
    with SessionManager(url) as one, SessionManager(url) as other:
        for m, key in ((one, "deleted"), (one, "unsaved")):
            m.add_message(key, "user", "hi")
            m.save(key)
        assert other.delete("deleted")
        assert other.delete("unsaved")
        one.add_message("unsaved", "user", "more")
        assert [one.delete(key) for key in ("deleted", "unsaved", "missing")] == [False, True, False]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_changes_of_a_session_that_is_gone_are_no_session(kind, tmp_path):
    """They mean nothing any more: `delete` counted them as a session, and refused an expected version because of them."""
    store = SHARED[kind](tmp_path)
    with closing(store), SessionManager(store) as one, SessionManager(store) as other:
        for key in ("deleted", "none expected", "made again"):
            say(one, "hi", key)
            other.set_summary(key, "greetings")
            one.delete(key)
        say(one, "again", "made again")
        assert not other.delete("deleted")
        assert not other.delete("none expected", expected=None)
        assert other.delete("made again", expected=one.get("made again").version)
        assert list(one) == []
        other.add_message("unsaved", "user", "hi")
        with pytest.raises(ConflictError):
            other.delete("unsaved", expected=None)


def test_a_fork_to_a_key_that_another_manager_takes_is_refused(tmp_path):
    """It takes the key between the look and the write of the copy."""

    class Late(WrappedStore):
        def write(self, commit):
            if commit.session.key == "copy":
                say(other, "mine", "copy")
            super().write(commit)

    with closing(MemoryStore()) as store, SessionManager(Late(store)) as one, SessionManager(store) as other:
        say(one, "hi")
        with pytest.raises(SessionExistsError):
            one.fork(KEY, "copy")
        assert texts(one, "copy") == ["mine"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_managers_of_threads_are_one_at_a_time_on_any_other_store(store, wrapped):
    """Two managers on one store lost 31 of 600 acknowledged saves, or damaged a log."""
    acknowledged, _ = managers_of_threads(lambda: SessionManager(FaultyStore(store) if wrapped else store))
    assert len(acknowledged) >= 40
    check_all_are_there(store, acknowledged)


def test_a_second_manager_is_refused_and_says_what_to_do(store):
    with SessionManager(store) as m:
        say(m, "one")
        for read_only in (False, True):
            for again in (store, FaultyStore(store), FaultyStore(FaultyStore(store))):
                with pytest.raises(StoreInUseError, match="use one manager for it, or SQLite") as raised:
                    SessionManager(again, read_only=read_only)
                assert raised.value.path == repr(store)
                assert isinstance(raised.value, StorageLockedError)
        say(m, "two")
        assert texts(m) == ["one", "two"]
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_wrapped_store_is_in_use_as_well(store):
    with SessionManager(FaultyStore(store)), pytest.raises(StoreInUseError):
        SessionManager(store)


def test_a_manager_that_is_closed_or_crashes_frees_the_store(store):
    with SessionManager(store) as m:
        say(m, "one")
    m = SessionManager(store)
    say(m, "two")
    m.close()
    m.close()
    other = SessionManager(store)
    m.close()  # once more: that must not free it for a third
    with pytest.raises(StoreInUseError):
        SessionManager(store)
    assert texts(other) == ["one", "two"]
    other.add_message(KEY, "user", "lost")
    crash(other)
    with pytest.raises(StoreInUseError), SessionManager(store), SessionManager(store):
        pass


def test_a_manager_whose_close_failed_keeps_the_store(store):
    faulty = FaultyStore(store)
    m = SessionManager(faulty)
    m.add_message(KEY, "user", "one")
    faulty.fail_next(OSError("full"))
    with pytest.raises(SaveFailedError):
        m.close()
    with pytest.raises(StoreInUseError):
        SessionManager(store)
    m.close()
    with SessionManager(store) as other:
        assert texts(other) == ["one"]


@pytest.mark.parametrize("autosave", [None, Autosave()], ids=["", "autosave"])
@pytest.mark.filterwarnings("ignore:1 unsaved sessions:ResourceWarning")
def test_a_manager_that_is_collected_frees_the_store(store, autosave):
    m = SessionManager(store, autosave=autosave)
    m.add_message(KEY, "user", "lost")
    del m
    gc.collect()
    with SessionManager(store) as other:
        say(other, "one")


def test_a_constructor_that_fails_frees_the_store(store, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("session_manager.manager.manager.Autosaver", failing)
        with pytest.raises(RuntimeError, match="new thread") as raised:
            SessionManager(store, autosave=Autosave())
    assert raised.traceback  # it holds the manager
    with SessionManager(store) as m:
        say(m, "one")


def test_a_constructor_that_fails_closes_what_it_has_opened(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("session_manager.manager.manager.Autosaver", failing)
        with pytest.raises(RuntimeError) as raised:
            SessionManager(f"log:{tmp_path / 'chats'}", autosave=Autosave())
    assert raised.traceback
    with SessionManager(f"log:{tmp_path / 'chats'}") as m:
        say(m, "one")


def test_arguments_that_are_refused_do_not_take_the_store(store):
    with pytest.raises(ValueError, match="max_resident_bytes"):
        SessionManager(store, max_resident_bytes=0)
    with SessionManager(store) as m, pytest.raises(InvalidMessageError):
        m.add_message(KEY, "user", {1, 2})


def test_a_copy_takes_no_store_that_has_a_manager(store, tmp_path):
    """It read, and wrote, files in the middle of a save."""
    target = MemoryStore()
    with SessionManager(store) as m:
        say(m, "one")
        with pytest.raises(StoreInUseError):
            copy(store, target)
        with pytest.raises(StoreInUseError):
            copy(target, store)
    assert copy(store, target).copied == (KEY,)
    assert copy(target, store).present == (KEY,)
    with SessionManager(store) as m:
        assert texts(m) == ["one"]


def in_child(function):
    """Call a function in a forked child; return the name of the error that it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        name = b""
        try:
            function()
        except BaseException as error:
            name = type(error).__name__.encode()
        os.write(writing, name or b"-")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        name = pipe.read().decode()
    os.waitpid(child, 0)
    return name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["log", "snapshot"])
def test_a_forked_child_has_no_store_of_its_parent(kind, tmp_path):
    """It has no lock, and wrote beside the parent."""
    with closing(EXCLUSIVE[kind](tmp_path / "chats")) as store:
        m = SessionManager(store)
        say(m, "one")
        assert in_child(lambda: SessionManager(store)) == "ForkedError"
        assert in_child(lambda: store.load(KEY)) == "ForkedError"
        m.close()
        assert in_child(lambda: say(SessionManager(store), "two")) == "ForkedError"
        with SessionManager(store) as m:
            say(m, "three")
            assert texts(m) == ["one", "three"]
    with pytest.raises(ClosedError):
        store.load(KEY)


@pytest.mark.parametrize("kind", ["log", "snapshot"])
def test_readers_may_share_a_store_that_is_opened_read_only(kind, tmp_path):
    path = tmp_path / "chats"
    with SessionManager(EXCLUSIVE[kind](path)) as writer, closing(EXCLUSIVE[kind](path, read_only=True)) as reading:
        errors = []

        def read(m):
            try:
                for _ in range(200):
                    found = texts(m)
                    assert found == [str(number) for number in range(len(found))]
            except BaseException as error:
                errors.append(error)

        managers = [SessionManager(reading, read_only=True) for _ in range(3)]
        threads = [threading.Thread(target=read, args=(m,)) for m in managers]
        for thread in threads:
            thread.start()
        for number in range(60):
            say(writer, str(number))
        for thread in threads:
            thread.join(DEADLINE)
        assert errors == []
        assert [len(texts(m)) for m in managers] == [60, 60, 60]
        for m in managers:
            m.close()
    writer._residents.store.close()
