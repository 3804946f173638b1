"""Search by characters and pairs of neighbouring characters, which are read from messages when the next search comes.

So saves stay cheap, and texts without spaces between words are found as quickly as others. A text contains another one only if it has all of its
pairs. The index gives these candidates, and `session_manager.history.search.best` judges them. Each character and each pair stands
in the index as a number of 32 bits: two that meet in one number only make a candidate more.

Which messages were not read yet is told by each message's own row: transactions do not end in the order in which they number their rows.
"""

from __future__ import annotations

import itertools
import logging
import zlib
from collections.abc import Collection, Iterator

from psycopg.types.numeric import Int8

from session_manager.history.search import WALK, case_fold, searched_text
from session_manager.model.message import Message
from session_manager.stores.postgres.handle import Handle
from session_manager.stores.rows.decoding import DamageError, decode_line

__all__ = ["candidates", "grams_of", "read_missing"]

_log = logging.getLogger("session_manager")

_BATCH = 1000
#: The longest start of a text that is looked for in the index.
_LONGEST = 64

_MISSING = f"""
    SELECT key, session, position, line, one.checksum FROM (
        SELECT session, position, line, checksum FROM {{s}}.messages WHERE walk IS DISTINCT FROM {WALK}
        ORDER BY session, position LIMIT {_BATCH} FOR UPDATE SKIP LOCKED
    ) AS one JOIN {{s}}.sessions ON sessions.id = session
"""  # noqa: S608 - of constants
_SET = f"UPDATE {{s}}.messages SET grams = %b, walk = {WALK} WHERE session = %b AND position = %b"  # noqa: S608 - of constants
_CANDIDATES = f"""
    SELECT key, position, line, one.checksum FROM (
        SELECT session, position, line, checksum FROM {{s}}.messages WHERE walk = {WALK} AND grams @> %b::integer[]
        UNION ALL SELECT session, position, line, checksum FROM {{s}}.messages WHERE walk IS DISTINCT FROM {WALK}
    ) AS one JOIN {{s}}.sessions ON sessions.id = session WHERE key >= %b AND key < %b
"""  # noqa: S608 - of constants


def grams_of(text: str) -> list[int]:
    """Return the characters of a folded text, and its pairs of neighbours, as numbers.

    >>> set(grams_of("an")) < set(grams_of("banana"))
    True
    """
    found = {*text, *map("".join, itertools.pairwise(text))}
    return [zlib.crc32(one.encode("utf-8", "surrogatepass")) - 2**31 for one in sorted(found)]


def read_missing(handle: Handle) -> bool:
    """Put messages into the index that are not in it, in a transaction; return whether there may be more.

    Messages that another transaction is about to change or delete are left out.
    """
    rows = handle.run(_MISSING).fetchall()
    values = []
    for key, session, position, line, checksum in rows:
        message = _message(key, position, line, checksum)
        grams = [] if message is None else grams_of(case_fold(searched_text(message)))
        values.append((grams, Int8(session), Int8(position)))
    if values:
        handle.run_many(_SET, values)
    return len(rows) == _BATCH


def candidates(handle: Handle, text: str, prefix: str, skip: Collection[str]) -> Iterator[tuple[str, Message]]:
    """Iterate over all messages that may contain a text, archived and unread ones included. Call it in a transaction.

    :param prefix: what the sessions' keys start with.
    :param skip: keys of sessions that are left out.
    """
    start = prefix.encode("utf-8", "surrogatepass")
    grams = grams_of(case_fold(text)[:_LONGEST])
    for name, *row in handle.iterate(_CANDIDATES, (grams, start, start + b"\xff")):
        key = name.decode(errors="replace")
        message = None if key in skip else _message(name, *row)
        if message is not None:
            yield key, message


def _message(key: bytes, *row: object) -> Message | None:
    """Return a message; `None`, and a line in the log, if it is damaged."""
    try:
        return decode_line(row, zlib.crc32(key))
    except DamageError as error:
        _log.warning("left out of a search: session %a: %s", key.decode(errors="replace")[:80], error)
        return None
