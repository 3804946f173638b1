"""The recorded conversations of ``../shared/data``, when they are there, through a snapshot store and back."""

from __future__ import annotations

import json

import pytest

from session_manager import ContextTooSmallError, Message, SessionManager
from session_manager.history import problems
from session_manager.history.tokens import estimate_tokens
from tests.support.places import CHATS


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


def in_ram(messages):
    m = SessionManager()
    m.add("k", *messages)
    return m


def check_context(m, **bounds):
    context = [Message.from_dict(value) for value in m.get_context("k", **bounds)]
    assert problems(context) == []
    return context


def test_recorded_conversations_truncated_at_whole_turns_to_every_length(conversations, size):
    lengths, some = 0, conversations[:: size.of(4, 1, 1)]
    for conversation in some:
        said = [Message.from_dict(message) for message in conversation["messages"]]
        m = in_ram(said)
        for keep_last in range(len(said), -1, -1):
            before = m.get_history("k")
            m.truncate_history("k", keep_last, whole_turns=True)
            kept = m.get_history("k")
            assert problems(kept) == []
            assert len(kept) >= keep_last
            end = said[len(said) - len(kept) :]
            # Of a turn that is longer than that the question stays, and the end.
            assert kept == end or (kept[1:] == end[1:] and kept[0] == before[0] and kept[0].role == "user")
            assert kept in (said, []) or kept[0].role == "user"
            inner = kept[next((at for at, one in enumerate(kept) if at and one.role == "user"), len(kept)) :]
            assert len(inner) < keep_last or not keep_last or kept == before, "a turn more than it must"
            lengths += 1
        m.close()
    assert lengths == sum(len(one["messages"]) + 1 for one in some) > 500


def test_the_context_of_recorded_conversations_that_were_cut_anywhere(conversations, size):
    """A crash, or a plain truncation, at every position; and every bound on one of ten of them."""
    for number, conversation in enumerate(conversations[:: size.of(20, 1, 1)]):
        said = [Message.from_dict(message) for message in conversation["messages"]]
        for at in range(len(said) + 1):
            for part in (said[at:], said[:at]):
                m = in_ram(part)
                check_context(m)
                m.close()
        if number % 10:
            continue
        m = in_ram(said)
        m.set_summary("k", "They met.")
        least = 0
        for bound in range(len(said) + 1):
            try:
                context = check_context(m, max_messages=bound, system="Be brief.")
            except ContextTooSmallError as error:
                least = error.needed
                continue
            assert bound >= least
            assert [one.role for one in context if one.role == "system"] == ["system"]
            assert any(one.role == "user" for one in context)
            assert len(context) - 1 <= bound
            tail = context[2:]
            assert tail == said[len(said) - len(tail) :]
        for bound in range(1500, 9000, 1500):
            tail = check_context(m, max_tokens=bound)[1:]
            assert sum(map(estimate_tokens, tail)) <= bound
        m.close()
