"""The process that has a storage open."""

from __future__ import annotations

import os

from session_manager.errors import StorageError
from session_manager.stores.contract import Store
from session_manager.stores.files.filesystem import resolved
from session_manager.stores.files.holders import Holder, holder_of_database, holder_of_directory
from session_manager.stores.opening import Storage
from session_manager.stores.urls import parts_of

__all__ = ["Holder", "holder"]


def holder(storage: Storage) -> Holder | None:
    """Return the process that has a storage open for writing; `None` if there is none.

    It takes no lock, opens nothing for writing, and does not disturb that process, or one that is about to start. A process that was killed leaves its
    name in a directory: it is returned with ``alive=False``, and does not keep others from opening the storage.

    Several processes may have a database open; the others are in `Holder.others`. This process counts as well. Since when is not known there.

    :param storage: a URL, a path, or an open store.
    :raises TypeError, InvalidStorageError: if it is no URL and no path.
    :raises StorageError: if there is nothing, it cannot be read, or this system does not tell who has a database open; or if it is on a server.

    >>> holder("memory:") is None
    True
    """
    if isinstance(storage, Store):
        path, server = getattr(storage, "path", ""), getattr(storage, "server", "")
    else:
        _, scheme, path = parts_of(storage)
        server = str(storage) if scheme == "postgresql" else ""
    if server:
        raise StorageError(server, "is on a server, which many processes may use: its view pg_stat_activity shows them")
    if not path:
        return None
    place = resolved(path)
    if not os.path.exists(place):
        raise StorageError(path, "is not there")
    return holder_of_directory(place) if os.path.isdir(place) else holder_of_database(place)
