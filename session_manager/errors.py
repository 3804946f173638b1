"""Every error that this library raises.

::

    SessionManagerError
    ├── InvalidKeyError (ValueError)
    ├── InvalidMessageError (ValueError)
    ├── InvalidDataError (ValueError)
    ├── SessionNotFoundError (KeyError)
    ├── SessionExistsError (ValueError)
    ├── MessageNotFoundError (KeyError)
    ├── TurnNotFoundError (LookupError)
    ├── ContextTooSmallError (ValueError)
    ├── InvalidStorageError (ValueError)
    ├── ClosedError (RuntimeError)
    ├── ForkedError (RuntimeError)
    ├── ReadOnlyError (RuntimeError)
    ├── ReentrantCallError (RuntimeError)
    ├── SessionBusyError (RuntimeError)
    ├── WouldWaitError (RuntimeError)
    ├── ConflictError
    │   └── LeaseLostError
    └── StorageError
        ├── StorageLockedError
        │   └── StoreInUseError
        ├── SaveError
        │   ├── SaveFailedError
        │   └── SaveOutcomeUnknownError
        ├── CorruptSessionError
        ├── UnsupportedFormatError
        └── CannotCommitTogetherError

An error carries its evidence as attributes and can be pickled. None of them, and nothing in their
``__context__``, holds the text of a message, a summary or metadata: they name places and lengths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = [
    "CannotCommitTogetherError",
    "ClosedError",
    "ConflictError",
    "ContextTooSmallError",
    "CorruptSessionError",
    "ForkedError",
    "InvalidDataError",
    "InvalidKeyError",
    "InvalidMessageError",
    "InvalidStorageError",
    "LeaseLostError",
    "MessageNotFoundError",
    "ReadOnlyError",
    "ReentrantCallError",
    "SaveError",
    "SaveFailedError",
    "SaveOutcomeUnknownError",
    "SessionBusyError",
    "SessionExistsError",
    "SessionManagerError",
    "SessionNotFoundError",
    "StorageError",
    "StorageLockedError",
    "StoreInUseError",
    "TurnNotFoundError",
    "UnsupportedFormatError",
    "WouldWaitError",
]

_SHOWN_KEY = 80
_SHOWN_BITS = 128
_PLAIN = (str, bytes, float, bool, type(None))


#: Also URLs that name no storage, such as those of another library for the same server, and URLs in quotes. Compiled when it is used: every import waits here.
_SERVER_URL = (
    r"(?si)[\s\"']*(postgres(?:ql)?(?:\+\w+)?:|(?!snapshot:|log:|sqlite:|memory:)[a-z][a-z0-9+.-]+:(?=//))(.*)"
)
#: In a connection string of libpq.
_IN_WORDS = r"(?i)((?:^|\s)password\s*=\s*)(?:'[^']*'|\S+)"


def without_password(storage: str) -> str:
    """Return a URL or path as it may be shown: of a server's URL no user, no password, and no options, which may have one.

    >>> without_password("postgresql://bot:secret@db.internal/chats?sslmode=require")
    'postgresql://db.internal/chats'
    >>> without_password("mysql://bot:secret@db.internal/chats")
    'mysql://db.internal/chats'
    >>> without_password("host=db.internal password=secret dbname=chats")
    'host=db.internal password=… dbname=chats'
    """
    match = re.match(_SERVER_URL, storage)
    if match is None:
        return re.sub(_IN_WORDS, r"\1…", storage) if "password" in storage.lower() else storage
    _, at, place = match[2].rpartition("@")
    place = place.partition("?")[0]
    return f"{match[1]}//{place}" if at else f"{match[1]}{place}"


def _shown(key: object) -> str:
    text = ascii(key)
    return text if len(text) <= _SHOWN_KEY else f"{text[:_SHOWN_KEY]}… ({len(text)} characters)"


class SessionManagerError(Exception):
    """The base of every error of this library.

    A subclass passes all of its arguments, by position, to `Exception`, so that the default
    pickling rebuilds it, and says its sentence in `_sentence`.
    """

    def _sentence(self) -> str:
        return Exception.__str__(self)

    def __str__(self) -> str:
        return self._sentence()


class InvalidKeyError(SessionManagerError, ValueError):
    """A session key that no store could keep: such as an empty one."""

    def __init__(self, key: object, reason: str) -> None:
        plain = key.bit_length() <= _SHOWN_BITS if type(key) is int else type(key) in _PLAIN
        shown = key if plain else f"<{type(key).__name__}>"
        super().__init__(shown, reason)
        #: What was given as the key (a type's name in ``<>`` for anything but plain values).
        self.key: object = shown
        #: What is wrong with it.
        self.reason: str = reason

    def _sentence(self) -> str:
        return f"invalid session key {_shown(self.key)}: {self.reason}"


class InvalidMessageError(SessionManagerError, ValueError):
    """A message, summary or metadata that is not JSON, or not a message. Nothing has changed."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        #: The place in the value, such as ``content[0].image.data``; ``""`` for the value itself.
        self.path: str = path
        #: What is wrong there, such as ``bytes is not JSON``.
        self.reason: str = reason

    def _sentence(self) -> str:
        return f"{self.path or 'message'}: {self.reason}"


