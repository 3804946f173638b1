"""Bytes in JSON values: every value with bytes in it comes back exactly, whatever it looks like."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_manager import InvalidMessageError, Item, Message, pack_bytes, unpack_bytes
from session_manager.history.text import texts
from session_manager.model.packed import BYTES, is_packed_bytes
from session_manager.testing.strategies import json_values

#: Texts that stand for bytes, and nearly do.
LOOKALIKES = ["aGk=", "aGk", "aGl=", "", "====", "a b", "\u20ac", "aGk=\n", "YQ=="]

values = st.recursive(
    st.one_of(st.binary(max_size=8), json_values(max_leaves=2), st.sampled_from(LOOKALIKES)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.just(BYTES), st.text(max_size=3)), inner, max_size=2),
        inner.map(lambda value: {BYTES: value}),
    ),
    max_leaves=8,
)


def kinds(value):
    """A value with the types of all that is in it."""
    if isinstance(value, dict):
        return {key: kinds(one) for key, one in value.items()}
    return [kinds(one) for one in value] if isinstance(value, list) else (type(value), value)


@given(values)
@example({BYTES: b"hi"})
@example({BYTES: {BYTES: "aGk="}})
@example([{BYTES: {BYTES: {"other": b""}}}, {BYTES: {"other": 1}}, {BYTES: None}])
def test_what_is_packed_is_json_and_comes_back_exactly(value):
    packed = pack_bytes(value)
    assert kinds(unpack_bytes(packed)) == kinds(value)
    assert kinds(unpack_bytes(json.loads(json.dumps(packed)))) == kinds(value)
    item = Item({"value": packed})
    assert kinds(unpack_bytes(item.to_dict())) == kinds({"value": value})


@given(json_values())
def test_json_without_the_reserved_field_stands_for_itself(value):
    assert kinds(pack_bytes(value)) == kinds(unpack_bytes(value)) == kinds(value)


@given(values)
def test_any_json_can_be_unpacked(value):
    """Also what another program wrote: an object that stands for nothing is left as it is."""
    strange = pack_bytes(value)
    assert unpack_bytes({"a": [strange]}) == {"a": [value]}
    raw = json.loads(json.dumps(value, default=lambda one: {BYTES: one.hex()}))
    unpack_bytes(raw)


def test_the_form_is_the_documented_one():
    assert pack_bytes(b"hi") == {"session_manager.bytes": "aGk="}
    assert pack_bytes({"session_manager.bytes": "aGk="}) == {"session_manager.bytes": {"session_manager.bytes": "aGk="}}
    assert pack_bytes({"session_manager.bytes": "aGk=", "more": 1}) == {"session_manager.bytes": "aGk=", "more": 1}


def test_what_is_given_is_copied_and_not_changed():
    inner = {"data": b"hi", "list": [1]}
    packed = pack_bytes([inner, inner])
    unpacked = unpack_bytes(packed)
    inner["list"].append(2)
    unpacked[0]["list"].append(3)
    assert packed[0]["list"] == unpacked[1]["list"] == [1]


def test_what_has_no_end_is_refused():
    circle = []
    circle.append(circle)
    with pytest.raises(InvalidMessageError, match="more than 200 levels"):
        pack_bytes(circle)
    many = [b"x"]
    for _ in range(150):
        many = [many, many]
    packed = pack_bytes(many)  # one text stands there 2 ** 150 times
    assert packed[0] is packed[1]


def test_only_bytes_are_packed():
    for value in (bytearray(b"x"), memoryview(b"x"), {1}, object()):
        with pytest.raises(InvalidMessageError, match="is not JSON"):
            Message("user", pack_bytes([value]))


def test_a_search_does_not_look_into_bytes():
    found = list(texts(Item(pack_bytes({"name": "report", "data": b"\0" * 30, "odd": {BYTES: "no base64"}}))._object))
    assert list(found[0].strings()) == ["name", "report", "data", "odd", BYTES, BYTES, "no base64"]
    assert is_packed_bytes(pack_bytes(b"")) is True
