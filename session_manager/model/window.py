"""A window on a history: the messages between two positions, the newest or the first of them."""

from __future__ import annotations

from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["window"]


def window(
    session: Session, *, limit: int | None = None, before: int | None = None, after: int | None = None
) -> list[Message]:
    """Return some messages of a session, in order, at the cost of these.

    :param limit: how many at most: the first ones if `after` is given, else the newest.
    :param before: only messages at lower positions.
    :param after: only messages at higher positions.
    """
    first = 0 if after is None else session.index(after + 1)
    stop = len(session.messages) if before is None else session.index(before)
    if limit is not None and stop - first > limit:
        if after is None:
            first = stop - limit
        else:
            stop = first + limit
    return session.messages[first:stop].to_list()
