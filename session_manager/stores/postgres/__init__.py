"""The store that keeps all sessions in a schema of a PostgreSQL database."""

try:
    from session_manager.stores.postgres.store import PostgresStore
except ImportError as error:
    _lack = f"needs psycopg, which cannot be imported ({str(error).splitlines()[0]})"
    _extra = "pip install 'chat-session-manager[postgres]' 'psycopg[binary]'"
    raise ImportError(f"{_lack}: {_extra}", name=error.name) from error

__all__ = ["PostgresStore"]
