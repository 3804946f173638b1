"""Storages that an operation uses for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from session_manager.stores.contract import Store
from session_manager.stores.urls import open_store

__all__ = ["Storage", "opened"]

#: A URL or path, as for `open_store`, or an open store.
Storage = str | os.PathLike[str] | Store


class _Operation:
    """What has a store while an operation runs."""


@contextmanager
def opened(storage: Storage, *, read_only: bool) -> Iterator[Store]:
    """Open a storage for one operation; a `Store` stays open behind it.

    :param read_only: open a URL or path beside its writer.
    :raises StoreInUseError: if a manager has the store, and it is not `shared`.
    :raises InvalidStorageError, StorageError: as `open_store` does.
    """
    store = storage if isinstance(storage, Store) else open_store(storage, read_only=read_only)
    operation = _Operation()
    try:
        store.attach(operation)
        try:
            yield store
        finally:
            store.detach(operation)
    finally:
        if store is not storage:
            store.close()
