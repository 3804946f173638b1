"""Chat sessions in RAM, each made durable atomically.

>>> from session_manager import SessionManager
>>> with SessionManager() as m:
...     _ = m.add_message("telegram:42", "user", "Hello!")
...     [message.to_dict() for message in m.get_history("telegram:42")]
[{'role': 'user', 'content': 'Hello!'}]
"""

from session_manager.autosave import Autosave
from session_manager.errors import (
    ClosedError,
    ConflictError,
    CorruptSessionError,
    ForkedError,
    InvalidKeyError,
    InvalidMessageError,
    InvalidStorageError,
    ReadOnlyError,
    ReentrantCallError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManagerError,
    SessionNotFoundError,
    StorageError,
    StorageLockedError,
    UnsupportedFormatError,
)
from session_manager.manager import Health, SessionManager
from session_manager.model import Message, Session, Version
from session_manager.search import SearchHit
from session_manager.store import Commit, Finding, SessionInfo, Store
from session_manager.stores import CopyReport, open_store
from session_manager.summarize import Summarized, SummaryPolicy
from session_manager.turn import Turn

__all__ = [
    "Autosave",
    "ClosedError",
    "Commit",
    "ConflictError",
    "CopyReport",
    "CorruptSessionError",
    "Finding",
    "ForkedError",
    "Health",
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
    "SessionExistsError",
    "SessionInfo",
    "SessionManager",
    "SessionManagerError",
    "SessionNotFoundError",
    "StorageError",
    "StorageLockedError",
    "Store",
    "Summarized",
    "SummaryPolicy",
    "Turn",
    "UnsupportedFormatError",
    "Version",
    "open_store",
]

__version__ = "0.1.0"
