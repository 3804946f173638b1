"""Every shape under every rules: cut anywhere, repaired, cut to every bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import ContextTooSmallError, Message
from session_manager.history import (
    fit,
    problems,
    repair,
    safe_start,
    turns,
)
from session_manager.history.pairing import is_users
from tests.support.histories import damaged
from tests.support.laws import examples
from tests.support.ruled import RULES, check, same_objects
from tests.support.shapes import SHAPES, in_shape, neutral_conversations

each_rules = pytest.mark.parametrize("rules", RULES, ids=lambda rules: rules.name)
each_shape = pytest.mark.parametrize("shape", sorted(SHAPES))


def messages_of(objects):
    return [Message.from_dict(one)._placed(number, None) for number, one in enumerate(objects)]


@each_shape
def test_a_valid_conversation_stays_as_it_is(shape):
    @given(neutral_conversations())
    @examples(7)
    def stays(steps):
        history = messages_of(in_shape(shape, steps))
        assert problems(history) == []
        assert same_objects(repair(history), history)

    stays()


@each_rules
@each_shape
def test_every_cut_is_repaired(shape, rules):
    @given(neutral_conversations(), st.data())
    @examples(3)
    def repaired(steps, data):
        history = messages_of(in_shape(shape, steps))
        start = data.draw(st.integers(0, len(history)))
        stop = data.draw(st.integers(start, len(history)))
        check(history[start:stop], rules)
        gone = data.draw(st.integers(0, len(history)))
        check(history[:gone] + history[gone + 1 :], rules)
        moved = history[:start] + history[start + 1 :]
        check([*moved[:gone], *history[start : start + 1], *moved[gone:]], rules)

    repaired()


@each_rules
@examples(12)
@given(damaged())
def test_damage_is_repaired_under_every_rules(rules, objects):
    check(messages_of(objects), rules)


@each_rules
@each_shape
def test_every_bound_is_kept_and_the_question_is_there(shape, rules):
    @given(neutral_conversations(), st.integers(0, 12))
    @examples(3)
    def fits(steps, bound):
        history = messages_of(in_shape(shape, steps))
        try:
            kept = fit(history, bound, lambda message: 1, rules)
        except ContextTooSmallError:
            return
        assert len(kept) <= bound
        assert problems(kept, rules) == []
        assert any(map(is_users, kept)) or not any(map(is_users, history))
        start = safe_start(history, bound, rules)
        assert start == len(history) or len(history) - start >= min(bound, len(history))
        assert [one for turn in turns(history, rules) for one in turn] == history

    fits()
