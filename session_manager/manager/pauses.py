"""Pauses between attempts, so that writers that met in a conflict, or wait for a lease, do not meet again."""

from __future__ import annotations

import os
import time

__all__ = ["ATTEMPTS", "between_polls", "pause"]

#: How often a call tries again after a conflict with another writer, before it raises.
ATTEMPTS = 100

_QUIET = 3
_FIRST, _LONGEST = 0.001, 0.05


def pause(attempt: int) -> None:
    """Wait for a random time before the next attempt: not at all after the first three, then longer each time, up to 50 ms.

    Without it, as many writers as there are cores keep each other from winning
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    :param attempt: how many attempts were made before the one that failed.
    """
    if attempt >= _QUIET:
        longest = min(_FIRST * 2.0 ** min(attempt - _QUIET, 10), _LONGEST)
        time.sleep(_random() * longest)


def between_polls() -> float:
    """Return how many seconds to wait before another process's lease is asked for again: 20 to 80 ms."""
    return 0.02 + _random() * 0.06


def _random() -> float:
    """Return a random number from 0 to 1. A forked child draws numbers of its own."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFF_FFFF
