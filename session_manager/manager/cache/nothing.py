"""The store of a manager that keeps its sessions in RAM only."""

from __future__ import annotations

from collections.abc import Iterator

from session_manager.model.session import Session, Version
from session_manager.stores.contract import Commit, Store

__all__ = ["Nothing"]


class Nothing(Store):
    """Holds no session, and never gets one: in RAM only, no session is dirty (see `Residents.is_stored`)."""

    def load(self, key: str) -> Session | None:
        return None

    def write(self, commit: Commit) -> None:
        raise AssertionError("a session in RAM only is never written")

    def landed(self, commit: Commit) -> bool | None:
        raise AssertionError("a session in RAM only is never written")

    def delete(self, key: str, expected: Version | None = None) -> bool:
        return False

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(())

    def version(self, key: str) -> Version | None:
        return None

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return "memory:"
