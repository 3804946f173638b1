"""The storages that are measured: what each is called, where its sessions are, and how a large one is made quickly."""

from __future__ import annotations

import inspect
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from benchmarks.material import fill
from session_manager import SessionManager, Store
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore

__all__ = ["FILES", "SCHEMES", "bare_reader", "build", "path_of", "timed_store", "unsynced_store", "url"]

SCHEMES = ("snapshot", "log", "sqlite")

_SUFFIX = {"snapshot": ".session.json", "log": ".session.jsonl"}
_SELECT = """
SELECT CAST(line AS BLOB) FROM messages WHERE session = (SELECT id FROM sessions WHERE key = ?) ORDER BY position
"""


def url(scheme: str, directory: str) -> str:
    """Return the URL of the storage in a directory."""
    return f"{scheme}:{os.path.join(directory, 'chats')}"


def path_of(scheme: str, directory: str, key: str) -> str:
    """Return the path of the file that a session, of a plain key, is in."""
    path = os.path.join(directory, "chats")
    return path if scheme == "sqlite" else os.path.join(path, key + _SUFFIX[scheme])


@contextmanager
def bare_reader(scheme: str, directory: str) -> Iterator[Callable[[str], list[bytes]]]:
    """Give what returns the JSON of a session, ready for a decoder, by the bare calls that read it."""
    if scheme != "sqlite":
        yield lambda key: _read_file(path_of(scheme, directory, key))
        return
    with closing(sqlite3.connect(path_of(scheme, directory, ""))) as connection:
        yield lambda key: [b"[" + b",".join(line for (line,) in connection.execute(_SELECT, (key,))) + b"]"]


def _read_file(path: str) -> list[bytes]:
    with open(path, "rb") as file:
        data = file.read()
    return data.splitlines() if path.endswith(_SUFFIX["log"]) else [data]


def build(
    scheme: str, directory: str, keys: list[str], messages: int, source: Iterator[str], *, saves: int = 10
) -> None:
    """Make a storage: each session is saved some times, some messages a time, as a chat is."""
    saves = min(saves, messages)
    with closing(unsynced_store(scheme, os.path.join(directory, "chats"))) as store, SessionManager(store) as manager:
        for number in range(saves):
            for key in keys:
                fill(manager, key, messages * (number + 1) // saves - messages * number // saves, source)
            manager.save_all()
    os.sync()


#: The class that opens a store's directory by default. The signature names it wherever its module is.
FILES: Any = inspect.signature(LogStore).parameters["files"].default


class Timed(FILES):
    """A directory that says how long its syncs took, and when the last one ended."""

    waited = 0.0
    ended = 0.0

    def sync(self, fd: int) -> None:
        self._timed(super().sync, fd)

    def sync_data(self, fd: int) -> None:
        self._timed(super().sync_data, fd)

    def _timed(self, sync: Callable[[int], object], fd: int) -> None:
        began = time.perf_counter()
        sync(fd)
        self.ended = time.perf_counter()
        self.waited += self.ended - began


def timed_store(scheme: str, path: str) -> tuple[Store, Timed]:
    """Open a store of files, and the directory that times its syncs."""
    opened: list[Timed] = []

    def files(path: str) -> Timed:
        opened.append(Timed(path))
        return opened[0]

    return (LogStore if scheme == "log" else SnapshotStore)(path, files=files), opened[0]


class _Unsynced(FILES):
    """A directory that is filled in seconds rather than minutes."""

    def sync(self, fd: int) -> None:
        pass

    def sync_data(self, fd: int) -> None:
        pass


def unsynced_store(scheme: str, path: str) -> Store:
    """Open a store that leaves out all syncs."""
    if scheme == "sqlite":
        store = SQLiteStore(path)
        store._database.writer.execute("PRAGMA synchronous = OFF")
        return store
    return (LogStore if scheme == "log" else SnapshotStore)(path, files=_Unsynced)
