"""One or more examples of each error, what it carries, and what it says."""

from __future__ import annotations

from session_manager.errors import (
    CannotCommitTogetherError,
    ClosedError,
    ConflictError,
    ContextTooSmallError,
    CorruptSessionError,
    ForkedError,
    InvalidDataError,
    InvalidKeyError,
    InvalidMessageError,
    InvalidStorageError,
    LeaseLostError,
    MessageNotFoundError,
    ReadOnlyError,
    ReentrantCallError,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
    StorageLockedError,
    StoreInUseError,
    TurnNotFoundError,
    UnsupportedFormatError,
    WouldWaitError,
)
from session_manager.model import Version

V1, V2 = Version("9f", 1), Version("9f", 2)
HOLDER = {"pid": 7, "host": "bee", "started": "2026-01-02T03:04:05+00:00"}

#: Each error as it is raised, what it carries, and what it says.
EXAMPLES = [
    (
        InvalidKeyError("", "is empty"),
        {"key": "", "reason": "is empty"},
        "invalid session key '': is empty",
    ),
    (
        InvalidMessageError("content[0].image", "bytes is not JSON"),
        {"path": "content[0].image", "reason": "bytes is not JSON"},
        "content[0].image: bytes is not JSON",
    ),
    (
        InvalidMessageError("", "bytes is not JSON"),
        {"path": "", "reason": "bytes is not JSON"},
        "message: bytes is not JSON",
    ),
    (
        InvalidDataError("messages[0].ref", "is missing"),
        {"path": "messages[0].ref", "reason": "is missing"},
        "messages[0].ref: is missing",
    ),
    (InvalidDataError("", "is no object"), {"path": "", "reason": "is no object"}, "data: is no object"),
    (
        CannotCommitTogetherError("<LogStore '/srv/chats'>", "it has one file for each session"),
        {"path": "<LogStore '/srv/chats'>", "reason": "it has one file for each session"},
        "<LogStore '/srv/chats'> cannot commit several sessions together: it has one file for each session; SQLite and PostgreSQL can",
    ),
    (SessionNotFoundError("a:1"), {"key": "a:1"}, "no session 'a:1'"),
    (
        MessageNotFoundError("a:1", "before"),
        {"key": "a:1", "argument": "before"},
        "session 'a:1' has no message with the ref that was given as before",
    ),
    (SessionExistsError("a:1"), {"key": "a:1"}, "session 'a:1' exists already"),
    (
        ContextTooSmallError("max_tokens", 100, 130),
        {"name": "max_tokens", "bound": 100, "needed": 130},
        "max_tokens=100 is too small for the last turn, which needs 130: 30 more",
    ),
    (TurnNotFoundError("a:1", "tg:7"), {"key": "a:1", "ref": "tg:7"}, "session 'a:1' has no turn 'tg:7' to replace"),
    (
        InvalidStorageError("x.db", "is a directory"),
        {"url": "x.db", "reason": "is a directory"},
        "storage 'x.db': is a directory",
    ),
    (ClosedError(), {}, "this session manager is closed"),
    (ForkedError(), {}, "this session manager was opened before fork(): open it in the worker"),
    (ReadOnlyError(), {}, "this storage was opened read-only"),
    (
        WouldWaitError(),
        {},
        "the call would have to wait for the storage, in a thread that must not: make it in another thread",
    ),
    (
        ReentrantCallError(),
        {},
        "a signal handler or finalizer called the session manager in the middle of a call: set a flag there instead",
    ),
    (SessionBusyError("a:1", 3), {"key": "a:1", "waiting": 3}, "session 'a:1' is busy: 3 turns are waiting already"),
    (
        ConflictError("a:1", V1, V2),
        {"key": "a:1", "expected": V1, "actual": V2, "reason": ""},
        f"session 'a:1' is at {V2}, not at {V1}",
    ),
    (
        ConflictError("a:1", None, V2, "both edited it"),
        {"key": "a:1", "expected": None, "actual": V2, "reason": "both edited it"},
        f"session 'a:1' is at {V2}, not at None: both edited it",
    ),
    (
        LeaseLostError("a:1"),
        {"key": "a:1", "expected": None, "actual": None, "reason": "another turn took its lease"},
        "session 'a:1': the lease of this turn ran out, and another turn took it",
    ),
    (StorageError("/c", "is full"), {"path": "/c", "reason": "is full"}, "/c: is full"),
    (
        StorageLockedError("/c", HOLDER),
        {"path": "/c", "reason": "is open elsewhere", "holder": HOLDER},
        "/c is open in process 7 on bee since 2026-01-02T03:04:05+00:00: close it there first",
    ),
    (
        StorageLockedError("/c", {**HOLDER, "gone": True}),
        {"path": "/c", "reason": "is open elsewhere", "holder": {**HOLDER, "gone": True}},
        (
            "/c is open in another process than the last one that left its name, which is gone "
            "(process 7 on bee since 2026-01-02T03:04:05+00:00): close it there first"
        ),
    ),
    (
        StorageLockedError("/c"),
        {"path": "/c", "reason": "is open elsewhere", "holder": {}},
        "/c is open in another process: close it there first",
    ),
    (
        StoreInUseError("<S>"),
        {"path": "<S>", "reason": "is in use by another manager of this process", "holder": {}},
        "<S> is in use by another manager of this process: use one manager for it, or SQLite, which several may share",
    ),
    (SaveError("/c", "is full"), {"path": "/c", "reason": "is full"}, "/c: is full"),
    (
        SaveFailedError("a:1", "is full"),
        {"key": "a:1", "reason": "is full", "failures": {}, "path": ""},
        "session 'a:1' not saved: is full",
    ),
    (
        SaveFailedError(None, "OSError", {"a:1": OSError("full"), "b:2": OSError("full")}),
        {"key": None, "reason": "OSError", "path": ""},
        "2 sessions not saved: OSError",
    ),
    (
        SaveOutcomeUnknownError("a:1", "no sync"),
        {"key": "a:1", "reason": "no sync", "path": ""},
        "session 'a:1': it is unknown whether it was saved: no sync",
    ),
    (
        CorruptSessionError("a:1", "/c/a", 12, "cut off"),
        {"key": "a:1", "path": "/c/a", "offset": 12, "reason": "cut off"},
        "session 'a:1' is damaged: /c/a, byte 12: cut off",
    ),
    (
        CorruptSessionError("a:1", "/c/a", None, "is twice"),
        {"key": "a:1", "path": "/c/a", "offset": None, "reason": "is twice"},
        "session 'a:1' is damaged: /c/a: is twice",
    ),
    (
        UnsupportedFormatError("/c/a", "session_manager/2", "session_manager/1"),
        {
            "path": "/c/a",
            "found": "session_manager/2",
            "supported": "session_manager/1",
            "reason": "format session_manager/2, and this version reads session_manager/1",
        },
        "/c/a: format session_manager/2, and this version reads session_manager/1",
    ),
]
