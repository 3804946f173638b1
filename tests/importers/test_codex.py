"""Codex's rollouts: items exactly, compactions, turns that were taken back."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from session_manager import Item
from session_manager.importers.reading import Flaw, ImportedSession
from session_manager.testing.strategies import message_objects
from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries

LATER, EARLY = sorted((one for one in examples() if one.format == "codex"), key=lambda one: one.name, reverse=True)


def line(type: str, payload: Any) -> dict[str, Any]:
    return {"timestamp": "2026-01-02T03:04:05Z", "type": type, "payload": payload}


def turn(text: str) -> list[dict[str, Any]]:
    """Return the lines of a question and its answer."""
    asked = {"type": "message", "role": "user", "content": text}
    answer = {"type": "message", "role": "assistant", "content": f"to {text}"}
    event = line("event_msg", {"type": "user_message", "message": text})
    return [line("response_item", asked), event, line("response_item", answer)]


def read(*lines: Any) -> tuple[list[ImportedSession], list[Flaw]]:
    return read_all("codex", "rollout-x.jsonl", "\n".join(map(json.dumps, lines)).encode())


def texts(session: ImportedSession) -> list[Any]:
    return [one.content for one in session.messages]


def test_a_whole_rollout() -> None:
    sessions, flaws = read_all("codex", LATER.name, LATER.data)
    key = "0199aaaa-0000-7000-8000-000000000001"
    assert (flaws, [one.key for one in sessions]) == ([], [key, f"{key}:15"])
    session, taken_back = sessions
    assert session.summary == "They kept a.txt."
    assert [one["type"] for one in plain(session)] == ["message", "custom_tool_call", "custom_tool_call_output"]
    kinds = [one.to_dict()["type"] for one in session.archived]
    assert kinds == [
        "message",
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "ghost_snapshot",
        "message",
        "message",
        "event_msg",
        "message",
    ]
    assert [one for one, kind in zip(session.archived, kinds, strict=True) if isinstance(one, Item)] == [
        one for one, kind in zip(session.archived, kinds, strict=True) if kind in ("ghost_snapshot", "event_msg")
    ]
    assert session.created == datetime(2026, 1, 2, 3, 4, 5, 123000, tzinfo=timezone.utc)
    assert (session.metadata["cli_version"], session.metadata["turn_context"]["model"]) == ("0.77.0", "gpt-5.2-codex")
    assert taken_back.messages[-1].content == [{"type": "output_text", "text": "Deleted."}]
    assert taken_back.metadata["branch_of"] == key


def test_an_early_rollout() -> None:
    (session,), flaws = read_all("codex", EARLY.name, EARLY.data)
    assert (session.key, flaws, len(session.messages)) == ("early-1", [], 2)
    assert session.created == datetime(2025, 6, 1, 3, 4, 5, tzinfo=timezone.utc)


def test_a_replacement_is_the_history() -> None:
    kept = {"type": "message", "role": "user", "content": "kept"}
    (session,), flaws = read(
        *turn("one"), line("compacted", {"message": "m", "replacement_history": [kept]}), *turn("two")
    )
    assert (flaws, session.summary, len(session.archived)) == ([], "", 2)
    assert texts(session) == ["kept", "two", "to two"]


def test_several_turns_are_taken_back_at_once() -> None:
    back = line("event_msg", {"type": "thread_rolled_back", "num_turns": 2})
    sessions, flaws = read(*turn("one"), *turn("two"), *turn("three"), back, *turn("four"))
    assert flaws == []
    assert [texts(one) for one in sessions] == [
        ["one", "to one", "four", "to four"],
        ["one", "to one", "two", "to two", "three", "to three"],
    ]


def test_turns_that_cannot_be_told_stay() -> None:
    back = line("event_msg", {"type": "thread_rolled_back", "num_turns": 1})
    (session,), flaws = read(turn("one")[0], back)
    assert (texts(session), [one.line for one in flaws]) == (["one"], [2])


@given(st.lists(message_objects(), max_size=6))
@tries(20, many=200)
def test_any_item_comes_back_as_it_was(items: list[dict[str, Any]]) -> None:
    (session,), flaws = read(line("session_meta", {"id": "k"}), *(line("response_item", one) for one in items))
    assert (session.key, flaws) == ("k", [])
    assert plain(session) == items
