"""Reading a long history in RAM."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["get_history"]

_MESSAGES = 10_000


def get_history(place: Place) -> Iterator[Case]:
    """Get a history of 10,000 messages in RAM, against list.copy()."""
    with SessionManager() as manager:
        fill(manager, "session", _MESSAGES, texts())
        bare = manager.get_history("session")
        figure = Figure(f"{_MESSAGES:,} messages", "get_history", "list.copy", Target(1.5, "ratio"))
        contestants = {
            "get_history": lambda: [timed(lambda: manager.get_history("session"))],
            "list.copy": lambda: [timed(bare.copy)],
        }
        yield Case(figure.name, contestants, [figure], place.rounds(2000))
