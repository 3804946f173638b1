"""The entry of one session in RAM. Immutable, so that every step is one assignment.

At every moment ``session == fold(durable, pending)``. A write *freezes* the changes that it carries until its outcome
is known. Calls made meanwhile are appended, and mean the session that the write would leave.
Pending changes that later ones supersede are dropped (`session_manager.model.thinning`), but for frozen ones.

* It **landed**: that session becomes the durable one, and the frozen changes leave the list.
* It did not, or failed: the list stays as it is.
* That is not known: the commit is kept as ``unknown``, and settled before anything else is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

import attrs
from msgspec.structs import replace

from session_manager.frozen import Frozen
from session_manager.model.archive import archived, dropped, kept
from session_manager.model.batch import Batch, as_stored, flattened
from session_manager.model.changes import Append, Change, Clear, Witness, apply, fold
from session_manager.model.message import Message
from session_manager.model.rebase import rebase, taken_back
from session_manager.model.recovery import Loss
from session_manager.model.session import Session
from session_manager.model.thinning import is_thinnable, thinned
from session_manager.model.view import EMPTY, View
from session_manager.stores.contract import Commit, token_digest

__all__ = ["Entry", "dirty_of"]

#: So many superfluous changes are kept, and once more as many as there are others: then each call thins out its share.
_SLACK = 8
#: Of fewer, none can be superfluous.
_FEWEST = 3


class Entry(Frozen, frozen=True, gc=False):
    """A session in RAM."""

    #: The session that the manager shows.
    session: Session
    #: The session as it was last durable. One that never was is of revision 0, and without messages, unless it is a copy.
    durable: Session
    #: The calls since then, in order; `EMPTY` itself, if there are none.
    pending: View[Change] = EMPTY
    #: A write under way, or whose outcome is unknown.
    unknown: Commit | None = None
    #: What was archived, where there is no store that keeps it, in the order in which it was dropped.
    archive: View[Message] = EMPTY
    #: How many pending changes were left when they were thinned out last.
    least: int = 0
    #: The first pending changes, which that write carries.
    frozen: View[Change] = EMPTY
    #: What the store has lost, while the changes that lead to it are pending.
    loss: Loss | None = None

    @classmethod
    def of(cls, session: Session) -> Entry:
        """Return the entry of a session as it was loaded, or just created."""
        return cls(session, session)

    @property
    def dirty(self) -> bool:
        """Whether there is something to save."""
        return self.pending is not EMPTY or self.unknown is not None or self.durable.revision == 0

    def changed(self, change: Change, *, keep: bool, archive: bool = False) -> Entry:
        """Return the entry after a call: itself if the call has no effect.

        :param keep: whether there is a store, to which the change is still to be written.
        :param archive: whether what is dropped is archived here, where there is none.
        """
        session = apply(self.session, change)
        if session is self.session:
            return self
        if not keep:
            session = session._with(revision=self.session.revision + 1)
            changes = change.changes if isinstance(change, Batch) else (change,)
            is_cleared = isinstance(change, Clear) or (len(changes) > 1 and Clear in map(type, changes))
            left: View[Message] = EMPTY if is_cleared else self.archive
            new = [one for _, one in dropped(self.session, changes)] if archive else []
            return Entry(session, session, self.pending, archive=left.appended(new) if new else left)
        pending = self.pending.appended((change,))
        after = Entry(session, self.durable, pending, self.unknown, self.archive, self.least, self.frozen, self.loss)
        is_due = is_thinnable(change) and len(pending) - len(self.frozen) > 2 * self.least + _SLACK
        return after.thinned() if is_due else after

    def thinned(self) -> Entry:
        """Return the entry without pending changes that later ones supersede; frozen ones stay."""
        if len(self.pending) < _FEWEST:
            return self
        frozen, changes = self.frozen, self.pending[len(self.frozen) :]
        left = thinned(changes)
        if len(left) == len(changes):
            return replace(self, least=len(left))
        return replace(self, pending=EMPTY.appended([*frozen, *left]), least=len(left))

    def commit(self, token: str, *, archive: bool = False) -> Commit:
        """Freeze the pending changes, and return the commit to write.

        :param archive: whether what they drop is archived.
        """
        changes = as_stored(self.pending.to_list())
        new = dropped(self.durable, changes) if archive else ()
        count = self.durable._archived
        if count and kept(changes) is not None:
            count = 0
        session = self.session._drafted()
        session.revision = self.acknowledged.revision + 1
        session._archived = count + len(new)
        session._token = token_digest(token) if token else b""
        session.__class__ = Session
        return Commit._of(session, changes, self.durable, new, token)

    def archived(self, stored: Iterable[Message], *, archive: bool) -> list[Message]:
        """Return the archive as it is with the calls that are not written yet, by position.

        :param stored: as the store has it.
        :param archive: whether what they drop is archived.
        """
        changes = flattened(tuple(self.pending))
        return archived(chain(stored, self.archive), changes, dropped(self.durable, changes) if archive else ())

    def landed(self, commit: Commit) -> Entry:
        """Return the entry after a write landed."""
        if self.pending is self.frozen or len(self.pending) == len(self.frozen):
            return Entry(commit.session, commit.session, archive=self.archive)
        session = self.session._with(revision=commit.session.revision)
        return Entry(session, commit.session, self.pending[len(self.frozen) :], archive=self.archive)

    def writing(self, commit: Commit) -> Entry:
        """Return the entry while a write is under way, or its outcome is unknown."""
        pending = self.pending
        return Entry(self.session, self.durable, pending, commit, self.archive, frozen=pending, loss=self.loss)

    @property
    def written(self) -> Commit:
        """The write that is under way, or whose outcome is unknown. There must be one."""
        assert self.unknown is not None
        return self.unknown

    def not_landed(self) -> Entry:
        """Return the entry after a write that did not happen."""
        return Entry(self.session, self.durable, self.pending, loss=self.loss)

    def without(self, witness: Witness) -> Entry:
        """Return the entry as if the call with a witness had not been made; itself if its change is not pending.

        No write may be under way.
        """
        if not any(change.witness is witness for change in self.pending):
            return self
        result = taken_back(self.durable, self.pending, witness)
        return Entry(result.session, self.durable, EMPTY.appended(result.pending), loss=self.loss)

    @property
    def acknowledged(self) -> Session:
        """The newest session that was durable: what the store has lost counts.

        A write of what was lost is of a later revision than that. Otherwise another manager would take it for what it has seen.
        """
        return self.durable if self.loss is None else self.loss.picture

    @property
    def _own(self) -> View[Change]:
        """The pending changes of calls, which lead from `acknowledged` to the session."""
        if self.loss is None:
            return self.pending
        return View(change for change in self.pending if change.witness is not self.loss.witness)

    @property
    def is_cleared(self) -> bool:
        """Whether a pending call clears the session."""
        return any(isinstance(change, Clear) for change in flattened(tuple(self._own)))

    @property
    def absent(self) -> frozenset[str]:
        """The refs of pending messages that are added only if they are not there."""
        pending = (change for change in flattened(tuple(self.pending)) if isinstance(change, Append))
        return frozenset().union(*(change.absent for change in pending))

    def over_older(self, older: Session, changes: Sequence[Change]) -> Entry:
        """Return the entry over an older stored state: what leads from that to the acknowledged picture is pending again.

        :param changes: `session_manager.model.recovery.lost`.
        """
        loss = Loss(self.acknowledged)
        pending = (*(attrs.evolve(change, witness=loss.witness) for change in changes), *self._own)
        return Entry(fold(older, pending), older, EMPTY.appended(pending), archive=self.archive, loss=loss)

    def rebased(self, newer: Session | None, blank: Session, archived: Collection[str] = frozenset()) -> Entry | None:
        """Return the entry over what the store holds now; `None` if nothing is left to keep.

        :param newer: what it holds; `None`: nothing.
        :param blank: a new session, which stands for one that was deleted.
        :param archived: refs of messages in its archive, those of `absent` at least.
        :raises ConflictError: if they cannot be reconciled; this entry is still right.
        """
        if newer is None and self.durable.revision == 0:
            return self
        result = rebase(self.acknowledged, blank if newer is None else newer, self._own, archived)
        if newer is None and not result.pending:
            return None
        return Entry(result.session, result.durable, EMPTY.appended(result.pending))


def dirty_of(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries of all sessions in RAM that have something to save: as `Entry.dirty`, without a call for each."""
    return {
        key: entry
        for key, entry in entries.items()
        if entry.pending is not EMPTY or entry.unknown is not None or not entry.durable.revision
    }
