"""Public values as JSON-ready dicts, and back: one cattrs converter for everybody else's shapes.

The converter knows no class but those of `model` and the errors: any attrs class is structured by its fields. The names
are those of the constructor (``metadata`` for ``_metadata``). Types are strict (``"5"`` is no integer), a list is a list, and
a field that the class does not have is refused.

* **A time** is RFC 3339, with ``Z``, as in our files. Another offset is read as well. A time without any is refused.
* **A message** is an object with ``position``, ``created_at``, ``message`` (the provider's object), ``metadata``, ``ref``
  and ``turn``. The last four may be missing or null.
* **An error of this library** is an object with ``type``, ``message`` (its sentence, ignored by `structure`) and its arguments.
  Any other error is its ``type`` and ``message`` alone, and comes back as a `ForeignError`.

Errors name the field, and never hold a value.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar, get_args, get_origin

import attrs
import cattrs
import msgspec
from cattrs.gen import make_dict_structure_fn

from session_manager.codec.error_data import ForeignError, error_data, error_of
from session_manager.errors import InvalidDataError, InvalidKeyError, InvalidMessageError
from session_manager.model.json_value import JsonObject, _place, checked_text, copy_value, json_object
from session_manager.model.key import check_key
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.times import utc
from session_manager.model.view import View

__all__ = ["Converter", "ForeignError", "converter", "records"]

T = TypeVar("T")
_Hook = Callable[[Any, Any], Any]

_DECODED = frozenset((str, int, float, bool, type(None), dict, list))
_LISTS = (list, tuple, View, Sequence)
_AWARE = Annotated[datetime, msgspec.Meta(tz=True)]


class Converter(cattrs.Converter):
    """A cattrs converter with one error, which names the field."""

    def structure(self, obj: Any, cl: type[T]) -> T:
        """Return the value that JSON-ready data describe.

        :param obj: data from `unstructure`, or from another program.
        :param cl: the value's class, such as `SessionInfo`, or ``list[Message]``.
        :raises InvalidDataError: with the place of the first field that is missing, unknown or wrong.
        """
        try:
            return super().structure(obj, cl)
        except Exception as error:  # noqa: BLE001 - cattrs and constructors raise anything, with the value in it
            failure = _failure(error, (), cl)
        raise failure


def _failure(error: BaseException, path: Sequence[str | int], kind: Any) -> InvalidDataError:
    """Return the place and the reason of an error in data, without any of the data.

    :param error: the raised error. Of a group, the first one counts.
    :param path: the place of the field that raised it.
    :param kind: the type of that field.
    """
    if isinstance(error, cattrs.BaseValidationError):
        inner = error.exceptions[0]
        for note in getattr(inner, "__notes__", ()):
            if isinstance(note, cattrs.AttributeValidationNote):
                path, kind = [*path, _public_name(error.cl, note.name)], note.type
        return _failure(inner, path, kind)
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return InvalidDataError(_joined([*path, min(error.extra_fields, key=str)]), "there is no such field")
    if isinstance(error, InvalidMessageError | InvalidDataError):
        return InvalidDataError(_joined(path, error.path), error.reason)
    if isinstance(error, InvalidKeyError):
        return InvalidDataError(_joined(path), error.reason)
    if isinstance(error, KeyError):
        return InvalidDataError(_joined(path), "is missing")
    return InvalidDataError(_joined(path), f"is not a valid {getattr(kind, '__name__', kind)}")


def _public_name(kind: Any, name: str) -> str:
    """Return the name of a field in the data."""
    field = attrs.fields_dict(kind).get(name) if attrs.has(kind) else None
    return name if field is None else field.alias or name


def _joined(path: Sequence[Any], inner: str = "") -> str:
    outer = _place("", [None, *path])
    return f"{outer}.{inner}" if outer and inner and not inner.startswith("[") else outer + inner


def _at(place: str | int, hook: _Hook, value: Any, kind: Any) -> Any:
    """Structure a value; name its place in an error."""
    try:
        return hook(value, kind)
    except Exception as error:  # noqa: BLE001 - as in `Converter.structure`
        failure = _failure(error, [place], kind)
    raise failure


#: The converter, safe to share between threads. Register hooks of your own in a `copy` of it.
converter = Converter(
    forbid_extra_keys=True,
    use_alias=True,
    unstruct_collection_overrides={tuple: list, frozenset: list, set: list},
)


def _checked(value: Any, kind: type | tuple[type, ...], name: str) -> None:
    if not isinstance(value, kind):
        raise InvalidDataError("", f"must be {name}, not {type(value).__name__}")


# Plain values, as strict as JSON's types.


def _structure_text(value: Any, _: Any) -> str:
    return checked_text(value, "")


def _structure_int(value: Any, _: Any) -> int:
    _checked(None if isinstance(value, bool) else value, int, "an integer")
    return int(value)


def _structure_float(value: Any, _: Any) -> float:
    _checked(None if isinstance(value, bool) else value, (int, float), "a number")
    if not math.isfinite(value):
        raise InvalidDataError("", "NaN and infinities are not JSON")
    return float(value)


def _structure_bool(value: Any, _: Any) -> bool:
    _checked(value, bool, "true or false")
    return bool(value)


def _unstructure_time(value: datetime) -> str:
    text: str = msgspec.to_builtins(value)
    return text


def _structure_time(value: Any, _: Any) -> datetime:
    _checked(value, str, "a time in RFC 3339")
    try:
        time: datetime = msgspec.convert(value, _AWARE)
    except msgspec.ValidationError:
        time = datetime.min  # noqa: DTZ901 - naive, which is refused below
    if time.tzinfo is None:
        raise InvalidDataError("", "is not a time in RFC 3339 with its offset")
    return utc(time, "")


def _unstructure_duration(value: timedelta) -> str:
    text: str = msgspec.to_builtins(value)
    return text


def _structure_duration(value: Any, _: Any) -> timedelta:
    _checked(value, str, "a duration in ISO 8601, such as P90D")
    duration = None
    with contextlib.suppress(msgspec.ValidationError):
        duration = msgspec.convert(value, timedelta)
    if duration is None:
        raise InvalidDataError("", "is not a duration in ISO 8601, such as P90D")
    return duration


# Lists, objects and attrs classes.


def _item_kind(kind: Any) -> Any:
    arguments = get_args(kind)
    return arguments[0] if arguments else Any


def _is_list(kind: Any) -> bool:
    """Say whether a type is a sequence of items of one type."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    return origin in _LISTS and (origin is not tuple or not arguments or arguments[1:] == (...,))


