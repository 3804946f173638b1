"""The manager's calls for asyncio and trio."""

from session_manager.aio.manager import AsyncSessionManager
from session_manager.aio.turn import AsyncTurn

__all__ = ["AsyncSessionManager", "AsyncTurn"]
