"""The statements of a commit: a commit that appends, or creates, is one statement, so one round trip and one flush.

The row of the session is written first, if it is at the base, by the write that made that, undamaged, and the write was not said to have failed. All else is
written by its id. READ COMMITTED is enough: a writer that waited for the row looks at it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from psycopg.types.numeric import Int8

from session_manager.model.session import MAX_REFS, Session
from session_manager.stores.commits import MAX_TOKENS, Commit
from session_manager.stores.order import recency, recent_first
from session_manager.stores.postgres.handle import Handle, Statement
from session_manager.stores.postgres.leases import fenced
from session_manager.stores.postgres.reads import encoded_refs, row_of
from session_manager.stores.rows.decoding import DamageError
from session_manager.stores.rows.encoding import Line, token_digest, tombstone_key
from session_manager.stores.rows.plans import Plan, Range

__all__ = ["LOCK_KEY", "Prepared", "key_lock"]

#: The lock of a key whose session may be missing, for as long as the transaction is open.
LOCK_KEY = "SELECT pg_advisory_xact_lock(%s)"

_UPDATE = """
    UPDATE {s}.sessions SET generation = %b, revision = %s, state = %b, checksum = %b, refs_checksum = %s, place = %s,
        token = %b, edited = coalesce(%s, edited)
    WHERE key = %b AND generation = %b AND revision = %s AND (token = %b) IS NOT FALSE AND checksum = sha256(state)
        AND NOT %b = ANY (voided)
    RETURNING id
"""
_INSERT = """
    INSERT INTO {s}.sessions (generation, revision, state, checksum, refs_checksum, place, token, edited, key)
    SELECT %b, %s, %b, %b, %s, %s, %b, %s, %b
    WHERE NOT EXISTS (SELECT 1 FROM {s}.tombstones WHERE key = %b AND %b = ANY (voided))
    ON CONFLICT (key) DO NOTHING RETURNING id
"""
_NOTED = "INSERT INTO {s}.commits (session, revision, token, refs, whole) SELECT id, %s, %b, %b, %s FROM base"
_LINES = """
    INSERT INTO {s}.messages (session, position, line, checksum, archived)
    SELECT base.id, one.* FROM base, unnest(%b::int8[], %b::bytea[], %b::int8[], %b::bool[]) AS one
"""
#: Messages that are added behind each other, the most frequent ones: each array that is bound costs as much as a message.
_NEXT_LINES = """
    INSERT INTO {s}.messages (session, position, line, checksum)
    SELECT base.id, %s + number - 1, line, checksum
    FROM base, unnest(%b::bytea[], %b::int8[]) WITH ORDINALITY AS one (line, checksum, number)
"""
#: So many of them at most have a statement of their own, in which no array is bound.
_FEW = 4
_PRUNED = ", pruned AS (DELETE FROM {s}.commits USING base WHERE session = base.id AND revision < %s)"
_CHANGE = f"WITH base AS ({_UPDATE}), noted AS ({_NOTED})"
_APPEND = f"{_CHANGE}, lines AS ({_NEXT_LINES})"


def _few_lines(count: int) -> str:
    """Return the statement of a commit that appends so many messages."""
    lines = " UNION ALL ".join(["SELECT id, %s::int8, %b::bytea, %s::int8 FROM base"] * count)
    return f"{_CHANGE}, lines AS (INSERT INTO {{s}}.messages (session, position, line, checksum) {lines})"  # noqa: S608 - of constants


_END = " SELECT id FROM base"
#: By how many messages; the last one takes any number.
_APPENDS = (_CHANGE, *(_few_lines(count) for count in range(1, _FEW + 1)), _APPEND)
_APPEND_ONLY = tuple(text + _END for text in _APPENDS)
_APPEND_AND_PRUNE = tuple(text + _PRUNED + _END for text in _APPENDS)
_CREATE = f"WITH base AS ({_INSERT}), noted AS ({_NOTED}), lines AS ({_LINES}) SELECT id FROM base"  # noqa: S608 - of constants

_BY_ID = "WITH base AS (SELECT %s::int8 AS id) "
_DROP = "DELETE FROM {s}.messages WHERE session = %s AND position >= %s AND position < %s AND NOT archived"
_ARCHIVE = """
    UPDATE {s}.messages SET archived = true WHERE session = %s AND position >= %s AND position < %s AND NOT archived
"""
_CLEAR_ARCHIVE = "DELETE FROM {s}.messages WHERE session = %s AND archived AND NOT (position >= %s AND position < %s)"


def key_lock(schema: str, key: str) -> Int8:
    """Return the number of a key's lock."""
    digest = tombstone_key(f"{schema}:{key}")
    return Int8(int.from_bytes(digest[:8], "big", signed=True))


