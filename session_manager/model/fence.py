"""The fence of a lease: by it a store tells whether a lease is still that of a turn."""

from __future__ import annotations

import attrs

from session_manager.values import Value

__all__ = ["Fence"]


@attrs.frozen(eq=False, repr=False)
class Fence(Value):
    """What was given with a lease. Two leases of one session never have the same."""

    #: The random id of the manager that took the lease.
    owner: str
    #: A number that grows with each lease of the session.
    number: int
