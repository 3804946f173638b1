"""A batch: several changes, together, on condition, or not at all; and a call that is taken back."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import ConflictError, Message, Version
from session_manager.manager.cache.entry import Entry
from session_manager.model.batch import Batch, flattened
from session_manager.model.changes import Append, Clear, Edit, Remove, Replace, SetSummary, Truncate, Witness, fold
from session_manager.model.rebase import rebase, taken_back
from session_manager.model.session import ANY
from session_manager.model.view import View
from tests.support.small_sessions import AT, any_change, message, session_of, texts

OLD = session_of("a", "b", revision=3)


def add(*contents, **fields):
    return Append(at=AT, messages=tuple(map(message, contents)), **fields)


def batch(*changes, **fields):
    return Batch(at=AT, changes=changes, **fields)


def saved(session, *changes):
    return attrs.evolve(fold(session, changes), revision=session.revision + 1)


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({}, True),
        ({"ref": "new", "generation": "g", "expected": Version("g", 3)}, True),
        ({"ref": "known"}, False),
        ({"generation": "other"}, False),
        ({"expected": Version("g", 2)}, False),
        ({"expected": None}, False),
    ],
)
def test_a_batch_has_an_effect_if_its_conditions_hold(conditions, holds):
    session = attrs.evolve(OLD, refs=("known",))
    after = fold(session, [batch(add("c"), SetSummary(at=AT, text="s"), **conditions)])
    assert (after is not session) == holds
    assert texts(after) == (["a", "b", "c"] if holds else ["a", "b"])


def test_a_batch_that_expects_no_session_holds_for_a_new_one():
    assert texts(fold(session_of(), [batch(add("a"), expected=None)])) == ["a"]


def test_a_commit_has_the_changes_one_by_one_and_the_witness_at_the_last():
    witness = Witness()
    entry = Entry.of(OLD)
    for change in (add("c"), batch(Remove(at=AT, position=0), add("d"), witness=witness), add("e")):
        entry = entry.changed(change, keep=True)
    commit = entry.commit("token")
    assert [type(change) for change in commit.changes] == [Append, Remove, Append, Append]
    assert [change.witness for change in commit.changes] == [None, None, witness, None]
    assert texts(commit.session) == texts(fold(OLD, commit.changes)) == ["b", "c", "d", "e"]
    later = entry.writing(commit).changed(add("f"), keep=True)
    assert later.landed(commit).pending == View([add("f")])
    assert not entry.writing(commit).landed(commit).dirty


@st.composite
def pendings(draw, over):
    """Changes and batches that each have an effect, as a manager makes them."""
    state, made = over, []
    for _ in range(draw(st.integers(0, 5))):
        inner, session = [], state
        for _ in range(draw(st.integers(1, 3))):
            change = draw(any_change(session).filter(lambda one: getattr(one, "spare", None) is None))
            if (after := fold(session, [change])) is not session:
                inner, session = [*inner, change], after
        if inner:
            is_batch = draw(st.booleans())
            refs = st.none() | st.sampled_from("xyz")
            change = batch(*inner, ref=draw(refs), generation=state.generation) if is_batch else inner[0]
            after = fold(state, [change])
            if after is not state:
                made, state = [*made, change], after
    return made


@given(pendings(OLD))
def test_on_an_unchanged_state_a_batch_stays_as_it_is(pending):
    result = rebase(OLD, OLD, pending)
    assert result.pending == tuple(pending)
    assert result.session == fold(OLD, pending) == fold(OLD, flattened(tuple(pending)))


@given(st.data())
def test_what_is_shown_is_the_fold_of_what_is_left_of_batches(data):
    pending, theirs = data.draw(pendings(OLD)), data.draw(pendings(OLD))
    newer = saved(OLD, *theirs)
    try:
        result = rebase(OLD, newer, pending)
    except ConflictError:
        return
    assert result.session == fold(newer, result.pending) == fold(newer, flattened(result.pending))
    again = rebase(newer, newer, result.pending)
    assert again.pending == result.pending


def test_a_batch_is_made_whole_or_not_at_all():
    newer = saved(OLD, Append(at=AT, turn="r"))
    pending = [batch(SetSummary(at=AT, text="s"), Append(at=AT, turn="r", messages=(message("c"),)), ref="r"), add("d")]
    result = rebase(OLD, newer, pending)
    assert (texts(result.session), result.session.summary) == (["a", "b", "d"], "")
    cleared = saved(OLD, Clear(at=AT, generation="h"))
    result = rebase(OLD, cleared, [batch(SetSummary(at=AT, text="s"), add("c"), generation="g")])
    assert (texts(result.session), result.session.summary, result.pending) == ([], "", ())


def test_a_conflict_within_a_batch_is_a_conflict_of_the_batch():
    newer = saved(OLD, Edit(at=AT, position=0, message=message("theirs")))
    with pytest.raises(ConflictError):
        rebase(OLD, newer, [batch(SetSummary(at=AT, text="s"), Remove(at=AT, position=0))])


def test_a_batch_with_another_version_than_it_expects_is_dropped():
    """It raised for ever: after an outcome that nobody could tell, other calls' messages could not be saved any more."""
    newer = saved(OLD, add("theirs"))
    result = rebase(OLD, newer, [batch(add("mine"), expected=OLD.version), add("later")])
    assert texts(result.session) == ["a", "b", "theirs", "later"]
    assert rebase(OLD, OLD, [batch(add("mine"), expected=OLD.version)]).pending
    assert repr(ANY) == "ANY"


