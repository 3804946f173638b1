"""What a store has lost leads from its older state to the picture, exactly; any other state is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from session_manager.model.changes import Append, SetSummary, Truncate, UpdateMetadata, fold
from session_manager.model.recovery import is_behind, lost
from session_manager.testing.comparison import difference
from session_manager.testing.contract.chats import EPOCH, Chat, said, steps

appends = st.lists(
    st.one_of(
        st.builds(
            lambda texts, turn: Append(at=EPOCH, messages=tuple(said(text) for text in texts), turn=turn),
            st.lists(st.text(max_size=3), max_size=3),
            st.none() | st.sampled_from(["u1", "u2", "u3", "u4"]),
        ),
        st.builds(lambda text: SetSummary(at=EPOCH, text=text), st.text(max_size=3)),
        st.builds(
            lambda items, removed: UpdateMetadata(at=EPOCH, items=items, removed=removed),
            st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=2),
            st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
        ),
    ),
    max_size=6,
)


def written(chat):
    commit = chat.commit()
    return chat.written(commit)


@given(appends, appends)
def test_what_was_appended_since_is_written_again(before, after):
    chat = Chat().did(*before)
    stored = written(chat)
    picture = written(chat.did(*after).add("at least one"))
    changes = lost(stored, picture)
    assert is_behind(stored, picture)
    assert changes is not None
    found = fold(stored, changes)
    assert difference(found._with(revision=picture.revision, updated=picture.updated), picture) == ""


@given(appends, st.lists(st.lists(steps(), max_size=3), min_size=1, max_size=3))
def test_any_other_state_is_refused_or_led_to_the_picture(before, after):
    chat = Chat().did(*before).add("a", "b")
    stored = written(chat)
    for some in after:
        picture = written(chat.step(*some).add("more"))
    changes = lost(stored, picture)
    if changes is not None:
        found = fold(stored, changes)
        assert [one.to_dict() for one in found.messages] == [one.to_dict() for one in picture.messages]
        assert (found.end, found.refs, found.summary) == (picture.end, picture.refs, picture.summary)


def test_plain_turns_are_led_to_the_picture():
    chat = Chat().add("a")
    stored = written(chat)
    for turn in ("u1", "u2"):
        chat.did(Append(at=EPOCH, messages=(said(turn), said("answer")), turn=turn))
    chat.did(Append(at=EPOCH, turn="u3"), SetSummary(at=EPOCH, text="so far"))
    picture = written(chat)
    changes = lost(stored, picture)
    assert changes is not None
    found = fold(stored, changes)
    assert difference(found._with(revision=picture.revision, updated=picture.updated), picture) == ""


def test_a_state_with_messages_that_the_picture_dropped_is_refused():
    chat = Chat().add("a", "b")
    stored = written(chat)
    picture = written(chat.did(Truncate(at=EPOCH, start=1)).add("c"))
    assert lost(stored, picture) is None


@given(st.lists(st.lists(steps(), max_size=3), min_size=1, max_size=4), st.integers(0, 300), st.integers(1, 300))
def test_no_later_state_of_a_session_is_behind(some, before, after):
    """Whatever is done to a session, and however many deliveries it answers."""
    chat = Chat().add("a", "b")
    chat.did(*(Append(at=EPOCH, turn=f"before {number}") for number in range(before)))
    picture = written(chat)
    assert not is_behind(picture, picture)
    for one in some:
        chat.step(*one)
        assert not is_behind(written(chat.add("more")), picture)
    chat.did(*(Append(at=EPOCH, turn=f"after {number}") for number in range(after)))
    later = written(chat)
    assert not is_behind(later, picture)
    assert is_behind(picture, later) is (picture.generation == later.generation)
