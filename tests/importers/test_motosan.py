"""motosan's JSONL: early and later files, with a line about the session or without one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from session_manager import Item
from session_manager.testing.strategies import json_objects
from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries
from tests.support.source_files import WRITTEN

EXAMPLES = {one.name: one for one in examples() if one.format == "motosan"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": '{"zone":"UTC"}'}}


def test_an_early_file() -> None:
    (session,), flaws = read_all("motosan", "support.jsonl", EXAMPLES["support.jsonl"].data)
    assert flaws == []
    assert (session.key, dict(session.metadata)) == ("chat-7", {"motosan": {"agent_loop_version": "0.7.1"}})
    assert session.created == datetime(2026, 1, 2, 3, 4, 5, 123000, tzinfo=timezone.utc)
    assert [message["role"] for message in plain(session)] == ["system", "user", "assistant", "tool", "assistant"]
    assert plain(session)[2]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    ]
    assert {message.created_at for message in session.messages} == {session.created}


def test_a_later_file() -> None:
    (session,), flaws = read_all("motosan", "later.jsonl", EXAMPLES["later.jsonl"].data)
    assert flaws == []
    assert plain(session) == [
        {"role": "user", "content": [{"type": "text", "text": "What time is it?"}], "id": "m1"},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me look."}], "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
        {"type": "custom", "kind": "cost", "payload": {"usd": 0.02}},
    ]
    assert isinstance(session.messages[3], Item)
    assert session.messages[0].metadata["tags"] == ["x"]
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert [message.created_at - started for message in session.messages] == [
        timedelta(seconds=n) for n in (1, 2, 3, 3)
    ]


def test_a_file_without_a_first_line_is_named_by_itself() -> None:
    (session,), flaws = read_all("motosan", "bare.jsonl", EXAMPLES["bare.jsonl"].data)
    assert (session.key, flaws) == ("bare", [])
    assert plain(session)[1]["tool_calls"] == [CALL]
    assert session.messages[0].created_at == WRITTEN


def test_a_damaged_first_line_costs_the_name_alone() -> None:
    data = EXAMPLES["support.jsonl"].data.replace(b"1767323045123", b'"x"').replace(b'"chat-7"', b"7")
    (session,), flaws = read_all("motosan", "support.jsonl", data)
    assert (session.key, len(session.messages)) == ("support", 5)
    assert [(one.line, one.reason) for one in flaws] == [(1, "session_id: must be a string, not int")]


@given(
    st.lists(
        st.tuples(st.sampled_from(["User", "assistant", "SYSTEM"]), st.text(), st.integers(1, 10**12), json_objects())
    )
)
@tries(20, many=200)
def test_generated_files_come_back_as_they_were(lines: list[tuple[str, str, int, dict[str, Any]]]) -> None:
    written: list[dict[str, Any]] = [
        {"session_id": "s:1", "created_at_ms": 5, "agent_loop_version": "1", "message_count": 0}
    ]
    for role, text, at, payload in lines:
        written.append({"type": "message", "role": role, "content": text, "meta": {"created_at_ms": at}})
        written.append({"type": "custom", "kind": "k", "payload": payload})
    (session,), flaws = read_all("motosan", "a.jsonl", "\n".join(map(json.dumps, written)).encode())
    assert flaws == []
    assert [one["content"] for one in plain(session)[::2]] == [text for _, text, _, _ in lines]
    assert plain(session)[1::2] == written[2::2]
    assert [one.created_at.timestamp() for one in session.messages[::2]] == [at / 1000 for _, _, at, _ in lines]
