"""What a turn on a PostgreSQL server costs, and what a fleet needs by that: ``python -m benchmarks.fleet``.

Turns are measured on a server that is started for it, by the processor time of the worker and of all of the server's processes, by the
server's write-ahead log, and by its tables. Processor time hardly depends on what else the machine does. The rest is arithmetic.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence

import attrs

from benchmarks.material import texts
from benchmarks.server import NoServerError, Server, serving
from session_manager import SessionManager

__all__ = ["Cost", "Fleet", "main", "measure_turns", "needs"]

_RECENT = 20


@attrs.frozen
class Cost:
    """What was measured: seconds of a processor, and bytes."""

    turns: int
    worker: float
    server: float
    #: Of a turn, if its pages were written since the last checkpoint.
    wal: float
    #: Of a turn that is its session's first behind a checkpoint: whole pages are in it.
    wal_first: float
    #: Of a message, with its share of everything else; and with the index for search.
    disk: float
    disk_searched: float
    #: Of a message in the worker's RAM.
    memory: float


@attrs.frozen
class Fleet:
    """What a fleet is to carry, and of what it is made."""

    sessions: int = 10_000_000
    messages: int = 100
    #: Turns a second.
    rate: float = 10_000
    #: How long an active chat rests between two turns, in seconds: so many sessions are worth being in RAM.
    rest: float = 60
    #: The time between two checkpoints, in seconds: PostgreSQL's default.
    checkpoints: float = 300
    #: The processors of a server, and how busy they may be: the rest is for peaks, vacuum, backups and failures.
    cores: int = 8
    busy: float = 0.5
    #: How many bytes of sessions a server may hold.
    disk: float = 500e9

    @property
    def share(self) -> float:
        """Which part of the sessions has a turn between two checkpoints."""
        return min(1.0, self.rate * self.checkpoints / self.sessions)


def measure_turns(server: Server, *, sessions: int, messages: int, length: int, share: float) -> Cost:
    """Measure turns of two messages, in sessions that grow to so many messages by them.

    :param server: one whose processes run here.
    :param length: of a message's text, in characters.
    :param share: of the sessions that have a turn between two checkpoints.
    :raises NoServerError: if the server's processes are elsewhere.
    """
    _processor_time(server.pid)
    keys = [f"session-{number}" for number in range(sessions)]
    rounds = messages // 2
    source = texts(length)
    url = server.url
    with SessionManager(url) as manager:
        for number in range(rounds // 2):
            _take_turns(manager, keys, number, source)
        server.run("CHECKPOINT")
        first, few = _wal(server), keys[:: max(1, round(1 / share))]
        _take_turns(manager, few, rounds // 2, source)
        first = _wal(server) - first
        _take_turns(manager, [key for key in keys if key not in few], rounds // 2, source)
        wal, started, ran = _wal(server), time.process_time(), _processor_time(server.pid)
        later = range(rounds // 2 + 1, rounds)
        for number in later:
            _take_turns(manager, keys, number, source)
        turns = len(later) * sessions
        worker, ran_since = time.process_time() - started, _processor_time(server.pid) - ran
        wal_since = _wal(server) - wal
    count = sessions * rounds * 2
    disk = _size(server)
    with SessionManager(url) as manager:
        memory = _weigh(manager, keys)
        manager.search("none of this is there")
    return Cost(
        turns,
        worker / turns,
        ran_since / turns,
        wal_since / turns,
        first / len(few),
        disk / count,
        _size(server) / count,
        memory / count,
    )


def _take_turns(manager: SessionManager, keys: Sequence[str], number: int, source: Iterator[str]) -> None:
    """Take one turn in each session."""
    for key in keys:
        with manager.turn(key, ref=f"delivery:{number}") as turn:
            turn.get_context(max_messages=_RECENT)
            turn.add_message("user", next(source))
            turn.add_message("assistant", next(source))


def _weigh(manager: SessionManager, keys: Sequence[str]) -> int:
    """Return how many bytes some sessions take in RAM, all of them read."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for key in keys:
        manager.get_history(key)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken


def _wal(server: Server) -> int:
    """Return how many bytes of write-ahead log there were so far."""
    ((found,),) = server.run("SELECT pg_current_wal_insert_lsn() - '0/0'")
    return int(str(found))


def _size(server: Server) -> int:
    """Return how many bytes all tables and indexes take, without rows that are dead."""
    server.run("VACUUM FULL")
    ((found,),) = server.run(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'session_manager'::regnamespace"
    )
    return int(str(found))


