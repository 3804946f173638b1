"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial

from benchmarks.environment import environment
from benchmarks.harness import Measured, measure
from benchmarks.place import Place
from benchmarks.report import Progress, document, table
from benchmarks.workloads import WORKLOADS


def _parser() -> argparse.ArgumentParser:
    described = "\n".join(f"  {name:<9} {workload.__doc__}" for name, workload in WORKLOADS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure session_manager, each figure as a ratio to a floor measured in the same run.",
        epilog=f"workloads (all of them by default):\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", default=".", help="where to put the files; on the disk to be measured (default: here)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds: to see that it runs")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="see below")
    return parser


def _run(place: Place, names: Sequence[str]) -> list[Measured]:
    progress = Progress()
    measured: list[Measured] = []
    for name in names:
        progress.say(f"{name}: preparing")
        for case in WORKLOADS[name](place):
            tell = partial(progress.round, f"{name}: {case.name}", rounds=case.rounds)
            measured += measure(name, case, tell)
    progress.done()
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = _parser()
    given = parser.parse_args(arguments)
    unknown = [name for name in given.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)} (there are: {', '.join(WORKLOADS)})")
    names = [name for name in WORKLOADS if name in given.workloads or not given.workloads]
    with tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=os.path.abspath(given.dir)) as path:
        machine = environment(path)
        if str(machine["file_system"]).startswith(("tmpfs", "ramfs")):
            print("warning: this directory is in RAM, where a sync costs nothing: give --dir", file=sys.stderr)
        measured = _run((Place.quick(path) if given.quick else Place(path)), names)
    print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items()), end="\n\n")
    print(table(measured))
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(document(machine, measured), file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
