"""Adding a message and saving it from an event loop, without the syncs."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator
from time import perf_counter

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import unsynced_store
from session_manager import AsyncSessionManager, SessionManager, Store

__all__ = ["hop"]

_KEY = "chat"
_STEPS = 50
#: What the calls of asyncio may cost over those of threads.
_OVER = Target(100e-6, of="value")


def hop(place: Place) -> Iterator[Case]:
    """Add a message of 1 KB and save it in an event loop, against the same two calls without one; syncs left out."""
    with place.directory(in_ram=True) as path:
        one, other = (unsynced_store("log", os.path.join(path, name)) for name in ("threads", "loop"))
        source = texts()
        with SessionManager(one) as manager:

            def save() -> list[float]:
                def step(text: str) -> None:
                    manager.add_message(_KEY, "user", text)
                    manager.save(_KEY)

                return [timed(lambda: step(next(source))) for _ in range(_STEPS)]

            least = math.inf

            def over() -> list[float]:
                nonlocal least
                least = min(least, *save())  # of a run that was disturbed, the least would be too much
                return [seconds - least for seconds in asyncio.run(_save(other, source))]

            figure = Figure(
                "log: add and save, over the same calls without a loop", "over", "save", _OVER, statistic="least"
            )
            yield Case(figure.name, {"over": over, "save": save}, [figure], place.rounds(10))
        one.close()
        other.close()


async def _save(store: Store, source: Iterator[str]) -> list[float]:
    async with AsyncSessionManager(store) as manager:
        seconds = []
        for _ in range(_STEPS):
            text, began = next(source), perf_counter()
            await manager.add_message(_KEY, "user", text)
            await manager.save(_KEY)
            seconds.append(perf_counter() - began)
        return seconds
