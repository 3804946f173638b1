"""The store that keeps each session as one readable JSON file."""

from session_manager.stores.snapshot.store import SnapshotStore

__all__ = ["SnapshotStore"]
