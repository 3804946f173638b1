"""The batch: several changes of one call that happen together, on condition, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from session_manager.model.changes import Append, Change, Remove, fold, settled
from session_manager.model.session import ANY, Anything, Session, Version

__all__ = ["Batch", "as_stored", "flattened", "removes"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Batch(Change):
    """Changes that happen together, on condition, or not at all (a `turn` that does more than add, `undo`).

    No effect on a session that does not meet the conditions. A condition that is left out is met.
    A store never sees a batch: a commit has its changes one by one (`flattened`).

    :param changes: in order; each has an effect after the ones before it.
    :param ref: a delivery that the session must not have answered yet.
    :param generation: the session's generation.
    :param expected: the session's version; `None`: it must never have been saved.
    :param replaces: its `Remove`s take the place of something: if one of their messages is gone, that is a conflict.
    """

    changes: tuple[Change, ...] = attrs.field(repr=lambda changes: f"<{len(changes)}>")
    ref: str | None = attrs.field(default=None, repr=False)
    generation: str | None = None
    expected: Version | Anything | None = ANY
    replaces: bool = False

    def meets(self, session: Session) -> bool:
        """Say whether a session meets the conditions."""
        return (
            (self.ref is None or self.ref not in session.refs)
            and self.generation in (None, session.generation)
            and (self.expected is ANY or self.expected == session.version)
        )

    def _apply(self, session: Session) -> Session:
        return fold(session, self.changes) if self.meets(session) else session


def flattened(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return changes with those of each batch in its place; the last of these has the witness of the batch."""
    if Batch not in map(type, changes):
        return changes
    return tuple(one for change in changes for one in _members(change))


def as_stored(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return changes as stores get them: one by one (`flattened`), and each of their absent messages is to be added (`settled`)."""
    for change in changes:
        if isinstance(change, Batch) or (isinstance(change, Append) and change.absent):
            return settled(flattened(tuple(changes)))
    return tuple(changes)


def removes(changes: Iterable[Change]) -> int:
    """Return how many messages changes remove one by one."""
    return sum(isinstance(change, Remove) for change in changes)


def _members(change: Change) -> Iterable[Change]:
    if not isinstance(change, Batch):
        return (change,)
    return (*change.changes[:-1], attrs.evolve(change.changes[-1], witness=change.witness))
