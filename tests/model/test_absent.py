"""`Append.absent`: a message is added only if no other one has its ref, wherever the change is applied or rebased."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message
from session_manager.codec.changes import encode_changes
from session_manager.manager.cache.entry import Entry
from session_manager.model.changes import Append, Edit, Remove, Truncate, apply, fold, settled
from session_manager.model.rebase import rebase
from tests.support.small_sessions import AT, session_of, texts

refs = st.lists(st.sampled_from("abcdef"), unique=True, max_size=4)


def said(ref, text=None):
    return Message("user", text or ref, created_at=AT, ref=ref)


def add(*names, plain=(), **fields):
    messages = (*map(said, names), *(Message("user", text, created_at=AT) for text in plain))
    return Append(at=AT, messages=messages, absent=frozenset(names), **fields)


def refs_in(session):
    return [one.ref for one in session.messages]


BLANK = session_of(revision=1)


@given(refs, refs)
def test_apply_adds_what_is_not_there_and_nothing_twice(there, names):
    before = fold(BLANK, [Append(at=AT, messages=tuple(map(said, there)))])
    after = apply(before, add(*names))
    assert refs_in(after) == [*there, *(name for name in names if name not in there)]
    assert apply(after, add(*names)) is after
    assert (after is before) is set(names).issubset(there)


def test_a_turn_whose_messages_are_all_there_is_answered_all_the_same():
    before = apply(BLANK, add("a"))
    after = apply(before, add("a", turn="update-1"))
    assert (refs_in(after), after.refs) == (["a"], ("update-1",))


@given(st.lists(refs, max_size=3), st.lists(refs, max_size=3), refs)
def test_of_two_writers_each_ref_is_there_once(mine, others, archived):
    """Also one that is in the archive, which nobody sees in the history."""
    made, state = [], BLANK
    for names in mine:
        left = [name for name in names if name not in refs_in(state)]
        if left:
            made.append(add(*left))
            state = apply(state, made[-1])
    newer = attrs.evolve(fold(BLANK, [add(*names) for names in others]), revision=2)
    result = rebase(BLANK, newer, made, frozenset(archived))
    assert len(refs_in(result.session)) == len(set(refs_in(result.session)))
    assert set(refs_in(result.session)) == {*refs_in(newer), *(set(refs_in(state)) - {*archived})}
    assert result.session == fold(newer, settled(result.pending))
    assert all(apply(newer, one) is not newer for one in result.pending[:1])


@given(refs, st.lists(refs, max_size=2), refs, st.data())
def test_whatever_each_side_has_the_positions_of_own_messages_are_right(seen, others, names, data):
    """What was seen may have refs that are gone now, and the other way round. Each later edit hits its message, or nothing."""
    old = attrs.evolve(fold(BLANK, [Append(at=AT, messages=tuple(map(said, seen)))]), revision=1)
    gone = [Remove(at=AT, position=number) for number in range(len(seen)) if data.draw(st.booleans())]
    newer = attrs.evolve(fold(old, [*gone, *(add(*some) for some in others)]), revision=2)
    made = [add(*names)]
    end = fold(old, made).end
    made += [Edit(at=AT, position=number, message=said(None, f"edit {number}")) for number in range(old.end, end)]
    result = rebase(old, newer, made)
    there = [one.ref for one in newer.messages]
    assert refs_in(result.session) == [*there, *(name for name in names if name not in there)]
    mine = {one.ref: one.content for one in result.session.messages if one.content.startswith("edit")}
    added = [one.ref for one in fold(old, made[:1]).messages if one.position >= old.end]
    assert mine == {ref: f"edit {old.end + number}" for number, ref in enumerate(added) if ref not in there}


def test_later_changes_of_a_message_that_stays_follow_it():
    """The one before it went, so that it is one place nearer to the beginning than it was."""
    made = [add("a", "b", plain=["c"]), Edit(at=AT, position=1, message=said("b", "edited")), Remove(at=AT, position=2)]
    newer = attrs.evolve(fold(BLANK, [add("x", "a")]), revision=2)
    result = rebase(BLANK, newer, made)
    assert texts(result.session) == ["x", "a", "edited"]


def test_later_changes_of_a_message_that_goes_are_dropped():
    made = [add("a"), Edit(at=AT, position=0, message=said("a", "edited"))]
    newer = attrs.evolve(fold(BLANK, [Append(at=AT, messages=(said("a", "others"),))]), revision=2)
    result = rebase(BLANK, newer, made)
    assert (texts(result.session), result.pending) == (["others"], ())


def test_after_a_truncation_elsewhere_the_archive_decides():
    newer = attrs.evolve(fold(BLANK, [add("a"), Truncate(at=AT, start=1)]), revision=2)
    assert refs_in(rebase(BLANK, newer, [add("a")]).session) == ["a"]
    assert rebase(BLANK, newer, [add("a")], frozenset("a")).pending == ()


def test_a_picture_that_is_at_hand_saves_the_walk():
    before = apply(BLANK, add("a"))
    lie = add("a", seen=before)
    assert refs_in(apply(before, lie)) == ["a", "a"]
    assert apply(before, attrs.evolve(lie, seen=BLANK)) is before


def test_stores_get_a_plain_append_and_files_the_same_bytes():
    change, plain = add("a", "b"), Append(at=AT, messages=(said("a"), said("b")))
    (written,) = Entry.of(BLANK).changed(change, keep=True).commit("token").changes
    assert (written.absent, written.seen) == (frozenset(), None)
    assert encode_changes([change]) == encode_changes([written]) == encode_changes([plain])
