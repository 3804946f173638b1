"""What is sent to a model: the prompt, the summary, the end of the history, valid and within bounds."""

from __future__ import annotations

import pytest

from session_manager import ContextTooSmallError, Message, SessionManager
from session_manager.history import problems
from session_manager.history.context import SUMMARY_PREFACE
from session_manager.manager.edits import truncating
from session_manager.model import utc_now

KEY = "telegram:42"
CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}


@pytest.fixture
def m():
    with SessionManager() as one:
        yield one


def talk(m, *numbers):
    for number in numbers:
        m.add_message(KEY, "user", f"u{number}")
        m.add_message(KEY, "assistant", f"a{number}")


def said(context):
    return [(one["role"], one["content"]) for one in context]


def test_without_a_session_it_is_the_prompt_alone(m):
    assert m.get_context(KEY) == []
    assert m.get_context(KEY, system="Be brief.") == [{"role": "system", "content": "Be brief."}]
    assert KEY not in m


def test_prompt_leading_system_messages_summary_history_in_this_order(m):
    m.add_message(KEY, "system", "stored")
    m.add_message(KEY, "developer", "stored, too")
    talk(m, 1)
    m.set_summary(KEY, "They met.")
    assert said(m.get_context(KEY, system="Be brief.")) == [
        ("system", "Be brief.\n\nstored\n\nstored, too\n\n" + SUMMARY_PREFACE + "They met."),
        ("user", "u1"),
        ("assistant", "a1"),
    ]


def test_the_summarys_role_can_be_chosen_and_the_prompt_be_a_message(m):
    talk(m, 1)
    m.set_summary(KEY, "s")
    context = m.get_context(KEY, summary_role="user", system={"role": "developer", "content": "x"})
    assert said(context)[:2] == [("developer", "x"), ("user", SUMMARY_PREFACE + "s")]
    assert said(m.get_context(KEY, system=Message("system", "y")))[0] == ("system", f"y\n\n{SUMMARY_PREFACE}s")


def test_bounds_count_the_end_of_the_history_only(m):
    m.add_message(KEY, "system", "stored")
    talk(m, 1, 2, 3)
    m.set_summary(KEY, "s")
    for bound, left in [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (6, 6), (100, 6)]:
        for bounds in ({"max_messages": bound}, {"max_tokens": bound, "count": lambda one: 1}):
            if not left:
                with pytest.raises(
                    ContextTooSmallError, match=f"={bound} is too small for the last turn, which needs 2"
                ):
                    m.get_context(KEY, system="p", **bounds)
                continue
            context = m.get_context(KEY, system="p", **bounds)
            assert len(context) == 1 + left
            assert said(context)[1] == ("user", f"u{4 - left // 2}")


def test_both_bounds_hold(m):
    talk(m, 1, 2, 3)
    assert len(m.get_context(KEY, max_messages=4, max_tokens=2, count=lambda one: 1)) == 2
    assert len(m.get_context(KEY, max_messages=2, max_tokens=4, count=lambda one: 1)) == 2


@pytest.mark.parametrize("bound", [-1, 1.5, True, "3"])
def test_a_bound_that_is_none_is_refused(m, bound):
    with pytest.raises((TypeError, ValueError)):
        m.get_context(KEY, max_messages=bound)
    with pytest.raises((TypeError, ValueError)):
        m.get_context(KEY, max_tokens=bound)


def test_it_is_valid_whatever_is_stored_and_what_is_stored_stays(m):
    m.add(KEY, {"role": "user", "content": "time?"}, {"role": "assistant", "content": None, "tool_calls": [CALL]})
    context = m.get_context(KEY)
    assert [one["role"] for one in context] == ["user", "assistant", "tool"]
    assert problems([Message.from_dict(one) for one in context]) == []
    assert len(m.get_history(KEY)) == 2
    m.add(KEY, {"role": "tool", "content": "12:00", "tool_call_id": "c1"})
    m.truncate_history(KEY, 1)
    assert m.get_context(KEY) == []
    assert len(m.get_history(KEY)) == 1


def test_they_are_fresh_dicts(m):
    m.add(KEY, {"role": "user", "content": [{"type": "text", "text": "a"}]})
    m.get_context(KEY)[0]["content"][0]["text"] = "changed"
    assert m.get_context(KEY)[0]["content"][0]["text"] == "a"


def test_a_turn_sees_the_session_and_its_own_messages(m):
    talk(m, 1)
    with m.turn(KEY) as turn:
        turn.add_message("user", "u2")
        assert [one["content"] for one in turn.get_context(system="p")] == ["p", "u1", "a1", "u2"]
        assert [one["content"] for one in turn.get_context(max_messages=1)] == ["u2"]
        assert [one["content"] for one in m.get_context(KEY)] == ["u1", "a1"]
    assert [one["content"] for one in m.get_context(KEY)] == ["u1", "a1", "u2"]


def test_a_cut_is_found_anew_for_another_history_of_the_same_length():
    """A call looks twice, first without the lock: what changed in between may have moved the turns."""
    with SessionManager() as one, SessionManager() as other:
        one.add(KEY, *[Message(role, role) for role in ("user", "assistant", "user", "assistant")])
        other.add(KEY, *[Message(role, role) for role in ("user", "assistant", "assistant", "user")])
        make = truncating(utc_now(), 1, whole_turns=True)
        assert [make(m.get(KEY)).start for m in (one, other, one)] == [2, 3, 2]


def test_truncation_at_whole_turns(m):
    talk(m, 1)
    m.add(
        KEY,
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "12:00", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Noon."},
    )
    assert m.truncate_history(KEY, 2, whole_turns=True) == 2
    assert len(m.get_history(KEY)) == 4
    assert m.truncate_history(KEY, 2, whole_turns=True) == 0
    assert m.truncate_history(KEY, 2) == 2
    assert [message.role for message in m.get_history(KEY)] == ["tool", "assistant"]
    assert m.truncate_history(KEY, 0, whole_turns=True) == 2
