"""Sizes of a run: how much a test tries."""

from __future__ import annotations

import enum
from typing import TypeVar

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
