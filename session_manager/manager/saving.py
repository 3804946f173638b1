"""Saving: how what is dirty gets into the store, and what becomes of a write whose outcome is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

import attrs

from session_manager.errors import (
    ConflictError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManagerError,
    SessionNotFoundError,
)
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.locks import nothing
from session_manager.manager.cache.residents import Residents
from session_manager.model.changes import Change, Witness
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.stores.contract import Commit, Store

__all__ = ["Saving"]

_BATCH = 64
_ATTEMPTS = 100


@attrs.frozen(eq=False, repr=False)
class _Unknown:
    """A write that was begun before, and of which nobody has noted what became of it."""

    commit: Commit


@attrs.define(eq=False, repr=False)
class Saving(Resource):
    """Writes the resident sessions to their store. Every method may be called from any thread."""

    _residents: Residents

    def save(self, key: str) -> bool:
        """Save a session, and say whether something was written."""
        entry, store = self._residents.peek(key), self._residents.store
        if store is None or entry is None or not entry.dirty:
            return False
        return self._residents.held(key, lambda: self._save(store, key))

    def carry_out(self, key: str, change: Change, *, blind: bool = False) -> bool | None:
        """Make a change and save it; say whether it is durable, or `None` if there is no such session.

        `False`: it had no effect, or has none on top of what another writer saved. What is done to the session right
        after it does not matter.

        :param blind: as for `Residents.change`.
        :raises ReentrantCallError: where the save would be refused; nothing has changed.
        """
        if self._residents.store is not None:
            self._residents.keyed.check_none_is_mine()
        witness = Witness()
        seen = attrs.evolve(change, witness=witness)
        changed = self._residents.change(key, lambda _: seen, blind=blind)
        if changed is None or changed[0] is changed[1]:
            return None if changed is None else False
        if self._residents.store is None:
            return True
        self.save(key)
        return witness.durable

    def save_all(self) -> int:
        """Save every dirty session; try all, then raise `SaveFailedError`."""
        self._residents.check_open()
        return self._raising(self._save_dirty(self._residents.check_open))

    def flush(self) -> int:
        """Save every dirty session while the manager is being closed."""
        return self._raising(self._save_dirty(nothing))

    def save_some(self, keys: Iterable[str]) -> dict[str, Exception]:
        """Save those of some sessions that are dirty; return which could not be saved, and why."""
        return self._save_many(sorted(keys), self._residents.check_open)[1]

    def _raising(self, outcome: tuple[int, dict[str, Exception]]) -> int:
        written, failures = outcome
        if failures:
            reasons = ", ".join(sorted({type(error).__name__ for error in failures.values()}))
            raise SaveFailedError(None, reasons, failures) from next(iter(failures.values()))
        return written

    def _save_dirty(self, check: Callable[[], None]) -> tuple[int, dict[str, Exception]]:
        entries = self._residents.entries()
        return self._save_many(sorted(key for key, entry in entries.items() if entry.dirty), check)

    def _save_many(self, keys: list[str], check: Callable[[], None]) -> tuple[int, dict[str, Exception]]:
        store = self._residents.store
        failures: dict[str, Exception] = {}
        written = 0
        for first in range(0, len(keys) if store is not None else 0, _BATCH):
            assert store is not None
            batch = keys[first : first + _BATCH]
            save = partial(self._save_batch, store, batch, failures)
            written += self._residents.keyed.run(batch, check, save)
        return written, failures

    def _save_batch(self, store: Store, keys: list[str], failures: dict[str, Exception]) -> int:
        """Save sessions whose keyed locks are held: in one write, and one by one what needs more than that."""
        begun = [commit for key in keys if (commit := self._begin(key)) is not None]
        commits = [commit for commit in begun if isinstance(commit, Commit)]
        singly = [commit.commit.session.key for commit in begun if isinstance(commit, _Unknown)]
        written = 0
        for commit, error in zip(commits, self._write(store, commits), strict=True):
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
        """Save a session whose keyed lock is held."""
        conflict: Exception | None = None
        for _ in range(_ATTEMPTS):
            commit = self._begin(key)
            if commit is None:
                return False
            if isinstance(commit, _Unknown):
                if self._settle(store, commit.commit) and not self.is_dirty(key):
                    return True
                continue
            conflict = self._write(store, [commit])[0]
            if conflict is None:
                return True
            if not isinstance(conflict, ConflictError):
                raise conflict
            self._residents.rebase(store, key)
        assert conflict is not None
        raise conflict

    def _begin(self, key: str) -> Commit | _Unknown | None:
        """Begin a write of a session: return what is to be written, or to be settled first; `None` if it is clean.

        From here on until it is noted what became of it, the write counts as unknown: an interrupt at any point is
        settled by the next save.
        """
        return self._residents.guard.run(self._note_begun, key, self._residents.new_id())

    def _note_begun(self, key: str, token: str) -> Commit | _Unknown | None:
        entry = self._residents.resident(key)
        if entry is None or not entry.dirty:
            return None
        if entry.unknown is not None:
            return _Unknown(entry.unknown)
        entry = entry.thinned()
        commit = entry.commit(token, archive=self._residents.archive)
        self._residents.put(key, entry.writing(commit))
        return commit

    def is_dirty(self, key: str) -> bool:
        """Say whether a session has something to save."""
        entry = self._residents.peek(key)
        return entry is not None and entry.dirty

    def _write(self, store: Store, commits: list[Commit]) -> list[Exception | None]:
        """Write commits that were begun, and take note of what became of each."""
        try:
            errors = store.write_many(commits)
        except Exception as broken:
            for commit in commits:
                self._residents.guard.run(self._residents.note_failure, commit.session.key, broken)
            raise
        for commit, error in zip(commits, errors, strict=True):
            if error is None:
                _testify(commit)
            self._residents.guard.run(self._note_written, commit, error)
        return errors

    def _note_written(self, commit: Commit, error: Exception | None) -> None:
        key = commit.session.key
        if not isinstance(error, ConflictError):
            self._residents.note_failure(key, error)
        if error is None:
            self._residents.advance(key, partial(Entry.landed, commit=commit))
        elif not isinstance(error, SaveOutcomeUnknownError):
            self._residents.advance(key, Entry.not_landed)

    def _settle(self, store: Store, commit: Commit, *, give_up: bool = False) -> bool:
        """Find out whether an unknown write landed.

        :param give_up: take one of which nobody can tell any more for one that did not.
        :raises ConflictError: nobody can tell any more.
        """
        landed = store.landed(commit)
        if landed is None and not give_up:
            key = commit.session.key
            reason = "nobody can tell any more whether the last save landed: reload it"
            raise ConflictError(key, commit.base, store.version(key), reason)
        if landed:
            _testify(commit)
        self._residents.guard.run(self._note_settled, commit, landed=bool(landed))
        return bool(landed)

    def _note_settled(self, commit: Commit, *, landed: bool) -> None:
        key = commit.session.key
        self._residents.note_failure(key, None)
        self._residents.advance(key, partial(Entry.landed, commit=commit) if landed else Entry.not_landed)

    def reload(self, key: str) -> list[Change]:
        """Read a session from the store again, and return the changes given up."""
        store = self._residents.store
        return [] if store is None else self._residents.held(key, lambda: self._reload(store, key))

    def _reload(self, store: Store, key: str) -> list[Change]:
        entry = self._residents.peek(key)
        if entry is not None and entry.unknown is not None:
            self._settle(store, entry.unknown, give_up=True)
        session = store.load(key)
        return self._residents.guard.run(self._note_reloaded, key, session, self._residents.measured(session))

    def _note_reloaded(self, key: str, session: Session | None, size: int | None) -> list[Change]:
        entry = self._residents.reloaded(key, session, size)
        return [] if entry is None else entry.pending.to_list()

    def fork(self, key: str, new_key: str, at: datetime) -> Session:
        """Copy a session, as it is in RAM, to a key that has none, durably."""
        residents = self._residents
        residents.check_may_wait()
        return residents.keyed.run([key, new_key], residents.check_open, lambda: self._fork(key, new_key, at))

    def _fork(self, key: str, new_key: str, at: datetime) -> Session:
        residents, store = self._residents, self._residents.store
        source, there = (
            residents.peek(one) if store is None else residents.fetch(store, one) for one in (key, new_key)
        )
        if source is None:
            raise SessionNotFoundError(key)
        if there is not None:
            raise SessionExistsError(new_key)
        blank = residents.blank(new_key, at)
        copy = attrs.evolve(
            source.session, key=new_key, generation=blank.generation, created=at, updated=at, revision=0, archived=0
        )
        if store is None:
            return residents.guard.run(residents.put_new, new_key, Entry.of(copy)).session
        commit = Entry.of(copy).commit(residents.new_id())
        try:
            store.write(commit)
        except BaseException as error:
            if isinstance(error, SaveOutcomeUnknownError) or not isinstance(error, SessionManagerError):
                residents.guard.run(residents.put_watched, new_key, Entry.of(copy).writing(commit))
            raise
        return residents.guard.run(residents.put_new, new_key, Entry.of(commit.session)).session


def _testify(commit: Commit) -> None:
    """Tell those who wait for it that a commit is durable."""
    for change in commit.changes:
        if change.witness is not None:
            change.witness.durable = True
