"""Salvage of damaged sessions: every message that is whole, and a name for what is missing."""

from __future__ import annotations

import attrs

from session_manager.arguments import Progress, check_bool, check_progress
from session_manager.as_dict import AsDict
from session_manager.errors import CorruptSessionError, InvalidStorageError, StorageError, UnsupportedFormatError
from session_manager.model.key import check_key
from session_manager.model.message import Message
from session_manager.stores.contract import Finding, Store
from session_manager.stores.files.filesystem import real_path
from session_manager.stores.opening import Storage, opened
from session_manager.stores.salvaged import Salvaged
from session_manager.stores.sqlite.rebuilding import carved, is_page_damage, rebuild
from session_manager.stores.sqlite.salvage import Carved
from session_manager.stores.urls import parts_of

__all__ = ["Gap", "SalvageReport", "SalvagedSession", "salvage"]


@attrs.frozen
class Gap(AsDict):
    """A range of positions without a whole message."""

    first: int
    last: int


@attrs.frozen(kw_only=True, repr=False)
class SalvagedSession(AsDict):
    """All of a session that is whole."""

    #: Its name.
    key: str
    #: Its whole messages, in order.
    messages: tuple[Message, ...] = ()
    #: Its whole archived messages, by position.
    archived: tuple[Message, ...] = ()
    #: The positions of messages that are in doubt: no checksum proves them, or a record of the log is lost. The record may
    #: have edited or dropped them, so that old text has come back. Or they may have been added behind messages that it had.
    doubtful: tuple[int, ...] = ()
    #: The positions without a whole message. If there are more of them than are `lost`, some were removed before the damage.
    missing: tuple[Gap, ...] = ()
    #: How many messages are lost; `None` if no part that is whole tells how many there were.
    lost: int | None = None
    #: The summary, if it is there.
    summary: str = ""
    #: What is wrong; empty if nothing is.
    findings: tuple[Finding, ...] = ()
    #: Whether the session was put right in the storage.
    written: bool = False
    #: The names of the damaged bytes in quarantine.
    quarantined: tuple[str, ...] = ()

    def __repr__(self) -> str:
        state = "written" if self.written else "damaged" if self.findings else "sound"
        return f"<SalvagedSession {self.key[:80]!a}: {len(self.messages)} messages, {state}>"


@attrs.frozen(kw_only=True)
class SalvageReport(AsDict):
    """The outcome of a salvage."""

    #: The damaged sessions, by key; with a key, that session, damaged or not.
    sessions: tuple[SalvagedSession, ...] = ()
    #: How many sessions were looked at.
    checked: int = 0
    #: Where a damaged database is kept that was written anew, because SQLite could not write in it any more.
    replaced: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged, or all of it was put right."""
        return all(one.written or not one.findings for one in self.sessions)


def salvage(
    storage: Storage, key: str | None = None, *, write: bool = False, progress: Progress | None = None
) -> SalvageReport:
    """Return every message of damaged sessions that is whole, in order, and name what is missing.

    By default nothing is written: a URL or path is opened read-only, beside the program that writes to it. With `write`, the
    damaged bytes go to quarantine first; then the whole messages take the session's place, at its next revision. After a crash
    each session is the damaged one or the new one. A database in which SQLite cannot write any more is written anew, all of it; the
    damaged one is kept beside it (`SalvageReport.replaced`). A session without a whole message stays as it is: `delete` moves
    it to quarantine.

    :param key: only this session; otherwise all of them, of which the damaged ones are returned.
    :param write: put the damaged sessions right. Read the report without it first.
    :param progress: called after each session, with how many are done, how many there are, and the session's key.
    :raises TypeError, InvalidKeyError: if an argument is wrong.
    :raises StorageLockedError: with `write`, if another process has the storage open.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises SaveFailedError, SaveOutcomeUnknownError: if a session cannot be written. Those before it are; salvage again.
    :raises InvalidStorageError, StorageError: if the storage cannot be opened or listed.
    """
    check_bool(write, "write")
    check_progress(progress)
    wanted = None if key is None else check_key(key)
    try:
        with opened(storage, read_only=not write) as store:
            return _in_place(store, wanted, progress, write=write)
    except (StorageError, InvalidStorageError) as error:
        there = (
            None if isinstance(storage, Store) or not is_page_damage(error) else carved(real_path(parts_of(storage)[2]))
        )
        if there is None:
            raise
    return _on_pages(there, wanted, progress, write=write)


def _in_place(store: Store, wanted: str | None, progress: Progress | None, *, write: bool) -> SalvageReport:
    keys = sorted(store.keys()) if wanted is None else [wanted]
    found: list[SalvagedSession] = []
    for number, one in enumerate(keys, 1):
        session = _salvaged(store, one, write=write)
        if session is not None and (session.findings or wanted is not None):
            found.append(session)
        if progress is not None:
            progress(number, len(keys), one)
    return SalvageReport(sessions=tuple(found), checked=len(keys))


def _on_pages(there: Carved, wanted: str | None, progress: Progress | None, *, write: bool) -> SalvageReport:
    """Salvage a database that SQLite cannot open, or cannot write in; with `write`, all of it is written anew."""
    keys = there.keys()
    found: list[SalvagedSession] = []

    def note(salvaged: Salvaged) -> None:
        found.append(_described(salvaged, [], written=write))
        if progress is not None:
            progress(len(found), len(keys), salvaged.session.key)

    replaced = None
    if write:
        replaced = rebuild(there, note)
    else:
        for key in keys if wanted is None else [wanted]:
            salvaged = there.salvage(key)
            if salvaged is not None:
                note(salvaged)
    shown = tuple(one for one in found if wanted in (None, one.key))
    return SalvageReport(sessions=shown, checked=len(keys), replaced=replaced)


def _salvaged(store: Store, key: str, *, write: bool) -> SalvagedSession | None:
    """Salvage a session; `None` if there is none."""
    try:
        found = store.salvage(key)
    except (CorruptSessionError, UnsupportedFormatError) as error:
        offset = error.offset if isinstance(error, CorruptSessionError) else None
        return SalvagedSession(key=key, findings=(Finding(key, error.path, offset, error.reason),))
    except StorageError as error:
        return SalvagedSession(key=key, findings=(Finding(key, error.path, None, error.reason),))
    if found is None:
        return None
    writes = write and bool(found.flaws) and not found.is_empty
    kept = store.put_salvaged(found) if writes else []
    return _described(found, kept, written=writes)


def _described(found: Salvaged, kept: list[str], *, written: bool) -> SalvagedSession:
    session = found.session
    return SalvagedSession(
        key=session.key,
        messages=tuple(session.messages),
        archived=tuple(one for _, one in found.archive),
        doubtful=tuple(sorted(found.doubtful)),
        missing=tuple(Gap(first, last) for first, last in found.gaps) if found.flaws else (),
        lost=found.lost if found.flaws else 0,
        summary=session.summary,
        findings=tuple(Finding(session.key, flaw.path, flaw.offset, flaw.reason) for flaw in found.flaws),
        written=written,
        quarantined=tuple(kept),
    )
