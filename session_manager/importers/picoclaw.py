"""What picoclaw's two formats share: its messages, and the times that Go writes.

A message is the struct ``Message`` of ``pkg/providers/protocoltypes/types.go`` (github.com/sipeed/picoclaw). All of its fields are
carried over as they are. Later versions give each message a ``created_at``; it is the message's time. A message without one is as
old as the next one that has one, or else as the session's last update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import attrs

from session_manager.errors import InvalidDataError
from session_manager.importers.reading import Flaw, message_of, reason_of
from session_manager.importers.times import time_of
from session_manager.model.message import Message

__all__ = ["Found", "messages_of", "time_or_flaw"]


@attrs.frozen
class Found:
    """An object that should be a message."""

    value: Any
    #: Its place in the record, for an error; ``""``: it is the record.
    path: str = ""
    #: Its line, from 1, if it has one.
    line: int | None = None


def time_or_flaw(value: str | None, field: str, note: Callable[[str], None]) -> datetime | None:
    """Return the time that a field tells; `None` if it is unknown.

    :param note: takes what is wrong with it.
    """
    try:
        return time_of(value, field)
    except InvalidDataError as error:
        note(reason_of(error))
    return None


def messages_of(
    objects: Iterable[Found], key: str, updated: datetime
) -> tuple[list[tuple[Found, Message]], list[Flaw]]:
    """Return the messages among some objects, in their order, and a flaw for each object that is none.

    :param key: the session's.
    :param updated: the time of messages that have none, and no later message that has one.
    """
    flaws: list[Flaw] = []
    found: list[tuple[Found, Message]] = []
    time = updated
    for one in reversed(list(objects)):
        own = one.value.get("created_at") if isinstance(one.value, dict) else None
        try:
            time = time_of(own, f"{one.path}.created_at" if one.path else "created_at") or time
        except InvalidDataError as error:
            flaws.append(Flaw(reason=reason_of(error), line=one.line, key=key))
        try:
            found.append((one, message_of(one.value, one.path, created_at=time)))
        except InvalidDataError as error:
            flaws.append(Flaw(reason=reason_of(error), line=one.line, key=key))
    return found[::-1], flaws[::-1]
