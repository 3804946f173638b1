"""The message: a provider's JSON object, or an item, with its time, metadata and place. Immutable, safe to share between threads."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypedDict, TypeVar

import msgspec

from session_manager.errors import InvalidMessageError
from session_manager.model.json_value import (
    EMPTY_OBJECT,
    MAX_LEVELS,
    JsonObject,
    checked_copy,
    checked_text,
    copy_value,
    is_flat_text,
    json_object,
    same,
    shared,
    within_levels,
)
from session_manager.model.read_only import read_only
from session_manager.model.roles import shown_kind
from session_manager.model.sdk_objects import split
from session_manager.model.times import utc, utc_now

__all__ = ["ITEM_TYPE", "PARTS", "PLAIN", "Item", "Message", "MessageParts", "trusted"]

F = TypeVar("F", bound=Callable[..., Any])

#: The ``type`` of an item's object, as it is kept and written: ``{"type": "session_manager.item", "item": {…}}``.
ITEM_TYPE: Final = "session_manager.item"


#: The fields of a plain object, in this order.
PLAIN: Final = ("role", "content")
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


def _named(name: str) -> Callable[[F], F]:
    """Give a function the name that Python's errors say of its arguments."""

    def name_it(function: F) -> F:
        function.__qualname__ = name
        return function

    return name_it


class _MessageType(msgspec.StructMeta):
    """The type of messages: a call of it checks and copies the arguments, where a struct takes them as they are."""

    if not TYPE_CHECKING:

        def __call__(self, /, *args: Any, **kwargs: Any) -> Message:
            return self._checked(*args, **kwargs)  # type: ignore[attr-defined]

        @property
        def __match_args__(self) -> tuple[str, ...]:
            return PLAIN

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(self._checked)


