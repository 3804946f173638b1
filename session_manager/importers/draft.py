"""A session while its file is read: its messages so far, the time of the last one, and what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import attrs

from session_manager.errors import InvalidDataError, InvalidMessageError
from session_manager.importers.reading import Flaw, ImportedSession, message_of, reason_of, record_of
from session_manager.model.json_value import JsonObject, json_object
from session_manager.model.message import Item, Message

__all__ = ["Draft"]

T = TypeVar("T")


@attrs.define(kw_only=True)
class Draft:
    """A session while its file is read. What cannot be read becomes a flaw, and costs nothing else.

    A message without a time gets that of the message before it.
    """

    #: The key.
    key: str
    #: The time of the last message; before the first one, the time that stands in for those that are not told.
    last: datetime
    messages: list[Message] = attrs.field(factory=list)
    flaws: list[Flaw] = attrs.field(factory=list)

    def add(
        self,
        object: Mapping[str, Any],
        path: str = "",
        *,
        line: int | None = None,
        at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        ref: str | None = None,
    ) -> bool:
        """Add a provider's object; return whether it is a message. If it is none, that is a flaw.

        :param path: where it is in its record.
        :param line: where the record is.
        :param at: its time.
        :param metadata: what else is known of it; an empty value is left out.
        """
        return self._added(
            lambda time: message_of(object, path, created_at=time, metadata=metadata or None, ref=ref), line, at
        )

    def add_item(
        self,
        object: Mapping[str, Any],
        *,
        line: int | None = None,
        at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Add an object that is no message of a provider's, and is never sent to one. It is kept exactly."""
        return self._added(lambda time: Item(object, created_at=time, metadata=metadata or None), line, at)

    def _added(self, made: Callable[[datetime], Message], line: int | None, at: datetime | None) -> bool:
        time = self.last if at is None else at
        try:
            self.messages.append(made(time))
        except (InvalidDataError, InvalidMessageError) as error:
            self.flaw(reason_of(error), line)
            return False
        self.last = time
        return True

    def flaw(self, reason: str, line: int | None = None) -> None:
        """Note what could not be read."""
        self.flaws.append(Flaw(reason=reason, line=line, key=self.key))

    def told(self, read: Callable[[], T], line: int | None = None) -> T | None:
        """Return what a function reads; `None` if that is damaged, which becomes a flaw.

        :param read: may raise `InvalidDataError`.
        """
        try:
            return read()
        except InvalidDataError as error:
            self.flaw(reason_of(error), line)
            return None

    def record(self, value: Any, kind: type[T], line: int | None = None, path: str = "") -> T | None:
        """Return an object as a record; `None` if it is none. That is a flaw, and so is a wrong field that has a default.

        :param path: where it is in what the line holds.
        """
        before = f"{path}." if path else ""
        if not isinstance(value, Mapping):
            self.flaw(f"{path}: is no object" if path else "is no object", line)
            return None
        try:
            record, reasons = record_of(value, kind)
        except InvalidDataError as error:
            self.flaw(f"{before}{reason_of(error)}", line)
            return None
        for reason in reasons:
            self.flaw(f"{before}{reason}", line)
        return record

    def finished(
        self,
        *,
        metadata: Mapping[str, Any] | None = None,
        summary: str = "",
        archived: int = 0,
        created: datetime | None = None,
        updated: datetime | None = None,
        line: int | None = None,
    ) -> Iterator[ImportedSession | Flaw]:
        """Iterate over the flaws, and the session.

        :param archived: how many of the messages are no longer in the history.
        """
        yield ImportedSession(
            key=self.key,
            messages=self.messages[archived:],
            archived=self.messages[:archived],
            summary=summary,
            metadata=self._checked(metadata or {}, line),
            created=created,
            updated=updated or (None if self.messages else created or self.last),
            line=line,
        )
        yield from self.flaws

    def _checked(self, metadata: Mapping[str, Any], line: int | None) -> JsonObject:
        """Return metadata without the fields that are no JSON, such as bytes of a damaged text."""
        found: dict[str, Any] = {}
        for name, value in metadata.items():
            try:
                found |= json_object({name: value})
            except InvalidMessageError as error:
                self.flaw(reason_of(error), line)
        return json_object(found)
