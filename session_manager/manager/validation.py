"""Messages from callers: checked, and stamped with the time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from session_manager.codec.lines import encoded_size, size_bound
from session_manager.errors import InvalidMessageError, raise_alone
from session_manager.frozen import Frozen
from session_manager.model.message import Message, MessageParts
from session_manager.model.roles import KNOWN_ROLES
from session_manager.model.times import Clock, utc
from session_manager.threads import giving_way

__all__ = ["Incoming"]

_UNKNOWN_ROLE = (
    'no provider knows it: was it forgotten, before the content? Give "user", "assistant", "system", "tool", …,'
    " or allow more by SessionManager(roles=…)"
)


class Incoming(Frozen, frozen=True):
    """Checks messages, and stamps those that have no time."""

    #: Gives the time, aware.
    clock: Clock
    #: The largest message: the UTF-8 bytes of its encoded object and metadata.
    max_bytes: int
    #: The roles that `message` takes.
    roles: Collection[str] = KNOWN_ROLES

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return utc(self.clock(), "clock()")

    def message(self, at: datetime, role: str, content: Any, parts: MessageParts) -> Message:
        """Build a message of its parts (see `Message`).

        :param parts: gets the time, if it has none.
        :raises InvalidMessageError: with the place of what is not JSON; if no provider knows the role.
        """
        given: object = role  # a type checker believes in its type
        if isinstance(given, str):
            if given and given not in self.roles:
                raise InvalidMessageError("role", _UNKNOWN_ROLE)
        elif isinstance(given, Message | Mapping):
            raise InvalidMessageError("role", "is a whole message: give it to add(), not to add_message()")
        if parts.get("created_at") is None:
            parts["created_at"] = at
        message = Message._checked(role, content, **parts)
        self.check_size(message)
        return message

    def messages(self, values: tuple[object, ...], at: datetime) -> tuple[Message, ...]:
        """Check what is to become messages; the place of an error among several is ``messages[i]``.

        :raises InvalidMessageError: with the place of what is not JSON.
        """
        messages = []
        for number, value in enumerate(giving_way(values)):
            try:
                message = Message.of(value, created_at=at)
                self.check_size(message)
                messages.append(message)
            except InvalidMessageError as error:
                if len(values) == 1:
                    raise
                separator = "." if error.path and not error.path.startswith("[") else ""
                raise_alone(InvalidMessageError(f"messages[{number}]{separator}{error.path}", error.reason))
        return tuple(messages)

    def check_size(self, message: Message) -> None:
        """Raise `InvalidMessageError` if a message is too large."""
        if size_bound(message) > self.max_bytes and (size := encoded_size(message)) > self.max_bytes:
            raise InvalidMessageError("", f"{size:,} bytes, more than max_message_bytes={self.max_bytes:,}")
