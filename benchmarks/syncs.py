"""Syncs that take as long as those of a slower disk, so that ratios can be compared between machines."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

from benchmarks.storages import FILES

__all__ = ["slow_syncs"]

P = ParamSpec("P")
#: What a floor calls, and the stores, whose other syncs are `os.fsync`.
_SYNCS = ((os, "fsync"), (os, "fdatasync"), (FILES, "sync_data"))


@contextmanager
def slow_syncs(seconds: float) -> Iterator[None]:
    """Have each sync of this process take at least so long, for a block: it waits as it would for a disk, and lets other threads run.

    SQLite and PostgreSQL make their own syncs, which stay as they are.

    :param seconds: how long; below the time that the disk takes, it changes nothing.
    """
    late = _lateness()
    before = [(place, name, getattr(place, name)) for place, name in _SYNCS]
    for place, name, sync in before:
        setattr(place, name, _slow(sync, seconds - late))
    try:
        yield
    finally:
        for place, name, sync in before:
            setattr(place, name, sync)


def _slow(sync: Callable[P, None], seconds: float) -> Callable[P, None]:
    def slow(*args: P.args, **kwargs: P.kwargs) -> None:
        begun = time.perf_counter()
        sync(*args, **kwargs)
        rest = seconds - (time.perf_counter() - begun)
        if rest > 0:
            time.sleep(rest)

    return slow


def _lateness(seconds: float = 1e-4) -> float:
    """Return how much longer than asked a short sleep takes here."""

    def slept() -> float:
        begun = time.perf_counter()
        time.sleep(seconds)
        return time.perf_counter() - begun

    return statistics.median(slept() for _ in range(200)) - seconds
