"""A session and its archive, read beside the program that writes to them."""

from __future__ import annotations

from session_manager.codec.exported import Exported
from session_manager.errors import SessionNotFoundError
from session_manager.stores.contract import Store

__all__ = ["read"]

#: How often a session is read again that was deleted and created anew between two reads.
_TRIES = 10


def read(store: Store, key: str, *, archive: bool) -> Exported:
    """Return a session with its archived messages, so that no message is missing, and none is there twice.

    The session is read before its archive. A message that was archived in between is in both, and counts as the session's.

    :param archive: also read the archived messages.
    :raises SessionNotFoundError: if there is no such session.
    :raises CorruptSessionError: if the session, or its archive, is damaged.
    :raises StorageError: if it cannot be read.
    """
    for _ in range(_TRIES):
        session = store.load(key)
        if session is None:
            break
        if not archive:
            return Exported(session)
        here = {message.position for message in session.messages}
        archived = tuple(one for one in store.archive(key) if one.position not in here)
        version = store.version(key)
        if version is not None and version.generation == session.generation:
            return Exported(session, tuple(one for one in archived if (one.position or 0) < session.end))
    raise SessionNotFoundError(key)
