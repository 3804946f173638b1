"""The store that keeps all sessions in one SQLite database."""

from session_manager.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
