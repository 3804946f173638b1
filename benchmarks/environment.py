"""On what the figures were measured."""

from __future__ import annotations

import os
import platform

import msgspec

import session_manager

__all__ = ["environment", "file_system"]


def environment(path: str) -> dict[str, str | int]:
    """Describe the machine and the file system of a path."""
    return {
        "file_system": file_system(path),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
        "session_manager": session_manager.__version__,
        "msgspec": msgspec.__version__,
    }


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
