"""Shared managers: one for a storage and process, which the last of its users closes.

A share holds its manager; each user holds the share, and nothing else does. So a manager whose users were all collected
is collected as well, and ends like any manager that a program drops (`session_manager.manager.ending`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary

import attrs

from session_manager.errors import InvalidStorageError
from session_manager.manager.ending import Ending
from session_manager.resource import Resource
from session_manager.stores.urls import Place, place_of, settled_scheme

__all__ = ["Share", "Shared", "joined"]


class Shared(Protocol):
    """What a share needs of its manager."""

    _ending: Ending

    def save_all(self) -> int:
        """Save what is dirty."""

    def close(self, *, save: bool = True) -> None:
        """Save what is dirty, unless `save` is `False`, and release the storage."""


M = TypeVar("M", bound=Shared)


@attrs.define(eq=False, repr=False)
class Share(Resource, Generic[M]):
    """A manager that several users share."""

    manager: M
    place: Place
    #: Its options, with those that the first call left out.
    options: Mapping[str, object]
    #: Held while it is opened, joined or left; of its place, for as long as a thread or share has it.
    _gate: threading.RLock
    _users: WeakSet[M] = attrs.field(factory=WeakSet)

    def join(self, user: M) -> None:
        """Count a user. Requires the gate."""
        self._users.add(user)

    def leave(self, user: M, *, save: bool) -> None:
        """Count a user no more, once what is dirty is saved; the last one closes the manager. Idempotent.

        :raises SaveFailedError: something could not be saved, and the user counts as before.
        """
        with self._gate:
            if user not in self._users:
                return
            if len(self._users) == 1:
                self.manager.close(save=save)
            elif save:
                self.manager.save_all()
            self._users.discard(user)

    def kill(self) -> None:
        """Close the manager for all users, and save nothing."""
        with self._gate:
            self.manager.close(save=False)

    @property
    def is_over(self) -> bool:
        """Whether the manager is closed."""
        return self.manager._ending.is_over

    def check(self, place: Place, options: Mapping[str, object]) -> None:
        """Raise if a caller asks for another store, or for other options, than the share has."""
        if place.scheme not in ("", self.place.scheme):
            raise InvalidStorageError(
                f"{place.scheme}:{place.name}", f"is open in this process as {self.place.scheme}:{place.name}"
            )
        for name, value in options.items():
            mine = self.options[name]
            if not _are_equal(value, mine):
                raise ValueError(
                    f"{name} must be {mine!r}, as the first user of {self.manager!r} in this process gave it, not {value!r}"
                )


def _are_equal(one: object, other: object) -> bool:
    """Compare two values of an option; several texts are compared without their order."""
    if isinstance(one, list | tuple | set | frozenset) and isinstance(other, list | tuple | set | frozenset):
        return set(one) == set(other)
    return one == other and isinstance(one, bool) is isinstance(other, bool)


class _Table:
    """The shares of a process, and what is left of those that are gone."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.gates: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()
        self.shares: WeakValueDictionary[str, Share[Any]] = WeakValueDictionary()
        #: Of managers that were shared: one that is collected is ended by another thread, which keeps this.
        self.endings: WeakValueDictionary[str, Ending] = WeakValueDictionary()


_table = _Table()


def joined(
    storage: str | os.PathLike[str],
    given: Mapping[str, object],
    defaults: Mapping[str, object],
    open_manager: Callable[[], M],
    use: Callable[[Share[M]], M],
) -> M:
    """Return a user of the share of a storage, which is opened if there is none.

    :param given: the options of this call.
    :param defaults: all options, with the values that they have if they are left out.
    :param open_manager: opens the manager.
    :param use: makes a user of the share.
    :raises ValueError, InvalidStorageError: if the share has other options, or another store.
    """
    place, table = place_of(storage), _table
    with table.lock:
        gate = table.gates.setdefault(place.name, threading.RLock())
    with gate:
        share = table.shares.get(place.name)
        if share is None or share.is_over:
            share = _opened(table, storage, place, {**defaults, **given}, gate, open_manager)
        share.check(place, given)
        return use(share)


def _opened(
    table: _Table,
    storage: str | os.PathLike[str],
    place: Place,
    options: Mapping[str, object],
    gate: threading.RLock,
    open_manager: Callable[[], M],
) -> Share[M]:
    ending = table.endings.get(place.name)
    if ending is not None:
        ending.end()
    scheme = settled_scheme(storage, read_only=options["read_only"] is True)
    manager = open_manager()
    share = Share(manager, Place(place.name, scheme), options, gate)
    table.shares[place.name], table.endings[place.name] = share, manager._ending
    return share


def _after_in_child() -> None:
    """Begin without shares in a forked child."""
    global _table  # noqa: PLW0603 - the child has its own
    _table = _Table()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
