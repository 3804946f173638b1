"""Adding a message to a short and to a long session, in RAM."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from benchmarks.harness import Case, Contestant, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["add_message"]

_SHORT = 10
_LONG = 10_000
_STEPS = 20
_TARGET = Target(9.5e-6, of="value")


def add_message(place: Place) -> Iterator[Case]:
    """Add a message of plain text, unsaved: the 10th and the 10,000th, against a dict into a list under a lock."""
    with place.directory() as path:
        manager = SessionManager()
        yield _case("in RAM only", manager, place)
        manager.close()
        manager = SessionManager(os.path.join(path, "chats"))
        yield _case("with a store", manager, place)
        manager.close(save=False)


def _case(name: str, manager: SessionManager, place: Place) -> Case:
    long = place.count(_LONG)
    contestants = {"short": _short(manager), "list": _list(), "long": _long(manager, long)}
    figures = [
        Figure(f"message {_SHORT}, {name}", "short", "list", _TARGET, statistic="least"),
        Figure(f"message {long:,}, {name}", "long", "list", _TARGET, statistic="least"),
        Figure(f"{long:,} against {_SHORT}, {name}", "long", "short"),
    ]
    return Case(name, contestants, figures, place.rounds(200))


def _list() -> Contestant:
    source, lock = texts(), threading.RLock()
    messages: list[dict[str, Any]] = []

    def add(text: str) -> None:
        with lock:
            messages.append({"role": "user", "content": text, "created_at": datetime.now(timezone.utc)})

    return lambda: [timed(lambda: add(next(source))) for _ in range(_STEPS)]


def _long(manager: SessionManager, count: int) -> Contestant:
    source = texts()
    fill(manager, "long", count, source)
    return lambda: [_one(manager, "long", next(source)) for _ in range(_STEPS)]


def _short(manager: SessionManager) -> Contestant:
    source, sessions = texts(), iter(range(1_000_000))

    def run() -> list[float]:
        seconds = []
        for _ in range(_STEPS):
            key = f"short-{next(sessions)}"
            fill(manager, key, _SHORT - 1, source)
            seconds.append(_one(manager, key, next(source)))
        return seconds

    return run


def _one(manager: SessionManager, key: str, text: str) -> float:
    return timed(lambda: manager.add_message(key, "user", text))