def test_a_batch_that_replaces_needs_what_it_replaces():
    """Two processes that answered one turn again wrote both answers."""
    newer = saved(OLD, Remove(at=AT, position=1))
    replacing = batch(Remove(at=AT, position=1), add("mine"), replaces=True)
    with pytest.raises(ConflictError):
        rebase(OLD, newer, [replacing])
    assert texts(rebase(OLD, saved(OLD, add("theirs")), [replacing]).session) == ["a", "theirs", "mine"]


@pytest.mark.parametrize("made", [Replace(at=AT, messages=(message("new"),)), Truncate(at=AT, start=2)])
def test_a_batch_spares_unsaved_messages_that_its_turn_did_not_see(made):
    """The turn saw *a* and *b*; another call has added *unseen*, unsaved, and another process *theirs*."""
    current = fold(OLD, [add("unseen")])
    (change,) = rebase(OLD, current, [made]).pending
    pending = [add("unseen"), batch(change)]
    left = ["new"] if isinstance(made, Replace) else []
    assert texts(fold(OLD, pending)) == ["unseen", *left]
    newer = saved(OLD, add("theirs", "too"))
    assert texts(rebase(OLD, newer, pending).session) == ["theirs", "too", "unseen", *left]


def test_a_batch_that_clears_drops_own_messages_of_a_gone_session():
    newer = saved(OLD, Clear(at=AT, generation="h"))
    clear = batch(Clear(at=AT, generation="mine"), Append(at=AT, turn="r"), ref="r")
    result = rebase(OLD, newer, [add("mine"), clear, add("after")])
    assert (texts(result.session), result.session.refs) == (["after"], ("r",))


# Taken back


def test_a_call_that_is_taken_back_leaves_the_others():
    witness = Witness()
    pending = [
        add("before"),
        batch(
            Edit(at=AT, position=0, message=message("a!")), Remove(at=AT, position=1), add("x", "y"), witness=witness
        ),
        Edit(at=AT, position=3, message=message("x!")),
        Remove(at=AT, position=4),
        Edit(at=AT, position=0, message=message("a!!")),
        add("after"),
        Edit(at=AT, position=5, message=message("after!")),
    ]
    result = taken_back(OLD, pending, witness)
    assert texts(result.session) == ["a!!", "b", "before", "after!"]
    assert [one.position for one in result.session.messages] == [0, 1, 2, 3]
    assert texts(fold(OLD, result.pending)) == texts(result.session)


@given(st.data())
def test_what_is_taken_back_never_conflicts_and_keeps_what_others_add(data):
    before = data.draw(pendings(OLD))
    state = fold(OLD, before)
    witness = Witness()
    mine = batch(add("mine"), SetSummary(at=AT, text="mine"), generation=state.generation, witness=witness)
    with_mine = fold(state, [mine])
    if with_mine is state:
        return
    later = [Append(at=AT, messages=(Message("user", "theirs", created_at=AT),)), *data.draw(pendings(with_mine))]
    kept, session = [], with_mine
    for change in later:
        if (after := fold(session, [change])) is not session:
            kept.append(change)
            session = after
    result = taken_back(OLD, [*before, mine, *kept], witness)
    assert result.session == fold(OLD, result.pending)
    assert "mine" not in texts(result.session)
    assert all(change.witness is not witness for change in result.pending)
    wiped = any(isinstance(one, Replace | Clear | Truncate | Remove | Edit) for one in flattened(tuple(kept)))
    assert wiped or "theirs" in texts(result.session)
