"""Quarantine: what is damaged is moved aside, never deleted and never overwritten.

A quarantined file stays in its directory as ``.quarantine-<16 hex digits>-<its name>`` (of a
name over 220 bytes, the end). Nothing reads it again.
"""

from __future__ import annotations

import os
import secrets

from session_manager.files import Files

__all__ = ["quarantine"]

_LONGEST_NAME = 220


def quarantine(files: Files, name: str) -> None:
    """Move a file to quarantine; sync the directory afterwards.

    :raises OSError: if it cannot be moved.
    """
    kept = os.fsencode(name)[-_LONGEST_NAME:].decode(errors="ignore")
    files.rename(name, f".quarantine-{secrets.token_hex(8)}-{kept}")
