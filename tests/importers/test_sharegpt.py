"""ShareGPT: names of every data set, and calls and results without ids."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries

EXAMPLES = {one.name: one for one in examples() if one.format == "sharegpt"}


def read(*turns: Any, name: str = "a.json", **fields: Any) -> list[dict[str, Any]]:
    (session,), flaws = read_all("sharegpt", name, json.dumps({"conversations": turns, **fields}).encode())
    assert flaws == []
    return plain(session)


def test_calls_and_results_get_ids() -> None:
    sessions, flaws = read_all("sharegpt", "sharegpt.json", EXAMPLES["sharegpt.json"].data)
    assert (flaws, [one.key for one in sessions]) == ([], ["sharegpt:QWJhYvA_0", "sharegpt:2"])
    system, _, calls, first, second, answer = plain(sessions[0])
    assert system == {"role": "system", "content": "Be brief."}
    assert [one["function"]["arguments"] for one in calls["tool_calls"]] == ['{"zone":"UTC"}', '{"zone":"CET"}']
    assert [one["id"] for one in calls["tool_calls"]] == [first["tool_call_id"], second["tool_call_id"]]
    assert (first["content"], second["content"], answer["content"]) == ("12:00", "13:00", "Noon.")
    assert sessions[0].messages[-1].metadata == {"weight": 1}
    assert sessions[0].metadata == {"tools": "[]", "id": "QWJhYvA_0"}


def test_names_of_all_speakers() -> None:
    senders = ("human", "user", "gpt", "ChatGPT", "bard", "system", "stranger")
    found = read(*({"from": one, "value": "x"} for one in senders))
    assert [one["role"] for one in found] == [
        "user",
        "user",
        "assistant",
        "assistant",
        "assistant",
        "system",
        "stranger",
    ]


def test_a_result_without_a_call_is_the_users() -> None:
    (session,), _ = read_all("sharegpt", "a.json", b'{"conversations": [{"from": "tool", "value": "x"}]}')
    assert (plain(session), dict(session.messages[0].metadata)) == (
        [{"role": "user", "content": "x"}],
        {"from": "tool"},
    )


def test_a_call_that_is_no_json_stays_text() -> None:
    assert read({"from": "function_call", "value": "now()"}) == [{"role": "assistant", "content": "now()"}]


def test_an_answer_in_between_ends_the_wait_for_a_result() -> None:
    call = {"from": "function_call", "value": '{"name": "f"}'}
    found = read(call, {"from": "human", "value": "never mind"}, {"from": "tool", "value": "late"})
    assert [one["role"] for one in found] == ["assistant", "user", "user"]


@given(st.lists(st.tuples(st.sampled_from(["human", "gpt", "system"]), st.text())), st.text())
@tries(20, many=200)
def test_generated_files_come_back_as_they_were(turns: list[tuple[str, str]], topic: str) -> None:
    names = {"human": "user", "gpt": "assistant", "system": "system"}
    lines = [{"conversations": [{"from": who, "value": text} for who, text in turns], "topic": topic}] * 2
    sessions, flaws = read_all("sharegpt", "a.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert (flaws, [one.key for one in sessions]) == ([], ["a:1", "a:2"])
    for session in sessions:
        assert plain(session) == [{"role": names[who], "content": text} for who, text in turns]
        assert session.metadata == {"topic": topic}


def test_a_damaged_turn_costs_itself_alone() -> None:
    data = b'{"conversations": [{"from": "human", "value": "one"}, 5, {"value": "x"}, {"from": "gpt", "value": "two"}], "system": 7}'
    (session,), flaws = read_all("sharegpt", "a.jsonl", data)
    assert [one["content"] for one in plain(session)] == ["one", "two"]
    assert [one.reason for one in flaws] == [
        "system: must be a string, not int",
        "conversations[1]: is no object",
        "conversations[2].role: must not be empty",
    ]
