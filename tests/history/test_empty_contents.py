"""Empty texts, parts and lists of calls, in every shape that a provider takes, and inside of results."""

from __future__ import annotations

import attrs
import pytest

from session_manager import Message
from session_manager.history import (
    ANTHROPIC,
    BEDROCK,
    BY_SHAPE,
    GEMINI,
    OPENAI_CHAT,
    STRICT_TEMPLATES,
    problems,
    repair,
)

ASKED = {"role": "user", "content": "What time is it?"}
TEXT = {"type": "text", "text": "Noon."}
EMPTY = {"type": "text", "text": ""}
BLANK = {"type": "text", "text": " \n"}


def mended(objects, rules):
    given = [Message.from_dict(one) for one in objects]
    repaired = repair(given, rules)
    assert problems(repaired, rules) == []
    assert bool(problems(given, rules)) is (repaired != given)
    return [one.to_dict() for one in repaired]


def message(role, *parts, field="content"):
    return {"role": role, field: [*parts]}


# Inside of results


def tool_result(*parts):
    return [
        ASKED,
        message("assistant", {"type": "tool_use", "id": "a", "name": "now", "input": {}}),
        message("user", {"type": "tool_result", "tool_use_id": "a", "content": [*parts]}),
    ]


def bedrock_result(*parts):
    return [
        message("user", {"text": "What time is it?"}),
        message("assistant", {"toolUse": {"toolUseId": "a", "name": "now", "input": {}}}),
        message("user", {"toolResult": {"toolUseId": "a", "content": [*parts], "status": "success"}}),
    ]


@pytest.mark.parametrize("rules", [BY_SHAPE, ANTHROPIC])
def test_empty_texts_inside_of_anthropics_results_are_left_out(rules):
    """They passed, and were refused: "text content blocks must be non-empty"."""
    assert mended(tool_result(EMPTY), rules) == tool_result()
    assert mended(tool_result(EMPTY, TEXT), rules) == tool_result(TEXT)
    assert mended(tool_result(BLANK), rules) == tool_result()
    assert mended(tool_result(BLANK, TEXT), rules) == tool_result(BLANK, TEXT)
    assert mended(tool_result(), rules) == tool_result()


@pytest.mark.parametrize("rules", [BY_SHAPE, BEDROCK])
def test_blank_texts_inside_of_bedrocks_results_are_left_out(rules):
    """They passed, and were refused: "The text field in the ContentBlock object is blank"."""
    image = {"image": {"format": "png", "source": {"bytes": "AA=="}}}
    assert mended(bedrock_result({"text": ""}), rules) == bedrock_result()
    assert mended(bedrock_result({"text": " "}, {"text": "Noon."}, image), rules) == bedrock_result(
        {"text": "Noon."}, image
    )
    assert mended(bedrock_result({"json": {}}), rules) == bedrock_result({"json": {}})


# Beside other parts


@pytest.mark.parametrize("rules", [BY_SHAPE, ANTHROPIC])
def test_a_blank_text_may_stand_beside_words(rules):
    """Anthropic takes it, and refuses it beside a call alone."""
    valid = [message("user", BLANK, TEXT, {"type": "document", "source": {}})]
    assert mended(valid, rules) == valid
    call = {"type": "tool_use", "id": "a", "name": "now", "input": {}}
    sent = mended([ASKED, message("assistant", BLANK, call)], rules)
    assert sent[1] == message("assistant", call)


def test_bedrock_refuses_a_blank_text_beside_words_as_well():
    assert mended([message("user", {"text": " "}, {"text": "Hi"})], BEDROCK) == [message("user", {"text": "Hi"})]


@pytest.mark.parametrize("rules", [BY_SHAPE, OPENAI_CHAT, STRICT_TEMPLATES])
def test_an_empty_list_of_calls_is_left_out(rules):
    """It passed, and was refused: "empty array. Expected an array with minimum length 1"."""
    assert mended([ASKED, {"role": "assistant", "content": "Noon.", "tool_calls": []}, ASKED], rules)[1] == {
        "role": "assistant",
        "content": "Noon.",
    }
    assert mended([ASKED, {"role": "assistant", "content": None, "tool_calls": []}], rules) == [ASKED]


def test_langchains_empty_list_of_calls_stays():
    """Its own answers have one: it is no provider's message."""
    valid = [{"type": "human", "content": "Hi"}, {"type": "ai", "content": "Hello!", "tool_calls": []}]
    assert mended(valid, BY_SHAPE) == valid


# Gemini's parts


@pytest.mark.parametrize("rules", [BY_SHAPE, GEMINI])
@pytest.mark.parametrize(
    "empty",
    [
        {},
        {"text": ""},
        {"text": None, "function_call": None, "thought": None, "inline_data": None},
        {"text": "", "functionCall": None, "thought": True},
    ],
    ids=["no-field", "text", "nulls", "thought"],
)
def test_a_part_of_gemini_without_data_is_empty(empty, rules):
    """A part without a field, or with null fields alone, passed: "required oneof field 'data' must have one"."""
    asked, words = message("user", {"text": "Hi"}, field="parts"), {"text": "Hello!", "function_call": None}
    assert mended([asked, message("model", empty, field="parts"), asked], rules) == [asked, asked]
    assert mended([asked, message("model", empty, words, field="parts")], rules) == [
        asked,
        message("model", words, field="parts"),
    ]


@pytest.mark.parametrize("field", ["thoughtSignature", "thought_signature"])
def test_a_part_of_gemini_with_a_signature_is_not_empty(field):
    valid = [
        message("user", {"text": "Hi"}, field="parts"),
        message("model", {"text": "", field: "AQID"}, field="parts"),
    ]
    assert mended([*valid, valid[0]], GEMINI) == [*valid, valid[0]]


# The end, and the placeholder


@pytest.mark.parametrize("content", [[EMPTY], [BLANK], " "])
def test_the_last_message_may_be_empty_and_not_hold_an_empty_text(content):
    """An empty text in the last message passed under `ANTHROPIC`."""
    assert mended([ASKED, {"role": "assistant", "content": content}], ANTHROPIC) == [ASKED]


@pytest.mark.parametrize("content", ["", []])
def test_the_last_message_may_be_empty(content):
    valid = [ASKED, {"role": "assistant", "content": content}]
    assert mended(valid, ANTHROPIC) == valid


def test_the_placeholder_of_an_empty_list_has_the_providers_form():
    """Bedrock's got a part of another provider, and was not merged with its neighbour."""
    assert mended([message("user")], BEDROCK) == [message("user", {"text": "(empty)"})]
    assert mended([message("user")], ANTHROPIC) == [message("user", {"type": "text", "text": "(empty)"})]
    told = attrs.evolve(BEDROCK, placeholder="…")
    assert mended([message("user", {"text": " "}), message("user")], told) == [
        message("user", {"text": "…"}, {"text": "…"})
    ]
