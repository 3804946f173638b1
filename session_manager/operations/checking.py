"""A check of all that a storage holds."""

from __future__ import annotations

from session_manager.arguments import Progress, check_progress
from session_manager.errors import StorageError
from session_manager.model.key import check_key
from session_manager.stores.contract import Finding, Store
from session_manager.stores.files.beside import left_beside
from session_manager.stores.opening import Storage, opened

__all__ = ["verify"]

_LEFT = "was left by a restore or a salvage that was killed, or is at work: the next one removes it, and so may you"


def verify(storage: Storage, key: str | None = None, *, progress: Progress | None = None) -> list[Finding]:
    """Read the stored sessions and their archives, check them as far as possible, and return the flaws. Damage does not raise.

    It opens a URL or path read-only, beside the program that writes to it. One session at a time is in RAM.

    :param key: only this session; otherwise all of them, and what lies beside them.
    :param progress: called after each session, with how many are done, how many there are, and the session's key.
    :returns: the flaws, each once; ``[]`` if there are none, or no such session.
    :raises TypeError, InvalidKeyError: if an argument is wrong.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises InvalidStorageError, StorageError: if the storage cannot be opened.
    """
    check_progress(progress)
    wanted = None if key is None else check_key(key)
    with opened(storage, read_only=True) as store:
        if wanted is not None:
            return list(dict.fromkeys(store.verify(wanted)))
        return list(dict.fromkeys(_all_findings(store, progress)))


def _all_findings(store: Store, progress: Progress | None) -> list[Finding]:
    keys, findings = _listed(store)
    for number, one in enumerate(keys, 1):
        findings += store.verify(one)
        if progress is not None:
            progress(number, len(keys), one)
    return [*findings, *store.strays(), *_left(store)]


def _left(store: Store) -> list[Finding]:
    """Return what killed operations have left beside a storage."""
    path = getattr(store, "path", None)
    beside = left_beside(path) if isinstance(path, str) else []
    return [Finding(None, one.path, None, _LEFT) for one in beside if not one.is_kept]


def _listed(store: Store) -> tuple[list[str], list[Finding]]:
    """Return the keys of a storage, or the damage that hides them."""
    try:
        return sorted(store.keys()), []
    except StorageError as error:
        return [], [Finding(None, error.path, None, error.reason)]
