"""Leases in a database: a row for each session that a turn was taken of under a lease.

The time is the machine's own, by SQLite: all processes that have the database open share it. A row is held while its last renewal is less
than its seconds away from now, in either direction. So a clock that is set back by days keeps no lease for days.

Rows of leases that were released stay, with the time 0: a write under an older fence is known by them. An owner may take its lease again:
so the row has the first number that its owner has had since another one had it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from session_manager.errors import LeaseLostError
from session_manager.model.fence import Fence
from session_manager.stores.commits import FORGOTTEN, Commit
from session_manager.stores.rows.encoding import tombstone_key
from session_manager.stores.sqlite.schema import create_leases, has_leases
from session_manager.threads import giving_way

__all__ = ["check_lease", "forget_leases", "is_leased", "release", "renew", "take"]

#: Seconds since 1970.
_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
_IS_HELD = f"abs({_NOW} - renewed) < seconds"
_OTHER = f"SELECT 1 FROM leases WHERE key = ? AND owner <> ? AND {_IS_HELD}"  # noqa: S608 - of constants
#: The first number is the time in milliseconds: it is higher than that of a row that is not there any more.
_INSERT = f"""
    INSERT INTO leases (key, owner, number, first, seconds, renewed)
    SELECT ?, ?, CAST({_NOW} * 1000 AS INTEGER), CAST({_NOW} * 1000 AS INTEGER), ?, {_NOW}
"""  # noqa: S608 - of constants
_TAKE = f"""
    UPDATE leases SET number = number + 1, first = CASE WHEN owner = ? THEN first ELSE number + 1 END, owner = ?,
        seconds = ?, renewed = {_NOW}
    WHERE key = ?
"""  # noqa: S608 - of constants
_NUMBER = "SELECT number FROM leases WHERE key = ?"
_LAST = "SELECT owner, first FROM leases WHERE key = ?"
_RENEW = f"UPDATE leases SET seconds = ?, renewed = {_NOW} WHERE key = ? AND owner = ? AND first <= ? AND renewed > 0"  # noqa: S608
_RELEASE = "UPDATE leases SET renewed = 0 WHERE key = ? AND owner = ? AND number = ?"
_FORGET = f"DELETE FROM leases WHERE abs({_NOW} - renewed) > {FORGOTTEN}"  # noqa: S608 - of constants


def is_leased(connection: sqlite3.Connection, key: str, owner: str) -> bool:
    """Say whether another owner has the lease of a session."""
    return has_leases(connection) and connection.execute(_OTHER, (tombstone_key(key), owner)).fetchone() is not None


def take(connection: sqlite3.Connection, key: str, owner: str, seconds: float) -> Fence | None:
    """Take a lease, in a transaction, as `Store.take_lease` says."""
    create_leases(connection)
    if is_leased(connection, key, owner):
        return None
    name = tombstone_key(key)
    if not connection.execute(_TAKE, (owner, owner, float(seconds), name)).rowcount:
        connection.execute(_INSERT, (name, owner, float(seconds)))
    return Fence(owner, connection.execute(_NUMBER, (name,)).fetchone()[0])


def renew(connection: sqlite3.Connection, held: Mapping[str, Fence], seconds: float) -> None:
    """Renew leases, in a transaction, as `Store.renew_leases` says. A row is missing only if it was forgotten after days."""
    if has_leases(connection):
        rows = ((float(seconds), tombstone_key(key), one.owner, one.number) for key, one in held.items())
        connection.executemany(_RENEW, giving_way(rows))


def release(connection: sqlite3.Connection, key: str, fence: Fence) -> None:
    """Release a lease, in a transaction, as `Store.release_lease` says."""
    if has_leases(connection):
        connection.execute(_RELEASE, (tombstone_key(key), fence.owner, fence.number))


def check_lease(connection: sqlite3.Connection, commit: Commit) -> None:
    """Raise unless a commit may be written under its lease. In a transaction.

    :raises LeaseLostError: if another lease was taken since.
    """
    if commit.fence is None or not has_leases(connection):
        return
    key = commit.session.key
    last = connection.execute(_LAST, (tombstone_key(key),)).fetchone()
    if last is not None and (last[0] != commit.fence.owner.encode() or last[1] > commit.fence.number):
        raise LeaseLostError(key)


def forget_leases(connection: sqlite3.Connection) -> None:
    """Remove the rows of leases that ran out days ago, in a transaction."""
    if has_leases(connection):
        connection.execute(_FORGET)
