"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import sqlite3
from timeit import repeat

import msgspec

import session_manager

__all__ = ["discards", "environment", "file_system", "pace"]


def environment(path: str) -> dict[str, str | int]:
    """Describe the machine and the file system of a path."""
    return {
        "file_system": file_system(path),
        "discards": discards(path),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
        "pace": pace(),
        "session_manager": session_manager.__version__,
        "msgspec": msgspec.__version__,
    }


def pace() -> str:
    """Say how fast Python is here, and how fast a system call is, the least of many times: figures in seconds go with them."""
    computing = min(repeat("sum(one * one for one in range(1_000))", number=10, repeat=50)) / 10
    calling = min(repeat("stat('/')", "from os import stat", number=100, repeat=50)) / 100
    return f"1,000 squares take {computing * 1e6:.0f} us, a stat {calling * 1e6:.1f} us"


def file_system(path: str, mounts: str = "/proc/mounts") -> str:
    """Return the type and the options of the file system that holds a path."""
    place = os.path.realpath(path)
    best, found = -1, "unknown"
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        _, point, kind, options = line.split(" ")[:4]
        point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        # The last of several mounts on one point hides the others.
        if os.path.commonpath([place, point]) == point and len(point) >= best:
            best, found = len(point), f"{kind} ({options})"
    return found


def discards(path: str, mounts: str = "/proc/mounts", devices: str = "/sys/dev/block") -> str:
    """Say whether the disk discards what is freed: then removing and replacing files costs more, and at other times."""
    _, _, options = file_system(path, mounts).partition(" (")
    if any(option.partition("=")[0] == "discard" for option in options.rstrip(")").split(",")):
        return "yes: mounted with discard"
    number = os.stat(path).st_dev
    device = os.path.join(devices, f"{os.major(number)}:{os.minor(number)}")
    # A partition has no queue of its own, but the disk that it is on has.
    for place in (device, os.path.join(device, "..")):
        try:
            with open(os.path.join(place, "queue", "discard_max_bytes"), encoding="ascii") as file:
                able = int(file.read()) > 0
        except (OSError, ValueError):
            continue
        return "no: mounted without discard, though the disk could" if able else "no: the disk cannot"
    return "not known on this machine"
