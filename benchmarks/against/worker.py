"""The process of one version: it prepares the cases of a workload one by one, and runs their steps when asked.

Imports of the package by the workloads are of public names only: an earlier commit may have its modules elsewhere.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import session_manager
from benchmarks.harness import Case
from benchmarks.place import Place
from benchmarks.process import answer
from benchmarks.workloads import WORKLOADS

__all__ = ["main"]

#: How long a turn is, in seconds, and how many runs it has at most: the first one finds the processor's caches cold.
_TURN = 0.01
_MOST = 10


class _Calls:
    """The calls that a worker answers."""

    def __init__(self, workload: str, place: Place) -> None:
        self._cases = iter(WORKLOADS[workload](place))
        self._case: Case | None = None

    def folder(self) -> str:
        """Return the folder that the package was imported from."""
        return os.path.dirname(os.path.dirname(os.path.abspath(session_manager.__file__)))

    def next_case(self) -> dict[str, Any] | None:
        """Prepare the next case, and warm it up; return what it is, or `None` after the last."""
        case = self._case = next(self._cases, None)
        if case is None:
            return None
        figures = [asdict(one) for one in case.figures]
        if case.warm_up:
            for subject in {one.subject for one in case.figures}:
                case.contestants[subject]()
        gc.collect()
        return {"name": case.name, "rounds": case.rounds, "figures": figures}

    def run(self, subject: str) -> Sequence[float]:
        """Let a contestant have its turn, and return what its steps took: a short one runs several times."""
        if self._case is None:
            raise RuntimeError("no case was prepared")
        run = self._case.contestants[subject]
        until = time.perf_counter() + _TURN
        taken = [*run()]
        for _ in range(_MOST - 1):
            if time.perf_counter() >= until:
                break
            taken += run()
        return taken

    def close(self) -> None:
        """Tidy up after the last case."""
        close = getattr(self._cases, "close", None)
        if close is not None:
            close()


def main(workload: str, place: str) -> None:
    """Answer calls until no more come.

    :param place: the arguments of a `Place`, as JSON.
    """
    calls = _Calls(workload, Place(**json.loads(place)))
    try:
        answer(calls)
    finally:
        calls.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
