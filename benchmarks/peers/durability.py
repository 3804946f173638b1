"""What each contender does so that a message survives a power cut: as strace sees it, or as its documentation says."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from benchmarks.peers.worker import CONTENDERS, Worker
from benchmarks.place import Place

__all__ = ["Examined", "examine"]

_MESSAGES, _ADDED = 10, 10
#: A sync of a file or a directory, or an open or a write that syncs.
_SYNC = re.compile(r"\b(?:fsync|fdatasync)\(|O_D?SYNC|RWF_D?SYNC")
_CALLS = "trace=fsync,fdatasync,openat,pwritev2"


@dataclass(frozen=True)
class Examined:
    """A contender as it is on this machine."""

    name: str
    package: str
    #: ``""`` for this package itself.
    version: str
    writes: str
    whole_file: bool
    #: How many syncs adding a message takes; `None` if there is no strace that could see that.
    syncs: float | None
    #: Whether an added message survives a power cut.
    durable: bool
    #: Why it does not take part; ``""`` if it does.
    missing: str = ""


def examine(name: str, place: Place) -> Examined:
    """Try a contender out: whether it is installed, keeps what it is given, and how often it syncs."""
    kind = CONTENDERS[name]
    found, syncs, missing = "", None, ""
    try:
        found = version(kind.package) if kind.package else ""
        syncs = _syncs(name, place)
    except PackageNotFoundError:
        missing = f"{kind.package} is not installed"
    except (RuntimeError, OSError) as error:
        missing = f"does not run: {error}"
    durable = kind.durable if syncs is None else syncs >= 1
    return Examined(name, kind.package, found, kind.writes, kind.whole_file, syncs, durable, missing)


def _syncs(name: str, place: Place) -> float | None:
    """Return how many syncs adding a message takes, having checked that all messages can be read again."""
    strace = _strace()
    with place.directory() as path:
        trace = os.path.join(path, "strace")
        before = (strace, "-f", "-qq", "-o", trace, "-e", _CALLS) if strace else ()
        worker = Worker(name, path, place.environment(), before)
        try:
            worker.ask("prepare", _MESSAGES)
            start = _lines(trace)
            for _ in range(_ADDED):
                worker.ask("add")
            end = _lines(trace)
            count = worker.ask("count")
        finally:
            worker.close()
    if count != _MESSAGES + 2 * _ADDED:
        raise RuntimeError(f"{name} kept {count:g} messages of {_MESSAGES + 2 * _ADDED}")
    return (end - start) / (2 * _ADDED) if strace else None


@functools.cache
def _strace() -> str | None:
    """Return the path of strace, if there is one and it may trace (in a container it may not)."""
    path = shutil.which("strace")
    if path is None or subprocess.run([path, "-o", os.devnull, "true"], check=False, capture_output=True).returncode:  # noqa: S603, S607 - looks for what is there
        return None
    return path


def _lines(trace: str) -> int:
    if not os.path.exists(trace):
        return 0
    with open(trace, encoding="utf-8", errors="replace") as file:
        return sum(1 for line in file if _SYNC.search(line))
