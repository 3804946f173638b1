"""The recorded conversations of ``../shared/data``, when they are there, through a snapshot store and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from session_manager import SessionManager

CHATS = Path(__file__).parent.parent.parent / "shared" / "data" / "airline_chats.jsonl"


@pytest.fixture(scope="module")
def conversations():
    if not CHATS.exists():
        pytest.skip("../shared/data/airline_chats.jsonl is not here")
    return [json.loads(line) for line in CHATS.read_text().splitlines()]


def test_every_recorded_conversation_comes_back_exactly(conversations, tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        for conversation in conversations:
            m.add(conversation["key"], *conversation["messages"])
    with SessionManager(tmp_path / "chats") as m:
        assert list(m) == sorted(conversation["key"] for conversation in conversations)
        for conversation in conversations:
            history = [message.to_dict() for message in m.get_history(conversation["key"])]
            assert json.dumps(history) == json.dumps(conversation["messages"])
        assert sum(info.count for info in m.list_sessions()) == 2526
        assert m.verify() == []
