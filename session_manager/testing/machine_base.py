"""The base of the state machine: the manager under test, the model, and the invariants."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from session_manager.manager.manager import SessionManager
from session_manager.model.changes import Change, fold
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.contract import SessionInfo, Store
from session_manager.testing.clock import Clock
from session_manager.testing.comparison import difference, message_difference
from session_manager.testing.faults import crash
from session_manager.testing.known import NEARLY_EQUAL_KEYS, Known

__all__ = ["MachineBase"]


class MachineBase(RuleBasedStateMachine):
    """A manager and its model; `SessionMachine` has the rules."""

    #: The keys that the rules use.
    session_keys: Sequence[str] = NEARLY_EQUAL_KEYS
    #: Whether the manager archives truncated messages. Its store must keep archives then (`Store.archives`).
    archive: bool = False

    def __init__(self) -> None:
        super().__init__()
        #: The manager's time. It stands still during a call, and goes back now and then.
        self.clock = Clock()
        #: The model.
        self.known: dict[str, Known] = {}
        self._manager: SessionManager | None = None
        self._ids = itertools.count()
        self._generations: set[str] = set()
        self._touched: set[str] = set()

    # What a subclass says

    def open_store(self) -> Store:
        """Open the storage: the same one each time, closed before."""
        raise NotImplementedError("override open_store or open")

    def open(self) -> SessionManager:
        """Open a manager on the storage; with `clock` and `random_id`, so that a failing run can be repeated."""
        return SessionManager(self.open_store(), clock=self.clock, random_id=self.random_id, archive=self.archive)

    def random_id(self) -> str:
        """Return an id, another one each time."""
        return f"id-{next(self._ids)}"

    @property
    def manager(self) -> SessionManager:
        """The manager, opened when it is first used."""
        if self._manager is None:
            self._manager = self.open()
        return self._manager

    def did(self, key: str, change: Change) -> None:
        """Tell the model what a call meant. A session that is not known was created by it.

        :param change: with the time of the call, `clock`.
        """
        self.expected(key, create=True).did(change, archive=self.archive)

    def expected(self, key: str, *, create: bool = False) -> Known:
        """Return what is known of a session, which is looked at after the rule; of one that is not there, a blank.

        :param create: note that the manager has created it.
        """
        self._touched.add(key)
        known = self.known.get(key)
        if known is not None:
            return known
        generation = ""
        if create:
            shown = self.manager.get(key)
            assert shown is not None, "the session was created"
            generation = self._new_generation(shown.generation)
        time = self.clock()
        known = Known(Session(key=key, generation=generation, created=time, updated=time))
        if create:
            self.known[key] = known
        return known

    def _new_generation(self, generation: str) -> str:
        assert generation not in self._generations, "each session has a generation of its own"
        self._generations.add(generation)
        return generation

    def teardown(self) -> None:
        """Close what is open."""
        if self._manager is not None:
            crash(self._manager)

    # What the rules do to the model

    def _opened_again(self, *, look: bool) -> None:
        """Open the storage again: and read all at once, or what comes to be needed."""
        crash(self.manager)
        self._manager = None
        self._touched = {*self.session_keys, *self.known} if look else set()

    def _all_saved(self) -> None:
        for known in self.known.values():
            known.saved()

    def _gave_up(self, key: str) -> None:
        known = self.known.get(key)
        if known is not None:
            known.gave_up()
            if known.durable.revision == 0:
                del self.known[key]

    # What always holds

    @invariant()
    def the_manager_shows_the_model(self) -> None:
        """Compare the sessions that the last rule touched, and the keys."""
        for key in sorted(self._touched):
            known = self.known.get(key)
            assert difference(self.manager.get(key), known.session if known else None) == ""
            assert (key in self.manager) == (known is not None)
            _check_archive(self.manager.get_archive(key), known.archive if known else {})
        self._touched = set()
        assert list(self.manager) == sorted(self.known)
        dirty = sorted(key for key, known in self.known.items() if known.dirty)
        assert self.manager.health().dirty == tuple(dirty)

    @rule()
    def what_is_stored_is_what_was_saved(self) -> None:
        """Read all sessions from the store, past the manager."""
        self._check_all_stored()

    def _check_all_stored(self) -> None:
        for key in self.known:
            self._check_stored(key)

    def _check_stored(self, key: str) -> None:
        """Compare a stored session with the last save. A manager without a store has none."""
        store = self.manager._residents.store
        if not self.manager._residents.is_stored:
            return
        known = self.known.get(key)
        durable = known.durable if known is not None and known.durable.revision else None
        assert difference(store.load(key), durable) == ""
        assert store.describe(key) == (None if durable is None else SessionInfo.of(durable))
        assert store.version(key) == (None if durable is None else durable.version)
        _check_archive(store.archive(key), known.durable_archive if known is not None else {})

    @rule()
    def all_sessions_are_as_they_were(self) -> None:
        """Compare all sessions."""
        self._touched.update(self.session_keys, self.known)

    @invariant()
    def what_is_shown_is_the_fold_of_the_pending_changes(self) -> None:
        """Compare each session in RAM with the fold of its changes."""
        for entry in self.manager._residents.entries().values():
            assert difference(entry.session, fold(entry.durable, entry.pending)) == ""

    @invariant()
    def positions_are_never_used_twice(self) -> None:
        """Look at the positions of every session."""
        for known in self.known.values():
            positions = [message.position for message in known.session.messages if message.position is not None]
            assert positions == sorted(set(positions))
            assert not positions or positions[-1] < known.session.end


def _check_archive(found: Iterable[Message], expected: dict[int, Message]) -> None:
    archive = list(found)
    assert [one.position for one in archive] == sorted(expected)
    assert not any(message_difference(one, expected[one.position or 0]) for one in archive)
