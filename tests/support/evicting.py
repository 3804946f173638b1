"""Eviction of a session at a chosen moment."""

from __future__ import annotations

__all__ = ["evict"]


def evict(m, key):
    """Make a manager forget what is in RAM of a session, as its budget would."""
    with m._residents.lock.checked:
        m._residents.forget(key)
