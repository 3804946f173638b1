"""Quarantine: damaged bytes that were moved aside, to be looked at and, in the end, removed.

Bytes go there before a damaged session is deleted or put right, and before the torn end of a log is cut off. They hold
texts of the session. They stay until you purge them, or erase the session.

>>> from session_manager.operations import quarantine
>>> from session_manager.stores.memory import MemoryStore
>>> quarantine.list(MemoryStore())
()
"""

from __future__ import annotations

from datetime import datetime, timedelta

from session_manager.arguments import check_type
from session_manager.errors import StorageError
from session_manager.model.key import check_key
from session_manager.model.times import utc_now
from session_manager.stores.contract import Store
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.opening import Storage, opened

__all__ = ["Quarantined", "list", "purge", "show"]


def list(storage: Storage, *, key: str | None = None) -> tuple[Quarantined, ...]:  # noqa: A001 - `quarantine.list`
    """Return what is in quarantine, the oldest first. It only reads, beside the program that writes.

    :param key: only this session's.
    :raises InvalidKeyError: if it is no key.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises InvalidStorageError, StorageError: if the storage cannot be opened or read.
    """
    wanted = None if key is None else check_key(key)
    with opened(storage, read_only=True) as store:
        return _listed(store, wanted, None)


def show(storage: Storage, name: str) -> bytes:
    """Return damaged bytes, as they are; of the rows of a database, each with a line feed behind it. It only reads.

    :param name: as `list` gives it.
    :raises TypeError: if it is no string.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises StorageError: if there is nothing of that name, or it cannot be read.
    :raises InvalidStorageError: if the storage cannot be opened.
    """
    check_type(name, (str,), "name must be a str")
    with opened(storage, read_only=True) as store:
        found = store.read_quarantined(name)
    if found is None:
        raise _nothing(store, name)
    return found


def purge(
    storage: Storage, name: str | None = None, *, key: str | None = None, older_than: timedelta | None = None
) -> tuple[Quarantined, ...]:
    """Remove what is in quarantine, durably, and return what was removed. There is no way back.

    The text is gone from the files; the disk's blocks may keep it until they are used again.

    :param name: only this; otherwise all that the other arguments allow.
    :param key: only this session's.
    :param older_than: only what was moved there so long ago, or earlier.
    :raises TypeError, ValueError: if an argument is of another type; if the age is negative.
    :raises InvalidKeyError: if it is no key.
    :raises StorageLockedError: if another process has the storage open.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises StorageError: if there is nothing of that name, or it cannot be read.
    :raises SaveFailedError: if something cannot be removed, or may come back after a power cut. What was removed before stays so.
    """
    if name is not None:
        check_type(name, (str,), "name must be a str")
    before = None
    if older_than is not None:
        check_type(older_than, (timedelta,), "older_than must be a timedelta")
        if older_than < timedelta():
            raise ValueError("older_than must not be negative")
        before = utc_now() - older_than
    wanted = None if key is None else check_key(key)
    with opened(storage, read_only=False) as store:
        found = _listed(store, wanted, before)
        if name is not None:
            found = tuple(one for one in found if one.name == name)
            if not found:
                raise _nothing(store, name)
        return tuple(one for one in found if store.purge_quarantined(one.name))


def _listed(store: Store, key: str | None, before: datetime | None) -> tuple[Quarantined, ...]:
    return tuple(
        one
        for one in (store.quarantined() if key is None else store.quarantined_of(key))
        if before is None or one.moved <= before
    )


def _nothing(store: Store, name: str) -> StorageError:
    path = getattr(store, "path", repr(store))
    return StorageError(path, f"there is no {name[:80]!a} in quarantine")
