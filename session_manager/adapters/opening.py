"""The storage that a caller gives to an adapter: a URL, a path, or a manager."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TypeAlias, TypeVar

from session_manager.manager.manager import SessionManager

try:
    from session_manager.aio.manager import AsyncSessionManager
    from session_manager.aio.queues import Queues
except ModuleNotFoundError as error:
    _extra = "install your framework's extra, such as pip install 'chat-session-manager[openai-agents]'"
    raise ImportError(f"an adapter needs {error.name}: {_extra}", name=error.name) from error

__all__ = ["Storage", "UsesStorage", "missing"]

A = TypeVar("A", bound="UsesStorage")

#: Where an adapter keeps conversations. All adapters of a process that are given one URL share one manager.
Storage: TypeAlias = "str | os.PathLike[str] | SessionManager | AsyncSessionManager"


class UsesStorage:
    """An adapter, or another part, that uses a storage: an async context manager, which lets go of it at its end.

    :param storage: a URL or path is opened when it is first used, once for all users in this process. A manager stays its caller's.
    :raises TypeError: if it is something else.
    :raises InvalidStorageError: if the URL or path cannot be what it says.
    """

    def __init__(self, storage: Storage) -> None:
        #: Of tasks that change a session: a task that looks at it first would meet the others in conflicts.
        self._queues = Queues()
        self._is_given = isinstance(storage, AsyncSessionManager)
        if isinstance(storage, AsyncSessionManager):
            self._manager = storage
        elif isinstance(storage, SessionManager):
            self._manager = AsyncSessionManager.wrap(storage)
        else:
            self._manager = AsyncSessionManager.shared(storage)

    async def close(self) -> None:
        """Let go of the storage. A manager that you gave stays open, and so does a storage that has other users. Idempotent.

        :raises SaveFailedError: if the last user of a storage could not save everything; it stays open.
        """
        if not self._is_given:
            await self._manager.close()

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def missing(extra: str, error: ModuleNotFoundError) -> ImportError:
    """Return the error for an adapter whose framework is not installed."""
    return ImportError(f"this adapter needs {error.name}: pip install 'chat-session-manager[{extra}]'", name=error.name)
