"""Leases on a server: rows of a table that is not logged, so that a lease costs no flush. It is empty after a crash of the server.

The time is the server's. A row is held while its last renewal is less than its seconds away from now, in either direction. So a
clock that is set back by days keeps no lease for days.

Rows of leases that were released stay, with the time 0: a write under an older fence is known by them. An owner may take its lease
again, and a request that it has given up may arrive late: so the row has the first number that its owner has had since another one had it. A commit under a fence locks the
row before it looks at it. So of a commit and a taking, one comes first, and the other sees it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import psycopg
from psycopg.types.numeric import Float8, Int8

from session_manager.model.fence import Fence
from session_manager.stores.commits import FORGOTTEN
from session_manager.stores.postgres.handle import Handle, Statement
from session_manager.stores.postgres.schema import lock_schema
from session_manager.stores.rows.encoding import tombstone_key

__all__ = ["create_leases", "fenced", "forget_leases", "is_taken", "release", "renew", "take"]

_CREATE = """
    CREATE UNLOGGED TABLE IF NOT EXISTS {s}.leases (
        number bigint NOT NULL,
        first bigint NOT NULL,
        seconds double precision NOT NULL,
        renewed double precision NOT NULL,
        key bytea PRIMARY KEY,
        owner bytea NOT NULL
    ) WITH (fillfactor = 70)
"""
#: Seconds since 1970.
_NOW = "extract(epoch FROM clock_timestamp())::float8"
_HAS_RUN_OUT = f"abs({_NOW} - old.renewed) >= old.seconds"
#: The first number is the time in milliseconds: it is higher than that of a row that a crash has taken.
#: A lease that another owner has is looked at first: that writes nothing, however often it is asked for.
_TAKE = f"""
    WITH wanted AS (SELECT %b::bytea AS key, %b::bytea AS owner, %s::float8 AS seconds, {_NOW} AS now)
    INSERT INTO {{s}}.leases AS old (key, owner, seconds, number, first, renewed)
    SELECT key, owner, seconds, (now * 1000)::int8, (now * 1000)::int8, now FROM wanted
    WHERE NOT EXISTS (
        SELECT 1 FROM {{s}}.leases AS old
        WHERE old.key = wanted.key AND old.owner <> wanted.owner AND NOT {_HAS_RUN_OUT}
    )
    ON CONFLICT (key) DO UPDATE SET
        owner = EXCLUDED.owner, seconds = EXCLUDED.seconds, number = old.number + 1, renewed = EXCLUDED.renewed,
        first = CASE WHEN old.owner = EXCLUDED.owner THEN old.first ELSE old.number + 1 END
    WHERE old.owner = EXCLUDED.owner OR {_HAS_RUN_OUT}
    RETURNING number
"""  # noqa: S608 - of constants
_RENEW = f"""
    INSERT INTO {{s}}.leases AS old (key, owner, number, first, seconds, renewed)
    SELECT key, owner, number, number, %s, {_NOW} FROM unnest(%b::bytea[], %b::bytea[], %b::int8[]) AS one (key, owner, number) ORDER BY key
    ON CONFLICT (key) DO UPDATE SET seconds = EXCLUDED.seconds, renewed = EXCLUDED.renewed
    WHERE old.owner = EXCLUDED.owner AND old.first <= EXCLUDED.number AND old.renewed > 0
"""  # noqa: S608 - of constants
_RELEASE = "UPDATE {s}.leases SET renewed = 0 WHERE key = %b AND owner = %b AND number = %s"
_FORGET = f"DELETE FROM {{s}}.leases AS old WHERE abs({_NOW} - renewed) > {FORGOTTEN}"  # noqa: S608 - of constants
_LOOK = """
    SELECT key, number, owner = one.mine AND first <= one.fence AS is_mine, number = one.fence AS is_last
    FROM {s}.leases, (SELECT %b::bytea AS mine, %s::int8 AS fence) AS one WHERE key = %b FOR UPDATE OF leases
"""

#: What comes behind the part ``base`` of a commit's statement.
_BEHIND = "), noted AS ("
_LEASE = f"lease AS ({_LOOK})"
_IS_NOT_TAKEN = "AND NOT EXISTS (SELECT 1 FROM lease WHERE NOT is_mine)"
_RELEASED = """
    released AS (
        UPDATE {s}.leases AS old SET renewed = 0 FROM base, lease WHERE old.key = lease.key AND lease.is_mine AND lease.is_last
    )
"""


def fenced(statement: Statement, key: str, fence: Fence) -> Statement:
    """Return the one statement of a commit, as it is under a fence: it does nothing if the lease was taken, and releases it otherwise.

    :param statement: its first part writes the session's row, and is named ``base``.
    """
    text, values = statement
    return _fenced(text), (*_told(fence), tombstone_key(key), *values)


@cache
def _fenced(text: str) -> str:
    base, behind, rest = text.removeprefix("WITH ").partition(_BEHIND)
    place = next(one for one in ("ON CONFLICT", "RETURNING") if one in base)
    return f"WITH {_LEASE}, {base.replace(place, f'{_IS_NOT_TAKEN} {place}')}), {_RELEASED}, {behind[3:]}{rest}"


def _told(fence: Fence) -> tuple[Any, ...]:
    return fence.owner.encode(), Int8(fence.number)


def create_leases(handle: Handle) -> None:
    """Create the table if it is missing."""
    with handle.transaction():
        lock_schema(handle)
        handle.run(_CREATE)


def take(handle: Handle, key: str, owner: str, seconds: float) -> Fence | None:
    """Take a lease, as `Store.take_lease` says."""
    values = (tombstone_key(key), owner.encode(), Float8(seconds))
    try:
        found = handle.run(_TAKE, values).fetchone()
    except psycopg.errors.UndefinedTable:
        create_leases(handle)
        found = handle.run(_TAKE, values).fetchone()
    return None if found is None else Fence(owner, found[0])


def renew(handle: Handle, held: Mapping[str, Fence], seconds: float) -> None:
    """Renew leases, as `Store.renew_leases` says."""
    keys = [tombstone_key(key) for key in held]
    owners, numbers = [one.owner.encode() for one in held.values()], [Int8(one.number) for one in held.values()]
    handle.run(_RENEW, (Float8(seconds), keys, owners, numbers))


def release(handle: Handle, key: str, fence: Fence) -> None:
    """Release a lease, as `Store.release_lease` says."""
    handle.run(_RELEASE, (tombstone_key(key), *_told(fence)))


def is_taken(handle: Handle, key: str, fence: Fence) -> bool:
    """Say whether a lease was taken behind this one; until the end of a transaction that is open, none is taken."""
    found = handle.run(_LOOK, (*_told(fence), tombstone_key(key))).fetchone()
    return found is not None and not found[2]


def forget_leases(handle: Handle) -> None:
    """Remove the rows of leases that ran out days ago."""
    with contextlib.suppress(psycopg.errors.UndefinedTable):
        handle.run(_FORGET)
