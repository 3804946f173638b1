"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from benchmarks import counts
from benchmarks.against.comparison import DEFAULT, LIVES, Compared, compare_versions
from benchmarks.against.versions import CannotCompareError, earlier, present
from benchmarks.environment import environment, file_system
from benchmarks.harness import Case, Measured, measure
from benchmarks.peers.comparison import against_peers, compare
from benchmarks.peers.durability import Examined, examine
from benchmarks.peers.worker import CONTENDERS
from benchmarks.place import Place
from benchmarks.report import (
    Progress,
    compared_document,
    compared_table,
    document,
    goals_table,
    peers_table,
    server_peers_table,
    table,
)
from benchmarks.server import NoServerError, serving
from benchmarks.server_peers import worker as server_worker
from benchmarks.server_peers.comparison import WORKLOAD as ON_SERVER
from benchmarks.server_peers.comparison import TakingPart, compare_turns, examine_on
from benchmarks.syncs import slow_syncs
from benchmarks.workloads import GOALS, WORKLOADS

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_JSON = os.path.join(_ROOT, "benchmarks", "figures.json")
#: With ``--peers``: nothing but the other libraries on a server.
_SERVER_ALONE = "server"
_PLOTS = os.path.join(_ROOT, "docs", "img")


def _parser() -> argparse.ArgumentParser:
    described = "\n".join(f"  {name:<9} {workload.__doc__}" for name, workload in WORKLOADS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure session_manager, each figure as a ratio to a floor measured in the same run.",
        epilog="python -m benchmarks counts --help tells how calls and frames are counted.\n\n"
        f"workloads (all of them by default; with --peers, none and server, too):\n  none      Nothing.\n  server    Nothing; the other libraries on PostgreSQL alone.\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", action="store_true", help="compare with other libraries, too (extra [bench])")
    parser.add_argument(
        "--against",
        metavar="REF",
        help="compare the working tree with an earlier commit instead: ratios of new to old (default workloads: "
        f"{' '.join(DEFAULT)})",
    )
    parser.add_argument("--dir", default=".", help="where to put the files; on the disk to be measured (default: here)")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rounds, at most 10,000 messages, or 1,000 sessions"
    )
    parser.add_argument(
        "--goals",
        action="store_true",
        help="print only the figures that have a target (default workloads: those of it)",
    )
    parser.add_argument(
        "--sync",
        type=_milliseconds,
        metavar="MS",
        help="have each sync of a file take at least MS milliseconds, as on a slower disk; those of SQLite and "
        "PostgreSQL stay as they are",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    parser.add_argument("--plots", metavar="DIR", help="draw the plots to DIR, too; a whole run with --peers does that")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="see below")
    return parser


def _milliseconds(text: str) -> float:
    """Return the seconds that an argument says."""
    number = float(text)
    if not 0 < number <= 1_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1,000 milliseconds")
    return number / 1_000


def _run(name: str, cases: Iterable[Case], progress: Progress) -> list[Measured]:
    progress.say(f"{name}: preparing")
    measured: list[Measured] = []
    for case in cases:
        tell = partial(progress.round, f"{name}: {case.name}", rounds=case.rounds)
        measured += measure(name, case, tell)
    return measured


def _run_peers(place: Place, progress: Progress) -> tuple[list[Measured], list[Examined]]:
    contenders = []
    for name in CONTENDERS:
        progress.say(f"peers: trying out {name}")
        contenders.append(examine(name, place))
    measured = _run("peers", compare(place, contenders), progress)
    return against_peers(measured, contenders) + measured, contenders


def _run_server_peers(place: Place, progress: Progress) -> tuple[list[Measured], list[TakingPart]]:
    """Compare with other libraries on a server; without one, say why."""
    contenders = []
    try:
        with serving(place.path) as server:
            for name in server_worker.CONTENDERS:
                progress.say(f"{ON_SERVER}: trying out {name}")
                contenders.append(examine_on(server, name, place))
            return _run(ON_SERVER, compare_turns(server, place, contenders), progress), contenders
    except NoServerError as error:
        print(f"no peers on PostgreSQL: {error}", file=sys.stderr)
        return [], []


def _write(found: dict[str, Any], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=2)
        file.write("\n")


