"""Several sessions in one commit: all of their changes become durable, or none.

The keyed locks of all the sessions are taken, in the order of the keys. The changes are made in RAM, and written by
`Store.write_together`. After a conflict they are taken back in all sessions, the one in conflict is rebased over the newer
state, and all are made again. A write whose outcome stays unknown is settled session by session, each by its own token: the store
answers the same for all of them. If it did not happen, what the call did is taken back there, and is not written alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any

import attrs

from session_manager.errors import (
    CannotCommitTogetherError,
    ConflictError,
    LeaseLostError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManagerError,
)
from session_manager.frozen import Frozen, Part
from session_manager.manager.absentees import Absentees, Resolving
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.locks import holding
from session_manager.manager.cache.residents import Residents
from session_manager.manager.pauses import ATTEMPTS, pause
from session_manager.manager.saving import Saving, under_its_lease
from session_manager.model.batch import Batch
from session_manager.model.changes import Append, Change, UpdateMetadata, Witness
from session_manager.model.session import ANY, Anything, Session, Version
from session_manager.resource import Resource
from session_manager.stores.commits import Commit, Joint
from session_manager.values import Value

__all__ = ["MOST", "Plan", "Together", "Write"]


#: How many sessions a call may write: each eight of their locks are a level of the interpreter's stack, which has a thousand.
MOST = 2000


def _none() -> Mapping[str, Any]:
    return {}


@attrs.frozen(eq=False, repr=False)
class Write(Value):
    """What `SessionManager.commit_together` does to one session. The call checks it.

    >>> Write("app:state", items={"users": 7})
    <Write to 'app:state': 0 messages, 1 keys of metadata>
    """

    #: The session's key. It is created if it is missing.
    key: str
    #: Messages to append, each as for `SessionManager.add`.
    messages: Sequence[object] = ()
    #: Leave out messages whose refs are there, as for `SessionManager.add`.
    if_absent: bool = attrs.field(default=False, kw_only=True)
    #: Keys of the metadata to set, as for `SessionManager.put_state`: bytes may be in the values.
    items: Mapping[str, Any] = attrs.field(factory=_none, kw_only=True)
    #: Keys of the metadata to remove.
    removed: Sequence[str] = attrs.field(default=(), kw_only=True)
    #: The version that the session must have; `None`: there must be none.
    expected: Version | Anything | None = attrs.field(default=ANY, kw_only=True)

    def __repr__(self) -> str:
        keys = len(self.items) + len(self.removed)
        return f"<Write to {self.key[:80]!a}: {len(self.messages)} messages, {keys} keys of metadata>"


class Plan(Frozen, frozen=True):
    """A `Write`, checked."""

    key: str
    at: datetime
    append: Append | None
    update: UpdateMetadata
    expected: Version | Anything | None


class _Made(Frozen, frozen=True):
    """What a plan means for a session in RAM."""

    before: Entry
    after: Entry
    change: Change | None
    joint: Joint


class Together(Resource, Part):
    """Writes several sessions at once. Every method may be called from any thread."""

    _residents: Residents
    _saving: Saving
    _absentees: Absentees

    def commit(self, plans: Sequence[Plan]) -> list[Session]:
        """Carry plans of different sessions out, durably: all or none. Return the sessions, in their order.

        :raises CannotCommitTogetherError: if the store cannot do that; nothing has changed.
        """
        residents = self._residents
        if len(plans) > 1 and residents.is_stored and not residents.store.together:
            raise CannotCommitTogetherError(repr(residents.store), "it has one file for each session")
        if residents.is_stored:
            residents.keyed.check_none_is_mine()
        try:
            return self._tried(plans)
        except ConflictError as error:
            residents.reports.note("Conflict", key=error.key, error=error)
            raise
        finally:
            residents.reports.deliver()

    def _tried(self, plans: Sequence[Plan]) -> list[Session]:
        """Try until no other writer comes between."""
        conflict: ConflictError | None = None
        for attempt in range(ATTEMPTS):
            looks = self._looks(plans)
            locks = self._residents.keyed.locks_of([plan.key for plan in plans])
            outcome = holding(locks, partial(self._attempt, plans, looks))
            if isinstance(outcome, list):
                return outcome
            conflict = outcome or conflict
            if outcome is not None:
                pause(attempt)
        raise conflict or ConflictError(plans[0].key, None, None, "messages leave the history all the time")

    def _looks(self, plans: Sequence[Plan]) -> dict[str, Resolving]:
        """Look for the messages that are added only if they are not there."""
        return {
            plan.key: self._absentees.resolving(plan.key, plan.append)
            for plan in plans
            if plan.append is not None and plan.append.absent
        }

    def _attempt(self, plans: Sequence[Plan], looks: Mapping[str, Resolving]) -> list[Session] | ConflictError | None:
        """Try once; return the sessions, the conflict after which to try again, or `None`: look again. Requires the keyed locks."""
        residents, store = self._residents, self._residents.store
        residents.check_not_closed()
        fetched: dict[str, Entry | None] = {}
        for plan in plans:
            entry = residents.peek(plan.key)
            if entry is not None and entry.unknown is not None:
                self._saving.settle(store, entry.unknown)
            fetched[plan.key] = residents.fetch(plan.key)
        blanks = {plan.key: residents.blank(plan.key, plan.at) for plan in plans}
        tokens = {plan.key: residents.new_id() for plan in plans}
        commits: list[Commit] = []
        with residents.lock.checked:
            made = self._made(plans, looks, fetched, blanks)
            if made is None:
                return None
            self._begun(made, tokens, commits)
        if commits:
            try:
                conflict = self._write(commits)
            except BaseException as error:
                if self._is_settled(commits):  # it has landed
                    if not isinstance(error, SaveOutcomeUnknownError):
                        raise
                    return self._sessions(plans, commits, made)
                if isinstance(error, SaveOutcomeUnknownError) and not self._is_unknown(commits):
                    raise SaveFailedError(error.key, error.reason) from error
                raise
            if conflict is not None:
                return conflict
        return self._sessions(plans, commits, made)

    def _made(
        self,
        plans: Sequence[Plan],
        looks: Mapping[str, Resolving],
        fetched: Mapping[str, Entry | None],
        blanks: Mapping[str, Session],
    ) -> dict[str, _Made] | None:
        """Return what the plans mean, by key; `None` if a look at an archive is stale. Requires the lock; nothing is changed.

        :param fetched: the entries under the keyed locks. One that has left RAM since was clean, and is as it was.
        :param blanks: new sessions, for those that are missing.
        :raises ConflictError: if a session has another version than is expected.
        """
        residents, made = self._residents, {}
        for plan in plans:
            there = residents.by_key.get(plan.key) or fetched[plan.key]
            self._check_expected(plan, there)
            before = Entry.of(blanks[plan.key]) if there is None else there
            look = looks.get(plan.key)
            append = plan.append if look is None else look(before.session)
            if look is not None and look.is_stale:
                return None
            witness = Witness()
            change = _change(plan, before.session, append, witness)
            after = before
            if change is not None:
                after = before.changed(change, keep=residents.is_stored, archive=residents.archive)
            made[plan.key] = _Made(before, after, change, Joint(witness, created=there is None))
        return made

    def _check_expected(self, plan: Plan, entry: Entry | None) -> None:
        """Raise `ConflictError` if a session has another version than is expected, or unsaved changes. Requires the lock."""
        expected = plan.expected
        if isinstance(expected, Anything):
            return
        there = None if entry is None else entry.durable.version
        if entry is not None and entry.dirty:
            raise ConflictError(plan.key, expected, there, "it has changes that are not saved")
        if there != expected:
            raise ConflictError(plan.key, expected, there, "there is such a session" if expected is None else "")

    def _begun(self, made: Mapping[str, _Made], tokens: Mapping[str, str], commits: list[Commit]) -> None:
        """Do what `_begin` does, or, after an interrupt, nothing: a write that was begun and not sent is settled as one that failed.

        In RAM only, the sessions are put back here. Requires the lock.
        """
        try:
            self._begin(made, tokens, commits)
        except BaseException:
            if not self._residents.is_stored:
                self._put_back(made)
            raise

    def _put_back(self, made: Mapping[str, _Made]) -> None:
        for key, one in made.items():
            if one.joint.created:
                self._residents.forget(key)
            else:
                self._residents.put(key, one.before)

    def _begin(self, made: Mapping[str, _Made], tokens: Mapping[str, str], commits: list[Commit]) -> None:
        """Put the entries into RAM, each with its write under way, and append the commits to `commits`. Requires the lock."""
        residents = self._residents
        for key, one in made.items():
            after = one.after
            if residents.is_stored and after.dirty:
                thinned = after.thinned()
                commit = thinned.commit(tokens[key], archive=residents.archive)
                if residents.is_leased:
                    commit = under_its_lease(commit)
                commits.append(attrs.evolve(commit, joint=one.joint))
                after = thinned.writing(commits[-1])
            if after is not one.before or one.joint.created:
                residents.put(key, after, one.change)
            if after.dirty and residents.watch is not None:
                residents.watch(key, after)

    def _write(self, commits: list[Commit]) -> ConflictError | None:
        """Write commits that were begun, and note what is known of the outcome; return the conflict, if there was one."""
        residents, began = self._residents, perf_counter()
        try:
            residents.store.write_together(commits)
        except SessionManagerError as error:
            residents.reports.saved_many(commits, [error] * len(commits), perf_counter() - began)
            if isinstance(error, SaveOutcomeUnknownError):
                raise
            self._take_back(commits)
            if isinstance(error, LeaseLostError):
                self._give_up(error, commits)
                return error
            if isinstance(error, ConflictError):
                self._rebase(error, commits)
                return error
            raise
        for commit in commits:
            self._saving.note(commit, None)
        residents.reports.saved_many(commits, [None] * len(commits), perf_counter() - began)
        return None

    def _take_back(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            with self._residents.lock.checked:
                self._saving.take_back(commit)

    def _give_up(self, lost: LeaseLostError, commits: Sequence[Commit]) -> None:
        """Take back the turn whose lease another turn took: it is saved no more. Requires the keyed locks."""
        for commit in commits:
            if commit.session.key == lost.key:
                self._saving.give_up(lost.key, commit)

    def _rebase(self, conflict: ConflictError, commits: Sequence[Commit]) -> None:
        """Take over what another writer has saved of the session in conflict. Requires the keyed locks."""
        keys = [commit.session.key for commit in commits]
        for key in [conflict.key] if conflict.key in keys else keys:
            if self._residents.peek(key) is not None:
                self._residents.rebase(key)

    def _is_settled(self, commits: Sequence[Commit]) -> bool:
        """Ask the store once for the outcome of writes that are unknown; say whether all of them landed. Requires the keyed locks."""
        landed = []
        for commit in commits:
            entry = self._residents.peek(commit.session.key)
            if entry is not None and entry.unknown is commit:
                try:
                    landed.append(self._saving.settle(self._residents.store, commit))
                except Exception:  # noqa: BLE001 - it is still unknown, and the error that led here is raised
                    landed.append(False)
        return bool(landed) and all(landed)

    def _is_unknown(self, commits: Sequence[Commit]) -> bool:
        entries = (self._residents.peek(commit.session.key) for commit in commits)
        return any(entry is not None and entry.unknown is not None for entry in entries)

    def _sessions(self, plans: Sequence[Plan], commits: Sequence[Commit], made: Mapping[str, _Made]) -> list[Session]:
        saved = {commit.session.key: commit.session for commit in commits}
        return [saved.get(plan.key) or made[plan.key].after.session for plan in plans]


def _change(plan: Plan, session: Session, append: Append | None, witness: Witness) -> Change | None:
    """Return what a plan does to a session; `None` if that is nothing. It is not applied: twice would copy the history."""
    adds = append is not None and bool(append.messages)
    updates = plan.update.changes(session._metadata)
    if append is not None and adds and updates:
        return Batch(at=plan.at, changes=(append, plan.update), witness=witness)
    change = append if adds else plan.update if updates else None
    return None if change is None else attrs.evolve(change, witness=witness)
