"""Where the workloads run: a directory on the disk to be measured, and how long they may take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import session_manager

__all__ = ["Place"]

_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(session_manager.__file__)))


@dataclass(frozen=True)
class Place:
    """Where the workloads run.

    :param path: a directory that is theirs.
    :param quick: whether a tenth of the rounds is enough.
    """

    path: str
    quick: bool = False

    def rounds(self, number: int) -> int:
        """Return how many rounds of `number` to run."""
        return max(3, number // 10) if self.quick else number

    @contextmanager
    def directory(self) -> Iterator[str]:
        """Give a new directory for a block, and remove it durably, so that later syncs do not pay for it."""
        path = tempfile.mkdtemp(dir=self.path)
        try:
            yield path
        finally:
            shutil.rmtree(path)
            os.sync()

    def python(self, code: str, *arguments: str) -> str:
        """Run code in a fresh process of this Python, with its bytecode cached; return what it prints."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = os.path.join(self.path, "bytecode")
        environment["PYTHONPATH"] = _SOURCE
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - our own code
