"""`AsyncSessionManager.shared` and `.sync`: async and sync users of one storage have one RAM, in however many loops."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from pathlib import Path

import anyio
import pytest

from session_manager import ClosedError, ForkedError, SessionManager
from session_manager.aio import AsyncSessionManager
from session_manager.keywords import keyword_defaults
from session_manager.stores.memory import MemoryStore
from tests.support.threads import alive

KEY = "telegram:42"
DEADLINE = 30


@pytest.fixture(params=["log:{}", "sqlite:{}.db"], ids=["log", "sqlite"])
def url(request, tmp_path):
    return request.param.format(tmp_path / "chats")


def texts(messages):
    return [message.content for message in messages]


def until_two_want_it(m):
    end = time.monotonic() + DEADLINE
    while len(m._turn_locks.claims._alive(KEY)) < 2:
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.anyio
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "alone"])
@pytest.mark.parametrize("scheme", ["log:", "sqlite:", ""])
async def test_a_relative_path_starts_where_the_manager_was_made(shared, scheme, tmp_path, monkeypatch):
    """The first call opens the storage. A program may have gone to another directory by then, such as a daemon."""
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "inside").mkdir(parents=True, mode=0o700)
    after.mkdir()
    monkeypatch.chdir(before)
    path = "inside/../chats" if scheme else Path("chats")
    make = AsyncSessionManager.shared if shared else AsyncSessionManager
    m = make(f"{scheme}{path}" if scheme else path)
    monkeypatch.chdir(after)
    await m.add_message(KEY, "user", "hi")
    await m.close()
    assert list(after.iterdir()) == []
    assert (before / "chats").exists()


@pytest.mark.anyio
async def test_async_and_sync_users_have_one_ram(url):
    async with AsyncSessionManager.shared(url) as one, AsyncSessionManager.shared(url) as other:
        with SessionManager.shared(url) as sync:
            await one.add_message(KEY, "user", "hi")
            assert texts(sync.get_history(KEY)) == texts(await other.get_history(KEY)) == ["hi"]
            assert texts(other.sync.get_history(KEY)) == ["hi"]
        await one.close()
        await one.close()
        with pytest.raises(ClosedError):
            await one.get(KEY)
        with pytest.raises(ClosedError):
            one.sync  # noqa: B018 - it raises
        async with other.turn(KEY) as turn:
            turn.add_message("assistant", "still here")
    with SessionManager(url) as alone:
        assert texts(alone.get_history(KEY)) == ["hi", "still here"]


@pytest.mark.anyio
async def test_many_users_share_their_threads(tmp_path):
    """A server has one for each of its users' sessions: a thread for each would be thousands."""
    path, before = f"sqlite:{tmp_path / 'chats.db'}", alive()
    users = [AsyncSessionManager.shared(path, threads=2) for _ in range(50)]
    for number, user in enumerate(users):
        async with user.turn(f"k{number}") as turn:
            turn.add_message("user", "hi")
    assert len([one for one in alive() - before if one.name.startswith("session-manager_")]) <= 2 + 1 + 2
    with pytest.raises(ValueError, match="threads must be 2, as the first user"):
        AsyncSessionManager.shared(path, threads=3)
    for user in users:
        await user.close()
    for thread in alive() - before:  # those in which users were opened and closed may be about to end
        if thread.name.startswith("session-manager"):
            thread.join(DEADLINE)
            assert not thread.is_alive()


@pytest.mark.anyio
async def test_a_task_with_two_users_does_not_wait_for_itself(tmp_path):
    path = tmp_path / "chats"
    async with AsyncSessionManager.shared(path) as one, AsyncSessionManager.shared(path) as other, one.turn(KEY):
        with pytest.raises(RuntimeError, match="this task has a turn of session"):
            async with other.turn(KEY):
                pass


