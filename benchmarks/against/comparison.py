"""The comparison of two versions: both run the same steps in turns, and each pair of turns gives a ratio."""

from __future__ import annotations

import functools
import json
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks.against.versions import Version
from benchmarks.harness import Figure, Samples, Target
from benchmarks.place import Place
from benchmarks.process import Process

__all__ = ["DEFAULT", "LIMIT", "LIVES", "Compared", "compare_versions"]

#: The workloads that are compared if none is named: the others take long, or tell of the machine more than of the package.
DEFAULT = ("save", "log", "sqlite", "own", "read", "cold", "add", "history", "context", "loop", "import")

#: How often each workload is run by a new pair of processes, among which its rounds are shared out:
#: a process keeps its luck, such as where its memory lies, as long as it lives.
LIVES = 5

#: A ratio up to this is "not slower".
LIMIT = 1.03


@dataclass(frozen=True)
class Compared:
    """A figure of both versions, a value a round of each; the rounds are paired.

    :param old: what the rounds of the earlier commit took, each by the figure's statistic.
    :param new: those of the working tree.
    :param least: the least that a single step took, of the old and of the new.
    """

    workload: str
    figure: Figure
    old: Sequence[float]
    new: Sequence[float]
    least: tuple[float, float]

    @property
    def ratios(self) -> list[float]:
        """New to old, of each pair of rounds, sorted."""
        return sorted(map(_ratio, self.new, self.old))

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which the middle half of the pairs' ratios is."""
        ratios = self.ratios
        return ratios[(len(ratios) - 1) // 4], ratios[-1 - (len(ratios) - 1) // 4]

    @property
    def interval(self) -> tuple[float, float]:
        """Between which the true median is, at least 95 % sure; of less than six pairs, the least and the greatest."""
        ratios = self.ratios
        skipped = _skipped(len(ratios))
        return ratios[skipped], ratios[-1 - skipped]

    @property
    def least_ratio(self) -> float:
        """New to old, of the least that a single step took."""
        old, new = self.least
        return _ratio(new, old)

    @property
    def verdict(self) -> Literal["slower", "not slower", "open"]:
        """Whether the new version is slower by more than the limit; open if the interval holds the limit."""
        low, high = self.interval
        if low > LIMIT:
            return "slower"
        return "not slower" if high <= LIMIT else "open"


def _ratio(new: float, old: float) -> float:
    if old == 0:
        return 1.0 if new == 0 else math.inf
    return new / old


@functools.cache
def _skipped(count: int) -> int:
    """Return how many values at each end of a sorted sample the interval of its median leaves out."""
    tail, skipped = 0, 0
    # As many values as `skipped` are below the true median by the chance of as many heads among `count` coins.
    # At each end, 1 in 40 is the limit.
    while 40 * (tail := tail + math.comb(count, skipped)) <= 2**count:
        skipped += 1
    return max(skipped - 1, 0)


def compare_versions(
    workload: str, old: Version, new: Version, place: Place, tell: Callable[[str, int, int], None], lives: int = LIVES
) -> list[Compared]:
    """Run a workload with both versions in turns, and return its figures.

    :param place: where both run; its rounds are shared out among the lives.
    :param tell: called with the name of a case, the number of a round, and how many there are.
    :param lives: how many pairs of processes run, one pair after the other.
    :raises RuntimeError: if a version cannot run the workload, with the version's name and the last line of its error.
    """
    found: dict[tuple[str, str, str], Compared] = {}
    share = replace(place, share=place.share / lives)
    for life in range(lives):
        with ExitStack() as stack:
            pair = [_start(workload, version, share, life, stack) for version in (old, new)]
            for case in _cases(pair):
                rounds = _rounds(pair, case, lambda number, case=case: tell(case["name"], number, case["rounds"]))
                for one in _figures(workload, case, rounds):
                    key = (case["name"], one.figure.subject, one.figure.statistic)
                    found[key] = _joined(found[key], one) if key in found else one
    return list(found.values())


def _start(workload: str, version: Version, place: Place, life: int, stack: ExitStack) -> Process:
    directory = stack.enter_context(place.directory())
    here = replace(place, path=directory)
    environment = {**version.environment(place.environment()), "PYTHONHASHSEED": str(life)}
    command = ["benchmarks.against.worker", workload, json.dumps(asdict(here))]
    worker = Process(version.name, command, environment, version.folder)
    stack.callback(worker.close)
    imported = worker.ask("folder")
    if os.path.realpath(imported) != os.path.realpath(version.folder):
        raise RuntimeError(f"{version.name}: the package was imported from {imported}, not from {version.folder}")
    return worker


def _cases(pair: Sequence[Process]) -> Iterator[dict[str, Any]]:
    """Give the cases, each prepared by both."""
    while True:
        old, new = (worker.ask("next_case") for worker in pair)
        if old != new:
            raise RuntimeError(f"the versions prepared different cases: {old} and {new}")
        if old is None:
            return
        yield old


def _rounds(
    pair: Sequence[Process], case: dict[str, Any], tell: Callable[[int], None]
) -> dict[str, list[list[list[float]]]]:
    """Run a case, A B, B A, A B, …; return for each subject what its steps took, by version and round."""
    taken: dict[str, list[list[list[float]]]] = {one["subject"]: [[], []] for one in case["figures"]}
    for number in range(case["rounds"]):
        tell(number)
        for subject, versions in taken.items():
            turns = list(zip(pair, versions, strict=True))
            for worker, samples in turns if number % 2 == 0 else reversed(turns):
                samples.append(worker.ask("run", subject))
    return taken


def _figures(workload: str, case: dict[str, Any], rounds: dict[str, list[list[list[float]]]]) -> Iterator[Compared]:
    """Give one figure for each subject and statistic of a case: figures that differ in their floor only are one here."""
    given: set[tuple[str, str]] = set()
    for entry in case["figures"]:
        target = entry.pop("target")
        figure = Figure(**entry, target=target and Target(**target))
        if (figure.subject, figure.statistic) in given:
            continue
        given.add((figure.subject, figure.statistic))
        old, new = rounds[figure.subject]
        least = tuple(min(map(min, samples)) for samples in (old, new))
        values = [[_value(figure, one) for one in samples] for samples in (old, new)]
        yield Compared(workload, figure, values[0], values[1], (least[0], least[1]))


def _value(figure: Figure, samples: list[float]) -> float:
    one = Samples(samples)
    return one.p99 if figure.statistic == "p99" else one.median


def _joined(one: Compared, other: Compared) -> Compared:
    least = (min(one.least[0], other.least[0]), min(one.least[1], other.least[1]))
    return replace(one, old=[*one.old, *other.old], new=[*one.new, *other.new], least=least)
