"""The managers of one storage, for synchronous and for asynchronous calls."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TypeVar

from session_manager.adapters.opening import Storage
from session_manager.aio.manager import AsyncSessionManager
from session_manager.manager.manager import SessionManager

__all__ = ["Managers", "UsesManagers"]

U = TypeVar("U", bound="UsesManagers")


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


class UsesManagers:
    """A part of an adapter that uses the managers of a storage: a context manager of both kinds, which lets go of it at its end."""

    _managers: Managers

    def close(self) -> None:
        """Let go of the storage, unless a manager was given. Idempotent."""
        self._managers.close()

    async def aclose(self) -> None:
        """Do what `close` does, when the calls that run have ended."""
        await self._managers.aclose()

    def __enter__(self: U) -> U:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self: U) -> U:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
