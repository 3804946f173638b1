"""The immutable picture of a session, and its version."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

import attrs

from session_manager.as_dict import AsDict
from session_manager.frozen import drafts_of
from session_manager.model.json_value import (
    EMPTY_OBJECT,
    JsonObject,
    json_object,
)
from session_manager.model.message import Message
from session_manager.model.read_only import read_only
from session_manager.model.view import View

__all__ = ["ANY", "MAX_REFS", "Anything", "Session", "Version", "agree"]

#: How many answered deliveries a session remembers.
MAX_REFS = 256
_position = attrgetter("position")


@attrs.frozen
class Version(AsDict):
    """One saved version of a session: its generation, and its revision in it."""

    #: The random id of the incarnation.
    generation: str
    #: How often the session was saved, from 1.
    revision: int
    #: The digest of the token of the write that made it, as a shared store has told it; ``b""``: unknown.
    _token: bytes = attrs.field(default=b"", init=False, eq=False, repr=False)

    def _of(self, token: bytes) -> Version:
        """Return this version with the digest of a token, for a version that was just made."""
        object.__setattr__(self, "_token", token)
        return self


def agree(one: Version | None, other: Version | None) -> bool:
    """Say whether two versions are equal, and not known to be of different writes.

    After a store went back, another writer may have made something else of the same version.
    """
    if one is None or other is None:
        return one is other
    return one == other and (one._token == other._token or not (one._token and other._token))


class Anything(enum.Enum):
    """The type of `ANY`."""

    ANY = "any"

    def __repr__(self) -> str:
        return "ANY"


#: What `expected` is by default: a call takes the session in any version, or none at all.
ANY: Final = Anything.ANY


def _view(messages: Iterable[Message]) -> View[Message]:
    return messages if isinstance(messages, View) else View(messages)


@attrs.frozen(repr=False, kw_only=True)
class Session(AsDict):
    """A picture of a session at one moment.

    >>> from datetime import datetime, timezone
    >>> now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    >>> Session(key="telegram:42", generation="9f", created=now, updated=now)
    <Session 'telegram:42': 0 messages, summary of 0 characters, revision 0>
    """

    #: Its name, conventionally ``channel:chat[:topic]``.
    key: str
    #: A random id that it got when it was created; deleted and created again, or cleared, is another one.
    generation: str
    #: When it was created: aware, UTC.
    created: datetime
    #: When it was last changed: aware, UTC.
    updated: datetime
    #: The history: an immutable sequence, positions increasing.
    messages: View[Message] = attrs.field(factory=View, converter=_view)
    #: The summary of older messages; ``""`` if there is none.
    summary: str = ""
    _metadata: JsonObject = attrs.field(default=EMPTY_OBJECT, converter=json_object, hash=False)
    #: The position that the next message gets.
    end: int = 0
    #: The deliveries that were answered, the last 256, oldest first.
    refs: tuple[str, ...] = ()
    #: How often it was saved; 0 if never.
    revision: int = 0
    #: How long after its last message `SessionManager.expire` may delete it (without messages: after its last change); `None`:
    #: not by itself.
    expires_after: timedelta | None = None
    #: How many messages its archive holds at least, as a store has it (`session_manager.model.archive`).
    _archived: int = attrs.field(default=0, eq=False)
    #: The digest of the token of the write that it was stored by (`session_manager.stores.commits.token_digest`); ``b""``: unknown.
    _token: bytes = attrs.field(default=b"", init=False, eq=False)
    #: Whether `Store.newer` gave it for a picture that is none of the states that led to it.
    _parted: bool = attrs.field(default=False, init=False, eq=False)

    @property
    def version(self) -> Version | None:
        """The saved version that this is, or was made from; `None` if it was never saved."""
        if not self.revision:
            return None
        version = _new_version()
        version.generation = self.generation
        version.revision = self.revision
        version._token = self._token
        version.__class__ = Version
        return version  # type: ignore[no-any-return]

    @property
    def start(self) -> int:
        """The position of the first message; `end` if there is none."""
        position = self.messages[0].position if self.messages else self.end
        assert position is not None
        return position

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Your own data about the session: a read-only dict, and so are the dicts and lists in it.

        `SessionManager.update_metadata` changes them.
        """
        return read_only(self._metadata)

    @property
    def last_message_at(self) -> datetime | None:
        """When the last message was written (aware, UTC); `None` if there is none."""
        return self.messages[-1].created_at if self.messages else None

    def _with(self, **fields: Any) -> Session:
        """Return this session with other fields, which are trusted (`attrs.evolve` costs five times as much)."""
        session = self._drafted()
        for name, value in fields.items():
            setattr(session, name, value)
        session.__class__ = Session
        return session  # type: ignore[no-any-return]

    def _longer(self, messages: View[Message], end: int, refs: tuple[str, ...], updated: datetime) -> Session:
        """Return this session with more messages, or with another answered delivery."""
        session = self._drafted()
        session.messages = messages
        session.end = end
        session.refs = refs
        session.updated = updated
        session.__class__ = Session
        return session  # type: ignore[no-any-return]

    def _drafted(self) -> Any:
        """Return a draft of this session (`session_manager.frozen.drafts_of`)."""
        session = _new_session()
        session.key = self.key
        session.generation = self.generation
        session.created = self.created
        session.updated = self.updated
        session.messages = self.messages
        session.summary = self.summary
        session._metadata = self._metadata
        session.end = self.end
        session.refs = self.refs
        session.revision = self.revision
        session.expires_after = self.expires_after
        session._archived = self._archived
        session._token = self._token
        session._parted = self._parted
        return session

    def index(self, position: int) -> int:
        """Return how many messages have a lower position (where in `messages` that one is, or would be)."""
        return self.messages.bisect(position, _position)

    def at(self, position: int) -> Message | None:
        """Return the message at a position, or `None` if it is not there (any more)."""
        index = self.index(position)
        if index < len(self.messages) and self.messages[index].position == position:
            return self.messages[index]
        return None

    def __repr__(self) -> str:
        return (
            f"<Session {self.key[:80]!a}: {len(self.messages)} messages, "
            f"summary of {len(self.summary)} characters, revision {self.revision}>"
        )


_new_session, _new_version = drafts_of(Session), drafts_of(Version)
