"""The store that keeps all sessions in a schema of a PostgreSQL database."""

from session_manager.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
