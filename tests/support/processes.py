"""Python processes that run some code."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

from tests.support.prepared import Forked

DEADLINE = 60

#: If this is in the environment, as it is with ``--faults``, each process is a fresh interpreter.
FRESH = "SESSION_MANAGER_TEST_FRESH"


def python(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Start ``python -W error`` with some arguments, or, which is quicker, a fork of a process that has imported the library.

    A test needs `interpreter` instead if it asks what is imported, or in which order, or what happens at the interpreter's end.

    :param words: ``-c CODE``, ``-m MODULE`` or a script, and then the arguments of that program.
    :param options: such as ``stdin``, ``stdout``, ``stderr``, ``text``, ``cwd`` and ``env`` of `subprocess.Popen`.
    """
    if FRESH in os.environ or not hasattr(os, "fork"):
        return interpreter(*words, **options)
    return Forked([*map(str, words)], **options)


def interpreter(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Start ``python -W error`` with some arguments."""
    return subprocess.Popen([sys.executable, "-W", "error", *map(str, words)], **options)


def run_python(
    *words: object, input: str | None = None, timeout: float | None = DEADLINE, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run such a process to its end, and return its exit code and what it printed."""
    typed = None if input is None else subprocess.PIPE
    pipes = {"stdin": typed, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with python(*words, **{**pipes, **options}) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess([*words], process.returncode, out, err)


def start(code, *arguments):
    """Start a process that runs some code, and whose standard output the test reads."""
    return python("-c", textwrap.dedent(code), *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
