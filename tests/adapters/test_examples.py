"""The examples of adapters are short, and start as a user starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.places import ROOT

EXAMPLES = sorted((ROOT / "examples" / "adapters").glob("*.py"))
LONGEST = 30


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_is_short(example):
    assert len(example.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_needs_no_arguments(example):
    """Without them it ended in an `IndexError`."""
    assert not re.search(r"sys\.argv\[\d+\]", example.read_text())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_starts(example, tmp_path):
    """Its directory is the first one that Python looks in: an example must not have the name of its framework."""
    for package in re.findall(r"^(?:from|import) ([\w.]+)", example.read_text(), flags=re.MULTILINE):
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    code = "import runpy, sys, os; path = sys.argv[1]; sys.path.insert(0, os.path.dirname(path)); runpy.run_path(path)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, example], cwd=tmp_path, env=environment, check=True)
