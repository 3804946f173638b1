"""Small sessions of short texts, and any change over one of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs
from hypothesis import strategies as st

from session_manager import Message, Session
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
    apply,
    digest,
)

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def message(text="hi", **fields):
    return Message("user", text, created_at=AT, **fields)


def session_of(*texts, **fields):
    blank = Session(key="k", generation="g", created=AT, updated=AT)
    full = apply(blank, Append(at=AT, messages=tuple(map(message, texts)))) if texts else blank
    return attrs.evolve(full, **fields)


def texts(session):
    return [one.content for one in session.messages]


def positions(session):
    return [one.position for one in session.messages]


short = st.lists(st.text("ab", max_size=1).map(message), max_size=3).map(tuple)
small = st.integers(0, 12)
ats = st.integers(-5, 5).map(lambda hours: AT + timedelta(hours=hours))
spares = st.none() | st.tuples(small, small)


@st.composite
def any_change(draw, over):
    at = draw(ats)
    return draw(
        st.one_of(
            st.builds(
                Append,
                at=st.just(at),
                messages=short,
                turn=st.none() | st.sampled_from("rst"),
                guard=st.none() | st.sampled_from(["g", "other"]),
            ),
            st.builds(Truncate, at=st.just(at), start=small, spare=spares),
            st.builds(Remove, at=st.just(at), position=small),
            st.builds(Edit, at=st.just(at), position=small, message=st.text("ab", max_size=1).map(message)),
            st.builds(Replace, at=st.just(at), messages=short, spare=spares),
            st.builds(Clear, at=st.just(at), generation=st.sampled_from(["g", "h"]), spare=spares),
            st.builds(SetSummary, at=st.just(at), text=st.sampled_from(["", "s"])),
            st.builds(UpdateMetadata, at=st.just(at), items=st.just({"a": 1}), removed=st.just(())),
            st.builds(UpdateMetadata, at=st.just(at), expires_after=st.sampled_from([None, timedelta(days=1)])),
            st.tuples(small, small).map(
                lambda ends: Summarize(
                    at=at, summary="f", start=ends[0], stop=ends[1], digest=digest(over, min(ends), max(ends))
                )
            ),
        )
    )
