"""Saving: how dirty sessions get into the store, and how a write whose outcome is unknown is settled."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from functools import partial
from time import perf_counter

import attrs

from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    LeaseLostError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.frozen import Frozen, Part
from session_manager.manager.cache.entry import Entry, dirty_of
from session_manager.manager.cache.locks import holding
from session_manager.manager.cache.residents import Residents
from session_manager.manager.pauses import ATTEMPTS, pause
from session_manager.model.changes import Change, Witness
from session_manager.resource import Resource
from session_manager.stores.contract import Commit, Store

__all__ = ["Saving", "under_its_lease"]

#: How many sessions are saved together, at most.
_BATCH = 256
#: Of the sessions that one call could not save, so many different reasons are told.
_SHOWN = 3
#: After these a save needs a decision, which only a caller can make.
_NOT_UNASKED = (ConflictError, CorruptSessionError, UnsupportedFormatError)


class _Unknown(Frozen, frozen=True):
    """A write that was begun before, and whose outcome was not noted."""

    commit: Commit


class Saving(Resource, Part):
    """Writes the resident sessions to their store. Every method may be called from any thread."""

    _residents: Residents

    def save(self, key: str) -> bool:
        """Save a session, and say whether something was written."""
        residents, reports = self._residents, self._residents.reports
        lock = residents.lock_to_save(key)
        if lock is None:
            return False
        try:
            with lock:
                residents.check_not_closed()
                return self._save(residents.store, key)
        finally:
            if reports.waiting:
                reports.deliver()

    def save_held(self, store: Store, key: str) -> bool:
        """Save a session, and say whether something was written. Requires its keyed lock."""
        return self.is_dirty(key) and self._save(store, key)

    def save_all(self) -> int:
        """Save every dirty session; try all, then raise `SaveFailedError`."""
        self._residents.check_open()
        return self._raising(self._save_many(self._dirty(), closing=False))

    def flush(self) -> int:
        """Save every dirty session while the manager is being closed."""
        return self._raising(self._save_many(self._dirty(), closing=True))

    def save_the_rest(self) -> None:
        """Save every dirty session that can be saved, while a manager that its program left open is being closed.

        A session whose last save met a conflict or damage stays as it is. So does one that cannot be saved now.
        """
        failures = self._residents.failures()
        keys = [key for key in self._dirty() if not isinstance(failures.get(key), _NOT_UNASKED)]
        try:
            self._save_many(keys, closing=True)
        except Exception:  # noqa: BLE001 - a store that fails in a way of its own; the other sessions are still to be saved
            for key in keys:
                with contextlib.suppress(Exception):
                    self._save_many([key], closing=True)

    def save_some(self, keys: Iterable[str]) -> dict[str, Exception]:
        """Save the dirty ones of some sessions; return the keys that could not be saved, and why."""
        return self._save_many(sorted(keys), closing=False)[1]

    def _raising(self, outcome: tuple[int, dict[str, Exception]]) -> int:
        written, failures = outcome
        if failures:
            raise SaveFailedError(None, _reasons(failures.values()), failures) from next(iter(failures.values()))
        return written

    def _dirty(self) -> list[str]:
        """Return the keys of the dirty sessions, sorted."""
        return sorted(dirty_of(self._residents.entries()))

    def _save_many(self, keys: list[str], *, closing: bool) -> tuple[int, dict[str, Exception]]:
        """Save sessions, many at once; return how many were written, and the errors by key.

        :param closing: the manager is being closed, and still saves.
        """
        store = self._residents.store
        failures: dict[str, Exception] = {}
        written = 0
        try:
            size = _batch()
            for first in range(0, len(keys), size):
                batch = keys[first : first + size]
                locks = self._residents.keyed.locks_of(batch)
                written += holding(locks, partial(self._save_batch, store, batch, failures, closing=closing))
        finally:
            if not closing:
                self._residents.reports.deliver()
        return written, failures

    def _save_batch(self, store: Store, keys: list[str], failures: dict[str, Exception], *, closing: bool) -> int:
        """Save sessions together, and singly those that need more than one write. Requires their keyed locks."""
        if not closing:
            self._residents.check_not_closed()
        begun = [one for key in keys if (one := self._begin(key)) is not None]
        commits = [entry.written for entry in begun if isinstance(entry, Entry)]
        singly = [one.commit.session.key for one in begun if isinstance(one, _Unknown)]
        written = 0
        for commit, error in zip(commits, self._write_many(store, commits), strict=True):
            if error is None:
                written += 1
            elif isinstance(error, ConflictError):
                singly.append(commit.session.key)
            else:
                failures[commit.session.key] = error
        for key in singly:
            try:
                written += self._save(store, key)
            except SessionManagerError as error:
                failures[key] = error
        return written

    def _save(self, store: Store, key: str) -> bool:
        """Save a session, and say whether something was written. Requires its keyed lock."""
        conflict: ConflictError | None = None
        try:
            for attempt in range(ATTEMPTS):
                begun = self._begin(key)
                if begun is None:
                    return False
                if isinstance(begun, _Unknown):
                    if self.settle(store, begun.commit) and not self.is_dirty(key):
                        return True
                    continue
                conflict = self._write(store, begun)
                if conflict is None:
                    return True
                if isinstance(conflict, LeaseLostError) and not self.give_up(key, begun.written):
                    return False
                self._get_over(key, conflict, attempt)
            assert conflict is not None
            raise conflict
        except ConflictError as error:
            with self._residents.lock.checked:
                self._residents.note_failure(key, error)
            self._residents.reports.note("Conflict", key=key, error=error)
            raise

    def _begin(self, key: str) -> Entry | _Unknown | None:
        """Begin a write of a session; return its entry with the commit, or what to settle first; `None` if the session is clean.

        From here on until its outcome is noted, the write counts as unknown: an interrupt at any point is
        settled by the next save. Requires the keyed lock.
        """
        residents = self._residents
        token = "" if residents.store.tokenless else residents.new_id()
        with residents.lock.unchecked:
            entry = residents.by_key.get(key)
            if entry is None or not entry.dirty:
                return None
            if entry.unknown is not None:
                return _Unknown(entry.unknown)
            entry = entry.thinned()
            commit = entry.commit(token, archive=residents.archive)
            if residents.is_leased:
                commit = under_its_lease(commit)
            residents.by_key[key] = entry = entry.writing(commit)
            return entry

    def _get_over(self, key: str, conflict: ConflictError, attempt: int) -> None:
        """Take over what another writer has saved, before the next attempt. Requires the keyed lock."""
        if not isinstance(conflict, LeaseLostError):
            pause(attempt)
            self._residents.rebase(key)

    def give_up(self, key: str, commit: Commit) -> bool:
        """Take a turn back whose lease another turn took; say whether other calls are left to save. Requires the keyed lock.

        Its own thread raises the error. A session that the turn has created stays for it to take back.
        """
        residents = self._residents
        with residents.lock.checked:
            witness = _fenced(commit)
            if witness is None:  # the save of its own thread has failed meanwhile: it stays, and is bound to no lease
                return True
            witness.is_fenced_off = True
            entry = residents.by_key[key].without(witness)
            residents.put(key, entry)
            if not entry.dirty:
                residents.note_failure(key, None)
        residents.reports.note("LeaseLost", key=key)
        return bool(entry.pending)

    def is_dirty(self, key: str) -> bool:
        """Say whether a session has something to save."""
        entry = self._residents.peek(key)
        return entry is not None and entry.dirty

    def _write(self, store: Store, begun: Entry) -> ConflictError | None:
        """Write the commit of an entry, and note its outcome; return the conflict, if there was one."""
        commit, residents = begun.unknown, self._residents
        assert commit is not None
        reports = residents.reports
        # Code after a sync runs with cold caches, and takes twice as long: what can be made before is made here.
        landed, lock, tells_saves = begun.landed(commit), residents.lock.unchecked, reports.tells_saves
        began = perf_counter()
        try:
            store.write(commit)
        except ConflictError as error:
            self.note(commit, error)
            reports.failed(commit, error, perf_counter() - began)
            return error
        except SessionManagerError as error:
            self.note(commit, error)
            reports.failed(commit, error, perf_counter() - began)
            raise
        except Exception as broken:
            self._note_broken([commit], broken)
            reports.failed(commit, broken, perf_counter() - began)
            raise
        seconds = perf_counter() - began
        with lock:
            residents.land(commit, begun, landed)
        if tells_saves or seconds > reports.slow:
            reports.saved(commit, seconds)
        return None

    def _write_many(self, store: Store, commits: list[Commit]) -> list[Exception | None]:
        """Write commits that were begun, and note the outcome of each; return their errors."""
        reports, lock, began = self._residents.reports, self._residents.lock.checked, perf_counter()
        try:
            errors = store.write_many(commits)
        except Exception as broken:
            self._note_broken(commits, broken)
            reports.saved_many(commits, [broken] * len(commits), perf_counter() - began)
            raise
        for commit, error in zip(commits, errors, strict=True):
            if error is None:
                with lock:
                    self._residents.land(commit)
            else:
                self.note(commit, error)
        reports.saved_many(commits, errors, perf_counter() - began)
        return errors

    def note(self, commit: Commit, error: Exception | None) -> None:
        """Note the outcome of a write, by the error that the store gave for it."""
        key, residents = commit.session.key, self._residents
        with residents.lock.checked:
            if error is None:
                residents.land(commit)
                return
            if not isinstance(error, ConflictError):
                residents.note_failure(key, error)
            if not isinstance(error, SaveOutcomeUnknownError):
                residents.put(key, residents.by_key[key].not_landed())

    def take_back(self, commit: Commit) -> None:
        """Note that a write did not happen. What it did together with other sessions is taken back, as if it had not been called.

        Requires the lock.
        """
        residents, key = self._residents, commit.session.key
        entry = residents.by_key[key].not_landed()
        if commit.joint is not None:
            entry = entry.without(commit.joint.witness)
            if commit.joint.created and not entry.pending and not entry.durable.revision:
                residents.forget(key)
                return
        residents.put(key, entry)

    def _note_broken(self, commits: list[Commit], broken: Exception) -> None:
        """Note that the store failed in a way of its own: the outcome of the writes stays unknown."""
        with self._residents.lock.checked:
            for commit in commits:
                self._residents.note_failure(commit.session.key, broken)

    def settle(self, store: Store, commit: Commit, *, give_up: bool = False) -> bool:
        """Find out whether an unknown write landed. Requires the keyed lock.

        :param give_up: if the store cannot tell any more, take the write for one that did not land.
        :raises ConflictError: the store cannot tell any more.
        """
        key, residents = commit.session.key, self._residents
        landed = store.landed(commit)
        if landed is None and not give_up and not commit.is_told_by_refs(store.load(key)):
            reason = "nobody can tell any more whether the last save landed: reload it"
            raise ConflictError(key, commit.base, store.version(key), reason)
        if landed:
            with residents.lock.checked:
                residents.land(commit)
            residents.reports.saved(commit, 0.0)
            return True
        with residents.lock.checked:
            residents.note_failure(key, None)
            self.take_back(commit)
        return False

    def reload(self, key: str) -> list[Change]:
        """Read a session from the store again, and return the changes given up."""
        residents, store = self._residents, self._residents.store
        if not residents.is_stored:
            return []
        with residents.lock_of(key):
            residents.check_not_closed()
            entry = residents.peek(key)
            if entry is not None and entry.unknown is not None:
                self.settle(store, entry.unknown, give_up=True)
            began = perf_counter()
            session = store.load(key)
            residents.reports.loaded(key, session, began)
            size = residents.measured(session)
            with residents.lock.checked:
                before = residents.reloaded(key, session, size)
        residents.reports.deliver()
        return [] if before is None else before.pending.to_list()


def _reasons(errors: Iterable[Exception]) -> str:
    """Return why sessions were not saved. Of an error that is not the library's only the type: its text may be that of a message."""
    reasons = sorted({_reason(error) for error in errors})
    return ", ".join([*reasons[:_SHOWN], *(["…"] if len(reasons) > _SHOWN else [])])


def _reason(error: Exception) -> str:
    name, reason = type(error).__name__, error.reason if isinstance(error, StorageError) else ""
    return f"{name} ({reason})" if reason else name


def _fenced(commit: Commit) -> Witness | None:
    """Return the witness of the change that must be written under a lease; `None` if there is none."""
    for change in commit.changes:
        if change.witness is not None and change.witness.fence is not None:
            return change.witness
    return None


def _batch() -> int:
    """Return how many sessions to save together: a store of files has as many files open meanwhile.

    That is at most a quarter of what the process may have, so that other threads still get some: macOS allows 256, Linux 1,024.
    """
    allowed = os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else -1
    return _BATCH if allowed < 0 else min(max(allowed // 4, 1), _BATCH)


def under_its_lease(commit: Commit) -> Commit:
    """Return a commit with the fence of the lease that it must be written under, if there is one."""
    witness = _fenced(commit)
    return commit if witness is None else attrs.evolve(commit, fence=witness.fence)
