"""The estimate of tokens: against the real figures of `tests.support.o200k`, and what it counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message
from session_manager.history.tokens import estimate_text, estimate_tokens
from tests.support import o200k
from tests.support.shapes import SHAPES, airline_conversations, in_shape
from tests.support.strategies import messages, nasty_text

FIGURES = json.loads(o200k.KEPT.read_text())
#: Random letters and digits: the module says so.
FAR = {"tool: base64": 0.6}


@pytest.mark.parametrize("name", FIGURES["texts"])
def test_a_text_is_estimated_within_30_percent(name):
    text = {**o200k.TEXTS, **o200k.TOOL_OUTPUTS, **o200k.UNSEEN}[name]
    assert FAR.get(name, 0.7) < estimate_text(text) / FIGURES["texts"][name] < 1.3


@pytest.mark.parametrize("which", ["chats", "chats without their system prompt"])
def test_recorded_conversations_are_estimated_within_15_percent(which):
    found = o200k.ratios(FIGURES)[which]
    if not found:
        pytest.skip("../shared/data/airline_chats.jsonl is not here")
    assert len(found) == 100
    assert 0.85 < min(found.values()) <= max(found.values()) < 1.15


@pytest.mark.parametrize("shape", SHAPES)
def test_a_recorded_conversation_counts_alike_in_every_shape(shape):
    """The results of seven shapes were not counted, so they were within every budget."""
    for key, _, steps in airline_conversations()[:8]:
        found = sum(tokens(one) for one in in_shape(shape, steps))
        real = FIGURES["chats without their system prompt"][key]
        # Each result of a computer is a picture of the screen.
        assert 0.7 * real < found
        assert found < 1.35 * real or shape == "items: computer_call"


def test_the_figures_are_those_of_tiktoken():
    tiktoken = pytest.importorskip("tiktoken")
    try:
        tiktoken.get_encoding("o200k_base")
    except OSError:
        pytest.skip("tiktoken cannot load its vocabulary here")
    found = o200k.measured()
    assert found["texts"] == FIGURES["texts"]
    assert not found["chats"] or found == FIGURES


def tokens(value):
    return estimate_tokens(Message.from_dict(value))


TEXT = "What time is it in Reykjavík? 今何時ですか。"
SIZE = estimate_text(TEXT)
CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": TEXT}}


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": TEXT},
        {"role": "user", "content": [{"type": "text", "text": TEXT}]},
        {"role": "tool", "content": TEXT, "tool_call_id": "x" * 500},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": TEXT, "signature": "x" * 500}]},
        {"type": "function_call_output", "call_id": "x" * 500, "output": TEXT},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": TEXT}], "encrypted_content": "x" * 500},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x" * 500, "content": TEXT}]},
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": TEXT}]}]},
        {"type": "custom_tool_call", "call_id": "x" * 500, "input": TEXT},
    ],
)
def test_what_a_model_reads_is_counted_and_nothing_else(value):
    assert tokens(value) == 4 + SIZE


@pytest.mark.parametrize(
    "value",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"type": "function_call", "call_id": "x" * 500, "name": "now", "arguments": TEXT},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "x" * 500, "name": "now", "input": [TEXT]}]},
    ],
)
def test_the_names_and_arguments_of_calls_are_counted(value):
    assert 4 + SIZE < tokens(value) <= 4 + SIZE + 4


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 5000}},
        {"type": "image", "source": {"type": "base64", "data": "x" * 5000}},
        {"type": "input_file", "file_data": "x" * 5000},
    ],
)
def test_an_attachment_is_a_thousand_tokens(block):
    assert tokens({"role": "user", "content": [{"type": "text", "text": TEXT}, block]}) == 1004 + SIZE


@given(messages())
def test_every_message_has_an_estimate(message):
    assert estimate_tokens(message) >= 4


@given(st.lists(nasty_text()))
def test_texts_add_up(texts):
    assert abs(estimate_text("".join(texts)) - sum(map(estimate_text, texts))) <= len(texts) + 1


def test_nothing_is_nothing():
    assert estimate_text("") == 0
    assert tokens({"role": "user"}) == 4
