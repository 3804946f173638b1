"""Erasure: a session is deleted, and no byte of its text stays in any file of the storage.

>>> from session_manager import SessionManager, operations
>>> from session_manager.stores.memory import MemoryStore
>>> store = MemoryStore()
>>> with SessionManager(store) as m:
...     _ = m.add_message("telegram:42", "user", "Forget me.")
>>> operations.erase(store, "telegram:42").sessions[0].messages
1
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import attrs

from session_manager.arguments import Progress, check_bool, check_progress, check_type
from session_manager.as_dict import AsDict
from session_manager.errors import CorruptSessionError, StorageError, UnsupportedFormatError
from session_manager.model.key import check_key
from session_manager.stores.contract import Finding, Store
from session_manager.stores.erasure import Erasure
from session_manager.stores.files.beside import left_beside
from session_manager.stores.opening import Storage, opened
from session_manager.stores.urls import parts_of

__all__ = ["EraseReport", "ErasedSession", "erase"]

_EVERYWHERE = (
    "other sessions that copied its messages, such as forks, and another key that it had before a kill in the middle of a rename",
    "backups, and other copies of the storage's files",
    "files of other programs that were imported from, logs of your program, and what a provider keeps",
    "deleted rows in the files of a server, until it writes its tables anew; its write-ahead log, its replicas and its backups",
    "blocks of the disk that are free now, spare blocks of an SSD, and snapshots of the file system",
)
_IN_RAM = "the RAM of a program that has the storage open, until that program's next call for the session"
_KEPT = "is what a restore, or a salvage, has replaced: erase there as well, or remove it"
_LEFT = "was left by a restore or a salvage that was killed: remove it"


@attrs.frozen(kw_only=True)
class ErasedSession(AsDict):
    """A session that was erased, or would be."""

    #: Its name.
    key: str
    #: Whether it was there; `False` if only something of it was in quarantine, or in other files.
    found: bool
    #: How many messages it had; `None` if it was damaged.
    messages: int | None = None
    #: How many archived messages it had; `None` if the archive is damaged.
    archived: int | None = None
    #: Names of the damaged bytes that were in quarantine.
    quarantined: tuple[str, ...] = ()
    #: Paths of other files that were removed, such as temporary files of killed saves.
    files: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class EraseReport(AsDict):
    """What an erasure has removed, and what it has not."""

    #: The storage, such as ``<LogStore '/srv/chats'>``.
    storage: str
    #: Whether it was only looked, and nothing was removed.
    dry_run: bool
    #: The sessions of which something was there, by key.
    sessions: tuple[ErasedSession, ...]
    #: Keys of sessions whose erasure had been cut short before, and was finished.
    finished: tuple[str, ...] = ()
    #: What of the text is still in the storage's files, and what it waits for. Erase again then; `verify` reminds you.
    waits: tuple[str, ...] = ()
    #: Files with the text, or that may have it, which an erasure leaves, since they are not the storage's own. Look at them, and remove them yourself.
    left: tuple[Finding, ...] = ()
    #: Where else the text may be, which no erasure can reach.
    unreachable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing of the text is left in the storage, or beside it."""
        return not self.waits and not self.left


