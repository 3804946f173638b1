"""An attack in a process of its own, and what it has seen."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.places import ROOT
from tests.support.processes import run_python


def attack(module: str, *before: str, **arguments: Any) -> Any:
    """Run `tests.faults.<module>` behind the command `before`, and return what it has seen."""
    words = ["-m", f"tests.faults.{module}", json.dumps(arguments)]
    if before:
        command = [*before, sys.executable, "-W", "error", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if before[0] in done.stderr:
            pytest.skip(f"{before[0]} is not allowed here: {done.stderr}")
    else:
        done = run_python(*words, cwd=ROOT, timeout=None)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
