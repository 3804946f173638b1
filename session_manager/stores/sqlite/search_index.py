"""The full-text index, which searches fill, so that saves stay cheap.

A message that an older version has indexed was read by other rules. It counts as not indexed, until a search has read it again.
The index finds candidates, which `session_manager.history.search.best` judges. So NUL and lone surrogates, which SQLite's text
does not have, may stand as U+FFFD in the texts and in the query.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import attrs

from session_manager.history.search import Best, SearchHit, case_fold, most_for_each, score_of, searched_text
from session_manager.history.shapes import reads_as_written
from session_manager.model.message import Message
from session_manager.stores.rows.decoding import DamageError, decode_line, plain_messages_of
from session_manager.stores.sqlite.schema import indexed_until, set_indexed
from session_manager.stores.sqlite.writes import purge
from session_manager.threads import give_way, giving_way

__all__ = ["Missing", "missing", "search"]

_log = logging.getLogger("session_manager")

_BATCH_MESSAGES = 1000
#: Writers wait while a batch is indexed: some 50 ms.
_BATCH_CHARACTERS = 300_000
#: How many rows are decoded at once.
_AT_ONCE = 100
_UNSEARCHABLE = re.compile("[\0\ud800-\udfff]")
#: The shortest text that trigrams find, and the longest start of a text that is looked for.
_SHORTEST, _LONGEST = 3, 64

_SELECT_MISSING = """
    SELECT one.id, key, position, line, one.checksum FROM (
        SELECT * FROM (SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?)
        UNION ALL SELECT * FROM (SELECT * FROM archive WHERE id > ? ORDER BY id LIMIT ?)
    ) AS one
    JOIN sessions ON sessions.id = one.session ORDER BY one.id LIMIT ?
"""
_INSERT = """
    INSERT INTO search (rowid, text)
    SELECT new.id, new.text FROM (SELECT ? AS text, ? AS id) AS new
    WHERE new.id IN (SELECT id FROM messages) OR new.id IN (SELECT id FROM archive)
"""
_OF_SESSIONS = """
    FROM search
    LEFT JOIN messages AS one ON one.id = search.rowid
    LEFT JOIN archive AS old ON one.id IS NULL AND old.id = search.rowid
    CROSS JOIN sessions ON sessions.id = coalesce(one.session, old.session)
    WHERE {} AND key >= CAST(? AS TEXT) AND key < CAST(? AS TEXT)
"""
_MESSAGES = f"""
    SELECT key, coalesce(one.position, old.position), coalesce(one.line, old.line), coalesce(one.checksum, old.checksum)
    {_OF_SESSIONS.format("search.rowid IN ({})")}
"""  # noqa: S608 - of constants
_INDEXED = "SELECT rowid, text FROM search WHERE {} AND search.rowid <= ?"
_INDEXED_OF_SOME = f"SELECT search.rowid, search.text {_OF_SESSIONS.format('{} AND search.rowid <= ?')}"  # noqa: S608 - of constants
_BY_TRIGRAMS, _BY_SCAN = "search.text MATCH ?", "instr(search.text, ?)"
# A cross join: the few new messages come first, and not the keys of all sessions.
_NOT_INDEXED = """
    SELECT key, position, line, one.checksum FROM {} AS one CROSS JOIN sessions ON sessions.id = one.session
    WHERE one.id > ? AND key >= CAST(? AS TEXT) AND key < CAST(? AS TEXT)
