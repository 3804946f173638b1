"""Saves that are made straight through a SQLite store, and statements past it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import attrs

from session_manager.model.changes import fold
from session_manager.stores.contract import Commit
from session_manager.stores.sqlite import SQLiteStore
from tests.support.processes import run_python
from tests.support.small_sessions import session_of


def commit_of(before, *changes, base=True, token=None):
    """Return the commit that a manager would write: changes of a stored session."""
    after = fold(before, changes)._with(revision=before.revision + 1)
    given_base = before.version if base else None
    return Commit(after, changes, given_base, before=before, token=token or f"{after.key} {after.revision}")


def write_new(store, session=None, key="k"):
    """Store a session whole; return the picture."""
    session = attrs.evolve(session_of("one", "two"), key=key, revision=1) if session is None else session
    store.write(Commit(session, (), None, token=f"{session.key} new"))
    return session


def write(store, before, *changes, **options):
    one = commit_of(before, *changes, **options)
    store.write(one)
    return one.session


def raw(path, statement, *parameters):
    """Run a statement when the store is closed; return the rows."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(statement, parameters).fetchall()
        connection.commit()
        return rows


def reopened(path):
    return closing(SQLiteStore(path))


def raw_elsewhere(path, statement):
    """Run a statement in another process, while the database is open in this one."""
    code = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"
    return run_python("-c", code, path, statement).stdout.strip()
