"""What a message takes in RAM, and that it behaves as a class of ours although it is a struct of msgspec."""

from __future__ import annotations

import ast
import copy
import gc
import inspect
import json
import pickle
import sys
import tracemalloc
from datetime import datetime, timezone

import msgspec
import pytest
from hypothesis import given

from session_manager import InvalidMessageError, Item, Message, SessionManager
from session_manager.codec.lines import decode_messages, encode_message
from tests.support.strategies import CANARY, facts, message_objects

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc)
OBJECTS = [
    {"role": "user", "content": "hi"},
    {"content": "hi", "role": "user"},
    {"role": "user", "content": ""},
    {"role": "user", "content": "é \ud800"},
    {"role": "user", "content": None},
    {"role": "user", "content": "hi", "name": "Ada"},
    {"role": "user"},
    {"type": "reasoning", "content": "hi"},
    {"role": "tool", "content": [{"type": "text", "text": "hi"}]},
]


def allocated(make):
    """Return how many bytes the result of a function takes, but for what its first call leaves, such as modules."""
    make()
    gc.collect()
    tracemalloc.start()
    try:
        kept = make()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], kept
    finally:
        tracemalloc.stop()


def added(count, length):
    m = SessionManager()
    for number in range(count):
        m.add_message("k", "user", f"{number:0{length}}")
    return m


def test_a_short_message_in_ram_takes_less_than_3_times_its_json():
    """It took 4.0 times that: a dict for two fields, 24 bytes of the struct and 16 of Python's collector."""
    count, length = 1000, 100
    used, m = allocated(lambda: added(count, length))
    (first, *_) = m.get_history("k")
    assert used / count < 3 * len(json.dumps(first.to_dict(), separators=(",", ":")))


def test_a_loaded_message_takes_no_more_than_an_added_one():
    """Each one that was loaded had a role of its own."""
    m = added(200, 100)
    data = b"[\n" + b",\n".join(map(encode_message, m.get("k").messages)) + b"\n]"
    used, loaded = allocated(lambda: decode_messages(data))
    assert used / len(loaded) < 320
    assert loaded[0]._held is loaded[1]._held


@pytest.mark.parametrize("object", OBJECTS, ids=ascii)
def test_python_looks_for_no_garbage_in_messages(object):
    """A message holds JSON and no message, so it is in no cycle. The collector passes over millions of them."""
    assert not gc.is_tracked(Message.from_dict(object))
    assert not gc.is_tracked(Item(object))


@pytest.mark.parametrize("object", OBJECTS, ids=ascii)
def test_the_order_of_fields_stays_through_files(object):
    message = Message.from_dict(object, created_at=NOW)._placed(0, None)
    line = encode_message(message)
    (again,) = decode_messages(b"[\n" + line + b"\n]")
    assert [*again.to_dict()] == [*message.to_dict()] == [*object]
    assert encode_message(again) == line
    assert facts(again) == facts(message)


@given(message_objects())
def test_what_a_message_gives_out_is_nobody_elses(object):
    message = Message.from_dict(object)
    before = repr(message.to_dict())
    message.to_dict().clear()
    message.extra.clear()
    assert repr(message.to_dict()) == before


def test_equal_objects_of_another_order_are_equal_messages():
    one, other = Message.from_dict(OBJECTS[0]), Message.from_dict(OBJECTS[1])
    assert one == other
    assert not one != other  # noqa: SIM202 - a struct has an operator of its own
    assert hash(one) == hash(other)
    assert one == Message("user", "hi")


def test_a_call_without_the_right_arguments_names_the_class():
    for call, reason in [
        (lambda: Message(), r"Message\(\) missing 1 required positional argument: 'role'"),
        (lambda: Message("user", "hi", "Ada"), r"Message\(\) takes from 2 to 3 positional arguments but 4 were given"),
        (lambda: Message("user", nam="Ada"), r"Message\(\) got an unexpected keyword argument 'nam'"),
        (lambda: Message("user", self=1), r"Message\(\) got an unexpected keyword argument 'self'"),
        (lambda: Item({}, self=1), r"Item\(\) got an unexpected keyword argument 'self'"),
        (lambda: Item(), r"Item\(\) missing 1 required positional argument: 'object'"),
    ]:
        with pytest.raises(TypeError, match=reason):
            call()


@pytest.mark.parametrize("kind", [Message, Item])
def test_type_checkers_see_the_parameters_of_the_call(kind):
    """Editors and the reference get them from a constructor that only type checkers see. It had ``**parts`` for most of them."""
    (made,) = ast.parse(inspect.getsource(kind)).body
    (seen,) = (one for block in made.body if isinstance(block, ast.If) for one in block.body if hasattr(one, "args"))
    (real,) = (one for one in made.body if getattr(one, "name", None) == "_checked")
    words = [ast.unparse(one.args).partition(", ")[2].replace("_ABSENT", "...") for one in (seen, real)]
    assert words[0] == words[1]


def test_consoles_see_the_parameters_of_the_call():
    assert [*inspect.signature(Message).parameters][:2] == ["role", "content"]
    assert [*inspect.signature(Item).parameters] == ["object", "created_at", "metadata", "ref"]


@pytest.mark.parametrize("object", OBJECTS, ids=ascii)
def test_a_pattern_takes_role_and_content_in_the_order_of_the_call(object):
    """It took the parts of the struct, which are the role and the text of some messages only."""
    message = Message.from_dict(object)
    match message:
        case Message(role, content):
            assert (role, content) == (message.role, message.content)
        case _:
            pytest.fail("no match")


def test_nothing_changes_a_message_and_no_copy_escapes_the_checks():
    message = Message("user", "hi")
    for change in (
        lambda: setattr(message, "ref", "1"),
        lambda: setattr(message, "other", "1"),
        lambda: delattr(message, "ref"),
    ):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError, match="Message cannot be replaced by"):
        message.__replace__(ref=1)
    if sys.version_info >= (3, 13):
        with pytest.raises(TypeError, match="Message cannot be replaced by"):
            copy.replace(message, ref=1)
    with pytest.raises(InvalidMessageError):
        Message("user", "hi", ref="")


@pytest.mark.parametrize("message", [*map(Message.from_dict, OBJECTS), Item({"a": 1}), Message("user", metadata={})])
def test_a_copy_has_every_field(message):
    for copied in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        again = copied(message._placed(3, "turn", ref="1"))
        assert type(again) is type(message)
        assert facts(again) == facts(message._placed(3, "turn", ref="1"))
        assert msgspec.structs.astuple(copied(message)) == msgspec.structs.astuple(message)


def test_rich_shows_no_text_of_a_message():
    """A struct shows rich all of its fields."""
    assert CANARY not in repr([*Message("user", CANARY).__rich_repr__()])
