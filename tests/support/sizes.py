"""Sizes of a run: how much a test tries."""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    import pytest

T = TypeVar("T")
Value: TypeAlias = tuple[object, ...]


class Size(enum.IntEnum):
    """The size of a run."""

    #: In the ordinary run: each attack, on each store, once.
    SMOKE = 0
    #: With ``--faults``: `docs/reliability.md` has its figures.
    FULL = 1
    #: With ``--soak``: hours.
    SOAK = 2

    def of(self, smoke: T, full: T, soak: T) -> T:
        """Return the argument for this size."""
        return (smoke, full, soak)[self]


def needless(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that a run can leave out in which each value of each parameter is met, but not each with each other.

    Parameters that are given together, as the columns of a table of cases, are one: no line of it is left out.
    """
    values = {item: found for item in items if len(found := _values(item)) > 1}
    having: dict[Value, list[pytest.Item]] = {}
    for item, found in values.items():
        for value in found:
            having.setdefault(value, []).append(item)
    met: Counter[Value] = Counter()
    kept = set()
    for value, candidates in having.items():
        if not met[value]:
            best = min(candidates, key=lambda item: sum(met[one] for one in values[item]))
            kept.add(best)
            met.update(values[best])
    return values.keys() - kept


def has_several_parameters(item: pytest.Item) -> bool:
    """Say whether a test has more than one parameter, so that a run may leave some combinations out."""
    return len(_values(item)) > 1


def _values(item: pytest.Item) -> list[Value]:
    """Return the values of a test's parameters, with the test's and the parameters' names; in the same order in each process."""
    test = item.nodeid.partition("[")[0]
    left = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    values: list[Value] = []
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0].replace(" ", "").split(",") if isinstance(mark.args[0], str) else mark.args[0]
        if left.keys() >= set(names):
            values.append((test, *names, *(_hashable(left.pop(name)) for name in names)))
    return [*values, *((test, name, _hashable(value)) for name, value in left.items())]


def _hashable(value: object) -> Value:
    """Return what tells a value from others, which may equal it, as 1 equals `True`."""
    try:
        hash(value)
    except TypeError:
        return (id(value),)
    return type(value), value
