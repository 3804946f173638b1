"""Conversations of llm before 0.36: each is a number of responses, with the prompt and the answer of each in one row.

What belongs to responses is in tables without an index, which grew with the versions of llm. So all tables are read side by side,
in the order of the conversations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

import attrs

from session_manager.errors import StorageError
from session_manager.importers.draft import Draft
from session_manager.importers.llm_messages import Calls, attachment_of, content_of, decoded
from session_manager.importers.reading import Flaw, ImportedSession, SourceDatabase
from session_manager.importers.times import time_of
from session_manager.model.json_value import JsonObject

__all__ = ["read_responses"]

_PLACE = "CAST(coalesce(r.conversation_id, r.id) AS BLOB)"
_RESPONSES = f"SELECT {_PLACE} AS place, r.* FROM responses r ORDER BY 1, r.datetime_utc, r.id"  # noqa: S608 - all of it is here
#: The tables beside the responses: the columns that they need, and their rows in the order of the conversations.
_BESIDE = {
    "tool_calls": ("name", "arguments", "tool_call_id"),
    "tool_results": ("name", "output", "tool_call_id"),
    "prompt_attachments": ("attachment_id", "order"),
    "prompt_fragments": ("fragment_id", "order"),
    "system_fragments": ("fragment_id", "order"),
}
_OTHER = {
    "prompt_attachments": "JOIN attachments o ON o.id = t.attachment_id",
    "prompt_fragments": "JOIN fragments o ON o.id = t.fragment_id",
    "system_fragments": "JOIN fragments o ON o.id = t.fragment_id",
}


@attrs.frozen
class _Response:
    """A row of ``responses``. Later columns may be missing."""

    id: str
    rest: JsonObject
    place: Any = None
    conversation_id: Any = None
    prompt: str | None = None
    system: str | None = None
    response: str | None = None
    options_json: Any = None
    token_details: Any = None
    datetime_utc: Any = None
    #: What was sent and what came back, as the provider had it: the columns above say the same.
    prompt_json: Any = None
    response_json: Any = None


class _Rows:
    """The rows of a table beside the responses, read as far as they are needed.

    :param rows: in the order of ``place``.
    """

    def __init__(self, rows: Iterator[Mapping[str, Any]]) -> None:
        self._groups = groupby(rows, lambda row: row["place"])
        self._next: tuple[Any, list[Mapping[str, Any]]] | None = None
        self._advance()

    def of(self, place: Any) -> dict[Any, list[Mapping[str, Any]]]:
        """Return the rows of a conversation, by their response. Conversations are asked for in their order."""
        while self._next is not None and self._next[0] < place:
            self._advance()
        found: dict[Any, list[Mapping[str, Any]]] = {}
        if self._next is not None and self._next[0] == place:
            for row in self._next[1]:
                found.setdefault(row["response_id"], []).append(row)
        return found

    def _advance(self) -> None:
        group = next(self._groups, None)
        self._next = None if group is None else (group[0], list(group[1]))


def read_responses(database: SourceDatabase, modified: datetime, known: set[str]) -> Iterator[ImportedSession | Flaw]:
    """Read the conversations of a database.

    :param known: conversations that are left out, by their ids.
    """
    try:
        beside = {table: _Rows(_rows_of(database, table)) for table in _BESIDE}
        responses = database.rows(_RESPONSES)
        for place, rows in groupby(responses, lambda row: row["place"]):
            key = _text(place)
            if key is None:
                yield Flaw(reason="conversation_id: is not text")
            elif key not in known:
                yield from _session(
                    database, modified, key, list(rows), {one: it.of(place) for one, it in beside.items()}
                )
    except StorageError as error:
        yield Flaw(reason=error.reason)


def _rows_of(database: SourceDatabase, table: str) -> Iterator[Mapping[str, Any]]:
    if not {"response_id", *_BESIDE[table]} <= set(database.columns(table)):
        return iter(())
    other = _OTHER.get(table, "")
    columns, order = ("t.response_id, o.*", 't."order"') if other else ("t.*", "t.id")
    query = f"SELECT {_PLACE} AS place, {columns} FROM {table} t JOIN responses r ON r.id = t.response_id {other}"  # noqa: S608
    return database.rows(f"{query} ORDER BY 1, {order}")


def _text(place: Any) -> str | None:
    try:
        return place.decode() if isinstance(place, bytes) else None
    except UnicodeDecodeError:
        return None


def _session(
    database: SourceDatabase,
    modified: datetime,
    key: str,
    rows: list[Mapping[str, Any]],
    beside: dict[str, dict[Any, list[Mapping[str, Any]]]],
) -> Iterator[ImportedSession | Flaw]:
    draft = Draft(key=key, last=modified)
    calls, system = Calls(), ""
    for number, row in enumerate(rows, 1):
        response = draft.record(row, _Response, number)
        if response is not None:
            at = draft.told(lambda told=response: time_of(told.datetime_utc, "datetime_utc", timezone.utc), number)  # type: ignore[misc]
            mine = {table: found.get(response.id, []) for table, found in beside.items()}
            system = _add(draft, response, mine, calls, system, number, at)
    about = next(iter(database.rows("SELECT * FROM conversations WHERE id = ?", (key,))), {})
    yield from draft.finished(metadata={name: one for name, one in about.items() if name != "id" and one is not None})


def _add(
    draft: Draft,
    response: _Response,
    mine: Mapping[str, list[Mapping[str, Any]]],
    calls: Calls,
    system: str,
    number: int,
    at: datetime | None,
) -> str:
    """Add the messages of a response; return its system prompt, which is a message where it changes."""
    prompt = "\n\n".join(_texts(mine["system_fragments"], response.system))
    if prompt and prompt != system:
        draft.add({"role": "system", "content": prompt}, "system", line=number, at=at)
    for row in mine["tool_results"]:
        told = {"name": row["name"], "exception": row.get("exception")}
        made = {"role": "tool", "tool_call_id": calls.answered(row["tool_call_id"]) or "", "content": row["output"]}
        about = {name: one for name, one in told.items() if one is not None}
        draft.add(made, "tool_results", line=number, at=at, metadata=about)
    texts = _texts(mine["prompt_fragments"], response.prompt)
    parts = [attachment_of(row) for row in mine["prompt_attachments"]]
    if texts or parts or (response.prompt is not None and not mine["tool_results"]):
        content = content_of(["\n".join(texts)] if texts or not parts else [], parts)
        draft.add({"role": "user", "content": content}, "prompt", line=number, at=at)
    answer: dict[str, Any] = {"role": "assistant", "content": response.response}
    made_calls = [(one["tool_call_id"], one["name"], one["arguments"]) for one in mine["tool_calls"]]
    if made_calls:
        answer["tool_calls"] = calls.begin(made_calls, number)
    if answer["content"] or made_calls:
        draft.add(answer, "response", line=number, at=at, metadata=_metadata(response))
    return prompt or system


def _texts(fragments: list[Mapping[str, Any]], text: str | None) -> list[str]:
    found = [one["content"] for one in fragments if isinstance(one["content"], str)]
    return [*found, text] if text else found


def _metadata(response: _Response) -> dict[str, Any]:
    told = {
        "id": response.id,
        "options": decoded(response.options_json),
        "token_details": decoded(response.token_details),
        **response.rest,
    }
    return {name: one for name, one in told.items() if one not in (None, {}, "")}
