"""Quarantine: damaged files are moved aside, never deleted and never overwritten.

A quarantined file stays in its directory as ``.quarantine-<16 hex digits>-<its name>``; of a name over 220 bytes, only the end
is kept. The torn end of a log is copied there, too, before it is cut off. No call that shows sessions reads these files again.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat as stat_module
from collections.abc import Iterable
from datetime import datetime, timezone

import attrs

from session_manager.errors import raise_alone
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.files.atomic import NotRegularError, OutcomeUnknownError, read_whole, replace
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.kinds import ARCHIVE_SUFFIX, SUFFIXES
from session_manager.stores.files.names import file_name, key_of
from session_manager.stores.files.owners import key_inside

__all__ = ["count_in", "keep_copy", "purge", "quarantine", "quarantined", "quarantined_of", "read"]

_SUFFIXES = (*SUFFIXES.values(), ARCHIVE_SUFFIX)
_PREFIX = ".quarantine-"
_LONGEST_NAME = 220
_NAME = re.compile(r"\.quarantine-[0-9a-f]{16}-(.+)", re.DOTALL)


def quarantine(files: Files, name: str) -> None:
    """Move a file to quarantine; sync the directory afterwards.

    :raises OSError: if it cannot be moved.
    """
    files.rename(name, _quarantined(name))
    files.quarantined += 1


def keep_copy(files: Files, name: str, data: bytes) -> str:
    """Write some bytes of a file to quarantine, durably; return the name that they have there.

    :raises OSError: if they cannot be written.
    """
    kept = _quarantined(name)
    try:
        replace(files, kept, [data], lambda: None)
    except OutcomeUnknownError as error:
        if error.__cause__ is not None:
            raise_alone(error.__cause__)
    files.quarantined += 1
    return kept


def count_in(names: Iterable[str]) -> int:
    """Return how many of some names are of files in quarantine."""
    return sum(_NAME.fullmatch(name) is not None for name in names)


def quarantined(files: Files) -> list[Quarantined]:
    """Describe the files in quarantine, the oldest first.

    :raises OSError: if the directory cannot be read.
    """
    found: list[Quarantined] = []
    for name in files.names():
        match = _NAME.fullmatch(name)
        status = files.stat(name) if match is not None else None
        if match is None or status is None or not stat_module.S_ISREG(status.st_mode):
            continue
        moved = datetime.fromtimestamp(status.st_ctime, timezone.utc)
        found.append(Quarantined(name=name, key=_key_of(files, name, match[1]), moved=moved, size=status.st_size))
    return sorted(found, key=lambda one: (one.moved, one.name))


def quarantined_of(files: Files, keys: Iterable[str]) -> list[Quarantined]:
    """Describe the files of some sessions in quarantine, the oldest first.

    The name of a long key's file does not tell the key, but it is the name of no other key's.

    :raises OSError: if the directory cannot be read.
    """
    names = {file_name(key, suffix): key for key in keys for suffix in _SUFFIXES}
    wanted, found = set(names.values()), []
    for one in quarantined(files):
        match = _NAME.fullmatch(one.name)
        key = names.get(match[1]) if one.key is None and match is not None else one.key
        if key in wanted:
            found.append(attrs.evolve(one, key=key))
    return found


def _key_of(files: Files, name: str, original: str) -> str | None:
    """Return the key whose file is in quarantine: by its name, or by the key in it, which the name proves."""
    for suffix in _SUFFIXES:
        key = key_of(original, suffix)
        if key is not None:
            return key
    key = key_inside(files, name)
    return key if key is not None and original in [file_name(key, suffix) for suffix in _SUFFIXES] else None


def read(files: Files, name: str) -> bytes | None:
    """Return the bytes of a file in quarantine; `None` if there is no such file.

    :raises OSError: if it cannot be read.
    """
    if _NAME.fullmatch(name) is None or os.sep in name:
        return None
    with contextlib.suppress(FileNotFoundError, NotRegularError):
        return read_whole(files, name)[0]
    return None


def purge(files: Files, name: str) -> bool:
    """Remove a file in quarantine, durably; return whether it was there.

    :raises OSError: if it cannot be removed, or the removal may not survive a power cut.
    """
    if _NAME.fullmatch(name) is None or os.sep in name:
        return False
    try:
        files.unlink(name)
    except FileNotFoundError:
        return False
    files.quarantined = max(files.quarantined - 1, 0)
    files.sync_directory()
    return True


def _quarantined(name: str) -> str:
    kept = os.fsencode(name)[-_LONGEST_NAME:].decode(errors="ignore")
    return f"{_PREFIX}{secrets.token_hex(8)}-{kept}"
