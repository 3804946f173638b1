"""How late an event loop wakes a task up while the async manager works."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator

from benchmarks.harness import Case, Figure, Target
from benchmarks.material import texts
from benchmarks.place import Place
from session_manager import AsyncSessionManager, Message
from session_manager.stores.memory import MemoryStore
from session_manager.testing import FaultyStore

__all__ = ["loop_lag"]

_TICK = 0.001
_IDLE = 0.3
_SESSIONS = 50
_DELAY = 0.2
_MESSAGES = 10_000
_TARGET = Target(0.005, of="value")

Work = Callable[[], Awaitable[object]]


def loop_lag(place: Place) -> Iterator[Case]:
    """How late a task of an event loop is woken up while the async manager saves, loads and searches."""
    yield _case("50 saves on a store that takes 200 ms", _slow_saves, place.rounds(10))
    for scheme in ("snapshot", "log", "sqlite"):
        with place.directory() as path:
            url = f"{scheme}:{os.path.join(path, 'chats')}"
            count = place.count(_MESSAGES)
            asyncio.run(_prepare(url, count))
            for name, step in (("load", _load), ("save one", _save_one), ("save all", _save_all), ("search", _search)):
                what = f"{scheme}: {name} of {count:,} messages"
                yield _case(what, lambda step=step, url=url: step(url), place.rounds(10))


def _case(name: str, run: Callable[[], Awaitable[list[float]]], rounds: int) -> Case:
    contestants = {"idle": lambda: asyncio.run(_lags(_idle)), "busy": lambda: asyncio.run(run())}
    figures = [Figure(f"{name}, p99", "busy", "idle", _TARGET, statistic="p99")]
    return Case(name, contestants, figures, rounds)


async def _lags(work: Work) -> list[float]:
    """Return how many seconds late each tick came, from the beginning of some work to its end."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            late.append(time.perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(5 * _TICK)
    late.clear()
    await work()
    await asyncio.sleep(_TICK)
    ticking.cancel()
    return late


async def _idle() -> None:
    await asyncio.sleep(_IDLE)


async def _slow_saves() -> list[float]:
    store = FaultyStore(MemoryStore())
    store.delay = _DELAY
    async with AsyncSessionManager(store) as m:
        for number in range(_SESSIONS):
            await m.add_message(str(number), "user", "hi")

        async def save() -> None:
            await asyncio.gather(*(m.save(str(number)) for number in range(_SESSIONS)))

        return await _lags(save)


async def _prepare(url: str, count: int) -> None:
    async with AsyncSessionManager(url) as m:
        source = texts()
        for _ in range(count):
            await m.add_message("chat", "user", next(source))
        await m.save("chat")


async def _load(url: str) -> list[float]:
    async with AsyncSessionManager(url) as m:
        return await _lags(lambda: m.get("chat"))


async def _save_one(url: str) -> list[float]:
    async with AsyncSessionManager(url) as m:
        await m.add_message("chat", "user", "hi")
        return await _lags(lambda: m.save("chat"))


async def _save_all(url: str) -> list[float]:
    async with AsyncSessionManager(url) as m:
        messages: list[Message] = await m.get_history("chat")
        await m.get_or_create("other")

        async def save() -> None:
            await m.set_history("other", messages)
            await m.save("other")

        late = await _lags(save)
        await m.delete("other")
        return late


async def _search(url: str) -> list[float]:
    async with AsyncSessionManager(url) as m:
        late = await _lags(lambda: m.search("the"))
        await m.get("chat")
        return late + await _lags(lambda: m.search("the"))
