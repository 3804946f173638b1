"""The methods that values share do what those of attrs do."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import SessionInfo
from session_manager.manager.events import Deleted, Evicted
from session_manager.values import Value


def fields():
    return {
        "key": attrs.field(),
        "_hidden": attrs.field(default=0, repr=False),
        "note": attrs.field(default=None, eq=False),
        "items": attrs.field(default=(), repr=lambda items: f"<{len(items)}>"),
    }


Ours = attrs.make_class("Both", fields(), (Value,), frozen=True, slots=True, eq=False, repr=False)
Theirs = attrs.make_class("Both", fields(), frozen=True, slots=True)
GIVEN = st.fixed_dictionaries(
    {"key": st.integers(0, 2)},
    optional={"hidden": st.integers(0, 1), "note": st.none() | st.text(max_size=2), "items": st.just((1,))},
)


@given(GIVEN, GIVEN)
def test_values_are_compared_hashed_and_shown_as_attrs_does_it(one, other):
    assert repr(Ours(**one)) == repr(Theirs(**one))
    is_equal = Ours(**one) == Ours(**other)
    assert is_equal == (Theirs(**one) == Theirs(**other))
    assert is_equal is not (Ours(**one) != Ours(**other))
    if is_equal:
        assert hash(Ours(**one)) == hash(Ours(**other))


def test_values_of_two_classes_are_never_equal():
    assert Deleted(key="a") != Evicted(key="a")
    assert Deleted(key="a") == Deleted(key="a") != Deleted(key="b")
    assert len({Deleted(key="a"), Deleted(key="a"), Evicted(key="a")}) == 2
    assert SessionInfo(key="a") != "a"


def test_a_value_with_what_cannot_be_hashed_is_not_hashed():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Ours(key=[]))
