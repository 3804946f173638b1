"""The async manager has the calls of the sync one, and they mean the same: by signature, state machine and contract."""

from __future__ import annotations

import inspect

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings

from session_manager import AsyncSessionManager, AsyncTurn, SessionManager, Turn
from session_manager.manager.turn import TurnOptions
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import StoreContract
from tests.support.aio_facade import RENAMED, Facade, ThreadedStore
from tests.support.machines import LogMachine, MemoryMachine, SQLiteMachine

#: What an async class has for a special method of a sync one, and what is the same in both.
SPECIAL = {**RENAMED, "__enter__": "__aenter__", "__exit__": "__aexit__"}
SAME = {"__init__", "__repr__", "__del__"}

# Signatures


def calls(cls):
    """Return the calls that users of a class make, by name."""
    return {
        name: value
        for name, value in vars(cls).items()
        if callable(value) and (not name.startswith("_") or name in SPECIAL or name in SAME or name in SPECIAL.values())
    }


def parameters(function):
    """Return the names, kinds and defaults of a function's parameters, but for the one that only threads need."""
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in found if one.name != "threads"]


def differences(sync, asynchronous):
    """Return the calls that one class has and the other has not, or has with other parameters."""
    expected = {SPECIAL.get(name, name): value for name, value in calls(sync).items()}
    found = calls(asynchronous)
    wrong = sorted(expected.keys() ^ found.keys())
    for name in expected.keys() & found.keys():
        if parameters(expected[name]) != parameters(found[name]):
            wrong.append(name)
    return wrong


def test_every_call_has_an_async_twin_with_the_same_parameters():
    assert differences(SessionManager, AsyncSessionManager) == []
    assert {"get", "turn", "search", "close", "__aenter__", "__aiter__", "contains"} <= calls(
        AsyncSessionManager
    ).keys()


def test_a_turn_has_its_async_twin_with_the_same_parameters():
    ignored = {"__init__"}
    assert set(differences(Turn, AsyncTurn)) <= ignored
    needs = [one.name for one in inspect.signature(Turn).parameters.values() if one.kind is one.KEYWORD_ONLY]
    attributes = {name for name in vars(Turn(TurnOptions("k"), **dict.fromkeys(needs))) if not name.startswith("_")}
    properties = {name for cls in (Turn, AsyncTurn) for name, value in vars(cls).items() if isinstance(value, property)}
    assert attributes <= properties | vars(AsyncTurn("k", None, None, None)).keys()


@pytest.mark.parametrize("gone", ["get_history", "search", "__aexit__", "contains"])
def test_a_call_that_is_missing_is_noticed(gone):
    twin = type("Twin", (), {name: value for name, value in vars(AsyncSessionManager).items() if name != gone})
    assert differences(SessionManager, twin) == [gone]


def test_a_parameter_that_is_missing_is_noticed():
    async def truncate_history(self, key, keep_last):
        pass

    twin = type("Twin", (), {**vars(AsyncSessionManager), "truncate_history": truncate_history})
    assert differences(SessionManager, twin) == ["truncate_history"]


def test_what_is_awaited_is_a_coroutine_and_what_is_iterated_over_is_not():
    given = {name for name, value in calls(AsyncSessionManager).items() if not inspect.iscoroutinefunction(value)}
    assert given == {"__init__", "__repr__", "__del__", "__aiter__", "turn", "get_archive", "list_sessions"}


# The machine


def through(machine, backend):
    """Return a machine that drives an async manager."""

    class Machine(machine):
        def open(self):
            return Facade(super().open(), backend)

    return Machine.TestCase


some = settings(max_examples=max(settings().max_examples // 8, 1), stateful_step_count=30)

TestMemory = through(MemoryMachine, "trio")
TestMemory.settings = some
TestLog = through(LogMachine, "asyncio")
TestLog.settings = some
TestSQLite = through(SQLiteMachine, "asyncio")
TestSQLite.settings = some

# The contract


@pytest.fixture(scope="module")
def portal():
    with start_blocking_portal("asyncio") as portal:
        yield portal


@pytest.mark.long
class TestThreadedSQLiteStore(StoreContract):
    """In the ordinary run, `SQLiteStore` keeps the contract in the caller's thread, and every call is made in two threads."""

    @pytest.fixture
    def open_store(self, portal, tmp_path):
        return lambda: ThreadedStore(SQLiteStore(tmp_path / "chats.db"), portal)
