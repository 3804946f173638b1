"""Saving one new message in SQLite, in sessions of several sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.floors import PAUSE, BareDatabase, compute
from benchmarks.harness import Case, Contestant, Figure, Target
from benchmarks.material import Chat
from benchmarks.place import Place
from benchmarks.storages import url
from session_manager import SessionManager

__all__ = ["sqlite"]

_SIZES = (10, 100, 1_000, 10_000, 100_000)
_TARGET = Target(1.6)
_FLAT = Target(1.2)


def sqlite(place: Place) -> Iterator[Case]:
    """Save one message of 1 KB in a SQLite session of 10 to 100,000, against a checked UPDATE, an INSERT and a COMMIT."""
    sizes = place.sizes(_SIZES)
    with place.directory() as path, SessionManager(url("sqlite", path)) as manager:
        floor = BareDatabase(os.path.join(path, "floor.db"))

        def insert() -> list[float]:
            floor.insert()
            return [floor.insert()]

        def paused() -> list[float]:
            floor.insert()
            compute(PAUSE)
            return [floor.insert()]

        contestants: dict[str, Contestant] = {"statements": insert, "after a pause": paused}
        for count in sizes:
            contestants[f"save, {count:,}"] = Chat(manager, f"session-{count}", count).save_twice
        figures = [Figure(f"1 of {count:,} messages", f"save, {count:,}", "statements") for count in sizes]
        figures += [
            Figure(f"1 of {count:,} messages, to a floor that pauses", f"save, {count:,}", "after a pause", _TARGET)
            for count in sizes
        ]
        figures += [
            Figure(f"{count:,} against {sizes[0]}", f"save, {count:,}", f"save, {sizes[0]}", _FLAT)
            for count in sizes
            if count >= 10_000
        ]
        yield Case("one message", contestants, figures, place.rounds(400))
        floor.close()
