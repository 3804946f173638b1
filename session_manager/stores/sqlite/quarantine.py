"""The rows in quarantine: those of one session that were moved there at one time belong together.

Their name is the first and the last of their ids, such as ``"7-12"``.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import datetime, timezone

from session_manager.stores.descriptions import Quarantined

__all__ = ["purge", "quarantined", "read"]

_GROUPS = """
    SELECT min(id), max(id), CAST(key AS BLOB), CAST(moved AS BLOB), sum(coalesce(length(CAST(content AS BLOB)), 0))
    FROM quarantine GROUP BY key, moved ORDER BY min(id)
"""
_READ = """
    SELECT coalesce(CAST(content AS BLOB), x'') FROM quarantine
    WHERE id BETWEEN ? AND ? AND (key, moved) = (SELECT key, moved FROM quarantine WHERE id = ?) ORDER BY id
"""
_PURGE = """
    DELETE FROM quarantine
    WHERE id BETWEEN ? AND ? AND (key, moved) = (SELECT key, moved FROM quarantine WHERE id = ?)
"""
_NAME = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def quarantined(connection: sqlite3.Connection) -> list[Quarantined]:
    """Describe the rows, those of a session and a time together, the oldest first."""
    return [
        Quarantined(name=f"{first}-{last}", key=_text(key), moved=_moved(moved), size=size)
        for first, last, key, moved, size in connection.execute(_GROUPS)
    ]


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def _moved(data: bytes | None) -> datetime:
    try:
        return datetime.strptime((data or b"").decode(), _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime.fromtimestamp(0, timezone.utc)


def read(connection: sqlite3.Connection, name: str) -> bytes | None:
    """Return the contents of rows, each with a line feed behind it; `None` if there is none of that name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    rows = connection.execute(_READ, (int(match[1]), int(match[2]), int(match[1]))).fetchall()
    return b"".join(content + b"\n" for (content,) in rows) if rows else None


def purge(connection: sqlite3.Connection, name: str) -> bool:
    """Remove rows, in a transaction; return whether there were any."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    return connection.execute(_PURGE, (int(match[1]), int(match[2]), int(match[1]))).rowcount > 0
