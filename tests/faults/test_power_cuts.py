"""The power fails: file systems in images, shut down in the middle of saves. What was acknowledged before is there after."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.faults.attacks import attack

pytestmark = pytest.mark.once

TYPES = ("ext4", "xfs")
CUTS, LONG, SOAK = (4, 12, 12), 100, 400
#: How many cuts it may take until a mistake is seen.
PATIENCE = 200


def cut_power(module="power", **arguments):
    """Run a module of attacks with mounts that end with it, and return what it has seen."""
    kind = arguments["type"]
    if not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("only root may mount a file system in an image")
    for tool in ("unshare", f"mkfs.{kind}"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    seen = attack(module, "unshare", "-m", **arguments)
    if "impossible" in seen:
        pytest.skip(f"no mounts here: {seen['impossible']}")
    return seen


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("cuts", [pytest.param(CUTS, id="few"), pytest.param(LONG, id="many", marks=pytest.mark.long)])
def test_a_power_cut_loses_nothing_that_was_acknowledged(kind, cuts, tmp_path, size, record_property):
    cuts = size.of(*cuts) if cuts == CUTS else size.of(LONG, LONG, SOAK)
    seen = cut_power(type=kind, path=str(tmp_path), seed=1, cuts=cuts)
    record_property("seen", seen)
    print(f"{kind}: {seen}")
    assert seen["wrong"] == ""
    assert seen["kills"] == cuts
    assert seen["opened"] > cuts
    assert seen["acknowledged"] > 3 * cuts
    assert seen["under_way"] > size.of(0, cuts // 2, cuts // 2), "hardly any cut hit a save"


@pytest.mark.parametrize(
    ("kind", "store", "mutant"),
    [
        ("ext4", "snapshot", "no sync"),
        ("ext4", "log", "no sync of the directory"),
        ("xfs", "log", "no sync"),
        ("xfs", "snapshot", "no sync of the directory"),
    ],
)
def test_a_sync_that_is_left_out_is_noticed(kind, store, mutant, tmp_path):
    seen = cut_power(type=kind, path=str(tmp_path), seed=1, cuts=PATIENCE, mutant=mutant, kind=store)
    assert seen["wrong"] != "", f"{seen['kills']} cuts, and nothing was noticed"
    print(f"{kind} {store} {mutant}: noticed at cut {seen['kills']}")
    assert "was durable" in seen["wrong"] or "CorruptSessionError" in seen["wrong"], seen["wrong"]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", TYPES)
def test_a_power_cut_in_a_restore_leaves_the_old_or_the_new(kind, tmp_path, size, record_property):
    cuts = size.of(3, 12, 200)
    seen = cut_power("restores", type=kind, path=str(tmp_path), seed=1, cuts=cuts)
    record_property("seen", seen)
    print(f"{kind}: {seen}")
    assert seen["wrong"] == ""
    assert seen["cuts"] == cuts
    assert seen["new"] + seen["old"] == 3 * cuts
    assert min(seen["new"], seen["old"]) > size.of(-1, 0, 0), "no cut hit a restore"
