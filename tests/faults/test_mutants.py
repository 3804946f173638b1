"""Negative controls: each mistake in `tests.faults.mutants` is noticed by the check that is there for it.

Each in `tests.faults.seeded` fails the test that is there for it, in a process of its own.

The table, and in a soak each mistake against each check::

    python -m pytest tests/faults/test_mutants.py --soak -s -n 0 -o timeout=7200
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings

import pytest

from session_manager import SessionManagerError
from tests.faults.checks import CHECKS
from tests.faults.mutants import MUTANTS, applied
from tests.faults.seeded import SEEDED
from tests.support.places import ROOT
from tests.support.sizes import Size

#: What a check that notices something raises: not an error of the mistake itself, such as a wrong name.
NOTICES = (AssertionError, SessionManagerError, UnicodeError, OSError, IndexError, pytest.fail.Exception)


def test_there_are_enough_of_them():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
    assert {mutant.caught_by for mutant in MUTANTS} <= set(CHECKS)
    assert len({mutant.name for mutant in SEEDED}) == len(SEEDED) >= 56


@pytest.mark.parametrize("mutant", [*MUTANTS, *SEEDED], ids=lambda mutant: mutant.name)
def test_each_mistake_can_still_be_made(mutant):
    with applied(mutant):
        pass


@pytest.mark.parametrize("name", CHECKS)
def test_without_a_mistake_each_check_passes(name, tmp_path, size):
    if size < Size.SOAK and name.startswith(("crash states", "every call")):
        pytest.skip("longer ones of these run elsewhere; these in a soak")
    CHECKS[name](tmp_path)


def noticed(mutant, name, path):
    """Return how a check notices a mistake; `None` if it does not."""
    path.mkdir()
    how = None
    with applied(mutant), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a check leaves open that was cut short
        try:
            CHECKS[name](path)
        except NOTICES as error:
            how = type(error).__name__
        gc.collect()
    return how


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_is_noticed(mutant, tmp_path, size):
    how = noticed(mutant, mutant.caught_by, tmp_path / "check")
    assert how is not None, f"{mutant.name}: nobody noticed"
    others = [
        name
        for name in CHECKS
        if size == Size.SOAK and name != mutant.caught_by and noticed(mutant, name, tmp_path / name)
    ]
    print(f"\n| {mutant.name} | {', '.join([mutant.caught_by, *others])} | {how} |")


@pytest.mark.long
@pytest.mark.parametrize("mutant", SEEDED, ids=lambda mutant: mutant.name)
def test_a_seeded_mistake_fails_the_test_of_what_it_breaks(mutant):
    options = ("-n0", "-x", "-q", "--faults", "-p", "no:cacheprovider", "-p", "tests.faults.mutated")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, mutant.caught_by],
        cwd=ROOT,
        env={"HYPOTHESIS_PROFILE": "many", **os.environ, "MUTANT": mutant.name},
        capture_output=True,
        text=True,
    )
    said = f"{mutant.name}: nobody noticed\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert (done.returncode, "1 failed" in done.stdout) == (pytest.ExitCode.TESTS_FAILED, True), said
