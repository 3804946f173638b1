"""Quarantine: damaged files are moved aside, never deleted and never overwritten.

A quarantined file stays in its directory as ``.quarantine-<16 hex digits>-<its name>``; of a name over 220 bytes, only the end
is kept. The torn end of a log is copied there, too, before it is cut off. No call reads these files again.
"""

from __future__ import annotations

import os
import secrets

from session_manager.errors import raise_alone
from session_manager.stores.files.atomic import OutcomeUnknownError, replace
from session_manager.stores.files.filesystem import Files

__all__ = ["keep_copy", "quarantine"]

_PREFIX = ".quarantine-"
_LONGEST_NAME = 220


def quarantine(files: Files, name: str) -> None:
    """Move a file to quarantine; sync the directory afterwards.

    :raises OSError: if it cannot be moved.
    """
    files.rename(name, _quarantined(name))


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
    return kept


def _quarantined(name: str) -> str:
    kept = os.fsencode(name)[-_LONGEST_NAME:].decode(errors="ignore")
    return f"{_PREFIX}{secrets.token_hex(8)}-{kept}"
