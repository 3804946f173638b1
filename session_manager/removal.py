"""Removal: deleting a session for good, on request or because of its age."""

from __future__ import annotations

import contextlib
import logging
from datetime import datetime

import attrs

from session_manager.entries import Entry
from session_manager.errors import (
    CorruptSessionError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    UnsupportedFormatError,
)
from session_manager.residents import Residents
from session_manager.store import SessionInfo, Store

__all__ = ["Removal", "is_older"]

_log = logging.getLogger("session_manager")


def is_older(info: SessionInfo, than: datetime) -> bool:
    """Say whether a session's last message (of one without messages, its creation) is older than a moment."""
    time = info.last_message_at or info.created
    return time is not None and time < than


def _is_gone(store: Store, key: str) -> bool:
    """Say whether a session was deleted before an interrupt came: what is unsaved must not start a new one."""
    with contextlib.suppress(Exception):
        return store.version(key) is None
    return False


@attrs.define(eq=False, repr=False)
class Removal:
    """Deletes sessions. Every method may be called from any thread."""

    _residents: Residents

    def delete(self, key: str) -> bool:
        """Delete a session from RAM and from the store; say whether there was one."""
        return self._residents.held(key, lambda: self._delete(key))

    def _delete(self, key: str) -> bool:
        store = self._residents.store
        gone = store is None
        try:
            stored = store is not None and store.delete(key)
            gone = True
        except SaveOutcomeUnknownError:
            gone = True
            raise
        except SessionManagerError:
            raise
        except BaseException:
            gone = store is not None and _is_gone(store, key)
            self._doubt(key)
            raise
        finally:
            resident = gone and self._residents.guard.run(self._residents.forget, key) is not None
        return stored or resident

    def _doubt(self, key: str) -> None:
        """After an interrupt, let the next call read whether the session is still there, unless it is in RAM only."""
        self._residents.guard.run(self._forget_clean, key)

    def _forget_clean(self, key: str) -> None:
        entry = self._residents.resident(key)
        if entry is not None and not entry.dirty:
            self._residents.forget(key)

    def expire(self, key: str, than: datetime) -> bool:
        """Delete a session if it is still older than a moment; say whether it was deleted.

        :raises StorageError: as the store's `Store.delete` does; what was in RAM of it is still there.
        """
        return self._residents.held(key, lambda: self._expire(key, than))

    def _expire(self, key: str, than: datetime) -> bool:
        residents, store = self._residents, self._residents.store
        if store is None:
            return residents.guard.run(self._forget, key, than)
        deleted, entry = False, None
        try:
            entry = residents.guard.run(self._leave, key, than)
            if entry is not None or residents.peek(key) is None:
                deleted = self._delete_stored(store, key, entry, than)
        except SaveOutcomeUnknownError:
            deleted = True
            raise
        except (CorruptSessionError, UnsupportedFormatError) as error:
            _log.warning("not expired: %s", error)
        except SessionManagerError:
            raise
        except BaseException:
            # All that is in RAM of an entry that was left is old. Any other one stays, for what is unsaved in it may be new.
            deleted = entry is not None and entry.durable.version is not None and _is_gone(store, key)
            self._doubt(key)
            raise
        finally:
            residents.guard.run(residents.forget if deleted else residents.stay, key)
        return deleted

    def _forget(self, key: str, than: datetime) -> bool:
        entry = self._residents.resident(key)
        if entry is None or not is_older(SessionInfo.of(entry.session), than):
            return False
        return self._residents.forget(key) is not None

    def _leave(self, key: str, than: datetime) -> Entry | None:
        """Return the entry of a session that is in RAM and old. A message that comes now waits, and starts a new one."""
        entry = self._residents.resident(key)
        if entry is None or entry.unknown is not None or not is_older(SessionInfo.of(entry.session), than):
            return None
        self._residents.leave(key)
        return entry

    def _delete_stored(self, store: Store, key: str, entry: Entry | None, than: datetime) -> bool:
        if entry is not None and entry.durable.version is None:
            return True
        info = store.describe(key)
        if info is None or info.version is None or not is_older(info, than):
            return False
        if entry is not None and entry.durable.version != info.version:
            return False
        return store.delete(key, info.version)
