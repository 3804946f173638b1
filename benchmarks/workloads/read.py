"""Opening 1,000 sessions of 100 messages, and reading one of them or all."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import msgspec

from benchmarks.harness import Case, Contestant, Figure, Target, timed
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, bare_reader, build, url
from session_manager import SessionManager

__all__ = ["read"]

_SESSIONS = 1_000
_MESSAGES = 100
_ONE = Target(1.5)
_ALL = Target(1.5)


def read(place: Place) -> Iterator[Case]:
    """Open 1,000 sessions of 100 messages and read one, or all, against decoding their bytes and nothing else."""
    keys = place.keys(_SESSIONS)
    for scheme in SCHEMES:
        with place.directory() as path:
            build(scheme, path, keys, _MESSAGES, texts())
            yield _one(place, scheme, path, keys[len(keys) // 2])
            yield _all(place, scheme, path, keys, scheme)
    with place.directory() as path:
        build("log", path, keys[: len(keys) // 10 + 1], _MESSAGES, texts(), saves=_MESSAGES)
        yield _all(place, "log", path, keys[: len(keys) // 10 + 1], "log of single records")


def _one(place: Place, scheme: str, path: str, key: str) -> Case:
    """Measure opening by itself, too: a decoder does not open a storage."""
    decode = msgspec.json.Decoder().decode

    def by_hand() -> object:
        with bare_reader(scheme, path) as lines:
            return [decode(line) for line in lines(key)]

    contestants: dict[str, Contestant] = {
        "open and read": lambda: _open(scheme, path, [key])[:1],
        "bare decoder": lambda: [timed(by_hand)],
        "open": lambda: _open(scheme, path, [])[:1],
        "bare open": lambda: [timed(lambda: _bare_open(scheme, path))],
        "read": lambda: _open(scheme, path, [key])[1:],
    }
    figures = [
        Figure(f"{scheme}: open, read one", "open and read", "bare decoder", _ONE),
        Figure(f"{scheme}: of that, open", "open", "bare open"),
        Figure(f"{scheme}: of that, read one", "read", "bare decoder"),
    ]
    return Case(f"{scheme}: one", contestants, figures, place.rounds(100))


def _all(place: Place, scheme: str, path: str, keys: list[str], what: str) -> Case:
    decode = msgspec.json.Decoder().decode

    def bare() -> object:
        with bare_reader(scheme, path) as lines:
            return [[decode(line) for line in lines(key)] for key in keys]

    contestants: dict[str, Contestant] = {
        "read": lambda: _open(scheme, path, keys)[1:],
        "reading and bare decoding": lambda: [timed(bare)],
    }
    figure = Figure(f"{what}: read all", "read", "reading and bare decoding", _ALL)
    return Case(f"{what}: all", contestants, [figure], place.rounds(10))


def _open(scheme: str, path: str, keys: list[str]) -> list[float]:
    """Return the seconds that opening and reading take, and those of reading alone."""
    started: list[SessionManager] = []
    opening = timed(lambda: started.append(SessionManager(url(scheme, path))))
    with started[0] as manager:
        reading = timed(lambda: [manager.get_history(key) for key in keys])
    return [opening + reading, reading]


def _bare_open(scheme: str, path: str) -> None:
    """List and lock a directory, and make what is in it durable; or open a database, and read its schema."""
    place = os.path.join(path, "chats")
    if scheme == "sqlite":
        with closing(sqlite3.connect(place)) as connection:
            connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
        return
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    lock = os.open(".floor", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=directory)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.listdir(directory)
    os.fsync(directory)
    os.close(lock)
    os.close(directory)
