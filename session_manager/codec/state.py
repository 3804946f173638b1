"""The state of a session as stores write it: everything but its messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, overload

import msgspec

from session_manager.codec.json import DecodeError, decoded
from session_manager.model.json_value import MAX_LEVELS, within_levels
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.view import View

__all__ = [
    "Described",
    "LogState",
    "State",
    "Texts",
    "check_state",
    "decode_described",
    "decode_state",
    "encode_state",
    "session_of",
]


_NO_TIME = timedelta()


class Texts(msgspec.Struct):
    """What is stored of a session besides its messages and its numbers."""

    key: str
    refs: tuple[str, ...]
    summary: str
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        return f"<texts of {self.key[:80]!a}>"


class LogState(msgspec.Struct, gc=False, omit_defaults=True):
    """The state at the end of each line of a log, in the order of its fields there."""

    generation: str
    revision: int
    created: datetime
    updated: datetime
    #: When the last message was written; null if there is none.
    last_message_at: datetime | None
    #: The first message's position, or ``end``.
    start: int
    end: int
    #: How many messages there are.
    count: int
    has_summary: bool
    #: How many messages its archive holds at least; absent if none.
    archived: int = 0
    #: The session's expiry; absent if there is none.
    expires_after: timedelta | None = None
    #: The session's metadata; null if it is too large to be repeated in each record. A writer splices it in.
    metadata: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<state: {self.count} messages, revision {self.revision}>"


class State(msgspec.Struct, kw_only=True):
    """The whole state of a session, in the order of its fields in files."""

    key: str
    generation: str
    revision: int
    created: datetime
    updated: datetime
    #: When the last message was written; null if there is none. Lists and expiry need no more.
    last_message_at: datetime | None = None
    #: The first message's position, or ``end``.
    start: int
    end: int
    refs: tuple[str, ...] = ()
    summary: str = ""
    metadata: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies an empty default
    #: How many messages there are.
    count: int
    #: How many messages its archive holds at least; absent if none.
    archived: int | msgspec.UnsetType = msgspec.UNSET
    #: The session's expiry; absent if there is none.
    expires_after: timedelta | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        return f"<state of {self.key[:80]!a}: {self.count} messages, revision {self.revision}>"


class Described(msgspec.Struct, kw_only=True, gc=False):
    """What a list of sessions shows of a `State`, which may have many refs."""

    key: str
    generation: str
    revision: int
    created: datetime
    updated: datetime
    last_message_at: datetime | None = None
    start: int
    end: int
    summary: str = ""
    metadata: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies an empty default
    count: int
    archived: int | msgspec.UnsetType = msgspec.UNSET
    expires_after: timedelta | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        return f"<description of {self.key[:80]!a}>"


_decode_state = msgspec.json.Decoder(State).decode
_decode_described = msgspec.json.Decoder(Described).decode


def encode_state(session: Session) -> State:
    """Return the state of a session."""
    messages = session.messages
    count = len(messages)
    first, last = messages.ends() if count else (None, None)
    return State(
        key=session.key,
        generation=session.generation,
        revision=session.revision,
        created=session.created,
        updated=session.updated,
        last_message_at=None if last is None else last.created_at,
        start=session.end if first is None else first.position or 0,
        end=session.end,
        refs=session.refs,
        summary=session.summary,
        metadata=dict(session._metadata),
        count=count,
        archived=session._archived or msgspec.UNSET,
        expires_after=session.expires_after or msgspec.UNSET,
    )


def decode_state(data: bytes) -> State:
    """Decode a state.

    :raises DecodeError: if the bytes encode none, or an impossible one.
    """
    state: State = decoded(_decode_state, lambda value: msgspec.convert(value, State), data)
    check_state(state)
    return state


def decode_described(data: bytes) -> Described:
    """Return what a list shows of the state that some bytes encode.

    :raises DecodeError: if they encode none, or an impossible one.
    """
    described: Described = decoded(_decode_described, lambda value: msgspec.convert(value, Described), data)
    check_state(described)
    return described


def check_state(state: State | LogState | Described) -> None:
    """Raise `DecodeError` for an impossible state."""
    revision, start, count = state.revision, state.start, state.count
    if revision < 1 or start < 0 or count < 0 or state.end - start < count or (state.archived or 0) < 0:
        raise DecodeError(0, "impossible numbers")
    if state.expires_after and state.expires_after <= _NO_TIME:
        raise DecodeError(0, "an expiry that is not positive")
    utc, last = timezone.utc, state.last_message_at
    if state.created.tzinfo is not utc or state.updated.tzinfo is not utc or (last and last.tzinfo is not utc):
        raise DecodeError(0, "a time that is not UTC")
    if state.metadata and not within_levels(state.metadata):
        raise DecodeError(0, f"more than {MAX_LEVELS} levels")


@overload
def session_of(state: State, messages: View[Message]) -> Session: ...
@overload
def session_of(state: LogState, messages: View[Message], texts: Texts) -> Session: ...
def session_of(state: Any, messages: View[Message], texts: Any = None) -> Session:
    """Return the session of a state and its messages.

    :param texts: the fields that the state of a log does not hold.
    :raises DecodeError: if they do not belong together.
    """
    texts = texts or state
    first = messages[0].position if messages else state.end
    last = messages[-1].position if messages else -1
    if len(messages) != state.count or first != state.start or last is None or last >= state.end:
        raise DecodeError(0, "the header and the messages do not belong together")
    return Session(
        key=texts.key,
        generation=state.generation,
        created=state.created,
        updated=state.updated,
        messages=messages,
        summary=texts.summary,
        metadata=texts.metadata,
        end=state.end,
        refs=texts.refs,
        revision=state.revision,
        archived=state.archived or 0,
        expires_after=state.expires_after or None,
    )
