"""Edits by hand: a session's file that you have edited on purpose is signed anew."""

from __future__ import annotations

import attrs

from session_manager.as_dict import AsDict
from session_manager.errors import SessionNotFoundError
from session_manager.model.key import check_key
from session_manager.stores.opening import Storage, opened

__all__ = ["AcceptedEdits", "accept_edits"]


@attrs.frozen(kw_only=True)
class AcceptedEdits(AsDict):
    """A session whose edits were accepted."""

    #: Its name.
    key: str
    #: How many messages it has now.
    messages: int
    #: How many archived ones.
    archived: int
    #: Whether something was signed; `False` if every checksum was right.
    signed: bool
    #: The names of the edited bytes in quarantine, as they were before they were signed.
    quarantined: tuple[str, ...] = ()


def accept_edits(storage: Storage, key: str) -> AcceptedEdits:
    """Take a session as it is in its file now, after you have edited it by hand, and write it with right checksums.

    Checksums find damage, and an edit looks like damage: calls for the session raise `CorruptSessionError` until you call this.
    Use it only for what you have changed yourself; for damage there is `salvage`. The session gets its next revision, so that
    other managers notice. The edited bytes are copied to quarantine first.

    In a snapshot you may change, remove and add messages; their positions must increase. The layout does not matter. In a log you may change texts,
    and no numbers. In a database you may change ``line`` and ``state``, and delete rows.

    :param key: the session's.
    :raises InvalidKeyError: if it is no key.
    :raises SessionNotFoundError: if there is no such session.
    :raises CorruptSessionError: if it is no valid session; with the place and the reason. Nothing has changed.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises StorageLockedError: if another process has the storage open.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises SaveFailedError: nothing has changed.
    :raises SaveOutcomeUnknownError: call it again.
    :raises InvalidStorageError, StorageError: if the storage cannot be opened or read.
    """
    wanted = check_key(key)
    with opened(storage, read_only=False) as store:
        if wanted not in set(store.keys(wanted)):
            raise SessionNotFoundError(wanted)
        signed = bool(store.verify(wanted))
        kept = store.accept_edits(wanted) if signed else []
        session = store.load(wanted)
        if session is None:
            raise SessionNotFoundError(wanted)
        return AcceptedEdits(
            key=wanted,
            messages=len(session.messages),
            archived=len(list(store.archive(wanted))),
            signed=signed,
            quarantined=tuple(kept),
        )
