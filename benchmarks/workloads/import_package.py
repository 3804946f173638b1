"""Importing the package in a fresh process."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Case, Figure, timed
from benchmarks.place import Place

__all__ = ["import_package"]


def import_package(place: Place) -> Iterator[Case]:
    """Start Python and import session_manager, against starting Python."""
    figure = Figure("import session_manager", "import", "pass")
    contestants = {
        "pass": lambda: [timed(lambda: place.python("pass"))],
        "import": lambda: [timed(lambda: place.python("import session_manager"))],
    }
    yield Case(figure.name, contestants, [figure], place.rounds(100))
