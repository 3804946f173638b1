"""What the values of the package have in common: they are compared, hashed and shown by their fields."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["Value"]


class Value:
    """The base of attrs classes that leave these methods to it: ``@attrs.frozen(eq=False, repr=False)``.

    There is one of each for all classes. A method that attrs writes for a class costs time when the package is imported
    (`docs/adr/0016-names-are-imported-when-they-are-asked-for.md`). Fields with ``eq=False`` or ``repr=False`` are left out, as attrs does.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *_compared(self)))

    def __repr__(self) -> str:
        shown = (field for field in _fields(self) if field.repr)
        fields = (f"{field.alias}={_shown(field, getattr(self, field.name))}" for field in shown)
        return f"{type(self).__name__}({', '.join(fields)})"


def _fields(value: Any) -> tuple[Any, ...]:
    fields: tuple[Any, ...] = attrs.fields(type(value))
    return fields


def _compared(value: Any) -> list[Any]:
    return [getattr(value, field.name) for field in _fields(value) if field.eq]


def _shown(field: Any, value: object) -> str:
    return str(field.repr(value)) if callable(field.repr) else repr(value)
