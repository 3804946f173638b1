"""How much RAM things take, each weighed in a process of its own by what Python allocates for it (`tracemalloc`).

What the imports and the manager itself take is not counted: each is weighed against the same with nothing in it.
Many chats are weighed as the system sees the process: by the pages that it has in RAM, all of them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator

from benchmarks.material import fill, texts
from session_manager import SessionManager
from session_manager.stores.snapshot import SnapshotStore

__all__ = ["main"]


def main(what: str, *arguments: str) -> None:
    """Print how many bytes something takes."""
    print(_SCALES[what](*arguments))


def _now() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _read(url: str, count: str) -> float:
    """Weigh a resident message that was read: sessions are read until there are so many; the first is not counted."""
    with SessionManager(url) as manager:
        first, *others = manager
        manager.get(first)
        tracemalloc.start()
        before = _now()
        messages = 0
        for key in others:
            messages += len(manager.get_history(key))
            if messages >= int(count):
                break
        return (_now() - before) / messages


def _added(count: str, length: str) -> float:
    """Weigh a resident message that was added, in RAM only."""
    source = texts(int(length))
    with SessionManager() as manager:
        fill(manager, "first", 2, source)
        tracemalloc.start()
        before = _now()
        # Each of its own: as if it had come from outside.
        fill(manager, "session", int(count), iter("".join([*next(source)]) for _ in range(int(count))))
        return (_now() - before) / int(count)


def _evicted(url: str) -> float:
    """Weigh a session that was read, and evicted since; with what is known of it without reading it."""
    tracemalloc.start()
    before = _now()
    with SessionManager(url, max_resident_bytes=1) as manager:
        keys = sum(1 for key in manager if manager.get(key))
        evicted = _now() - before
    return evicted / keys


def _unread(url: str) -> float:
    """Weigh a session of a storage that was opened, and of which none was read."""
    tracemalloc.start()
    before = _now()
    with SessionManager(url) as manager:
        return (_now() - before) / len(manager)


def _keys(url: str) -> float:
    """Weigh a key in a set."""
    with SessionManager(url) as manager:
        found = [*manager]
    tracemalloc.start()
    before = _now()
    keys = {"".join([*key]) for key in found}
    return (_now() - before) / len(keys)


def _cache(path: str, budget: str) -> int:
    """Weigh the cache of encoded messages after four times its budget was saved, against none at all."""
    messages = int(budget) // 16_000
    without = _saved(os.path.join(path, "without"), 0, messages)
    return _saved(os.path.join(path, "with"), int(budget), messages) - without


def _saved(path: str, budget: int, messages: int) -> int:
    source = texts()
    tracemalloc.start()
    before = _now()
    store = SnapshotStore(path, cache_bytes=budget)
    with SessionManager(store, max_resident_bytes=1) as manager:
        for number in range(64):
            fill(manager, f"session-{number}", messages, source)
            manager.save(f"session-{number}")
        taken = _now() - before
    store.close()
    tracemalloc.stop()
    return taken


#: How long each message of many chats is, and how many a chat has.
_LENGTH, _MESSAGES = 100, 200


def _chats(kind: str, count: str) -> float:
    """Weigh the whole process with so many chats, in bytes of RAM for each message.

    :param kind: what keeps them: a manager in RAM only, lists of dicts, or OpenAI's session in a SQLite database in RAM.
    """
    source = texts(_LENGTH)
    made = (
        "".join([*next(source)]) for _ in range(int(count) * _MESSAGES)
    )  # each of its own: as if it had come from outside
    kept = _KEEPERS[kind](int(count), made)
    gc.collect()
    pages = _pages()
    del kept
    return pages * os.sysconf("SC_PAGE_SIZE") / int(count) / _MESSAGES


def _pages() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])


def _in_a_manager(count: int, made: Iterator[str]) -> object:
    manager = SessionManager()
    for number in range(count):
        fill(manager, f"chat:{number}", _MESSAGES, made)
    return manager


def _in_dicts(count: int, made: Iterator[str]) -> object:
    roles = ("user", "assistant")
    return {
        f"chat:{number}": [{"role": roles[one % 2], "content": next(made)} for one in range(_MESSAGES)]
        for number in range(count)
    }


def _in_openai(count: int, made: Iterator[str]) -> object:
    from agents import SQLiteSession  # noqa: PLC0415 - extra [bench]

    roles = ("user", "assistant")

    async def keep() -> list[object]:
        sessions = []
        for number in range(count):
            session = SQLiteSession(f"chat:{number}")
            await session.add_items([{"role": roles[one % 2], "content": next(made)} for one in range(_MESSAGES)])
            sessions.append(session)
        return sessions

    return asyncio.run(keep())


_KEEPERS: dict[str, Callable[[int, Iterator[str]], object]] = {
    "manager": _in_a_manager,
    "dicts": _in_dicts,
    "openai": _in_openai,
}

_SCALES = {
    "chats": _chats,
    "read": _read,
    "added": _added,
    "evicted": _evicted,
    "unread": _unread,
    "keys": _keys,
    "cache": _cache,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
