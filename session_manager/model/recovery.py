"""Recovery: what a store has lost of a session, and a picture in RAM still has, as changes.

A server that failed over to a standby that was behind shows an older state of a session than one that it had acknowledged.
If that is a beginning of the picture, the rest is written again. A state that is no beginning of it cannot be reconciled.

Several managers may have the picture in RAM. What leads to it must be written once: a manager that finds the store at another
state than the older one decides anew. So the picture is kept until the write landed (`Loss`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from session_manager.frozen import Frozen
from session_manager.model.changes import Append, Change, SetSummary, UpdateMetadata, Witness, fold
from session_manager.model.json_value import JsonObject, same
from session_manager.model.message import Message
from session_manager.model.session import MAX_REFS, Session

__all__ = ["Loss", "continues", "is_another", "is_behind", "lost"]


class Loss(Frozen, frozen=True):
    """A picture that was durable, and that the store has lost."""

    picture: Session
    #: It is that of the changes that lead to the picture, and tells them from those of later calls.
    witness: Witness = msgspec.field(default_factory=Witness)


def is_behind(stored: Session, picture: Session) -> bool:
    """Say whether a stored session is surely an older state of the same generation, or goes on from one.

    In a generation no end of a history, and no revision, ever decreases, and no answered delivery is forgotten before 256 later ones.

    :param picture: a state that was seen stored.
    """
    is_older = stored.revision < picture.revision or stored.end < picture.end or not _goes_on(picture.refs, stored.refs)
    return is_older and stored.generation == picture.generation


def is_another(stored: Session, picture: Session) -> bool:
    """Say whether a stored session is another one than a picture of the same version."""
    return stored.version == picture.version and not _is_the_same(stored, picture)


def continues(stored: Session, picture: Session) -> bool:
    """Say whether a stored session begins with the messages of a picture."""
    return _agree(stored.messages[: len(picture.messages)], picture.messages)


def lost(stored: Session, picture: Session) -> tuple[Change, ...] | None:
    """Return the changes that lead from an older state to a picture; `None` if that state is no beginning of it.

    They lead to the same messages at the same positions, refs, summary, metadata and expiry. A state that was saved more often, or
    changed later, is no beginning: another writer has gone on from an older one.

    :param stored: the older state.
    :param picture: a later state of the same generation.
    """
    count, at = len(stored.messages), picture.updated
    if stored.revision >= picture.revision or stored.updated > at:
        return None
    if not _agree(stored.messages, picture.messages[:count]):
        return None
    changes: list[Change] = [
        Append(at=at, messages=tuple(some), turn=turn)
        for turn, some in _turns(picture.messages[count:], _later(stored.refs, picture.refs))
    ]
    changes.append(SetSummary(at=at, text=picture.summary))
    removed = tuple(name for name in stored._metadata if name not in picture._metadata)
    items = JsonObject(picture._metadata)
    changes.append(UpdateMetadata(at=at, items=items, removed=removed, expires_after=picture.expires_after))
    return tuple(changes) if _is_the_same(fold(stored, changes), picture) else None


def _later(old: Sequence[str], new: Sequence[str]) -> Sequence[str]:
    """Return the refs that came later: only the newest are kept, so old ones may be gone."""
    return new[len(old) - _gone(old, new) :]


def _goes_on(old: Sequence[str], new: Sequence[str]) -> bool:
    """Say whether refs are some older ones, and later ones behind them."""
    gone = _gone(old, new)
    return old[gone:] == new[: len(old) - gone] and (not gone or len(new) == MAX_REFS)


def _gone(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many refs went, because only the newest are kept: all, if none of the newest was there before."""
    if len(new) < MAX_REFS:
        return 0
    return old.index(new[0]) if new[0] in old else len(old)


def _turns(messages: Sequence[Message], refs: Sequence[str]) -> Iterator[tuple[str | None, list[Message]]]:
    """Return messages by the turns that added them, and the turns that added none, in the order of their refs."""
    left = list(refs)
    for turn, some in groupby(messages, lambda message: message.turn):
        while turn in left and left[0] != turn:
            yield left.pop(0), []
        if turn is not None and left[:1] == [turn]:
            left.pop(0)
        yield turn, list(some)
    yield from ((ref, []) for ref in left)


def _agree(some: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(some) == len(others) and all(
        one.position == other.position and one.turn == other.turn and one._is_as(other)
        for one, other in zip(some, others, strict=True)
    )


def _is_the_same(one: Session, other: Session) -> bool:
    return (
        (one.end, one.refs, one.summary, one.expires_after)
        == (other.end, other.refs, other.summary, other.expires_after)
        and same(dict(one._metadata), dict(other._metadata))
        and _agree(one.messages, other.messages)
    )
