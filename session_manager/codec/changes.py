r"""Changes as JSON: the content of a log's record.

A change is one object; ``change`` names its kind, ``at`` is its time::

    {"change":"append","at":…,"messages":[{"created_at":…,"message":{…},"metadata":{…},"ref":"…"}],"turn":"…","guard":"…"}
    {"change":"truncate","at":…,"start":7,"spare":[3,9]}
    {"change":"remove","at":…,"position":7}
    {"change":"edit","at":…,"position":7,"message":{"created_at":…,"message":{…}}}
    {"change":"replace","at":…,"messages":[…],"spare":[3,9]}
    {"change":"clear","at":…,"generation":"…","spare":[3,9]}
    {"change":"fold","at":…,"summary":"…","start":3,"stop":7,"digest":"…"}
    {"change":"set_summary","at":…,"text":"…"}
    {"change":"update_metadata","at":…,"items":{…},"removed":["…"],"expires_after":"P90D"}

``expires_after`` is a duration as in ISO 8601, or null, which takes the expiry away; absent, it stays as it is.

The messages in it have no position and no turn: both follow from the session that the change is applied to
(`session_manager.model.changes`). Null and empty fields are absent. Times, texts and numbers are written and checked as in
`session_manager.codec.lines`: times in UTC, a role or a type, at most 200 levels.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_type_hints

import attrs
import msgspec

from session_manager.codec.json import DecodeError, encode_large
from session_manager.codec.lines import lent_object, message_of
from session_manager.model.changes import (
    UNCHANGED,
    Append,
    Change,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    Unchanged,
    UpdateMetadata,
)
from session_manager.model.json_value import MAX_LEVELS, JsonObject, within_levels
from session_manager.model.message import Message

__all__ = ["AnyChange", "AppendStruct", "NewMessage", "change_of", "encode_changes"]

#: The name of each kind of change in files, which stays when a class gets another name.
_TAGS: dict[type[Change], str] = {
    Append: "append",
    Truncate: "truncate",
    Remove: "remove",
    Edit: "edit",
    Replace: "replace",
    Clear: "clear",
    Summarize: "fold",
    SetSummary: "set_summary",
    UpdateMetadata: "update_metadata",
}


class NewMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """A message that has no position yet."""

    created_at: datetime
    message: dict[str, Any]
    metadata: dict[str, Any] | None = None
    ref: str | None = None

    def __repr__(self) -> str:
        return "<new message>"


def _new(message: Message) -> NewMessage:
    metadata = message._metadata
    return NewMessage(message.created_at, lent_object(message), dict(metadata) if metadata else None, message.ref)


def _messages(news: Sequence[NewMessage]) -> tuple[Message, ...]:
    return tuple([message_of(new) for new in news])


def _object(value: dict[str, Any]) -> JsonObject:
    if not within_levels(value):
        raise DecodeError(0, f"more than {MAX_LEVELS} levels")
    return JsonObject(value)


def _expiry(after: timedelta | None) -> timedelta | None:
    if after is not None and after <= timedelta():
        raise DecodeError(0, "an expiry that is not positive")
    return after


class _Form(NamedTuple):
    """A field of a change as files have it: its type, its default, and the functions there and back, if it needs them."""

    type: Any
    default: Any
    write: Callable[[Any], Any] | None = None
    read: Callable[[Any], Any] | None = None


#: The forms of fields that files have otherwise, by their type in a change.
_FORMS: dict[Any, _Form] = {
    Message: _Form(NewMessage, attrs.NOTHING, _new, lambda new: _messages((new,))[0]),
    tuple[Message, ...]: _Form(list[NewMessage], [], lambda messages: list(map(_new, messages)), _messages),
    timedelta | None | Unchanged: _Form(
        timedelta | None | msgspec.UnsetType,
        msgspec.UNSET,
        lambda after: msgspec.UNSET if after is UNCHANGED else after,
        lambda written: UNCHANGED if written is msgspec.UNSET else _expiry(written),
    ),
    JsonObject: _Form(dict[str, Any], {}, dict, _object),
}


class _Struct(msgspec.Struct, tag_field="change", omit_defaults=True, gc=False):
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _Kind:
    """A kind of change, and the struct derived from its class. Fields that do not count for equality are left out."""

    def __init__(self, change: type[Change], tag: str) -> None:
        types = get_type_hints(change)
        fields = [field for field in attrs.fields(change) if field.eq]
        forms = [_FORMS.get(types[field.name]) or _Form(types[field.name], field.default) for field in fields]
        names = [str(field.alias) for field in fields]
        written = [(name, form.type, form.default) for name, form in zip(names, forms, strict=True)]
        defined = [one[:2] if one[2] is attrs.NOTHING else one for one in written]
        self.change = change
        self.struct = msgspec.defstruct(change.__name__, defined, bases=(_Struct,), tag=tag)
        self.values_of = operator.attrgetter(*[field.name for field in fields])
        self.writes = [(number, form.write) for number, form in enumerate(forms) if form.write]
        self.reads = [(name, form.read) for name, form in zip(names, forms, strict=True) if form.read]


_KINDS = {change: _Kind(change, tag) for change, tag in _TAGS.items()}
_READ = {kind.struct: kind for kind in _KINDS.values()}

#: The struct of an `Append`, the most frequent change.
AppendStruct: Any = _KINDS[Append].struct

#: The struct of any change.
if TYPE_CHECKING:
    AnyChange: TypeAlias = Any
else:
    AnyChange = reduce(operator.or_, _READ)


def encode_changes(changes: Sequence[Change]) -> bytes | bytearray:
    """Encode changes as a JSON array, in one line of UTF-8; in ASCII if there is a lone surrogate in them."""
    return encode_large(list(map(_struct_of, changes)))


def _struct_of(change: Change) -> msgspec.Struct:
    if type(change) is Append:
        append: msgspec.Struct = AppendStruct(change.at, list(map(_new, change.messages)), change.turn, change.guard)
        return append
    kind = _KINDS[type(change)]
    values = list(kind.values_of(change))
    for number, write in kind.writes:
        values[number] = write(values[number])
    return kind.struct(*values)


def change_of(struct: AnyChange) -> Change:
    """Return the change of a decoded struct.

    :raises DecodeError: if it is invalid; its offset is 0.
    """
    if struct.at.tzinfo is not timezone.utc:
        raise DecodeError(0, "a time that is not UTC")
    kind = _READ[type(struct)]
    values = msgspec.structs.asdict(struct)
    for name, read in kind.reads:
        values[name] = read(values[name])
    return kind.change(**values)
