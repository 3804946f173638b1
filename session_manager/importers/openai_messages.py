"""OpenAI's JSON and JSONL: objects with a list of ``messages``, as chat completions take them and fine-tuning reads them.

A ``.json`` file is one such object, or an array of them; a ``.jsonl`` file has one on each line
(https://platform.openai.com/docs/guides/supervised-fine-tuning). An object has no name, so a session is named after its file:
``NAME``, or ``NAME:1``, ``NAME:2``, … by line or element. A file has no times: the messages get that of the file. Other fields of
the object become metadata.

A line that our own export has written says more in its field ``session_manager``. Its session comes back as it was
(`session_manager.codec.exported`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import attrs

from session_manager.codec.converter import records
from session_manager.codec.exported import TAG, of_line
from session_manager.errors import InvalidDataError
from session_manager.importers.elements import objects_of
from session_manager.importers.reading import (
    Flaw,
    ImportedSession,
    SourceFile,
    exact_in,
    message_of,
    reason_of,
)
from session_manager.model.json_value import JsonObject

__all__ = ["read"]


@attrs.frozen
class _Conversation:
    messages: list[Any]
    rest: JsonObject


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - it has no times
    """Read the conversations of a file."""
    for key, line, found in objects_of(file):
        if isinstance(found, Flaw):
            yield found
        elif TAG in found:
            yield exact_in(found, of_line, line)
        else:
            yield from _session(file, key, line, found)


def _session(file: SourceFile, key: str, number: int | None, value: dict[str, Any]) -> Iterator[ImportedSession | Flaw]:
    """Read a conversation; what is no message is left out."""
    try:
        conversation = records.structure(value, _Conversation)
    except InvalidDataError as error:
        yield Flaw(reason=reason_of(error), line=number, key=key)
        return
    messages = []
    for index, one in enumerate(conversation.messages):
        try:
            messages.append(message_of(one, f"messages[{index}]", created_at=file.modified))
        except InvalidDataError as error:
            yield Flaw(reason=reason_of(error), line=number, key=key)
    updated = file.modified
    yield ImportedSession(key=key, messages=messages, metadata=conversation.rest, updated=updated, line=number)
