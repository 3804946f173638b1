"""The laws of `rebase`, one by one. How they hold together is walked at random in test_walks."""

from __future__ import annotations

import itertools
from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import ConflictError, Message
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
    digest,
    fold,
)
from session_manager.model.rebase import rebase
from tests.support.small_sessions import AT, any_change, message, positions, session_of, texts


def add(*contents, **fields):
    return Append(at=AT, messages=tuple(map(message, contents)), **fields)


def saved(session, *changes, **fields):
    return attrs.evolve(fold(session, changes), revision=session.revision + 1, **fields)


@st.composite
def pendings(draw, over):
    """Changes that each have an effect and spare nothing yet, as a manager makes them."""
    state, made = over, []
    for _ in range(draw(st.integers(0, 6))):
        change = draw(any_change(state).filter(lambda change: getattr(change, "spare", None) is None))
        after = fold(state, [change])
        if after is not state:
            made.append(change)
            state = after
    return made


OLD = session_of("a", "b", revision=3)


@given(pendings(OLD))
def test_on_an_unchanged_state_it_is_the_identity(pending):
    result = rebase(OLD, OLD, pending)
    assert result.pending == tuple(pending)
    assert result.session == fold(OLD, pending)


def bases():
    """A state that both have seen, and one that was created twice."""
    return st.sampled_from([OLD, session_of()])


@given(bases().flatmap(lambda old: st.tuples(st.just(old), pendings(old), pendings(old))))
def test_what_is_shown_is_the_fold_of_what_is_left(case):
    old, mine, theirs = case
    newer = saved(old, *theirs)
    try:
        result = rebase(old, newer, mine)
    except ConflictError:
        return
    assert result.durable == newer
    assert result.session == fold(newer, result.pending)
    assert positions(result.session) == sorted(set(positions(result.session)))
    again = rebase(newer, newer, result.pending)
    assert (again.session, again.pending) == (result.session, result.pending)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=12), st.data())
def test_the_appends_of_several_writers_all_survive_in_each_writers_order(appends, data):
    durable = OLD
    writers = {who: (OLD, []) for who in range(3)}
    added = {who: [] for who in range(3)}
    for number, (who, count) in enumerate(appends):
        mine = [f"{who}.{number}.{one}" for one in range(count)]
        added[who] += mine
        seen, pending = writers[who]
        pending = [*pending, add(*mine)]
        if data.draw(st.booleans()):
            durable = saved(rebase(seen, durable, pending).session)
            seen, pending = durable, []
        writers[who] = (seen, pending)
    for seen, pending in writers.values():
        durable = saved(rebase(seen, durable, pending).session)
    final = texts(durable)
    assert sorted(final) == sorted(["a", "b", *itertools.chain(*added.values())])
    for mine in added.values():
        assert [text for text in final if text in mine] == mine


@given(pendings(OLD), st.lists(st.text("xyz", min_size=1, max_size=1), min_size=1, max_size=3))
def test_nobody_drops_what_they_did_not_see(pending, unseen):
    newer = saved(OLD, add(*unseen))
    result = rebase(OLD, newer, pending)
    assert [one.content for one in result.session.messages if 2 <= one.position < newer.end] == unseen


def test_replace_clear_and_truncate_spare_what_was_not_seen():
    newer = saved(OLD, add("theirs"))
    assert texts(rebase(OLD, newer, [Replace(at=AT, messages=(message("mine"),))]).session) == ["theirs", "mine"]
    assert texts(rebase(OLD, newer, [Clear(at=AT, generation="new")]).session) == ["theirs"]
    assert texts(rebase(OLD, newer, [Truncate(at=AT, start=2)]).session) == ["theirs"]
    pending = [add("own 1", "own 2"), Truncate(at=AT, start=3)]
    assert texts(rebase(OLD, newer, pending).session) == ["theirs", "own 2"]


def test_an_earlier_lower_bound_of_a_spare_stays():
    first = rebase(OLD, saved(OLD, add("one")), [Clear(at=AT, generation="new")])
    second = rebase(first.durable, saved(first.durable, add("two")), first.pending)
    assert texts(second.session) == ["one", "two"]
    assert second.pending[0].spare == (2, 4)


def test_edit_and_remove_follow_an_own_message():
    newer = saved(OLD, add("theirs"))
    pending = [add("x", "y"), Edit(at=AT, position=2, message=message("x2")), Remove(at=AT, position=3)]
    assert texts(rebase(OLD, newer, pending).session) == ["a", "b", "theirs", "x2"]


EDIT, REMOVE = Edit(at=AT, position=1, message=message("mine")), Remove(at=AT, position=1)
THEIR_EDIT = Edit(at=AT, position=1, message=message("theirs"))


@pytest.mark.parametrize(("change", "theirs"), [(EDIT, THEIR_EDIT), (EDIT, REMOVE), (REMOVE, THEIR_EDIT)])
def test_the_same_message_changed_by_two_is_a_conflict(change, theirs):
    newer = saved(OLD, theirs)
    with pytest.raises(ConflictError) as raised:
        rebase(OLD, newer, [change])
    assert (raised.value.expected, raised.value.actual) == (OLD.version, newer.version)
    assert "position 1" in str(raised.value)


