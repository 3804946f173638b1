"""The store that keeps each session as an append-only log."""

from session_manager.stores.log.store import LogStore

__all__ = ["LogStore"]
