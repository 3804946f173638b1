"""The OpenAI Agents SDK's SQLite: items of every type, exact."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from session_manager import Item
from session_manager.testing.strategies import message_objects
from tests.support.foreign_files import database_of, examples, plain, read_all
from tests.support.laws import examples as tries

EXAMPLE = next(one for one in examples() if one.format == "openai-agents")
SCHEMA = (Path(__file__).parent / "files" / "openai-agents" / "agents.sql").read_text().partition("INSERT")[0]


def quoted(item: Any) -> str:
    return "'" + json.dumps(item).replace("'", "''") + "'"


def database(*items: Any, more: str = "") -> bytes:
    rows = [f"INSERT INTO agent_messages (session_id, message_data) VALUES ('s', {quoted(item)});" for item in items]
    return database_of("\n".join([SCHEMA, "INSERT INTO agent_sessions (session_id) VALUES ('s');", *rows, more]))


def test_items_of_every_type_come_along_exactly() -> None:
    sessions, flaws = read_all("openai-agents", EXAMPLE.name, EXAMPLE.data)
    assert flaws == []
    assert [(one.key, len(one.messages)) for one in sessions] == [("user_1", 6), ("empty", 0)]
    session = sessions[0]
    assert [one.get("type") for one in plain(session)] == [
        None,
        "reasoning",
        "function_call",
        "function_call_output",
        "message",
        None,
    ]
    assert isinstance(session.messages[5], Item)
    assert session.created == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert session.messages[0].created_at == datetime(2026, 1, 2, 3, 4, 6, tzinfo=timezone.utc)


@given(message_objects())
@tries(10, many=100)
def test_any_item_comes_back_as_it_was(item: dict[str, Any]) -> None:
    (session,), flaws = read_all("openai-agents", "a.db", database(item, {"x": item}, {"role": 5}))
    assert flaws == []
    assert plain(session) == [item, {"x": item}, {"role": 5}]


def test_a_damaged_row_costs_itself_alone() -> None:
    more = "INSERT INTO agent_messages (session_id, message_data) VALUES ('s', '{'), ('s', '[]'), ('s', x'ff'), ('s', '{\"role\": \"user\"}');"
    (session,), flaws = read_all("openai-agents", "a.db", database({"role": "user", "content": "x"}, more=more))
    assert plain(session) == [{"role": "user", "content": "x"}, {"role": "user"}]
    assert [(one.line, one.reason) for one in flaws] == [
        (2, "is not JSON"),
        (3, "is no JSON object"),
        (4, "message_data: must be a string, not bytes"),
    ]


def test_branches_are_sessions_of_their_own() -> None:
    more = """
        CREATE TABLE message_structure (
            id INTEGER PRIMARY KEY, session_id TEXT, message_id INTEGER, branch_id TEXT, message_type TEXT, sequence_number INTEGER
        );
        INSERT INTO message_structure VALUES
            (1, 's', 1, 'main', 'user', 1), (2, 's', 2, 'main', 'assistant', 2),
            (3, 's', 1, 'try', 'user', 1), (4, 's', 3, 'try', 'assistant', 2);
    """
    items = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    sessions, _ = read_all("openai-agents", "a.db", database(*items, more=more))
    assert {one.key: [message["content"] for message in plain(one)] for one in sessions} == {
        "s": ["q", "a"],
        "s:try": ["q", "b"],
    }
    assert sessions[1].metadata == {"branch_of": "s", "branch": "try"}


def test_tables_of_another_program_are_refused() -> None:
    _, flaws = read_all("openai-agents", "a.db", database_of("CREATE TABLE agent_messages (id, x);"))
    assert [one.reason for one in flaws] == ["its tables are not those of the OpenAI Agents SDK"]


def test_a_file_of_the_real_program(tmp_path: Path) -> None:
    pytest.importorskip("agents")
    import asyncio  # noqa: PLC0415

    from agents import SQLiteSession  # noqa: PLC0415 - in the extra bench only

    items: list[Any] = [
        {"role": "user", "content": "漢字"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ]
    session = SQLiteSession("user:1", tmp_path / "a.db")
    asyncio.run(session.add_items(items))
    session.close()
    (found,), flaws = read_all("openai-agents", "a.db", (tmp_path / "a.db").read_bytes())
    assert (found.key, plain(found), flaws) == ("user:1", items, [])


def test_messages_without_their_session_are_not_lost() -> None:
    """A row of ``agent_sessions`` is missing; or what names it is no text."""
    item = {"role": "user", "content": "x"}
    more = (
        f"INSERT INTO agent_messages (session_id, message_data) VALUES ('t', {quoted(item)}), (x'ff', {quoted(item)});"
    )
    sessions, flaws = read_all("openai-agents", "a.db", database(item, more=more))
    assert [(one.key, plain(one)) for one in sessions] == [("s", [item]), ("t", [item])]
    assert [one.reason for one in flaws] == ["session_id: is not text"]


def test_messages_in_no_branch_are_counted() -> None:
    """``AdvancedSQLiteSession`` shows only those that have a row in ``message_structure``."""
    item = {"role": "user", "content": "x"}
    more = """CREATE TABLE message_structure (session_id TEXT, message_id INTEGER, branch_id TEXT, sequence_number INTEGER);
              INSERT INTO message_structure VALUES ('s', 2, 'main', 1);"""
    (session,), flaws = read_all("openai-agents", "a.db", database(item, item, more=more))
    assert plain(session) == [item]
    assert [(one.key, one.reason) for one in flaws] == [("s", "messages that are in no branch: 1")]
