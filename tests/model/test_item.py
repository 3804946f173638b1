"""Items: any JSON object is kept, and comes back exactly, told apart from a message of the same fields."""

from __future__ import annotations

import copy
import pickle
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import InvalidDataError, InvalidMessageError, Item, Message, converter
from session_manager.model.json_value import same
from session_manager.model.message import ITEM_TYPE
from session_manager.testing.comparison import message_difference
from tests.support.strategies import CANARY, facts, json_objects, message_objects

FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "converter": lambda one: converter.structure(converter.unstructure(one), Message),
    "placed": lambda one: one._placed(None, None),
}


def kept(value):
    """The form in which an item is kept and written."""
    return {"type": ITEM_TYPE, "item": value}


objects = st.one_of(json_objects(), message_objects())


@given(objects, json_objects(max_size=1))
def test_an_item_gives_any_object_back_exactly(value, notes):
    before = repr(value)
    item = Item(value, metadata=notes, ref="r")
    assert repr(item.to_dict()) == repr(item.extra) == repr(value) == before
    assert [getattr(item, field) for field in FIELDS] == [None] * 5
    assert (item.metadata, item.ref, item.position, item.turn) == (notes, "r", None, None)
    assert facts(Item.from_dict(value, created_at=item.created_at, metadata=notes, ref="r")) == facts(item)
    value["spoilt"] = item.to_dict()["spoilt"] = 1
    assert repr(item.to_dict()) == before


@given(objects, objects)
def test_items_are_equal_exactly_if_their_objects_are(one, other):
    assert (Item(one) == Item(other)) == (Item(other) == Item(one)) == same(one, other)
    if Item(one) == Item(other):
        assert hash(Item(one)) == hash(Item(other))


@given(message_objects())
def test_an_item_is_no_message_of_the_same_object(value):
    item = Item(value)
    message = Message.from_dict(value, created_at=item.created_at)
    if isinstance(message, Item):  # its own form: see below
        assert message == item
        return
    assert message != item
    assert item != message
    assert facts(message) != facts(item)
    assert message_difference(message, item) == "type: Message, not Item"


@given(objects)
def test_an_object_in_the_form_of_a_kept_item_comes_back_as_it_was_given(value):
    """`Message.from_dict(d).to_dict() == d` holds for the library's own form, too: it is wrapped once more."""
    for given_ in (kept(value), kept(kept(value)), {"item": value, "type": ITEM_TYPE}):
        message = Message.from_dict(given_)
        assert repr(message.to_dict()) == repr(given_)
        assert message == Message.of(given_) == Item(given_)
        assert message != Item(value)
        assert type(message) is Item


@pytest.mark.parametrize(
    "value", [{"type": ITEM_TYPE}, {**kept({}), "id": 1}, kept([]), kept(None), {**kept({}), "role": "user"}]
)
def test_any_other_object_of_that_type_is_a_message(value):
    message = Message.from_dict(value)
    assert type(message) is type(Message._restore(message._object, message.created_at)) is Message
    assert message.to_dict() == value


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("item", [Item({"foo": [1]}, metadata={"a": 1}, ref="r"), Message.from_dict(kept({"foo": 1}))])
def test_a_copy_of_an_item_is_the_same_item(copied, item):
    again = copied(item)
    assert again is not item
    assert type(again) is Item
    assert facts(again) == facts(item)
    assert again == item
    assert hash(again) == hash(item)


def test_an_item_read_as_json_shows_what_it_is():
    item = Item({"role": "user"})
    assert converter.unstructure(item)["message"] == kept({"role": "user"})
    assert converter.structure(converter.unstructure(item), Item) == item
    with pytest.raises(InvalidDataError, match="message: is no Item"):
        converter.structure(converter.unstructure(Message("user", CANARY)), Item)


def deep(levels):
    value = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_an_item_may_have_199_levels():
    """In a file it has one more."""
    assert Item(deep(199)).to_dict() == deep(199)
    for value in (deep(200), kept(deep(199))):
        with pytest.raises(InvalidMessageError, match="more than 199 levels"):
            Item(value)
    with pytest.raises(InvalidMessageError, match="more than 200 levels"):
        Item(deep(201))


def test_any_mapping_is_an_item_and_nothing_else():
    assert Item(types.MappingProxyType({"foo": 1})) == Item({"foo": 1}) == Item.of({"foo": 1})
    for value in (None, [], "foo", 1, [("foo", 1)], Message("user", "hi")):
        with pytest.raises(InvalidMessageError, match="must be a JSON object, not"):
            Item(value)


@pytest.mark.parametrize("bad", [b"", float("nan"), {1: 1}, (CANARY,), "\ud83d\ude00"])
def test_what_is_not_json_in_an_item_is_refused_with_its_place(bad):
    with pytest.raises(InvalidMessageError) as caught:
        Item({"a": [CANARY, {"b": bad}]})
    assert caught.value.path == "a[1].b"
    assert CANARY not in str(caught.value)


def test_an_item_cannot_be_changed():
    item = Item({"foo": 1})
    for field in ("ref", "role", "new"):
        with pytest.raises(AttributeError):
            setattr(item, field, "x")
    assert not hasattr(item, "__dict__")


def test_the_repr_of_an_item_shows_none_of_its_text():
    item = Item({CANARY: CANARY, "type": CANARY, "role": CANARY}, metadata={CANARY: CANARY})
    assert repr(item) == str(item) == "<Item: 3 fields>"
    assert repr(item._placed(7, CANARY)) == "<Item: 3 fields, position 7>"
    assert CANARY not in repr([item])


@given(objects)
def test_a_message_can_take_the_place_of_an_item_and_back(value):
    item, message = Item(value, metadata={"a": 1}, ref="r"), Message("user", "hi")
    for new, old in ((item, message), (message, item)):
        placed = new._in_place_of(old, keep_time=True)
        assert type(placed) is type(new)
        assert (placed == new, placed.created_at) == (True, old.created_at)
