"""Space that dropped and replaced text takes in a storage, given back."""

from __future__ import annotations

import attrs

from session_manager.arguments import Progress, check_progress
from session_manager.as_dict import AsDict
from session_manager.errors import CorruptSessionError, SessionNotFoundError, UnsupportedFormatError
from session_manager.model.key import check_key
from session_manager.stores.contract import Store
from session_manager.stores.opening import Storage, opened

__all__ = ["CompactReport", "compact"]


@attrs.frozen(kw_only=True)
class CompactReport(AsDict):
    """The outcome of a compaction."""

    #: How many sessions were compacted, or had nothing to give back.
    sessions: int
    #: Sessions that cannot be read, each with its error. They were left alone.
    damaged: dict[str, Exception] = attrs.field(factory=dict)
    #: How many bytes the storage took before; `None` if it cannot tell.
    before: int | None
    #: How many bytes it takes now.
    after: int | None


def compact(storage: Storage, key: str | None = None, *, progress: Progress | None = None) -> CompactReport:
    """Reclaim the space that dropped and replaced text takes in a storage: of one session, or of all.

    What sessions say stays the same, and so does their version. A snapshot wastes nothing. In SQLite the space of all sessions is
    given back at once. You may interrupt it, and call it again.

    :param key: only this session.
    :param progress: called after each session, with how many are done, how many there are, and the session's key.
    :raises TypeError, InvalidKeyError: if an argument is wrong.
    :raises SessionNotFoundError: if there is no session `key`.
    :raises CorruptSessionError, UnsupportedFormatError: if the session `key` cannot be read.
    :raises StorageLockedError: if another process has the storage open.
    :raises SaveError: if a session could not be rewritten; it is as it was.
    :raises InvalidStorageError, StorageError: if the storage cannot be opened or read.
    """
    check_progress(progress)
    wanted = None if key is None else check_key(key)
    with opened(storage, read_only=False) as store:
        if wanted is not None and store.version(wanted) is None:
            raise SessionNotFoundError(wanted)
        before = store.total_bytes()
        keys = sorted(store.keys()) if wanted is None else [wanted]
        damaged = _compacted(store, keys, progress)
        if wanted is not None and wanted in damaged:
            raise damaged[wanted]
        done = len(keys) - len(damaged)
        return CompactReport(sessions=done, damaged=damaged, before=before, after=store.total_bytes())


def _compacted(store: Store, keys: list[str], progress: Progress | None) -> dict[str, Exception]:
    """Compact sessions; return the errors of damaged ones."""
    damaged: dict[str, Exception] = {}
    chosen = store.to_compact(keys)
    for number, one in enumerate(chosen, 1):
        try:
            store.compact(one)
        except (CorruptSessionError, UnsupportedFormatError) as error:
            damaged[one] = error.with_traceback(None)  # which would keep the session in RAM
        if progress is not None:
            progress(len(keys) if number == len(chosen) else number, len(keys), one)
    return damaged
