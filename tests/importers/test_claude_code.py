"""Claude Code's transcripts: lines become messages, forks become sessions, compactions become summaries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Item
from session_manager.history import ANTHROPIC, problems
from session_manager.importers.reading import Flaw, ImportedSession
from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries

EXAMPLES = {one.name: one for one in examples() if one.format == "claude-code"}
NAME = "0a1b-session.jsonl"


def line(uuid: str, parent: str | None, role: str, content: Any, **fields: Any) -> dict[str, Any]:
    message = {"role": role, "content": content, **({"id": fields.pop("id")} if "id" in fields else {})}
    shared = {"isSidechain": False, "sessionId": "s", "timestamp": "2026-01-02T03:04:05Z"}
    return {**shared, "type": role, "uuid": uuid, "parentUuid": parent, "message": message, **fields}


def read(lines: Sequence[Any], name: str = "s.jsonl") -> tuple[dict[str, ImportedSession], list[Flaw]]:
    sessions, flaws = read_all("claude-code", name, "\n".join(map(json.dumps, lines)).encode())
    return {one.key: one for one in sessions}, flaws


def said(session: ImportedSession) -> list[Any]:
    """Return the contents of a session's messages, archived ones too."""
    return [one.content for one in (*session.archived, *session.messages) if not isinstance(one, Item)]


def test_a_whole_transcript() -> None:
    sessions, flaws = read_all("claude-code", NAME, EXAMPLES[NAME].data)
    assert (flaws, [one.key for one in sessions]) == ([], ["0a1b-session", "0a1b-session:msg_3", "0a1b-session:x1"])
    session, other, side = sessions
    assert session.metadata == {
        "sessionId": "0a1b-session",
        "cwd": "/home/ada",
        "version": "2.0.1",
        "gitBranch": "main",
        "userType": "external",
        "title": "Files of Ada",
    }
    assert session.summary == "This session is being continued. They listed a and b."
    assert [one["content"] for one in plain(session) if "role" in one] == [
        "Go on.",
        [{"type": "text", "text": "Done."}],
    ]
    assert said(other)[-2:] == ["First wording.", [{"type": "text", "text": "To the first."}]]
    assert said(side) == ["Look at a.", [{"type": "text", "text": "It is empty."}]]
    assert (other.metadata["branch_of"], side.metadata["sidechain_of"]) == ("0a1b-session", "0a1b-session")


