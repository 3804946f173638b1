"""The context for a model, of a long history in RAM."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["context"]

_SIZES = (1_000, 10_000)
_BUDGET = 4_000
_TARGETS = {10_000: Target(220e-6, of="value")}


def context(place: Place) -> Iterator[Case]:
    """Get a context of 4,000 tokens of 1,000 and of 10,000 messages in RAM, against to_dict() of just the messages in it."""
    for messages in sorted({place.count(size) for size in _SIZES}):
        with SessionManager() as manager:
            fill(manager, "session", messages, texts())
            there = manager.get_history("session")[-len(manager.get_context("session", max_tokens=_BUDGET)) :]
            figure = Figure(f"{messages:,} messages", "get_context", "to_dict", _TARGETS.get(messages))
            contestants = {
                "get_context": lambda m=manager: [timed(lambda: m.get_context("session", max_tokens=_BUDGET))],
                "to_dict": lambda some=there: [timed(lambda: [one.to_dict() for one in some])],
            }
            yield Case(figure.name, contestants, [figure], place.rounds(2000))