def _structure_list(kind: Any, converter: cattrs.Converter) -> _Hook:
    item = _item_kind(kind)
    hook = converter.get_structure_hook(item)
    origin = get_origin(kind) or kind
    make = list if origin is Sequence else origin

    def structure(value: Any, _: Any) -> Any:
        _checked(value, (list, tuple), "a list")
        return make([_at(index, hook, one, item) for index, one in enumerate(value)])

    return structure


def _is_mapping(kind: Any) -> bool:
    return (get_origin(kind) or kind) in (dict, Mapping)


def _structure_mapping(kind: Any, converter: cattrs.Converter) -> _Hook:
    item = (get_args(kind) or (str, Any))[1]
    hook = converter.get_structure_hook(item)

    def structure(value: Any, _: Any) -> Any:
        _checked(value, Mapping, "an object")
        return {_structure_text(key, str): _at(key, hook, one, item) for key, one in value.items()}

    return structure


def _structure_class(kind: Any, converter: cattrs.Converter) -> _Hook:
    make = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, _cattrs_use_alias=True)

    def structure(value: Any, kind: Any) -> Any:
        _checked(value, Mapping, "an object")
        return make(value, kind)

    return structure


def _structure_record(kind: Any, converter: cattrs.Converter) -> _Hook:
    """Structure a class of a foreign record: fields that it does not have go to its field ``rest``, or are left out."""
    fields = {field.alias for field in attrs.fields(kind)}
    make = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=False, _cattrs_use_alias=True)

    def structure(value: Any, kind: Any) -> Any:
        if type(value) is not dict:
            _checked(value, Mapping, "an object")
        if "rest" in fields:
            unknown = {name: one for name, one in value.items() if name not in fields or name == "rest"}
            value = {**value, "rest": unknown}
        return make(value, kind)

    return structure


def _is_view(kind: Any) -> bool:
    return (get_origin(kind) or kind) is View


def _unstructure_view(value: View[Any]) -> list[Any]:
    return [converter.unstructure(one) for one in value]


def _unstructure_object(value: JsonObject) -> dict[str, Any]:
    return {key: copy_value(one) for key, one in value.items()}


def _structure_object(value: Any, _: Any) -> JsonObject:
    return json_object(value, "")


