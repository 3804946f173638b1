"""zeroclaw's JSONL: tool turns come out of the content, everything else stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.testing.strategies import json_values
from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries
from tests.support.source_files import WRITTEN

EXAMPLE = next(one for one in examples() if one.format == "zeroclaw")


def read(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    data = "".join(json.dumps(line) + "\n" for line in lines)
    sessions, flaws = read_all("zeroclaw", "a.jsonl", data.encode())
    assert flaws == []
    return plain(sessions[0])


def test_tool_turns_become_those_of_a_provider() -> None:
    sessions, flaws = read_all("zeroclaw", EXAMPLE.name, EXAMPLE.data)
    assert flaws == []
    assert sessions[0].key == "telegram_user-42"
    call = {"id": "call_1", "type": "function", "function": {"name": "shell", "arguments": '{"command":"ls"}'}}
    assert plain(sessions[0])[2:5] == [
        {"role": "assistant", "content": None, "reasoning_content": "Look.", "tool_calls": [call]},
        {"role": "tool", "content": "a.txt", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "a.txt"},
    ]
    assert {message.created_at for message in sessions[0].messages} == {WRITTEN}


@pytest.mark.parametrize(
    ("role", "content"),
    [
        ("user", {"content": "x", "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}]}),
        ("assistant", {"content": "x", "tool_calls": []}),
        ("assistant", {"content": "x", "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}], "other": 1}),
        ("assistant", {"content": "x", "tool_calls": [{"id": "1", "name": "f", "arguments": {}}]}),
        ("assistant", {"content": "x", "tool_calls": [{"id": "1", "name": "f", "arguments": "{}", "other": 1}]}),
        ("assistant", {"content": 5, "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}]}),
        ("tool", {"content": "x", "tool_call_id": "1", "other": 1}),
        ("tool", {"content": 5, "tool_call_id": "1"}),
    ],
)
def test_json_that_is_no_tool_turn_stays_text(role: str, content: dict[str, Any]) -> None:
    line = {"role": role, "content": json.dumps(content)}
    assert read(line) == [line]


def test_calls_of_openai_are_left_as_they_are() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    line = {"role": "assistant", "content": json.dumps({"content": "x", "tool_calls": [call]})}
    assert read(line) == [{"role": "assistant", "content": "x", "tool_calls": [call]}]


def test_the_note_of_a_trim_becomes_metadata() -> None:
    sessions, _ = read_all("zeroclaw", "a.jsonl", b"", beside={"a.trim_breadcrumb": b"1"})
    assert sessions[0].metadata == {"zeroclaw": {"trim_breadcrumb": True}}


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool", "x"]), st.text(), json_values())))
@tries(20, many=200)
def test_texts_come_back_as_they_were(lines: list[tuple[str, str, Any]]) -> None:
    """Texts of any kind, and any JSON in a text that no agent wrote."""
    given = [{"role": role, "content": text} for role, text, _ in lines]
    given += [{"role": role, "content": json.dumps([value])} for role, _, value in lines]
    assert read(*given) == given


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=3), st.none() | st.text())
@tries(20, many=200)
def test_calls_come_back_as_they_were(calls: list[tuple[str, str, str]], text: str | None) -> None:
    written = [{"id": call_id, "name": name, "arguments": arguments} for call_id, name, arguments in calls]
    found = read({"role": "assistant", "content": json.dumps({"content": text, "tool_calls": written})})[0]
    assert found["content"] == text
    assert [(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in found["tool_calls"]] == calls
