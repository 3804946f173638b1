"""Reading a long history in RAM."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["get_history"]

_SIZES = (1_000, 10_000)
_TARGETS = {10_000: Target(1.5)}


def get_history(place: Place) -> Iterator[Case]:
    """Get a history of 1,000 and of 10,000 messages in RAM, against list.copy()."""
    for messages in sorted({place.count(size) for size in _SIZES}):
        with SessionManager() as manager:
            fill(manager, "session", messages, texts())
            bare = manager.get_history("session")
            figure = Figure(f"{messages:,} messages", "get_history", "list.copy", _TARGETS.get(messages))
            contestants = {
                "get_history": lambda m=manager: [timed(lambda: m.get_history("session"))],
                "list.copy": lambda b=bare: [timed(b.copy)],
            }
            yield Case(figure.name, contestants, [figure], place.rounds(2000))
