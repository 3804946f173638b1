"""The bases of our own objects with fields: small immutable values that calls make and drop, and objects that change."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

__all__ = ["Frozen", "Part", "drafts_of"]


class Frozen(msgspec.Struct, frozen=True, eq=False):
    """An immutable value of our own. It is compared by identity, and its repr shows nothing of a session.

    A struct takes a fifth of the time that a frozen attrs class takes to make (`docs/adr/0041-a-save-costs-its-objects.md`). Values that
    users see are attrs classes, but for messages. ``msgspec.structs.replace`` copies one with other fields.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Part(msgspec.Struct, eq=False, weakref=True):
    """An object of our own whose fields may change. It is compared by identity, and its repr shows nothing of a session.

    Its class takes a tenth of the time that an attrs class takes to make, at each import of the package.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def drafts_of(frozen: type) -> Callable[[], Any]:
    """Return a function that makes drafts: objects without fields, of a subclass of a frozen attrs class, whose fields may be set.

    ``draft.__class__ = frozen`` makes one a value of the class. All in all, it takes a third of the time of a call of the class.
    """
    methods = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return partial(object.__new__, type(frozen.__name__, (frozen,), methods))
