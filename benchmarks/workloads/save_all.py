"""Saving many sessions at once."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.harness import Case, Figure, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["save_all"]

_KEYS = [f"session-{number}" for number in range(1_000)]


def save_all(place: Place) -> Iterator[Case]:
    """Save 1,000 dirty sessions by save_all, against saving them one by one."""
    with (
        place.directory() as path,
        SessionManager(os.path.join(path, "one-by-one")) as one_by_one,
        SessionManager(os.path.join(path, "at-once")) as at_once,
    ):
        source = texts()

        def dirty(manager: SessionManager) -> None:
            for key in _KEYS:
                fill(manager, key, 1, source)

        def run_one_by_one() -> list[float]:
            dirty(one_by_one)
            return [timed(lambda: [one_by_one.save(key) for key in _KEYS])]

        def run_at_once() -> list[float]:
            dirty(at_once)
            return [timed(at_once.save_all)]

        figure = Figure(f"{len(_KEYS):,} sessions", "save_all", "one by one")
        contestants = {"one by one": run_one_by_one, "save_all": run_at_once}
        yield Case(figure.name, contestants, [figure], place.rounds(10))
