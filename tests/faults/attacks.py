"""An attack in a process of its own, and what it has seen."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.places import ROOT


def attack(module: str, *before: str, **arguments: Any) -> Any:
    """Run `tests.faults.<module>` behind the command `before`, and return what it has seen."""
    command = [*before, sys.executable, "-W", "error", "-m", f"tests.faults.{module}", json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if before and before[0] in done.stderr:
        pytest.skip(f"{before[0]} is not allowed here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
