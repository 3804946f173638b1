"""The base of small immutable values that our own calls make and drop."""

from __future__ import annotations

import msgspec

__all__ = ["Frozen"]


class Frozen(msgspec.Struct, frozen=True, eq=False):
    """An immutable value of our own. It is compared by identity, and its repr shows nothing of a session.

    A struct takes a fifth of the time that a frozen attrs class takes to make (`docs/adr/0041-a-save-costs-its-objects.md`). Values that
    users see are attrs classes, but for messages. ``msgspec.structs.replace`` copies one with other fields.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
