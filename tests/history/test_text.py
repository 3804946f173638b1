"""What a message says, in every shape: what is counted and searched of it, and what is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message
from session_manager.history.search import searched_text
from session_manager.history.text import Attachment, Data, Name, plain_text, texts
from session_manager.history.tokens import estimate_tokens
from tests.support.laws import examples
from tests.support.said import GET, GIVEN, ONE, PNG, SAID, X
from tests.support.shapes import SHAPES, in_shape, neutral_conversations, texts_of
from tests.support.strategies import json_objects, messages


@pytest.mark.parametrize("shape", SAID)
def test_what_a_message_says(shape):
    value, said = SAID[shape]
    assert list(texts(value)) == said
    assert "XXXX" not in searched_text(Message.from_dict(value))


@pytest.mark.parametrize("shape", SHAPES)
@examples(5)
@given(data=st.data())
def test_every_text_of_a_conversation_is_found_in_every_shape(shape, data):
    """Search found the texts of two of eight frameworks' shapes: field names were an allow-list."""
    steps = data.draw(neutral_conversations())
    found = [searched_text(Message.from_dict(one)) for one in in_shape(shape, steps)]
    for text in texts_of(steps):
        shown = "computer_call" not in shape or "Result" not in text
        assert any(text in one for one in found) or not shown


@pytest.mark.parametrize("shape", SHAPES)
@examples(5)
@given(data=st.data())
def test_a_search_finds_no_role_type_id_or_state(shape, data):
    steps = data.draw(neutral_conversations())
    for value in in_shape(shape, steps):
        found = searched_text(Message.from_dict(value))
        for word in ("assistant", "user", "tool_", "function", "call_", "completed", "success", "output-available"):
            assert word not in found


@pytest.mark.parametrize(
    "field", ["stdout", "logs", "code", "result", "parts", "reasoning_details", "diff", "note", "payload", "outputs"]
)
@pytest.mark.parametrize("within", [False, True])
def test_a_long_text_counts_whatever_its_field(field, within):
    """100 KB of a tool's output counted 4 tokens in seven shapes."""
    text = "Madrid, Lisbon and Porto. " * 4000
    value = {"role": "assistant", field: [{"deeper": {field: text}}] if within else text}
    assert estimate_tokens(Message.from_dict(value)) > 20_000


@given(json_objects())
def test_arguments_count_with_their_names_and_numbers(value):
    """In arguments and results a field named like a label is the user's own."""
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": X, "name": "get", "input": value}]}
    assert list(texts(call)) == [GET, *([Data(value)] if value else [])]
    given_as_text = Data(json.dumps(value))
    assert list(given_as_text.strings()) == list(Data(value).strings())


@pytest.mark.parametrize("field", ["input", "args", "response", "json", "result", "output", "arguments"])
def test_a_field_named_like_a_label_counts_in_arguments_and_results(field):
    own = {"type": "refund", "id": "R-17", "status": "open", "data": "data:,", "signature": "A. Silva"}
    found = searched_text(Message.from_dict({"role": "tool", "call": {field: own}}))
    assert found.splitlines() == [one for pair in own.items() for one in pair]


def test_two_calls_of_one_id_in_two_messages_are_both_read():
    call = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "get", "arguments": "{}"}}]}
    assert list(texts(call)) == list(texts(call)) == [GET, Data("{}")]


def test_a_call_and_its_result_may_have_one_id():
    call = {"type": "tool-call", "toolCallId": "a", "input": {"q": 1}}
    result = {"type": "tool-result", "toolCallId": "a", "input": {"q": 1}, "output": ONE}
    assert ONE in list(texts({"role": "assistant", "content": [call, result]}))


@pytest.mark.parametrize("text", ["The file is empty.", "cat.png", "short", "data:text/plain,hello", "", "A" * 63])
@pytest.mark.parametrize("field", ["data", "bytes", "b64_json", "image", "images"])
def test_a_text_under_a_name_of_encoded_data_is_text(field, text):
    expected = [text] if text else []
    assert list(texts({"role": "user", "more": {field: text, "mime_type": "image/png"}})) == expected


def test_a_data_url_that_a_person_wrote_is_text():
    """The model reads it letter by letter."""
    written = f"data:image/png;base64,{PNG}"
    assert list(texts({"role": "user", "content": written})) == [written]
    assert list(texts({"role": "user", "content": [{"type": "text", "text": written}]})) == [written]


@given(messages())
def test_every_message_says_something_or_nothing(message):
    text = plain_text(message.to_dict())
    assert text is None or [text][: len(text)] == list(texts(message.to_dict()))
    for part in texts(message.to_dict()):
        assert isinstance(part, (str, Name, Data, Attachment))
    searched_text(message)


def test_numbers_and_names_of_fields_are_searched_each_by_itself():
    assert list(GIVEN.strings()) == ["city", "Lisbon", "nights", "2", "max", "97.5", "late", "note"]
    assert list(Data("no JSON {").strings()) == ["no JSON {"]
    assert list(Data("[" * 100_000).strings()) == ["[" * 100_000]
