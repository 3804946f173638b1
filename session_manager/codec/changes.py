r"""Changes as JSON: how a log's record says what a save did.

A change is one object; ``change`` names its kind, ``at`` is its time::

    {"change":"append","at":…,"messages":[{"created_at":…,"message":{…},"metadata":{…},"ref":"…"}],"turn":"…","guard":"…"}
    {"change":"truncate","at":…,"start":7,"spare":[3,9]}
    {"change":"remove","at":…,"position":7}
    {"change":"edit","at":…,"position":7,"message":{"created_at":…,"message":{…}}}
    {"change":"replace","at":…,"messages":[…],"spare":[3,9]}
    {"change":"clear","at":…,"generation":"…","spare":[3,9]}
    {"change":"fold","at":…,"summary":"…","start":3,"stop":7,"digest":"…"}
    {"change":"set_summary","at":…,"text":"…"}
    {"change":"update_metadata","at":…,"items":{…},"removed":["…"]}

The messages in it have no position and no turn: those follow from the session that the change is applied to
(`session_manager.model.changes`). Absent is what is null or empty. Times, texts and numbers are as in `session_manager.codec.lines`,
and so is what is checked: times in UTC, a role or a type, at most 200 levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

import msgspec

from session_manager.codec.json import DecodeError, encode_json
from session_manager.codec.lines import flaw_of
from session_manager.model.changes import (
    Append,
    Change,
    Clear,
    Edit,
    Fold,
    Remove,
    Replace,
    SetSummary,
    Spare,
    Truncate,
    UpdateMetadata,
)
from session_manager.model.json_value import MAX_LEVELS, JsonObject, within_levels
from session_manager.model.message import Message

__all__ = ["AnyChange", "AppendStruct", "change_of", "encode_changes"]


class _Struct(msgspec.Struct, tag_field="change", omit_defaults=True, gc=False):
    at: datetime

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class NewMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """A message that has no position yet."""

    created_at: datetime
    message: dict[str, Any]
    metadata: dict[str, Any] | None = None
    ref: str | None = None

    def __repr__(self) -> str:
        return "<new message>"


class AppendStruct(_Struct, tag="append"):
    """An `Append`, as it is written: the change that most records hold."""

    messages: list[NewMessage] = []  # noqa: RUF012 - msgspec copies an empty default
    turn: str | None = None
    guard: str | None = None


class _Truncate(_Struct, tag="truncate"):
    start: int
    spare: Spare | None = None


class _Remove(_Struct, tag="remove"):
    position: int


class _Edit(_Struct, tag="edit"):
    position: int
    message: NewMessage


class _Replace(_Struct, tag="replace"):
    messages: list[NewMessage] = []  # noqa: RUF012 - msgspec copies an empty default
    spare: Spare | None = None


class _Clear(_Struct, tag="clear"):
    generation: str
    spare: Spare | None = None


class _Fold(_Struct, tag="fold"):
    summary: str
    start: int
    stop: int
    digest: str


class _SetSummary(_Struct, tag="set_summary"):
    text: str


class _UpdateMetadata(_Struct, tag="update_metadata"):
    items: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies an empty default
    removed: tuple[str, ...] = ()


#: A change, as it is written.
AnyChange: TypeAlias = (
    AppendStruct | _Truncate | _Remove | _Edit | _Replace | _Clear | _Fold | _SetSummary | _UpdateMetadata
)


def encode_changes(changes: Sequence[Change]) -> bytes:
    """Return changes as a JSON array, in one line of UTF-8; in ASCII if there is a lone surrogate in it."""
    return encode_json([_struct_of(change) for change in changes])


def _struct_of(change: Change) -> AnyChange:
    at = change.at
    match change:
        case Append():
            return AppendStruct(at=at, messages=_new(change.messages), turn=change.turn, guard=change.guard)
        case Truncate():
            return _Truncate(at=at, start=change.start, spare=change.spare)
        case Remove():
            return _Remove(at=at, position=change.position)
        case Edit():
            return _Edit(at=at, position=change.position, message=_new((change.message,))[0])
        case Replace():
            return _Replace(at=at, messages=_new(change.messages), spare=change.spare)
        case Clear():
            return _Clear(at=at, generation=change.generation, spare=change.spare)
        case Fold():
            return _Fold(at=at, summary=change.summary, start=change.start, stop=change.stop, digest=change.digest)
        case SetSummary():
            return _SetSummary(at=at, text=change.text)
        case UpdateMetadata():
            return _UpdateMetadata(at=at, items=dict(change._items), removed=change.removed)
    raise TypeError(type(change).__name__)


def _new(messages: Sequence[Message]) -> list[NewMessage]:
    return [NewMessage(one.created_at, one._object, _notes(one), one.ref) for one in messages]


def _notes(message: Message) -> dict[str, Any] | None:
    return dict(message._metadata) if message._metadata else None


def change_of(struct: AnyChange) -> Change:
    """Return the change that was written.

    :raises DecodeError: if it is none: its offset is 0.
    """
    if struct.at.tzinfo is not timezone.utc:
        raise DecodeError(0, "a time that is not UTC")
    return _MADE[type(struct)](struct)


def _update_metadata(struct: _UpdateMetadata) -> Change:
    if not within_levels(struct.items):
        raise DecodeError(0, f"more than {MAX_LEVELS} levels")
    return UpdateMetadata(at=struct.at, items=JsonObject(struct.items), removed=struct.removed)


_MADE: dict[type[AnyChange], Callable[[Any], Change]] = {
    AppendStruct: lambda it: Append(at=it.at, messages=_messages(it.messages), turn=it.turn, guard=it.guard),
    _Truncate: lambda it: Truncate(at=it.at, start=it.start, spare=it.spare),
    _Remove: lambda it: Remove(at=it.at, position=it.position),
    _Edit: lambda it: Edit(at=it.at, position=it.position, message=_messages([it.message])[0]),
    _Replace: lambda it: Replace(at=it.at, messages=_messages(it.messages), spare=it.spare),
    _Clear: lambda it: Clear(at=it.at, generation=it.generation, spare=it.spare),
    _Fold: lambda it: Fold(at=it.at, summary=it.summary, start=it.start, stop=it.stop, digest=it.digest),
    _SetSummary: lambda it: SetSummary(at=it.at, text=it.text),
    _UpdateMetadata: _update_metadata,
}


def _messages(news: Sequence[NewMessage]) -> tuple[Message, ...]:
    for new in news:
        flaw = flaw_of(new.message, new.created_at, new.metadata)
        if flaw:
            raise DecodeError(0, flaw)
    return tuple([Message._restore(new.message, new.created_at, new.metadata, new.ref) for new in news])
