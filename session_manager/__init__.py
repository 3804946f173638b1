"""Chat sessions in RAM, each made durable atomically.

>>> from session_manager import SessionManager
>>> with SessionManager() as m:
...     _ = m.add_message("telegram:42", "user", "Hello!")
...     [message.to_dict() for message in m.get_history("telegram:42")]
[{'role': 'user', 'content': 'Hello!'}]
"""

import importlib
from typing import TYPE_CHECKING

from session_manager.errors import (
    ClosedError,
    ConflictError,
    CorruptSessionError,
    ForkedError,
    InvalidDataError,
    InvalidKeyError,
    InvalidMessageError,
    InvalidStorageError,
    ReadOnlyError,
    ReentrantCallError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionBusyError,
    SessionExistsError,
    SessionManagerError,
    SessionNotFoundError,
    StorageError,
    StorageLockedError,
    StoreInUseError,
    UnsupportedFormatError,
    WouldWaitError,
)

if TYPE_CHECKING:
    from session_manager.aio.manager import AsyncSessionManager
    from session_manager.aio.turn import AsyncTurn
    from session_manager.codec.converter import converter
    from session_manager.manager.autosave import Autosave
    from session_manager.manager.manager import Health, SessionManager
    from session_manager.manager.summaries import Summarized, SummaryPolicy
    from session_manager.manager.turn import Turn
    from session_manager.model.key import join_key, key_prefix, split_key
    from session_manager.model.message import Message
    from session_manager.model.search import SearchHit
    from session_manager.model.session import Session, Version
    from session_manager.stores import CopyReport, open_store
    from session_manager.stores.contract import Commit, Finding, SessionInfo, Store

__all__ = [
    "AsyncSessionManager",
    "AsyncTurn",
    "Autosave",
    "ClosedError",
    "Commit",
    "ConflictError",
    "CopyReport",
    "CorruptSessionError",
    "Finding",
    "ForkedError",
    "Health",
    "InvalidDataError",
    "InvalidKeyError",
    "InvalidMessageError",
    "InvalidStorageError",
    "Message",
    "ReadOnlyError",
    "ReentrantCallError",
    "SaveError",
    "SaveFailedError",
    "SaveOutcomeUnknownError",
    "SearchHit",
    "Session",
    "SessionBusyError",
    "SessionExistsError",
    "SessionInfo",
    "SessionManager",
    "SessionManagerError",
    "SessionNotFoundError",
    "StorageError",
    "StorageLockedError",
    "Store",
    "StoreInUseError",
    "Summarized",
    "SummaryPolicy",
    "Turn",
    "UnsupportedFormatError",
    "Version",
    "WouldWaitError",
    "converter",
    "join_key",
    "key_prefix",
    "open_store",
    "split_key",
]

__version__ = "0.1.0"

#: Where the names are that are imported when they are asked for. Errors are not: an `except` must find them at any moment.
_HOMES = {
    "AsyncSessionManager": "aio",
    "AsyncTurn": "aio",
    "Autosave": "manager.autosave",
    "Commit": "stores.contract",
    "CopyReport": "stores",
    "Finding": "stores.contract",
    "Health": "manager",
    "Message": "model",
    "SearchHit": "model.search",
    "Session": "model",
    "SessionInfo": "stores.contract",
    "SessionManager": "manager",
    "Store": "stores.contract",
    "Summarized": "manager.summaries",
    "SummaryPolicy": "manager.summaries",
    "Turn": "manager.turn",
    "Version": "model",
    "converter": "codec.converter",
    "join_key": "model.key",
    "key_prefix": "model.key",
    "open_store": "stores",
    "split_key": "model.key",
}

if not TYPE_CHECKING:  # else every name would be one of this module's

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        except ModuleNotFoundError as error:
            if error.name != "anyio":
                raise
            extra = "pip install 'chat-session-manager[async]'"
            raise ImportError(f"{name} needs anyio: {extra}", name="anyio") from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
