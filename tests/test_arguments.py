"""Arguments of constructors are checked before anything is opened; what injected functions return, when they are called."""

from __future__ import annotations

import inspect
import itertools
import os
import sqlite3
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from session_manager import (
    AsyncSessionManager,
    Autosave,
    InvalidMessageError,
    InvalidStorageError,
    SessionManager,
    SummaryPolicy,
    open_store,
)
from session_manager.history import fit
from session_manager.history.context import context
from session_manager.history.rules import ANTHROPIC
from session_manager.model import Message
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import Clock, FaultyStore
from tests.support.faulty_files import open_descriptors

KEY = "telegram:42"
AT = datetime(2026, 1, 1, tzinfo=timezone.utc)

NO_BOOL = {TypeError: [1, 0, "yes", None, []]}
NO_FUNCTION = {TypeError: [5, "clock", None, []]}
NO_PATH = {TypeError: [5, None, True, 1.5, ["chats"]], InvalidStorageError: [b"chats", "a\0b", "a\ud800"]}
NO_STORE_PATH = {TypeError: NO_PATH[TypeError], InvalidStorageError: [*NO_PATH[InvalidStorageError], ""]}


def no_int(least):
    return {TypeError: ["16MB", 1.0, True, Decimal(5), [5]], ValueError: [least - 1, -5]}


def no_seconds(error):
    return {TypeError: ["5", True, [5]], ValueError: [-1, float("nan"), float("inf"), error]}


async def _later(event):
    """No callback: nothing would await it."""


