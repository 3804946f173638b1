"""What owns a lock, a file or a thread refuses to be copied or pickled, and goes on as it was."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import pickle
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from session_manager import AsyncSessionManager, Autosave, Finding, SessionInfo, SessionManager, SummaryPolicy, Version
from session_manager.manager.autosave import Autosaver
from session_manager.model.view import View
from session_manager.resource import Resource
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import Clock, FaultyStore
from tests.support.faulty_files import open_descriptors
from tests.support.processes import run_python

KEY = "telegram:42"
STORES = {"memory": None, "snapshot": SnapshotStore, "log": LogStore, "sqlite": SQLiteStore}
COPIES = [
    copy.copy,
    copy.deepcopy,
    *(lambda one, n=n: pickle.dumps(one, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)),
]
OWNED = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Event,
    threading.Thread,
    ThreadPoolExecutor,
    sqlite3.Connection,
)


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    kind = STORES[request.param]
    one = MemoryStore() if kind is None else kind(tmp_path / "chats")
    yield one
    one.close()


def attributes(value):
    slots = [slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())]
    names = {*getattr(value, "__dict__", {}), *(slot for slot in slots if slot != "__weakref__")}
    return [getattr(value, name) for name in names if hasattr(value, name)]


def is_ours(value):
    return type(value).__module__.startswith("session_manager") and not isinstance(value, type)


def reachable(roots):
    """Return the library's objects that some others hold, also in containers and by bound methods."""
    found, left = {}, list(roots)
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple | set):
            left += one
        elif getattr(one, "__self__", None) is not None and callable(one):
            left.append(one.__self__)
        elif is_ours(one) and id(one) not in found:
            found[id(one)] = one
            left += attributes(one)
    return list(found.values())


def refuses(value):
    for copied in COPIES:
        with pytest.raises(TypeError, match=f"^{type(value).__name__} cannot be copied or pickled: it owns"):
            copied(value)


def is_refused_elsewhere(path):
    """Say whether another process may not open a directory."""
    code = "import sys; from session_manager import *\ntry: SessionManager(sys.argv[1])\nexcept StorageLockedError: print('locked')"
    return run_python("-c", code, path).stdout == "locked\n"


def test_everything_that_owns_something_refuses_and_goes_on(store):
    """A copy that failed half-way was collected, and closed the descriptor of the lock, which was another file's by then."""
    m = SessionManager(FaultyStore(store), autosave=Autosave(), max_resident_bytes=10**6, archive=True)
    m.add_message(KEY, "user", "hi")
    m.save(KEY)
    with m.turn(KEY) as turn:
        owners = [one for one in reachable([m, turn, AsyncSessionManager.wrap(m)]) if isinstance(one, Resource)]
        assert {type(store), FaultyStore, SessionManager, AsyncSessionManager, Autosaver} <= set(map(type, owners))
        for one in owners:
            refuses(one)
        gc.collect()
        turn.add_message("user", "still open")
    assert turn.applied
    if isinstance(store, SnapshotStore | LogStore):
        assert is_refused_elsewhere(store.path)
    m.close()


def test_what_holds_a_lock_a_thread_or_a_connection_is_a_resource(store):
    """A new class that owns something is found here, and must inherit from `Resource`."""
    m = SessionManager(store, autosave=Autosave())
    m.add_message(KEY, "user", "hi")
    m.save(KEY)
    with m.turn(KEY) as turn:
        held = reachable([m, turn, AsyncSessionManager.wrap(m), Clock()])
        owners = [one for one in held if any(isinstance(value, OWNED) for value in attributes(one))]
        assert owners
        assert {type(one) for one in owners if not isinstance(one, Resource)} <= {View}
    m.close()


def test_a_copy_of_what_holds_a_manager_leaves_the_lock_alone(tmp_path):
    """`dataclasses.asdict` copies deeply: it dropped the directory's lock, and closed a file of somebody else's later."""

    @dataclasses.dataclass
    class Bot:
        name: str
        manager: SessionManager

    path, others = str(tmp_path / "chats"), open_descriptors()
    with SessionManager(path) as m:
        own = open_descriptors() - others
        for copied in (dataclasses.asdict, copy.deepcopy):
            with pytest.raises(TypeError, match="SessionManager cannot be copied"):
                copied(Bot("b", m))
        gc.collect()
        assert own <= open_descriptors()
        assert is_refused_elsewhere(path)
        m.add_message(KEY, "user", "hi")
        assert m.save(KEY)


async def use_a_turn(path):
    async with AsyncSessionManager(path) as m:
        refuses(m)
        async with m.turn(KEY) as turn:
            refuses(turn)
            turn.add_message("user", "hi")
        assert turn.applied
        return [message.content for message in await m.get_history(KEY)]


def test_an_async_manager_and_its_turn_refuse_as_well(tmp_path):
    assert asyncio.run(use_a_turn(tmp_path / "chats")) == ["hi"]


def test_values_are_copied_and_pickled(store):
    with SessionManager(store) as m:
        message = m.add_message(KEY, "user", "hi", metadata={"a": [1]})
        m.save(KEY)
        values = [
            message,
            m.get(KEY),
            *m.list_sessions(),
            *m.search("hi"),
            m.health(),
            Autosave(),
            SummaryPolicy(tokens=5),
        ]
        values += [Version("g", 1), Finding(KEY, "p", 0, "r")]
        for value in values:
            for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
                assert again == value
        assert any(isinstance(value, SessionInfo) for value in values)
