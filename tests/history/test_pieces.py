"""What a transcript shows of messages in every provider's and framework's shape."""

from __future__ import annotations

import pytest
from hypothesis import given

from session_manager import Message
from session_manager.history.pieces import Piece, pieces, speaker
from session_manager.testing import strategies
from tests.support.laws import examples
from tests.support.shapes import SHAPES, Answered, Asked, Called, ToolCall, in_shape

STEPS = [
    Asked("Is there a flight to Lisbon?"),
    Called("I look.", (ToolCall("call_1", "flights", {"city": "Lisbon"}, "TP 571 at 09:15"),)),
    Answered("Yes, TP 571."),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_reads_alike(shape):
    """The same conversation has the same texts, the same call and the same result, whoever's SDK wrote it."""
    messages = [Message.from_dict(one) for one in in_shape(shape, STEPS)]
    shown = [(speaker(one), piece) for one in messages for piece in pieces(one)]
    texts = [(who, piece.text) for who, piece in shown if piece.kind == "text"]
    assert ("user", "Is there a flight to Lisbon?") in texts
    assert ("assistant", "Yes, TP 571.") in texts
    folded = [piece for _, piece in shown if piece.kind in ("call", "result")]
    assert any("TP 571 at 09:15" in piece.text for piece in folded), "the result of a tool is folded"
    if not shape.startswith("items: "):  # whose calls have names and arguments of their own
        assert any(piece.name == "flights" and "Lisbon" in piece.text for piece in folded)


@examples(15)
@given(strategies.messages())
def test_nothing_in_a_message_breaks_a_transcript(message):
    assert isinstance(speaker(message), str)
    for piece in pieces(message):
        assert isinstance(piece, Piece)
        assert isinstance(piece.text, str)


@pytest.mark.parametrize("value", [{"role": "user", "type": []}, {"role": "user", "content": [{"type": {}}]}], ids=repr)
def test_a_type_that_is_no_text_breaks_no_transcript(value):
    """It was looked for in a set: `TypeError: unhashable type`."""
    assert all(isinstance(piece, Piece) for piece in pieces(Message.from_dict(value)))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (
            {"role": "assistant", "content": "Yes.", "reasoning_content": "Hmm."},
            [Piece("text", "Yes."), Piece("thought", "Hmm.")],
        ),
        (
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hmm."}]},
            [Piece("thought", "Hmm.")],
        ),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hmm.", "signature": "s"}]},
            [Piece("thought", "Hmm.")],
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
            [Piece("file", "an image or a file, about 1,000 tokens")],
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "function": {"name": "now", "arguments": ""}}],
            },
            [Piece("call", "", "now")],
        ),
        (
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {"id": "c", "function": {"arguments": '{"to": "LIS"}', "name": "flights"}},
                    {"id": "d", "function": {"arguments": "{}", "name": "hotels"}},
                ],
            },
            [Piece("text", "I look."), Piece("call", '{"to": "LIS"}', "flights"), Piece("call", "{}", "hotels")],
        ),
        (
            {
                "role": "assistant",
                "name": "guide",
                "content": "I look.",
                "tool_calls": [{"id": "c", "function": {"name": "now", "arguments": "{}"}}],
            },
            [Piece("text", "I look."), Piece("call", "{}", "now")],
        ),
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "shell", "input": "ls"},
            [Piece("call", "ls", "shell")],
        ),
        (
            {
                "type": "local_shell_call",
                "call_id": "c",
                "status": "completed",
                "action": {"type": "exec", "command": ["ls"]},
            },
            [Piece("call", "ls", "local_shell")],
        ),
        (
            {"role": "function", "name": "now", "content": "12:00"},
            [Piece("result", "12:00", "now")],
        ),
        ({"role": "user", "name": "anna", "content": "Hi"}, [Piece("text", "Hi")]),
        (
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "4"},
                    {"type": "text", "text": "Go on."},
                ],
            },
            [Piece("result", "4"), Piece("text", "Go on.")],
        ),
    ],
)
def test_pieces_of_a_message(value, wanted):
    assert pieces(Message.from_dict(value)) == wanted


def test_a_call_and_its_result_name_the_same_id():
    """Whatever the shape: an export tells by it which tool has answered."""
    for shape in SHAPES:
        found = [piece for one in in_shape(shape, STEPS) for piece in pieces(Message.from_dict(one))]
        (call,) = [piece for piece in found if piece.kind == "call"][:1]
        (result,) = [piece for piece in found if piece.kind == "result"][:1]
        assert (call.id, shape) == (result.id, shape)


def test_a_piece_has_the_image_itself():
    url = "data:image/png;base64,iVBORw0KGgo="
    image = {"type": "image_url", "image_url": {"url": url}}
    (piece,) = pieces(Message("user", [image]))
    assert piece.parts[0].data == url
    (piece,) = pieces(Message("user", [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]))
    assert piece.parts[0].url == "https://example.com/a.png"
    brought = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a chart"}, brought]}
    (piece,) = pieces(Message("user", [result]))
    assert piece.parts[0] == "a chart"
    assert (piece.parts[1].media, piece.parts[1].data) == ("image/png", "iVBORw0KGgo=")
    assert "iVBOR" not in repr(piece)