@attrs.frozen(repr=False)
class Prepared:
    """A commit, encoded."""

    commit: Commit
    plan: Plan
    #: The values of the session's row: revision second, its place and its token last.
    row: tuple[Any, ...]
    #: The values of the commit's own row: revision, token, refs, whether these are all.
    noted: tuple[Any, ...]

    @classmethod
    def of(cls, plan: Plan, before: Session | None) -> Prepared:
        """Return the commit of a plan, encoded.

        :param before: the session that it is based on; `None` if it is written whole.
        """
        commit = plan.commit
        session = commit.session
        generation, revision, state, checksum, refs = row_of(session)
        place, token = Int8(recent_first(recency(session))), session._token or token_digest("")
        row = (generation, Int8(revision), state, checksum, Int8(refs), place, session._token or None)
        added = None if before is None or revision % MAX_TOKENS == 0 else _added(before.refs, session.refs)
        new = session.refs if added is None else added
        data = encoded_refs(new) if new or added is None else None
        return cls(commit, plan, row, (Int8(revision), token, data, added is None))

    @property
    def key(self) -> str:
        """The session's key."""
        return self.commit.session.key

    @property
    def is_one_statement(self) -> bool:
        """Whether no row goes, none goes to the archive, and new ones follow each other."""
        if self.commit.base is None:
            return True
        plan, lines = self.plan, self.plan.lines
        is_append = not (plan.dropped or plan.archived or self.commit.spared is not None)
        return is_append and (not lines or lines[-1][0] - lines[0][0] + 1 == len(lines))

    @property
    def _is_pruned(self) -> bool:
        return self.commit.base is not None and self.commit.session.revision % MAX_TOKENS == 0

    @property
    def _bound(self) -> tuple[Any, ...]:
        """The values of the row's statement."""
        name, base, token = self.key.encode(), self.commit.base, self.noted[1]
        edited = None if self.is_one_statement and base is not None else self.row[1]
        if base is None:
            return (*self.row, edited, name, tombstone_key(self.key), token)
        return (*self.row, edited, name, base.generation.encode(), Int8(base.revision), base._token or None, token)

    def statement(self) -> Statement:
        """Return the whole commit as one statement, which returns a row if the base was there, and its lease was not taken."""
        lines = self.plan.lines
        if self.commit.base is not None:
            return self._fenced(self._change(lines))
        return self._fenced((_CREATE, (*self._bound, *self.noted, *_bound_lines(lines, self.plan.archived))))

    def _fenced(self, statement: Statement) -> Statement:
        fence = self.commit.fence
        return statement if fence is None else fenced(statement, self.key, fence)

    def _change(self, lines: Sequence[Line]) -> Statement:
        """Return the statement that changes the session's row, and adds messages that follow each other."""
        new: list[Any] = []
        if len(lines) > _FEW:
            new = [Int8(lines[0][0]), [one[1] for one in lines], [Int8(one[2]) for one in lines]]
        else:
            for position, data, checksum in lines:
                new += (Int8(position), data, Int8(checksum))
        values, which = (*self._bound, *self.noted, *new), min(len(lines), _FEW + 1)
        if self._is_pruned:
            return _APPEND_AND_PRUNE[which], (*values, Int8(self.commit.session.revision - MAX_TOKENS))
        return _APPEND_ONLY[which], values

    def run(self, handle: Handle) -> bool:
        """Write the rows in a transaction that is open; return whether the base was there, and its lease was not taken. If not, nothing has changed.

        :raises DamageError: if the rows are not those of the base.
        """
        found = handle.run(*self._fenced(self._change(()))).fetchone()
        if found is None:
            return False
        number, plan, spared = Int8(found[0]), self.plan, self.commit.spared
        others: list[Statement] = [] if spared is None else [(_CLEAR_ARCHIVE, (number, *spared))]
        others += [(_DROP, (number, first, stop)) for first, stop, _ in plan.dropped]
        if plan.lines:
            others.append((_BY_ID + _LINES, (number, *_bound_lines(plan.lines, ()))))
        others += [(_ARCHIVE, (number, first, stop)) for first, stop, _ in plan.archived]
        cursors = handle.in_turn(others)
        counted = [cursor for (text, _), cursor in zip(others, cursors, strict=True) if text in (_DROP, _ARCHIVE)]
        for (first, stop, count), cursor in zip([*plan.dropped, *plan.archived], counted, strict=True):
            if cursor.rowcount != count:
                raise DamageError(f"of its messages from position {first} to {stop - 1} some are missing, or too many")
        return True


def _added(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...] | None:
    """Return the refs that were added; `None` if they did not only grow at their end."""
    if before == after:
        return ()
    old, new = tuple(before), tuple(after)
    for count in range(1, len(new) + 1):
        if (*old, *new[-count:])[-MAX_REFS:] == new:
            return new[-count:]
    return None


def _bound_lines(lines: Sequence[Line], archived: Sequence[Range]) -> tuple[list[Any], ...]:
    """Return what is bound for messages: their positions, lines and checksums, and whether they are archived."""
    places = [position for position, _, _ in lines]
    return (
        [Int8(position) for position in places],
        [data for _, data, _ in lines],
        [Int8(checksum) for _, _, checksum in lines],
        [any(first <= position < stop for first, stop, _ in archived) for position in places],
    )
