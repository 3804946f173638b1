"""How much an attack of `tests/faults` tries."""

from __future__ import annotations

import enum
from typing import TypeVar

T = TypeVar("T")


class Size(enum.IntEnum):
    """What a run is for."""

    #: In the ordinary run: each attack, on each store, once.
    SMOKE = 0
    #: With ``--faults``: what `docs/reliability.md` has the figures of.
    FULL = 1
    #: With ``--soak``: hours.
    SOAK = 2

    def of(self, smoke: T, full: T, soak: T) -> T:
        """Return the one that belongs to this size."""
        return (smoke, full, soak)[self]
