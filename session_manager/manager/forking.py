"""Forks: copies of sessions under keys of their own."""

from __future__ import annotations

from datetime import datetime
from time import perf_counter

import attrs

from session_manager.errors import (
    ConflictError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManagerError,
    SessionNotFoundError,
    raise_alone,
)
from session_manager.frozen import Part
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.residents import Residents
from session_manager.model.session import Session
from session_manager.resource import Resource

__all__ = ["Forking"]


class Forking(Resource, Part):
    """Copies sessions to new keys. Every method may be called from any thread."""

    _residents: Residents

    def fork(self, key: str, new_key: str, at: datetime) -> Session:
        """Copy a session, as it is in RAM, to a key that has none, durably."""
        residents = self._residents
        residents.check_may_wait()
        locks = residents.keyed.locks_of((key, new_key))
        try:
            with locks[0], locks[-1]:  # of one key twice: such a lock can be taken again
                residents.check_not_closed()
                return self._fork(key, new_key, at)
        finally:
            residents.reports.deliver()

    def _fork(self, key: str, new_key: str, at: datetime) -> Session:
        """Copy a session. Requires both keyed locks."""
        residents, store = self._residents, self._residents.store
        source = residents.fetch(key)
        if source is None:
            raise SessionNotFoundError(key)
        if new_key == key or residents.fetch(new_key) is not None:
            raise SessionExistsError(new_key)
        blank = residents.blank(new_key, at)
        copy = attrs.evolve(
            source.session,
            key=new_key,
            generation=blank.generation,
            created=at,
            updated=at,
            revision=blank.revision,
            archived=0,
        )
        if not residents.is_stored:
            with residents.lock.checked:
                return residents.put_new(new_key, Entry.of(copy)).session
        commit = Entry.of(copy).commit(residents.new_id())
        began = perf_counter()
        try:
            store.write(commit)
        except ConflictError:  # another writer has created it meanwhile
            raise_alone(SessionExistsError(new_key))
        except BaseException as error:
            if isinstance(error, SaveOutcomeUnknownError) or not isinstance(error, SessionManagerError):
                with residents.lock.checked:
                    residents.put_watched(new_key, Entry.of(copy).writing(commit))
            raise
        residents.reports.saved(commit, perf_counter() - began)
        with residents.lock.checked:
            return residents.put_new(new_key, Entry.of(commit.session)).session