class InvalidDataError(SessionManagerError, ValueError):
    """Data of which `session_manager.converter` cannot make a value."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        #: The place in the data, such as ``messages[3].created_at``; ``""`` for the data themselves.
        self.path: str = path
        #: What is wrong there, such as ``is missing``; never a value.
        self.reason: str = reason

    def _sentence(self) -> str:
        return f"{self.path or 'data'}: {self.reason}"


class SessionNotFoundError(SessionManagerError, KeyError):
    """There is no session with this key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        #: The key that was asked for.
        self.key: str = key

    def _sentence(self) -> str:
        return f"no session {_shown(self.key)}"


class SessionExistsError(SessionManagerError, ValueError):
    """There is a session with this key already, and it would be overwritten."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        #: The key that is taken.
        self.key: str = key

    def _sentence(self) -> str:
        return f"session {_shown(self.key)} exists already"


class MessageNotFoundError(SessionManagerError, KeyError):
    """No message of the session has the ref that was given."""

    def __init__(self, key: str, argument: str) -> None:
        super().__init__(key, argument)
        #: The session's key.
        self.key: str = key
        #: Which argument named the message, such as ``before``.
        self.argument: str = argument

    def _sentence(self) -> str:
        return f"session {_shown(self.key)} has no message with the ref that was given as {self.argument}"


class TurnNotFoundError(SessionManagerError, LookupError):
    """The turn that is to be replaced is not in the session. Nothing has changed."""

    def __init__(self, key: str, ref: str | None) -> None:
        super().__init__(key, ref)
        #: The session's key.
        self.key: str = key
        #: The turn that was asked for, by its ref; `None`: the last one.
        self.ref: str | None = ref

    def _sentence(self) -> str:
        what = "no turn" if self.ref is None else f"no turn {_shown(self.ref)}"
        return f"session {_shown(self.key)} has {what} to replace"


class ContextTooSmallError(SessionManagerError, ValueError):
    """A bound is too small for the last question and what belongs to it: no context can be made."""

    def __init__(self, name: str, bound: int, needed: int) -> None:
        super().__init__(name, bound, needed)
        #: The bound: ``max_tokens`` or ``max_messages``.
        self.name: str = name
        #: Its value.
        self.bound: int = bound
        #: The least that would do.
        self.needed: int = needed

    def _sentence(self) -> str:
        more = self.needed - self.bound
        return f"{self.name}={self.bound} is too small for the last turn, which needs {self.needed}: {more} more"


class InvalidStorageError(SessionManagerError, ValueError):
    """A storage URL or path that cannot be what it says. Nothing was created."""

    def __init__(self, url: str, reason: str) -> None:
        url = without_password(url)
        super().__init__(url, reason)
        #: The URL or path as it was given, without a password.
        self.url: str = url
        #: What is wrong, and the right URL where there is one.
        self.reason: str = reason

    def _sentence(self) -> str:
        return f"storage {_shown(self.url)}: {self.reason}"


class ClosedError(SessionManagerError, RuntimeError):
    """The manager or store is closed."""

    def _sentence(self) -> str:
        return "this session manager is closed"


class ForkedError(SessionManagerError, RuntimeError):
    """The manager was opened before ``fork()``, in the parent process."""

    def _sentence(self) -> str:
        return "this session manager was opened before fork(): open it in the worker"


class ReadOnlyError(SessionManagerError, RuntimeError):
    """The storage was opened read-only."""

    def _sentence(self) -> str:
        return "this storage was opened read-only"


class ReentrantCallError(SessionManagerError, RuntimeError):
    """A signal handler or finalizer called the manager in the middle of one of its own calls.

    The call was refused, and nothing has changed. Set a flag in the handler instead.
    """

    def _sentence(self) -> str:
        return (
            "a signal handler or finalizer called the session manager in the middle of a call: set a flag there instead"
        )


class WouldWaitError(SessionManagerError, RuntimeError):
    """A call that must not wait would have to: for the storage, or for another call that uses it. Nothing was done.

    `AsyncSessionManager` makes the call again in a thread that may wait, so its callers do not see this error.
    """

    def _sentence(self) -> str:
        return "the call would have to wait for the storage, in a thread that must not: make it in another thread"


class SessionBusyError(SessionManagerError, RuntimeError):
    """Too many wait for a turn of the session already (`max_waiting`)."""

    def __init__(self, key: str, waiting: int) -> None:
        super().__init__(key, waiting)
        #: The session's key.
        self.key: str = key
        #: How many wait.
        self.waiting: int = waiting

    def _sentence(self) -> str:
        return f"session {_shown(self.key)} is busy: {self.waiting} turns are waiting already"


class ConflictError(SessionManagerError):
    """The store holds another version of the session than the one that a write was based on."""

    def __init__(self, key: str, expected: Any, actual: Any, reason: str = "") -> None:
        super().__init__(key, expected, actual, reason)
        #: The session's key.
        self.key: str = key
        #: The `Version` that the write was based on, or `None` (no such session).
        self.expected: Any = expected
        #: The `Version` that the store holds, or `None` (no such session).
        self.actual: Any = actual
        #: What cannot be reconciled, if it is more than the version.
        self.reason: str = reason

    def _sentence(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"session {_shown(self.key)} is at {self.actual}, not at {self.expected}{why}"


class LeaseLostError(ConflictError):
    """The lease of a turn ran out, and another turn took it: nothing of the turn was written. Take the turn again."""

    def __init__(self, key: str) -> None:
        SessionManagerError.__init__(self, key)
        self.key: str = key
        self.expected: Any = None
        self.actual: Any = None
        self.reason: str = "another turn took its lease"

    def _sentence(self) -> str:
        return f"session {_shown(self.key)}: the lease of this turn ran out, and another turn took it"


class StorageError(SessionManagerError):
    """The storage could not be read or written; the `OSError` is its ``__cause__``."""

    def __init__(self, path: str, reason: str) -> None:
        path = without_password(path)
        super().__init__(path, reason)
        #: The file or directory.
        self.path: str = path
        #: What went wrong.
        self.reason: str = reason

    def _sentence(self) -> str:
        return f"{self.path}: {self.reason}"


class StorageLockedError(StorageError):
    """Another process, or another manager of this one, has the storage open for writing."""

    def __init__(self, path: str, holder: Mapping[str, Any] | None = None) -> None:
        SessionManagerError.__init__(self, path, holder)
        self.path = path
        self.reason = "is open elsewhere"
        #: The process that has it: ``pid``, ``host`` and ``started`` (RFC 3339, UTC), as far as they are known. ``gone`` is
        #: true if that process has ended: then another one has the storage, and could not leave its name.
        self.holder: dict[str, Any] = dict(holder or {})

    def _sentence(self) -> str:
        holder = self.holder
        who = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('started')}"
        if holder.get("gone"):
            who = f"another process than the last one that left its name, which is gone ({who})"
        return f"{self.path} is open in {who if holder else 'another process'}: close it there first"


class StoreInUseError(StorageLockedError):
    """A manager of this process has the `Store` already, and the store cannot serve two. Nothing has changed."""

    def __init__(self, store: str) -> None:
        SessionManagerError.__init__(self, store)
        #: The store, as it says of itself.
        self.path = store
        self.reason = "is in use by another manager of this process"
        self.holder: dict[str, Any] = {}

    def _sentence(self) -> str:
        return f"{self.path} {self.reason}: use one manager for it, or SQLite, which several may share"


class SaveError(StorageError):
    """A save did not succeed. The session is dirty: save it again."""


class SaveFailedError(SaveError):
    """A save failed. The stored bytes are the old ones, and the session is still dirty."""

    def __init__(self, key: str | None, reason: str, failures: Mapping[str, Exception] | None = None) -> None:
        SessionManagerError.__init__(self, key, reason, failures)
        self.path = ""
        self.reason = reason
        #: The session's key; `None` if several were to be saved.
        self.key: str | None = key
        #: With `save_all` and `close`: each key that could not be saved, and why.
        self.failures: dict[str, Exception] = dict(failures or {})

    def _sentence(self) -> str:
        count = len(self.failures)
        what = f"session {_shown(self.key)}" if self.key is not None else f"{count} session{'' if count == 1 else 's'}"
        return f"{what} not saved: {self.reason}"


class SaveOutcomeUnknownError(SaveError):
    """Nobody knows whether the session was saved, or deleted: the answer was lost, or the disk did not confirm it.

    The new state is there, or the old one, or the new one until a power cut. Save again, or delete again, to settle it.
    """

    def __init__(self, key: str, reason: str) -> None:
        SessionManagerError.__init__(self, key, reason)
        self.path = ""
        self.reason = reason
        #: The session's key.
        self.key: str = key

    def _sentence(self) -> str:
        return f"session {_shown(self.key)}: it is unknown whether it was saved: {self.reason}"


class CorruptSessionError(StorageError):
    """A stored session is damaged. It is never overwritten; `delete` moves it to quarantine."""

    def __init__(self, key: str, path: str, offset: int | None, reason: str) -> None:
        SessionManagerError.__init__(self, key, path, offset, reason)
        #: The session's key.
        self.key: str = key
        self.path = path
        #: The byte in the file where the damage was noticed, from 0; `None` if it has no place.
        self.offset: int | None = offset
        self.reason = reason

    def _sentence(self) -> str:
        place = "" if self.offset is None else f", byte {self.offset}"
        return f"session {_shown(self.key)} is damaged: {self.path}{place}: {self.reason}"


class UnsupportedFormatError(StorageError):
    """A file of a format that this version does not know: a newer version wrote it."""

    def __init__(self, path: str, found: str, supported: str) -> None:
        SessionManagerError.__init__(self, path, found, supported)
        self.path = path
        self.reason = f"format {found}, and this version reads {supported}"
        #: The format that the file names.
        self.found: str = found
        #: The newest format that this version reads.
        self.supported: str = supported


def raise_alone(error: BaseException) -> NoReturn:
    """Raise an error that leads to no other one, for use in an ``except`` clause.

    An error that is handled there may hold the text of a message. ``from None`` only hides it: ``__context__`` keeps it.
    """
    try:
        raise error
    finally:
        error.__context__ = None
        del error  # its traceback holds this frame


class CannotCommitTogetherError(StorageError):
    """The storage cannot make changes of several sessions durable together. Nothing has changed."""

    def _sentence(self) -> str:
        return f"{self.path} cannot commit several sessions together: {self.reason}; SQLite and PostgreSQL can"
