"""The arithmetic of a fleet, and what it is computed from."""

from __future__ import annotations

import os

import pytest

from benchmarks.fleet import Cost, Fleet, main, measure_turns, needs
from benchmarks.server import NoServerError, Server
from tests.support.postgres import needs_driver

pytestmark = pytest.mark.once

COST = Cost(1, worker=0.001, server=0.0005, wal=2e3, wal_first=4e3, disk=500, disk_searched=1000, memory=1e3)


def test_what_a_fleet_needs_follows_from_the_cost_of_a_turn():
    """All by hand: 1,000 turns a second of half a millisecond are half a processor, and so on."""
    one = Fleet(sessions=1_000, messages=10, rate=1_000, rest=0.5, cores=1, busy=0.5, disk=4e6)
    assert needs(COST, one) == {
        "disk": "5 MB, with the index for search 10 MB",
        "WAL": "4 MB/s with a checkpoint every 300 s; 2 MB/s is the least",
        "the servers' processors": "0.5 cores: 1 servers of 1 cores, 50% busy",
        "the servers' disks": "3 servers of 4 MB",
        "shards": "3, each 333 turns/s, 3.33 MB, 1.33 MB/s of WAL",
        "workers": "1.0 cores: 2 processes, 50% busy",
        "the workers' RAM": "5 MB for 500 active sessions",
    }


def test_which_sessions_have_a_turn_between_two_checkpoints():
    assert Fleet(sessions=1_000, rate=1, checkpoints=250).share == 0.25
    assert Fleet(sessions=10, rate=1_000).share == 1


@pytest.mark.long
def test_turns_are_measured_on_a_server_of_its_own(server_path, capsys, monkeypatch):
    """Whole pages make a session's first turn behind a checkpoint dearer, and the index for search takes room."""
    found = []

    def measure(*arguments, **named):
        found.append(measure_turns(*arguments, **named))
        return found[-1]

    monkeypatch.setattr("benchmarks.fleet.measure_turns", measure)
    main(["--measured=12", "--messages=20", "--sessions=1000", "--set=wal_compression=on", f"--dir={server_path}"])
    (cost,) = found
    assert cost.turns == 12 * 4
    assert cost.worker > 0 < cost.memory
    assert 1000 < cost.wal < cost.wal_first
    assert 200 < cost.disk < cost.disk_searched
    assert "1,000 sessions of 20 messages, 10,000 turns a second:\n" in capsys.readouterr().out
    assert os.listdir(server_path) == []


def test_a_server_elsewhere_tells_no_processor_time():
    needs_driver()
    with pytest.raises(NoServerError, match="its processes are not here"):
        measure_turns(Server("postgresql://127.0.0.1:1/none"), sessions=1, messages=2, length=9, share=1)


@pytest.mark.parametrize("option", ["--set=fsync", "--measured=x"])
def test_an_impossible_option_is_refused(option):
    with pytest.raises(SystemExit):
        main([option])
