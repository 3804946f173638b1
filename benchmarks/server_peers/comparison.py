"""The comparison: what a turn of two messages costs each contender, on one server, in conversations of several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from benchmarks.harness import Case, Figure
from benchmarks.place import Place
from benchmarks.server import Server
from benchmarks.server_peers.worker import CONTENDERS, Worker

__all__ = ["WORKLOAD", "TakingPart", "compare_turns", "examine_on"]

#: What the table and the plot call it.
WORKLOAD = "postgres"
_FLOOR = "INSERT and COMMIT"
#: Messages, and rounds of a turn.
_SIZES = {10: 60, 100: 60, 1_000: 30, 10_000: 5}
_FEW = 4


@dataclass(frozen=True)
class TakingPart:
    """A contender as it is on this machine."""

    name: str
    package: str
    #: ``""`` for this package itself.
    version: str
    does: str
    #: Why it does not take part; ``""`` if it does.
    missing: str = ""
    #: All of them write to one server, which syncs before it acknowledges a commit.
    durable: bool = True


def examine_on(server: Server, name: str, place: Place) -> TakingPart:
    """Try a contender out: whether it is installed, and keeps what it is given."""
    kind = CONTENDERS[name]
    found = ""
    try:
        found = version(kind.package) if kind.package else ""
        with server.database("tried") as url:
            worker = Worker(name, url, place.environment())
            try:
                worker.ask("prepare", _FEW)
                worker.ask("turn")
                count = worker.ask("count")
            finally:
                worker.close()
    except PackageNotFoundError:
        return TakingPart(name, kind.package, "", kind.does, f"{kind.package} is not installed")
    except RuntimeError as error:
        return TakingPart(name, kind.package, found, kind.does, f"does not run: {error}")
    missing = "" if count == _FEW + 4 else f"keeps {count:g} messages of {_FEW + 4}"
    return TakingPart(name, kind.package, found, kind.does, missing)


def compare_turns(server: Server, place: Place, contenders: Sequence[TakingPart]) -> Iterator[Case]:
    """Take turns in conversations of 10, 100, 1,000 and 10,000 messages; missing contenders do not take part."""
    with ExitStack() as stack:
        workers = []
        for number, one in enumerate(contenders):
            if not one.missing:
                url = stack.enter_context(server.database(f"contender_{number}"))
                worker = Worker(one.name, url, place.environment())
                stack.callback(worker.close)
                workers.append(worker)
        for count in place.sizes(_SIZES):
            for worker in workers:
                worker.ask("prepare", count)
            server.run("CHECKPOINT")
            figures = [
                Figure(f"a turn at {count:,}: {worker.name}", worker.name, _FLOOR)
                for worker in workers
                if worker.name != _FLOOR
            ]
            contestants = {worker.name: lambda w=worker: [w.ask("turn")] for worker in workers}
            yield Case(f"a turn at {count:,}", contestants, figures, place.rounds(_SIZES[count]))
