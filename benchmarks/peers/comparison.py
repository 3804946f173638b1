"""The comparison: what one more message costs each contender, opening its conversation anew, and its bytes of disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.harness import Case, Contestant, Figure, Measured, Target, Unit
from benchmarks.peers.durability import Examined
from benchmarks.peers.worker import Worker
from benchmarks.place import Place

__all__ = ["against_peers", "compare"]

_FLOOR, _LOG, _SNAPSHOT = "write and sync", "session_manager log", "session_manager snapshot"

#: Messages, and rounds of adding one.
_SIZES = {10: 40, 100: 40, 1_000: 30, 10_000: 5}
_READS = 5
_COMPARED = 1_000
_LOG_TARGET = Target(1 / 2.5)
_SNAPSHOT_TARGET = Target(1 / 3.5)


def compare(place: Place, contenders: Sequence[Examined]) -> Iterator[Case]:
    """Add a message to 10, 100, 1,000 and 10,000, and read 1,000 or more again; the missing ones do not take part."""
    with place.directory() as path, ExitStack() as stack:
        workers = []
        for number, one in enumerate(contenders):
            if not one.missing:
                directory = os.path.join(path, str(number))
                os.mkdir(directory)
                worker = Worker(one.name, directory, place.environment())
                stack.callback(worker.close)
                workers.append(worker)
        weak = {one.name for one in contenders if not one.durable}
        for count in place.sizes(_SIZES):
            for worker in workers:
                worker.ask("prepare", count)
            os.sync()
            yield _case(f"1 of {count:,}", "add", workers, weak, place.rounds(_SIZES[count]))
            if count >= _COMPARED:
                yield _case(f"open, read {count:,}", "read", workers, set(), place.rounds(_READS))
            if count == _COMPARED:
                yield _case("disk of a message", "size", workers, set(), 1, unit="bytes")


def _case(what: str, call: str, workers: Sequence[Worker], weak: set[str], rounds: int, unit: Unit = "seconds") -> Case:
    """Return the case of a call, in which those who are not durable are marked."""
    contestants: dict[str, Contestant] = {worker.name: lambda w=worker: [w.ask(call)] for worker in workers}
    figures = [
        Figure(f"{what}: {name}{', not durable' if name in weak else ''}", name, _FLOOR, unit=unit)
        for name in contestants
        if name != _FLOOR
    ]
    return Case(what, contestants, figures, rounds, warm_up=call == "add")


def against_peers(measured: Sequence[Measured], contenders: Sequence[Examined]) -> list[Measured]:
    """Compare with the peers at equal durability: the log with the fastest, the snapshot with each other whole-file writer."""
    what = f"1 of {_COMPARED:,}"
    found = {one.figure.subject: one for one in measured if one.case == what}
    peers = [one for one in contenders if one.package and one.durable and one.name in found]
    if not peers:
        return []
    fastest = min(peers, key=lambda one: found[one.name].subject.median)
    pairs = [(_LOG, fastest, _LOG_TARGET), *((_SNAPSHOT, one, _SNAPSHOT_TARGET) for one in peers if one.whole_file)]
    return [
        Measured(
            "peers",
            f"{what}, equal durability",
            Figure(f"{what}: {ours.partition(' ')[2]} against {peer.name}", ours, peer.name, target),
            found[ours].subject,
            found[peer.name].subject,
        )
        for ours, peer, target in pairs
    ]