def _structure_decoded(value: Any, _: Any) -> JsonObject:
    """Structure an object whose values were decoded from JSON, or are those of a database's columns: no more than these are checked."""
    if type(value) is not dict:
        _checked(value, Mapping, "an object")
    for one in value.values():
        if type(one) not in _DECODED or (type(one) is float and not math.isfinite(one)):
            return json_object(value, "")
    return JsonObject(value)


# Messages and sessions.


def _unstructure_message(message: Message) -> dict[str, Any]:
    return {
        "position": message.position,
        "created_at": _unstructure_time(message.created_at),
        "message": copy_value(message._object),
        "metadata": copy_value(dict(message._metadata)),
        "ref": message.ref,
        "turn": message.turn,
    }


@attrs.frozen
class _Parts:
    """The fields of a message in JSON-ready data."""

    created_at: datetime
    message: JsonObject
    position: int | None = None
    metadata: JsonObject | None = None
    ref: str | None = None
    turn: str | None = None


def _structure_message(value: Any, kind: type[Message]) -> Message:
    parts: _Parts = converter.get_structure_hook(_Parts)(value, _Parts)
    if parts.position is not None and parts.position < 0:
        raise InvalidDataError("position", "must be 0 or more")
    try:
        message = Message._kept(parts.message, parts.created_at)
    except InvalidMessageError as error:
        failure = InvalidDataError(_joined(["message"], error.path), error.reason)
    else:
        if not isinstance(message, kind):
            raise InvalidDataError("message", f"is no {kind.__name__}")
        ref = None if parts.ref is None else checked_text(parts.ref, "ref", empty=False)
        metadata = dict(parts.metadata or {})
        turn = None if parts.turn is None else checked_text(parts.turn, "turn", empty=False)
        return Message._restore(message._object, message.created_at, metadata, ref, parts.position, turn)
    raise failure


def _is_session(kind: Any) -> bool:
    return kind is Session


def _structure_session(kind: Any, converter: cattrs.Converter) -> _Hook:
    make = _structure_class(kind, converter)

    def structure(value: Any, kind: Any) -> Session:
        session: Session = make(value, kind)
        _at("key", lambda key, _: check_key(key), session.key, str)
        previous = -1
        for index, message in enumerate(session.messages):
            if message.position is None or not previous < message.position < session.end:
                raise InvalidDataError(f"messages[{index}].position", "positions must increase, and be less than end")
            previous = message.position
        for name, number in (("end", session.end), ("revision", session.revision), ("archived", session._archived)):
            if number < 0:
                raise InvalidDataError(name, "must be 0 or more")
        return session

    return structure


# Errors.


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _unstructure_error(error: BaseException) -> dict[str, Any]:
    return error_data(error, converter.unstructure)


def _structure_error(value: Any, kind: Any) -> BaseException:
    _checked(value, Mapping, "an object")
    return error_of(value, kind, lambda place, one, hint: _at(place, converter.get_structure_hook(hint), one, hint))


converter.register_structure_hook_factory(attrs.has, _structure_class)
converter.register_structure_hook_factory(_is_list, _structure_list)
converter.register_structure_hook_factory(_is_mapping, _structure_mapping)
converter.register_structure_hook_factory(_is_session, _structure_session)
converter.register_structure_hook_func(_is_error, _structure_error)
converter.register_unstructure_hook_func(_is_view, _unstructure_view)
converter.register_unstructure_hook_func(_is_error, _unstructure_error)
converter.register_structure_hook(str, _structure_text)
converter.register_structure_hook(int, _structure_int)
converter.register_structure_hook(float, _structure_float)
converter.register_structure_hook(bool, _structure_bool)
converter.register_structure_hook(datetime, _structure_time)
converter.register_unstructure_hook(datetime, _unstructure_time)
converter.register_structure_hook(timedelta, _structure_duration)
converter.register_unstructure_hook(timedelta, _unstructure_duration)
converter.register_structure_hook(JsonObject, _structure_object)
converter.register_unstructure_hook(JsonObject, _unstructure_object)
converter.register_structure_hook(Message, _structure_message)
converter.register_unstructure_hook(Message, _unstructure_message)

#: The converter of other programs' records, which may have fields that we do not know.
#:
#: An attrs class with a field ``rest: JsonObject`` finds them there. It is only given data of JSON.
records = converter.copy()
records.register_structure_hook(JsonObject, _structure_decoded)
records.register_structure_hook_factory(attrs.has, _structure_record)
records.register_structure_hook_factory(_is_session, _structure_session)
records.register_structure_hook(Message, _structure_message)
