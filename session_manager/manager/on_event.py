"""The option `on_event`: a function that is called with each event of a manager."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from session_manager.as_dict import AsDict
from session_manager.values import Value

__all__ = ["Event", "OnEvent"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event(Value, AsDict):
    """Something that happened to a session. No event holds the text of a message."""

    #: The session's key.
    key: str


#: Called with each event.
OnEvent = Callable[[Event], object]
