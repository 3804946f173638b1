"""The sessions in RAM, and how they get there from the store.

Of each session, loads, saves and deletes happen under its keyed lock; what is in RAM is read and changed under the guard
alone, so that a slow disk delays nobody who does not need it.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from session_manager.errors import ClosedError, ConflictError, ReadOnlyError, ReentrantCallError
from session_manager.manager.cache.bonds import Bond, Bonds
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.eviction import Budget, measure
from session_manager.manager.cache.locks import Guard, KeyedLocks
from session_manager.model.changes import Change
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.stores.contract import Store
from session_manager.threads import check_may_wait, is_mine

__all__ = ["STORAGE", "Residents"]

R = TypeVar("R")

#: The storage as a whole, which is no session's key: held, it keeps the store from being closed.
STORAGE = ""


class _State(enum.Enum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Residents(Resource):
    """The sessions in RAM. Every method may be called from any thread.

    :param store: where they live; `None` for RAM only.
    :param new_id: gives the random ids of generations and writes.
    :param owns_store: whether to close the store.
    :param read_only: whether nothing may be changed.
    :param archive: whether what truncation and summaries drop is kept.
    :param budget: what evicts sessions, if they are not all to stay.
    """

    def __init__(
        self,
        store: Store | None,
        new_id: Callable[[], str],
        *,
        owns_store: bool,
        read_only: bool = False,
        archive: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self.store = store
        self._owns_store = owns_store
        self.new_id = new_id
        self._read_only = read_only
        self.archive = archive
        self._budget = budget
        self._entries: dict[str, Entry] = {}
        self._failures: dict[str, Exception] = {}
        #: Sessions that are being expired: in RAM, but whoever wants to use one waits for its keyed lock.
        self._leaving: set[str] = set()
        self.guard = Guard()
        self.keyed = KeyedLocks(self.guard)
        self._bonds = Bonds()
        self._closing = threading.RLock()
        self._state = _State.OPEN
        #: Called under the guard with every entry that a change made.
        self.watch: Callable[[str, Entry], None] | None = None

    def attach(self) -> None:
        """Take the store, until `let_go`.

        :raises StoreInUseError: if another manager has it, and it is not shared.
        """
        if self.store is not None:
            self.store.attach(self)

    def check_open(self) -> None:
        """Raise if no call may be made.

        :raises ForkedError: in a child process.
        :raises ClosedError: if it is closed, or being closed.
        """
        self.guard.check_process()
        self.check_state()

    def check_state(self) -> None:
        """Raise `ClosedError` if it is closed, or being closed: the cheap half of `check_open`."""
        if self._state is not _State.OPEN:
            raise ClosedError

    def check_writable(self) -> None:
        """Raise if nothing may be changed: `ClosedError`, or `ReadOnlyError`."""
        self.check_state()
        if self._read_only:
            raise ReadOnlyError

    def check_may_wait(self) -> None:
        """Raise `WouldWaitError` before what may wait for the store, in a call that must not (`event_loops.at_once`)."""
        if self.store is not None:
            check_may_wait()

    def held(self, key: str, function: Callable[[], R]) -> R:
        """Call a function while holding a session's keyed lock.

        :raises WouldWaitError: as `check_may_wait` does.
        """
        self.check_may_wait()
        return self.keyed.run([key], self.check_open, function)

    def entry(self, key: str) -> Entry | None:
        """Return what is in RAM of a session, to be used; `None` of one that is being expired."""
        return self.guard.run(self._entry, key)

    def _entry(self, key: str) -> Entry | None:
        self.check_state()
        if self._leaving and key in self._leaving:
            return None
        if self._budget is not None:
            self._budget.used(key)
        return self._entries.get(key)

    def resident(self, key: str) -> Entry | None:
        """Return what is in RAM of a session; under the guard."""
        return self._entries.get(key)

    def peek(self, key: str) -> Entry | None:
        """Return what is in RAM of a session, also while the manager is being closed, and without using it."""
        return self.guard.run(self.resident, key)

    def entries(self) -> dict[str, Entry]:
        """Return all that is in RAM."""
        return self.guard.run(self._entries.copy)

    def failures(self) -> dict[str, Exception]:
        """Return the keys whose last save failed, and why."""
        return self.guard.run(self._failures.copy)

    def blank(self, key: str, at: datetime) -> Session:
        """Return a new session, of a new generation."""
        return Session(key=key, generation=self.new_id(), created=at, updated=at)

    # Under the guard

    def put(self, key: str, entry: Entry, change: Change | None = None, size: int | None = None) -> None:
        """Put an entry into RAM; evict others if there are too many; under the guard.

        :param change: what it was changed by.
        :param size: its `measure`, if that was asked already.
        """
        if self._bonds.by_key:
            self._bonds.appeared(key, entry.session.generation)
        if self._budget is None:
            self._entries[key] = entry
            return
        self._budget.put(key, self._entries.get(key), entry, change, size)
        self._entries[key] = entry
        for oldest in self._budget.oldest():
            if oldest != key and not self._entries[oldest].dirty:
                self._drop(oldest)

    def _drop(self, key: str) -> Entry | None:
        if self._budget is not None:
            self._budget.drop(key)
        entry = self._entries.pop(key, None)
        if self.store is not None:
            self.store.release(key)
        return entry

    def put_new(self, key: str, entry: Entry, size: int | None = None) -> Entry:
        """Put an entry into RAM unless there is one; return the one that is there; under the guard."""
        if key not in self._entries:
            self.put(key, entry, size=size)
        return self._entries[key]

    def reloaded(self, key: str, session: Session | None, size: int | None) -> Entry | None:
        """Take a session as it was just read for what is in RAM, and return that; under the guard."""
        before = self._entries.get(key)
        if before is not None and not before.durable.revision:
            generation = None if session is None else session.generation
            self._bonds.replaced(key, before.durable.generation, generation)
        if session is None:
            self.forget(key)
        else:  # not forgotten first: the store would forget what it has just read
            self._forget_notes(key)
            self.put(key, Entry.of(session), size=size)
        return before

    def bind(self, key: str, session: Session | None) -> Bond:
        """Return the bond of a turn that begins; under the guard.

        :param session: as the turn has seen it; `None` if there was none.
        """
        entry = self._entries.get(key)
        seen = session if session is not None or entry is None else entry.session
        return self._bonds.bind(key, None if seen is None else seen.generation)

    def measured(self, session: Session | None) -> int | None:
        """Return about how much RAM a session takes, if anybody wants to know. It takes time: not under the guard."""
        return None if self._budget is None or session is None else measure(session)

    def leave(self, key: str) -> None:
        """Make whoever wants to use a session wait for its keyed lock, which is held; under the guard."""
        self._leaving.add(key)

    def stay(self, key: str) -> None:
        """Let a session be used again; under the guard."""
        self._leaving.discard(key)

    # From the store

    def touch(self, key: str) -> Entry | None:
        """Return a session's entry as it is now, from the store if need be; `None` if there is no such session."""
        entry, store = self.entry(key), self.store
        if store is None or (entry is not None and not self._is_stale(store, entry)):
            return entry
        return self.held(key, lambda: self.fetch(store, key))

    def _is_stale(self, store: Store, entry: Entry) -> bool:
        """Say whether somebody else has saved the session since. While a write of ours is under way, nobody asks."""
        if not store.shared or entry.unknown is not None:
            return False
        self.check_may_wait()
        return store.version(entry.session.key) != entry.durable.version

    def fetch(self, store: Store, key: str) -> Entry | None:
        """Return a session's entry as it is now; its keyed lock is held, so that all it can lose meanwhile is its place."""
        if self._leaving:
            self.guard.run(self.stay, key)  # an interrupt may have left it so
        entry = self.peek(key)
        if entry is None:
            session = store.load(key)
            if session is None:
                return None
            return self.guard.run(self.put_new, key, Entry.of(session), self.measured(session))
        if self._is_stale(store, entry):
            try:
                return self.rebase(store, key)
            except ConflictError:
                pass
        return self.peek(key) or entry

    def create(self, key: str, at: datetime) -> Entry:
        """Return a session's entry; it is created if there is no such session.

        :raises ReadOnlyError: if it would have to be.
        """
        entry = self.touch(key)
        if entry is not None:
            return entry
        self.check_writable()
        created = Entry.of(self.blank(key, at))

        def load_or_create() -> Entry:
            loaded = None if self.store is None else self.fetch(self.store, key)
            return loaded or self.guard.run(self.put_watched, key, created)

        return self.held(key, load_or_create)

    def put_watched(self, key: str, created: Entry) -> Entry:
        """Put an entry that is dirty into RAM, as `put_new` does; under the guard."""
        entry = self.put_new(key, created)
        if self.watch is not None:
            self.watch(key, entry)
        return entry

    def rebase(self, store: Store, key: str) -> Entry | None:
        """Take over what the store holds now, and put the pending changes on top of it; the keyed lock is held.

        :returns: the session's entry; `None` if it is gone.
        :raises ConflictError: if they cannot be reconciled; nothing has changed.
        """
        newer = store.load(key)
        size, entry = self.measured(newer), self.peek(key)
        if entry is None:  # clean, and evicted meanwhile
            return None if newer is None else self.guard.run(self.put_new, key, Entry.of(newer), size)
        blank = self.blank(key, entry.pending[0].at if entry.pending else entry.session.updated)
        return self.guard.run(self._note_newer, key, newer, blank, size)

    def _note_newer(self, key: str, newer: Session | None, blank: Session, size: int | None) -> Entry | None:
        if key not in self._entries:
            return None if newer is None else self.put_new(key, Entry.of(newer), size)
        before = self._entries[key]
        rebased = before.rebased(newer, blank)
        if newer is not None and not before.durable.revision:
            self._bonds.replaced(key, before.durable.generation, newer.generation)
        if rebased is None:
            self.forget(key)
        else:
            self.put(key, rebased)
            if not rebased.dirty:
                self.note_failure(key, None)
        return rebased

    # In RAM

    def change(
        self, key: str, make: Callable[[Session], Change | None], *, blind: bool = False
    ) -> tuple[Session, Session] | None:
        """Change a session.

        :param make: gives the change, or `None` for no change; called under the guard.
        :param blind: it does not look at the session, which then need not be the newest.
        :returns: the session before and after; `None` if there is no such session.
        """
        if not blind and self.store is not None and self.store.shared:
            self.touch(key)
        while True:
            changed = self.guard.run(self._change, key, make)
            if changed is not None or self.touch(key) is None:
                return changed

    def _change(self, key: str, make: Callable[[Session], Change | None]) -> tuple[Session, Session] | None:
        entry = self._entry(key)
        if entry is None:
            return None
        change = make(entry.session)
        after = entry if change is None else entry.changed(change, keep=self.store is not None, archive=self.archive)
        if after is not entry:
            self.put(key, after, change)
            if self.watch is not None:
                self.watch(key, after)
        return entry.session, after.session

    def advance(self, key: str, step: Callable[[Entry], Entry]) -> None:
        """Put what a step of a write makes of a session's entry; under the guard."""
        self.put(key, step(self._entries[key]))

    def note_failure(self, key: str, failure: Exception | None) -> None:
        """Note whether the last save of a session failed; under the guard."""
        if failure is None:
            self._failures.pop(key, None)
        else:
            self._failures[key] = failure

    def forget(self, key: str) -> Entry | None:
        """Forget a session, and return what was in RAM of it; under the guard."""
        self._forget_notes(key)
        return self._drop(key)

    def deleted(self, key: str, *, stored: bool) -> bool:
        """Forget a session that is deleted, and say whether it was in RAM; under the guard.

        :param stored: whether the store had it.
        """
        resident = self.forget(key) is not None
        if stored or resident:
            self._bonds.deleted(key)
        return resident

    def _forget_notes(self, key: str) -> None:
        self._failures.pop(key, None)
        self._leaving.discard(key)

    # The end

    def close(self, flush: Callable[[], object]) -> None:
        """Refuse further calls, save what is dirty, wait for the calls that run, and close the store.

        :param flush: saves it, while other calls are refused.
        :raises SaveFailedError: something was not saved, and it stays open.
        """
        self.guard.check_process()
        if is_mine(self._closing):
            raise ReentrantCallError
        with self._closing:
            if self._state is not _State.CLOSED:
                self._drain(flush)
            self.let_go()

    def _drain(self, flush: Callable[[], object]) -> None:
        try:
            self._state = _State.CLOSING
            flush()
            self.keyed.drain()
            flush()  # what the last of them left: a session that was just created, say
            self._state = _State.CLOSED
        finally:
            if self._state is _State.CLOSING:
                self._state = _State.OPEN

    def abandon(self) -> int:
        """Refuse further calls, without waiting; return how many sessions were not saved."""
        if not self.guard.is_of_this_process:
            return 0
        was_open, self._state = self._state is not _State.CLOSED, _State.CLOSED
        return sum(entry.dirty for entry in self._entries.values()) if was_open and self.store is not None else 0

    def let_go(self) -> None:
        """Give the store back, and close it if it is ours to close. No call may be using it."""
        if self.store is not None and self.guard.is_of_this_process:
            self.store.detach(self)
            if self._owns_store:
                self.store.close()
