"""Calls and frames of the common operations, counted: the same on every machine, where times are not.

Only the package's own functions count, with the methods that attrs generates for its classes.
Comprehensions and generator expressions do not: how many frames they take depends on the version of Python.
Each case runs over and over after a warm-up, and the median counts, so that a compaction now and then does not.
Work in other threads is not seen.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import CodeType, FrameType

import session_manager
from benchmarks.material import fill, texts
from benchmarks.report import aligned
from benchmarks.storages import SCHEMES
from session_manager import SessionManager

__all__ = ["FILE", "TOLERANCE", "Count", "changed", "count", "counts", "main", "read", "write"]

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counts.json")

#: How much a count may differ from the file.
TOLERANCE = 0.05

_WARM_UP = 4
_TIMES = 9
_MESSAGES = 100
_KEY = "chat"
_ROOT = os.path.dirname(os.path.abspath(session_manager.__file__)) + os.sep
_GENERATED = "<attrs generated "
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


@dataclass(frozen=True)
class Count:
    """What one operation takes.

    :param frames: the most frames of the package that are on the stack at once, the called method's included.
    :param calls: how often a function of the package is called.
    """

    frames: int
    calls: int


class _Counter:
    """A profile function that counts."""

    def __init__(self) -> None:
        self.frames = 0
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and _is_own(frame.f_code):
            self.calls += 1
            self.frames = max(self.frames, _depth(frame))


def _is_own(code: CodeType) -> bool:
    file = code.co_filename
    if file.startswith(_ROOT):
        return code.co_name not in _COMPREHENSIONS
    return file.startswith(_GENERATED) and "session_manager." in file


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth += _is_own(frame.f_code)
        frame = frame.f_back
    return depth


def count(operation: Callable[[], object]) -> Count:
    """Count the calls and frames of an operation in this thread."""
    counter = _Counter()
    before = sys.getprofile()
    sys.setprofile(counter)
    try:
        operation()
    finally:
        sys.setprofile(before)
    return Count(counter.frames, counter.calls)


def counts() -> dict[str, Count]:
    """Count all cases, in a temporary directory that is removed."""
    with tempfile.TemporaryDirectory(prefix="counts-") as path, _without_collections():
        return {name: found for scheme in ("memory", *SCHEMES) for name, found in _cases(scheme, path)}


@contextmanager
def _without_collections() -> Iterator[None]:
    """Let no finalizer run among the calls that are counted."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _cases(scheme: str, path: str) -> Iterator[tuple[str, Count]]:
    source = texts()
    url = "memory:" if scheme == "memory" else f"{scheme}:{os.path.join(path, scheme)}"
    with SessionManager(url) as manager:

        def add() -> None:
            manager.add_message(_KEY, "user", next(source))

        def turn() -> None:
            with manager.turn(_KEY) as one:
                one.add_message("user", next(source))
                one.add_message("assistant", next(source))

        fill(manager, _KEY, _MESSAGES, source)
        manager.save(_KEY)
        yield f"save, {scheme}", _steady(lambda: manager.save(_KEY), before=add)
        yield f"turn of two messages, {scheme}", _steady(turn)
        yield f"add_message, {scheme}", _steady(add)
        yield f"get_history, {scheme}", _steady(lambda: manager.get_history(_KEY))


def _steady(operation: Callable[[], object], before: Callable[[], object] = lambda: None) -> Count:
    """Return the median count of an operation that is run over and over.

    :param before: prepares each, and does not count.
    """
    found = []
    for _ in range(_WARM_UP + _TIMES):
        before()
        found.append(count(operation))
    steady = found[_WARM_UP:]
    frames = statistics.median_low(one.frames for one in steady)
    return Count(frames, statistics.median_low(one.calls for one in steady))


def read(file: str = FILE) -> dict[str, Count]:
    """Return the counts of the file, by case."""
    with open(file, encoding="utf-8") as opened:
        return {name: Count(**found) for name, found in json.load(opened).items()}


def write(found: Mapping[str, Count], file: str = FILE) -> None:
    """Write the file, a case a line, so that a change of it shows what became dearer."""
    lines = (f"  {json.dumps(name)}: {json.dumps(asdict(one))}" for name, one in found.items())
    with open(file, "w", encoding="utf-8") as opened:
        opened.write("{\n" + ",\n".join(lines) + "\n}\n")


def changed(known: Mapping[str, Count], found: Mapping[str, Count]) -> list[str]:
    """Return a line for each count that differs from the known one by more than the tolerance, either way.

    One that shrank counts, too: else it could grow again unnoticed. A case that only one of both has is a line as well.
    """
    lines = []
    for name in {**known, **found}:
        if name not in known or name not in found:
            lines.append(f"{name}: {'not in the file' if name in found else 'not counted any more'}")
            continue
        for what, old in asdict(known[name]).items():
            new = asdict(found[name])[what]
            if abs(new - old) > TOLERANCE * old:
                lines.append(f"{name}: {new} {what}, {old} in the file ({(new - old) / old:+.1%})")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m benchmarks counts``: print the counts, and fail if they are not those of the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks counts",
        description="Count the calls of the package's own functions, and its frames, in the common operations; "
        f"fail if one differs from benchmarks/counts.json by more than {TOLERANCE:.0%}.",
    )
    parser.add_argument("--write", action="store_true", help="write the counts to that file")
    given = parser.parse_args(arguments)
    found, known = counts(), read() if os.path.exists(FILE) else {}
    print(
        aligned(("case", "frames", "calls", "in the file"), (_row(name, found[name], known) for name in found), (1, 2))
    )
    if given.write:
        write(found)
    elif lines := changed(known, found):
        print("", *lines, sep="\n")
        sys.exit("\nIf this is meant: python -m benchmarks counts --write, and commit the file.")


def _row(name: str, one: Count, known: Mapping[str, Count]) -> tuple[str, ...]:
    before = known.get(name)
    return name, str(one.frames), str(one.calls), f"{before.frames}, {before.calls}" if before else ""
