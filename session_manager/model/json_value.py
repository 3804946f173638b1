"""JSON values: checked and copied on the way in, copied on the way out, compared with their types.

A JSON value here is what `json.loads` may return: `dict` with `str` keys, `list`, `str`, `int`,
`float`, `bool` or `None`. Refused are:

* values that no JSON text stands for: NaN, infinities, bytes, tuples, sets, other keys, circular values;
* a surrogate pair written as two characters, which JSON reads back as one;
* what other programs refuse to read: integers of more than 4,300 digits (`sys.set_int_max_str_digits`), more than 200 levels;
* more than 10,000,000 values, where a list or an object counts as ten, or more than 256 Mi characters of text. In RAM that
  may be one text that stands there a thousand times.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from session_manager.errors import InvalidMessageError

__all__ = [
    "EMPTY_OBJECT",
    "MAX_LEVELS",
    "JsonObject",
    "checked_copy",
    "checked_text",
    "copy_value",
    "is_flat_text",
    "json_object",
    "same",
    "shared",
    "within_levels",
]

MAX_LEVELS = 200
_MAX_DIGITS = 4300
#: The largest number of values. Without a limit, a list that contains another list many times would be copied without end.
_MAX_VALUES = 10_000_000
#: The largest number of characters. A larger value would be encoded only to be refused for its size.
_MAX_TEXT = 256 * 1024 * 1024
#: An object with fewer fields, all of them strings, needs no walk through its values.
_FEW = 16
#: The number of values that a list or an object counts as, by the cost of copying it.
_CONTAINER = 9
#: Smaller integers are below every limit that Python may set on writing them.
_SMALL = 10**640
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_PLAIN_KEY = re.compile(r"[A-Za-z_$@][A-Za-z0-9_$@.-]{0,63}\Z")
_SHOWN_KEY = 40

#: The usual strings of messages. All messages share one copy of each, where a parser makes a new one for every message.
_USUAL = (
    "arguments",
    "call_id",
    "content",
    "created_at",
    "detail",
    "function",
    "id",
    "image_url",
    "input",
    "input_text",
    "is_error",
    "metadata",
    "model",
    "name",
    "output",
    "output_text",
    "role",
    "signature",
    "source",
    "status",
    "summary",
    "text",
    "thinking",
    "tool_call_id",
    "tool_calls",
    "tool_use_id",
    "type",
    "url",
    "assistant",
    "developer",
    "system",
    "tool",
    "user",
)
#: Return a text, or the other one of the two that is given: ``shared(text, text)`` is the one that all share, if it is a usual one.
shared: Callable[[str, str], str] = {text: text for text in _USUAL}.get

_Items = Iterator[tuple[Any, Any]]
_Frame = tuple[Any, Any, _Items]


def checked_copy(value: object, root: str = "") -> Any:
    """Return a deep copy of `value` in the base types of JSON, or raise.

    :param value: anything.
    :param root: what the value is called in an error's path, such as ``"metadata"``.
    :raises InvalidMessageError: with the path of the first thing that is not JSON.

    >>> checked_copy({"content": [{"image": {"data": b"x"}}]})
    Traceback (most recent call last):
    ...
    session_manager.errors.InvalidMessageError: content[0].image.data: bytes is not JSON
    """
    if type(value) is dict and len(value) < _FEW and _is_flat_ascii(value):
        return {shared(key, key): item for key, item in value.items()}
    return _walked(value, root)


def _walked(value: object, root: str) -> Any:
    """Copy a value in one walk, without recursion, that checks and knows its path."""
    result: list[Any] = [None]
    frames: list[_Frame] = [(None, result, iter(((0, value),)))]
    path: list[Any] = []
    values = size = 0
    while frames:
        _, target, items = frames[-1]
        for key, item in items:
            kind = type(item)
            if kind is str:
                if not item.isascii() and _has_pair(item):
                    raise InvalidMessageError(_place(root, [*path, key]), _PAIR_REASON)
                size += len(item)
            elif item is None or kind is bool:
                pass
            elif isinstance(item, dict | list):
                path.append(key)
                values += _CONTAINER + len(item)
                fresh: Any = {} if isinstance(item, dict) else list.copy(item)
                target[key] = fresh
                frames.append((item, fresh, _items(item, fresh, root, path)))
                size += _length(item)
                if len(path) > MAX_LEVELS or values > _MAX_VALUES:
                    raise _too_much(root, frames, path)
                break
            else:
                leaf, reason = _leaf(item)
                if reason is not None:
                    raise InvalidMessageError(_place(root, [*path, key]), reason)
                target[key] = leaf
                size += _length(leaf)
                continue
            target[key] = item
        else:
            _check_length(size, root, path)
            frames.pop()
            if path:
                path.pop()
    return result[0]


_PAIR_REASON = "a surrogate pair given as two characters is not JSON: give the character itself"


def is_flat_text(value: object) -> bool:
    """Say whether a value is an ASCII text, in which there is nothing to check or copy."""
    return type(value) is str and value.isascii()


def _is_flat_ascii(value: dict[Any, Any]) -> bool:
    """Say whether a dict holds nothing but ASCII texts, as most messages do: there is nothing to check or copy."""
    for key, item in value.items():
        if type(key) is not str or type(item) is not str or not key.isascii() or not item.isascii():
            return False
    return True


def _items(source: Any, fresh: Any, root: str, path: list[Any]) -> _Items:
    if type(fresh) is list:
        return enumerate(fresh)
    copied = dict.copy(source)
    if all(type(key) is str and key.isascii() for key in copied):
        return iter([(shared(key, key), value) for key, value in copied.items()])
    return iter([(_checked_key(key, root, path), value) for key, value in copied.items()])


def _checked_key(key: object, root: str, path: list[Any]) -> str:
    if not isinstance(key, str):
        raise InvalidMessageError(_place(root, path), f"an object key of type {type(key).__name__} is not JSON")
    if _has_pair(key):
        raise InvalidMessageError(_place(root, path), f"in an object key, {_PAIR_REASON}")
    return str.__str__(key)


def _leaf(item: Any) -> tuple[Any, str | None]:
    """Return (the value in its base type, what is wrong with it or `None`)."""
    if isinstance(item, int):
        if -_SMALL < item < _SMALL:
            return int.__int__(item), None
        digits = _max_digits()
        if -(10**digits) < item < 10**digits:
            return int.__int__(item), None
        return item, f"an integer of more than {digits:,} digits"
    if isinstance(item, float):
        return float.__float__(item), None if math.isfinite(item) else "NaN and infinities are not JSON"
    if isinstance(item, str):
        return str.__str__(item), _PAIR_REASON if _has_pair(item) else None
    return item, f"{type(item).__name__} is not JSON"


def _length(value: Any) -> int:
    """Return how many characters a text, the keys of an object, or an integer are, about."""
    if isinstance(value, str):
        return str.__len__(value)
    if isinstance(value, dict):
        return sum(map(len, value))
    return value.bit_length() >> 2 if isinstance(value, int) else 0


def _check_length(length: int, root: str, path: list[Any]) -> None:
    if length > _MAX_TEXT:
        raise InvalidMessageError(_place(root, path[:8]), f"more than {_MAX_TEXT:,} characters")


def _max_digits() -> int:
    """Return how many digits an integer may have: 4,300, or fewer if this process allows fewer."""
    get = getattr(sys, "get_int_max_str_digits", None)
    return min(_MAX_DIGITS, (get() if get is not None else 0) or _MAX_DIGITS)


def _has_pair(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return _PAIR.search(text) is not None
    return False


def checked_text(value: object, path: str, *, empty: bool = True) -> str:
    """Return `value` as a plain `str` that JSON can hold.

    :param path: what it is called in an error.
    :param empty: whether ``""`` is allowed.
    :raises InvalidMessageError: if it is anything else.
    """
    if not isinstance(value, str):
        raise InvalidMessageError(path, f"must be a string, not {type(value).__name__}")
    if not empty and not value:
        raise InvalidMessageError(path, "must not be empty")
    if not value.isascii() and _has_pair(value):
        raise InvalidMessageError(path, _PAIR_REASON)
    return str.__str__(value)


def _too_much(root: str, frames: list[_Frame], path: list[Any]) -> InvalidMessageError:
    if len(path) <= MAX_LEVELS:
        return InvalidMessageError(_place(root, path[:8]), f"more than {_MAX_VALUES:,} values")
    sources = [id(source) for source, _, _ in frames[1:]]
    for depth, identity in enumerate(sources):
        if identity in sources[:depth]:
            return InvalidMessageError(_place(root, path[: depth + 1]), "a circular value is not JSON")
    return InvalidMessageError(_place(root, path[:8]) + "…", f"more than {MAX_LEVELS} levels")


def _place(root: str, path: list[Any]) -> str:
    """Join the keys of a path. The first one is the pseudo-key of the value itself."""
    place = root
    for key in path[1:]:
        if isinstance(key, int):
            place += f"[{key}]"
        elif _PLAIN_KEY.match(key):
            place += f".{key}" if place else str.__str__(key)
        else:
            place += f"[{key[:_SHOWN_KEY]!a}{'…' if len(key) > _SHOWN_KEY else ''}]"
    return place


def copy_value(value: Any) -> Any:
    """Return a deep copy of a checked value."""
    if type(value) is dict:
        return {key: copy_value(item) if type(item) in _CONTAINERS else item for key, item in value.items()}
    if type(value) is list:
        return [copy_value(item) if type(item) in _CONTAINERS else item for item in value]
    return value


_CONTAINERS = frozenset((dict, list))


def within_levels(value: dict[str, Any]) -> bool:
    """Say whether an object, as `json.loads` returns it, has at most 200 levels; without recursion."""
    if _CONTAINERS.isdisjoint(map(type, value.values())):
        return True
    level: list[Any] = [value]
    for _ in range(MAX_LEVELS):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
        if not level:
            return True
    return False


def same(one: Any, other: Any) -> bool:
    """Say whether two checked values are equal, ``True``, ``1`` and ``1.0`` being three.

    >>> same({"a": 1}, {"a": 1.0}), same([1], [True]), same({"a": [None]}, {"a": [None]})
    (False, False, True)
    """
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return len(one) == len(other) and all(key in other and same(value, other[key]) for key, value in one.items())
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


class JsonObject(dict[str, Any]):
    """A checked JSON object that no caller holds, and that never changes: it is shared, not copied."""

    def __repr__(self) -> str:
        return f"<{len(self)}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return "EMPTY_OBJECT" if self is EMPTY_OBJECT else super().__reduce_ex__(protocol)


#: Stands for an object that was not given. It stays itself where it is copied or pickled.
EMPTY_OBJECT: Final = JsonObject()


def json_object(value: object, path: str = "metadata") -> JsonObject:
    """Check a mapping, and copy it.

    :param path: the name of the value in an error.
    :raises InvalidMessageError: if the value is no JSON object.
    """
    if type(value) is JsonObject:
        return value
    if not isinstance(value, Mapping):
        raise InvalidMessageError(path, f"must be an object, not {type(value).__name__}")
    return JsonObject(checked_copy(dict(value), path)) if value else EMPTY_OBJECT