MANAGER = {
    "storage": {TypeError: [5, True, 1.5, ["chats"], object()], InvalidStorageError: NO_PATH[InvalidStorageError]},
    "clock": NO_FUNCTION,
    "random_id": NO_FUNCTION,
    "max_message_bytes": {**no_int(1), TypeError: [*no_int(1)[TypeError], None]},
    "max_resident_bytes": no_int(1),
    "autosave": {TypeError: [5, True, "5s", {}]},
    "read_only": NO_BOOL,
    "archive": NO_BOOL,
    "expire_every": {TypeError: [5, 5.0, True, "5s"], ValueError: [timedelta(0), timedelta(days=-1), timedelta.max]},
    "on_event": {TypeError: [5, "print", [], _later]},
    "slow_save": {TypeError: ["5", True, [5]], ValueError: [-1, float("nan"), float("inf")]},
    "lease": {TypeError: [5, 60.0, "60s", True, {}]},
    "rules": {TypeError: [5, "ANTHROPIC", None, {}, [ANTHROPIC]]},
    "roles": {TypeError: ["narrator", b"narrator", 5, None, [5], [None], {"narrator": 1}], ValueError: [[""]]},
}
#: For each constructor its other arguments, and for each of its parameters values that it must refuse, by error.
CONSTRUCTORS = {
    SessionManager: ({"storage": "chats"}, MANAGER),
    AsyncSessionManager: (
        {"storage": "chats"},
        {**MANAGER, "threads": {TypeError: ["8", True, 2.0, None], ValueError: [0, -1]}},
    ),
    open_store: ({"url": "chats"}, {"url": NO_STORE_PATH, "read_only": NO_BOOL}),
    SnapshotStore: (
        {"path": "chats"},
        {
            "path": NO_STORE_PATH,
            "read_only": NO_BOOL,
            "cache_bytes": no_int(0),
            "files": {TypeError: [*NO_FUNCTION[TypeError], lambda path: None]},
        },
    ),
    LogStore: (
        {"path": "chats"},
        {
            "path": NO_STORE_PATH,
            "read_only": NO_BOOL,
            "files": {TypeError: [*NO_FUNCTION[TypeError], lambda path: None]},
        },
    ),
    SQLiteStore: (
        {"path": "chats.db"},
        {
            "path": NO_STORE_PATH,
            "read_only": NO_BOOL,
            "exclusive": NO_BOOL,
            "busy_timeout": no_seconds(10**7),
            "connect": {TypeError: NO_FUNCTION[TypeError]},
        },
    ),
    MemoryStore: ({}, {}),
    FaultyStore: ({}, {"store": {TypeError: [None, 5, "memory:", MemoryStore]}}),
    Clock: ({}, {"start": {InvalidMessageError: [5, None, datetime(2026, 1, 1), "2026"]}}),  # noqa: DTZ001
    Autosave: (
        {},
        {"interval": no_seconds(10**10), "messages": no_int(1)},
    ),
    SummaryPolicy: (
        {"messages": 5},
        {"messages": no_int(1), "tokens": no_int(1), "count": {TypeError: NO_FUNCTION[TypeError]}},
    ),
}
REFUSED = [
    pytest.param(constructor, given, name, value, error, id=f"{constructor.__name__}-{name}-{number}-{error.__name__}")
    for constructor, (given, table) in CONSTRUCTORS.items()
    for name, errors in table.items()
    for error, values in errors.items()
    for number, value in enumerate(values)
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("constructor", CONSTRUCTORS, ids=lambda one: one.__name__)
def test_the_table_has_a_row_for_each_parameter(constructor):
    """A parameter that is new fails here until it is in the table."""
    assert set(CONSTRUCTORS[constructor][1]) == set(inspect.signature(constructor).parameters)


@pytest.mark.parametrize(("constructor", "given", "name", "value", "error"), REFUSED)
def test_a_wrong_argument_is_refused_before_anything_is_opened(constructor, given, name, value, error):
    """`max_message_bytes="16MB"` and `clock=5` were taken, and failed at the first message."""
    descriptors = open_descriptors()
    with pytest.raises(error) as raised:
        constructor(**{**given, name: value})
    assert type(raised.value) in (error, InvalidStorageError, InvalidMessageError)
    assert os.listdir() == [] or (name == "files" and os.listdir() == ["chats"])
    assert open_descriptors() <= descriptors
    if error in (TypeError, ValueError) and not (constructor is open_store and name == "url"):
        assert name in str(raised.value)


@pytest.mark.parametrize("constructor", [SessionManager, AsyncSessionManager])
def test_what_excludes_each_other_is_refused_before_anything_is_opened(constructor):
    for options in ({"read_only": True, "autosave": Autosave()}, {"storage": "memory:", "max_resident_bytes": 5}):
        with pytest.raises(ValueError, match=r"autosave|max_resident_bytes"):
            constructor(**{"storage": "chats", **options})
    assert os.listdir() == []


def test_only_a_manager_is_wrapped():
    with pytest.raises(TypeError, match="manager must be a SessionManager"):
        AsyncSessionManager.wrap(MemoryStore())


def test_a_connection_is_one_of_sqlite3():
    with pytest.raises(TypeError, match=r"connect\(\) must return a sqlite3.Connection, not NoneType"):
        SQLiteStore("chats.db", connect=lambda *arguments, **options: None)
    SQLiteStore("chats.db", connect=sqlite3.connect).close()


# What injected functions return

KINDS = ["memory:", "snapshot:chats", "log:chats", "sqlite:chats.db"]
#: The stores that look at the ids of writes.
NAMES_WRITES = ["sqlite:chats.db"]
FITTING = ["a", "0", "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "x" * 128, str(uuid.UUID(int=5))]
UNFITTING = [
    None,
    5,
    b"id",
    uuid.UUID(int=5),
    1.5,
    "",
    " ",
    "a b",
    "é",
    "\n",
    "\0",
    'a"b',
    "a\\b",
    "x" * 129,
    "\ud800",
    "id\n",
]


class Ids:
    """Gives ids until it is told to give something else."""

    def __init__(self):
        self.numbers = itertools.count()
        self.wrong = []

    def __call__(self):
        return self.wrong[0] if self.wrong else f"id-{next(self.numbers)}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", UNFITTING, ids=ascii)
def test_an_id_that_does_not_fit_is_refused_and_nothing_changes(kind, wrong):
    """Of `itertools.count(1).__next__` a save was `True`, and the file could never be read again."""
    ids = Ids()
    m = SessionManager(kind, random_id=ids)
    m.add_message(KEY, "user", "hi")
    m.save(KEY)
    m.add_message(KEY, "user", "unsaved")
    ids.wrong = [wrong]
    calls = [m.clear, lambda key: m.fork(key, "other"), lambda key: m.add_message("new", "user", "hi")]
    for call in [*calls, *([m.save, lambda key: m.save_all()] if kind in NAMES_WRITES else [])]:
        with pytest.raises(InvalidMessageError, match=r"^random_id\(\): must be"):
            call(KEY)
    ids.wrong = []
    assert list(m) == [KEY]
    assert m.clear(KEY) == 2
    m.close()
    if kind != "memory:":
        with SessionManager(kind) as again:
            assert again.get_history(KEY) == []
            assert again.verify() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_has_an_id_only_where_the_store_looks_at_it(kind):
    """Of each save of a file, an id was made, digested, and never looked at."""
    ids = Ids()
    with SessionManager(kind, random_id=ids) as m:
        m.add_message(KEY, "user", "hi")
        before = next(ids.numbers)
        m.save(KEY)
        m.add_message(KEY, "user", "again")
        m.save_all()
    assert next(ids.numbers) == before + 1 + (2 if kind in NAMES_WRITES else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_id_twice_in_a_row_is_refused(kind):
    with SessionManager(kind, random_id=lambda: "id") as m:
        m.add_message(KEY, "user", "hi")
        with pytest.raises(InvalidMessageError, match="twice"):
            m.clear(KEY)
        assert len(m.get_history(KEY)) == 1
        m.close(save=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", FITTING, ids=lambda text: text[:8])
def test_ids_that_fit_are_kept_by_every_store(kind, prefix):
    numbers = itertools.count(10)
    ids = (prefix if number == 10 else f"{prefix[:100]}{number}" for number in numbers)
    with SessionManager(kind, random_id=ids.__next__) as m:
        m.add_message(KEY, "user", "hi")
        m.save(KEY)
        assert m.get(KEY).generation == prefix
        m.clear(KEY)
        m.add_message(KEY, "user", "again")
        m.save(KEY)
        generation = m.get(KEY).generation
    if kind != "memory:":
        with SessionManager(kind) as again:
            assert again.get(KEY).generation == generation
            assert again.verify() == []


@pytest.mark.parametrize("wrong", [None, 5, 1.5, "2026-01-01", datetime(2026, 1, 1), AT.date()], ids=ascii)  # noqa: DTZ001
@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_goes_wrong_is_refused_and_nothing_changes(kind, wrong):
    times = [AT]
    m = SessionManager(kind, clock=lambda: times[-1])
    m.add_message(KEY, "user", "hi")
    m.save(KEY)
    times.append(wrong)
    before = m.get(KEY)
    turn = m.turn(KEY)
    calls = [
        lambda: m.add_message(KEY, "user", "late"),
        lambda: m.add("new", {"role": "user"}),
        lambda: m.clear(KEY),
        lambda: m.get_or_create("new"),
        lambda: m.set_summary(KEY, "s"),
        lambda: m.truncate_history(KEY, 0),
        lambda: m.fork(KEY, "new"),
        lambda: turn.__enter__().add_message("user", "late"),
    ]
    for call in calls:
        with pytest.raises(InvalidMessageError, match=r"clock\(\)"):
            call()
    turn.__exit__(ValueError, None, None)
    assert m.get(KEY) == before
    assert list(m) == [KEY]
    m.close(save=False)


@pytest.mark.parametrize("wrong", [None, "5", 1.5, True, -1, Decimal(1)], ids=ascii)
def test_a_counter_that_does_not_count_is_refused(wrong):
    """Two texts were joined, and a negative number made a history fit any budget."""
    with SessionManager() as m:
        m.add_message(KEY, "user", "a")
        m.add_message(KEY, "user", "b")
        policy = SummaryPolicy(tokens=5, count=lambda message: wrong)
        calls = [
            lambda: m.get_context(KEY, max_tokens=5, count=lambda message: wrong),
            lambda: fit([Message("user", "a")], 5, lambda message: wrong),
            lambda: m.summarize(KEY, pytest.fail, keep_last=1, when=policy),
        ]
        for call in calls:
            with pytest.raises(InvalidMessageError, match=r"count\(\): must be"):
                call()


def test_a_counter_and_a_role_are_checked_also_where_they_are_not_needed():
    with pytest.raises(TypeError, match="count must be callable"):
        fit([], 5, None)
    with pytest.raises(TypeError, match="count must be callable"):
        context(None, count=5)
    for role in ("", 5):
        with pytest.raises(InvalidMessageError, match="summary_role"):
            context(None, summary_role=role)


@pytest.mark.parametrize("wrong", [None, "", 5, b"s", "\ud83d\ude00"], ids=ascii)
def test_a_summarizer_that_gives_no_text_changes_nothing(wrong):
    with SessionManager() as m:
        for text in "abcd":
            m.add_message(KEY, "user", text)
        done = m.summarize(KEY, lambda previous, messages: wrong, keep_last=1)
        assert (done.applied, done.summary) == (False, "")
        assert "the summarizer returned no summary" in done.reason
        assert len(m.get_history(KEY)) == 4
