"""Processes that have a storage open, as far as the system tells, without taking a lock: that could stop a bot that starts right now.

Linux lists all locks in ``/proc/locks`` (https://man7.org/linux/man-pages/man5/proc_locks.5.html): that of a directory's writer,
and the shared lock on the ``-shm`` of a database, which each connection holds (https://www.sqlite.org/walformat.html, 2.1).
Elsewhere, and where a file system numbers its files otherwise, the name counts that a directory's writer leaves in ``.holder``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from session_manager.as_dict import AsDict
from session_manager.errors import StorageError
from session_manager.stores.files.directory_lock import is_gone, read_holder
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.kinds import LOCK

__all__ = ["Holder", "holder_of_database", "holder_of_directory"]

_LOCKS = "/proc/locks"
_LINE = re.compile(r"[0-9]+: (?:FLOCK|POSIX|OFDLCK) .* ([0-9]+) ([0-9a-f]+):([0-9a-f]+):([0-9]+) \S+ \S+")
#: How much later than its name says a process may have started: the clocks tick in hundredths.
_TICK = timedelta(seconds=1)


@attrs.frozen(kw_only=True)
class Holder(AsDict):
    """A process that has a storage open."""

    #: Its number; `None` if it cannot be told.
    pid: int | None = None
    #: Its host.
    host: str | None = None
    #: When it opened the storage: aware, UTC; `None` of a database.
    since: datetime | None = None
    #: Whether it runs: `False` of a process that was killed and has left its name; `None` of one on another host.
    alive: bool | None = None
    #: Of a database, the numbers of further processes that have it open.
    others: tuple[int, ...] = ()


def holder_of_directory(path: str) -> Holder | None:
    """Return the process that has a directory open for writing, or was killed while it had; `None` if there is none.

    :raises StorageError: if the directory cannot be read.
    """
    try:
        files = Files(path)
        try:
            named, status = read_holder(files), files.stat(LOCK)
        finally:
            files.close_directory()
    except OSError as error:
        raise StorageError(path, f"cannot be read: {error.strerror}") from error
    pids = [] if status is None else _locking(status)
    pid, host = named.get("pid"), named.get("host")
    if pids and pid not in pids:
        return Holder(pid=pids[0], host=platform.node(), alive=True)
    if not isinstance(pid, int) or not isinstance(host, str):
        return None
    since = _time(named.get("started"))
    return Holder(pid=pid, host=host, since=since, alive=True if pids else _runs(pid, host, since))


def holder_of_database(path: str) -> Holder | None:
    """Return a process that has a database open, this one included; `None` if there is none.

    :raises StorageError: if this system does not tell.
    """
    if not os.path.exists(_LOCKS):
        raise StorageError(path, "this system does not tell who has a database open")
    try:
        pids = _locking(os.stat(f"{path}-shm"))
    except OSError:
        return None
    return Holder(pid=pids[0], host=platform.node(), alive=True, others=tuple(pids[1:])) if pids else None


def _locking(status: os.stat_result) -> list[int]:
    """Return the processes with a lock on a file, sorted; none where the system does not tell."""
    place = os.major(status.st_dev), os.minor(status.st_dev), status.st_ino
    found: set[int] = set()
    with contextlib.suppress(OSError), open(_LOCKS, encoding="ascii", errors="replace") as file:
        found.update(_pids(file, place))
    return sorted(found - {0})  # a process of another namespace


def _pids(lines: Iterable[str], place: tuple[int, int, int]) -> Iterator[int]:
    for line in lines:
        match = _LINE.match(line)
        if match is not None and (int(match[2], 16), int(match[3], 16), int(match[4])) == place:
            yield int(match[1])


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if found.tzinfo is None else found.astimezone(timezone.utc)


def _runs(pid: int, host: str, since: datetime | None) -> bool | None:
    """Say whether a process runs that holds no lock that could be seen. Its number may belong to a later one by now."""
    if host != platform.node():
        return None
    if is_gone(pid, host):
        return False
    began = _began(pid)
    return began is None or since is None or began <= since + _TICK


def _began(pid: int) -> datetime | None:
    """Return when a process was started; `None` where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/stat", "rb") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith(b"btime "))
        return datetime.fromtimestamp(booted + ticks / os.sysconf("SC_CLK_TCK"), timezone.utc)
    except (OSError, ValueError, IndexError, StopIteration):
        return None
