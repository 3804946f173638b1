"""Lists of sessions, by pages: each row that is read is one that is listed, however many sessions there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg.types.numeric import Int8

from session_manager.stores.descriptions import SessionInfo
from session_manager.stores.order import Order, in_order, place
from session_manager.stores.postgres.handle import Handle
from session_manager.stores.postgres.reads import state_in
from session_manager.stores.rows.decoding import described_row

__all__ = ["page_of", "sizes", "total_bytes"]

_MOST = 2**63 - 1
_FIRST = -(2**63)
_COLUMNS = "SELECT key, place, generation, revision, state, checksum FROM {s}.sessions"
_BY_PLACE = f"{_COLUMNS} WHERE (place, key) > (%s, %b) AND key >= %b AND key < %b ORDER BY place, key LIMIT %s"
_BY_KEY = f"{_COLUMNS} WHERE key {{above}} %b AND key >= %b AND key < %b ORDER BY key LIMIT %s"
_FIRST_BY_KEY, _NEXT_BY_KEY = (_BY_KEY.replace("{above}", above) for above in (">=", ">"))
_SIZES = """
    SELECT key, octet_length(state) + coalesce((SELECT sum(octet_length(line)) FROM {s}.messages WHERE session = id), 0)::int8
    FROM {s}.sessions WHERE key >= %b AND key < %b
"""
_TOTAL = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class
    WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r'
"""


def page_of(
    handle: Handle, path: str, prefix: str, after: SessionInfo | None, limit: int | None, order: Order
) -> list[SessionInfo]:
    """Return a page of sessions."""
    low, high = _bounds(prefix)
    most = None if limit is None else Int8(min(limit, _MOST))
    if order == "key":
        start = low if after is None else after.key.encode("utf-8", "surrogatepass")
        statement = _FIRST_BY_KEY if after is None else _NEXT_BY_KEY
        return _listed(path, handle.run(statement, (start, low, high, most)))
    number, key = (_FIRST, "") if after is None else place(after, "recent")
    values = (Int8(number), key.encode("utf-8", "surrogatepass"), low, high, most)
    found = _listed(path, handle.run(_BY_PLACE, values))
    return found if limit is not None else in_order(found, order)


def _bounds(prefix: str) -> tuple[bytes, bytes]:
    start = prefix.encode("utf-8", "surrogatepass")
    return start, start + b"\xff"  # no byte of UTF-8 is 0xFF


def _listed(path: str, rows: Iterable[Sequence[Any]]) -> list[SessionInfo]:
    infos = []
    for name, there, *row in rows:
        try:
            key = name.decode()
        except UnicodeDecodeError:
            continue  # `strays` says so
        infos.append(described_row(path, key, there, row, state_in))
    return infos


def sizes(handle: Handle, prefix: str) -> dict[str, int]:
    """Return how many bytes the rows of each session have, by key: its state, its messages and its archive."""
    with handle.unhurried():
        return {key.decode(errors="replace"): int(size) for key, size in handle.run(_SIZES, _bounds(prefix))}


def total_bytes(handle: Handle) -> int:
    """Return how many bytes the tables of the schema take, with their indexes."""
    return int((handle.run(_TOTAL, (handle.schema,)).fetchone() or (0,))[0])
