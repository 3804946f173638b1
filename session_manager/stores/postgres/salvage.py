"""A damaged session's whole rows, and the rows in quarantine."""

from __future__ import annotations

import re
import zlib
from typing import Any

from session_manager.codec.state import decode_state
from session_manager.errors import raise_alone
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.fragments import session_of_fields
from session_manager.stores.postgres.handle import Handle
from session_manager.stores.postgres.reads import load_with_archive, seal_of
from session_manager.stores.rows.decoding import DamageError, decode_line, decoded_state
from session_manager.stores.rows.encoding import seed_of
from session_manager.stores.rows.salvaging import WholeRows, salvage
from session_manager.stores.salvaged import Salvaged

__all__ = ["edited", "load_whole", "purge_quarantined", "quarantined", "read_quarantined", "salvage_rows"]

_STATE = "SELECT generation, revision, state, checksum FROM {s}.sessions WHERE key = %b"
_LINES = """
    SELECT archived, position, line, messages.checksum FROM {s}.messages JOIN {s}.sessions ON id = session
    WHERE key = %b ORDER BY position
"""
_GROUPS = """
    SELECT min(id), max(id), key, moved, sum(coalesce(octet_length(content), 0))::int8 FROM {s}.quarantine
    GROUP BY key, moved ORDER BY min(id)
"""
_GROUP = "id BETWEEN %s AND %s AND (key, moved) = (SELECT key, moved FROM {s}.quarantine WHERE id = %s)"
_READ = f"SELECT coalesce(content, '') FROM {{s}}.quarantine WHERE {_GROUP} ORDER BY id"  # noqa: S608 - of constants
_PURGE = f"DELETE FROM {{s}}.quarantine WHERE {_GROUP}"  # noqa: S608 - of constants
_NAME = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


def load_whole(handle: Handle, key: str) -> Salvaged | None:
    """Return a session and its archive, in a transaction; `None` if there is none.

    :raises DamageError: if anything is wrong with them.
    """
    there = load_with_archive(handle, key)
    return None if there is None else Salvaged(session=there[0], archive=[(0, one) for one in there[1]])


def salvage_rows(handle: Handle, path: str, key: str) -> Salvaged | None:
    """Return all of a session that is whole; `None` if there is no row of it. In a transaction.

    Refs are lost if they, or the state, are damaged.
    """
    try:
        return load_whole(handle, key)
    except DamageError:
        pass
    row, rows = handle.run(_STATE, (key.encode(),)).fetchone(), WholeRows()
    if row is None:
        return None
    rows.session = [*row[:3], _checksum(key, *row[2:])]
    for archived, *line in handle.run(_LINES, (key.encode(),)):
        try:
            rows.lines.append((archived, decode_line(line, seed_of(key))))
        except DamageError:
            rows.damaged += 1
    return salvage(rows, key, path)


def _checksum(key: str, data: Any, seal: object) -> int | None:
    """Return the checksum that a state has in other databases; `None` if its own is wrong."""
    return zlib.crc32(data, seed_of(key)) if isinstance(data, bytes) and seal_of(data) == seal else None


def edited(handle: Handle, key: str) -> Salvaged:
    """Return a session whose rows were edited by hand, in a transaction. Their checksums do not count; refs are lost.

    :raises DamageError: if it is no session.
    """
    row, seed = handle.run(_STATE, (key.encode(),)).fetchone(), seed_of(key)
    if row is None:
        raise_alone(DamageError("it is not there"))
    state = decoded_state(key, row[0], row[1], row[2], decode_state)
    lines = [
        (archived, decode_line((position, line, zlib.crc32(line, seed)), seed))
        for archived, position, line, _ in handle.run(_LINES, (key.encode(),)).fetchall()
    ]
    told = {name: getattr(state, name) for name in state.__struct_fields__}
    there, archive = ([one for aside, one in lines if aside is kind] for kind in (False, True))
    session = session_of_fields(key, {**told, "expires_after": state.expires_after or None}, there)
    return Salvaged(
        session=session._with(revision=state.revision + 1, _archived=len(archive)),
        archive=[(0, one) for one in archive],
    )


def quarantined(handle: Handle) -> list[Quarantined]:
    """Describe the rows in quarantine, those of a session and a time together, the oldest first."""
    return [
        Quarantined(name=f"{first}-{last}", key=key.decode("utf-8", "replace"), moved=moved, size=int(size))
        for first, last, key, moved, size in handle.run(_GROUPS)
    ]


def read_quarantined(handle: Handle, name: str) -> bytes | None:
    """Return the contents of rows, each with a line feed behind it; `None` if there is none of that name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    rows = handle.run(_READ, (int(match[1]), int(match[2]), int(match[1]))).fetchall()
    return b"".join(content + b"\n" for (content,) in rows) if rows else None


def purge_quarantined(handle: Handle, name: str) -> bool:
    """Remove rows; return whether there were any."""
    match = _NAME.fullmatch(name)
    return match is not None and handle.run(_PURGE, (int(match[1]), int(match[2]), int(match[1]))).rowcount > 0
