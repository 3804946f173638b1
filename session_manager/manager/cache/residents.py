"""The sessions in RAM, and how they get there from the store.

A thread that loads, saves or deletes a session holds the lock of its key. A thread that reads or changes what is in RAM
holds only `Residents.lock`, for microseconds. So a slow disk delays only the calls that need it.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from time import perf_counter

from session_manager.errors import ClosedError, ConflictError, ReadOnlyError, ReentrantCallError
from session_manager.manager.cache.bonds import Bond, Bonds
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.eviction import Budget, measure
from session_manager.manager.cache.locks import KeyedLocks, RamLock
from session_manager.manager.cache.nothing import Nothing
from session_manager.manager.cache.refs import RefMaps
from session_manager.manager.reports import Reports
from session_manager.model.changes import Change
from session_manager.model.recovery import continues, is_another, is_behind, lost
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.stores.contract import Commit, Store
from session_manager.threads import check_may_wait, is_mine

__all__ = ["STORAGE", "Make", "Residents"]

#: Gives the change that a call means for a session; `None` if it means none.
Make = Callable[[Session], Change | None]

#: Stands for the whole storage, and is no session's key: a thread that holds its lock keeps the store from being closed.
STORAGE = ""


class _Phase(enum.Enum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Residents(Resource):
    """The sessions in RAM. Every method may be called from any thread, unless it says that it requires a lock.

    "Requires the lock." means `lock`; the lock of a session's key is its *keyed lock*, from `lock_of`.

    :param store: where they live; `None` for RAM only.
    :param new_id: gives the random ids of generations and writes.
    :param owns_store: whether to close the store.
    :param read_only: whether nothing may be changed.
    :param archive: whether what truncation and summaries drop is kept.
    :param budget: what evicts sessions, if they are not all to stay.
    :param reports: tells a callback what happens, if there is one.
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
        reports: Reports | None = None,
    ) -> None:
        #: Whether sessions live anywhere but in RAM. If not, each change is as good as saved, and no session is ever dirty.
        self.is_stored = store is not None
        self.store: Store = Nothing() if store is None else store
        self._owns_store = owns_store
        self.new_id = new_id
        self._read_only = read_only
        self.archive = archive
        self._budget = budget
        #: What has happened, to be told outside of all locks.
        self.reports = Reports() if reports is None else reports
        #: What is in RAM, by key. Requires the lock.
        self.by_key: dict[str, Entry] = {}
        self._failures: dict[str, Exception] = {}
        #: Sessions that are being expired: in RAM, but a thread that wants to use one waits for its keyed lock.
        self._leaving: set[str] = set()
        #: The lock of what is in RAM: taken by ``with residents.lock.checked``.
        self.lock = RamLock()
        self.keyed = KeyedLocks(self.lock)
        self._bonds = Bonds()
        #: Where the messages of a ref are. Requires the lock.
        self.ref_maps = RefMaps(budget)
        self._closing = threading.RLock()
        self._phase = _Phase.OPEN
        #: Called with every entry that a change made, by a thread that holds the lock.
        self.watch: Callable[[str, Entry], None] | None = None
        #: Settles a write whose outcome is unknown, by a thread that holds the keyed lock.
        self.settle: Callable[[Store, Commit], object] | None = None
        #: Whether turns are written under leases.
        self.is_leased = False
        #: Called before the store is given back.
        self.last: Callable[[], object] | None = None

    def attach(self) -> None:
        """Take the store, until `let_go`.

        :raises StoreInUseError: if another manager has it, and it is not shared.
        """
        self.store.attach(self)

    def check_open(self) -> None:
        """Raise if no call may be made.

        :raises ForkedError: in a child process.
        :raises ClosedError: if it is closed, or being closed.
        """
        self.lock.check_process()
        self.check_not_closed()

    def check_not_closed(self) -> None:
        """Raise `ClosedError` if it is closed, or being closed: the cheap half of `check_open`."""
        if self._phase is not _Phase.OPEN:
            raise ClosedError

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self._phase is _Phase.CLOSED

    def check_writable(self) -> None:
        """Raise if nothing may be changed: `ClosedError`, or `ReadOnlyError`."""
        if self._phase is not _Phase.OPEN:
            raise ClosedError
        if self._read_only:
            raise ReadOnlyError

    def check_may_wait(self) -> None:
        """Raise `WouldWaitError` before a wait for the store, in a call that must not wait (`threads.at_once`)."""
        if self.is_stored:
            check_may_wait()

    def lock_of(self, key: str) -> threading.RLock:
        """Return the keyed lock of a session, for ``with``: once you hold it, `check_not_closed`.

        :raises WouldWaitError: as `check_may_wait` does.
        :raises ReentrantCallError: if this thread holds the lock of any key, as `KeyedLocks.lock_of` says.
        :raises ForkedError: in a child process.
        """
        if self.is_stored:
            check_may_wait()
        return self.keyed.lock_of(key)

    def lock_to_save(self, key: str) -> threading.RLock | None:
        """Return the keyed lock of a session as `lock_of` does; `None` if there is nothing to save."""
        with self.lock.checked:
            entry = self.by_key.get(key)
            if entry is None or not self.is_stored or not entry.dirty:
                return None
            check_may_wait()
            self.keyed.require_none()
            return self.keyed.given(key)

    def peek(self, key: str) -> Entry | None:
        """Return the entry of a session in RAM, if it is there: also while the manager is being closed, and without counting as a use."""
        with self.lock.checked:
            return self.by_key.get(key)

    def entries(self) -> dict[str, Entry]:
        """Return all that is in RAM."""
        with self.lock.checked:
            return self.by_key.copy()

    def failures(self) -> dict[str, Exception]:
        """Return the keys whose last save failed, and why."""
        with self.lock.checked:
            return self._failures.copy()

    def blank(self, key: str, at: datetime) -> Session:
        """Return a new session, of a new generation. In RAM only, every change is as good as saved, and counts as a revision."""
        return Session(key=key, generation=self.new_id(), created=at, updated=at, revision=int(not self.is_stored))

    # In RAM

    def put(self, key: str, entry: Entry, change: Change | None = None, size: int | None = None) -> None:
        """Put an entry into RAM; evict others if there are too many. Requires the lock.

        :param change: the change that led to it, if it was one.
        :param size: its `measure`, if that is known already.
        """
        if self._bonds.by_key:
            self._bonds.appeared(key, entry.session.generation)
        if self.ref_maps.by_key:
            self.ref_maps.put(key, self.by_key.get(key), entry, change)
        if self._budget is None:
            self.by_key[key] = entry
            return
        self._budget.put(key, self.by_key.get(key), entry, change, size)
        self.by_key[key] = entry
        self.evict(key)

    def land(self, commit: Commit, begun: Entry | None = None, landed: Entry | None = None) -> None:
        """Note that a write landed, which changes nothing that bonds, maps of refs and sizes tell. Requires the lock.

        :param begun: the entry when the write was begun, if that is at hand.
        :param landed: what that becomes, unless a call has changed it since.
        """
        key = commit.session.key
        for change in commit.changes:
            if change.witness is not None:
                change.witness.saved = commit.session
        if self._failures:
            self._failures.pop(key, None)
        entry = self.by_key[key]
        self.by_key[key] = landed if landed is not None and entry is begun else entry.landed(commit)
        if self._budget is not None:
            self.evict(key)

    def evict(self, key: str) -> None:
        """Forget sessions if there are too many, but for one that is in use. Requires the lock."""
        for oldest in () if self._budget is None else self._budget.oldest():
            if oldest != key and not self.by_key[oldest].dirty:
                self._drop(oldest)
                self.reports.note("Evicted", key=oldest)

    def _drop(self, key: str) -> Entry | None:
        if self.ref_maps.by_key:
            self.ref_maps.drop(key)
        if self._budget is not None:
            self._budget.drop(key)
        entry = self.by_key.pop(key, None)
        self.store.release(key)
        return entry

    def put_new(self, key: str, entry: Entry, size: int | None = None) -> Entry:
        """Put an entry into RAM unless there is one; return the one that is there. Requires the lock."""
        if key not in self.by_key:
            self.put(key, entry, size=size)
        return self.by_key[key]

    def reloaded(self, key: str, session: Session | None, size: int | None) -> Entry | None:
        """Replace the entry of a session by the session that was just read; return the old entry. Requires the lock."""
        before = self.by_key.get(key)
        if before is not None and not before.durable.revision:
            generation = None if session is None else session.generation
            self._bonds.replaced(key, before.durable.generation, generation)
        if session is None:
            self.forget(key)
        else:  # not forgotten first: the store would forget the facts that it has just read
            self._forget_marks(key)
            self.put(key, Entry.of(session), size=size)
        return before

    def bind(self, key: str, session: Session | None) -> Bond:
        """Return the bond of a turn that begins.

        :param session: the session as the turn saw it; `None` if there was none.
        """
        with self.lock.checked:
            entry = self.by_key.get(key)
            seen = session if session is not None or entry is None else entry.session
            return self._bonds.bind(key, None if seen is None else seen.generation)

    def measured(self, session: Session | None) -> int | None:
        """Return about how much RAM a session takes; `None` if there is no budget. It takes long: do not hold the lock."""
        return None if self._budget is None or session is None else measure(session)

    def leave(self, key: str) -> None:
        """Make threads that want to use a session wait for its keyed lock. Requires the lock, and the keyed lock."""
        self._leaving.add(key)

    def stay(self, key: str) -> None:
        """Let a session be used again. Requires the lock."""
        self._leaving.discard(key)

    # From the store

    def touch(self, key: str) -> Entry | None:
        """Return a session's entry as it is now, from the store if need be; `None` if there is no such session."""
        with self.lock.checked:
            entry = self._used(key)
            is_doubtful = entry is not None and entry.unknown is not None and key in self._failures
        if not self.is_stored:
            return entry
        found = None if entry is None else self._newer(entry)
        if entry is not None and found is entry.durable and not (is_doubtful and self.store.shared):
            return entry
        try:
            with self.lock_of(key):
                self.check_not_closed()
                return self.fetch(key, entry, found)
        finally:
            if self.reports.waiting:
                self.reports.deliver()

    def _used(self, key: str) -> Entry | None:
        """Return what is in RAM of a session, and count it as used; `None` while it is being expired. Requires the lock."""
        self.check_not_closed()
        if self._leaving and key in self._leaving:
            return None
        if self._budget is not None:
            self._budget.used(key)
        return self.by_key.get(key)

    def _newer(self, entry: Entry) -> Session | None:
        """Return what the store holds of a session now: ``entry.durable`` itself if no other writer has saved it since.

        Of a session whose write is under way, or of unknown outcome, that is not asked.
        """
        if not self.store.shared or entry.unknown is not None:
            return entry.durable
        check_may_wait()
        began = perf_counter()
        found = self.store.newer(entry.durable)
        if found is not entry.durable:
            self.reports.loaded(entry.session.key, found, began)
        return found

    def fetch(self, key: str, seen: Entry | None = None, found: Session | None = None) -> Entry | None:
        """Return a session's entry as it is now. Requires the keyed lock, so that the entry can only be evicted meanwhile.

        :param seen: an entry of which the store has been asked.
        :param found: what it holds, if it is something else than that entry's.
        """
        if self._leaving:
            with self.lock.checked:
                self.stay(key)  # an interrupt may have left it so
        entry = self.peek(key)
        if entry is None:
            began = perf_counter()
            session = self.store.load(key)
            if session is None:
                return None
            self.reports.loaded(key, session, began)
            size = self.measured(session)
            with self.lock.checked:
                return self.put_new(key, Entry.of(session), size)
        if entry.unknown is not None and self.store.shared and self.settle is not None:
            with suppress(Exception):  # it stays unknown, and is settled by the next save
                self.settle(self.store, entry.unknown)
            seen, entry = None, self.peek(key)
            if entry is None:  # clean, and evicted
                return self.fetch(key)
        if seen is None or seen.durable is not entry.durable or entry.unknown is not None:
            found = self._newer(entry)  # what was found may be the write that is unknown
        if found is not entry.durable:
            try:
                return self._over(key, found)
            except ConflictError:
                pass
        return self.peek(key) or entry

    def create(self, key: str, at: datetime) -> Entry:
        """Return a session's entry; it is created if there is no such session.

        :raises ReadOnlyError: if it would have to be.
        """
        return self.touch(key) or self.created(key, self.blank(key, at), looked=True)

    def created(self, key: str, blank: Session, *, looked: bool = False) -> Entry:
        """Return a session's entry, which is created from a new session if there is none. Call it if `touch` finds none.

        :param looked: do not look once more into a store that others write to: they may create it at any time, and then the first
            save is a conflict.
        :returns: an entry whose session is `blank` itself if it was created by this call.
        """
        self.check_writable()
        entry = Entry.of(blank)
        with self.lock_of(key):
            self.check_not_closed()
            loaded = self.peek(key) if looked and self.store.shared else self.fetch(key)
            if loaded is not None:
                return loaded
            with self.lock.checked:
                return self.put_watched(key, entry)

    def uncreate(self, key: str, blank: Session) -> None:
        """Forget a session that `created` created, unless a call has changed it since, or a write of it is under way."""
        with self.lock.checked:
            entry = self.by_key.get(key)
            if entry is not None and entry.session is blank and entry.unknown is None:
                self.forget(key)

    def put_watched(self, key: str, created: Entry) -> Entry:
        """Put an entry that is dirty into RAM, as `put_new` does. Requires the lock."""
        entry = self.put_new(key, created)
        if self.watch is not None:
            self.watch(key, entry)
        return entry

    def rebase(self, key: str) -> Entry | None:
        """Take over the stored session, and put the pending changes on top of it. Requires the keyed lock.

        :returns: the session's entry; `None` if it is gone.
        :raises ConflictError: if they cannot be reconciled; nothing has changed.
        """
        began, entry = perf_counter(), self.peek(key)
        newer = None if entry is None else self.store.newer(entry.durable)
        if entry is None or newer is entry.durable:  # a conflict at one version is about what the version does not tell
            newer = self.store.load(key)
        self.reports.loaded(key, newer, began)
        return self._over(key, newer)

    def _over(self, key: str, newer: Session | None) -> Entry | None:
        """Put the pending changes of a session on top of what the store holds of it. Requires the keyed lock."""
        size, entry = self.measured(newer), self.peek(key)
        blank = changes = None
        has_parted = newer is not None and newer._parted
        if newer is not None and has_parted:
            newer = newer._with(_parted=False)
        if entry is not None:
            blank = self.blank(key, entry.pending[0].at if entry.pending else entry.session.updated)
            changes = None if newer is None else self._lost(entry, newer, has_parted=has_parted)
        if newer is not None and not newer.revision and changes is None:
            newer = None  # it was never there, and is not written again
        archived = self._archived(entry, newer)
        with self.lock.checked:
            before = self.by_key.get(key)
            if before is None or blank is None:  # clean, and evicted meanwhile
                return None if newer is None else self.put_new(key, Entry.of(newer), size)
            if newer is not None and changes is not None:
                return self._put_over(key, before.over_older(newer, changes))
            rebased = before.rebased(newer, blank, archived)
            if newer is not None and not before.durable.revision:
                self._bonds.replaced(key, before.durable.generation, newer.generation)
            if rebased is None:
                self.forget(key)
                return None
            self.put(key, rebased)
            if not rebased.dirty:
                self.note_failure(key, None)
            return rebased

    def _archived(self, entry: Entry | None, newer: Session | None) -> frozenset[str]:
        """Return the refs of archived messages that a pending change adds only if they are not there. Requires the keyed lock.

        :param newer: what the store holds.
        """
        absent = frozenset() if entry is None or newer is None else entry.absent
        if not absent or newer is None or not self.store.has_archive(newer.key):
            return frozenset()
        return absent.intersection(one.ref for one in self.store.archive(newer.key) if one.ref is not None)

    def _lost(self, entry: Entry, found: Session, *, has_parted: bool) -> tuple[Change, ...] | None:
        """Return what is to be written again, if the store shows an older state than it has acknowledged; otherwise `None`.

        In a store that nobody else writes to, a file was put there by hand, and counts. A manager that only reads shows what is
        stored. Requires the keyed lock; do not hold the lock, for it takes long.

        :param has_parted: whether the store has told that what it holds does not go on from the entry's durable session.
        :raises ConflictError: if that state is no beginning of what was acknowledged, and no unsaved call clears the session.
        """
        if not self.store.shared:
            return None
        key, picture = entry.session.key, entry.acknowledged
        is_known = entry.loss is not None and found.generation == picture.generation
        is_split = has_parted or (is_known and not continues(found, picture)) or is_another(found, picture)
        if not is_split and not is_behind(found, picture):
            return None
        changes = None if self._read_only else lost(found, picture)
        self.reports.went_back(key, picture, found, regained=changes is not None)
        if changes is None and not self._read_only and not entry.is_cleared:
            reason = "the storage went back to an older state, which is no beginning of what is in RAM: reload it, or fork it"
            raise ConflictError(key, picture.version, found.version, reason)
        return changes

    def _put_over(self, key: str, entry: Entry) -> Entry:
        """Put an entry that is dirty into RAM, over the one that is there. Requires the lock."""
        self.put(key, entry)
        if self.watch is not None:
            self.watch(key, entry)
        return entry

    def change(
        self, key: str, change: Change | Make, *, blind: bool = False, to_save: bool = False
    ) -> tuple[Session, Session] | None:
        """Change a session.

        :param change: the change, or a function that gives it. The function is called by a thread that holds the lock.
        :param blind: the change does not depend on the session, which then need not be the newest.
        :param to_save: the caller saves the session next.
        :returns: the session before and after; `None` if there is no such session.
        :raises ReentrantCallError: with `to_save`, where the save would be refused; nothing has changed.
        :raises WouldWaitError: likewise.
        """
        if not blind and self.store.shared:
            self.touch(key)
        while True:
            with self.lock.checked:
                if to_save and self.is_stored:
                    check_may_wait()
                    self.keyed.require_none()
                entry = self._used(key)
                changed = None if entry is None else self._changed(key, entry, change)
            if changed is not None:
                if self.reports.waiting:
                    self.reports.deliver()
                return changed
            if self.touch(key) is None:
                return None

    def _changed(self, key: str, entry: Entry, change: Change | Make) -> tuple[Session, Session]:
        """Put the entry that a change makes into RAM, and return the session before and after. Requires the lock."""
        made = change if isinstance(change, Change) else change(entry.session)
        if made is None:
            return entry.session, entry.session
        after = entry.changed(made, keep=self.is_stored, archive=self.archive)
        if after is not entry:
            self.put(key, after, made)
            if self.watch is not None:
                self.watch(key, after)
        return entry.session, after.session

    def note_failure(self, key: str, failure: Exception | None) -> None:
        """Note whether the last save of a session failed. Requires the lock."""
        if failure is not None:
            self._failures[key] = failure
        elif self._failures:
            self._failures.pop(key, None)

    def forget(self, key: str) -> Entry | None:
        """Forget a session, and return its entry. Requires the lock."""
        self._forget_marks(key)
        return self._drop(key)

    def deleted(self, key: str, *, stored: bool) -> bool:
        """Forget a session that is deleted, and say whether it was in RAM. Requires the lock.

        :param stored: whether the store had it.
        """
        resident = self.forget(key) is not None
        if stored or resident:
            self._bonds.deleted(key)
        return resident

    def _forget_marks(self, key: str) -> None:
        self._failures.pop(key, None)
        self._leaving.discard(key)

    # The end

    def close(self, flush: Callable[[], object]) -> None:
        """Refuse further calls, save what is dirty, wait for the calls that run, and close the store.

        :param flush: saves it, while other calls are refused.
        :raises SaveFailedError: something was not saved, and it stays open.
        """
        self.lock.check_process()
        if is_mine(self._closing):
            raise ReentrantCallError
        with self._closing:
            if self._phase is not _Phase.CLOSED:
                self._drain(flush)
            self.let_go()

    def _drain(self, flush: Callable[[], object]) -> None:
        try:
            self._phase = _Phase.CLOSING
            flush()
            self.keyed.drain()
            flush()  # the last of these calls may have created a session
            self._phase = _Phase.CLOSED
        finally:
            if self._phase is _Phase.CLOSING:
                self._phase = _Phase.OPEN

    def unsaved(self) -> int:
        """Return how many sessions a manager that is being dropped has to save: none, if it is closed, or another process's."""
        if self._phase is _Phase.CLOSED or not self.lock.is_of_this_process:
            return 0
        return self.left()

    def left(self) -> int:
        """Return how many sessions are not saved, without a lock: a finalizer may ask in the middle of any call."""
        return sum(entry.dirty for entry in list(self.by_key.values()))

    def abandon(self) -> None:
        """Refuse further calls, without waiting."""
        self._phase = _Phase.CLOSED

    def let_go(self) -> None:
        """Give the store back, and close it if it is ours to close. No call may be using it."""
        if self.lock.is_of_this_process:
            if self.last is not None:
                self.last()
            self.store.detach(self)
            if self._owns_store:
                self.store.close()
