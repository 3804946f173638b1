"""Lists of sessions, by pages: each row that is read is one that is listed, however many sessions there are.

Pages of the most recent sessions go by the column ``place``, which is derived (`session_manager.stores.sqlite.schema`). A row that is
not in its place is named by its id, so that the caller puts it there first (`put_in_place`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from session_manager.codec.state import decode_described
from session_manager.stores.contract import SessionInfo
from session_manager.stores.order import LAST, in_order, place, recency, recent_first
from session_manager.stores.rows.decoding import DamageError, checked_state, described_row
from session_manager.threads import giving_way

__all__ = ["page_by_key", "put_in_place", "recent_page", "sizes"]

#: The largest number that SQLite takes.
_MOST = 2**63 - 1

#: So many rows are put in their places in one transaction.
_BATCH = 500
#: Of so many sessions and more with a prefix, the index by place finds a page faster than that of the keys.
_MANY = 2000

_COLUMNS = "id, CAST(key AS BLOB), place, generation, revision, state, checksum"
_UNPLACED = "SELECT id FROM sessions INDEXED BY sessions_unplaced WHERE placed IS NOT revision LIMIT ?"
_RANGE = "key >= CAST(? AS TEXT) AND key < CAST(? AS TEXT)"
_COUNT = f"SELECT count(*) FROM (SELECT 1 FROM sessions WHERE {_RANGE} LIMIT ?)"  # noqa: S608 - of constants
_RECENT = f"""
    SELECT {_COLUMNS} FROM sessions {{index}}
    WHERE ({{place}}, key) > (?, CAST(? AS TEXT)) AND {_RANGE} ORDER BY {{place}}, key LIMIT ?
"""  # noqa: S608 - of constants
_BY_PLACE = _RECENT.format(index="INDEXED BY sessions_by_place", place="place")
#: By the index of the keys, and sorted: the plus hides the column from the index by place.
_SORTED = _RECENT.format(index="", place="+place")
#: In the order in which the rows lie in the file, which is read once.
_ALL = f"SELECT {_COLUMNS} FROM sessions NOT INDEXED WHERE {_RANGE}"  # noqa: S608 - of constants
_BY_KEY = f"""
    SELECT {_COLUMNS} FROM sessions WHERE key {{}} CAST(? AS TEXT) AND {_RANGE} ORDER BY key LIMIT ?
"""  # noqa: S608 - of constants
_SIZES = f"""
    SELECT CAST(key AS BLOB), length(CAST(state AS BLOB))
        + (SELECT total(length(CAST(line AS BLOB))) FROM messages WHERE session = sessions.id)
        + (SELECT total(length(CAST(line AS BLOB))) FROM archive WHERE session = sessions.id)
    FROM sessions WHERE {_RANGE}
"""  # noqa: S608 - of constants
_SELECT_ROW = f"SELECT {_COLUMNS} FROM sessions WHERE id = ?"  # noqa: S608 - of constants
_PUT = "UPDATE sessions SET place = ?, placed = revision WHERE id = ?"
_FIRST = -(2**63)


def recent_page(
    connection: sqlite3.Connection, path: str, prefix: str, after: SessionInfo | None, limit: int | None
) -> tuple[list[SessionInfo], list[int]]:
    """Return a page of sessions, the most recent first, and the ids of rows that must be put in their places first.

    Call it in a transaction.
    """
    unplaced = [row[0] for row in connection.execute(_UNPLACED, (_BATCH,))]
    if unplaced:
        return [], unplaced
    if limit is None and not prefix:
        infos, misplaced = _listed(path, connection.execute(_ALL, _bounds("")))
        return infos if misplaced else in_order(infos, "recent", after), misplaced
    low, high = _bounds(prefix)
    start, key = (_FIRST, "") if after is None else place(after, "recent")
    is_rare = prefix and connection.execute(_COUNT, (low, high, _MANY)).fetchone()[0] < _MANY
    values = (start, key.encode("utf-8", "surrogatepass"), low, high, -1 if limit is None else min(limit, _MOST))
    return _listed(path, connection.execute(_SORTED if is_rare else _BY_PLACE, values))


def page_by_key(
    connection: sqlite3.Connection, path: str, prefix: str, after: SessionInfo | None, limit: int | None
) -> list[SessionInfo]:
    """Return a page of sessions by key. Call it in a transaction."""
    if limit is None and not prefix:
        return in_order(_listed(path, connection.execute(_ALL, _bounds("")))[0], "key", after)
    low, high = _bounds(prefix)
    start = low if after is None else after.key.encode("utf-8", "surrogatepass")
    values = (start, low, high, -1 if limit is None else min(limit, _MOST))
    statement = _BY_KEY.format(">=" if after is None else ">")
    return _listed(path, connection.execute(statement, values))[0]


def _bounds(prefix: str) -> tuple[bytes, bytes]:
    start = prefix.encode("utf-8", "surrogatepass")
    return start, start + b"\xff"  # no byte of UTF-8 is 0xFF


def _listed(path: str, rows: Any) -> tuple[list[SessionInfo], list[int]]:
    """Return descriptions of sessions, and the ids of rows that are not in their places."""
    infos, misplaced = [], []
    for number, data, there, *row in giving_way(rows):
        try:
            key = data.decode()
        except UnicodeDecodeError:
            continue  # `verify` says so
        info = described_row(path, key, there, row, checked_state)
        infos.append(info)
        if recent_first(info.last_message_at or info.updated) != there:
            misplaced.append(number)
    return infos, misplaced


def sizes(connection: sqlite3.Connection, prefix: str) -> dict[str, int]:
    """Return how many bytes the rows of each session have, by key: its state, its messages and its archive."""
    start = prefix.encode("utf-8", "surrogatepass")
    rows = connection.execute(_SIZES, (start, start + b"\xff"))
    return {key.decode(errors="replace"): int(size) for key, size in rows if key is not None}


def put_in_place(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Put rows in their places, in a transaction. The place of a damaged one is unknown: it goes behind all others."""
    for number in numbers:
        row = connection.execute(_SELECT_ROW, (number,)).fetchone()
        if row is not None:
            connection.execute(_PUT, (_place(row), number))


def _place(row: Sequence[Any]) -> int:
    _, key, _, generation, revision, data, checksum = row
    try:
        state = checked_state(key.decode(), generation, revision, data, checksum, decode_described)
        return recent_first(recency(state))
    except (DamageError, UnicodeDecodeError):
        return LAST
