"""Importing the package in a fresh process."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Case, Contestant, Figure, Target
from benchmarks.place import Place

__all__ = ["import_package"]

_DEPENDENCIES = "import attrs, filelock, msgspec"
_SECONDS = """
import time
started = time.perf_counter()
{}
print(time.perf_counter() - started)
"""
#: The package itself is not counted, nor what is loaded before: by `site`, say.
_PACKAGES = """
import sys
before = {{*sys.modules}}
{}
found = {{name.partition(".")[0] for name in sys.modules.keys() - before}} - {{"session_manager"}} - sys.stdlib_module_names
print(len([name for name in found if not name.startswith("_")]))
"""


def import_package(place: Place) -> Iterator[Case]:
    """Import session_manager in a fresh process, against importing what it depends on; and how many packages that loads."""
    figure = Figure("import session_manager", "session_manager", "dependencies", Target(0.060, of="value"))
    yield Case(figure.name, _contestants(place, _SECONDS), [figure], place.rounds(100))
    contestants = _contestants(place, _SECONDS, "from session_manager import SessionManager")
    contestants["bare"] = lambda: [float(place.python(_SECONDS.format("pass")))]
    figures = [
        Figure("SessionManager", "session_manager", "dependencies"),
        Figure("SessionManager, over bare Python", "session_manager", "bare", Target(0.065, of="value")),
    ]
    yield Case("SessionManager", contestants, figures, place.rounds(100))
    figure = Figure("packages that it loads", "session_manager", "dependencies", Target(1), unit="packages")
    yield Case(figure.name, _contestants(place, _PACKAGES), [figure], 1)


def _contestants(place: Place, template: str, ours: str = "import session_manager") -> dict[str, Contestant]:
    def contestant(statement: str) -> Contestant:
        code = template.format(statement)
        return lambda: [float(place.python(code))]

    return {"dependencies": contestant(_DEPENDENCIES), "session_manager": contestant(ours)}