def _draw(found: dict[str, Any], directory: str) -> None:
    try:
        from benchmarks.plots import draw  # noqa: PLC0415 - matplotlib is needed for nothing else
    except ImportError as error:
        print(f"no plots: {error} (pip install '.[bench]')", file=sys.stderr)
        return
    for path in draw(found, directory):
        print(f"drawn: {path}", file=sys.stderr)


def _run_against(ref: str, names: Iterable[str], place: Place, given: argparse.Namespace, progress: Progress) -> bool:
    """Compare with an earlier commit, and print the table; return whether both versions could run all of it."""
    old = earlier(ref, _ROOT, os.path.join(place.path, "old"))
    new = present(_ROOT, os.path.join(place.path, "new"))
    machine = environment(place.path)
    lives = 1 if given.quick else LIVES
    compared: list[Compared] = []
    failed: list[str] = []
    for name in names:
        progress.say(f"{name}: preparing")
        try:
            compared += compare_versions(
                name, old, new, place, lambda case, *at, name=name: progress.round(f"{name}: {case}", *at), lives
            )
        except RuntimeError as error:
            failed.append(f"no figures of {name}: {error}")
    progress.done()
    _print_machine(machine)
    print(f"old: {old.says}\nnew: {new.says}", end="\n\n")
    print(compared_table(compared))
    for line in failed:
        print(line, file=sys.stderr)
    if given.json:
        _write(compared_document(machine, {one.name: one.says for one in (old, new)}, compared), given.json)
    return not failed


def _print_machine(machine: Mapping[str, Any]) -> None:
    print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items()), end="\n\n")


def _names(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[str]:
    """Return the workloads to run, in their order."""
    others = {"none", _SERVER_ALONE, ON_SERVER} if given.peers else set()
    unknown = [name for name in given.workloads if name not in WORKLOADS and name not in others]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)} (there are: {', '.join(WORKLOADS)})")
    if given.against and (given.peers or given.plots):
        parser.error("--against compares two versions of this package: it goes with neither --peers nor --plots")
    if given.sync and (given.peers or given.against):
        parser.error("--sync is of this process, and --peers and --against run in others")
    wanted = given.workloads or (DEFAULT if given.against else GOALS if given.goals else WORKLOADS)
    return [name for name in WORKLOADS if name in wanted]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "counts":
        counts.main(arguments[1:])
        return
    parser = _parser()
    given = parser.parse_args(arguments)
    names = _names(parser, given)
    with tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=os.path.abspath(given.dir)) as path:
        if file_system(path).startswith(("tmpfs", "ramfs")):
            print("warning: this directory is in RAM, where a sync costs nothing: give --dir", file=sys.stderr)
        place = Place.quick(path) if given.quick else Place(path)
        progress = Progress()
        if given.against is None:
            _run_all(names, place, given, progress)
            return
        try:
            complete = _run_against(given.against, names, place, given, progress)
        except CannotCompareError as error:
            parser.error(f"--against: {error}")
    if not complete:
        sys.exit(1)


def _run_all(names: Iterable[str], place: Place, given: argparse.Namespace, progress: Progress) -> None:
    """Measure, and print the table."""
    # Only a whole run takes the place of the figures and plots that are published.
    published = given.peers and not given.quick and not given.workloads
    machine = environment(place.path)
    measured: list[Measured] = []
    contenders: list[Examined] = []
    on_server: list[TakingPart] = []
    if given.sync:
        machine["syncs"] = f"of files take at least {given.sync * 1_000:g} ms"
    with slow_syncs(given.sync) if given.sync else nullcontext():
        for name in names:
            measured += _run(name, WORKLOADS[name](place), progress)
    on_servers = {_SERVER_ALONE, ON_SERVER}
    if given.peers and (not given.workloads or not on_servers.issuperset(given.workloads)):
        compared, contenders = _run_peers(place, progress)
        measured += compared
    if given.peers and (not given.workloads or on_servers.intersection(given.workloads)):
        compared, on_server = _run_server_peers(place, progress)
        measured += compared
    progress.done()
    _print_machine(machine)
    if contenders:
        print(peers_table(contenders), end="\n\n")
    if on_server:
        print(server_peers_table(on_server), end="\n\n")
    print(goals_table(measured) if given.goals else table(measured))
    found = document(machine, measured, [*contenders, *on_server])
    if given.json or published:
        _write(found, given.json or _JSON)
    if given.plots or published:
        _draw(found, given.plots or _PLOTS)


if __name__ == "__main__":
    main()
