"""Keys are joined of parts, taken apart again, and made into prefixes that never mean a neighbour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_manager
from session_manager import InvalidKeyError
from session_manager.model.key import check_key, join_key, key_prefix, quote_part, split_key, unquote_part
from session_manager.testing.strategies import keys

parts = st.lists(
    st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), min_size=1, max_size=8)
    | st.integers().filter(lambda number: abs(number) < 10**9),
    min_size=1,
    max_size=4,
)


@given(parts)
def test_a_key_is_split_into_the_parts_it_was_joined_of(some):
    if some in (["."], [".."]):
        return
    key = join_key(*some)
    assert check_key(key) == key
    assert split_key(key) == tuple(map(str, some))


@given(keys())
def test_the_parts_of_any_key_make_it_up_again(key):
    assert ":".join(split_key(key)) == key


@given(parts, parts)
def test_a_prefix_means_whole_parts(some, others):
    """``telegram:1`` as a prefix also means ``telegram:10``, so a user's deletion took a neighbour's chats."""
    if [".."] in (some, others) or ["."] in (some, others):
        return
    one, other = list(map(str, some)), list(map(str, others))
    is_below = len(other) > len(one) and other[: len(one)] == one
    assert join_key(*others).startswith(key_prefix(*some)) == is_below


@pytest.mark.parametrize("join", [join_key, key_prefix])
@pytest.mark.parametrize("some", [(), ("",), ("telegram", ""), ("a:b",), ("matrix", "!room:org"), ("telegram", ":")])
def test_parts_that_two_chats_might_share_are_refused(join, some):
    with pytest.raises(InvalidKeyError):
        join(*some)


@pytest.mark.parametrize("join", [join_key, key_prefix])
@pytest.mark.parametrize("part", [None, True, 1.5, b"42", ["42"]])
def test_a_part_that_is_no_text_and_no_int_is_refused(join, part):
    with pytest.raises(InvalidKeyError, match=type(part).__name__):
        join("telegram", part)


@pytest.mark.parametrize("key", ["", "..", "k" * 1025, "\ud800"])
def test_what_is_no_key_is_not_split(key):
    with pytest.raises(InvalidKeyError):
        split_key(key)


def test_a_key_of_too_many_bytes_is_not_joined():
    with pytest.raises(InvalidKeyError, match="1,024"):
        join_key("k" * 1000, "l" * 30)


def test_the_helpers_are_names_of_the_package():
    assert session_manager.join_key is join_key
    assert session_manager.split_key is split_key
    assert session_manager.key_prefix is key_prefix


@pytest.mark.parametrize("texts", [("", "%"), (":", "%3A"), ("%253A", "%3A"), ("a:", "b"), ("", "")])
def test_any_texts_are_parts_of_a_key_and_come_back(texts):
    key = join_key("x", *map(quote_part, texts))
    assert [unquote_part(part) for part in split_key(key)] == ["x", *texts]


@given(st.text(alphabet="%:25 3Aa", max_size=8))
def test_a_quoted_part_is_its_text_again(text):
    assert unquote_part(quote_part(text)) == text
    assert ":" not in quote_part(text) != ""


@pytest.mark.parametrize("part", [None, 42, b"x", ["x"]])
@pytest.mark.parametrize("call", [quote_part, unquote_part])
def test_what_is_no_text_is_neither_quoted_nor_unquoted(call, part):
    with pytest.raises(InvalidKeyError, match="a part must be a str"):
        call(part)
