"""Changes that are made and saved by one call: durable when it returns, or taken back."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import attrs

from session_manager.errors import (
    ConflictError,
    LeaseLostError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
)
from session_manager.frozen import Part
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.residents import Make, Residents
from session_manager.manager.saving import Saving
from session_manager.model.batch import Batch
from session_manager.model.changes import Change, Witness
from session_manager.model.fence import Fence
from session_manager.model.session import ANY, Anything, Session, Version
from session_manager.resource import Resource

__all__ = ["Outcome", "WriteThrough"]


class Outcome(NamedTuple):
    """What became of a change that was carried out."""

    #: The session in RAM before it, and after it.
    before: Session
    after: Session
    #: The session that made it durable; in RAM only, the one after it. `None` if it had no effect, or has none on top of what
    #: another writer saved. Later changes of the session do not matter.
    saved: Session | None = None


class WriteThrough(Resource, Part):
    """Makes changes in RAM and saves them at once. Every method may be called from any thread."""

    _residents: Residents
    _saving: Saving

    def carry_out(
        self, key: str, change: Change | Make, *, blind: bool = False, keep: bool = True, fence: Fence | None = None
    ) -> Outcome | None:
        """Make a change and save it; `None` if there is no such session.

        :param change: the change, or a function that makes it, as for `Residents.change`. A change that was made for this call alone
            may bring its witness, with that fence.
        :param blind: as for `Residents.change`.
        :param keep: whether the change stays in RAM, unsaved, if the save fails. If not, it is taken back once it is certain
            that it was not written.
        :param fence: of the lease that it must be written under. A change that stays, unsaved, is not bound to it any more.
        :raises LeaseLostError: if another turn took that lease; the change is taken back.
        :raises ReentrantCallError: where the save would be refused; nothing has changed.
        """
        witness = getattr(change, "witness", None) or Witness(fence=fence)
        made = _witnessed(change, witness)
        changed = self._residents.change(key, made, blind=blind, to_save=True)
        if changed is None or changed[0] is changed[1]:
            return None if changed is None else Outcome(*changed)
        if not self._residents.is_stored:
            return Outcome(*changed, changed[1])
        try:
            self._saving.save(key)
        except BaseException as error:  # an interrupt, or an error of the store's own, must not leave it behind either
            if keep and not self._is_fenced_off(witness):
                raise
            if witness.is_fenced_off:
                raise LeaseLostError(key) from error
            is_certain = self._take_back(key, witness)
            if witness.saved is None and is_certain and isinstance(error, SaveOutcomeUnknownError):
                raise SaveFailedError(key, error.reason) from error
            if witness.saved is None or not isinstance(error, SessionManagerError):
                raise
        if witness.is_fenced_off:
            raise LeaseLostError(key)
        return Outcome(*changed, witness.saved)

    def _is_fenced_off(self, witness: Witness) -> bool:
        """Bind a change to its lease no longer; say whether it was given up before, because another turn had taken the lease."""
        with self._residents.lock.checked:
            witness.fence = None
            return witness.is_fenced_off

    def _take_back(self, key: str, witness: Witness) -> bool:
        """Take a call back whose save failed, as if it had not been made. Say whether its outcome is certain.

        A write whose outcome is unknown is asked for once. While that cannot be told, the call stays.
        """
        residents, store = self._residents, self._residents.store
        with residents.lock_of(key):
            entry = residents.peek(key)
            if entry is not None and entry.unknown is not None:
                with contextlib.suppress(Exception):
                    self._saving.settle(store, entry.unknown)
            with residents.lock.checked:
                entry = residents.by_key.get(key)
                if entry is None or entry.unknown is not None:
                    return entry is None
                without = entry.without(witness)
                if without is not entry:
                    residents.put(key, without)
                if not without.dirty:
                    residents.note_failure(key, None)
                return True

    def carry_out_expected(self, key: str, expected: Version | None, change: Change) -> None:
        """Make a change of a session in one version, durably, or not at all; `None`: create the session for it.

        :raises ConflictError: if it is in another version.
        """
        residents = self._residents
        self._saving.save(key)
        blank = None if residents.touch(key) else residents.blank(key, change.at)
        if blank is not None and expected is None:
            residents.created(key, blank)

        def make(session: Session) -> Change:
            left = self.check_expected(key, expected, blank)
            return Batch(at=change.at, changes=(change,), generation=session.generation, expected=left)

        outcome = None
        try:
            outcome = self.carry_out(key, make, keep=False)
        finally:
            if blank is not None and (outcome is None or outcome.saved is None):
                residents.uncreate(key, blank)
        if outcome is None:
            raise ConflictError(key, expected, None, "there is no such session")
        if outcome.saved is None and outcome.after is not outcome.before:
            raise ConflictError(key, expected, None, "another writer saved it meanwhile")

    def carry_out_created(self, key: str, change: Change) -> None:
        """Make a change of a session, which is created if it is missing: durably, or not at all."""
        while not self._is_carried_out(key, change):
            pass  # another process has deleted the session meanwhile

    def _is_carried_out(self, key: str, change: Change) -> bool:
        residents, is_done = self._residents, False
        blank = None if residents.touch(key) else residents.blank(key, change.at)
        if blank is not None:
            residents.created(key, blank, looked=True)
        try:
            outcome = self.carry_out(key, change, keep=False)
            if outcome is not None and outcome.after is outcome.before:
                self._saving.save(key)
            is_done = outcome is not None and (outcome.saved is not None or outcome.after is outcome.before)
        finally:
            if blank is not None and not is_done:
                residents.uncreate(key, blank)
        return is_done

    def check_expected(
        self, key: str, expected: Version | None, blank: Session | None = None
    ) -> Version | Anything | None:
        """Raise unless a session is in the version that a caller expects. Requires the lock.

        :param blank: the session, if the caller has just created it.
        :returns: what is to be expected when the change is written: in RAM only it is never written.
        :raises ConflictError: if it is in another one, or has unsaved changes.
        """
        entry = self._residents.by_key.get(key)
        there = None if entry is None else entry.durable.version
        if entry is not None and blank is not None and _is_still(entry, blank):  # another thread may have saved it
            if expected is not None:
                raise ConflictError(key, expected, None, "there is no such session")
            return there if self._residents.is_stored else ANY
        if entry is not None and entry.dirty:
            raise ConflictError(key, expected, there, "it has changes that are not saved")
        if there != expected:
            raise ConflictError(key, expected, there, "there is such a session" if expected is None else "")
        return expected if self._residents.is_stored else ANY


def _is_still(entry: Entry, blank: Session) -> bool:
    """Say whether a session is as it was created."""
    return not entry.pending and entry.session._with(revision=blank.revision) == blank


def _witnessed(change: Change | Make, witness: Witness) -> Change | Make:
    """Return a change, or what makes it, with a witness."""
    if isinstance(change, Change):
        return change if change.witness is witness else attrs.evolve(change, witness=witness)

    def make(session: Session) -> Change | None:
        made = change(session)
        return None if made is None else attrs.evolve(made, witness=witness)

    return make
