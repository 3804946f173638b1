"""The options of a session manager, checked before its storage is opened."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import TypedDict

from session_manager.arguments import (
    check_bool,
    check_callable,
    check_int,
    check_path,
    check_seconds,
    check_texts,
    check_type,
)
from session_manager.history.rules import Rules, ruled
from session_manager.manager.autosave import Autosave
from session_manager.manager.leases import Lease
from session_manager.manager.on_event import OnEvent
from session_manager.model.times import Clock
from session_manager.stores.contract import Store

__all__ = [
    "MAX_MESSAGE_BYTES",
    "OPTIONS_OF_MANAGER",
    "ManagerOptions",
    "check_leases",
    "check_options",
    "is_ram_only",
    "warn_if_unset",
]

#: The largest `slow_save`, in seconds.
_LONGEST = 1_000_000.0

MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class ManagerOptions(TypedDict, total=False):
    """The keyword arguments of `SessionManager`, which says what each means.

    A call of your own takes the same by ``**options: Unpack[ManagerOptions]``.
    """

    clock: Clock
    random_id: Callable[[], str]
    max_message_bytes: int
    max_resident_bytes: int | None
    autosave: Autosave | None
    expire_every: timedelta | None
    read_only: bool
    archive: bool
    roles: Collection[str]
    rules: Rules
    lease: Lease | None
    on_event: OnEvent | None
    slow_save: float | None


#: Their names.
OPTIONS_OF_MANAGER = ManagerOptions.__optional_keys__


def check_options(
    storage: object,
    *,
    clock: object,
    random_id: object,
    max_message_bytes: object,
    max_resident_bytes: object,
    autosave: object,
    expire_every: object,
    read_only: object,
    archive: object,
    roles: object,
    rules: object,
    lease: object,
    on_event: object,
    slow_save: object,
) -> None:
    """Raise if a manager cannot be made with these options. Nothing is opened.

    :raises TypeError: if one of them is of another type.
    :raises ValueError: if one is out of range, or two exclude each other.
    :raises InvalidStorageError: if the storage can be no path.
    """
    if not (isinstance(storage, Store) or storage is None or storage == ""):
        check_path(storage, "storage", "must be a path, or a URL such as snapshot:PATH")
    check_callable(clock, "clock")
    check_callable(random_id, "random_id")
    check_int(max_message_bytes, "max_message_bytes", least=1)
    check_bool(read_only, "read_only")
    check_bool(archive, "archive")
    check_texts(roles, "roles")
    ruled(rules)
    _check_reports(on_event, slow_save)
    if autosave is not None:
        check_type(autosave, (Autosave,), "autosave must be an Autosave")
        if read_only:
            raise ValueError("read_only and autosave exclude each other")
    if expire_every is not None:
        _check_interval(expire_every)
        if read_only:
            raise ValueError("read_only and expire_every exclude each other")
    _check_lease(lease, storage, read_only)
    if max_resident_bytes is not None:
        check_int(max_resident_bytes, "max_resident_bytes", least=1)
        if is_ram_only(storage):
            raise ValueError("max_resident_bytes needs a storage, from which a forgotten session comes back")
    if archive and isinstance(storage, Store) and not storage.archives:
        raise ValueError(f"archive=True needs a store that keeps archives (Store.archives), which {storage!r} does not")


def _check_lease(lease: object, storage: object, read_only: object) -> None:
    if lease is None:
        return
    check_type(lease, (Lease,), "lease must be a Lease")
    if read_only:
        raise ValueError("read_only and lease exclude each other")
    if is_ram_only(storage):
        raise ValueError("lease needs a storage that other processes share")
    if isinstance(storage, Store):
        check_leases(storage, keeps=storage.leases)


def check_leases(storage: object, *, keeps: bool) -> None:
    """Raise `ValueError` if a storage keeps no leases."""
    if not keeps:
        raise ValueError(f"lease needs a store that keeps leases (Store.leases), which {storage!r} does not")


def _check_interval(expire_every: object) -> None:
    check_type(expire_every, (timedelta,), "expire_every must be a timedelta")
    assert isinstance(expire_every, timedelta)
    if not 0 < expire_every.total_seconds() <= threading.TIMEOUT_MAX:
        raise ValueError(f"expire_every must be more than 0, and {threading.TIMEOUT_MAX:.0f} seconds at most")


def _check_reports(on_event: object, slow_save: object) -> None:
    if on_event is not None:
        check_callable(on_event, "on_event")
        if inspect.iscoroutinefunction(on_event) or inspect.iscoroutinefunction(type(on_event).__call__):
            raise TypeError("on_event must not be an async def: nothing would await it")
    if slow_save is not None:
        check_seconds(slow_save, "slow_save", most=_LONGEST)


def is_ram_only(storage: object) -> bool:
    """Say whether a storage is none, so that sessions are in RAM only."""
    return storage is None or (isinstance(storage, str) and storage in ("", "memory:"))


def warn_if_unset(storage: object, *, stacklevel: int) -> None:
    """Warn that there is no storage where one was meant, probably."""
    if storage is None or storage == "":
        told = f'storage is {storage!r}, so nothing is saved: give a path, or "memory:" if that is meant'
        warnings.warn(told, stacklevel=stacklevel + 1)
