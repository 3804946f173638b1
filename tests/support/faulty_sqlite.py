"""A connection to SQLite whose statements fail when a test says so."""

from __future__ import annotations

import sqlite3


class Faulty(sqlite3.Connection):
    """Fails statements that begin with a text, before or after doing them."""

    failing: str | None = None
    error: Exception = sqlite3.OperationalError("disk I/O error")
    after = False

    def execute(self, statement, *parameters):
        fails = Faulty.failing is not None and statement.strip().startswith(Faulty.failing)
        if not fails or Faulty.after:
            cursor = super().execute(statement, *parameters)
            if not fails:
                return cursor
        raise Faulty.error
