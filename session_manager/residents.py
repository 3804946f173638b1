"""The sessions in RAM, and their way from and to the store.

Of each session, loads, saves and deletes happen under its keyed lock; what is in RAM is read and changed under the guard
alone, so that a slow disk delays nobody who does not need it.
"""

from __future__ import annotations

import enum
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

import attrs

from session_manager.changes import Change
from session_manager.entries import Entry
from session_manager.errors import (
    ClosedError,
    ConflictError,
    ReentrantCallError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManagerError,
    SessionNotFoundError,
)
from session_manager.locks import Guard, KeyedLocks, is_mine
from session_manager.model import Session
from session_manager.store import Commit, Store

__all__ = ["Residents", "random_id"]

R = TypeVar("R")

#: The storage as a whole, which is no session's key: held, it keeps the store from being closed.
STORAGE = ""

_BATCH = 64
_ATTEMPTS = 100


class _State(enum.Enum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


def random_id() -> str:
    """Return 128 random bits in hex."""
    return secrets.token_hex(16)


class Residents:
    """The sessions in RAM, and where they are saved. Every method may be called from any thread.

    :param store: where they live; `None` for RAM only.
    :param new_id: gives the random ids of generations and writes.
    :param owns_store: whether to close the store.
    """

    def __init__(self, store: Store | None, new_id: Callable[[], str], *, owns_store: bool) -> None:
        self.store = store
        self._owns_store = owns_store
        self.new_id = new_id
        self._entries: dict[str, Entry] = {}
        self._failures: dict[str, Exception] = {}
        self._guard = Guard()
        self._keyed = KeyedLocks(self._guard)
        self._closing = threading.RLock()
        self._state = _State.OPEN

    def check_open(self) -> None:
        """Raise if no call may be made.

        :raises ForkedError: in a child process.
        :raises ClosedError: if it is closed, or being closed.
        """
        self._guard.check_process()
        self.check_state()

    def check_state(self) -> None:
        """Raise `ClosedError` if it is closed, or being closed: the cheap half of `check_open`."""
        if self._state is not _State.OPEN:
            raise ClosedError

    def held(self, key: str, function: Callable[[], R]) -> R:
        """Call a function while holding a session's keyed lock."""
        return self._keyed.run([key], self.check_open, function)

    def entry(self, key: str) -> Entry | None:
        """Return what is in RAM of a session."""
        return self._guard.run(self._entry, key)

    def _entry(self, key: str) -> Entry | None:
        self.check_state()
        return self._entries.get(key)

    def entries(self) -> dict[str, Entry]:
        """Return all that is in RAM."""
        return self._guard.run(self._entries.copy)

    def failures(self) -> dict[str, Exception]:
        """Return the keys whose last save failed, and why."""
        return self._guard.run(self._failures.copy)

    def blank(self, key: str, at: datetime) -> Session:
        """Return a new session, of a new generation."""
        return Session(key=key, generation=self.new_id(), created=at, updated=at)

    # From the store

    def touch(self, key: str) -> Entry | None:
        """Return a session's entry, loading it if need be; `None` if there is no such session."""
        entry, store = self.entry(key), self.store
        if entry is not None or store is None:
            return entry
        return self.held(key, lambda: self._load(store, key))

    def create(self, key: str, at: datetime) -> Entry:
        """Return a session's entry; it is created if there is no such session."""
        entry = self.touch(key)
        if entry is not None:
            return entry
        created = Entry.of(self.blank(key, at))

        def load_or_create() -> Entry:
            loaded = None if self.store is None else self._load(self.store, key)
            return loaded or self._guard.run(self._entries.setdefault, key, created)

        return self.held(key, load_or_create)

    def _load(self, store: Store, key: str) -> Entry | None:
        """Return a session's entry; its keyed lock is held."""
        entry = self._guard.run(self._entries.get, key)
        if entry is not None:
            return entry
        session = store.load(key)
        return None if session is None else self._guard.run(self._entries.setdefault, key, Entry.of(session))

    # In RAM

    def change(self, key: str, make: Callable[[Session], Change | None]) -> tuple[Session, Session] | None:
        """Change a session.

        :param make: gives the change, or `None` for no change; called under the guard.
        :returns: the session before and after; `None` if there is no such session.
        """
        while True:
            changed = self._guard.run(self._change, key, make)
            if changed is not None or self.touch(key) is None:
                return changed

    def _change(self, key: str, make: Callable[[Session], Change | None]) -> tuple[Session, Session] | None:
        entry = self._entry(key)
        if entry is None:
            return None
        change = make(entry.session)
        after = entry if change is None else entry.changed(change, keep=self.store is not None)
        if after is not entry:
            self._entries[key] = after
        return entry.session, after.session

    # To the store

    def save(self, key: str) -> bool:
        """Save a session, and say whether something was written."""
        entry, store = self.entry(key), self.store
        if store is None or entry is None or not entry.dirty:
            return False
        return self.held(key, lambda: self._save(store, key))

    def save_all(self) -> int:
        """Save every dirty session; try all, then raise `SaveFailedError`."""
        self.check_open()
        return self._save_all(self.check_open)

    def _save_all(self, check: Callable[[], None]) -> int:
        store = self.store
        if store is None:
            return 0
        dirty = sorted(key for key, entry in self.entries().items() if entry.dirty)
        failures: dict[str, Exception] = {}
        written = 0
        for first in range(0, len(dirty), _BATCH):
            batch = dirty[first : first + _BATCH]
            save = partial(self._save_batch, store, batch, failures)
            written += self._keyed.run(batch, check, save)
        if failures:
            reasons = ", ".join(sorted({type(error).__name__ for error in failures.values()}))
            raise SaveFailedError(None, reasons, failures) from next(iter(failures.values()))
        return written

    def _save_batch(self, store: Store, keys: list[str], failures: dict[str, Exception]) -> int:
        """Save sessions whose keyed locks are held: in one write, and one by one what needs more than that."""
        commits, singly = [], []
        for key in keys:
            entry = self._guard.run(self._entries.get, key)
            if entry is not None and entry.unknown is not None:
                singly.append(key)
            elif entry is not None and entry.dirty:
                commits.append(entry.commit(self.new_id()))
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
            entry = self._guard.run(self._entries.get, key)
            if entry is None or not entry.dirty:
                return False
            if entry.unknown is not None:
                if self._settle(store, entry.unknown) and not self._guard.run(self._entries.__getitem__, key).dirty:
                    return True
                continue
            conflict = self._write(store, [entry.commit(self.new_id())])[0]
            if conflict is None:
                return True
            if not isinstance(conflict, ConflictError):
                raise conflict
            self._rebase(store, key)
        assert conflict is not None
        raise conflict

    def _write(self, store: Store, commits: list[Commit]) -> list[Exception | None]:
        """Write commits, and take note of what became of each.

        Until that is noted each write counts as unknown: an interrupt at any point is settled by the next save.
        """
        for commit in commits:
            self._guard.run(self._note_writing, commit)
        errors = store.write_many(commits)
        for commit, error in zip(commits, errors, strict=True):
            self._guard.run(self._note_written, commit, error)
        return errors

    def _note_writing(self, commit: Commit) -> None:
        key = commit.session.key
        self._entries[key] = self._entries[key].writing(commit)

    def _note_written(self, commit: Commit, error: Exception | None) -> None:
        key = commit.session.key
        if error is None:
            self._failures.pop(key, None)
            self._entries[key] = self._entries[key].landed(commit)
            return
        if not isinstance(error, ConflictError):
            self._failures[key] = error
        if not isinstance(error, SaveOutcomeUnknownError):
            self._entries[key] = self._entries[key].not_landed()

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
        self._guard.run(self._note_settled, commit, landed=bool(landed))
        return bool(landed)

    def _note_settled(self, commit: Commit, *, landed: bool) -> None:
        key = commit.session.key
        entry = self._entries[key]
        self._entries[key] = entry.landed(commit) if landed else entry.not_landed()
        self._failures.pop(key, None)

    def _rebase(self, store: Store, key: str) -> None:
        """Take over what the store holds now, and put the pending changes on top of it."""
        newer = store.load(key)
        entry = self._guard.run(self._entries.__getitem__, key)
        blank = self.blank(key, entry.pending[0].at if entry.pending else entry.session.updated)
        self._guard.run(self._note_newer, key, newer, blank)

    def _note_newer(self, key: str, newer: Session | None, blank: Session) -> None:
        rebased = self._entries[key].rebased(newer, blank)
        if rebased is None:
            del self._entries[key]
            self._failures.pop(key, None)
        else:
            self._entries[key] = rebased

    def reload(self, key: str) -> list[Change]:
        """Read a session from the store again, and return the changes given up."""
        store = self.store
        return [] if store is None else self.held(key, lambda: self._reload(store, key))

    def _reload(self, store: Store, key: str) -> list[Change]:
        entry = self._guard.run(self._entries.get, key)
        if entry is not None and entry.unknown is not None:
            self._settle(store, entry.unknown, give_up=True)
        return self._guard.run(self._note_reloaded, key, store.load(key))

    def _note_reloaded(self, key: str, session: Session | None) -> list[Change]:
        entry = self._entries.get(key)
        self._failures.pop(key, None)
        if session is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = Entry.of(session)
        return [] if entry is None else entry.pending.to_list()

    def delete(self, key: str) -> bool:
        """Delete a session from RAM and from the store; say whether there was one."""
        return self.held(key, lambda: self._delete(key))

    def _delete(self, key: str) -> bool:
        gone = self.store is None
        try:
            stored = self.store is not None and self.store.delete(key)
            gone = True
        except SaveOutcomeUnknownError:
            gone = True
            raise
        finally:
            resident = gone and self._guard.run(self._forget, key)
        return stored or resident

    def _forget(self, key: str) -> bool:
        self._failures.pop(key, None)
        return self._entries.pop(key, None) is not None

    def fork(self, key: str, new_key: str, at: datetime) -> Session:
        """Copy a session, as it is in RAM, to a key that has none, durably."""
        return self._keyed.run([key, new_key], self.check_open, lambda: self._fork(key, new_key, at))

    def _fork(self, key: str, new_key: str, at: datetime) -> Session:
        source, there = self._both(key, new_key)
        if source is None:
            raise SessionNotFoundError(key)
        if there is not None:
            raise SessionExistsError(new_key)
        blank = self.blank(new_key, at)
        copy = attrs.evolve(
            source.session, key=new_key, generation=blank.generation, created=at, updated=at, revision=0
        )
        if self.store is None:
            return self._guard.run(self._entries.setdefault, new_key, Entry.of(copy)).session
        commit = Entry(copy, blank).commit(self.new_id())
        try:
            self.store.write(commit)
        except SaveOutcomeUnknownError:
            self._guard.run(self._entries.setdefault, new_key, Entry(copy, blank, unknown=commit))
            raise
        return self._guard.run(self._entries.setdefault, new_key, Entry.of(commit.session)).session

    def _both(self, key: str, new_key: str) -> tuple[Entry | None, Entry | None]:
        if self.store is None:
            return self._guard.run(lambda: (self._entries.get(key), self._entries.get(new_key)))
        return self._load(self.store, key), self._load(self.store, new_key)

    def close(self, *, save: bool) -> None:
        """Save what is dirty, refuse further calls, wait for those that run, and close the store.

        :raises SaveFailedError: something was not saved, and it stays open.
        """
        self._guard.check_process()
        if is_mine(self._closing):
            raise ReentrantCallError
        with self._closing:
            if self._state is not _State.CLOSED:
                self._drain(save=save)
            if self._owns_store and self.store is not None:
                self.store.close()

    def _drain(self, *, save: bool) -> None:
        try:
            self._state = _State.CLOSING
            if save:
                self._save_all(_nothing)
            self._keyed.drain()
            self._state = _State.CLOSED
        finally:
            if self._state is _State.CLOSING:
                self._state = _State.OPEN

    def abandon(self) -> int:
        """Refuse further calls and close the store, without waiting; return how many sessions were not saved."""
        if not self._guard.is_of_this_process:
            return 0
        was_open, self._state = self._state is not _State.CLOSED, _State.CLOSED
        unsaved = sum(entry.dirty for entry in self._entries.values()) if was_open and self.store is not None else 0
        if self._owns_store and self.store is not None:
            self.store.close()
        return unsaved


def _nothing() -> None:
    pass
