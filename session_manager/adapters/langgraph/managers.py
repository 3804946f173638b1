"""The managers of one storage, for synchronous and for asynchronous calls."""

from __future__ import annotations

import os
import threading
from typing import TypeAlias

from session_manager.aio.manager import AsyncSessionManager
from session_manager.manager.manager import SessionManager

__all__ = ["Managers", "Storage"]

#: Where an adapter keeps its sessions.
Storage: TypeAlias = "str | os.PathLike[str] | SessionManager | AsyncSessionManager"


class Managers:
    """Two views of the sessions of one storage. Any thread may call any method.

    :param storage: a URL or path, which all users in this process share, or a manager, which stays open.
    :raises StorageError: if the storage cannot be opened.
    """

    def __init__(self, storage: Storage) -> None:
        self._lock = threading.Lock()
        self._is_ours = not isinstance(storage, SessionManager | AsyncSessionManager)
        self._asynchronous: AsyncSessionManager | None = None
        if isinstance(storage, AsyncSessionManager):
            self._asynchronous, self.sync = storage, storage.sync
        else:
            self.sync = storage if isinstance(storage, SessionManager) else SessionManager.shared(storage)

    @property
    def asynchronous(self) -> AsyncSessionManager:
        """The manager for event loops. Its threads are started when it is first used."""
        with self._lock:
            if self._asynchronous is None:
                self._asynchronous = AsyncSessionManager.wrap(self.sync)
            return self._asynchronous

    def close(self) -> None:
        """Let go of a storage that was opened here. Idempotent."""
        if self._is_ours:
            self.sync.close()

    async def aclose(self) -> None:
        """Let go of a storage that was opened here, when the calls that run have ended. Idempotent."""
        if self._is_ours:
            await self.asynchronous.close()
            self.sync.close()
