"""Adapters beside the frameworks' own stores: ``python -m benchmarks.adapters``, in an environment with a framework.

Each call is timed in turn with the same call of the others, on the same disk, and the least and the middle of all rounds is told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from typing import Any

#: How many items a conversation has before the calls are timed.
LENGTHS = (10, 1000)

Call = Callable[[Any], Awaitable[object]]


async def timed(
    things: dict[str, Any], call: Call, rounds: int, after: Call | None = None
) -> list[tuple[str, float, float]]:
    """Time a call of each thing in turn, without what undoes it; return their names, and the least and the middle seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            began = perf_counter()
            await call(thing)
            seconds[name].append(perf_counter() - began)
            if after is not None:
                await after(thing)
    return [(name, min(taken), median(taken)) for name, taken in seconds.items()]


async def openai_agents(directory: str, rounds: int) -> None:
    """Time the sessions of the OpenAI Agents SDK: its own in SQLite, and ours."""
    from agents import SQLiteSession

    from session_manager.adapters.openai_agents import OpenAIAgentsSession

    text = "What time is it in Wellington? " * 6
    turn: list[Any] = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    for length in LENGTHS:
        place = os.path.join(directory, str(length))
        os.mkdir(place)
        sessions: dict[str, Any] = {
            "SQLiteSession": SQLiteSession("chat", os.path.join(place, "own.db")),
            "ours, sqlite": OpenAIAgentsSession("chat", f"sqlite:{place}/chats.db"),
            "ours, log": OpenAIAgentsSession("chat", f"log:{place}/chats"),
        }
        for session in sessions.values():
            await session.add_items(turn * (length // 2))
        print(f"\nOpenAI Agents SDK, a conversation of {length:,} items, {rounds} rounds (least, middle)")
        for title, call, after in (
            ("add_items, 2 items", lambda session: session.add_items(turn), _popped),
            ("pop_item", lambda session: session.pop_item(), lambda session: session.add_items(turn[:1])),
            ("get_items(20)", lambda session: session.get_items(20), None),
            ("get_items()", lambda session: session.get_items(), None),
        ):
            for name, least, middle in await timed(sessions, call, rounds, after):
                print(f"  {title:20} {name:16} {least * 1e6:9,.0f} us {middle * 1e6:9,.0f} us")
        for session in sessions.values():
            closed = session.close()
            if closed is not None:
                await closed


async def _popped(session: Any) -> None:
    for _ in range(2):
        await session.pop_item()


def main() -> None:
    """Time what is installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("--dir", default=".", help="where to put the files; on the disk to be measured (default: here)")
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as directory:
        asyncio.run(openai_agents(directory, arguments.rounds))


if __name__ == "__main__":
    main()
