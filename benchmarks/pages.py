"""Pages: what a part of a long history costs. ``python -m benchmarks.pages`` prints it, against the bound of each call."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import attrs

from benchmarks.harness import timed
from benchmarks.material import texts
from session_manager import Message, SessionManager

__all__ = ["Cost", "costs", "main"]

_KEY = "session"
_BATCH = 1000
_ROUNDS = 30


@attrs.frozen
class Cost:
    """What a call took, and may take, in seconds."""

    name: str
    median: float
    bound: float


def _fill(manager: SessionManager, count: int) -> None:
    source = texts()
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        manager.add(_KEY, *[Message("user", next(source), ref=f"ref:{number}") for number in numbers])


def costs(directory: str, *, cold: int = 20_000, resident: int = 100_000) -> Iterator[Cost]:
    """Measure pages of a session that is not in RAM, and of one that is.

    :param cold: how many messages the first has, in SQLite.
    :param resident: how many the second has.
    """
    url = f"sqlite:{os.path.join(directory, 'pages.db')}"
    with SessionManager(url) as manager:
        _fill(manager, cold)
    yield Cost(f"cold, SQLite: 10 of {cold:,}", _median(lambda: _cold(url)), 0.005)
    with SessionManager() as manager:
        _fill(manager, resident)
        manager.contains_ref(_KEY, "none")
        middle = resident // 2
        calls: dict[str, Callable[[], object]] = {
            "the newest 50": lambda: manager.get_history(_KEY, limit=50),
            "50 before a position": lambda: manager.get_history(_KEY, limit=50, before=middle),
            "50 behind a ref": lambda: manager.get_history(_KEY, limit=50, after=f"ref:{middle}"),
            "get_message by a ref": lambda: manager.get_message(_KEY, f"ref:{middle}"),
            "contains_ref of none": lambda: manager.contains_ref(_KEY, "none"),
        }
        for name, call in calls.items():
            yield Cost(f"resident, {resident:,}: {name}", _median(lambda call=call: timed(call)), 0.0001)


def _cold(url: str) -> float:
    with SessionManager(url) as manager:
        return timed(lambda: manager.get_history(_KEY, limit=10))


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(_ROUNDS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: print what each call costs, and fail if one costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description="Measure pages of long histories.")
    parser.add_argument("--dir", default=".", help="where to put the files (default: here)")
    given = parser.parse_args(arguments)
    dear = []
    with tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=os.path.abspath(given.dir)) as directory:
        for cost in costs(directory):
            print(f"{cost.name:<45} {cost.median * 1e6:>9,.1f} µs of {cost.bound * 1e6:,.0f}")
            dear += [cost.name] if cost.median > cost.bound else []
    if dear:
        sys.exit(f"too much: {', '.join(dear)}")


if __name__ == "__main__":
    main()
