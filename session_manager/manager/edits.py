"""Edits that depend on the session: which change a public call makes, once it has seen the session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from session_manager.arguments import check_type, several
from session_manager.errors import InvalidMessageError, raise_alone
from session_manager.manager.cache.residents import Make
from session_manager.model.batch import Batch
from session_manager.model.changes import Append, Change, Clear, Edit, Remove, Truncate, UpdateMetadata
from session_manager.model.json_value import checked_text
from session_manager.model.message import Message
from session_manager.model.packed import pack_bytes, pack_shown
from session_manager.model.session import Session
from session_manager.model.view import View

__all__ = [
    "clearing",
    "editing",
    "last_position",
    "packed",
    "packed_state",
    "position_of",
    "removing",
    "truncating",
    "updating",
]


def last_position(session: Session) -> int | None:
    """Return the position of the last message; `None` if there is none."""
    return session.messages[-1].position if session.messages else None


def position_of(where: int | str) -> Callable[[Session], int | None]:
    """Return what finds a message by its position, or by its ref: the last one that has it.

    It walks through the history for a ref. Of a session in RAM, `session_manager.manager.lookups.Lookups` need not.
    """

    def find(session: Session) -> int | None:
        if isinstance(where, int):
            return None if session.at(where) is None else where
        return next((one.position for one in reversed(session.messages) if one.ref == where), None)

    return find


def truncating(at: datetime, keep_last: int, *, whole_turns: bool) -> Make:
    """Drop all but the last messages, or all but the last whole turns that have so many.

    Where no whole turn can go, the first part of one does, but for its question: the change spares that one position.
    A ``compaction`` item stays, as a summary does, and a reasoning item stays with what it led to.
    Where a turn starts takes long to find out; what is asked again of the same messages is known.
    """
    from session_manager.history.cuts import Cut, behind_reasoning, compaction, cut, safe_start

    known: tuple[View[Message], Cut] | None = None

    def turn_cut(messages: View[Message]) -> Cut:
        nonlocal known
        if known is None or known[0] is not messages:
            known = messages, cut(messages, keep_last) or Cut(0, safe_start(messages, keep_last))
        return known[1]

    def truncate(session: Session) -> Change | None:
        messages = session.messages
        count = len(messages)
        plain = Cut(0, behind_reasoning(messages, count - max(keep_last, 0)))
        made = turn_cut(messages) if whole_turns else plain
        stays = made.start - 1 if made.in_turn and made.start else None
        summary = compaction(messages)
        if summary is not None and summary < made.stop and (stays is None or summary < stays):
            first, last = summary, summary if stays is None else stays
        elif stays is not None:
            first = last = stays
        else:
            first, last = made.stop, made.stop - 1
        if made.stop <= last - first + 1:
            return None
        start = _place(session, made.stop)
        spare = (_place(session, first), _place(session, last) + 1) if first <= last else None
        return Truncate(at=at, start=start, spare=spare)

    return truncate


def _place(session: Session, index: int) -> int:
    """Return the position of the message at an index, or that of the next one."""
    if index == len(session.messages):
        return session.end
    position = session.messages[index].position
    assert position is not None
    return position


def editing(
    at: datetime,
    find: Callable[[Session], int | None],
    message: Message,
    check: Callable[[Message], None],
    *,
    keep_time: bool,
) -> Make:
    """Replace the message that `find` finds. Its time, metadata and ref stay where the new one was given none.

    What stays is decided here, when the call is made, and is part of the `Edit`: replayed, that means what it always meant.

    :param check: raises if a message is too large.
    :param keep_time: whether the time stays in any case.
    """

    def edit(session: Session) -> Change | None:
        position = find(session)
        old = None if position is None else session.at(position)
        if position is None or old is None:
            return None
        new = message._in_place_of(old, keep_time=keep_time)
        if new._metadata is not message._metadata:
            check(new)
        return Edit(at=at, position=position, message=new)

    return edit


def removing(at: datetime, find: Callable[[Session], int | None], removed: list[Message]) -> Make:
    """Remove the message that `find` finds.

    :param removed: gets the message.
    """

    def remove(session: Session) -> Change | None:
        position = find(session)
        message = None if position is None else session.at(position)
        if position is None or message is None:
            return None
        removed.append(message)
        return Remove(at=at, position=position)

    return remove


def updating(at: datetime, items: Mapping[str, Any], removed: Iterable[str]) -> UpdateMetadata:
    """Set keys of a session's metadata, and remove others. Bytes in the values are packed, if that is still to be done.

    :raises TypeError: if `removed` is a string: each of its letters would be a key.
    :raises InvalidMessageError: with the place of what is not JSON.
    """
    names = tuple(checked_text(name, "removed") for name in several(removed, "removed", "keys"))
    return UpdateMetadata(at=at, items=packed(items, "metadata"), removed=names)


def packed_state(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys of the metadata in which JSON objects stand for bytes: `get_state` gives back what was given.

    :raises TypeError: if it is no mapping.
    :raises InvalidMessageError: as `packed` does.
    """
    check_type(items, (Mapping,), "items must be a mapping, such as a dict")
    found: dict[str, Any] = packed(items, "metadata", pack_bytes)
    return found


def packed(items: Any, place: str, pack: Callable[[Any], Any] = pack_shown) -> Any:
    """Return keys of the metadata in which JSON objects stand for bytes. What is no mapping is refused by a later check.

    :param place: what they are called in an error.
    :param pack: packs a value.
    :raises InvalidMessageError: with the key of a value that has too many levels.
    """
    if not isinstance(items, Mapping):
        return items
    found = {}
    for name, value in items.items():
        try:
            found[name] = pack(value)
        except InvalidMessageError as error:
            raise_alone(InvalidMessageError(f"{place}.{name!s:.80}", error.reason))
    return found


def clearing(at: datetime, generation: str, ref: str | None) -> Change:
    """Clear a session, once for a delivery."""
    clear = Clear(at=at, generation=generation)
    return clear if ref is None else Batch(at=at, changes=(clear, Append(at=at, turn=ref)), ref=ref)
