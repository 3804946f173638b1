"""The converters of ``tests/support/shapes.py``: what the other tests build on holds all that was said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from session_manager import Message
from tests.support.laws import examples
from tests.support.places import CHATS
from tests.support.shapes import SHAPES, airline_conversations, in_shape, neutral_conversations, texts_of


def check(shape, steps):
    objects = in_shape(shape, steps)
    for value in objects:
        assert Message.from_dict(value).to_dict() == value
    written = json.dumps(objects)
    assert all(json.dumps(text) in written for text in texts_of(steps))


def parsed(message):
    """Return a chat message without the name of a result, and with its arguments read."""
    value = json.loads(json.dumps(message))
    value.pop("name", None)
    for call in value.get("tool_calls", ()):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return value


@pytest.mark.parametrize("shape", SHAPES)
@examples(5)
@given(neutral_conversations())
def test_a_shape_holds_every_text_of_a_conversation(shape, steps):
    check(shape, steps)


def test_recorded_conversations_become_steps_and_the_same_chat_again():
    if not CHATS.exists():
        pytest.skip("../shared/data/airline_chats.jsonl is not here")
    recorded = [json.loads(line)["messages"] for line in CHATS.read_text().splitlines()]
    for (_, system, steps), messages in zip(airline_conversations(), recorded, strict=True):
        again = [{"role": "system", "content": system}, *in_shape("chat", steps)]
        assert list(map(parsed, again)) == list(map(parsed, messages))
    for shape in SHAPES:
        check(shape, airline_conversations()[0][2])
