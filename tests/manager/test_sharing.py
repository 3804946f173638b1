"""Several managers on one store, and readers beside a writer: who sees what, and when."""

from __future__ import annotations

import contextlib
import os
import threading
from datetime import timedelta

import pytest

from session_manager import ConflictError, CorruptSessionError, ReadOnlyError, SessionManager, StorageError, open_store
from session_manager.stores.memory import MemoryStore

KEY = "telegram:42"
DEADLINE = 30


class SharedStore(MemoryStore):
    """A store in RAM that several managers write to; counts how often it is asked for what."""

    shared = True

    def __init__(self):
        super().__init__()
        self.loads = 0

    def load(self, key):
        self.loads += 1
        return super().load(key)


@pytest.fixture
def store():
    return SharedStore()


@pytest.fixture
def two(store):
    with SessionManager(store) as one, SessionManager(store) as other:
        yield one, other


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def say(m, text, key=KEY):
    m.add_message(key, "user", text)
    m.save(key)


# A shared store


def test_a_read_sees_what_another_has_saved_and_loads_only_then(store, two):
    one, other = two
    say(one, "a")
    assert texts(other) == ["a"]
    loads = store.loads
    assert texts(other) == ["a"]
    assert other.get(KEY).summary == ""
    assert store.loads == loads
    say(one, "b")
    assert texts(other) == ["a", "b"]
    assert store.loads == loads + 1


def test_what_is_not_saved_is_seen_by_nobody_else_and_stays_on_top(two):
    one, other = two
    say(one, "a")
    assert texts(other) == ["a"]
    other.add_message(KEY, "user", "mine")
    assert texts(one) == ["a"]
    say(one, "b")
    assert texts(other) == ["a", "b", "mine"]
    assert other.save(KEY)
    assert texts(one) == ["a", "b", "mine"]


def test_calls_that_look_at_the_session_look_at_the_newest(two):
    one, other = two
    for text in "abc":
        say(one, text)
    assert texts(other) == ["a", "b", "c"]
    say(one, "d")
    one.update_message(KEY, 0, {"role": "user", "content": "A"})
    one.save(KEY)
    assert other.update_last(KEY, {"role": "user", "content": "D"})
    assert other.truncate_history(KEY, 2) == 2
    assert texts(other) == ["c", "D"]
    assert other.save(KEY)
    assert texts(one) == ["c", "D"]


def test_a_session_that_another_deletes_is_gone_everywhere(two):
    one, other = two
    say(one, "a")
    assert texts(other) == ["a"]
    assert one.delete(KEY)
    assert other.get(KEY) is None
    assert KEY not in other
    assert list(other) == []
    assert len(other) == 0
    assert other.list_sessions() == []
    assert other.search("a") == []
    assert other.set_summary(KEY, "s") is False
    say(other, "new")
    assert texts(one) == ["new"]


def test_unsaved_messages_of_a_deleted_session_start_a_new_session(two):
    """The new session has none of the old messages."""
    one, other = two
    say(one, "a")
    other.add_message(KEY, "user", "mine")
    assert one.delete(KEY)
    assert texts(other) == ["mine"]
    assert other.save(KEY)
    assert texts(one) == ["mine"]


def test_lists_show_what_another_has_saved(two):
    one, other = two
    say(one, "a")
    assert other.get(KEY) is not None
    say(one, "b")
    one.set_summary("none", "")
    say(one, "x", "other:1")
    assert {info.key: info.count for info in other.list_sessions()} == {KEY: 2, "other:1": 1}
    assert [hit.position for hit in other.search("b")] == [1]
    assert "other:1" in other


def test_a_read_that_meets_a_conflict_keeps_the_picture_and_save_raises(two):
    one, other = two
    say(one, "a")
    assert texts(other) == ["a"]
    other.update_last(KEY, {"role": "user", "content": "mine"})
    one.update_last(KEY, {"role": "user", "content": "theirs"})
    one.save(KEY)
    assert texts(other) == ["mine"]
    with pytest.raises(ConflictError):
        other.save(KEY)
    assert texts(other) == ["mine"]
    assert len(other.reload(KEY)) == 1
    assert texts(other) == ["theirs"]


def test_a_reader_does_not_wait_for_the_store_during_a_save():
    writing, go_on = threading.Event(), threading.Event()

    class Slow(SharedStore):
        def write(self, commit):
            writing.set()
            assert go_on.wait(DEADLINE)
            super().write(commit)

    with SessionManager(Slow()) as m:
        m.add_message(KEY, "user", "a")
        saving = threading.Thread(target=m.save, args=(KEY,))
        saving.start()
        assert writing.wait(DEADLINE)
        assert texts(m) == ["a"]
        m.add_message(KEY, "user", "b")
        go_on.set()
        saving.join()
        assert m.health().dirty == (KEY,)


def test_an_evicted_session_comes_back_with_what_another_saved(store):
    with SessionManager(store, max_resident_bytes=1) as one, SessionManager(store) as other:
        say(one, "a")
        say(one, "b", "other:1")
        assert one.health().resident == 1
        say(other, "c")
        assert texts(one) == ["a", "c"]


def test_expiry_spares_what_another_has_made_active(store):
    with SessionManager(store) as one, SessionManager(store) as other:
        say(one, "a")
        assert one.expire(timedelta(0), dry_run=True) == [KEY]
        say(other, "b")
        assert one.expire(timedelta(days=1)) == []
        assert texts(one) == ["a", "b"]


# Read-only


