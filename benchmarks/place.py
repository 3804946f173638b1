"""Where the workloads run: a directory on the disk to be measured, and how long they may take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import session_manager

__all__ = ["Place"]

_RAM = "/dev/shm"  # noqa: S108 - for files that last as long as a measurement

#: Where the package is, and where this one is.
_SOURCES = [os.path.dirname(os.path.dirname(os.path.abspath(file))) for file in (session_manager.__file__, __file__)]


@dataclass(frozen=True)
class Place:
    """Where the workloads run.

    :param path: a directory that is theirs.
    :param share: which part of the rounds is enough.
    :param largest: no session has more messages; `None`: no limit.
    :param most: no storage has more sessions; `None`: no limit.
    """

    path: str
    share: float = 1.0
    largest: int | None = None
    most: int | None = None

    @classmethod
    def quick(cls, path: str) -> Place:
        """Return one where a run is soon over."""
        return cls(path, 0.1, 10_000, 1_000)

    def rounds(self, number: int) -> int:
        """Return how many rounds of `number` to run."""
        return max(min(number, 3 if self.share else 1), int(number * self.share))

    def count(self, number: int) -> int:
        """Return how many messages a session is to have that should have `number`."""
        return number if self.largest is None else min(number, self.largest)

    def keys(self, number: int) -> list[str]:
        """Return the keys of a storage that should have `number` sessions."""
        return [f"session-{index}" for index in range(number if self.most is None else min(number, self.most))]

    def sizes(self, numbers: Iterable[int]) -> list[int]:
        """Return those sizes of sessions that are not too large."""
        return [number for number in numbers if self.count(number) == number]

    @contextmanager
    def directory(self, *, in_ram: bool = False) -> Iterator[str]:
        """Give a new directory for a block, and remove it durably, so that later syncs do not pay for it.

        :param in_ram: where nothing waits for a disk, if this system has such a place.
        """
        path = tempfile.mkdtemp(dir=_RAM if in_ram and os.path.isdir(_RAM) else self.path)
        try:
            yield path
        finally:
            shutil.rmtree(path)
            os.sync()

    def python(self, code: str, *arguments: str) -> str:
        """Run code in a fresh process of this Python, with its bytecode cached; return what it prints."""
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env=self.environment(), check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - our own code

    def environment(self) -> dict[str, str]:
        """Return the environment of such a process."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = os.path.join(self.path, "bytecode")
        environment["PYTHONPATH"] = os.pathsep.join(_SOURCES)
        return environment
