"""Events: what a metrics system wants to know of a manager.

::

    Event
    ├── Loaded
    ├── Saved
    ├── SaveFailed
    ├── Conflict
    ├── LeaseLost
    ├── WentBack
    ├── Evicted
    ├── Summarized
    ├── Deleted
    └── Expired
"""

from __future__ import annotations

import attrs

from session_manager.errors import ConflictError
from session_manager.manager.on_event import Event, OnEvent

__all__ = [
    "Conflict",
    "Deleted",
    "Event",
    "Evicted",
    "Expired",
    "LeaseLost",
    "Loaded",
    "OnEvent",
    "SaveFailed",
    "Saved",
    "Summarized",
    "WentBack",
]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Loaded(Event):
    """A session was read from the store into RAM."""

    #: How many messages it has.
    messages: int
    #: How long that took.
    seconds: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Saved(Event):
    """A session was made durable."""

    #: Its revision: the number of its durable states.
    revision: int
    #: How many changes were written.
    changes: int
    #: How many messages it has.
    messages: int
    #: How long the store took; of sessions that were saved at once, for all of them. 0, if an earlier save turned out to have landed.
    seconds: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SaveFailed(Event):
    """A save failed, and the session is still dirty."""

    #: What it raised.
    error: Exception
    #: How long the store took.
    seconds: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Conflict(Event):
    """A save met a change of another writer that cannot be reconciled. The session is still dirty: `SessionManager.reload`."""

    #: What it raised.
    error: ConflictError


@attrs.frozen(kw_only=True, eq=False, repr=False)
class LeaseLost(Event):
    """The lease of a turn ran out, and a turn of another process took it. The turn was refused: `LeaseLostError`."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WentBack(Event):
    """The store shows an older state of a session than one that it had acknowledged, as after a failover to a standby that was behind."""

    #: The revision that was durable.
    revision: int
    #: The revision that the store holds now.
    found: int
    #: Whether what is in RAM is written again by the next save. If not, that save is a `ConflictError`.
    regained: bool


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Evicted(Event):
    """A saved session left RAM, because of ``max_resident_bytes``."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Summarized(Event):
    """A summary took the place of messages, durably."""

    #: How many messages.
    messages: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Deleted(Event):
    """A session was deleted."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Expired(Event):
    """A session was deleted because of its age."""
