"""How much RAM things take, each weighed in a process of its own by what Python allocates for it (`tracemalloc`).

What the imports and the manager itself take is not counted: each is weighed against the same with nothing in it.
"""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc

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


_SCALES = {"read": _read, "added": _added, "evicted": _evicted, "unread": _unread, "keys": _keys, "cache": _cache}

if __name__ == "__main__":
    main(*sys.argv[1:])
