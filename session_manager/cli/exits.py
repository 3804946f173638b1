"""Exit codes, and what a person is told of an error: one line, without a traceback."""

from __future__ import annotations

from typing import Final

from session_manager.cli.text import one_line
from session_manager.errors import (
    CorruptSessionError,
    InvalidKeyError,
    InvalidMessageError,
    InvalidStorageError,
    MessageNotFoundError,
    SessionExistsError,
    SessionNotFoundError,
    StorageLockedError,
    UnsupportedFormatError,
)

__all__ = ["DAMAGED", "FOUND", "INTERRUPTED", "LOCKED", "MISSING", "PIPE_CLOSED", "STORAGE", "USAGE", "told"]

#: Something was found, or left out, or you said no.
FOUND: Final = 1
#: A wrong command, storage URL or key.
USAGE: Final = 2
#: No such session.
MISSING: Final = 3
#: The storage cannot be read or written.
STORAGE: Final = 4
#: The storage is open elsewhere.
LOCKED: Final = 5
#: A session is damaged, or a newer version wrote it.
DAMAGED: Final = 6
#: Ctrl-C: as a shell reports it.
INTERRUPTED: Final = 130
#: Nobody reads the output any more: as a shell reports it.
PIPE_CLOSED: Final = 141

_CODES: Final[tuple[tuple[tuple[type[Exception], ...], int], ...]] = (
    ((SessionNotFoundError, MessageNotFoundError), MISSING),
    ((SessionExistsError,), FOUND),
    ((StorageLockedError,), LOCKED),
    ((CorruptSessionError, UnsupportedFormatError), DAMAGED),
    ((InvalidStorageError, InvalidKeyError, InvalidMessageError), USAGE),
)


def told(error: Exception) -> tuple[str, int]:
    """Return the line that tells an error, and the exit code."""
    code = next((code for kinds, code in _CODES if isinstance(error, kinds)), STORAGE)
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f"{error.filename}: "
        return one_line(f"{name}{error.strerror}"), code
    return one_line(str(error)), code