def erase(
    storage: Storage, *keys: str, prefix: str = "", dry_run: bool = False, progress: Progress | None = None
) -> EraseReport:
    """Delete sessions, and leave no byte of their texts in any file of the storage.

    Messages, summary, metadata, archive, copies in quarantine, temporary files of killed saves, and entries of the index for search
    are gone when this returns, durably. In SQLite the whole database is written anew for that, which takes as long as copying it, and as much
    free space; other programs may go on reading it, and wait to write. For a directory close every manager first.

    A process that is killed leaves a session whole, or gone. The rest is finished by the next opening of a directory for writing. A database is written
    anew by the next call of this, of whatever session; until then `verify` says that the erasure is not finished.

    You may erase a session that was deleted before, for what the deletion has left.

    :param keys: of the sessions.
    :param prefix: instead of keys: all sessions whose keys start with this text, which must not be empty; ``"telegram:1"`` also
        means ``"telegram:10"``, `key_prefix` whole parts. Sessions of which something is in quarantine belong to them.
    :param dry_run: remove nothing, and report what there is. It only reads, beside the program that writes.
    :param progress: called with how many sessions are gone, how many there are, and the key of the last one. It may raise to give up;
        then that is as if the process was killed.
    :returns: what was removed, and what is left: see `EraseReport.waits`, `EraseReport.left`, `EraseReport.unreachable`.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if neither keys nor a prefix are given, or both.
    :raises InvalidKeyError: if a key is none.
    :raises StorageLockedError: if another process has the storage open, and is not to be shared with.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises SaveError: if something cannot be removed, or may come back after a power cut. Erase it again.
    :raises InvalidStorageError, StorageError: if the storage is not there, or cannot be opened or read.
    """
    check_type(prefix, (str,), "prefix must be a str")
    check_bool(dry_run, "dry_run")
    check_progress(progress)
    wanted = [check_key(key) for key in dict.fromkeys(keys)]
    if bool(wanted) == bool(prefix):
        raise ValueError("give the keys of sessions, or a prefix that is not empty: one of the two")
    _check_there(storage)
    with opened(storage, read_only=dry_run) as store:
        chosen = _keys(store, prefix) if prefix else wanted
        before = [_described(store, key) for key in chosen]
        copies = store.copies_of(chosen)
        done = Erasure() if dry_run else store.erase(chosen, _telling(chosen, progress))
        copies += store.copies_of(done.finished) if done.finished else []
        sessions = (_completed(one, done) for one in before)
        return EraseReport(
            storage=repr(store),
            dry_run=dry_run,
            sessions=tuple(one for one in sessions if one.found or one.quarantined or one.files),
            finished=done.finished,
            waits=done.waits,
            left=(*copies, *_beside(store)),
            unreachable=(*_EVERYWHERE, _IN_RAM) if store.shared and not dry_run else _EVERYWHERE,
        )


def _check_there(storage: Storage) -> None:
    """Raise if a storage is not there: a wrong path must not create one, and report that all is gone.

    :raises StorageError: if so.
    """
    if not isinstance(storage, Store):
        text, _, path = parts_of(storage)
        if path and not os.path.lexists(path):
            raise StorageError(text, "there is no storage")


def _keys(store: Store, prefix: str) -> list[str]:
    kept = (one.key for one in store.quarantined())
    return sorted({*store.keys(prefix), *(key for key in kept if key is not None and key.startswith(prefix))})


def _described(store: Store, key: str) -> ErasedSession:
    """Return what there is of a session."""
    found, messages, archived = True, None, None
    with contextlib.suppress(CorruptSessionError, UnsupportedFormatError):
        info = store.describe(key)
        found, messages = info is not None, 0 if info is None else info.count
    with contextlib.suppress(CorruptSessionError, UnsupportedFormatError):
        archived = sum(1 for _ in store.archive(key))
    quarantined = tuple(one.name for one in store.quarantined_of(key))
    return ErasedSession(key=key, found=found, messages=messages, archived=archived, quarantined=quarantined)


def _telling(keys: Sequence[str], progress: Progress | None) -> Callable[[str], object]:
    """Return what is called with each key whose session is gone."""
    numbers = itertools.count(1)
    return lambda key: None if progress is None else progress(next(numbers), len(keys), key)


def _completed(one: ErasedSession, done: Erasure) -> ErasedSession:
    """Add to a session what only the erasure has found of it."""
    purged = [kept.name for kept in done.quarantined if kept.key == one.key and kept.name not in one.quarantined]
    files = tuple(path for path, key in done.files if key == one.key)
    return attrs.evolve(one, quarantined=(*one.quarantined, *purged), files=files)


def _beside(store: Store) -> Iterator[Finding]:
    """Return what lies beside a storage and also holds sessions."""
    path = getattr(store, "path", None)
    for one in left_beside(path) if isinstance(path, str) else ():
        yield Finding(None, one.path, None, _KEPT if one.is_kept else _LEFT)
