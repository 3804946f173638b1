"""All of a damaged session's rows that is whole becomes a session.

Each row has a checksum that is begun with the key, so each is proven, and so is the key itself. A row of which nothing tells any
more whether it is archived counts as archived if its position is before the history's first.
"""

from __future__ import annotations

from typing import Any

import attrs

from session_manager.codec.fragments import fields_in
from session_manager.codec.state import State
from session_manager.model.message import Message
from session_manager.stores.fragments import session_of_fields
from session_manager.stores.rows.decoding import DamageError, checked_state
from session_manager.stores.salvaged import Expected, Flaw, Salvaged

__all__ = ["WholeRows", "salvage"]

_FIELDS = (
    *("key", "generation", "revision", "created", "updated", "last_message_at", "start", "end", "refs"),
    *("summary", "metadata", "count", "archived", "expires_after"),
)


@attrs.define(eq=False, repr=False)
class WholeRows:
    """The rows of one session."""

    #: The session's own, as far as it is there: generation, revision, state, checksum.
    session: list[Any] | None = None
    #: By position, and by whether they are archived; `None` if nothing tells.
    lines: list[tuple[bool | None, Message]] = attrs.field(factory=list)
    damaged: int = 0


def salvage(rows: WholeRows, key: str, path: str) -> Salvaged | None:
    """Return all of a session that is whole; `None` if there is no row of it."""
    state, flaws = None, []
    told: dict[str, object] = {}
    if rows.session is not None:
        try:
            state = checked_state(key, *rows.session[:4])
        except DamageError as error:
            flaws.append(Flaw(path, None, f"{error}: it is in doubt"))
            generation, revision, data = rows.session[:3]
            told = fields_in(data, (*_FIELDS, "")) if isinstance(data, bytes) else {}
            told |= {"revision": revision}
            told |= {"generation": generation.decode("ascii", "replace")} if isinstance(generation, bytes) else {}
    elif rows.lines:
        flaws.append(Flaw(path, None, "its own row is lost: summary and metadata with it"))
    else:
        return None
    start = 0 if state is None else state.start
    archive = {one.position or 0: one for aside, one in rows.lines if _is_archived(aside, one, start)}
    there = {one.position or 0: one for aside, one in rows.lines if not _is_archived(aside, one, start)}
    messages = [there[position] for position in sorted(there) if position not in archive or state is None]
    if rows.damaged:
        flaws.append(Flaw(path, None, f"{rows.damaged} of its rows are damaged"))
    return _salvaged(key, path, state, told, messages, [archive[one] for one in sorted(archive)], flaws)


def _is_archived(aside: bool | None, message: Message, start: int) -> bool:  # noqa: FBT001 - a field of a row
    return (message.position or 0) < start if aside is None else aside


def _salvaged(
    key: str,
    path: str,
    state: State | None,
    told: dict[str, object],
    messages: list[Message],
    archive: list[Message],
    flaws: list[Flaw],
) -> Salvaged:
    if state is not None:
        told = {name: getattr(state, name) for name in state.__struct_fields__}
        told["expires_after"] = state.expires_after or None
        messages = [one for one in messages if state.start <= (one.position or 0) < state.end]
    session = session_of_fields(key, told, messages)
    archived = 0 if state is None else state.archived or 0
    if state is not None and len(messages) < state.count:
        flaws.append(Flaw(path, None, f"{state.count - len(messages)} of its messages are missing"))
    if len(archive) < archived:
        flaws.append(Flaw(path, None, f"{archived - len(archive)} of its archived messages are missing"))
    return Salvaged(
        session=session._with(revision=session.revision + 1, _archived=len(archive)),
        archive=[(0, one) for one in archive],
        flaws=flaws or [Flaw(path, None, "it cannot be read, but every row of it is there")],
        expected=None if state is None else Expected(state.start, state.end, state.count),
        archived=archived,
    )
