"""Deletion of sessions, on request or because of their age."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    UnsupportedFormatError,
)
from session_manager.frozen import Part
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.fair_lock import Claims
from session_manager.manager.cache.residents import Residents
from session_manager.manager.pauses import ATTEMPTS, pause
from session_manager.model.session import ANY, Anything, Version, agree
from session_manager.resource import Resource
from session_manager.stores.contract import Commit, SessionInfo, Store

__all__ = ["IsOld", "Removal"]

_log = logging.getLogger("session_manager")


#: Says whether a session is old enough to be deleted.
IsOld = Callable[[SessionInfo], bool]


def _may_go(entry: Entry, is_old: IsOld) -> bool:
    """Say whether a session may be expired by what is in RAM of it: it is old, and no write of it is under way."""
    return entry.unknown is None and is_old(SessionInfo.of(entry.session))


def _stored(store: Store, key: str, entry: Entry | None, is_old: IsOld) -> SessionInfo | None:
    """Describe what is to be deleted of a session that may go by what is in RAM of it; `None`: it stays.

    It stays if what is stored is newer, or is not what RAM is based on.

    :returns: without a version if nothing is stored.
    """
    if entry is not None and entry.durable.version is None:
        return SessionInfo.of(entry.durable)
    info = store.describe(key)
    if info is None or info.version is None or not is_old(info):
        return None
    return info if entry is None or agree(entry.durable.version, info.version) else None


def _is_there(store: Store, expected: SessionInfo) -> bool:
    session = store.load(expected.key)
    return session is not None and agree(session.version, expected.version)


def _is_gone(store: Store, key: str) -> bool:
    """Say whether a session was deleted before an interrupt came: its unsaved messages must not start a new one."""
    with contextlib.suppress(Exception):
        return store.version(key) is None
    return False


class _Removed(Part):
    """What is known of a deletion."""

    #: Whether the store had the session.
    stored: bool = False
    #: Whether the store holds it no more.
    gone: bool = False
    #: Whether it was in RAM.
    resident: bool = False
    #: Whether it was forgotten there.
    noted: bool = False


class Removal(Resource, Part):
    """Deletes sessions. Every method may be called from any thread."""

    _residents: Residents
    #: The turns that are open or wait: their sessions do not expire.
    _turns: Claims

    def delete(self, key: str, expected: Version | Anything | None = ANY) -> bool:
        """Delete a session from RAM and from the store; say whether there was one.

        :raises ConflictError: if it is in another version than `expected`, or dirty.
        """
        reports = self._residents.reports
        try:
            with self._residents.lock_of(key):
                self._residents.check_not_closed()
                deleted = (
                    self._delete_any(key) if isinstance(expected, Anything) else self._delete_expected(key, expected)
                )
                if deleted:
                    reports.note("Deleted", key=key)
                return deleted
        finally:
            reports.deliver()

    def _delete_any(self, key: str) -> bool:
        """Delete a session in whatever version it has. Requires its keyed lock.

        A shared store is told the version that was seen there. Otherwise a request that arrives late could delete a session
        that began after it. A damaged session has no version. A write that is still on its way is stopped first. Otherwise it could
        arrive after the deletion, and begin the session again.
        """
        store = self._residents.store
        if not store.shared:
            return self._delete(key)
        for attempt in range(ATTEMPTS):
            try:
                self._stop_write(key)
                seen = store.version(key) or self._put_back(store, key)
                if seen is not None:
                    return self._delete(key, seen)
            except (CorruptSessionError, UnsupportedFormatError):
                return self._delete(key)
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return self._delete_unsaved(key)
            pause(attempt)
        raise AssertionError("the last attempt raises")

    def _delete_unsaved(self, key: str) -> bool:
        """Delete a session that a store does not hold; say whether it was one.

        Another writer may have deleted what RAM still has. Then unsaved messages are a session, and changes of what is gone are none.
        """
        residents = self._residents
        self._current(key)
        with residents.lock.checked:
            entry = residents.by_key.get(key)
            residents.deleted(key, stored=False)
            return entry is not None and entry.dirty

    def _put_back(self, store: Store, key: str) -> Version | None:
        """Write a session that a store has lost whole, and return its version; `None` if it was deleted, or never saved.

        Its deletion then leaves a trace. Otherwise another program that has it in RAM would write it again.
        """
        entry = self._residents.peek(key)
        known = None if entry is None else entry.acknowledged
        found = None if known is None or not known.revision else store.newer(known)
        if known is None or found is None or found.revision:
            return None
        commit = Commit(known, (), None, token=self._residents.new_id())
        store.write(commit)
        return commit.session.version

    def _stop_write(self, key: str) -> None:
        """Ask the store for a write whose outcome is unknown: if it has not landed, it never will."""
        entry = self._residents.peek(key)
        if entry is not None and entry.unknown is not None:
            self._residents.store.landed(entry.unknown)

    def _delete_expected(self, key: str, expected: Version | None) -> bool:
        """Delete a session in one version. Requires its keyed lock. A message that comes now waits, and starts a new one."""
        residents, store = self._residents, self._residents.store
        entry = residents.peek(key)
        if entry is not None and entry.dirty:
            with contextlib.suppress(CorruptSessionError, UnsupportedFormatError):
                self._current(key)
        with residents.lock.checked:
            entry = residents.by_key.get(key)
            there = None if entry is None else entry.durable.version
            if entry is not None and (entry.dirty or (there != expected and not residents.is_stored)):
                reason = "it has unsaved changes" if entry.dirty else "it was changed"
                raise ConflictError(key, expected, there, reason)
            if not residents.is_stored:
                if there != expected:
                    raise ConflictError(key, expected, there, "there is no such session")
                return residents.deleted(key, stored=False)
            residents.leave(key)
        try:
            if expected is None and (there := store.version(key)) is not None:
                raise ConflictError(key, None, there, "there is such a session")
            return expected is not None and self._delete(key, expected)
        finally:
            with residents.lock.checked:
                residents.stay(key)

    def _delete(self, key: str, expected: Version | None = None) -> bool:
        """Delete a session, in one version if that is given. Requires its keyed lock."""
        removed = _Removed()
        try:
            try:
                self._delete_stored(key, expected, removed)
            finally:
                self._note(key, removed)
        finally:
            # Once more, since an interrupt may have cut the first one short: unsaved messages must not start a new session.
            self._note(key, removed)
        return removed.stored or removed.resident

    def _delete_stored(self, key: str, expected: Version | None, removed: _Removed) -> None:
        store = self._residents.store
        try:
            removed.stored = store.delete(key, expected)
            if expected is not None and not removed.stored:
                raise ConflictError(key, expected, store.version(key), "it was saved meanwhile")
            removed.gone = True
        except SaveOutcomeUnknownError:
            removed.gone = removed.stored = True
            raise
        except SessionManagerError:
            raise
        except BaseException:
            removed.gone = _is_gone(store, key)
            self._doubt(key)
            raise

    def _note(self, key: str, removed: _Removed) -> None:
        """Forget a session that the store holds no more, once; let one that it still holds be used again. Requires the keyed lock."""
        residents = self._residents
        with residents.lock.checked:
            if not removed.gone:
                residents.stay(key)
            elif not removed.noted:
                removed.resident = residents.deleted(key, stored=removed.stored) or removed.resident
                removed.noted = True

    def _doubt(self, key: str) -> None:
        """After an interrupt, forget a clean session, so that the next call reads whether it is still stored."""
        residents = self._residents
        with residents.lock.checked:
            entry = residents.by_key.get(key)
            if entry is not None and not entry.dirty:
                residents.forget(key)

    def expire(self, key: str, is_old: IsOld, *, dry_run: bool = False) -> bool:
        """Delete a session if it is still old; say whether it was deleted.

        :param dry_run: only say whether it would be.
        :raises StorageError: as the store's `Store.delete` does; what was in RAM of it is still there.
        """
        reports = self._residents.reports
        try:
            with self._residents.lock_of(key):
                self._residents.check_not_closed()
                if self._turns.is_claimed(key):
                    return False
                if dry_run:
                    return self._would_expire(key, is_old)
                expired = self._expire(key, is_old)
                if expired:
                    reports.note("Expired", key=key)
                return expired
        finally:
            reports.deliver()

    def _would_expire(self, key: str, is_old: IsOld) -> bool:
        """Decide as `_expire` does, and read what is stored, for a damaged session stays. Requires the keyed lock."""
        store, entry = self._residents.store, None
        try:
            entry = self._current(key)
            if entry is not None and not _may_go(entry, is_old):
                return False
            if not self._residents.is_stored:
                return entry is not None
            if entry is None:
                session = store.load(key)
                return session is not None and is_old(SessionInfo.of(session))
            expected = _stored(store, key, entry, is_old)
            return expected is not None and (expected.version is None or _is_there(store, expected))
        except (CorruptSessionError, UnsupportedFormatError):
            return False
        finally:
            if entry is None:
                store.release(key)

    def _current(self, key: str) -> Entry | None:
        """Return what is in RAM of a session, over what other writers have saved. Requires the keyed lock.

        :raises CorruptSessionError: if what is stored is damaged.
        """
        residents = self._residents
        entry = residents.peek(key)
        return residents.fetch(key) if entry is not None and residents.store.shared else entry

    def _expire(self, key: str, is_old: IsOld) -> bool:
        """Delete a session that is old in RAM and stored. Requires its keyed lock."""
        residents = self._residents
        if not residents.is_stored:
            with residents.lock.checked:
                entry = residents.by_key.get(key)
                return entry is not None and _may_go(entry, is_old) and residents.deleted(key, stored=False)
        removed = _Removed(stored=True)
        try:
            try:
                self._expire_stored(key, is_old, removed)
            finally:
                self._note(key, removed)
        finally:
            self._note(key, removed)  # once more, as in `_delete`
        return removed.gone

    def _expire_stored(self, key: str, is_old: IsOld, removed: _Removed) -> None:
        residents, store = self._residents, self._residents.store
        entry = None
        try:
            self._current(key)
            entry = self._leave(key, is_old)
            if entry is not None or residents.peek(key) is None:
                expected = _stored(store, key, entry, is_old)
                removed.gone = expected is not None and (
                    expected.version is None or store.delete(key, expected.version)
                )
        except SaveOutcomeUnknownError:
            removed.gone = True
            raise
        except (CorruptSessionError, UnsupportedFormatError) as error:
            _log.warning("not expired: %s", error)
        except SessionManagerError:
            raise
        except BaseException:
            # All that is in RAM of an entry that was left is old. Any other one stays, for what is unsaved in it may be new.
            removed.gone = entry is not None and entry.durable.version is not None and _is_gone(store, key)
            self._doubt(key)
            raise

    def _leave(self, key: str, is_old: IsOld) -> Entry | None:
        """Return the entry of a session that is in RAM and old. A message that comes now waits, and starts a new one."""
        residents = self._residents
        with residents.lock.checked:
            entry = residents.by_key.get(key)
            if entry is None or not _may_go(entry, is_old) or self._turns.is_claimed(key):
                return None
            residents.leave(key)
            return entry
