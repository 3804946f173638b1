"""ChatGPT's export: the current branch is the session, the others are sessions of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from session_manager import Item
from session_manager.importers.reading import ImportedSession
from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries

EXAMPLE = next(one for one in examples() if one.format == "chatgpt")


def message(role: str, *parts: Any, **fields: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": list(parts)}
    return {"author": {"role": role}, "content": content, "weight": 1, "metadata": {}, "recipient": "all", **fields}


def read(nodes: Mapping[str, tuple[str | None, Any]], current: str | None = None) -> list[ImportedSession]:
    """Return the sessions in a conversation.

    :param nodes: the parent and the message of each node.
    """
    mapping = {
        name: {"id": name, "parent": parent, "message": one, "children": []} for name, (parent, one) in nodes.items()
    }
    value = {"title": "t", "create_time": 5.0, "mapping": mapping, "current_node": current, "id": "k"}
    sessions, flaws = read_all("chatgpt", "conversations.json", json.dumps([value]).encode())
    assert flaws == []
    return sessions


def contents(session: ImportedSession) -> list[Any]:
    return [one["content"] for one in plain(session) if "role" in one]


def test_the_current_branch_is_the_session() -> None:
    sessions, flaws = read_all("chatgpt", EXAMPLE.name, EXAMPLE.data)
    assert (flaws, [one.key for one in sessions]) == ([], ["6774-abcd", "6774-abcd:a1", "old-1"])
    current, other, _ = sessions
    assert current.metadata == {"title": "Time", "gizmo_id": "g-1", "is_archived": False, "default_model_slug": "o3"}
    assert current.created == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc)
    assert current.updated == datetime(2026, 1, 2, 3, 4, 20, 500000, tzinfo=timezone.utc)
    said = [one for one in current.messages if not isinstance(one, Item)]
    assert [one.role for one in said] == ["user", "assistant", "tool", "assistant"]
    assert said[1].tool_calls[0]["function"] == {"name": "python", "arguments": '{"input":"print(12)"}'}
    assert (said[2].tool_call_id, said[2].content) == (said[1].tool_calls[0]["id"], "12")
    assert said[3].content == [{"type": "text", "text": "Noon."}, {"type": "text", "text": "Or midnight."}]
    assert said[3].metadata["model_slug"] == "o3"
    assert said[0].created_at == datetime(2026, 1, 2, 3, 4, 6, tzinfo=timezone.utc)
    assert contents(other)[-1] == "I do not know."
    assert (other.metadata["branch_of"], other.metadata["branch"]) == ("6774-abcd", "a1")


def test_what_the_model_did_not_say_or_see_is_an_item() -> None:
    sessions, _ = read_all("chatgpt", EXAMPLE.name, EXAMPLE.data)
    items = [one.to_dict() for one in sessions[0].messages if isinstance(one, Item)]
    kinds = [one["content"]["content_type"] for one in items]
    assert kinds == ["user_editable_context", "thoughts", "execution_output"]


def test_an_image_is_told_of() -> None:
    sessions, _ = read_all("chatgpt", EXAMPLE.name, EXAMPLE.data)
    image = next(one for one in sessions[0].messages if one.role == "user")
    assert image.content[0] == {"type": "text", "text": "[image_asset_pointer: file-service://file-abc]"}
    assert (image.metadata["parts"][0]["size_bytes"], image.metadata["attachments"][0]["name"]) == (10, "clock.png")


def test_a_call_that_no_tool_answered_stays_text() -> None:
    sessions, _ = read_all("chatgpt", EXAMPLE.name, EXAMPLE.data)
    assert plain(sessions[2])[-1] == {"role": "assistant", "content": 'search("x")'}
    assert sessions[2].messages[-1].metadata["recipient"] == "browser"


def test_parents_in_a_circle_or_missing_lose_nothing() -> None:
    nodes = {
        "a": ("b", message("user", "a")),
        "b": ("a", message("assistant", "b")),
        "c": ("gone", message("user", "c")),
    }
    assert sorted(text for one in read(nodes) for text in set(contents(one))) == ["a", "b", "c"]


def test_a_leaf_that_says_nothing_is_no_branch() -> None:
    nodes = {
        "a": (None, message("user", "a")),
        "b": ("a", message("assistant", "b")),
        "c": ("a", message("assistant", "")),
        "d": ("a", message("assistant", "d", weight=0)),
    }
    assert [one.key for one in read(nodes, "b")] == ["k"]


@given(st.lists(st.tuples(st.integers(0, 100), st.text(min_size=1)), min_size=1, max_size=12))
@tries(20, many=200)
def test_every_message_of_any_tree_is_in_a_session(tree: list[tuple[int, str]]) -> None:
    """Each node hangs under one before it; each way from the root to a leaf is a session, and no other."""
    nodes: dict[str, tuple[str | None, Any]] = {}
    for index, (parent, text) in enumerate(tree):
        nodes[f"n{index}"] = (f"n{parent % index}" if index else None, message("user", f"{index} {text}"))
    leaves = nodes.keys() - {parent for parent, _ in nodes.values()}
    sessions = read(nodes, max(leaves, key=lambda name: int(name[1:])))
    assert len(sessions) == len(leaves)
    assert {text for one in sessions for text in contents(one)} == {
        f"{index} {text}" for index, (_, text) in enumerate(tree)
    }
    for session in sessions:
        numbers = [int(one.metadata["id"][1:]) for one in session.messages]
        assert all(nodes[f"n{after}"][0] == f"n{before}" for before, after in pairwise(numbers))


def test_a_damaged_node_costs_itself_alone() -> None:
    value = {
        "title": "t",
        "create_time": "x",
        "conversation_id": "k",
        "mapping": {
            "a": {"parent": None, "message": message("user", "a")},
            "b": {"parent": "a", "message": {"author": 5}},
            "c": {"parent": "b", "message": message("user", "c", create_time="x")},
            "d": 7,
        },
        "current_node": "c",
    }
    sessions, flaws = read_all("chatgpt", "conversations.json", json.dumps(value).encode())
    assert contents(sessions[0]) == ["a", "c"]
    assert [one.reason for one in flaws] == [
        "create_time: is not a number of seconds",
        "mapping.b.message.author: must be an object, not int",
        "mapping.d: is no object",
        "create_time: is not a number of seconds",
    ]
    assert {one.key for one in flaws} == {"k"}
