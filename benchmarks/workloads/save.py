"""Saving one new message, in sessions of several sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from session_manager import SessionManager

__all__ = ["bare_replace", "save"]

_SIZES = {10: 400, 100: 400, 1_000: 200, 10_000: 100}
_PIECE = 64 * 1024


def save(place: Place) -> Iterator[Case]:
    """Save one new message of 1 KB in a snapshot of 10 to 10,000, against the bare system calls."""
    for count, rounds in _SIZES.items():
        with place.directory() as path, SessionManager(os.path.join(path, "chats")) as manager:
            contest = _Contest(manager, path, count)
            figure = Figure(f"1 of {count:,} messages", "save", "system calls", Target(1.3, "ratio"))
            contestants = {"save": contest.save, "system calls": contest.system_calls}
            yield Case(figure.name, contestants, [figure], place.rounds(rounds))
            contest.close()


def bare_replace(directory: int, name: str, buffers: list[bytes]) -> None:
    """Replace a file durably, by the system calls that this takes and nothing else."""
    fd = os.open(".floor", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    left = sum(map(len, buffers)) - os.writev(fd, buffers)
    os.fsync(fd)
    os.close(fd)
    os.replace(".floor", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
    if left:
        raise OSError(f"{left} bytes were not written")


class _Contest:
    """A session whose saves, and the same bytes whose bare replacements, are measured.

    :param count: how many messages the session has. When it is 1 % longer, a new one takes its place.
    """

    def __init__(self, manager: SessionManager, path: str, count: int) -> None:
        self._manager = manager
        self._path = path
        self._count = count
        self._texts = texts()
        self._sessions = 0
        self._left = 0
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._buffers: list[bytes] = []

    def save(self) -> list[float]:
        """Add a message and measure its save."""
        if not self._left:
            self._renew()
        self._left -= 1
        fill(self._manager, self._key, 1, self._texts)
        seconds = timed(lambda: self._manager.save(self._key))
        self._follow()
        return [seconds]

    def system_calls(self) -> list[float]:
        """Measure writing the bytes of the last save."""
        return [timed(lambda: bare_replace(self._directory, "floor", self._buffers))]

    def close(self) -> None:
        """Close what is open."""
        os.close(self._directory)

    @property
    def _key(self) -> str:
        return f"session-{self._sessions}"

    def _renew(self) -> None:
        self._manager.delete(self._key)
        self._sessions += 1
        self._left = max(1, self._count // 100)
        self._buffers = []
        fill(self._manager, self._key, self._count - 1, self._texts)
        self._manager.save(self._key)

    def _follow(self) -> None:
        """Let the buffers be as long as the file is now."""
        with open(os.path.join(self._path, "chats", f"{self._key}.session.json"), "rb") as file:
            file.seek(sum(map(len, self._buffers)))
            while piece := file.read(_PIECE):
                self._buffers.append(piece)
