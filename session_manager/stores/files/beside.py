"""Files and directories that operations leave beside a storage: what a restore has kept, and what killed processes have left."""

from __future__ import annotations

import os
import re
from contextlib import suppress

import attrs

__all__ = ["LeftBeside", "left_beside"]

_ENDING = re.compile(r"\.(replaced|restoring|salvaging)-[0-9A-Za-z-]+(?:-wal|-journal)?\Z")


@attrs.frozen
class LeftBeside:
    """A file or directory beside a storage that also holds sessions."""

    #: Its path.
    path: str
    #: Whether a restore or a salvage keeps it on purpose; otherwise a process was killed, or is still at work.
    is_kept: bool


def left_beside(path: str) -> list[LeftBeside]:
    """Return what operations have left beside a storage; nothing if that cannot be read.

    :param path: that of the storage.
    """
    place, name = os.path.split(path)
    others: list[str] = []
    with suppress(OSError):
        others = sorted(os.listdir(place))
    endings = ((other, _ENDING.fullmatch(other[len(name) :])) for other in others if other.startswith(name))
    return [
        LeftBeside(os.path.join(place, other), match[1] == "replaced") for other, match in endings if match is not None
    ]