def test_lines_of_one_answer_are_one_message_and_so_are_its_results() -> None:
    sessions, _ = read_all("claude-code", NAME, EXAMPLES[NAME].data)
    _, _, answer, results, *_ = sessions[0].archived
    assert [block["type"] for block in answer.content] == ["thinking", "tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in results.content] == ["toolu_1", "toolu_2"]
    assert (answer.metadata["id"], answer.metadata["usage"], answer.metadata["stop_reason"]) == (
        "msg_1",
        {"output_tokens": 9},
        "tool_use",
    )
    assert answer.metadata["uuids"] == ["a1", "a2", "a3"]
    assert results.metadata["toolUseResults"] == [{"files": ["a.txt"]}, None]
    for session in sessions:
        sent = [one for one in (*session.archived, *session.messages) if not isinstance(one, Item)]
        assert problems(sent, ANTHROPIC) == []


def test_what_no_model_saw_is_an_item() -> None:
    sessions, _ = read_all("claude-code", NAME, EXAMPLES[NAME].data)
    items = [one.to_dict() for one in (*sessions[0].archived, *sessions[0].messages) if isinstance(one, Item)]
    assert [(one["type"], one["uuid"]) for one in items] == [
        ("system", "s1"),
        ("system", "c1"),
        ("user", "c2"),
        ("assistant", "e1"),
    ]


def test_a_field_that_differs_from_the_sessions_is_the_messages() -> None:
    sessions, _ = read_all("claude-code", NAME, EXAMPLES[NAME].data)
    assert sessions[0].archived[5].metadata["cwd"] == "/home/ada/b"
    assert "cwd" not in sessions[0].archived[0].metadata


def test_a_file_of_an_agent_is_named_after_its_session() -> None:
    sessions, flaws = read_all("claude-code", "agent-77.jsonl", EXAMPLES["agent-77.jsonl"].data)
    assert (flaws, [one.key for one in sessions]) == ([], ["0a1b-session:agent-77"])
    assert sessions[0].metadata["sidechain_of"] == "0a1b-session"


def test_agents_in_the_file_of_a_session_are_told_apart() -> None:
    lines = [
        line("u", None, "user", "main"),
        line("a1", None, "user", "to a", isSidechain=True, agentId="a"),
        line("b1", None, "user", "to b", isSidechain=True, agentId="b"),
    ]
    lines.append(line("b2", "b1", "assistant", "from b", isSidechain=True, agentId="b"))
    lines.append(line("a2", "a1", "assistant", "from a", isSidechain=True, agentId="a"))
    sessions, _ = read(lines)
    assert {key: said(one) for key, one in sessions.items()} == {
        "s": ["main"],
        "s:a": ["to a", "from a"],
        "s:b": ["to b", "from b"],
    }


def test_results_between_the_lines_of_an_answer_stay_together() -> None:
    """Claude Code runs a call while the answer is still coming, so that its result is written before the next call."""
    calls = [[{"type": "tool_use", "id": f"t{n}", "name": "f", "input": {}}] for n in (1, 2)]
    results = [[{"type": "tool_result", "tool_use_id": f"t{n}", "content": "x"}] for n in (1, 2)]
    lines = [
        line("u", None, "user", "go"),
        line("a1", "u", "assistant", calls[0], id="m"),
        line("r1", "a1", "user", results[0]),
        line("a2", "a1", "assistant", calls[1], id="m"),
        line("r2", "a2", "user", results[1]),
        line("e", "r1", "assistant", "done", id="n"),
    ]
    sessions, _ = read(lines)
    assert {key: said(one) for key, one in sessions.items()} == {
        "s": ["go", [*calls[0], *calls[1]], [*results[0], *results[1]], "done"]
    }


def test_a_line_that_is_there_twice_is_read_once() -> None:
    lines = [line("u", None, "user", "hi"), line("a", "u", "assistant", "hello", id="m")]
    sessions, _ = read([*lines, *lines])
    assert said(sessions["s"]) == ["hi", "hello"]


def test_the_last_summary_counts() -> None:
    lines = [line("u1", None, "user", "one")]
    for n in (1, 2):
        lines.append(
            {"type": "system", "uuid": f"c{n}", "parentUuid": None, "logicalParentUuid": f"u{n}", "sessionId": "s"}
        )
        lines.append(line(f"k{n}", f"c{n}", "user", f"summary {n}", isCompactSummary=True))
        lines.append(line(f"u{n + 1}", f"k{n}", "user", f"after {n}"))
    sessions, flaws = read(lines)
    session = sessions["s"]
    assert (flaws, session.summary) == ([], "summary 2")
    assert [one.content for one in session.messages] == ["after 2"]
    assert said(session) == ["one", "after 1", "after 2"]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_no_missing_line_costs_another_line(name: str) -> None:
    """The line of a parent may be damaged, or in another file: what hangs under it stays in the session."""
    lines = EXAMPLES[name].data.splitlines()
    whole = {uuid for one in _uuids(EXAMPLES[name].data) for uuid in one}
    for index, one in enumerate(lines):
        left = {uuid for found in _uuids(b"\n".join([*lines[:index], *lines[index + 1 :]])) for uuid in found}
        assert left == whole - {json.loads(one).get("uuid")}, index


def _uuids(data: bytes) -> list[set[str]]:
    """Return the uuids of the lines in each session."""
    found = []
    for session in read_all("claude-code", NAME, data)[0]:
        told: set[str] = set()
        for one in (*session.archived, *session.messages):
            about = one.to_dict() if isinstance(one, Item) else one.metadata
            told.update(about.get("uuids") or [about["uuid"]])
        found.append(told)
    return found


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["user", "assistant"]), st.text()), min_size=1, max_size=10)
)
@tries(20, many=200)
def test_every_message_of_any_tree_is_in_a_session(tree: list[tuple[int, str, str]]) -> None:
    lines = []
    for index, (back, role, text) in enumerate(tree):
        parent = f"u{max(0, index - 1 - back)}" if index else None
        lines.append(line(f"u{index}", parent, role, f"{index} {text}"))
    sessions, flaws = read(lines)
    assert flaws == []
    assert {text for one in sessions.values() for text in said(one)} == {one["message"]["content"] for one in lines}
    assert said(sessions["s"])[-1] == lines[-1]["message"]["content"]
