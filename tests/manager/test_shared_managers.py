"""`SessionManager.shared`: one manager for a storage and process, closed with the last of its users."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

from session_manager import (
    ClosedError,
    ForkedError,
    InvalidStorageError,
    SaveFailedError,
    SessionManager,
    StorageError,
    StorageLockedError,
)
from session_manager.keywords import keyword_defaults
from session_manager.manager.ending import Ending
from session_manager.manager.options import ManagerOptions
from session_manager.stores.log.store import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.testing import crash
from tests.support.processes import start

KEY = "telegram:42"
URLS = ["snapshot:{}", "log:{}", "sqlite:{}.db"]


@pytest.fixture(params=URLS, ids=lambda url: url.partition(":")[0])
def url(request, tmp_path):
    return request.param.format(tmp_path / "chats")


def texts(m):
    return [message.content for message in m.get_history(KEY)]


def stored(url):
    with SessionManager(url, read_only=True) as m:
        return texts(m)


def test_users_of_one_storage_have_one_ram_and_the_last_closes(url):
    one, other = SessionManager.shared(url), SessionManager.shared(url)
    assert one is not other
    assert repr(one) == repr(other)
    one.add_message(KEY, "user", "hi")
    assert texts(other) == ["hi"]
    one.close()
    assert stored(url) == ["hi"]
    other.add_message(KEY, "user", "again")
    other.close()
    assert stored(url) == ["hi", "again"]
    with SessionManager(url) as alone:
        assert texts(alone) == ["hi", "again"]


@pytest.mark.parametrize("kind", ["snapshot", "log", "sqlite"])
def test_spellings_of_one_storage_are_one_manager(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "chats"
    (tmp_path / "link").symlink_to("chats")
    (tmp_path / "here").symlink_to(".")
    spelled = [f"{kind}:chats", str(path), path, Path("chats"), "./chats", "link", f"{kind}:here/link", "~/chats"]
    managers = [SessionManager.shared(one) for one in spelled]
    managers[0].add_message(KEY, "user", "hi")
    assert [texts(m) for m in managers] == [["hi"]] * len(spelled)
    for m in managers:
        m.close()
    assert stored(str(path)) == ["hi"]


def test_other_storages_are_other_managers(tmp_path):
    with SessionManager.shared(f"log:{tmp_path / 'a'}") as one, SessionManager.shared(f"log:{tmp_path / 'b'}") as other:
        one.add_message(KEY, "user", "hi")
        assert texts(other) == []


def test_ram_is_shared_until_its_last_user_goes():
    with SessionManager.shared("memory:") as one, SessionManager.shared("memory:") as other:
        one.add_message(KEY, "user", "hi")
        assert texts(other) == ["hi"]
        assert SessionManager().get(KEY) is None
    with SessionManager.shared("memory:") as m:
        assert len(m) == 0


def test_closing_one_user_twice_does_not_close_for_another(url):
    one, other = SessionManager.shared(url), SessionManager.shared(url)
    one.close()
    one.close()
    one.close(save=False)
    other.add_message(KEY, "user", "hi")
    other.save(KEY)
    other.close()
    assert stored(url) == ["hi"]


def test_a_closed_user_refuses_every_call(url):
    with SessionManager.shared(url) as other:
        one = SessionManager.shared(url)
        turn = one.turn(KEY)
        one.close()
        calls = [
            lambda: one.get(KEY),
            lambda: one.get_history(KEY, limit=1),
            lambda: one.add_message(KEY, "user", "late"),
            lambda: one.save(KEY),
            one.save_all,
            one.health,
            one.list_sessions,
            lambda: one.search("x"),
            lambda: one.delete(KEY),
            lambda: one.expire(timedelta(1)),
            lambda: one.undo(KEY),
            lambda: one.reload(KEY),
            lambda: one.compact(KEY),
            one.verify,
            lambda: one.rename(KEY, "k"),
            lambda: one.fork(KEY, "k"),
            lambda: len(one),
            one.__enter__,
        ]
        for call in calls:
            with pytest.raises(ClosedError):
                call()
        with turn:
            turn.add_message("user", "a turn goes on while another user is there")
        assert len(texts(other)) == 1


def test_other_options_raise_and_name_the_option(url):
    """Options that are left out are those of the first user."""
    with SessionManager.shared(url, archive=True, roles=["narrator", "dm"], slow_save=2) as first:
        assert SessionManager.shared(url, archive=True, roles={"dm", "narrator"}, slow_save=2.0).close() is None
        for options, told in (
            ({"archive": False}, "archive must be True, as the first user"),
            ({"read_only": True}, "read_only must be False"),
            ({"max_message_bytes": 5}, "max_message_bytes must be 16777216"),
            ({"roles": ["narrator"]}, "roles must be"),
        ):
            with pytest.raises(ValueError, match=told):
                SessionManager.shared(url, **options)
        first.add_message(KEY, "narrator", "hi")
        with SessionManager.shared(url) as joined:
            assert texts(joined) == ["hi"]
    with SessionManager.shared(url, archive=False) as m:
        assert texts(m) == ["hi"]


def test_another_kind_of_store_raises_and_names_the_right_one(tmp_path):
    with (
        SessionManager.shared(f"log:{tmp_path}/chats"),
        pytest.raises(InvalidStorageError, match=f"is open in this process as log:{tmp_path}/chats"),
    ):
        SessionManager.shared(f"snapshot:{tmp_path}/chats")


def test_what_is_no_url_or_path_is_refused(tmp_path):
    with pytest.raises(TypeError, match="storage must be a str or a path, not MemoryStore"):
        SessionManager.shared(MemoryStore())
    with pytest.raises(TypeError, match="storage must be a str or a path, not NoneType"):
        SessionManager.shared(None)
    with pytest.raises(InvalidStorageError):
        SessionManager.shared("")
    with pytest.raises(TypeError, match=r"^SessionManager.shared\(\) got an unexpected keyword argument 'archiv'$"):
        SessionManager.shared(str(tmp_path / "chats"), archiv=True)
    assert not (tmp_path / "chats").exists()


def test_an_opening_that_fails_leaves_no_count(tmp_path):
    path = tmp_path / "chats"
    with SessionManager(f"log:{path}"):
        for _ in range(2):
            with pytest.raises(StorageLockedError):
                SessionManager.shared(path)
    with pytest.raises(ValueError, match="max_message_bytes"):
        SessionManager.shared(path, max_message_bytes=0)
    one = SessionManager.shared(path, max_message_bytes=1000)
    one.close()
    SessionManager(path).close()  # it was released: nothing was counted but that one user


def test_a_close_that_cannot_save_leaves_the_user_open(tmp_path, monkeypatch):
    one, other = SessionManager.shared(f"log:{tmp_path / 'chats'}"), SessionManager.shared(tmp_path / "chats")
    one.add_message(KEY, "user", "hi")
    with monkeypatch.context() as patch:
        patch.setattr(LogStore, "write_many", lambda _, commits: [SaveFailedError(KEY, "full")] * len(commits))
        for user in (one, other):
            with pytest.raises(SaveFailedError):
                user.close()
            assert texts(user) == ["hi"]
        one.close(save=False)
        with pytest.raises(SaveFailedError):
            other.close()
        assert texts(other) == ["hi"]
    other.close()
    assert stored(str(tmp_path / "chats")) == ["hi"]


def test_users_that_are_collected_count_no_more(url):
    """Users of frameworks close nothing. What they left unsaved is saved, and said."""
    other = SessionManager.shared(url)
    SessionManager.shared(url).add_message(KEY, "user", "hi")
    gc.collect()
    assert texts(other) == ["hi"]
    with pytest.warns(ResourceWarning, match="1 unsaved sessions"):
        del other
        gc.collect()
    with SessionManager.shared(url, archive=True) as m:  # the options of nobody count
        assert texts(m) == ["hi"]


def test_a_user_that_comes_while_the_last_one_is_collected_waits(tmp_path, monkeypatch):
    """The storage of a manager that is being collected is still locked, while another thread saves what was unsaved."""
    path = tmp_path / "chats"
    last = SessionManager.shared(f"log:{path}")
    last.add_message(KEY, "user", "hi")
    write, go = type(last._residents.store).write_many, threading.Event()

    def slow(store, commits):
        assert go.wait(30)
        return write(store, commits)

    monkeypatch.setattr(type(last._residents.store), "write_many", slow)
    monkeypatch.setattr("session_manager.manager.manager._PATIENCE", 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del last
        gc.collect()
    found, end = [], Ending.end

    def told(self):
        if threading.current_thread() is waiting:
            go.set()
        end(self)

    monkeypatch.setattr(Ending, "end", told)
    waiting = threading.Thread(target=lambda: found.append(SessionManager.shared(path)))
    waiting.start()
    waiting.join(30)
    with found[0] as m:
        assert texts(m) == ["hi"]


def test_threads_that_open_and_close_at_once_share_one_manager(tmp_path, size):
    """A log has one manager at a time: a second one would be refused."""
    path, errors = tmp_path / "chats", []
    threads, rounds = 8, size.of(10, 100, 10_000)
    start = threading.Barrier(threads)

    def work(number):
        start.wait(30)
        for count in range(rounds):
            with SessionManager.shared(f"log:{path}") as m:
                m.add_message(f"k{number}", "user", str(count))

    def guarded(number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    workers = [threading.Thread(target=guarded, args=(number,)) for number in range(threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(60)
    assert errors == []
    with SessionManager(path) as m:
        assert [len(m.get_history(f"k{number}")) for number in range(threads)] == [rounds] * threads


def test_after_fork_the_child_has_its_own(tmp_path):
    url = f"sqlite:{tmp_path / 'chats.db'}"
    parents = SessionManager.shared(url, archive=True)
    parents.add_message(KEY, "user", "parent")
    parents.save(KEY)
    child = os.fork()
    if not child:
        status = 1
        try:
            with pytest.raises(ForkedError):
                parents.get(KEY)
            with pytest.raises(ForkedError):
                parents.close()
            with SessionManager.shared(url, archive=False) as own:
                own.add_message(KEY, "user", "child")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert texts(parents) == ["parent", "child"]
    parents.close()


def test_a_fork_in_the_middle_of_an_opening_does_not_hang_the_child(tmp_path, monkeypatch):
    """Another thread, which the child does not have, holds the locks."""
    url = f"sqlite:{tmp_path / 'chats.db'}"
    inside, go = threading.Event(), threading.Event()
    real = SessionManager.__init__

    def slow(self, *args, **options):
        inside.set()
        assert go.wait(30)
        real(self, *args, **options)

    monkeypatch.setattr(SessionManager, "__init__", slow)
    opener = threading.Thread(target=lambda: SessionManager.shared(url).close())
    opener.start()
    assert inside.wait(30)
    child = os.fork()
    if not child:
        go.set()
        SessionManager.shared(url).close()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    go.set()
    opener.join(30)
    assert code == 0


def test_a_program_that_closes_no_user_loses_nothing(tmp_path):
    program = (
        "from session_manager import SessionManager\n"
        f"users = [SessionManager.shared({str(tmp_path / 'chats')!r}) for _ in range(3)]\n"
        f"users[1].add_message({KEY!r}, 'user', 'hi')\n"
    )
    process = start(program)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert stored(str(tmp_path / "chats")) == ["hi"]


def test_a_crash_ends_a_shared_manager_for_all(url):
    one, other = SessionManager.shared(url), SessionManager.shared(url)
    one.add_message(KEY, "user", "not saved")
    crash(one)
    with pytest.raises(ClosedError):
        other.get(KEY)
    with SessionManager.shared(url) as m:
        assert texts(m) == []
    other.close()


def test_a_subclass_shares_with_its_own_kind_only(tmp_path):
    class Mine(SessionManager):
        pass

    with Mine.shared(tmp_path / "chats") as mine:
        assert type(mine) is Mine
        with pytest.raises(TypeError, match="is shared by a Mine"):
            SessionManager.shared(tmp_path / "chats")


def test_the_options_are_those_of_the_constructor():
    assert keyword_defaults(SessionManager.shared) == keyword_defaults(SessionManager)
    assert ManagerOptions.__optional_keys__ == keyword_defaults(SessionManager).keys()


def test_a_storage_that_cannot_be_read_raises_as_ever(tmp_path):
    with pytest.raises(StorageError):
        SessionManager.shared(tmp_path / "nothing", read_only=True)
