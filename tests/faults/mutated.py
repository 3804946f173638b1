"""A pytest plugin that makes a mistake of `tests.faults.seeded` before the first test is collected.

The mistake's name is in the environment: ``MUTANT="…" python -m pytest -p tests.faults.mutated tests/test_x.py``.
"""

from __future__ import annotations

import os

import pytest

from tests.faults.seeded import SEEDED


def pytest_configure(config):
    (mutant,) = [one for one in SEEDED if one.name == os.environ["MUTANT"]]
    patched = pytest.MonkeyPatch()
    config.add_cleanup(patched.undo)
    mutant.apply(patched)
