"""A store in RAM: the contract in its simplest form. Nothing survives the process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from session_manager.errors import ConflictError
from session_manager.model import Session, Version
from session_manager.store import MAX_TOKENS, Commit, Store

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """Keeps sessions in a dict. For tests, and as the specification of a store in code.

    One step of the dict is what makes each call atomic and safe to use from several threads. Writes and deletions are one at
    a time, because several managers may write one session at once: what is compared must be what is replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._tokens: dict[str, deque[str]] = {}

    def load(self, key: str) -> Session | None:
        return self._sessions.get(key)

    def write(self, commit: Commit) -> None:
        key = commit.session.key
        with self._lock:
            if self.version(key) != commit.base:
                raise ConflictError(key, commit.base, self.version(key))
            self._tokens.setdefault(key, deque(maxlen=MAX_TOKENS)).append(commit.token)
            self._sessions[key] = commit.session

    def landed(self, commit: Commit) -> bool | None:
        tokens = self._tokens.get(commit.session.key, ())
        if commit.token in tokens:
            return True
        return commit.unknown_token(len(tokens), self.version(commit.session.key))

    def delete(self, key: str, expected: Version | None = None) -> bool:
        with self._lock:
            if key not in self._sessions or (expected is not None and self.version(key) != expected):
                return False
            del self._sessions[key]
            return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter([key for key in list(self._sessions) if key.startswith(prefix)])

    def version(self, key: str) -> Version | None:
        session = self._sessions.get(key)
        return None if session is None else session.version

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._sessions)}>"
