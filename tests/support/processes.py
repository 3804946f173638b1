"""Python processes that run some code."""

from __future__ import annotations

import subprocess
import sys
import textwrap

DEADLINE = 60


def start(code, *arguments):
    """Start a Python process that runs some code, and whose standard output the test reads."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