class Message(msgspec.Struct, frozen=True, eq=False, gc=False, metaclass=_MessageType):
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

    # Most messages are a role and a text. A dict would take more RAM than everything else of such a message, but for the text.
    #: The object; or the role of an object that is a role and a text, in this order.
    _held: dict[str, Any] | str
    #: The text of such an object, otherwise `None`.
    _text: str | None
    #: When it was written: aware, UTC.
    created_at: datetime
    _metadata: JsonObject
    #: The channel's own id of the message, or `None`.
    ref: str | None
    #: Its number in the session, never used twice there; `None` before it was added, provisional until saved.
    position: int | None
    #: The ref of the turn that added it, or `None`.
    turn: str | None
    #: Whether it was given no time when it was built.
    _is_untimed: bool

    if TYPE_CHECKING:
        __match_args__ = ("role", "content")

        def __init__(
            self,
            role: str,
            content: Any = ...,
            *,
            name: str | None = None,
            tool_calls: Any = None,
            tool_call_id: str | None = None,
            extra: Mapping[str, Any] | None = None,
            created_at: datetime | None = None,
            metadata: Mapping[str, Any] | None = None,
            ref: str | None = None,
        ) -> None: ...

    @classmethod
    @_named("Message")
    def _checked(
        cls,
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
    ) -> Message:
        has_more = name is not None or tool_calls is not None or tool_call_id is not None or extra is not None
        if not has_more and is_flat_text(role) and role and is_flat_text(content):
            made: Message = cls._built(shared(role, role), content, created_at, metadata, ref)
            return made
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
        checked = checked_copy(given)
        _check_kind(checked)
        message: Message = cls._built(*_halves(checked), created_at, metadata, ref)
        return message

    @classmethod
    def _built(
        cls,
        held: dict[str, Any] | str,
        text: str | None,
        created_at: datetime | None,
        metadata: Mapping[str, Any] | None,
        ref: str | None,
    ) -> Any:
        """Build a message of the halves of a checked object. The other arguments are checked here."""
        return trusted(
            cls,
            held,
            text,
            utc_now() if created_at is None else utc(created_at, "created_at"),
            EMPTY_OBJECT if metadata is None else json_object(metadata) or JsonObject(),
            None if ref is None else checked_text(ref, "ref", empty=False),
            None,
            None,
            created_at is None,
        )

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
        message: Message = cls._built(*_halves(checked), created_at, metadata, ref)
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
        held, text = _halves(object)
        kind = Item if text is None and "role" not in object and _is_item(object) else cls
        own = JsonObject(metadata) if metadata else EMPTY_OBJECT
        message: Message = trusted(kind, held, text, created_at, own, ref, position, turn, False)
        return message

    def _placed(
        self, position: int | None, turn: str | None, *, ref: str | None = None, created_at: datetime | None = None
    ) -> Message:
        """Return this message at a position, added by a turn.

        :param ref: its ref if it has none.
        :param created_at: another time for it.
        """
        at = created_at or self.created_at
        ref = self.ref or ref
        message: Message = trusted(type(self), self._held, self._text, at, self._metadata, ref, position, turn, False)
        return message

    def _with_object(self, object: dict[str, Any]) -> Message:
        """Return this message with another object, of parts that were checked before. It keeps everything that is ours."""
        return Message._restore(object, self.created_at, self._metadata, self.ref, self.position, self.turn)

    def _in_place_of(self, old: Message, *, keep_time: bool) -> Message:
        """Return this message with the time, metadata and ref of another one, where it was given none itself.

        :param keep_time: take the other's time, whether this one was given a time or not.
        """
        at = old.created_at if keep_time or self._is_untimed else self.created_at
        metadata = old._metadata if self._metadata is EMPTY_OBJECT else self._metadata
        message: Message = trusted(
            type(self), self._held, self._text, at, metadata, self.ref or old.ref, None, None, False
        )
        return message

    def _is_as(self, other: Message) -> bool:
        """Say whether two messages have the same object, time, metadata and ref, wherever they are."""
        return self is other or (
            self == other
            and (self.created_at, self.ref) == (other.created_at, other.ref)
            and same(self._metadata, other._metadata)
        )

    @property
    def _object(self) -> dict[str, Any]:
        """The object. It is the message's own, or made anew: nobody may change it."""
        held = self._held
        return {"role": held, "content": self._text} if type(held) is str else held  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Return the object, exactly as it was given, as a fresh copy."""
        copy: dict[str, Any] = self._object if type(self._held) is str else copy_value(self._held)
        return copy

    @property
    def role(self) -> str | None:
        """The object's ``role``; `None` if it has only a ``type``."""
        held = self._held
        return held if isinstance(held, str) else held.get("role")

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

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), *msgspec.structs.astuple(self))

    def __replace__(self, **_: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be replaced by copy.replace(): build another one")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self is other or same(self._object, other._object)

    def __ne__(self, other: object) -> bool:  # a struct's own one compares by identity
        return not self == other

    def __hash__(self) -> int:
        return hash(frozenset((key, value) for key, value in self._object.items() if type(value) is str))

    def __repr__(self) -> str:
        content = self._object.get("content")
        size = f"{len(content)} characters" if isinstance(content, str) else f"content {type(content).__name__}"
        kind = shown_kind(self._object.get("role"), self._object.get("type"))
        place = "" if self.position is None else f", position {self.position}"
        return f"<Message {kind}: {size}{place}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # a struct's own one shows the text


class Item(Message, frozen=True):
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

    if TYPE_CHECKING:

        def __init__(
            self,
            object: Mapping[str, Any],
            *,
            created_at: datetime | None = None,
            metadata: Mapping[str, Any] | None = None,
            ref: str | None = None,
        ) -> None: ...

    @classmethod
    @_named("Item")
    def _checked(  # type: ignore[override]
        cls,
        object: Mapping[str, Any],
        *,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        ref: str | None = None,
    ) -> Item:
        if not isinstance(object, Mapping):
            raise InvalidMessageError("", f"must be a JSON object, not {type(object).__name__}")
        kept = {"type": ITEM_TYPE, "item": checked_copy(dict(object))}
        if not within_levels(kept):
            raise InvalidMessageError("", f"more than {MAX_LEVELS - 1} levels")
        item: Item = cls._built(kept, None, created_at, metadata, ref)
        return item

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


def _halves(object: dict[str, Any]) -> tuple[dict[str, Any] | str, str | None]:
    """Return the role and the text of an object that is nothing else, in this order; of any other, the object and `None`."""
    if (*object,) == PLAIN:
        role, text = object.values()
        if type(text) is str and type(role) is str:
            return shared(role, role), text
    return object, None


def _is_item(object: dict[str, Any]) -> bool:
    """Say whether an object has the form in which an item is kept."""
    return len(object) == 2 and object.get("type") == ITEM_TYPE and type(object.get("item")) is dict


#: Make a message of its fields, which are trusted: the call of a struct.
trusted: Callable[..., Any] = msgspec.StructMeta.__call__


def _remade(*fields: Any) -> Any:
    """Make a message of its type and its fields, as `pickle` asks for it."""
    return trusted(*fields)


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
