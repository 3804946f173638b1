"""How everything here is measured: contestants take turns, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Case", "Contestant", "Figure", "Measured", "Samples", "Statistic", "Target", "Unit", "measure", "timed"]

#: One run: prepares what it needs, and returns what each step took: seconds, mostly.
Contestant = Callable[[], Sequence[float]]

#: What of the samples is compared. ``least`` is the steadiest of a step that waits for nothing.
Statistic = Literal["median", "p99", "least"]

#: What is measured.
Unit = Literal["seconds", "bytes", "packages"]


def timed(step: Callable[[], object]) -> float:
    """Return how many seconds a step takes, without those that freeing its result takes."""
    started = time.perf_counter()
    _result = step()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Target:
    """What a figure must not exceed."""

    limit: float
    #: Of the ratio to the floor, or of what the subject itself took.
    of: Literal["ratio", "value"] = "ratio"


@dataclass(frozen=True)
class Figure:
    """A line of the table: one contestant compared with another."""

    name: str
    subject: str
    floor: str
    target: Target | None = None
    #: What is compared.
    statistic: Statistic = "median"
    unit: Unit = "seconds"


@dataclass(frozen=True)
class Case:
    """Contestants that run interleaved, and what is to be read off them."""

    name: str
    contestants: Mapping[str, Contestant]
    figures: Sequence[Figure]
    rounds: int
    #: Whether a first round is run that does not count.
    warm_up: bool = True


@dataclass
class Samples:
    """What the steps of one contestant took."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The lowest one."""
        return min(self.values)

    def by(self, statistic: Statistic) -> float:
        """Return the one that a statistic names."""
        value: float = getattr(self, statistic)
        return value

    @property
    def p99(self) -> float:
        """The one that 99 of 100 do not exceed (of less than 100, the highest)."""
        return sorted(self.values)[math.ceil(len(self.values) * 0.99) - 1]


@dataclass(frozen=True)
class Measured:
    """A figure with its samples."""

    workload: str
    case: str
    figure: Figure
    subject: Samples
    floor: Samples

    @property
    def value(self) -> float:
        """What the subject took, by the figure's statistic."""
        return self.subject.by(self.figure.statistic)

    @property
    def ratio(self) -> float:
        """How many times the floor the subject is."""
        return self.value / self.floor.by(self.figure.statistic)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; `None` if there is none."""
        target = self.figure.target
        if target is None:
            return None
        return (self.ratio if target.of == "ratio" else self.value) <= target.limit


def measure(workload: str, case: Case, tell: Callable[[int], None]) -> list[Measured]:
    """Run a case: one round to warm up, then A B, B A, A B, … .

    :param tell: called with the number of each round.
    """
    names = list(case.contestants)
    if case.warm_up:
        for name in names:
            case.contestants[name]()
    samples = {name: Samples() for name in names}
    gc.collect()
    for number in range(case.rounds):
        tell(number)
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].values.extend(case.contestants[name]())
    return [
        Measured(workload, case.name, figure, samples[figure.subject], samples[figure.floor]) for figure in case.figures
    ]