def test_a_remove_of_a_message_that_is_gone_has_no_effect():
    """Two processes that had removed the same message: one of them could not save the session until `reload`."""
    newer = saved(OLD, REMOVE)
    result = rebase(OLD, newer, [REMOVE, add("mine")])
    assert texts(result.session) == ["a", "mine"]
    assert result.pending == (add("mine"),)


@pytest.mark.parametrize("kind", ["metadata", "created_at", "ref"])
@pytest.mark.parametrize("change", [REMOVE, EDIT])
def test_a_note_or_time_changed_by_another_writer_is_a_conflict(kind, change):
    """Only the object was compared: what another writer had noted on the message was overwritten in silence."""
    theirs = {"metadata": {"seen": True}, "ref": "tg:1", "created_at": AT + timedelta(hours=1)}[kind]
    edited = Message("user", "b", **{"created_at": AT, kind: theirs})
    newer = saved(OLD, Edit(at=AT, position=1, message=edited))
    with pytest.raises(ConflictError):
        rebase(OLD, newer, [change])


@pytest.mark.parametrize("later", [Replace(at=AT, messages=(message("new"),)), Clear(at=AT, generation="new")])
def test_a_later_replace_or_clear_makes_a_conflict_moot(later):
    newer = saved(OLD, Remove(at=AT, position=1))
    assert rebase(OLD, newer, [Edit(at=AT, position=1, message=message("mine")), later]).pending[0].at == AT


def test_a_message_that_is_lost_stays_lost():
    """An edit that happened to make the other writer's text let the next one change the message that was theirs."""
    mine = [Edit(at=AT, position=1, message=message(text)) for text in ("theirs", "mine")]
    newer = saved(OLD, Edit(at=AT, position=1, message=message("theirs")), SetSummary(at=AT, text="s"))
    assert [type(one) for one in rebase(OLD, newer, [*mine, Clear(at=AT, generation="new")]).pending] == [Clear]


def test_an_answered_ref_is_dropped_and_what_names_its_messages_with_it():
    newer = saved(OLD, add("their answer", turn="tg:1"))
    pending = [add("my answer", turn="tg:1"), Edit(at=AT, position=2, message=message("edited")), add("next")]
    result = rebase(OLD, newer, pending)
    assert texts(result.session) == ["a", "b", "their answer", "next"]
    assert len(result.pending) == 1


def test_the_last_writers_summary_wins_and_metadata_is_merged():
    newer = saved(OLD, SetSummary(at=AT, text="theirs"), UpdateMetadata(at=AT, items={"t": 1}))
    result = rebase(OLD, newer, [SetSummary(at=AT, text="mine"), UpdateMetadata(at=AT, items={"m": 2})])
    assert result.session.summary == "mine"
    assert result.session.metadata == {"t": 1, "m": 2}


def test_a_fold_stays_while_its_digest_holds():
    change = Summarize(at=AT, summary="s", start=0, stop=1, digest=digest(OLD, 0, 1))
    assert rebase(OLD, saved(OLD, add("theirs")), [change]).session.summary == "s"
    assert rebase(OLD, saved(OLD, SetSummary(at=AT, text="theirs")), [change]).pending == ()


GONE = session_of("new life", generation="other", revision=1)


@pytest.mark.parametrize("newer", [GONE, session_of(generation="blank")], ids=["created again", "deleted"])
def test_of_a_session_that_is_gone_only_new_messages_are_left(newer):
    pending = [
        add("one", "two"),
        SetSummary(at=AT, text="mine"),
        UpdateMetadata(at=AT, items={"m": 2}),
        Edit(at=AT, position=0, message=message("an old one")),
        Edit(at=AT, position=2, message=message("one, edited")),
        Truncate(at=AT, start=1),
        add("guarded", guard="g"),
    ]
    result = rebase(OLD, newer, pending)
    assert texts(result.session) == [*texts(newer), "one, edited", "two"]
    assert (result.session.summary, result.session.metadata) == ("", {})


def test_clear_of_a_missing_session_drops_own_messages_and_a_guard_follows():
    pending = [add("one"), Clear(at=AT, generation="mine"), add("two", guard="mine")]
    result = rebase(OLD, GONE, pending)
    assert texts(result.session) == ["new life", "two"]
    assert result.session.generation == "other"


def test_own_truncated_messages_stay_away_when_the_session_is_gone():
    """They were truncated before they were saved."""
    result = rebase(OLD, GONE, [add("one", "two"), Truncate(at=AT, start=3)])
    assert texts(result.session) == ["new life", "two"]


def test_a_session_created_twice_becomes_one():
    mine, theirs = session_of(generation="mine"), saved(session_of(generation="theirs"), add("theirs"))
    result = rebase(mine, theirs, [add("guarded", guard="mine"), Truncate(at=AT, start=0)])
    assert texts(result.session) == ["theirs", "guarded"]
    assert result.session.generation == "theirs"
    assert result.pending[0].guard == "theirs"