@pytest.fixture(params=["snapshot", "log", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'chats'}"


def test_a_reader_beside_the_writer_sees_each_save(url):
    with SessionManager(url) as writer:
        say(writer, "a")
        with SessionManager(url, read_only=True) as reader:
            assert texts(reader) == ["a"]
            writer.add_message(KEY, "user", "b")
            assert texts(reader) == ["a"]
            writer.save(KEY)
            assert texts(reader) == ["a", "b"]
            assert reader.get("other:1") is None
            say(writer, "x", "other:1")
            assert texts(reader, "other:1") == ["x"]
            assert sorted(reader) == ["other:1", KEY]
            assert [info.count for info in reader.list_sessions("telegram")] == [2]
            assert [hit.key for hit in reader.search("x")] == ["other:1"]
            writer.compact(KEY)
            writer.truncate_history(KEY, 1)
            writer.save_all()
            assert texts(reader) == ["b"]
            writer.delete(KEY)
            assert reader.get(KEY) is None
            assert list(reader) == ["other:1"]
            assert reader.verify() == []


WRITING = {
    "add_message": lambda m: m.add_message(KEY, "user", "x"),
    "add": lambda m: m.add(KEY, {"role": "user"}),
    "get_or_create": lambda m: m.get_or_create("new:1"),
    "set_summary": lambda m: m.set_summary(KEY, "x"),
    "set_history": lambda m: m.set_history(KEY, []),
    "truncate_history": lambda m: m.truncate_history(KEY, 0),
    "remove_last": lambda m: m.remove_last(KEY),
    "update_last": lambda m: m.update_last(KEY, {"role": "user"}),
    "update_message": lambda m: m.update_message(KEY, 0, {"role": "user"}),
    "update_metadata": lambda m: m.update_metadata(KEY, {"a": 1}),
    "clear": lambda m: m.clear(KEY),
    "delete": lambda m: m.delete(KEY),
    "expire": lambda m: m.expire(timedelta(0)),
    "fork": lambda m: m.fork(KEY, "copy:1"),
    "save": lambda m: m.save(KEY),
    "save_all": lambda m: m.save_all(),
    "compact": lambda m: m.compact(KEY),
}


@pytest.mark.parametrize("call", WRITING)
def test_writing_is_refused_and_changes_nothing(url, call):
    with SessionManager(url) as writer:
        say(writer, "a")
    with SessionManager(url, read_only=True) as reader:
        with pytest.raises(ReadOnlyError):
            WRITING[call](reader)
        assert texts(reader) == ["a"]
        assert list(reader) == [KEY]
        assert reader.get_or_create(KEY).key == KEY


def test_the_store_refuses_as_well(url):
    with SessionManager(url) as writer:
        say(writer, "a")
        commit = writer._residents.peek(KEY).commit("token")
    store = open_store(url, read_only=True)
    with pytest.raises(ReadOnlyError):
        store.write(commit)
    with pytest.raises(ReadOnlyError):
        store.delete(KEY)
    store.close()


def test_a_reader_changes_nothing_on_disk(url, tmp_path):
    with SessionManager(url) as writer:
        say(writer, "a")

    def listed():
        root = tmp_path / "chats"
        names = [tmp_path / name for name in os.listdir(tmp_path)] + (sorted(root.iterdir()) if root.is_dir() else [])
        return {str(path): path.stat().st_mtime_ns for path in names if not path.name.endswith(("-shm", "-wal"))}

    before = listed()
    with SessionManager(url, read_only=True) as reader:
        assert texts(reader) == ["a"]
        reader.list_sessions()
        reader.search("a")
        reader.verify()
    assert listed() == before


def test_what_is_not_there_cannot_be_read_and_is_not_created(url, tmp_path):
    with pytest.raises(StorageError):
        SessionManager(url, read_only=True)
    assert os.listdir(tmp_path) == []


def test_a_reader_is_told_of_damage_and_sees_the_repair(tmp_path):
    path = tmp_path / "chats"
    with SessionManager(path) as writer:
        say(writer, "a")
        file = path / "telegram~3a42.session.json"
        good = file.read_bytes()
        with SessionManager(path, read_only=True) as reader:
            assert texts(reader) == ["a"]
            file.write_bytes(good[:50])
            with pytest.raises(CorruptSessionError):
                reader.get(KEY)
            file.write_bytes(good)
            assert texts(reader) == ["a"]


def test_read_only_and_autosave_exclude_each_other(tmp_path):
    from session_manager import Autosave

    with pytest.raises(ValueError, match="exclude"):
        SessionManager(tmp_path, read_only=True, autosave=Autosave())


def test_two_writers_never_both_find_the_version_they_are_based_on():
    """A store in RAM compared and replaced in two steps: of two writes at once, one was lost."""
    both = threading.Barrier(2)

    class Slow(SharedStore):
        """Makes who compares wait for the other to compare, too, which must not happen."""

        def version(self, key):
            found = super().version(key)
            if threading.current_thread() in writers:
                with contextlib.suppress(threading.BrokenBarrierError):
                    both.wait(0.2)
            return found

    writers: list[threading.Thread] = []
    store = Slow()
    with SessionManager(store) as one, SessionManager(store) as other:
        say(one, "start")
        for m in (one, other):
            m.get(KEY)
            m.add_message(KEY, "user", "mine" if m is one else "theirs")
        writers += [threading.Thread(target=m.save, args=(KEY,)) for m in (one, other)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join(DEADLINE)
        assert sorted(texts(one)) == ["mine", "start", "theirs"]
