"""Queues of the tasks of an event loop: one task at a time works on a session."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

from session_manager.resource import Resource

__all__ = ["Queues"]


class Queues(Resource):
    """The queues of an object, such as an adapter, by the keys of sessions. A queue that no task uses is forgotten."""

    def of(self, key: str) -> anyio.Lock:
        """Return the lock, for ``async with``, that tasks of this event loop take one after the other."""
        of_this_loop = _queues.get(None)
        if of_this_loop is None:
            _queues.set(of_this_loop := WeakKeyDictionary())
        mine = of_this_loop.setdefault(self, WeakValueDictionary())
        return mine.setdefault(key, anyio.Lock(fast_acquire=True))


_queues: RunVar[WeakKeyDictionary[Queues, WeakValueDictionary[str, anyio.Lock]] | None] = RunVar(
    "session_manager.queues"
)
