"""LangChain's files: every kind of message becomes one of a provider's, and the rest is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_to_dict,
)

from session_manager import Item
from session_manager.testing.strategies import json_objects
from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries
from tests.support.source_files import WRITTEN

EXAMPLE = next(one for one in examples() if one.format == "langchain")


def read(*messages: BaseMessage) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the messages that are read out of a file with some, and their metadata."""
    data = json.dumps(messages_to_dict(list(messages))).encode()
    (session,), flaws = read_all("langchain", "a.json", data)
    assert flaws == []
    return [(one.to_dict(), dict(one.metadata)) for one in session.messages]


def test_a_file_of_every_kind_of_message() -> None:
    (session,), flaws = read_all("langchain", EXAMPLE.name, EXAMPLE.data)
    assert (session.key, flaws) == ("chat_history", [])
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone":"UTC"}'}}
    assert plain(session)[:9] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What time is it?", "name": "ada"},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me look."}], "tool_calls": [call]},
        {"role": "tool", "content": "12:00", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Noon."},
        {"role": "user", "content": "And in Rome?"},
        {"role": "assistant", "content": "", "function_call": {"name": "now", "arguments": "{}"}},
        {"role": "function", "content": "13:00", "name": "now"},
        {"role": "assistant", "content": "One."},
    ]
    assert isinstance(session.messages[9], Item)
    assert {message.created_at for message in session.messages} == {WRITTEN}
    kept = session.messages[2].metadata
    assert (kept["id"], kept["usage_metadata"]["total_tokens"], len(kept["content"])) == ("run-1", 3, 2)
    assert session.messages[3].metadata == {"artifact": {"z": 1}, "status": "success", "name": "now"}


def test_messages_of_the_real_program() -> None:
    found = read(
        SystemMessage("s"),
        HumanMessage([{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:,"}}]),
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": [1]}, "id": "c1"}]),
        ToolMessage("r", tool_call_id="c1", status="error"),
        AIMessage("", invalid_tool_calls=[{"name": "f", "args": "{bad", "id": "x", "error": "e"}]),
        FunctionMessage("q", name="f"),
        ChatMessage("c", role="boss"),
    )
    assert [one.get("role") for one, _ in found] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "function",
        "boss",
    ]
    assert found[2][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":[1]}'}
    assert found[3][1]["status"] == "error"
    assert found[4][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{bad"}
    assert found[4][1]["invalid_tool_calls"][0]["error"] == "e"


def test_what_only_langchain_knows_is_metadata() -> None:
    about = {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}], "x": 1}
    (found, metadata), *_ = read(AIMessage("", additional_kwargs=about, id="run-1", name="bot"))
    assert found == {"role": "assistant", "content": "", "name": "bot", "tool_calls": about["tool_calls"]}
    assert metadata == {"additional_kwargs": about, "id": "run-1"}


@given(st.lists(st.tuples(st.text(), json_objects(), st.text(min_size=1))))
@tries(10, many=100)
def test_generated_files_come_back_as_they_were(turns: list[tuple[str, dict[str, Any], str]]) -> None:
    messages: list[BaseMessage] = []
    for text, arguments, name in turns:
        messages.append(HumanMessage(text, response_metadata={"m": name}))
        messages.append(AIMessage(text, tool_calls=[{"name": name, "args": arguments, "id": name}]))
        messages.append(ToolMessage(text, tool_call_id=name))
    found = read(*messages)
    assert [one["content"] for one, _ in found] == [text for text, *_ in turns for _ in range(3)]
    assert [json.loads(one["tool_calls"][0]["function"]["arguments"]) for one, _ in found[1::3]] == [
        one for _, one, _ in turns
    ]
    assert [one["tool_call_id"] for one, _ in found[2::3]] == [name for *_, name in turns]
    assert [one["response_metadata"]["m"] for _, one in found[::3]] == [name for *_, name in turns]


def test_a_damaged_message_costs_itself_alone() -> None:
    data = b'[{"type": "human", "data": {"content": "one"}},\n{"type": "human", "data": 5},\n{"type": "human", "data": {}},\n'
    data += b'{"type": 1},\n5,\n{"type": "human", "data": {"content": "two", "name": 7}}]'
    (session,), flaws = read_all("langchain", "a.json", data)
    assert [one["content"] for one in plain(session)] == ["one", "two"]
    assert [(one.line, one.reason) for one in flaws] == [
        (2, "data: must be an object, not int"),
        (3, "data.content: is missing"),
        (4, "type: must be a string, not int"),
        (5, "is no JSON object"),
        (6, "data.name: must be a string, not int"),
    ]


def test_a_file_of_the_real_history(tmp_path: Path) -> None:
    pytest.importorskip("langchain_community")
    from langchain_community.chat_message_histories import FileChatMessageHistory  # noqa: PLC0415 - in the extra bench only

    history = FileChatMessageHistory(str(tmp_path / "chat.json"))
    history.add_messages([HumanMessage("漢字"), AIMessage("Hi!")])
    (session,), flaws = read_all("langchain", "chat.json", (tmp_path / "chat.json").read_bytes())
    assert plain(session) == [{"role": "user", "content": "漢字"}, {"role": "assistant", "content": "Hi!"}]
    assert flaws == []
