"""The async manager and its threads, called by synchronous tests: a loop runs beside them."""

from __future__ import annotations

import inspect
import os
from contextlib import contextmanager
from functools import partial

from anyio.from_thread import start_blocking_portal

from session_manager import AsyncSessionManager, Store
from session_manager.aio.workers import Threads

_PID = os.getpid()
RENAMED = {"__contains__": "contains", "__len__": "count", "__iter__": "__aiter__"}


class Facade:
    """A `SessionManager` whose calls go through an `AsyncSessionManager`, in a loop of its own.

    :param manager: the manager.
    :param backend: ``"asyncio"`` or ``"trio"``.
    """

    def __init__(self, manager, backend="asyncio"):
        self._sync = manager
        self._context = start_blocking_portal(backend)
        self._portal = self._context.__enter__()
        self._manager = self._portal.call(AsyncSessionManager.wrap, manager)

    def __getattr__(self, name):
        value = getattr(self._sync, name)
        if name.startswith("_") or not inspect.ismethod(value):
            return value
        return lambda *args, **options: self._call(name, *args, **options)

    def _call(self, name, *args, **options):
        async def call():
            given = getattr(self._manager, RENAMED.get(name, name))(*args, **options)
            return [one async for one in given] if hasattr(given, "__aiter__") else await given

        return self._portal.call(call)

    def __contains__(self, key):
        return self._call("__contains__", key)

    def __len__(self):
        return self._call("__len__")

    def __iter__(self):
        return iter(self._call("__iter__"))

    @contextmanager
    def turn(self, *args, **options):
        entered = self._portal.wrap_async_context_manager(self._manager.turn(*args, **options))
        with entered as turn:
            yield TurnFacade(turn, self._portal)

    def _kill(self):
        """Close both without saving; return the manager: see `session_manager.testing.crash`."""
        self.close(save=False)
        return self._sync

    def close(self, *, save=True):
        """Close both, and end the loop."""
        self._sync.close(save=save)
        if self._context is not None:
            self._portal.call(self._manager.close)
            self._context.__exit__(None, None, None)
            self._context = None


class TurnFacade:
    """An `AsyncTurn`, whose calls are made in its loop.

    :param turn: the turn.
    :param portal: reaches the loop.
    """

    def __init__(self, turn, portal):
        self._turn, self._portal = turn, portal

    def __getattr__(self, name):
        value = getattr(self._turn, name)
        if not inspect.iscoroutinefunction(value):
            return value
        return lambda *args, **options: self._portal.call(partial(value, *args, **options))


class ThreadedStore(Store):
    """A store whose methods are called in the threads of an async manager.

    :param store: the store.
    :param portal: reaches the loop.
    """

    def __init__(self, store, portal):
        self.store = store
        self.shared, self.indexed, self.archives = store.shared, store.indexed, store.archives
        self.ordered, self.compacts_all = store.ordered, store.compacts_all
        self._portal = portal
        self._threads = Threads(2)

    def _run(self, name, *args, **options):
        def call():
            value = getattr(self.store, name)(*args, **options)
            return list(value) if inspect.isgenerator(value) else value

        if os.getpid() != _PID:  # in a forked child, which has no loop
            return call()
        return self._portal.call(self._threads.run, call, None)

    def close(self):
        self.store.close()
        self._threads.stop(wait=True)

    def __repr__(self):
        return f"<ThreadedStore of {self.store!r}>"


def _method(name):
    def method(self, *args, **options):
        value = self._run(name, *args, **options)
        return iter(value) if name in ("keys", "archive") else value

    return method


METHODS = (
    *(
        "load",
        "newer",
        "write",
        "landed",
        "write_many",
        "delete",
        "keys",
        "version",
        "describe",
        "has_archive",
        "archive",
    ),
    *("infos", "search", "compact", "verify", "repairs", "strays", "sizes", "total_bytes"),
)
for _name in METHODS:
    setattr(ThreadedStore, _name, _method(_name))
ThreadedStore.__abstractmethods__ = frozenset()
