"""Crash states: every disk that a power cut may leave of a workload; `tests.faults.crashes` says what is built and checked.

More of it, with other seeds, writes that are torn at every byte, and the figures::

    python -m pytest tests/faults/test_crash_states.py --soak -s -n 0 -o timeout=7200
"""

from __future__ import annotations

import pytest

from tests.faults.crashes import Report, explore
from tests.support.sizes import Size

#: The steps of each run, and the states that it has at least; in a smoke run.
STEPS = {"snapshot": (100, 100_000), "log": (40, 40_000)}
SMOKE = {"snapshot": (16, 2_000), "log": (9, 1_000)}
SEEDS = {"snapshot": (1,), "log": (1,)}
#: The steps of each run of a soak, with this many seeds.
LONG = {"snapshot": 400, "log": 120}
LONG_SEEDS = range(100, 105)


def said(title, report):
    print(
        f"\n{title}: {report.states:,} states at {report.points:,} moments ({report.recovering:,} states of recoveries);"
        f" {report.disks:,} different disks, opened {report.openings:,} times; {report.seconds:.1f} s"
    )


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind, seeds in SEEDS.items() for seed in seeds])
def test_a_power_cut_leaves_acknowledged_saves_and_old_or_new(kind, seed, size, record_property):
    steps, least = size.of(SMOKE, STEPS, STEPS)[kind]
    report = explore(kind, seed, steps)
    said(f"{kind}, seed {seed}", report)
    record_property("states", report.states)
    record_property("disks", report.disks)
    assert report.states >= least
    assert report.recovering > size.of(100, 1000, 1000)


#: Which run is torn at every byte: its seed, its steps, and the disks that it makes at least; in a smoke run.
EVERY_BYTE = {"snapshot": (5, 14, 1000), "log": (5, 8, 1000)}
SMOKE_EVERY_BYTE = {"snapshot": (30, 8, 500), "log": (12, 3, 1000)}


@pytest.mark.parametrize("kind", EVERY_BYTE)
def test_a_write_that_is_torn_at_every_byte_of_it(kind, size, record_property):
    seed, steps, least = size.of(SMOKE_EVERY_BYTE, EVERY_BYTE, EVERY_BYTE)[kind]
    report = explore(kind, seed, steps, fine=True, only=("add", "truncate", "edit", "clear", "turn", "summarize"))
    said(f"{kind}, every byte", report)
    record_property("states", report.states)
    assert report.disks > least


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_sessions_that_are_saved_at_once_are_each_old_or_new(kind, size, record_property):
    report = explore(kind, 3, size.of(4, 30, 30), only=("burst", "error", "kill", "power cut", "reopen"))
    said(f"{kind}, bursts", report)
    record_property("states", report.states)
    assert report.states > size.of(100, 10_000, 10_000)
    assert report.recovering > size.of(10, 1000, 1000)


def test_a_million_states_and_more(size):
    if size < Size.SOAK:
        pytest.skip("a soak: --soak")
    total = Report()
    for kind, steps in LONG.items():
        for seed in LONG_SEEDS:
            report = explore(kind, seed, steps)
            said(f"{kind}, seed {seed}", report)
            total.add(report)
        report = explore(kind, 200, 25, fine=True)
        said(f"{kind}, every byte, seed 200", report)
        total.add(report)
    said("all", total)
    assert total.states > 2_500_000
