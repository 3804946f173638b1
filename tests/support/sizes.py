"""Sizes of a run: how much a test tries."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pytest

T = TypeVar("T")


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
    """Return the tests that can be left out of a run in which each value of each parameter is to be met once.

    :param items: parametrized tests. Their parameters are looked at one by one, not in combination.
    """
    met: set[tuple[object, ...]] = set()
    left = list(items)
    for all_new in (True, False):
        for item in list(left):
            values = _values(item)
            if values - met and (not all_new or not values & met):
                met |= values
                left.remove(item)
    return set(left)


def _values(item: pytest.Item) -> set[tuple[object, ...]]:
    """Return the values of a test's parameters, with the test's and the parameters' names."""
    test = item.nodeid.partition("[")[0]
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return {(test, name, type(value), _hashable(value)) for name, value in parameters.items()} or {(test,)}


def _hashable(value: object) -> object:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