"""
_NEW, _NEW_ARCHIVED = _NOT_INDEXED.format("messages"), _NOT_INDEXED.format("archive")


@attrs.frozen(repr=False)
class Missing:
    """A batch of messages that the index lacks."""

    #: Up to which id messages were indexed, and up to which id they were believed to be.
    watermark: int
    after: int
    #: Up to which id they will be.
    until: int
    #: The ids and the searchable texts of the messages.
    texts: list[tuple[str, int]]

    def run(self, connection: sqlite3.Connection) -> None:
        """Put the batch into the index, in a transaction, unless another process has done so meanwhile."""
        if indexed_until(connection) != (self.watermark, self.after):
            return
        purge(connection, indexed=True)
        if self.after < self.watermark:
            connection.execute("DELETE FROM search WHERE rowid > ?", (self.after,))
        connection.executemany(_INSERT, self.texts)
        set_indexed(connection, self.until)


def missing(connection: sqlite3.Connection) -> Missing | None:
    """Return messages that the index lacks; `None` if it lacks none. Call it in a transaction."""
    watermark, after = indexed_until(connection)
    until = after
    texts: list[tuple[str, int]] = []
    size = 0
    found = False
    count = _BATCH_MESSAGES
    for number, *row in giving_way(connection.execute(_SELECT_MISSING, (after, count, after, count, count))):
        found, until = True, number
        message = _message(*row)
        text = "" if message is None else _searchable(searched_text(message))
        if text:
            texts.append((text, number))
            size += len(text)
            if size > _BATCH_CHARACTERS:
                break
    if not found and after == watermark and connection.execute("SELECT 1 FROM garbage LIMIT 1").fetchone() is None:
        return None
    return Missing(watermark, after, until, texts)


def _searchable(text: str) -> str:
    return _UNSEARCHABLE.sub("\ufffd", case_fold(text))


def _message(key: bytes | None, *row: object) -> Message | None:
    """Return a message; `None`, and a line in the log, if it is damaged."""
    if key is None:
        _log.warning("left out of a search: a session without a key")
        return None
    try:
        return decode_line(row, zlib.crc32(key))
    except DamageError as error:
        _log.warning("left out of a search: session %a: %s", key.decode(errors="replace")[:80], error)
        return None


def search(
    connection: sqlite3.Connection, text: str, prefix: str, limit: int, skip: Collection[str]
) -> list[SearchHit]:
    """Return the best hits for a text. Archived messages, and those not indexed yet, are searched as well. Call it in a transaction.

    :param prefix: what the sessions' keys start with.
    :param limit: how many at most.
    :param skip: keys of sessions that are left out.
    """
    needle = _searchable(text)
    sought = needle[:_LONGEST]
    indexed = _BY_SCAN
    if len(sought) >= _SHORTEST:
        quoted = sought.replace('"', '""')
        indexed, sought = _BY_TRIGRAMS, f'"{quoted}"'
    start = prefix.encode("utf-8", "surrogatepass")
    bounds = (start, start + b"\xff")
    _, until = indexed_until(connection)
    found = Best(text, limit)
    candidates, those = (_INDEXED_OF_SOME, bounds) if prefix else (_INDEXED, ())
    for rows in _batches(connection, candidates.format(indexed), (sought, until, *those)):
        numbers = _promising(rows, needle.encode(), found.least)
        if numbers:
            statement = _MESSAGES.format(",".join("?" * len(numbers)))
            _add(found, connection.execute(statement, (*numbers, *bounds)).fetchall(), skip)
    for statement in (_NEW, _NEW_ARCHIVED):
        for rows in _batches(connection, statement, (until, *bounds)):
            _add(found, rows, skip)
    return found.hits()


def _batches(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> Iterator[list[Any]]:
    cursor = connection.execute(statement, values)
    while rows := cursor.fetchmany(_AT_ONCE):
        yield rows
        give_way()


def _promising(rows: Sequence[Any], needle: bytes, least: float) -> list[int]:
    """Return the ids of messages that may have a score. The text in the index is what a message says, or as good as that."""
    if not least or not reads_as_written():
        return [number for number, _ in rows]
    room = most_for_each(least)  # most texts are told by it
    counts = [(number, text, text.count(needle)) for number, text in rows]
    dense = [(number, count, length) for number, text, count in counts if (length := _length(text)) <= room * count]
    return [number for number, count, length in dense if score_of(count, length) >= least]


def _length(text: bytes) -> int:
    return len(text) if text.isascii() else len(text.decode(errors="replace"))


def _add(found: Best, rows: Sequence[Any], skip: Collection[str]) -> None:
    for key, message in _messages([row for row in rows if _name(row[0]) not in skip]):
        found.add(key, message)


def _messages(rows: Sequence[Any]) -> Iterator[tuple[str, Message]]:
    """Give the messages in rows, without damaged ones, with the keys of their sessions."""
    messages = plain_messages_of(rows)
    found = messages if messages is not None else [_message(*row) for row in giving_way(rows)]
    for row, message in zip(rows, found, strict=True):
        if message is not None:
            yield _name(row[0]), message


def _name(key: bytes | None) -> str:
    return "" if key is None else key.decode(errors="replace")
