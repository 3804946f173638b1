"""Backups of whole storages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, build, url
from session_manager import operations

__all__ = ["backup"]

#: Sessions, and the messages that each has.
_SHAPES = ((1_000, 20), (10, 10_000))
_TARGET = Target(1.5)


def backup(place: Place) -> Iterator[Case]:
    """Back up a storage, against cp and fsync of each file."""
    for scheme in SCHEMES:
        sizes = [(len(place.keys(sessions)), place.count(messages)) for sessions, messages in _SHAPES]
        for sessions, count in dict.fromkeys(sizes):
            keys = place.keys(sessions)
            with place.directory() as path:
                build(scheme, path, keys, count, texts())
                storage, target, chats = url(scheme, path), os.path.join(path, "backup"), os.path.join(path, "chats")
                what = f"{scheme}: {len(keys):,} sessions of {count:,}"
                contestants = {
                    "backup": lambda s=storage, t=target: _backup(s, t),
                    "cp": lambda c=chats, t=target: _cp(c, t),
                }
                yield Case(what, contestants, [Figure(what, "backup", "cp", _TARGET)], place.rounds(7))


def _backup(storage: str, target: str) -> list[float]:
    seconds = timed(lambda: operations.backup(storage, target))
    shutil.rmtree(target)
    os.sync()
    return [seconds]


def _cp(source: str, target: str) -> list[float]:
    names = os.listdir(source) if os.path.isdir(source) else [""]
    pairs = [(os.path.join(source, name) if name else source, os.path.join(target, name or "chats")) for name in names]
    seconds = timed(lambda: _copied(pairs, target))
    shutil.rmtree(target)
    os.sync()
    return [seconds]


def _copied(pairs: list[tuple[str, str]], target: str) -> None:
    os.mkdir(target)
    for source, copy in pairs:
        shutil.copyfile(source, copy)
        _sync(copy)
    _sync(target)
    _sync(os.path.dirname(target))


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
