"""`AsyncSessionManager(threads=…)`: how many calls wait for the storage at once."""

from __future__ import annotations

import threading

import anyio
import pytest

from session_manager import SessionManager
from session_manager.aio import AsyncSessionManager
from session_manager.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio
DEADLINE = 60


class Gathering(MemoryStore):
    """Holds its writes, or loads, until so many are there at once."""

    def __init__(self, writers, readers):
        super().__init__()
        self.writing, self.reading = threading.Barrier(writers), threading.Barrier(readers)
        self.now = self.most = 0
        self.counting = threading.Lock()

    def write(self, commit):
        with self.counting:
            self.now += 1
            self.most = max(self.most, self.now)
        self.writing.wait(DEADLINE)
        with self.counting:
            self.now -= 1
        super().write(commit)

    def load(self, key):
        if key.startswith("read"):
            self.reading.wait(DEADLINE)
        return super().load(key)


@pytest.mark.parametrize(("threads", "readers"), [(1, 1), (3, 2), (20, 10)])
async def test_as_many_calls_write_at_once_and_half_as_many_read(threads, readers):
    """With fewer threads, the barrier would break at its deadline; with more, more would be counted."""
    store = Gathering(threads, readers)
    async with AsyncSessionManager(store, threads=threads) as m:
        for number in range(2 * threads):
            await m.add_message(f"k{number}", "user", "hi")
        async with anyio.create_task_group() as group:
            for number in range(2 * threads):
                group.start_soon(m.save, f"k{number}")
        assert store.most == threads
        async with anyio.create_task_group() as group:
            for number in range(readers):
                group.start_soon(m.get, f"read{number}")


async def test_a_wrapped_manager_takes_them_as_well():
    store = Gathering(5, 1)
    with SessionManager(store) as inner:
        async with AsyncSessionManager.wrap(inner, threads=5) as m:
            for number in range(5):
                await m.add_message(f"k{number}", "user", "hi")
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(m.save, f"k{number}")
        assert store.most == 5


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("8", TypeError)])
async def test_any_other_number_is_refused_at_the_call(wrong, error):
    with pytest.raises(error, match="threads must be"):
        AsyncSessionManager(threads=wrong)
