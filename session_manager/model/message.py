"""The message: a provider's JSON object, or an item, with its time, metadata and place. Immutable, safe to share between threads."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict

import attrs

from session_manager.errors import InvalidMessageError
from session_manager.model.json_value import (
    EMPTY_OBJECT,
    MAX_LEVELS,
    JsonObject,
    checked_copy,
    checked_text,
    copy_value,
    json_object,
    same,
    shared,
    within_levels,
)
from session_manager.model.read_only import read_only
from session_manager.model.roles import shown_kind
from session_manager.model.sdk_objects import split
from session_manager.model.times import utc, utc_now

__all__ = ["ITEM_TYPE", "PARTS", "Item", "Message", "MessageParts"]

#: The ``type`` of an item's object, as it is kept and written: ``{"type": "session_manager.item", "item": {…}}``.
ITEM_TYPE: Final = "session_manager.item"


_KINDLESS: Final = "a message needs a non-empty string role, or a type; Item(object) keeps any other JSON object"


class _Absent(enum.Enum):
    ABSENT = "absent"


_ABSENT: Final = _Absent.ABSENT
_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")


class MessageParts(TypedDict, total=False):
    """The keyword arguments of calls that build a message. `Message` says what each means.

    A call of your own takes the same by ``**parts: Unpack[MessageParts]``.
    """

    name: str | None
    tool_calls: Any
    tool_call_id: str | None
    extra: Mapping[str, Any] | None
    created_at: datetime | None
    metadata: Mapping[str, Any] | None
    ref: str | None


#: Their names.
PARTS = MessageParts.__optional_keys__


class _Marks:
    """What a message knows about how it was built. Only the constructor sets it: it costs stored messages no time."""

    __slots__ = ("_is_untimed",)


@attrs.frozen(init=False, eq=False, repr=False, weakref_slot=False)
class Message(_Marks):
    """A message as providers and frameworks exchange it, with five fields of ours.

    The object is any JSON object with a non-empty string ``role``, or without a role and with a
    non-empty string ``type`` (OpenAI chat and Responses items, Anthropic messages, …). It is
    checked and copied when the message is built, and comes back unchanged from `to_dict`. Unknown
    roles and fields are kept.

    Two messages are equal if their objects are, ``True``, ``1`` and ``1.0`` being three.

    :param role: such as ``"user"``, ``"assistant"``, ``"tool"``; not empty.
    :param content: a string, a list of parts, …; `None` is null; without it there is no ``content``.
    :param name, tool_calls, tool_call_id: a string, a list and a string: put into the object unless `None`.
    :param extra: further fields of the object.
    :param created_at: when it was written, aware; now by the system's clock if it is missing.
    :param metadata: your own data about the message, a JSON object; never sent to a model.
    :param ref: the channel's own id of the message, such as Telegram's; not empty.
    :raises InvalidMessageError: with the place of what is not JSON, or not a message.

    >>> message = Message("user", "hi", name="Ada")
    >>> message.to_dict()
    {'role': 'user', 'content': 'hi', 'name': 'Ada'}
    >>> Message.from_dict({"role": "user", "content": "hi"}) == Message("user", "hi")
    True
    """

    _object: dict[str, Any]
    #: When it was written: aware, UTC.
    created_at: datetime
    _metadata: JsonObject
    #: The channel's own id of the message, or `None`.
    ref: str | None
    #: Its number in the session, never used twice there; `None` before it was added, provisional until saved.
    position: int | None
    #: The ref of the turn that added it, or `None`.
    turn: str | None

    def __init__(
        self,
        role: str,
        content: Any = _ABSENT,
        *,
        name: str | None = None,
        tool_calls: Any = None,
        tool_call_id: str | None = None,
        extra: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        ref: str | None = None,
    ) -> None:
        _check_parts(name, tool_calls, tool_call_id)
        given: dict[str, Any] = {"role": role}
        if content is not _ABSENT:
            given["content"] = content
        if name is not None:
            given["name"] = name
        if tool_calls is not None:
            given["tool_calls"] = tool_calls
        if tool_call_id is not None:
            given["tool_call_id"] = tool_call_id
        if extra is not None:
            given.update(_extra(extra))
        self._fill(given, created_at, metadata, ref)

    def _fill(
        self,
        given: dict[str, Any],
        created_at: datetime | None,
        metadata: Mapping[str, Any] | None,
        ref: str | None,
    ) -> None:
        checked = checked_copy(given)
        _check_kind(checked)
        self._set(checked, created_at, metadata, ref)

    def _set(
        self,
        checked: dict[str, Any],
        created_at: datetime | None,
        metadata: Mapping[str, Any] | None,
        ref: str | None,
    ) -> None:
        at = utc_now() if created_at is None else utc(created_at, "created_at")
        _set_object(self, checked)
        _set_created_at(self, at)
        _set_metadata(self, EMPTY_OBJECT if metadata is None else json_object(metadata) or JsonObject())
        _set_ref(self, None if ref is None else checked_text(ref, "ref", empty=False))
        _set_position(self, None)
        _set_turn(self, None)
        if created_at is None:
            _set_is_untimed(self, True)

    @classmethod
    def from_dict(
        cls,
        object: Mapping[str, Any],
        *,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        ref: str | None = None,
    ) -> Message:
        """Return a message whose object is `object`, every key of it being the provider's.

        ``Message.from_dict(d).to_dict() == d``, types included, for every JSON object with a role or a type.

        :raises InvalidMessageError: as the constructor does.
        """
        if not isinstance(object, Mapping):
            raise InvalidMessageError("", f"must be a JSON object, not {type(object).__name__}")
        checked = checked_copy(dict(object))
        if _is_item(checked):
            return Item(checked, created_at=created_at, metadata=metadata, ref=ref)
        _check_kind(checked)
        message = cls.__new__(cls)
        message._set(checked, created_at, metadata, ref)
        return message

    @classmethod
    def of(cls, value: object, *, created_at: datetime | None = None) -> Message:
        """Return `value` as a message: a `Message` as it is, a mapping, or an SDK's object.

        Of an SDK's answer, the fields that its provider accepts as input become the message. The rest, such as the
        id, the model and the usage, becomes its metadata: ``message.metadata["usage"]``.
        `session_manager.model.sdk_objects` says which objects are understood.

        :param created_at: the time for a value that has none; the system's clock if it is missing.
        :raises InvalidMessageError: if it is something else, or not a message. The error of an object that is a part of
            an answer, or a whole one, names what to add instead.
        """
        if isinstance(value, Message):
            return value
        if isinstance(value, Mapping):
            return cls.from_dict(value, created_at=created_at)
        if not callable(getattr(value, "model_dump", None)) or isinstance(value, type):
            kind = type(value).__name__
            raise InvalidMessageError("", f"must be a Message, a mapping or an SDK's object, not {kind}")
        taken, rest = split(value)
        return cls.from_dict(taken, created_at=created_at, metadata=rest)

    @classmethod
    def _kept(cls, object: Mapping[str, Any], created_at: datetime) -> Message:
        """Return the message of an object as files and the converter have it: an item is in its wrapper.

        :raises InvalidMessageError: if it is no message.
        """
        kept = dict(object)
        return (
            Item(kept["item"], created_at=created_at) if _is_item(kept) else cls.from_dict(kept, created_at=created_at)
        )

    @classmethod
    def _restore(
        cls,
        object: dict[str, Any],
        created_at: datetime,
        metadata: dict[str, Any] | None = None,
        ref: str | None = None,
        position: int | None = None,
        turn: str | None = None,
    ) -> Message:
        """Build a message of parts that were checked before and belong to it alone."""
        message = _new_message(cls if "role" in object or not _is_item(object) else Item)
        _set_object(message, object)
        _set_created_at(message, created_at)
        _set_metadata(message, JsonObject(metadata) if metadata else EMPTY_OBJECT)
        _set_ref(message, ref)
        _set_position(message, position)
        _set_turn(message, turn)
        return message

    def _placed(
        self, position: int | None, turn: str | None, *, ref: str | None = None, created_at: datetime | None = None
    ) -> Message:
        """Return this message at a position, added by a turn.

        :param ref: its ref if it has none.
        :param created_at: another time for it.
        """
        message = _new_message(type(self))
        _set_object(message, self._object)
        _set_created_at(message, created_at or self.created_at)
        _set_metadata(message, self._metadata)
        _set_ref(message, self.ref or ref)
        _set_position(message, position)
        _set_turn(message, turn)
        return message

    def _with_object(self, object: dict[str, Any]) -> Message:
        """Return this message with another object, of parts that were checked before. It keeps everything that is ours."""
        return Message._restore(object, self.created_at, self._metadata, self.ref, self.position, self.turn)

    def _in_place_of(self, old: Message, *, keep_time: bool) -> Message:
        """Return this message with the time, metadata and ref of another one, where it was given none itself.

        :param keep_time: take the other's time, whether this one was given a time or not.
        """
        message = _new_message(type(self))
        _set_object(message, self._object)
        keep_time = keep_time or getattr(self, "_is_untimed", False)
        _set_created_at(message, old.created_at if keep_time else self.created_at)
        _set_metadata(message, old._metadata if self._metadata is EMPTY_OBJECT else self._metadata)
        _set_ref(message, self.ref or old.ref)
        _set_position(message, None)
        _set_turn(message, None)
        return message

    def _is_as(self, other: Message) -> bool:
        """Say whether two messages have the same object, time, metadata and ref, wherever they are."""
        return self is other or (
            self == other
            and (self.created_at, self.ref) == (other.created_at, other.ref)
            and same(self._metadata, other._metadata)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the object, exactly as it was given, as a fresh copy."""
        copy: dict[str, Any] = copy_value(self._object)
        return copy

    @property
    def role(self) -> str | None:
        """The object's ``role``; `None` if it has only a ``type``."""
        role: str | None = self._object.get("role")
        return role

    @property
    def content(self) -> Any:
        """The object's ``content``, a fresh copy; `None` if it is null or absent."""
        return copy_value(self._object.get("content"))

    @property
    def name(self) -> Any:
        """The object's ``name``, or `None`."""
        return copy_value(self._object.get("name"))

    @property
    def tool_calls(self) -> Any:
        """The object's ``tool_calls``, a fresh copy, or `None`."""
        return copy_value(self._object.get("tool_calls"))

    @property
    def tool_call_id(self) -> Any:
        """The object's ``tool_call_id``, or `None`."""
        return copy_value(self._object.get("tool_call_id"))

    @property
    def extra(self) -> dict[str, Any]:
        """The object's other fields, a fresh copy."""
        return {key: copy_value(value) for key, value in self._object.items() if key not in _FIELDS}

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Your own data about the message: a read-only dict, and so are the dicts and lists in it."""
        return read_only(self._metadata)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self._object is other._object or same(self._object, other._object)

    def __hash__(self) -> int:
        return hash(frozenset((key, value) for key, value in self._object.items() if type(value) is str))

    def __repr__(self) -> str:
        content = self._object.get("content")
        size = f"{len(content)} characters" if isinstance(content, str) else f"content {type(content).__name__}"
        kind = shown_kind(self._object.get("role"), self._object.get("type"))
        place = "" if self.position is None else f", position {self.position}"
        return f"<Message {kind}: {size}{place}>"


class Item(Message):
    """Any JSON object, kept among the messages and never sent to a model.

    An item is a note of a program in a conversation: an event, a vote, a cost, a state. It is added as a message is, has
    a time, metadata, a ref and a position, and is counted, listed, searched and given back as one. It is left out of
    contexts. A summarizer is given the items among the messages, for a summary replaces them as well.

    It is no message of a provider: ``role``, ``content``, ``name``, ``tool_calls`` and ``tool_call_id`` are `None`, also if
    the object has such fields. ``isinstance(message, Item)`` tells it from other messages.

    :param object: any JSON object of up to 199 levels; it is checked and copied, and comes back unchanged from `to_dict`.
    :param created_at, metadata, ref: as of a `Message`.
    :raises InvalidMessageError: with the place of what is not JSON.

    >>> item = Item({"event": "vote", "for": "pizza"}, ref="poll:7")
    >>> item.to_dict(), item.role
    ({'event': 'vote', 'for': 'pizza'}, None)
    """

    __slots__ = ()

    def __init__(
        self,
        object: Mapping[str, Any],
        *,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        ref: str | None = None,
    ) -> None:
        if not isinstance(object, Mapping):
            raise InvalidMessageError("", f"must be a JSON object, not {type(object).__name__}")
        kept = {"type": ITEM_TYPE, "item": checked_copy(dict(object))}
        if not within_levels(kept):
            raise InvalidMessageError("", f"more than {MAX_LEVELS - 1} levels")
        self._set(kept, created_at, metadata, ref)

    @classmethod
    def from_dict(
        cls,
        object: Mapping[str, Any],
        *,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        ref: str | None = None,
    ) -> Item:
        """Return an item of the object, as the constructor does."""
        return cls(object, created_at=created_at, metadata=metadata, ref=ref)

    def to_dict(self) -> dict[str, Any]:
        """Return the object, exactly as it was given, as a fresh copy."""
        copy: dict[str, Any] = copy_value(self._object["item"])
        return copy

    @property
    def extra(self) -> dict[str, Any]:
        """The object, all of it, a fresh copy."""
        return self.to_dict()

    def __hash__(self) -> int:
        return hash(frozenset((key, value) for key, value in self._object["item"].items() if type(value) is str))

    def __repr__(self) -> str:
        place = "" if self.position is None else f", position {self.position}"
        return f"<Item: {len(self._object['item'])} fields{place}>"


def _is_item(object: dict[str, Any]) -> bool:
    """Say whether an object has the form in which an item is kept."""
    return len(object) == 2 and object.get("type") == ITEM_TYPE and type(object.get("item")) is dict


# The slots' own setters: reading a session makes thousands of messages, at a third of what the frozen constructor costs.
_new_message = object.__new__
_set_object, _set_created_at, _set_metadata, _set_ref, _set_position, _set_turn = (
    getattr(Message, field.name).__set__ for field in attrs.fields(Message)
)
_set_is_untimed = vars(_Marks)["_is_untimed"].__set__


def _check_parts(name: object, tool_calls: object, tool_call_id: object) -> None:
    """Refuse parts that no provider takes; `Message.from_dict` takes any."""
    if tool_calls is not None and not isinstance(tool_calls, list):
        raise InvalidMessageError("tool_calls", f"must be a list, not {type(tool_calls).__name__}")
    if name is not None and not isinstance(name, str):
        raise InvalidMessageError("name", f"must be a string, not {type(name).__name__}")
    if tool_call_id is not None and not isinstance(tool_call_id, str):
        raise InvalidMessageError("tool_call_id", f"must be a string, not {type(tool_call_id).__name__}")


def _extra(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(extra, Mapping):
        raise InvalidMessageError("extra", f"must be an object, not {type(extra).__name__}")
    for field in _FIELDS:
        if field in extra:
            raise InvalidMessageError(f"extra.{field}", "give it as an argument, or use Message.from_dict")
    return extra


def _check_kind(checked: dict[str, Any]) -> None:
    role = checked.get("role")
    if type(role) is str and role:
        checked["role"] = shared(role, role)
        return
    field = "role" if "role" in checked or "type" not in checked else "type"
    if field not in checked:
        raise InvalidMessageError("role", _KINDLESS)
    checked_text(checked[field], field, empty=False)
