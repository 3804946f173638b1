"""Storages that keep leases, and a clock of theirs that jumps."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import attrs

from session_manager.stores.memory import MemoryStore
from session_manager.stores.sharded import ShardedStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.wrapped import WrappedStore
from tests.support.postgres import Place, shared_url

#: The kinds of storages.
KINDS = ["memory", "sqlite", "postgres", "shards"]


class InRam:
    """A store in RAM, which several managers share."""

    def __init__(self):
        self.store = MemoryStore()

    def opened(self):
        return self.store

    def jump(self, seconds):
        """Have the clock jump. That of a process never does; a lease that runs out stands for it."""
        for key, lease in self.store._leases.items():
            self.store._leases[key] = attrs.evolve(lease, until=lease.until and 1.0)


class Databases:
    """One database, or several as one.

    :param paths: the files.
    """

    def __init__(self, *paths):
        self.paths = paths

    def opened(self):
        stores = [SQLiteStore(path) for path in self.paths]
        return stores[0] if len(stores) == 1 else WrappedStore(ShardedStore(dict(zip("abc", stores, strict=False))))

    def jump(self, seconds):
        for path in self.paths:
            with closing(sqlite3.connect(path)) as connection, connection:
                if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'leases'").fetchone():
                    connection.execute("UPDATE leases SET renewed = renewed - ? WHERE renewed > 0", (seconds,))


class Server(Place):
    opened = Place.open

    def jump(self, seconds):
        self.run("UPDATE {s}.leases SET renewed = renewed - %s WHERE renewed > 0", seconds)


def storage(kind, tmp_path):
    """Return a storage of a kind: have it `opened` as often as you like, and its clock `jump`."""
    if kind == "memory":
        return InRam()
    if kind == "postgres":
        return Server(shared_url())
    return Databases(*[tmp_path / f"{name}.db" for name in ("abc" if kind == "shards" else "a")])
