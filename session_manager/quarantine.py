"""Quarantine: what is damaged is moved aside, never deleted and never overwritten.

A quarantined file stays in its directory as ``.quarantine-<16 hex digits>-<its name>``. Nothing reads it again.
"""

from __future__ import annotations

import secrets

from session_manager.files import Files

__all__ = ["quarantine"]

_LONGEST_NAME = 220


def quarantine(files: Files, name: str) -> None:
    """Move a file to quarantine; sync the directory afterwards.

    :raises OSError: if it cannot be moved.
    """
    files.rename(name, f".quarantine-{secrets.token_hex(8)}-{name[-_LONGEST_NAME:]}")
