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

    def contestant(template: str, statement: str) -> Contestant:
        code = template.format(statement)
        return lambda: [float(place.python(code))]

    for name, template, target, unit, rounds in (
        ("import session_manager", _SECONDS, Target(0.060, of="value"), "seconds", place.rounds(100)),
        ("packages that it loads", _PACKAGES, Target(1), "packages", 1),
    ):
        contestants = {
            "dependencies": contestant(template, _DEPENDENCIES),
            "session_manager": contestant(template, "import session_manager"),
        }
        figure = Figure(name, "session_manager", "dependencies", target, unit=unit)  # type: ignore[arg-type]
        yield Case(name, contestants, [figure], rounds)
