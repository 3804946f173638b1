"""Saving many sessions at once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from benchmarks.floors import bare_replaces
from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, path_of, url
from session_manager import SessionManager

__all__ = ["burst"]

_SESSIONS = 1_000
_TARGETS = {"snapshot": Target(0.3), "log": Target(0.3)}
_NEW = {"log": Target(0.4)}


def burst(place: Place) -> Iterator[Case]:
    """Save 1,000 dirty sessions by save_all, against saving them one by one, and against bare system calls."""
    keys = place.keys(place.rounds(_SESSIONS))
    for scheme in SCHEMES:
        with (
            place.directory() as one,
            place.directory() as other,
            place.directory() as bare,
            SessionManager(url(scheme, one)) as one_by_one,
            SessionManager(url(scheme, other)) as at_once,
        ):
            contest = _Contest(keys)
            contestants = {
                "one by one": lambda m=one_by_one, c=contest: c.one_by_one(m),
                "save_all": lambda m=at_once, c=contest: c.at_once(m),
                "new, one by one": lambda m=one_by_one, c=contest: c.one_by_one(m, new=True),
                "new, save_all": lambda m=at_once, c=contest: c.at_once(m, new=True),
            }
            what = f"{scheme}: {len(keys):,} sessions"
            figures = [Figure(what, "save_all", "one by one", _TARGETS.get(scheme))]
            figures.append(Figure(f"{what}, new", "new, save_all", "new, one by one", _NEW.get(scheme)))
            if scheme == "snapshot":
                contestants["bare"] = lambda o=other, b=bare, c=contest: c.bare(o, b)
                figures.append(Figure(f"{what}, bare calls", "save_all", "bare"))
            yield Case(what, contestants, figures, place.rounds(10))


class _Contest:
    def __init__(self, keys: list[str]) -> None:
        self._keys = keys
        self._texts = texts()
        self._new = itertools.count()

    def one_by_one(self, manager: SessionManager, *, new: bool = False) -> list[float]:
        keys = self._dirty(manager, new=new)
        return [timed(lambda: [manager.save(key) for key in keys])]

    def at_once(self, manager: SessionManager, *, new: bool = False) -> list[float]:
        self._dirty(manager, new=new)
        return [timed(manager.save_all)]

    def bare(self, saved: str, directory: str) -> list[float]:
        """Measure replacing as many files, each of the bytes of one that was saved."""
        path = path_of("snapshot", saved, self._keys[0])
        with open(path, "rb") as file:
            buffers = [file.read()]
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [timed(lambda: bare_replaces(fd, self._keys, buffers))]
        finally:
            os.close(fd)

    def _dirty(self, manager: SessionManager, *, new: bool) -> list[str]:
        """Add a message to each session, or to as many new ones; return their keys."""
        keys = [f"new-{next(self._new)}" for _ in self._keys] if new else self._keys
        for key in keys:
            fill(manager, key, 1, self._texts)
        return keys