def _processor_time(pid: int | None) -> float:
    """Return the processor time of a server's processes, those that have ended included, in seconds."""
    if pid is None:
        raise NoServerError("its processes are not here: give no URL")
    ticks = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # utime and stime; of the first process, also those of the ones that it has waited for (proc(5))
        if int(name) == pid:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == pid:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def needs(cost: Cost, fleet: Fleet) -> dict[str, str]:
    """Return what a fleet needs, by its names."""
    count = fleet.sessions * fleet.messages
    cores = fleet.rate * cost.server
    by_processor = math.ceil(cores / (fleet.cores * fleet.busy))
    by_disk = math.ceil(count * cost.disk_searched / fleet.disk)
    shards = max(by_processor, by_disk)
    workers = fleet.rate * cost.worker
    active = min(fleet.rate * fleet.rest, fleet.sessions)
    return {
        "disk": f"{_bytes(count * cost.disk)}, with the index for search {_bytes(count * cost.disk_searched)}",
        "WAL": f"{_bytes(fleet.rate * cost.wal_first)}/s with a checkpoint every {fleet.checkpoints:.0f} s; "
        f"{_bytes(fleet.rate * cost.wal)}/s is the least",
        "the servers' processors": f"{cores:.1f} cores: {by_processor} servers of {fleet.cores} cores, {fleet.busy:.0%} busy",
        "the servers' disks": f"{by_disk} servers of {_bytes(fleet.disk)}",
        "shards": f"{shards}, each {fleet.rate / shards:,.0f} turns/s, {_bytes(count * cost.disk_searched / shards)}, "
        f"{_bytes(fleet.rate * cost.wal_first / shards)}/s of WAL",
        "workers": f"{workers:.1f} cores: {math.ceil(workers / fleet.busy)} processes, {fleet.busy:.0%} busy",
        "the workers' RAM": f"{_bytes(active * fleet.messages * cost.memory)} for {active:,.0f} active sessions",
    }


def _setting(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ValueError(text)
    return name, value


def _told(cost: Cost) -> dict[str, str]:
    return {
        "a worker's processor": f"{cost.worker * 1e6:,.0f} µs a turn",
        "the server's processor": f"{cost.server * 1e6:,.0f} µs a turn",
        "WAL": f"{_bytes(cost.wal)} a turn; {_bytes(cost.wal_first)} a session's first one behind a checkpoint",
        "disk": f"{cost.disk:,.0f} B a message, with the index for search {cost.disk_searched:,.0f} B",
        "a worker's RAM": f"{cost.memory:,.0f} B a message",
    }


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: print what was measured, and what the fleet needs."""
    default = Fleet()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet", description="Measure turns on PostgreSQL, and say what a fleet needs."
    )
    parser.add_argument("--dir", default=".", help="where to put the server's files (default: here)")
    parser.add_argument("--measured", type=int, default=200, help="how many sessions are measured (default: 200)")
    parser.add_argument("--length", type=int, default=200, help="of a message's text, in characters (default: 200)")
    parser.add_argument("--sessions", type=int, default=default.sessions, help="of the fleet (default: 10,000,000)")
    parser.add_argument("--messages", type=int, default=default.messages, help="of a session (default: 100)")
    parser.add_argument("--rate", type=float, default=default.rate, help="turns a second (default: 10,000)")
    parser.add_argument(
        "--rest", type=float, default=default.rest, help="between an active chat's turns (default: 60 s)"
    )
    parser.add_argument("--cores", type=int, default=default.cores, help="of a server (default: 8)")
    parser.add_argument("--disk", type=float, default=default.disk / 1e9, help="of a server, in GB (default: 500)")
    parser.add_argument(
        "--set", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="of the server, as in its file"
    )
    given = parser.parse_args(arguments)
    fleet = Fleet(
        sessions=given.sessions,
        messages=given.messages,
        rate=given.rate,
        rest=given.rest,
        cores=given.cores,
        disk=given.disk * 1e9,
    )
    with tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=os.path.abspath(given.dir)) as directory:
        try:
            with serving(directory, **dict(given.set)) as server:
                cost = measure_turns(
                    server,
                    sessions=given.measured,
                    messages=given.messages,
                    length=given.length,
                    share=fleet.share,
                )
        except NoServerError as error:
            sys.exit(f"no PostgreSQL: {error}")
    print(f"{cost.turns:,} turns of two messages of {given.length} characters, in {given.measured} sessions:")
    _print(_told(cost))
    print(f"\n{fleet.sessions:,} sessions of {fleet.messages} messages, {fleet.rate:,.0f} turns a second:")
    _print(needs(cost, fleet))


def _print(told: dict[str, str]) -> None:
    width = max(map(len, told))
    for name, text in told.items():
        print(f"  {name:<{width}}  {text}")


if __name__ == "__main__":
    main()
