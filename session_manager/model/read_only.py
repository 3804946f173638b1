"""JSON objects and lists that refuse to be changed: the metadata that a picture shows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["ReadOnlyDict", "ReadOnlyList", "read_only"]

_REASON = (
    "this is a picture, and changing it would change nothing: change a session's metadata by update_metadata(),"
    " or make a copy of your own by copy.deepcopy()"
)


def _refuse(*_: object, **__: object) -> NoReturn:
    """Refuse.

    :raises TypeError: always.
    """
    raise TypeError(_REASON)


class ReadOnlyDict(dict[str, Any]):
    """A JSON object that refuses to be changed.

    It is a `dict`: it equals one, and encoders of JSON take it. `copy.copy`, `copy.deepcopy` and ``|`` give plain dicts.
    """

    __slots__ = ()

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: copy.deepcopy(value, memo) for key, value in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnlyDict, (dict(self),)

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


class ReadOnlyList(list[Any]):
    """A JSON list that refuses to be changed. It is a `list`, as `ReadOnlyDict` is a `dict`."""

    __slots__ = ()

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(value, memo) for value in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnlyList, (list(self),)

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse


def read_only(value: Mapping[str, Any]) -> ReadOnlyDict:
    """Return a checked JSON object as one that refuses to be changed, and so do the objects and lists in it."""
    return ReadOnlyDict({key: _shown(item) if isinstance(item, dict | list) else item for key, item in value.items()})


def _shown(value: dict[str, Any] | list[Any]) -> Any:
    if isinstance(value, dict):
        return ReadOnlyDict({k: _shown(item) if isinstance(item, dict | list) else item for k, item in value.items()})
    return ReadOnlyList([_shown(item) if isinstance(item, dict | list) else item for item in value])
