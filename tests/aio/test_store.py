"""Every public call of the async manager, on stores that are slow: none of them touches the store in the loop's thread."""

from __future__ import annotations

import inspect
import threading
from datetime import timedelta

import pytest

from session_manager import AsyncSessionManager, Store, WouldWaitError, Write
from session_manager.aio import workers
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.threads import at_once

pytestmark = pytest.mark.anyio

MESSAGE = {"role": "user", "content": "hi"}

CALLS = {
    "get": lambda m, key: m.get(key),
    "get_or_create": lambda m, key: m.get_or_create(key),
    "get_history": lambda m, key: m.get_history(key),
    "get_message": lambda m, key: m.get_message(key, "tg:1"),
    "contains_ref": lambda m, key: m.contains_ref(key, "tg:1"),
    "get_context": lambda m, key: m.get_context(key),
    "get_archive": lambda m, key: m.get_archive(key),
    "get_summary": lambda m, key: m.get_summary(key),
    "contains": lambda m, key: m.contains(key),
    "count": lambda m, _: m.count(),
    "list_sessions": lambda m, key: m.list_sessions(key),
    "search": lambda m, key: m.search("hi", key=key),
    "add_message": lambda m, key: m.add_message(key, "user", "hi"),
    "add": lambda m, key: m.add(key, MESSAGE, MESSAGE),
    "turn": lambda m, key: take_turn(m, key),
    "set_summary": lambda m, key: m.set_summary(key, "hi"),
    "set_history": lambda m, key: m.set_history(key, [MESSAGE]),
    "truncate_history": lambda m, key: m.truncate_history(key, 1),
    "summarize": lambda m, key: m.summarize(key, lambda *_: "summary", keep_last=1),
    "undo": lambda m, key: m.undo(key, ref="undo:1"),
    "remove_last": lambda m, key: m.remove_last(key),
    "remove_message": lambda m, key: m.remove_message(key, 0),
    "update_last": lambda m, key: m.update_last(key, MESSAGE),
    "update_message": lambda m, key: m.update_message(key, 0, MESSAGE),
    "update_metadata": lambda m, key: m.update_metadata(key, {"a": 1}),
    "get_state": lambda m, key: m.get_state(key),
    "put_state": lambda m, key: m.put_state(key, {"a": b"1"}),
    "commit_together": lambda m, key: m.commit_together([Write(key, [MESSAGE]), Write("other", items={"a": 1})][:1]),
    "set_expiry": lambda m, key: m.set_expiry(key, timedelta(days=90)),
    "clear": lambda m, key: m.clear(key),
    "save": lambda m, key: m.save(key),
    "save_all": lambda m, _: m.save_all(),
    "reload": lambda m, key: m.reload(key),
    "delete": lambda m, key: m.delete(key),
    "delete_prefix": lambda m, key: m.delete_prefix(f"{key}-nothing"),
    "expire": lambda m, key: m.expire(timedelta(days=1), prefix=key),
    "fork": lambda m, key: m.fork(key, f"{key}-copy"),
    "rename": lambda m, key: m.rename(key, f"{key}-moved"),
    "compact": lambda m, key: m.compact(key),
    "verify": lambda m, key: m.verify(key),
    "health": lambda m, _: m.health(),
    "close": lambda m, _: m.close(),
}

#: What a store says of itself, from RAM.
IN_RAM = {"repairs", "has_archive", "__repr__"}


async def take_turn(m, key):
    async with m.turn(key, "tg:1") as turn:
        turn.add_message("user", "hi")
        await turn.get_context()
        await turn.set_metadata({"a": 1})
        await turn.edit(0, MESSAGE)


@pytest.fixture(params=["memory", "shared", "snapshot", "log", "sqlite"])
def store(request, tmp_path):
    stores = {
        "memory": MemoryStore,
        "shared": MemoryStore,
        "snapshot": lambda: SnapshotStore(tmp_path / "chats"),
        "log": lambda: LogStore(tmp_path / "chats"),
        "sqlite": lambda: SQLiteStore(tmp_path / "chats.db"),
    }
    store = stores[request.param]()
    store.shared = store.shared or request.param == "shared"
    yield store
    store.close()


@pytest.fixture
def called_in(store, monkeypatch):
    """Note which of the store's calls are made in which threads."""
    noted = set()

    def noting(name, call):
        def note(*args, **kwargs):
            noted.add((name, threading.get_ident()))
            return call(*args, **kwargs)

        return note

    for name, _ in inspect.getmembers(Store, inspect.isfunction):
        if not name.startswith("_") and name not in IN_RAM:
            monkeypatch.setattr(store, name, noting(name, getattr(store, name)))
    return noted


@pytest.fixture
def refused(monkeypatch):
    """Check that calls that are refused in the loop's thread have done nothing; they are made again."""
    managers, names = [], []

    def checking(function):
        before = [manager._wrapped._residents.entries() for manager in managers]
        try:
            return at_once(function)
        except WouldWaitError:
            after = [manager._wrapped._residents.entries() for manager in managers]
            for old, new in zip(before, after, strict=True):
                assert old.keys() == new.keys()
                assert all(old[key] is new[key] for key in old)
            names.append(function)
            raise

    monkeypatch.setattr(workers, "at_once", checking)
    return managers, names


def test_there_is_an_example_of_each_call():
    names = {name for name in vars(AsyncSessionManager) if not name.startswith("_")}
    assert names - {"wrap", "shared", "sync"} == CALLS.keys()


@pytest.mark.parametrize("is_dirty", [False, True])
async def test_no_call_touches_a_store_in_the_loops_thread(store, called_in, refused, is_dirty, anyio_backend):
    """And none changes anything in RAM before it finds that it has to wait.

    Of a session in RAM, of one that is not, of none at all.
    """
    for name, call in CALLS.items():
        async with AsyncSessionManager(store) as other:
            for key in (f"{name}-ram", f"{name}-cold"):
                await other.add(key, *[MESSAGE] * 5)
        m = AsyncSessionManager(store)
        await m.add_message(f"{name}-ram", "user", "hi")
        refused[0][:] = [m]
        if not is_dirty:
            await m.save_all()
        keys = [f"{name}-{kind}" for kind in ("ram", "cold", "none")]
        for key in keys if name != "close" else keys[:1]:
            try:
                await call(m, key)
            except KeyError:
                assert (name, key) in (("fork", "fork-none"), ("rename", "rename-none"))
        await m.close()
        refused[0].clear()
    assert len(called_in) > 5
    assert len(refused[1]) > 20
    assert not {one for one, thread in called_in if thread == threading.get_ident()}
