"""Any session, and the changes of any saves after it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from session_manager.model.changes import (
    UNCHANGED,
    Append,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
    apply,
    digest,
)
from tests.support.strategies import json_objects, messages, nasty_text, refs, sessions, utc_times

some = st.lists(messages(), max_size=2).map(tuple)
numbers = st.integers(0, 9)
spares = st.none() | st.tuples(numbers, numbers)


@st.composite
def change_over(draw, over):
    at = draw(utc_times())
    first, last = sorted([draw(numbers), draw(numbers)])
    return draw(
        st.one_of(
            st.builds(
                Append,
                at=st.just(at),
                messages=some,
                turn=st.none() | refs(),
                guard=st.sampled_from([None, None, over.generation, "other"]),
            ),
            st.builds(Append, at=st.just(at), messages=some),
            st.builds(Truncate, at=st.just(at), start=numbers, spare=spares),
            st.builds(Remove, at=st.just(at), position=numbers),
            st.builds(Edit, at=st.just(at), position=numbers, message=messages()),
            st.builds(Replace, at=st.just(at), messages=some, spare=spares),
            st.builds(Clear, at=st.just(at), generation=st.sampled_from(["g", "h"]), spare=spares),
            st.builds(SetSummary, at=st.just(at), text=nasty_text()),
            st.builds(
                UpdateMetadata,
                at=st.just(at),
                items=json_objects(),
                removed=st.lists(nasty_text(), max_size=2).map(tuple),
                expires_after=st.sampled_from([UNCHANGED, None]) | st.timedeltas(timedelta(microseconds=1)),
            ),
            st.builds(
                Summarize,
                at=st.just(at),
                summary=nasty_text(),
                start=st.just(first),
                stop=st.just(last),
                digest=st.sampled_from([digest(over, first, last), "other"]),
            ),
        )
    )


@st.composite
def chains(draw, *, max_saves=5):
    """A session, and the changes of some saves after it."""
    session = draw(sessions(max_messages=3))
    state, saves = session, []
    for _ in range(draw(st.integers(0, max_saves))):
        made = []
        for _ in range(draw(st.integers(1, 3))):
            made.append(draw(change_over(state)))
            state = apply(state, made[-1])
        saves.append(made)
    return session, saves
