"""Python processes that run some code."""

from __future__ import annotations

import subprocess
import sys
import textwrap

DEADLINE = 60


def start(code, *arguments):
    """Start a Python process that runs some code; it says what it has to say on its standard output."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
