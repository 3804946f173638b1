"""Turns counted from the end, and found by their ref."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message
from session_manager.history.last_turns import last_turns, turn_of
from session_manager.history.pairing import turn_starts


def said(*parts):
    """Return messages of (role, turn, ref) triples, or of roles."""
    placed = []
    for position, part in enumerate(parts):
        role, turn, ref = part if isinstance(part, tuple) else (part, None, None)
        placed.append(Message(role, str(position), ref=ref)._placed(position, turn))
    return placed


@pytest.mark.parametrize(
    ("parts", "count", "start"),
    [
        ([], 1, 0),
        (["system", "assistant"], 1, 2),
        (["system", "user", "assistant"], 1, 1),
        (["system", "user", "assistant"], 5, 1),
        (["user", "assistant", "user", "assistant"], 1, 2),
        (["user", "assistant", "user", "assistant"], 2, 0),
        ([("user", "a", None), ("user", "a", None), ("assistant", "a", None)], 1, 0),
        ([("user", "a", None), ("user", "b", None), ("assistant", "b", None)], 1, 1),
    ],
)
def test_the_last_turns_start_where_their_first_message_is(parts, count, start):
    assert last_turns(said(*parts), count) == start


@given(st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=300), st.integers(1, 5))
def test_however_long_a_history_is_its_end_tells_the_same(roles, count):
    messages = said(*roles)
    starts = turn_starts(messages)
    assert last_turns(messages, count) == (starts[-count:][0] if starts else len(messages))


def test_a_turn_is_found_by_its_ref_or_by_that_of_a_message():
    messages = said(
        "user", ("user", "a", "m1"), ("user", "a", "m2"), ("assistant", "a", None), "user", ("assistant", None, "m3")
    )
    assert [turn_of(messages, ref) for ref in ("a", "m1", "m2", "m3", "no")] == [1, 1, 1, 4, None]
    assert turn_of(said(("system", None, "s")), "s") == 0
