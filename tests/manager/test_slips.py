"""Slips in calls that used to do something large in silence: each is refused, and nothing has changed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_manager import AsyncSessionManager, SessionManager
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.clocks import Clock
from tests.support.managers import texts

DAY = timedelta(days=1)
KEY = "k"


def summarizer(previous, messages):
    raise AssertionError("nothing is summarized")


async def asynchronous(previous, messages):
    raise AssertionError("nothing is summarized")


#: The call, its arguments, and the error, which names the parameter.
SLIPS = [
    ("truncate_history", (KEY, -1), {}, ValueError, "keep_last"),
    ("truncate_history", (KEY, True), {}, TypeError, "keep_last"),
    ("truncate_history", (KEY, 1), {"whole_turns": "yes"}, TypeError, "whole_turns"),
    ("summarize", (KEY, summarizer), {"keep_last": -1}, ValueError, "keep_last"),
    ("summarize", (KEY, summarizer), {"keep_last": 0, "when": 5}, TypeError, "when"),
    ("update_metadata", (KEY, {}), {"removed": "model"}, TypeError, "removed"),
    ("expire", (DAY,), {"dry_run": None}, TypeError, "dry_run"),
    ("delete_prefix", ("",), {}, ValueError, "prefix"),
    ("delete_prefix", (1,), {}, TypeError, "prefix"),
    ("delete_prefix", (KEY,), {"dry_run": None}, TypeError, "dry_run"),
    ("close", (), {"save": None}, TypeError, "save"),
]
slips = pytest.mark.parametrize(
    ("call", "arguments", "named", "error", "parameter"), SLIPS, ids=[f"{slip[0]}-{slip[4]}" for slip in SLIPS]
)


def fill(m):
    for number in range(3):
        m.add_message(KEY, "user", f"{number}")
    m.update_metadata(KEY, {"m": 1, "o": 2, "model": "x"})


@slips
def test_a_slip_is_refused_and_changes_nothing(call, arguments, named, error, parameter):
    with SessionManager(MemoryStore(), clock=(clock := Clock())) as m:
        fill(m)
        clock.advance(days=2)
        before = m.get(KEY)
        with pytest.raises(error, match=parameter):
            getattr(m, call)(*arguments, **named)
        assert m.get(KEY) == before
        assert m.get(KEY).metadata == {"m": 1, "o": 2, "model": "x"}


@slips
@pytest.mark.anyio
async def test_a_slip_is_refused_by_the_async_manager(call, arguments, named, error, parameter):
    async with AsyncSessionManager(MemoryStore(), clock=Clock()) as m:
        await m.add_message(KEY, "user", "hi")
        with pytest.raises(error, match=parameter):
            await getattr(m, call)(*arguments, **named)
        assert [message.content for message in await m.get_history(KEY)] == ["hi"]


def test_an_async_summarizer_is_refused_by_the_sync_manager():
    """A coroutine that nobody awaited was the summary, and a warning all that told."""
    with SessionManager() as m:
        fill(m)
        with pytest.raises(TypeError, match="AsyncSessionManager"):
            m.summarize(KEY, asynchronous, keep_last=0)
        assert texts(m, KEY) == ["0", "1", "2"]


EMPTIED = {
    "cleared": lambda m: m.clear(KEY),
    "truncated": lambda m: m.truncate_history(KEY, 0),
    "summarized": lambda m: m.summarize(KEY, lambda previous, messages: "short", keep_last=0),
    "replaced": lambda m: m.set_history(KEY, []),
}


@pytest.mark.parametrize("emptied", EMPTIED)
@pytest.mark.parametrize("store_class", [MemoryStore, SnapshotStore, LogStore, SQLiteStore])
def test_a_chat_that_was_emptied_today_does_not_expire_by_its_creation(store_class, emptied, tmp_path):
    """A chat of 100 days, used and reset today, was deleted: without messages, its creation counted."""
    clock = Clock()

    def store():
        return store_class() if store_class is MemoryStore else store_class(tmp_path / "chats")

    with SessionManager(held := store(), clock=clock) as m:
        fill(m)
        m.save(KEY)
        clock.advance(days=100)
        m.add_message(KEY, "user", "today")
        EMPTIED[emptied](m)
        m.save(KEY)
        assert m.expire(timedelta(days=90), dry_run=True) == []
        assert m.expire(timedelta(days=90)) == []
        assert KEY in m
    if store_class is MemoryStore:
        return
    held.close()
    with SessionManager(store(), clock=clock) as m:
        assert m.expire(timedelta(days=90)) == []
        clock.advance(days=91)
        assert m.expire(timedelta(days=90)) == [KEY]
        m._residents.store.close()
