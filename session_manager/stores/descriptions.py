"""What a store tells of a session: a description without its messages, and flaws that were found in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from session_manager.as_dict import AsDict
from session_manager.errors import SessionManagerError
from session_manager.frozen import drafts_of
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject
from session_manager.model.read_only import read_only
from session_manager.model.session import Session, Version
from session_manager.values import Value

if TYPE_CHECKING:
    from session_manager.codec.state import Described, LogState, State

__all__ = ["Finding", "Quarantined", "SessionInfo"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SessionInfo(Value, AsDict):
    """A description of a session, without its messages."""

    #: Its name.
    key: str
    #: How many messages it has.
    count: int = 0
    #: When it was created: aware, UTC; `None` if it is damaged.
    created: datetime | None = None
    #: When it was last changed: aware, UTC; `None` if it is damaged, and the store cannot tell.
    updated: datetime | None = None
    #: When the last message was written: aware, UTC; `None` if there is none.
    last_message_at: datetime | None = None
    #: The position of the first message.
    start: int = 0
    #: The position that the next message gets.
    end: int = 0
    #: Whether it has a summary.
    has_summary: bool = False
    _metadata: JsonObject = attrs.field(default=EMPTY_OBJECT, repr=False)
    #: How long after its last message, or without one its last change, it may be deleted (`Session.expires_after`).
    expires_after: timedelta | None = None
    #: Its durable state; `None` if it was never saved, or is damaged.
    version: Version | None = None
    #: What is wrong with it, if it cannot be read.
    error: SessionManagerError | None = None

    @property
    def metadata(self) -> Mapping[str, object]:
        """Your own data about the session: a read-only dict, and so are the dicts and lists in it."""
        return read_only(self._metadata)

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<SessionInfo {self.key[:80]!a}: {type(self.error).__name__}>"
        last = "" if self.last_message_at is None else f", the last at {self.last_message_at:%Y-%m-%dT%H:%M:%SZ}"
        return f"<SessionInfo {self.key[:80]!a}: {self.count} messages{last}>"

    @classmethod
    def of(cls, session: Session) -> SessionInfo:
        """Describe a session."""
        return cls(
            key=session.key,
            count=len(session.messages),
            created=session.created,
            updated=session.updated,
            last_message_at=session.last_message_at,
            start=session.start,
            end=session.end,
            has_summary=bool(session.summary),
            metadata=session._metadata,
            expires_after=session.expires_after,
            version=session.version,
        )

    @classmethod
    def of_state(cls, state: State | Described, token: bytes = b"") -> SessionInfo:
        """Describe a session by its stored state.

        :param token: the digest of the token of its last write, if the store tells it.
        """
        version = Version(state.generation, state.revision)
        return _of_state(state.key, state, version._of(token) if token else version, has_summary=bool(state.summary))

    @classmethod
    def of_log_state(cls, key: str, state: LogState) -> SessionInfo:
        """Describe a session by the state at the end of its log, which has its metadata."""
        return _of_state(key, state, Version(state.generation, state.revision), has_summary=state.has_summary)


_new_info = drafts_of(SessionInfo)


def _of_state(key: str, state: State | Described | LogState, version: Version, *, has_summary: bool) -> SessionInfo:
    info = _new_info()
    info.key, info.version, info.count = key, version, state.count
    info.created, info.updated, info.last_message_at = state.created, state.updated, state.last_message_at
    info.start, info.end, info.has_summary = state.start, state.end, has_summary
    info._metadata = JsonObject(state.metadata) if state.metadata else EMPTY_OBJECT
    info.expires_after, info.error = state.expires_after or None, None
    info.__class__ = SessionInfo
    return info  # type: ignore[no-any-return]


@attrs.frozen(eq=False, repr=False)
class Finding(Value, AsDict):
    """Something wrong that `verify` found."""

    #: The session's key; `None` if the file does not tell it.
    key: str | None
    #: The file, or the storage.
    path: str
    #: The byte in the file, if it has a place.
    offset: int | None
    #: What is wrong.
    reason: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Quarantined(Value, AsDict):
    """Damaged bytes in quarantine."""

    #: Its name there: of a file, or of the rows of a database, such as ``"7-12"``.
    name: str
    #: The session's key; `None` if neither the name of its file tells it, nor what is left of the file.
    key: str | None
    #: When it was moved there: aware, UTC.
    moved: datetime
    #: How many bytes it has.
    size: int
