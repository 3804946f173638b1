"""Searching in many messages."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from benchmarks.harness import Case, Contestant, Figure, Target, timed
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, build, path_of, url
from session_manager import SessionManager

__all__ = ["search"]

_SESSIONS = 1_000
_MESSAGES = 100
#: What is in one message, and what is in most.
_RARE, _COMMON = "an okapi", "madrid"
_TARGETS = {
    ("log", "rare"): Target(2),
    ("log", "common"): Target(4),
    ("sqlite", "rare"): Target(3),
    ("sqlite", "common"): Target(3),
}
_QUERY = "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rank LIMIT 20"


def search(place: Place) -> Iterator[Case]:
    """Search 100,000 messages for a text of one and of most, against finding its bytes in the files, or asking FTS5."""
    keys = place.keys(_SESSIONS)
    for scheme in SCHEMES:
        with place.directory() as path:
            build(scheme, path, keys, _MESSAGES, texts())
            with SessionManager(url(scheme, path)) as manager:
                manager.add_message(keys[len(keys) // 2], "user", f"I saw {_RARE} today.")
                manager.save_all()
                for kind, text in (("rare", _RARE), ("common", _COMMON)):
                    what = f"{scheme}: a {kind} text in {len(keys) * _MESSAGES:,}"
                    contestants: dict[str, Contestant] = {
                        "search": lambda m=manager, t=text: [timed(lambda: m.search(t))],
                        "bare": lambda s=scheme, p=path, k=keys, t=text: [timed(lambda: _bare(s, p, k, t))],
                    }
                    yield Case(
                        what,
                        contestants,
                        [Figure(what, "search", "bare", _TARGETS.get((scheme, kind)))],
                        place.rounds(5),
                    )


def _bare(scheme: str, path: str, keys: list[str], text: str) -> object:
    if scheme == "sqlite":
        with closing(sqlite3.connect(path_of(scheme, path, ""))) as connection:
            return connection.execute(_QUERY, (f'"{text}"',)).fetchall()
    wanted, found = text.encode(), []
    for key in keys:
        with open(path_of(scheme, path, key), "rb") as file:
            data = file.read()
        if wanted in data.lower():
            found.append(os.path.basename(key))
    return found
