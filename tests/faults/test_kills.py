"""`kill -9` at any moment, thousands of times, recovery after recovery, and what was acknowledged is there."""

from __future__ import annotations

import os

import pytest

from tests.faults.arena import TearingFiles
from tests.faults.attacks import attack
from tests.faults.worker import WEIGHTS, Place
from tests.support.sizes import Size

KINDS = ("snapshot", "log", "sqlite")
SEEDS = (1, pytest.param(2, marks=pytest.mark.faults))
#: For each kind and seed.
KILLS = (10, 340, 1700)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(kind, seed, tmp_path, size, record_property):
    kills = size.of(*KILLS)
    seen = attack("arena", kind=kind, path=str(tmp_path), seed=seed, kills=kills)
    record_property("seen", seen)
    print(f"{kind} {seed}: {seen}")
    assert seen["wrong"] == ""
    assert seen["kills"] == kills
    assert seen["opened"] > kills // 2
    assert seen["acknowledged"] > kills // 2
    if size == Size.SMOKE:  # too few to count on what is rare
        return
    assert seen["under_way"] > kills // 20, "hardly any kill hit a save"
    assert seen["ahead"] > 0, "nobody was killed between a save and its acknowledgement"
    assert kind == "sqlite" or seen["torn"] > 0, "no kill hit a write"
    assert set(WEIGHTS) - set(seen["calls"]) == {"save", "deliver", "compact", "look"}, (
        "what changes nothing is not counted"
    )


@pytest.mark.parametrize(
    ("kind", "mutant"),
    [
        ("log", "early"),
        *(pytest.param(kind, "early", marks=pytest.mark.faults) for kind in ("snapshot", "sqlite")),
        ("snapshot", "torn"),
    ],
)
def test_the_observer_notices_what_is_wrong(kind, mutant, tmp_path):
    """Acknowledgements that come when a save begins, and files that are replaced piece by piece."""
    seen = attack("arena", kind=kind, path=str(tmp_path), seed=1, kills=2000, mutant=mutant)
    assert seen["wrong"] != "", f"{seen['kills']} kills, and nothing was noticed"
    print(f"{kind} {mutant}: noticed at kill {seen['kills']}")
    expected = {"early": "was durable", "torn": "CorruptSessionError"}
    assert expected[mutant] in seen["wrong"]


def test_files_that_tear_are_whole_when_nobody_is_killed(tmp_path):
    """An archive that a recovery had replaced was taken for another program's at the append: a wrong reason to notice."""
    place = Place("snapshot", str(tmp_path), files=TearingFiles)
    with place.opened(archive=True) as m:
        m.add("k", *({"role": "user", "content": str(number)} for number in range(6)))
        m.truncate_history("k", 4)
    (archive,) = tmp_path.rglob("*.archive.jsonl")
    with open(archive, "ab") as file:
        file.write(b"{")  # of a save that was killed
    with place.opened(archive=True) as m:
        m.truncate_history("k", 2)
        m.save("k")
        assert m.verify() == []
        assert [message.content for message in m.get_archive("k")] == list("0123")
