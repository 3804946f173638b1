"""The bases of our own objects with fields: small immutable values that calls make and drop, and objects that change."""

from __future__ import annotations

import msgspec

__all__ = ["Frozen", "Part"]


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
