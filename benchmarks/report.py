"""What is printed, and what is written as JSON."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.against.comparison import Compared
from benchmarks.harness import Measured, Samples, Unit
from benchmarks.peers.durability import Examined
from benchmarks.server_peers.comparison import TakingPart

__all__ = [
    "Progress",
    "aligned",
    "compared_document",
    "compared_table",
    "document",
    "goals_table",
    "peers_table",
    "server_peers_table",
    "table",
]

_HEADINGS = ("workload", "figure", "floor", "floor p99", "median", "p99", "ratio", "target", "")
_NUMBERS = range(2, 7)
_GOAL_HEADINGS = ("workload", "figure", "now", "at most", "", "to")
_COMPARED_HEADINGS = ("workload", "figure", "pairs", "old", "new", "ratio", "95 %", "quartiles", "of least", "verdict")
_COMPARED_NUMBERS = range(2, 9)
_PEER_HEADINGS = ("contender", "release", "syncs a message", "durable", "writes")
_SERVER_HEADINGS = ("contender", "release", "a turn")


class Progress:
    """Says on the standard error what is running: one line that changes on a terminal, else a line a case."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = 0.0

    def say(self, text: str) -> None:
        """Say what is being done now."""
        start, end = ("\r\x1b[K", "") if self._terminal else ("", "\n")
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)

    def round(self, text: str, number: int, rounds: int) -> None:
        """Say how far it is: on a terminal not too often, else once."""
        now = time.monotonic()
        if self._terminal and now - self._last > 0.2:
            self._last = now
            self.say(f"{text}: {number} of {rounds}")
        elif not self._terminal and number == 0:
            self.say(f"{text}: {rounds} rounds")

    def done(self) -> None:
        """Leave the terminal's line empty."""
        if self._terminal:
            self.say("")


def table(measured: Iterable[Measured]) -> str:
    """Return the table."""
    return aligned(_HEADINGS, map(_row, measured), _NUMBERS)


def goals_table(measured: Iterable[Measured]) -> str:
    """Return the table of the figures that have a target: what each is now, and what it is to be at most."""
    return aligned(_GOAL_HEADINGS, [_goal(one) for one in measured if one.figure.target is not None], (2, 3))


def _goal(one: Measured) -> tuple[str, ...]:
    target = one.figure.target
    assert target is not None
    is_value = target.of == "value"
    now = _amount(one.value, one.figure.unit) if is_value else f"{one.ratio:.2f} x"
    most = _amount(target.limit, one.figure.unit) if is_value else f"{target.limit:.3g} x"
    return one.workload, one.figure.name, now, most, "ok" if one.met else "missed", one.figure.floor


def peers_table(contenders: Iterable[Examined]) -> str:
    """Return the table of who takes part, and who is missing."""
    return aligned(_PEER_HEADINGS, map(_peer_row, contenders), ())


def server_peers_table(contenders: Iterable[TakingPart]) -> str:
    """Return the table of who takes part on a server, and who is missing."""
    rows = [(one.name, _release(one), f"missing: {one.missing}" if one.missing else one.does) for one in contenders]
    return aligned(_SERVER_HEADINGS, rows, ())


def compared_table(compared: Iterable[Compared]) -> str:
    """Return the table of two versions."""
    return aligned(_COMPARED_HEADINGS, map(_compared_row, compared), _COMPARED_NUMBERS)


def _compared_row(one: Compared) -> tuple[str, ...]:
    unit = one.figure.unit
    return (
        one.workload,
        one.figure.name,
        str(len(one.old)),
        _amount(statistics.median(one.old), unit),
        _amount(statistics.median(one.new), unit),
        f"{one.ratio:.3f}",
        _between(one.interval),
        _between(one.quartiles),
        f"{one.least_ratio:.3f}",
        one.verdict,
    )


def _between(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _release(one: Examined | TakingPart) -> str:
    return f"{one.package} {one.version}".strip() or "this package"


def _peer_row(one: Examined) -> tuple[str, ...]:
    release = _release(one)
    if one.missing:
        return one.name, release, "", "", f"missing: {one.missing}"
    syncs = "?" if one.syncs is None else f"{one.syncs:g}"
    return one.name, release, syncs, "yes" if one.durable else "no", one.writes


def aligned(headings: Sequence[str], body: Iterable[Sequence[str]], numbers: Container[int]) -> str:
    """Return a table of aligned columns; those of `numbers` are aligned to the right."""
    rows = [headings, *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(_aligned(row, widths, numbers)).rstrip() for row in rows)


def _aligned(row: Sequence[str], widths: Sequence[int], numbers: Container[int]) -> Iterable[str]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if column in numbers else cell.ljust(width)


def _row(one: Measured) -> tuple[str, ...]:
    unit, is_least = one.figure.unit, one.figure.statistic == "least"
    return (
        one.workload,
        f"{one.figure.name} (least)" if is_least else one.figure.name,
        _amount(one.floor.by("least" if is_least else "median"), unit),
        _amount(one.floor.p99, unit),
        _amount(one.subject.by("least" if is_least else "median"), unit),
        _amount(one.subject.p99, unit),
        f"{one.ratio:.2f}",
        _target(one),
        {True: "ok", False: "missed", None: ""}[one.met],
    )


def _amount(value: float, unit: Unit) -> str:
    if unit == "seconds":
        return _time(value)
    return f"{value:,.0f} B" if unit == "bytes" else f"{value:g}"


def _time(seconds: float) -> str:
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def _target(one: Measured) -> str:
    target = one.figure.target
    if target is None:
        return ""
    return f"<= {_amount(target.limit, one.figure.unit)}" if target.of == "value" else f"<= {target.limit:.3g} x floor"


def document(
    environment: Mapping[str, Any], measured: Iterable[Measured], contenders: Iterable[Examined | TakingPart] = ()
) -> dict[str, Any]:
    """Return the whole as a JSON object."""
    return {
        "environment": dict(environment),
        "contenders": [asdict(one) for one in contenders],
        "figures": [_entry(one) for one in measured],
    }


def compared_document(
    environment: Mapping[str, Any], versions: Mapping[str, str], compared: Iterable[Compared]
) -> dict[str, Any]:
    """Return the comparison of two versions as a JSON object."""
    return {
        "environment": dict(environment),
        "versions": dict(versions),
        "figures": [_compared_entry(one) for one in compared],
    }


def _compared_entry(one: Compared) -> dict[str, Any]:
    return {
        "workload": one.workload,
        "figure": one.figure.name,
        "statistic": one.figure.statistic,
        "unit": one.figure.unit,
        "pairs": len(one.old),
        "old": statistics.median(one.old),
        "new": statistics.median(one.new),
        "ratio": one.ratio,
        "interval": list(one.interval),
        "quartiles": list(one.quartiles),
        "ratio of the least": one.least_ratio,
        "verdict": one.verdict,
    }


def _entry(one: Measured) -> dict[str, Any]:
    target = one.figure.target
    return {
        "workload": one.workload,
        "case": one.case,
        "figure": one.figure.name,
        "statistic": one.figure.statistic,
        "unit": one.figure.unit,
        "subject": {"name": one.figure.subject, **_summary(one.subject)},
        "floor": {"name": one.figure.floor, **_summary(one.floor)},
        "ratio": one.ratio,
        "target": None if target is None else {"limit": target.limit, "of": target.of},
        "met": one.met,
    }


def _summary(samples: Samples) -> dict[str, Any]:
    return {"median": samples.median, "p99": samples.p99, "samples": len(samples.values)}