@pytest.mark.anyio
async def test_wrong_options_are_refused_at_once_and_others_on_opening(tmp_path):
    path = tmp_path / "chats"
    for options, error in (({"threads": 0}, ValueError), ({"archive": "yes"}, TypeError), ({"roles": "dm"}, TypeError)):
        with pytest.raises(error):
            AsyncSessionManager.shared(path, **options)
    with pytest.raises(
        TypeError, match=r"^AsyncSessionManager.shared\(\) got an unexpected keyword argument 'archiv'$"
    ):
        AsyncSessionManager.shared(path, archiv=True)
    with pytest.raises(TypeError, match="not MemoryStore"):
        AsyncSessionManager.shared(MemoryStore())
    with SessionManager.shared(path):
        user = AsyncSessionManager.shared(path, archive=True)
        with pytest.raises(ValueError, match="archive must be False"):
            await user.get(KEY)
        await user.close()


def test_two_loops_at_once_share_one_manager_and_take_turns(url):
    """Each loop has its thread. A turn of one loop waits for a turn of the other, whichever user it is of."""
    inside, leave, seen = threading.Event(), threading.Event(), []

    async def first():
        async with AsyncSessionManager.shared(url) as m, m.turn(KEY) as turn:
            inside.set()
            await anyio.to_thread.run_sync(leave.wait, DEADLINE)
            turn.add_message("user", "first")

    async def second(m):
        async with m.turn(KEY) as turn:
            turn.add_message("user", "second")
        return texts(await m.get_history(KEY))

    async def late():
        async with AsyncSessionManager.shared(url) as m:
            waiting = asyncio.ensure_future(second(m))
            await anyio.to_thread.run_sync(until_two_want_it, m.sync)
            leave.set()
            seen.append(await waiting)

    one = threading.Thread(target=asyncio.run, args=(first(),))
    one.start()
    assert inside.wait(DEADLINE)
    other = threading.Thread(target=asyncio.run, args=(late(),))
    other.start()
    one.join(DEADLINE)
    other.join(DEADLINE)
    assert seen == [["first", "second"]]


def test_one_user_serves_one_loop_after_the_other(url):
    """`asyncio.run` makes a loop each time. A user that was never closed is no user of the loop that has ended."""
    user = AsyncSessionManager.shared(url)

    async def say(m, text):
        async with m.turn(KEY) as turn:
            turn.add_message("user", text)

    asyncio.run(say(user, "one"))
    asyncio.run(say(user, "two"))
    other = AsyncSessionManager.shared(url)
    asyncio.run(say(other, "three"))
    gone = weakref.ref(other)
    del other
    while gone() is not None:  # the thread of its last call lets go of it a moment later
        gc.collect()
    assert texts(user.sync.get_history(KEY)) == ["one", "two", "three"]
    asyncio.run(user.close())
    SessionManager(url).close()  # it is free


def test_a_child_has_a_crew_of_its_own(tmp_path):
    """The parent's threads are not there, and a call would wait for them for ever."""
    url = f"sqlite:{tmp_path / 'chats.db'}"
    opened, unopened = AsyncSessionManager.shared(url), AsyncSessionManager.shared(url)

    async def say(m):
        async with m.turn(KEY) as turn:
            turn.add_message("user", "hi")

    asyncio.run(say(opened))
    child = os.fork()
    if not child:
        status = 1
        try:
            for user in (opened, unopened):
                with pytest.raises(ForkedError):
                    asyncio.run(say(user))
            asyncio.run(say(AsyncSessionManager.shared(url)))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(opened.sync.get_history(KEY)) == 2
    asyncio.run(opened.close())
    asyncio.run(unopened.close())


@pytest.mark.anyio
async def test_sync_is_the_manager_that_is_wrapped():
    with SessionManager() as m:
        wrapper = AsyncSessionManager.wrap(m)
        assert wrapper.sync is m
        await wrapper.close()
        with pytest.raises(ClosedError):
            wrapper.sync  # noqa: B018 - it raises
        m.get_or_create(KEY)


def test_sync_opens_the_storage(tmp_path):
    user = AsyncSessionManager(f"log:{tmp_path / 'chats'}")
    user.sync.add_message(KEY, "user", "hi")
    assert user.sync is user.sync
    assert asyncio.run(user.get_summary(KEY)) == ""
    asyncio.run(user.close())
    with SessionManager(tmp_path / "chats") as m:
        assert len(m.get_history(KEY)) == 1


def test_the_options_are_those_of_the_constructor():
    assert keyword_defaults(AsyncSessionManager.shared) == keyword_defaults(AsyncSessionManager)
