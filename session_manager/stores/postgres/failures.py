"""The driver's errors as the library's. What the server says of itself stays; a password, or the text of a message, is in none of them."""

from __future__ import annotations

import psycopg

from session_manager.errors import (
    CorruptSessionError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    StorageError,
)

__all__ = ["connecting_error", "is_lost", "is_retried", "reason_of", "save_error", "storage_error"]

#: Of a transaction that the server undid because of another one.
_RETRIED = ("40001", "40P01")


def reason_of(error: BaseException) -> str:
    """Return what went wrong, in one line: what the server says, without details, which may quote a row."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = primary or next(iter(str(error).splitlines()), "") or type(error).__name__
    return text.strip()


def is_lost(error: psycopg.Error, connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Say whether the answer was lost with the connection, so that a commit that was sent may have landed.

    A server that ends may say so behind a commit (``57P01``, ``57P02``).
    """
    return connection.closed or connection.broken or (error.sqlstate or "08").startswith(("08", "57P"))


def is_retried(error: psycopg.Error) -> bool:
    """Say whether a transaction was undone because of another one, and may be tried again."""
    return error.sqlstate in _RETRIED


def storage_error(path: str, error: psycopg.Error) -> StorageError:
    """Return the library's error for one of a call that reads."""
    return StorageError(path, reason_of(error))


def connecting_error(path: str, error: Exception) -> StorageError:
    """Return the library's error if there is no connection. Of an error that is not the driver's, only its name: its text may be secret."""
    return StorageError(
        path, reason_of(error) if isinstance(error, psycopg.Error) else f"no connection: {type(error).__name__}"
    )


def save_error(key: str, path: str, error: psycopg.Error, *, is_unknown: bool) -> SessionManagerError:
    """Return the library's error for one of a call that writes.

    :param is_unknown: whether the write may have landed.
    """
    if is_unknown:
        return SaveOutcomeUnknownError(key, reason_of(error))
    if isinstance(error, psycopg.errors.UniqueViolation):
        return CorruptSessionError(key, path, None, "has rows that its state does not tell of")
    return SaveFailedError(key, reason_of(error))
