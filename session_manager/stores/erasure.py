"""The outcome of an erasure in a store: what was removed, and what is still there."""

from __future__ import annotations

import attrs

from session_manager.stores.descriptions import Quarantined
from session_manager.values import Value

__all__ = ["Erasure"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Erasure(Value):
    """What a store has removed of some sessions, and what of them is still in it."""

    #: The keys of the sessions that were there.
    sessions: tuple[str, ...] = ()
    #: The damaged bytes that were removed from quarantine, each with the key of its session.
    quarantined: tuple[Quarantined, ...] = ()
    #: Other files that were removed, such as temporary ones, each by its path and with the key of its session.
    files: tuple[tuple[str, str], ...] = ()
    #: The keys of sessions whose erasure had been cut short before, and was finished.
    finished: tuple[str, ...] = ()
    #: What of the texts is in the storage's files until something else has happened, and why. Erase again then.
    waits: tuple[str, ...] = ()
