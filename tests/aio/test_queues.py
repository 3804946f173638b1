"""`Queues`: tasks of one event loop work on a session one after the other."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from session_manager.aio.queues import Queues

pytestmark = pytest.mark.anyio


async def test_tasks_of_one_session_take_their_turn_and_others_do_not_wait():
    queues, inside, most = Queues(), [], {"a": 0, "b": 0, "both": 0}

    async def work(key):
        async with queues.of(key):
            inside.append(key)
            most[key] = max(most[key], inside.count(key))
            most["both"] = max(most["both"], len(inside))
            await anyio.lowlevel.checkpoint()
            inside.remove(key)

    async with anyio.create_task_group() as tasks:
        for key in "abab":
            tasks.start_soon(work, key)
    assert most == {"a": 1, "b": 1, "both": 2}


async def test_a_queue_is_there_for_as_long_as_a_task_uses_it():
    queues = Queues()
    async with queues.of("a"):
        assert queues.of("a").locked()
        assert not Queues().of("a").locked()
    assert not queues.of("a").locked()
