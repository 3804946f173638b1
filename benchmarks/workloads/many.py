"""Many sessions in one storage: opening it, listing it, touching one, saving one."""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec

from benchmarks.floors import BareDatabase, BareLog, bare_replace
from benchmarks.harness import Case, Contestant, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, bare_reader, build, path_of, url
from session_manager import SessionManager

__all__ = ["many"]

_SESSIONS = 100_000
_MESSAGES = 2
_LIST = Target(35e-6, of="value")
_TARGETS = {
    "snapshot: list, each session": _LIST,
    "log: list, each session": _LIST,
    "snapshot: open, read one": Target(1.5),
    "log: open, read one": Target(1.5),
}
#: How much of a file tells what is in it: its beginning, or the end of a log.
_DESCRIBING = 4096


def many(place: Place) -> Iterator[Case]:
    """Open 100,000 sessions in one storage, list them, touch one, save one, against bare calls."""
    keys = place.keys(_SESSIONS)
    for scheme in SCHEMES:
        with place.directory() as path:
            build(scheme, path, keys, _MESSAGES, texts(), saves=1)
            yield _opening(place, scheme, path)
            yield _opening_one(place, scheme, path, keys[len(keys) // 2])
            with SessionManager(url(scheme, path)) as manager:
                yield _listing(place, scheme, path, manager, len(keys))
                with bare_reader(scheme, path) as lines:
                    yield _touching(place, scheme, lines, manager, keys)
                saving, close = _saving(place, scheme, path, manager, keys)
                yield saving
                close()


def _opening(place: Place, scheme: str, path: str) -> Case:
    def step() -> list[float]:
        started: list[SessionManager] = []
        seconds = timed(lambda: started.append(SessionManager(url(scheme, path))))
        started[0].close()
        return [seconds]

    return _case(place, scheme, "open", step, lambda: [timed(lambda: _bare_names(scheme, path))], 10)


def _opening_one(place: Place, scheme: str, path: str, key: str) -> Case:
    """Measure opening all and reading one, against listing all names and decoding one by hand."""
    decode = msgspec.json.Decoder().decode

    def step() -> list[float]:
        started: list[SessionManager] = []

        def read() -> None:
            started.append(SessionManager(url(scheme, path)))
            started[0].get_history(key)

        seconds = timed(read)
        started[0].close()
        return [seconds]

    def bare() -> list[float]:
        def read() -> object:
            names = _bare_names(scheme, path)
            with bare_reader(scheme, path) as lines:
                return names, [decode(line) for line in lines(key)]

        return [timed(read)]

    return _case(place, scheme, "open, read one", step, bare, 10)


def _bare_names(scheme: str, path: str) -> object:
    place = os.path.join(path, "chats")
    if scheme != "sqlite":
        return os.listdir(place)
    with closing(sqlite3.connect(place)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master").fetchall()


def _listing(place: Place, scheme: str, path: str, manager: SessionManager, count: int) -> Case:
    """Measure a list of all sessions, in seconds for each of them."""

    def listed() -> list[float]:
        return [timed(manager.list_sessions) / count]

    def bare() -> list[float]:
        return [timed(lambda: _bare_list(scheme, path)) / count]

    return _case(place, scheme, "list, each session", listed, bare, 3)


def _bare_list(scheme: str, path: str) -> object:
    place = os.path.join(path, "chats")
    if scheme == "sqlite":
        with closing(sqlite3.connect(place)) as connection:
            return connection.execute("SELECT key, state FROM sessions").fetchall()
    found = []
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    for name in os.listdir(directory):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
        offset = max(os.fstat(fd).st_size - _DESCRIBING, 0) if scheme == "log" else 0
        found.append(os.pread(fd, _DESCRIBING, offset))
        os.close(fd)
    os.close(directory)
    return found


def _touching(
    place: Place, scheme: str, lines: Callable[[str], list[bytes]], manager: SessionManager, keys: list[str]
) -> Case:
    """Touch each once; so it is not in RAM."""
    some = iter(random.Random(2).sample(keys, len(keys)))
    others = itertools.cycle(random.Random(3).sample(keys, len(keys)))
    decode = msgspec.json.Decoder().decode

    def bare(key: str) -> object:
        return [decode(line) for line in lines(key)]

    def touch(key: str) -> float:
        return timed(lambda: manager.get_history(key))

    def touch_bare(key: str) -> float:
        return timed(lambda: bare(key))

    rounds = min(200, len(keys) // 2)
    return _case(place, scheme, "touch one", lambda: [touch(next(some))], lambda: [touch_bare(next(others))], rounds)


def _saving(
    place: Place, scheme: str, path: str, manager: SessionManager, keys: list[str]
) -> tuple[Case, Callable[[], None]]:
    source, some = texts(), itertools.cycle(random.Random(4).sample(keys, len(keys)))

    def save() -> float:
        key = next(some)
        fill(manager, key, 1, source)
        return timed(lambda: manager.save(key))

    floor, close = _floor(scheme, path, keys[0])
    contestant: Contestant = lambda: [save(), save()][1:]  # noqa: E731 - a step
    return _case(place, scheme, "save one", contestant, lambda: [floor(), floor()][1:], 100), close


def _floor(scheme: str, path: str, key: str) -> tuple[Callable[[], float], Callable[[], None]]:
    """Return what measures the bare save of a session, and what closes it."""
    if scheme == "sqlite":
        database = BareDatabase(os.path.join(path, "floor.db"))
        return database.insert, database.close
    with open(path_of(scheme, path, key), "rb") as file:
        data = file.read()
    if scheme == "log":
        log = BareLog(os.path.join(path, "floor"))
        record = data.splitlines()[-1]
        return lambda: log.append(record), log.close
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    grown = [data + data[len(data) // 2 :]]
    return lambda: timed(lambda: bare_replace(directory, "floor", grown)), lambda: os.close(directory)


def _case(place: Place, scheme: str, name: str, step: Contestant, floor: Contestant, rounds: int) -> Case:
    what = f"{scheme}: {name}"
    figure = Figure(what, "store", "bare", _TARGETS.get(what))
    return Case(what, {"store": step, "bare": floor}, [figure], place.rounds(rounds))
