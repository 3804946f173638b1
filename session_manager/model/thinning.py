"""Superseded changes: pending edits that later ones make superfluous, so that a growing text costs its length, not its square.

A reply that streams in is an `Edit` of one message for each piece. Of three such changes in a row the first may go:

* The **last** says what becomes of the message.
* The **one before** stays. It proves that the last has an effect, whatever another writer has saved meanwhile,
  so that ``updated`` becomes the same. It takes the place of the first.

The same holds for `SetSummary`, and for `UpdateMetadata` of the same keys.
Changes of another message or of other keys, and appends, may stand between them.

What is left means the same: `fold` of it gives the same session,
and `session_manager.model.rebase` over whatever another writer has saved gives the same session or the same conflict.
So nothing is thinned out

* across a `Truncate`, `Remove`, `Replace`, `Clear` or `Summarize`, which look at messages, or at the summary;
* if the last one is not the newest of the three by its time, as when a clock was set back;
* if only the first one gives the message its ref;
* if the last two differ in nothing but the ref, or in none of the values that both set.

Changes that a write under way carries are never touched: their caller leaves them out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

from session_manager.frozen import Part
from session_manager.model.changes import UNCHANGED, Append, Change, Edit, SetSummary, UpdateMetadata
from session_manager.model.json_value import same

__all__ = ["is_thinnable", "thinned"]

_THINNABLE = frozenset((Edit, SetSummary, UpdateMetadata))


def is_thinnable(change: Change) -> bool:
    """Say whether a change may supersede earlier ones."""
    return type(change) in _THINNABLE


def thinned(changes: Sequence[Change]) -> list[Change]:
    """Return pending changes without those that later ones supersede. A pure function, in one pass.

    :param changes: in order; each has an effect over what the ones before it lead to.
    """
    thinning = _Thinning()
    for change in changes:
        thinning.add(change)
    return [change for change in thinning.left if change is not None]


class _Thinning(Part):
    left: list[Change | None] = msgspec.field(default_factory=list)
    #: Where the last changes of each subject are, two at most.
    places: dict[Hashable, tuple[int, ...]] = msgspec.field(default_factory=dict)
    #: Which subject last set a key of the metadata.
    owners: dict[str, Hashable] = msgspec.field(default_factory=dict)

    def add(self, change: Change) -> None:
        match change:
            case Edit():
                self._supersede(change.position, change)
            case SetSummary():
                self._supersede(SetSummary, change)
            case UpdateMetadata(expires_after=expiry) if expiry is UNCHANGED:
                self._supersede(self._keys(change), change)
            case UpdateMetadata() if not change._items and not change.removed:
                self.left.append(change)  # an expiry, on which nothing else depends
            case Append():
                self.left.append(change)
            case _:
                self.places.clear()
                self.left.append(change)

    def _keys(self, change: UpdateMetadata) -> Hashable:
        """Return the keys that a change sets and removes. Changes of only some of these are told apart from now on."""
        subject = (tuple(change._items), change.removed)
        for key in (*change._items, *change.removed):
            owner = self.owners.get(key, subject)
            if owner != subject:
                self.places.pop(owner, None)
            self.owners[key] = subject
        return subject

    def _supersede(self, subject: Hashable, change: Change) -> None:
        places = self.places.get(subject, ())
        self.left.append(change)
        if len(places) == 2:
            first, second = (self.left[place] for place in places)
            assert first is not None
            assert second is not None
            if _is_superfluous(first, second, change):
                self.left[places[0]], self.left[places[1]] = second, None
                places = places[:1]
        self.places[subject] = (*places[-1:], len(self.left) - 1)


def _is_superfluous(first: Change, second: Change, last: Change) -> bool:
    """Say whether the first of three changes of one subject may go."""
    if first.witness is not None or max(first.at, second.at) > last.at:
        return False
    match first, second, last:
        case Edit(), Edit(), Edit():
            return first.message.ref in (None, second.message.ref) and not _is_same(second, last)
        case SetSummary(), SetSummary(), SetSummary():
            return second.text != last.text
        case UpdateMetadata(), UpdateMetadata(), UpdateMetadata():
            return not all(same(value, last._items[key]) for key, value in second._items.items())
    raise AssertionError((first, second, last))


def _is_same(one: Edit, other: Edit) -> bool:
    """Say whether two edits differ in no more than the ref that they give."""
    old, new = one.message, other.message
    return old == new and old.created_at == new.created_at and same(old._metadata, new._metadata)
