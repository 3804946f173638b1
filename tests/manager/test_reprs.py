"""What the reprs of turns, descriptions and hits show: enough to debug with, on one line, and no message text."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from session_manager import AsyncSessionManager, CorruptSessionError, SessionInfo, SessionManager

KEY = "telegram:1"
AT = datetime(2026, 1, 1, 12, 30, tzinfo=timezone.utc)


def test_a_turn_says_how_far_it_is():
    with SessionManager() as m:
        turn = m.turn(KEY, "tg:1")
        assert repr(turn) == "<Turn of 'telegram:1' with a ref: not entered, 0 messages>"
        with turn:
            turn.add_message("user", "secret")
            assert repr(turn) == "<Turn of 'telegram:1' with a ref: open, 1 messages>"
        assert repr(turn) == "<Turn of 'telegram:1' with a ref: applied, 1 messages>"
        with m.turn(KEY, "tg:1") as again:
            assert repr(again) == "<Turn of 'telegram:1' with a ref: done, 1 messages>"
        with m.turn(KEY) as empty:
            pass
        assert repr(empty) == "<Turn of 'telegram:1': not applied, 0 messages>"


@pytest.mark.anyio
async def test_an_async_turn_does_so_too():
    async with AsyncSessionManager() as m:
        turn = m.turn(KEY, "tg:1")
        assert repr(turn) == "<AsyncTurn of 'telegram:1' with a ref: not entered, 0 messages>"
        async with turn:
            turn.add_message("user", "secret")
            assert repr(turn) == "<AsyncTurn of 'telegram:1' with a ref: open, 1 messages>"
        assert repr(turn) == "<AsyncTurn of 'telegram:1' with a ref: applied, 1 messages>"


def test_a_description_is_one_short_line():
    with SessionManager(clock=lambda: AT) as m:
        m.get_or_create("empty")
        m.add_message(KEY, "user", "secret", metadata={"a": 1})
        m.add_message("x" * 1000, "user", "secret")
        shown = {info.key: repr(info) for info in m.list_sessions()}
    assert shown[KEY] == "<SessionInfo 'telegram:1': 1 messages, the last at 2026-01-01T12:30:00Z>"
    assert shown["empty"] == "<SessionInfo 'empty': 0 messages>"
    assert all(len(one) < 160 for one in shown.values())
    damaged = SessionInfo(key=KEY, error=CorruptSessionError(KEY, "/srv/chats/k", 5, "torn"))
    assert repr(damaged) == "<SessionInfo 'telegram:1': CorruptSessionError>"


def test_a_hit_shows_no_unknown_role():
    with SessionManager() as m:
        m.add(KEY, {"role": "hello there", "content": "find me"}, {"role": "user", "content": "find me"})
        hits = {hit.role: repr(hit) for hit in m.search("find")}
    assert "role=of another role" in hits["hello there"]
    assert "hello" not in hits["hello there"]
    assert "role='user'" in hits["user"]
