"""The stores of a `ShardedStore` by their names, each open, or opened when it is first needed."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from session_manager.arguments import check_type
from session_manager.errors import ClosedError, StorageError, UnsupportedFormatError
from session_manager.resource import Resource
from session_manager.stores.contract import Store

__all__ = ["Shards"]

_log = logging.getLogger("session_manager")

#: What a store says of itself by its attributes, and a `ShardedStore` says for all.
_SAID = ("shared", "tokenless", "indexed", "ordered", "archives", "windowed", "leases", "together")


class _Late(Resource):
    """A store that could not be opened yet.

    :param opens: opens it.
    """

    def __init__(self, opens: Callable[[], Store]) -> None:
        self.opens = opens
        self.lock = threading.Lock()
        self.attempts = 0
        self.error: StorageError | None = None


class Shards(Resource, Mapping[str, Store]):
    """The stores by their names. To ask for one that is not open opens it, and raises `StorageError` if it cannot be reached.

    :param stores: the stores, or functions that open them. All are tried at once; one at least must open.
    :raises StorageError: if none opens; or `UnsupportedFormatError`, if one is of a newer version. What it has opened is closed then.
    """

    def __init__(self, stores: Mapping[str, Store | Callable[[], Store]]) -> None:
        self._open = {name: store for name, store in stores.items() if isinstance(store, Store)}
        self._late = {name: _Late(opens) for name, opens in stores.items() if not isinstance(opens, Store)}
        self._names = tuple(stores)
        self._managers: weakref.WeakSet[object] = weakref.WeakSet()
        self._said: dict[str, bool] = {}
        self._is_closed = is_ready = False
        try:
            self._open_all()
            self._said = {said: all(getattr(store, said) for store in self._open.values()) for said in _SAID}
            is_ready = True
        finally:
            if not is_ready:
                self._give_up()

    def _give_up(self) -> None:
        """Close what was opened here, but no store that was given."""
        with ExitStack() as stack:
            for name in self._late.keys() & self._open.keys():
                stack.callback(self._open[name].close)

    def _open_all(self) -> None:
        errors = [error for name in tuple(self._late) if (error := self._tried(name)) is not None]
        if not self._open:
            raise errors[-1]
        for error in errors:
            _log.warning("a shard cannot be opened now, and is tried again when it is needed: %s", error)

    def _tried(self, name: str) -> StorageError | None:
        try:
            self[name]
        except UnsupportedFormatError:
            raise
        except StorageError as error:
            return error
        return None

    def says(self, said: str) -> bool:
        """Return an attribute of a store, such as ``shared``: whether all that were open at first had it."""
        return self._said[said]

    def opened(self) -> dict[str, Store]:
        """Return the stores that are open, by their names, in the order in which they were given."""
        return {name: self._open[name] for name in self._names if name in self._open}

    def __getitem__(self, name: str) -> Store:
        store = self._open.get(name)
        return self._opened_late(name, self._late[name]) if store is None else store

    def _opened_late(self, name: str, late: _Late) -> Store:
        """Open a store, or share the failure of a thread that has just tried."""
        before = late.attempts
        with late.lock:
            if name in self._open:
                return self._open[name]
            self._check_open()
            if late.attempts > before and late.error is not None:
                raise StorageError(late.error.path, late.error.reason) from late.error
            try:
                store = self._open[name] = self._checked(late.opens())
            except StorageError as error:
                late.error = error
                raise
            finally:
                late.attempts += 1
            return store

    def _checked(self, store: Store) -> Store:
        """Return a store that has just been opened, given to the managers that use the others. If that cannot be, it is closed.

        :raises StorageError: if it lacks what the others have said for all.
        """
        check_type(store, (Store,), "a function that opens a shard must return a Store")
        with ExitStack() as stack:
            stack.callback(store.close)
            self._give(store)
            self._check_open()
            stack.pop_all()
        return store

    def _give(self, store: Store) -> None:
        """Give a store to the managers that use the others, if it is of their kind."""
        lacks = [said for said, value in self._said.items() if value and not getattr(store, said)]
        if lacks:
            raise StorageError(repr(store), f"differs from the other shards: it is not {', '.join(lacks)}")
        for manager in tuple(self._managers):
            store.attach(manager)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError

    def note(self, manager: object) -> None:
        """Note a manager that uses the stores, for those that are opened later."""
        self._managers.add(manager)

    def forget(self, manager: object) -> None:
        """Forget a manager."""
        self._managers.discard(manager)

    def close(self) -> None:
        """Close the stores that are open, and open no others."""
        self._is_closed = True
        with ExitStack() as stack:
            for store in self.opened().values():
                stack.callback(store.close)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
