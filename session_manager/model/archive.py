"""The archive of a session: the messages that truncations and summaries dropped, by position.

What a commit does to it follows from the commit's changes, in order:

* `Truncate` and `Summarize` **add** what they drop, as it was then, also unsaved messages. What they spare stays in the session.
* `Clear` **empties** it of all but the positions that it spares: of what was stored, and of what the changes before it
  dropped.
* Nothing else touches it: `Remove`, `Edit` and `Replace` change the session, and what they take from it is gone.

A session says how many messages were added since its last `Clear` (`Session._archived`), so that a loss is noticed. What a
`Clear` spares is not counted: an archive may hold more.

Positions are never used twice. So no message is both in the archive and in its session. In order of their positions, the
messages stand as they were written, in whatever order they were dropped.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

from session_manager.model.changes import Change, Clear, Spare, Summarize, Truncate, apply
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["NOTHING", "Dropped", "archived", "dropped", "is_kept", "kept", "sorted_by_position"]

#: The (position, message) pairs that changes dropped, and did not clear, by position.
Dropped = tuple[tuple[int, Message], ...]

#: The range of no position.
NOTHING: Spare = (0, 0)


def dropped(before: Session, changes: Sequence[Change]) -> Dropped:
    """Return what changes add to the archive of a session.

    :param before: the session that they are made on.
    """
    if not any(isinstance(change, Truncate | Summarize) for change in changes):
        return ()
    found: dict[int, Message] = {}
    session = before
    for change in changes:
        after = apply(session, change)
        if isinstance(change, Clear):
            found = {position: one for position, one in found.items() if is_kept(position, change.spare or NOTHING)}
        elif isinstance(change, Truncate | Summarize) and after is not session:
            found.update((_position(message), message) for message in _dropped(session, change))
        session = after
    return tuple(sorted(found.items(), key=operator.itemgetter(0)))


def _dropped(session: Session, change: Truncate | Summarize) -> Iterable[Message]:
    if isinstance(change, Summarize):
        return session.messages[session.index(change.start) : session.index(change.stop)]
    gone = session.messages[: session.index(change.start)]
    return gone if change.spare is None else [one for one in gone if not is_kept(_position(one), change.spare)]


def kept(changes: Iterable[Change]) -> Spare | None:
    """Return the range of positions whose archived messages stay stored; `None`: all of them stay."""
    found: Spare | None = None
    for change in changes:
        if isinstance(change, Clear):
            first, last = change.spare or NOTHING
            found = (first, last) if found is None else (max(first, found[0]), min(last, found[1]))
    return found


def is_kept(position: int, spare: Spare | None) -> bool:
    """Say whether a position is in a range that stays."""
    return spare is None or spare[0] <= position < spare[1]


def archived(stored: Iterable[Message], changes: Sequence[Change], pairs: Dropped) -> list[Message]:
    """Return the archive after changes, by position.

    :param stored: the archive before them.
    :param pairs: what they add.
    """
    spare = kept(changes)
    found = {_position(one): one for one in stored if is_kept(_position(one), spare)}
    found.update(pairs)
    return sorted_by_position(found.values())


def sorted_by_position(messages: Iterable[Message]) -> list[Message]:
    """Return messages that have positions, in their order."""
    return sorted(messages, key=_position)


def _position(message: Message) -> int:
    assert message.position is not None
    return message.position
