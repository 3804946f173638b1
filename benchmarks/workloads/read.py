"""Opening 1,000 sessions of 100 messages, and reading one of them or all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager, Store
from session_manager.files import Files
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore

__all__ = ["read"]

_SESSIONS = 1_000
_MESSAGES = 100
_KEY = "session-500"
_ONE = Target(2.0, "ratio")
_ALL = {"snapshot": Target(2.2, "ratio"), "log": Target(2.2, "ratio"), "sqlite": Target(2.5, "ratio")}


def read(place: Place) -> Iterator[Case]:
    """Open 1,000 sessions of 100 messages and read one, or all, against decoding their bytes and nothing else."""
    decode = msgspec.json.Decoder().decode
    for scheme, pieces in {"snapshot": _snapshot, "log": _log, "sqlite": _sqlite}.items():
        with place.directory() as directory:
            path = os.path.join(directory, "chats")
            _build(scheme, path)
            one = {
                "manager": lambda p=path, s=scheme: _open(s, p, [_KEY]),
                "by hand": lambda p=path, f=pieces: _by_hand(f, p),
            }
            keys = [f"session-{number}" for number in range(_SESSIONS)]
            lines = [line for key in keys for line in pieces(path, key)]
            whole = {
                "manager": lambda p=path, s=scheme, k=keys: _open(s, p, k),
                "bare decoder": lambda some=lines: [timed(lambda: [decode(line) for line in some])],
            }
            yield Case(
                f"{scheme}: one",
                one,
                [Figure(f"{scheme}: open, read one", "manager", "by hand", _ONE)],
                place.rounds(100),
            )
            figure = Figure(f"{scheme}: open, read all", "manager", "bare decoder", _ALL[scheme])
            yield Case(f"{scheme}: all", whole, [figure], place.rounds(10))


class _Unsynced(Files):
    """A directory that is filled in seconds rather than minutes."""

    def sync(self, fd: int) -> None:
        pass

    def sync_data(self, fd: int) -> None:
        pass


def _store(scheme: str, path: str) -> Store:
    if scheme == "sqlite":
        return SQLiteStore(path)
    return (LogStore if scheme == "log" else SnapshotStore)(path, files=_Unsynced)


def _build(scheme: str, path: str) -> None:
    """Each session is saved ten times, ten messages a time, as a chat is."""
    source = texts()
    with closing(_store(scheme, path)) as store, SessionManager(store) as manager:
        for _ in range(10):
            for number in range(_SESSIONS):
                fill(manager, f"session-{number}", _MESSAGES // 10, source)
            manager.save_all()
    os.sync()


def _open(scheme: str, path: str, keys: list[str]) -> list[float]:
    started: list[SessionManager] = []

    def run() -> None:
        started.append(SessionManager(f"{scheme}:{path}"))
        for key in keys:
            started[0].get_history(key)

    seconds = timed(run)
    started[0].close()
    return [seconds]


def _by_hand(pieces: Callable[[str, str], list[bytes]], path: str) -> list[float]:
    decode = msgspec.json.Decoder().decode
    return [timed(lambda: [decode(piece) for piece in pieces(path, _KEY)])]


def _snapshot(path: str, key: str) -> list[bytes]:
    with open(os.path.join(path, f"{key}.session.json"), "rb") as file:
        return [file.read()]


def _log(path: str, key: str) -> list[bytes]:
    with open(os.path.join(path, f"{key}.session.jsonl"), "rb") as file:
        return file.read().splitlines()


def _sqlite(path: str, key: str) -> list[bytes]:
    query = """
        SELECT CAST(line AS BLOB) FROM messages WHERE session = (SELECT id FROM sessions WHERE key = ?) ORDER BY position
    """
    with closing(sqlite3.connect(path)) as connection:
        return [b"[" + b",".join(line for (line,) in connection.execute(query, (key,))) + b"]"]
