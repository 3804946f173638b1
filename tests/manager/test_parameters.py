"""Every parameter of both managers refuses values of a wrong type or sign, before anything has changed.

A value that is taken for another one can do something big: a string of keys to remove removes each of its letters, and a `None`
where `True` or `False` belongs deletes.
"""

from __future__ import annotations

import inspect
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import anyio
import pytest

from session_manager import AsyncSessionManager, SessionManager
from session_manager.aio.turn import AsyncTurn
from session_manager.manager.turn import Turn
from session_manager.stores.memory import MemoryStore

KEY = "telegram:1"
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001


async def summarize_later(previous, messages):
    return "summary"


#: An argument for each parameter without a default.
VALID = {
    "key": KEY,
    "new_key": "telegram:2",
    "role": "user",
    "messages": ({"role": "user", "content": "x"},),
    "message": {"role": "user", "content": "x"},
    "text": "x",
    "where": 0,
    "ref": "r",
    "items": {"a": 1},
    "older_than": timedelta(days=1000),
    "summarizer": lambda previous, messages: "summary",
    "keep_last": 1,
    "prefix": "nothing-has-it",
    "manager": None,
    "writes": (),
    "after": timedelta(days=1),
}

NO_BOOL = [None, 1, 0, "yes", "", []]
NO_KEY = [None, 5, True, b"k", "", "a\ud83d\ude00", "x" * 2000, ["k"], object()]
NO_COUNT = ["1", 1.0, True, Decimal(1), [1], -1, -(10**30)]
NO_TEXT = [5, True, b"x", ["x"], object(), "\ud83d\ude00"]
NO_OBJECT = [5, "ab", b"ab", [("a", 1)], {"a": object()}, {1: 2}, {"a": float("nan")}]
NO_MESSAGES = [None, 5, "text", b"text", [5], ["text"], [{}], {"role": "user", "content": "x"}]
NO_PREFIX = [None, 5, True, b"x", ["a"]]
#: What each parameter must refuse, by its name.
REFUSED = {
    "key": NO_KEY,
    "new_key": NO_KEY,
    "messages": [None, 5, "text", b"text", [], {}, {"content": "no role"}],
    "message": [None, 5, "text", b"text", [], {}, {"content": "no role"}],
    "role": [None, "", "hello there", *NO_TEXT],
    "content": [object(), b"x", {1, 2}, float("nan"), {"a": float("inf")}],
    "name": NO_TEXT,
    "tool_calls": [5, "x", {}, True, [object()]],
    "tool_call_id": NO_TEXT,
    "extra": [*NO_OBJECT, {"role": "x"}],
    "created_at": [5, "2026-01-01", NAIVE, date(2026, 1, 1), True],
    "metadata": NO_OBJECT,
    "ref": ["", *NO_TEXT],
    "system": [5, b"x", ["x"], object(), {}, {"content": "no role"}],
    "max_messages": NO_COUNT,
    "max_tokens": NO_COUNT,
    "count": [5, "x", None],
    "rules": ["anthropic", 7, []],
    "summary_role": ["", "hello there", *NO_TEXT],
    "limit": NO_COUNT,
    "before": [1.0, True, [1]],
    "after": [1.0, True, [1]],
    "where": [None, 1.0, True, b"r", [0], object()],
    "order": [None, 5, "newest", "", True, ["key"]],
    "turns": [None, 0, *NO_COUNT],
    "expected": [5, "v", True, ("g", 1), {"generation": "g", "revision": 1}],
    "keep": NO_BOOL,
    "replacing": [5, True, "", b"r", ["r"], object()],
    "older_than": [5, "90", True, timedelta(days=-1), NAIVE, date(2026, 1, 1)],
    "prefix": NO_PREFIX,
    "dry_run": NO_BOOL,
    "whole_turns": NO_BOOL,
    "save": NO_BOOL,
    "keep_last": [None, *NO_COUNT],
    "when": [5, True, "always", {}, lambda session: True],
    "summarizer": [None, 5, "x"],
    "text": [None, *NO_TEXT],
    "items": [None, *NO_OBJECT],
    "removed": ["model", "", b"model", 5, None, True, [5], [None], [b"a"]],
    "threads": [*NO_COUNT, None, 0],
    "timeout": ["5", True, float("nan"), [5], timedelta(seconds=5)],
    "max_waiting": NO_COUNT,
    "manager": [None, 5, "memory:"],
    "if_absent": NO_BOOL,
    "writes": [None, 5, "x", {}, [5], [("a", ())], [None], [{"key": "a"}]],
}
#: Where a parameter of this name is another one.
ELSEWHERE = {
    ("search", "key"): [one for one in NO_KEY if one is not None],
    ("verify", "key"): [one for one in NO_KEY if one is not None],
    ("expire", "key"): [one for one in NO_KEY if one is not None],
    ("expire", "where"): [5, True, "a", b"a", [("a", 1)], {"a": object()}],
    ("set_expiry", "after"): [
        5,
        True,
        "P1D",
        timedelta(),
        timedelta(days=-1),
        datetime(2026, 1, 1, tzinfo=timezone.utc),
    ],
    ("search", "limit"): [0, *NO_COUNT],
    ("list_sessions", "where"): [5, True, "a", b"a", [("a", 1)], {"a": object()}],
    ("list_sessions", "after"): [5, True, b"k", ["k"], object()],
    ("replace_history", "messages"): NO_MESSAGES,
    ("set_metadata", "items"): [None, *NO_OBJECT],
    ("search", "text"): ["", None, *NO_TEXT],
    ("set_history", "messages"): NO_MESSAGES,
    ("turn", "ref"): ["", *NO_TEXT],
}


