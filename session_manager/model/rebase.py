"""Rebasing: what one writer's pending changes mean over a session that another writer has saved.

`rebase` folds the pending changes again over what another writer has saved, side by side with the old session. It
keeps a map from the old to the new positions of its own unsaved messages. So the messages of several writers all
survive, in each writer's order. No writer drops messages that it did not see, and deleted messages never come back.

What was *seen* are the positions below the old durable ``end``. Nothing was seen if the session was created here and
never saved; its generation then stands for the newer one. Nothing counts as seen if the session is *gone*: deleted (a
fresh blank session stands for it), or of another generation.

============== ======================================= =================================
Change         over a newer version                    if the session is gone
============== ======================================= =================================
Append         stays; its guard follows, but not to    stays; its guard follows
               one created and cleared elsewhere.
               Of its absent messages those go whose
               refs are in the history or the archive
Replace        spares what was not seen                spares everything
Clear          spares what was not seen                an empty `Replace`; Truncates
                                                       before it are dropped
Truncate       as it is within what was seen; else     spares everything: of its own
               spares what was not seen                unsaved messages they go
Remove, Edit   of an own message: follow it.           own: follow it. Other: dropped
               Of another: it must be there as it was
               seen (object, time, metadata, ref), else
               `ConflictError`, unless a later Replace
               or Clear makes it moot. A Remove of one
               that is gone: dropped
Summarize      stays, if its digest still holds        dropped
SetSummary,    stay                                    dropped
UpdateMetadata
Batch          its changes by this table, if its       dropped, if it names a generation
               conditions hold; else dropped whole.
               If it replaces a message that is gone:
               `ConflictError`
============== ======================================= =================================

A change that loses its effect is dropped, and with it every change that names its messages. Of a session that is gone, a
Clear also drops the own unsaved messages of the Truncates before it: they do not go to the archive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import attrs

from session_manager.errors import ConflictError
from session_manager.frozen import Frozen
from session_manager.model.batch import Batch, flattened, removes
from session_manager.model.changes import (
    Append,
    Change,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Spare,
    Summarize,
    Truncate,
    UpdateMetadata,
    Witness,
    apply,
    fold,
)
from session_manager.model.ids import began_by_clear
from session_manager.model.session import Session

__all__ = ["Rebased", "rebase", "taken_back"]


class Rebased(Frozen, frozen=True):
    """Pending changes over a newer session."""

    #: The newer saved session (blank, of revision 0, if it was deleted).
    durable: Session
    #: The changes that are left, as they are to be written.
    pending: tuple[Change, ...]
    #: The session that they lead to from `durable`.
    session: Session


def rebase(old: Session, newer: Session, pending: Sequence[Change], archived: Collection[str] = frozenset()) -> Rebased:
    """Reconcile pending changes with a session that another writer has saved. A pure function.

    :param old: the saved session that the changes were made on; revision 0 if it was never saved.
    :param newer: what the store holds now; if it holds nothing, a blank session of a new generation.
    :param pending: the changes, in order; each has an effect over `old`.
    :param archived: refs of archived messages of `newer`, those at least that an `Append.absent` names.
    :raises ConflictError: if one of them changes a message that the other writer changed.
    """
    return _Rebase(old, newer, archived=archived).run(pending)


def taken_back(durable: Session, pending: Sequence[Change], witness: Witness) -> Rebased:
    """Return pending changes as if the call with a witness had not been made. A pure function; it never conflicts.

    A later change of a message that the call wrote is dropped; one of a message that the call changed stays.

    :param durable: the session that the changes were made on.
    """
    return _Rebase(durable, durable, witness).run(pending)


def _with_moot(changes: Sequence[Change]) -> Iterator[tuple[Change, bool]]:
    """Yield each change, and whether a later one takes all messages away, so that a conflict would not matter."""
    last = max((number for number, one in enumerate(changes) if isinstance(one, Replace | Clear)), default=-1)
    return ((change, number < last) for number, change in enumerate(changes))


class _Rebase:
    """A rebase under way.

    :param taken_back: of the call that is taken back, if one is: then both sessions are the same.
    :param archived: refs of messages that are archived in the newer session.
    """

    def __init__(
        self, old: Session, newer: Session, taken_back: Witness | None = None, archived: Collection[str] = frozenset()
    ) -> None:
        self.old, self.newer, self.taken_back, self.archived = old, newer, taken_back, archived
        #: The two sessions, side by side.
        self.before, self.after = old, newer
        #: Old position of an own unsaved message → its new one.
        self.own: dict[int, int] = {}
        #: A generation made here → the one that it stands for.
        self.stands_for: dict[str, str] = {}
        #: Messages that another writer changed or removed, of which no change here means anything any more.
        self.lost: set[int] = set()
        created_here = old.revision == 0 and taken_back is None
        self.gone = not created_here and newer.generation != old.generation
        self.seen_end = 0 if created_here or self.gone else old.end
        if created_here and not began_by_clear(newer.generation):
            self.stands_for[old.generation] = newer.generation

    def run(self, pending: Sequence[Change]) -> Rebased:
        kept: list[Change] = []
        for change, moot in _with_moot(pending):
            if self.gone and any(isinstance(one, Clear) for one in flattened((change,))):
                kept = [one for one in kept if not isinstance(one, Truncate)]
                self.after = fold(self.newer, kept)
            left = self._batch(change) if isinstance(change, Batch) else self._single(change, moot=moot)
            if left is not None:
                kept.append(left)
        return Rebased(self.newer, tuple(kept), self.after)

    def _batch(self, batch: Batch) -> Batch | None:
        """Make a batch on both sides, and return what is left of it; on the newer side all of it, or nothing."""
        generation = None if batch.generation is None else self.stands_for.get(batch.generation, batch.generation)
        if self._is_taken_back(batch) or not attrs.evolve(batch, generation=generation).meets(self.after):
            self.before = apply(self.before, batch)
            return None
        left = (self._single(change, moot=moot) for change, moot in _with_moot(batch.changes))
        changes = tuple(change for change in left if change is not None)
        if batch.replaces and removes(changes) < removes(batch.changes):
            raise ConflictError(
                self.old.key, self.old.version, self.newer.version, "another writer removed what a turn replaces"
            )
        return attrs.evolve(batch, generation=generation, changes=changes) if changes else None

    def _single(self, change: Change, *, moot: bool) -> Change | None:
        """Make a change on both sides, and return what is left of it; `None`: it has lost its effect."""
        rebased = None if self._is_taken_back(change) else self._rebased(change, moot=moot)
        before, old_end, new_end = self.before, self.before.end, self.after.end
        self.before = apply(before, change)
        after = self.after if rebased is None else apply(self.after, rebased)
        if rebased is None or after is self.after:
            return None
        self.after = after
        olds, news = range(old_end, self.before.end), range(new_end, after.end)
        if isinstance(change, Append) and isinstance(rebased, Append) and change.absent:
            places = dict(zip(map(id, rebased.messages), news, strict=True))
            given = () if self.before is before else change.missing(before)
            self.own.update((old, places[id(one)]) for old, one in zip(olds, given, strict=True) if id(one) in places)
        else:
            self.own.update(zip(olds, news, strict=True))
        return rebased

    def _is_taken_back(self, change: Change) -> bool:
        return self.taken_back is not None and change.witness is self.taken_back

    def _rebased(self, change: Change, *, moot: bool) -> Change | None:
        match change:
            case Append():
                left = self._absent(change) if change.absent else change
                guard = left.guard
                return left if guard is None else attrs.evolve(left, guard=self.stands_for.get(guard, guard))
            case Clear(generation=generation) if self.gone:
                self.stands_for[generation] = self.after.generation
                return Replace(at=change.at, spare=self._spare(change.spare))
            case Replace() | Clear():
                return attrs.evolve(change, spare=self._spare(change.spare))
            case Remove() | Edit():
                position = self._target(change, moot=moot)
                return None if position is None else attrs.evolve(change, position=position)
            case Summarize() | SetSummary() | UpdateMetadata() if self.gone:
                return None
            case Truncate(start=start, spare=spare) if start > self.seen_end:
                return Truncate(at=change.at, start=self._own_start(start), spare=self._spare(spare))
            case _:
                return change

    def _absent(self, change: Append) -> Append:
        """Return a change without the messages that are there: in the history on the newer side, or in its archive."""
        left = attrs.evolve(change.without(self.archived), seen=None)
        return attrs.evolve(left, messages=left.missing(self.after), seen=self.after)

    def _spare(self, earlier: Spare | None) -> Spare | None:
        first, last = self.seen_end, self.newer.end
        if earlier is not None:  # it may spare own messages: those that a turn did not see
            first = min(earlier[0], first)
            last = max([last, *(new + 1 for old, new in self.own.items() if earlier[0] <= old < earlier[1])])
        return (first, last) if first < last else None

    def _own_start(self, start: int) -> int:
        beyond = max(start - self.before.end, 0)
        return min((new for old, new in self.own.items() if old >= start), default=self.after.end + beyond)

    def _target(self, change: Remove | Edit, *, moot: bool) -> int | None:
        position = change.position
        if self.gone or position >= self.seen_end:
            return self.own.get(position)
        if position not in self.lost and self._is_as_seen(position):
            return position
        there = self.after.at(position)
        if self.taken_back is not None and there is not None:
            return position
        if moot or self.taken_back is not None or (there is None and isinstance(change, Remove)):
            self.lost.add(position)
            return None
        raise ConflictError(
            self.old.key,
            self.old.version,
            self.newer.version,
            f"another writer changed or removed the message at position {position}",
        )

    def _is_as_seen(self, position: int) -> bool:
        """Say whether a message is still there as it was seen: its object, time, metadata and ref."""
        seen, there = self.before.at(position), self.after.at(position)
        return seen is there or (seen is not None and there is not None and seen._is_as(there))
