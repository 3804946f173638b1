"""`to_dict` of public values, for a web handler to return."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["AsDict"]


class AsDict:
    """The base of every value that `session_manager.converter` can write, but for messages and errors."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the value as a fresh dict that `json.dumps` takes, with times in RFC 3339.

        ``session_manager.converter.structure(value.to_dict(), type(value))`` gives the value back. Messages keep their
        text; a lone surrogate in one is legal in JSON only as an escape, and so is refused by an encoder to UTF-8.
        """
        # By its name: the converter is a room above, and imports cattrs, which most programs never need (ADR 2).
        converter = importlib.import_module("session_manager.codec.converter").converter
        value: dict[str, Any] = converter.unstructure(self)
        return value
