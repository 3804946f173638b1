"""Renames: a session gets another key, in RAM and in the store, with its archive and what is not saved yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManagerError,
    SessionNotFoundError,
    UnsupportedFormatError,
    raise_alone,
)
from session_manager.frozen import Part
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.residents import Residents
from session_manager.manager.pauses import ATTEMPTS, pause
from session_manager.manager.saving import Saving
from session_manager.model.session import Session, Version
from session_manager.resource import Resource
from session_manager.stores.contract import Store

__all__ = ["Renaming"]


class Renaming(Resource, Part):
    """Renames sessions. Every method may be called from any thread, with the turn locks of both keys."""

    _residents: Residents
    _saving: Saving

    def rename(self, key: str, new_key: str) -> Session:
        """Rename a session; see `SessionManager.rename`."""
        residents, store = self._residents, self._residents.store
        residents.check_may_wait()
        locks = residents.keyed.locks_of((key, new_key))
        with locks[0], locks[-1]:  # of one key twice: such a lock can be taken again
            residents.check_not_closed()
            return self._rename(store, key, new_key) if residents.is_stored else self._in_ram(key, new_key)

    def _in_ram(self, key: str, new_key: str) -> Session:
        residents = self._residents
        with residents.lock.checked:
            entry = residents.by_key.get(key)
            if entry is None:
                raise SessionNotFoundError(key)
            if new_key in residents.by_key:
                raise SessionExistsError(new_key)
            renamed = replace(entry, session=entry.session._with(key=new_key), durable=entry.durable._with(key=new_key))
            residents.deleted(key, stored=False)
            return residents.put_new(new_key, renamed).session

    def _rename(self, store: Store, key: str, new_key: str) -> Session:
        """Rename a session in its store. Requires both keyed locks."""
        residents = self._residents
        source = residents.fetch(key)
        if source is None:
            raise SessionNotFoundError(key)
        if new_key == key:
            raise SessionExistsError(new_key)
        self._check_is_free(new_key, source.durable.version)  # a refusal saves nothing
        conflict: ConflictError | None = None
        with self._waiting(key):
            for attempt in range(ATTEMPTS):
                session = self._saved(store, key)
                assert session.version is not None
                self._check_is_free(new_key, session.version)
                try:
                    return self._move(store, session, new_key, session.version)
                except ConflictError as error:  # another writer has saved it
                    conflict = error
                    pause(attempt)
                    residents.rebase(key)
        assert conflict is not None
        raise conflict

    @contextmanager
    def _waiting(self, key: str) -> Iterator[None]:
        """Let threads that want to use a session wait for its keyed lock: what they add belongs to what is there then."""
        residents = self._residents
        try:
            with residents.lock.checked:
                residents.leave(key)
            yield
        finally:
            with residents.lock.checked:
                residents.stay(key)

    def _saved(self, store: Store, key: str) -> Session:
        """Save a session, and return it.

        :raises SessionNotFoundError: if another writer has deleted it.
        :raises SaveError: if it cannot be saved.
        """
        self._saving.save_held(store, key)
        entry = self._residents.peek(key)
        session = store.load(key) if entry is None else entry.durable
        if session is None:
            raise SessionNotFoundError(key)
        return session

    def _check_is_free(self, new_key: str, version: Version | None) -> None:
        """Raise `SessionExistsError` if there is a session, but for one that a rename that was cut short has left."""
        try:
            there = self._residents.fetch(new_key)
        except (CorruptSessionError, UnsupportedFormatError):
            raise_alone(SessionExistsError(new_key))
        if there is not None and (there.dirty or there.durable.version != version):
            raise SessionExistsError(new_key)

    def _move(self, store: Store, session: Session, new_key: str, version: Version) -> Session:
        """Rename a session in the store and in RAM; after an interrupt in RAM in neither way, until the store is asked."""
        try:
            store.rename(session.key, new_key, version)
            return self._moved(session, new_key)
        except BaseException as error:
            if isinstance(error, SaveOutcomeUnknownError) or not isinstance(error, SessionManagerError):
                self._forget(session.key, new_key)
            raise

    def _forget(self, *keys: str) -> None:
        """Forget sessions, so that the next call reads under which key they are."""
        residents = self._residents
        for key in keys:
            with residents.lock.checked:
                entry = residents.by_key.get(key)
                if entry is not None and not entry.dirty:
                    residents.forget(key)

    def _moved(self, session: Session, new_key: str) -> Session:
        """Put a session into RAM under its new key."""
        residents, renamed = self._residents, session._with(key=new_key)
        size = residents.measured(renamed)
        with residents.lock.checked:
            residents.deleted(session.key, stored=True)
            residents.forget(new_key)
            return residents.put_new(new_key, Entry.of(renamed), size).session
