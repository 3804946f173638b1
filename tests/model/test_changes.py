"""The laws of `apply`."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from unittest import mock

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message
from session_manager.model import MAX_REFS
from session_manager.model.changes import (
    Append,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
    Witness,
    apply,
    digest,
    fold,
)
from tests.support.small_sessions import AT, any_change, message, positions, session_of, texts

LATER = AT + timedelta(hours=1)


@st.composite
def histories(draw):
    """A session, the changes that were made to it, and each state on the way."""
    states = [session_of("x", "y")]
    made = []
    for _ in range(draw(st.integers(0, 10))):
        made.append(draw(any_change(states[-1])))
        states.append(apply(states[-1], made[-1]))
    return made, states


@given(histories())
def test_positions_increase_and_are_never_used_twice(history):
    made, states = history
    given_to = {}
    for before, change, after in zip(states, made, states[1:], strict=False):
        assert positions(after) == sorted(set(positions(after)))
        assert all(position < after.end for position in positions(after))
        assert after.end >= before.end
        new = [one for one in after.messages if one.position >= before.end]
        assert all(one.position not in given_to for one in new)
        given_to.update((one.position, change) for one in new)
        assert after.start == (positions(after) or [after.end])[0]


@given(histories())
def test_nothing_but_the_change_itself_touches_revision_created_and_key(history):
    _, states = history
    for after in states:
        assert (after.key, after.created, after.revision) == ("k", AT, 0)


@given(histories())
def test_updated_never_goes_back_and_is_at_least_the_time_of_the_change(history):
    made, states = history
    for before, change, after in zip(states, made, states[1:], strict=False):
        if after is before:
            continue
        assert after.updated == max(before.updated, change.at)


@pytest.mark.parametrize(
    "change",
    [
        Append(at=AT - timedelta(hours=1), messages=(message("z"),)),
        Append(at=AT - timedelta(hours=1), turn="r"),
        SetSummary(at=AT - timedelta(hours=1), text="s"),
        Remove(at=AT - timedelta(hours=1), position=0),
    ],
)
def test_a_clock_that_was_set_back_does_not_set_updated_back(change):
    after = apply(session_of("x", "y"), change)
    assert after.updated == AT
    assert apply(after, attrs.evolve(change, at=LATER)).updated in (AT, LATER)


@given(histories())
def test_a_fold_of_two_parts_is_the_fold_of_the_whole(history):
    made, states = history
    half = len(made) // 2
    assert fold(fold(states[0], made[:half]), made[half:]) == states[-1]


@given(histories())
def test_earlier_pictures_stay_what_they_were(history):
    _, states = history
    copies = [list(state.messages) for state in states]
    fold(states[0], [Append(at=AT, messages=(message("later"),)), Truncate(at=AT, start=1)])
    assert [list(state.messages) for state in states] == copies


@given(histories())
def test_the_last_refs_are_remembered_in_order_each_once(history):
    _, states = history
    for after in states:
        assert len(after.refs) == len(set(after.refs))


def test_append_gives_the_next_positions_and_the_turn():
    after = apply(session_of("a"), Append(at=LATER, messages=(message("b"), message("c")), turn="tg:1"))
    assert positions(after) == [0, 1, 2]
    assert [one.turn for one in after.messages] == [None, "tg:1", "tg:1"]
    assert after.refs == ("tg:1",)
    assert after.updated == LATER


def test_an_answered_ref_adds_nothing():
    answered = apply(session_of("a"), Append(at=AT, turn="tg:1"))
    assert answered.refs == ("tg:1",)
    assert apply(answered, Append(at=AT, messages=(message(),), turn="tg:1")) is answered


def test_a_guard_of_another_generation_adds_nothing():
    session = session_of("a")
    assert apply(session, Append(at=AT, messages=(message(),), guard="other")) is session
    assert len(apply(session, Append(at=AT, messages=(message(),), guard="g")).messages) == 2


def test_256_refs_are_remembered():
    session = fold(session_of(), [Append(at=AT, turn=str(number)) for number in range(MAX_REFS + 10)])
    assert session.refs == tuple(str(number) for number in range(10, MAX_REFS + 10))


@pytest.mark.parametrize(
    "change",
    [
        Append(at=LATER),
        Truncate(at=LATER, start=0),
        Remove(at=LATER, position=7),
        Edit(at=LATER, position=7, message=message()),
        Edit(at=LATER, position=0, message=message("a")),
        SetSummary(at=LATER, text=""),
        UpdateMetadata(at=LATER, removed=("absent",)),
        Summarize(at=LATER, summary="s", start=0, stop=1, digest="not it"),
    ],
    ids=lambda change: type(change).__name__,
)
def test_a_change_without_effect_returns_the_very_same_session(change):
    session = session_of("a")
    assert apply(session, change) is session


def test_truncate_drops_what_is_before_a_position_and_spares_a_range():
    session = session_of(*"abcdef")
    assert texts(apply(session, Truncate(at=AT, start=4))) == ["e", "f"]
    assert texts(apply(session, Truncate(at=AT, start=4, spare=(1, 3)))) == ["b", "c", "e", "f"]
    assert texts(apply(session, Truncate(at=AT, start=9))) == []


def test_remove_leaves_a_hole_in_the_positions():
    after = apply(session_of(*"abc"), Remove(at=AT, position=1))
    assert positions(after) == [0, 2]
    assert positions(apply(after, Append(at=AT, messages=(message(),)))) == [0, 2, 3]


def test_edit_keeps_position_turn_and_ref_unless_the_message_has_one():
    session = apply(session_of(), Append(at=AT, messages=(message("a", ref="tg:7"),), turn="t"))
    edited = apply(session, Edit(at=AT, position=0, message=message("b"))).messages[0]
    assert (edited.content, edited.position, edited.turn, edited.ref) == ("b", 0, "t", "tg:7")
    assert apply(session, Edit(at=AT, position=0, message=message("b", ref="new"))).messages[0].ref == "new"


@pytest.mark.parametrize("change", [{"metadata": {"a": 1}}, {"ref": "other"}, {"created_at": LATER}], ids=str)
def test_an_edit_of_what_is_ours_alone_is_an_edit(change):
    session = apply(session_of(), Append(at=AT, messages=(message("a"),)))
    new = Message("user", "a", **{"created_at": AT, **change})
    assert apply(session, Edit(at=AT, position=0, message=new)) is not session


def test_replace_keeps_the_summary_and_never_uses_a_position_again():
    after = apply(session_of("a", "b", summary="s"), Replace(at=AT, messages=(message("c"),)))
    assert (texts(after), positions(after), after.summary) == (["c"], [2], "s")
    spared = apply(session_of("a", "b"), Replace(at=AT, messages=(message("c"),), spare=(1, 2)))
    assert (texts(spared), positions(spared)) == (["b", "c"], [1, 2])


def test_clear_is_a_new_generation_that_keeps_metadata_refs_and_the_counts():
    session = apply(session_of("a", summary="s", metadata={"m": 1}, revision=7), Append(at=AT, turn="t"))
    after = apply(session, Clear(at=LATER, generation="new"))
    assert (texts(after), after.summary, after.generation) == ([], "", "new")
    assert (after.metadata, after.refs, after.end, after.revision) == ({"m": 1}, ("t",), 1, 7)
    assert (after.created, after.updated) == (AT, LATER)


def test_fold_replaces_messages_by_their_summary_while_the_digest_holds():
    session = session_of(*"abc", summary="old")
    change = Summarize(at=AT, summary="new", start=0, stop=2, digest=digest(session, 0, 2))
    after = apply(session, change)
    assert (texts(after), after.summary) == (["c"], "new")
    for other in (
        apply(session, SetSummary(at=AT, text="other")),
        apply(session, Edit(at=AT, position=1, message=message("edited"))),
        apply(session, Remove(at=AT, position=0)),
        attrs.evolve(session, generation="other"),
    ):
        assert apply(other, change) is other
    assert texts(apply(apply(session, Append(at=AT, messages=(message("d"),))), change)) == ["c", "d"]


def test_a_fold_of_a_range_that_runs_backwards_has_no_effect():
    session = session_of(*"abcdef")
    assert apply(session, Summarize(at=AT, summary="s", start=5, stop=2, digest=digest(session, 5, 2))) is session


def test_the_digest_is_that_of_the_docstring():
    session = session_of("a", "\ud800é", summary="s")
    value = ["g", "s", [[0, {"content": "a", "role": "user"}], [1, {"content": "\ud800é", "role": "user"}]]]
    text = json.dumps(value, separators=(",", ":"))
    assert digest(session, 0, 2) == hashlib.sha256(text.encode("ascii")).hexdigest()


def test_metadata_is_merged_by_key_types_told_apart():
    session = session_of(metadata={"a": 1, "b": 2})
    after = apply(session, UpdateMetadata(at=AT, items={"a": True, "c": [1]}, removed=("b",)))
    assert after.metadata == {"a": True, "c": [1]}
    assert type(after.metadata["a"]) is bool
    with pytest.raises(TypeError):
        after.metadata["c"].append(2)
    assert after.metadata == {"a": True, "c": [1]}


def test_a_change_leaves_it_to_others_whether_they_equal_it():
    """It said that it equals nothing else, so that nothing that equals everything was asked."""
    change = SetSummary(at=AT, text="s")
    assert change == mock.ANY
    assert change != "s"


def test_an_append_that_is_made_quickly_is_the_constructors():
    """Each of its fields is set, also one that is added later."""
    given = {"at": AT, "messages": (Message("user", "hi"),), "turn": "ref", "guard": "g", "witness": Witness()}
    one, other = Append.made(**given, absent=frozenset("a")), Append(**given, absent=frozenset("a"))
    assert type(one) is Append
    assert [getattr(one, field.name) for field in attrs.fields(Append)] == [
        getattr(other, field.name) for field in attrs.fields(Append)
    ]
    assert Append.made(AT, ()) == Append(at=AT)