def calls(kind):
    """The calls of a manager or turn; `shared` opens a storage, with the options of the constructor."""
    return [name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_") and name != "shared"]


def parameters(kind, name):
    return [one for one in inspect.signature(getattr(kind, name)).parameters.values() if one.name != "self"]


def arguments(kind, name, wrong, value):
    """Return what to call it with: what it needs, and one wrong value."""
    given, options = [], {}
    for one in parameters(kind, name):
        if one.kind is one.VAR_POSITIONAL:
            given += [value] if one.name == wrong else VALID["messages"]
        elif one.kind is one.KEYWORD_ONLY:
            if one.name == wrong or one.default is one.empty:
                options[one.name] = value if one.name == wrong else VALID[one.name]
        elif one.name == wrong:
            given.append(value)
        elif one.default is one.empty:
            given.append(VALID[one.name])
        elif one.kind is one.POSITIONAL_OR_KEYWORD:
            given.append(one.default)
    return given, options


KINDS = (SessionManager, AsyncSessionManager, Turn, AsyncTurn)
ROWS = [
    pytest.param(kind, name, one.name, id=f"{kind.__name__}.{name}-{one.name}")
    for kind in KINDS
    for name in calls(kind)
    for one in parameters(kind, name)
]
#: Other words by which an error names a parameter, or the place in it.
NAMED = {
    "key": ("session key",),
    "new_key": ("session key",),
    "messages": ("message", "role"),
    "message": ("role",),
    "extra": ("JSON",),
    "items": ("metadata",),
    "text": ("summary",),
    "system": ("role",),
    "where": ("position",),
}


def test_every_parameter_has_a_row():
    """A parameter that is new fails here until it is in the table."""
    assert {one.name for kind in KINDS for name in calls(kind) for one in parameters(kind, name)} == set(REFUSED)


def filled(manager):
    for key in (KEY, "telegram:10", "m", "o"):
        manager.add_message(key, "user", "a", ref="tg:1", metadata={"m": 1})
        manager.add_message(key, "assistant", "b")
        manager.add_message(key, "user", "c")
        manager.set_summary(key, "summary")
        manager.update_metadata(key, {"model": "x", "m": 1, "o": 2})
    manager.save_all()
    manager.add_message("telegram:10", "assistant", "unsaved")


def state(manager):
    return {key: (manager.get(key), list(manager.get_archive(key))) for key in manager}, manager.health().dirty


@pytest.fixture(scope="module")
def manager():
    """One for all: no call may change it."""
    m = SessionManager(MemoryStore(), archive=True)
    filled(m)
    yield m
    m.close(save=False)


async def awaited(made):
    """Do to its end what a call returns."""
    if hasattr(made, "__aenter__"):
        async with made:
            return
    if hasattr(made, "__await__"):
        await made


async def call(kind, manager, m, name, given, options):
    if kind is SessionManager:
        getattr(manager, name)(*given, **options)
    elif kind is AsyncSessionManager:
        await awaited(getattr(m, name)(*given, **options))
    elif kind is AsyncTurn:
        async with m.turn(KEY, keep=False) as turn:
            await awaited(getattr(turn, name)(*given, **options))
    else:
        with manager.turn(KEY, keep=False) as turn:
            getattr(turn, name)(*given, **options)


@pytest.mark.parametrize(("kind", "name", "wrong"), ROWS)
def test_a_wrong_value_is_refused_and_nothing_has_changed(kind, name, wrong, manager):
    before = state(manager)

    async def run():
        m = AsyncSessionManager.wrap(manager)
        for value in ELSEWHERE.get((name, wrong), REFUSED.get(wrong, ())):
            given, options = arguments(kind, name, wrong, value)
            with pytest.raises((TypeError, ValueError)) as raised:
                await call(kind, manager, m, name, given, options)
            assert any(word in str(raised.value) for word in (wrong, *NAMED.get(wrong, ()))), str(raised.value)
            assert state(manager) == before, f"{value!r} was taken"
        await m.close()

    anyio.run(run)


def test_an_async_summarizer_is_refused_where_nothing_awaits_it(manager):
    class Later:
        async def __call__(self, previous, messages):
            return "summary"

    for summarizer in (summarize_later, Later()):
        with pytest.raises(TypeError, match="AsyncSessionManager"):
            manager.summarize(KEY, summarizer, keep_last=1)
