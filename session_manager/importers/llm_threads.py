"""Threads of llm, since 0.36: each points to the last message of a chain in a tree that all threads share.

A message has parts in rows of their own. A turn says when a model was called, and with what: its time is that of the messages that
it added. A turn of the thread that is not on the thread's chain, such as a question that was asked again, is the end of another
branch: a session of its own, ``ID:TURN``.
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

__all__ = ["read_threads"]

_CHAIN = """
    WITH RECURSIVE chain(hash, parent_hash, role, provider_metadata, depth) AS (
        SELECT hash, parent_hash, role, provider_metadata, 0 FROM messages WHERE hash = ?
        UNION ALL
        SELECT m.hash, m.parent_hash, m.role, m.provider_metadata, c.depth + 1
        FROM chain c JOIN messages m ON m.hash = c.parent_hash
        WHERE c.depth < (SELECT count(*) FROM messages)
    )
    SELECT c.hash, c.role, c.provider_metadata, p.id AS part, p.type, p.text, p.payload
    FROM chain c LEFT JOIN parts p ON p.message_hash = c.hash ORDER BY c.depth DESC, p.position
"""
#: Columns of a turn that are not the metadata of its answer.
_TOLD = ("id", "thread_id", "parent_message_hash", "tip_message_hash", "datetime_utc", "response_json")


@attrs.frozen
class _Part:
    rest: JsonObject
    type: str
    text: str | None = None
    name: str | None = None
    arguments: Any = None
    output: Any = None
    tool_call_id: str | None = None
    server_executed: bool = False
    exception: str | None = None
    provider_metadata: Any = None
    text_ref: list[JsonObject] | None = None
    attachment: JsonObject | None = None
    attachments: list[JsonObject] = attrs.field(factory=list)


@attrs.define
class _Said:
    """The parts of a message, by what they are."""

    texts: list[str] = attrs.field(factory=list)
    parts: list[dict[str, Any]] = attrs.field(factory=list)
    calls: list[tuple[Any, Any, Any]] = attrs.field(factory=list)
    results: list[tuple[_Part, Any]] = attrs.field(factory=list)
    rest: dict[str, Any] = attrs.field(factory=dict)

    def keep(self, name: str, value: Any) -> None:
        """Keep something that a provider does not take."""
        self.rest.setdefault(name, []).append(value)


def read_threads(database: SourceDatabase, modified: datetime, known: set[str]) -> Iterator[ImportedSession | Flaw]:
    """Read the threads of a database.

    :param known: their ids are added to it.
    """
    for thread in database.rows("SELECT * FROM threads ORDER BY rowid"):
        key = thread["id"]
        if not isinstance(key, str):
            yield Flaw(reason="id: is not text")
            continue
        known.add(key)
        try:
            yield from _sessions(database, modified, thread)
        except StorageError as error:
            yield Flaw(reason=error.reason, key=key)


def _sessions(
    database: SourceDatabase, modified: datetime, thread: Mapping[str, Any]
) -> Iterator[ImportedSession | Flaw]:
    """Read the branches of a thread, that of its own tip first."""
    key = thread["id"]
    turns = list(database.rows("SELECT * FROM turns WHERE thread_id = ? ORDER BY datetime_utc, id", (key,)))
    by_tip = {turn["tip_message_hash"]: turn for turn in turns}
    seen: set[Any] = set()
    ends = [("", thread.get("tip_message_hash")), *((turn["id"], turn["tip_message_hash"]) for turn in reversed(turns))]
    about = {
        name: one for name, one in thread.items() if name not in ("id", "tip_message_hash", "datetime_utc") and one
    }
    for name, tip in ends:
        if name and tip in seen:
            continue
        draft = Draft(key=f"{key}:{name}" if name else key, last=modified)
        created = draft.told(lambda: time_of(thread.get("datetime_utc"), "datetime_utc", timezone.utc))
        draft.last = created or modified
        rows = list(database.rows(_CHAIN, (tip,)))
        hashes = list(dict.fromkeys(row["hash"] for row in rows))
        if tip is not None and not hashes:
            draft.flaw("its messages are not there")
        seen.update(hashes)
        _fill(draft, database, rows, _turns_of(hashes, by_tip))
        first = min((message.created_at for message in draft.messages), default=created)
        branch = {"branch_of": key, "branch": name} if name else {}
        yield from draft.finished(metadata={**about, **branch}, created=first)


def _turns_of(hashes: list[Any], by_tip: Mapping[Any, Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]]:
    """Return the turn that added each message: the first one that ends there or behind it."""
    found: dict[Any, Mapping[str, Any]] = {}
    turn: Mapping[str, Any] | None = None
    for one in reversed(hashes):
        turn = by_tip.get(one, turn)
        if turn is not None:
            found[one] = turn
    return found


def _fill(
    draft: Draft, database: SourceDatabase, rows: list[Mapping[str, Any]], turns: Mapping[Any, Mapping[str, Any]]
) -> None:
    calls = Calls()
    for one, group in groupby(rows, lambda row: row["hash"]):
        parts = list(group)
        turn = turns.get(one, {})
        at = draft.told(lambda told=turn: time_of(told.get("datetime_utc"), "datetime_utc", timezone.utc))  # type: ignore[misc]
        said = _Said()
        for row in parts:
            if row["part"] is not None:
                _say(draft, database, said, row)
        if parts[0]["provider_metadata"] is not None:
            said.keep("provider_metadata", decoded(parts[0]["provider_metadata"]))
        if turn.get("tip_message_hash") == one:
            said.rest |= {
                name: decoded(value) if name.endswith(("_json", "_details")) else value
                for name, value in turn.items()
                if name not in _TOLD and value is not None
            }
        _add(draft, str(parts[0]["role"] or ""), said, calls, at)


def _say(draft: Draft, database: SourceDatabase, said: _Said, row: Mapping[str, Any]) -> None:
    """Add a part of a message to what it says."""
    payload = decoded(row["payload"])
    told = {**(payload if isinstance(payload, dict) else {}), "type": row["type"]}
    if row["text"] is not None:
        told["text"] = row["text"]
    part = draft.record(told, _Part, row["part"] if isinstance(row["part"], int) else None)
    if part is None:
        return
    if part.provider_metadata is not None:
        said.keep("provider_metadata", part.provider_metadata)
    if part.rest:
        said.keep("parts", part.rest)
    if part.type == "text":
        said.texts.append(part.text if part.text is not None else _with_fragments(database, part.text_ref or []))
    elif part.type == "attachment" and part.attachment is not None:
        said.parts.append(_attachment(database, part.attachment))
    elif part.type == "tool_call" and not part.server_executed:
        said.calls.append((part.tool_call_id, part.name, part.arguments))
    elif part.type == "tool_result" and not part.server_executed:
        attached = [_attachment(database, one) for one in part.attachments]
        output = (
            part.output if isinstance(part.output, str) and not attached else content_of([str(part.output)], attached)
        )
        said.results.append((part, output))
    elif part.type == "reasoning":
        said.keep("reasoning", part.text)
    else:
        said.keep("server", told)


def _add(draft: Draft, role: str, said: _Said, calls: Calls, at: datetime | None) -> None:
    """Add what a message says: its results, each as a message, and the rest as one."""
    for part, output in said.results:
        about = {"name": part.name, "exception": part.exception}
        made = {"role": "tool", "tool_call_id": calls.answered(part.tool_call_id) or "", "content": output}
        draft.add(made, at=at, metadata={name: one for name, one in about.items() if one is not None})
    if said.results and not said.texts and not said.parts and not said.calls:
        return
    message: dict[str, Any] = {"role": role, "content": content_of(said.texts, said.parts)}
    if said.calls:
        message["tool_calls"] = calls.begin(said.calls, len(draft.messages))
    draft.add(message, at=at, metadata=said.rest)


def _with_fragments(database: SourceDatabase, pieces: list[JsonObject]) -> str:
    """Return a text some of whose pieces are in the table of fragments."""
    texts = []
    for piece in pieces:
        literal = piece.get("literal")
        if literal is None:
            rows = database.rows("SELECT content FROM fragments WHERE id = ?", (piece.get("fragment"),))
            literal = next(iter(rows), {"content": ""})["content"]
        texts.append(literal if isinstance(literal, str) else "")
    return "".join(texts)


def _attachment(database: SourceDatabase, reference: JsonObject) -> dict[str, Any]:
    rows = database.rows("SELECT * FROM attachments WHERE id = ?", (reference.get("id"),))
    return attachment_of(next(iter(rows), reference))
