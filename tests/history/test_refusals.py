"""The checkers of ``tests/support/refusals.py``: they take what is valid, and say what a provider says of what is not."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.support.laws import examples
from tests.support.refusals import REFUSALS
from tests.support.shapes import PROVIDER_SHAPES, in_shape, neutral_conversations

#: The provider of each shape.
PROVIDERS = {
    "chat": "OPENAI_CHAT",
    "function": "OPENAI_CHAT",
    "items": "OPENAI_RESPONSES",
    "blocks": "ANTHROPIC",
    "parts": "GEMINI",
    "converse": "BEDROCK",
}


@pytest.mark.parametrize("shape", PROVIDER_SHAPES)
@examples(5)
@given(neutral_conversations(alternating=True))
def test_valid_conversations_are_not_refused(shape, steps):
    assert REFUSALS[PROVIDERS[shape.split(":")[0]]](in_shape(shape, steps)) == []


@examples(5)
@given(neutral_conversations(alternating=True))
def test_templates_take_conversations_without_tools(steps):
    said = [step for step in steps if type(step).__name__ != "Called"]
    assert REFUSALS["STRICT_TEMPLATES"]([{"role": "system", "content": "Be brief."}, *in_shape("chat", said)]) == []


USER = {"role": "user", "content": "Hi"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "12:00"}
USE = {"type": "tool_use", "id": "t1", "name": "now", "input": {}}
TOLD = {"type": "tool_result", "tool_use_id": "t1", "content": "12:00"}
TEXT = {"type": "text", "text": "Hi"}
SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
ASKED = {"role": "user", "parts": [{"text": "Hi"}]}
MODEL = {"role": "model", "parts": [{"functionCall": {"name": "now"}}]}
GAVE = {"functionResponse": {"name": "now", "response": {}}}
HELLO = {"role": "user", "content": [{"text": "Hi"}]}
BEDROCK_CALL = {"toolUse": {"toolUseId": "t1", "name": "now", "input": {}}}
BEDROCK_RESULT = {"toolResult": {"toolUseId": "t1", "content": [{"text": "12:00"}]}}
ITEM = {"type": "function_call", "call_id": "c1"}


def _user(*blocks):
    return {"role": "user", "content": [*blocks]}


def _assistant(*blocks):
    return {"role": "assistant", "content": [*blocks]}


REFUSED = {
    "OPENAI_CHAT": [
        ([USER, CALL], "must be followed by tool messages"),
        ([USER, CALL, USER, RESULT], "must be followed by tool messages"),
        ([RESULT], "must be a response to a preceeding message"),
        ([CALL, RESULT, RESULT], "must be a response to a preceeding message"),
        ([{"role": "assistant", "content": None}], "expected a string, got null"),
        ([{"role": "assistant", "content": "Hi", "tool_calls": []}], "empty array"),
        ([{**CALL, "tool_calls": [{"id": "c1"}, {"id": "c1"}]}, RESULT, RESULT], "two calls c1"),
    ],
    "STRICT_TEMPLATES": [
        ([USER, CALL], "must be followed by tool messages"),
        ([USER, {"role": "system", "content": "Be brief."}], "System message must be at the beginning"),
        ([{"role": "system", "content": "Be brief."}], "No user query found"),
        ([USER, USER], "must alternate"),
        ([{"role": "assistant", "content": "Hello!"}, USER], "must alternate"),
    ],
    "OPENAI_RESPONSES": [
        ([ITEM], "No tool output found"),
        ([{"type": "shell_call", "call_id": "c1"}, {"type": "function_call_output", "call_id": "c1"}], "No tool call"),
        ([ITEM, *[{"type": "function_call_output", "call_id": "c1"}] * 2], "No tool call found"),
        ([{"type": "reasoning", "id": "rs_1"}, USER], "without its required following item"),
        ([{**USER, "id": "msg_1"}, {**USER, "id": "msg_1"}], "Duplicate item found"),
    ],
    "ANTHROPIC": [
        ([_assistant(TEXT)], "first message"),
        ([{"role": "user", "content": ""}], "non-empty content"),
        ([USER, {"role": "assistant", "content": None}], "valid string"),
        ([_user(TEXT, {"type": "text", "text": ""})], "must be non-empty"),
        ([_user({"type": "text", "text": " "})], "non-whitespace"),
        ([USER, _assistant(USE)], "without `tool_result` blocks"),
        ([USER, _assistant(USE), _user(TEXT, TOLD)], "text before"),
        ([_user(TOLD)], "unexpected `tool_use_id`"),
        ([USER, _assistant(USE), _user(TOLD, TOLD)], "single result"),
        ([USER, _assistant(USE), _user(TOLD), _assistant(USE), _user(TOLD)], "must be unique"),
        ([USER, _assistant({**USE, "id": "a:0"}), _user({**TOLD, "tool_use_id": "a:0"})], "should match pattern"),
        ([_user(*[{**TEXT, "cache_control": {"type": "ephemeral"}}] * 5)], "A maximum of 4"),
        ([USER, _assistant(SEARCH), USER], "without a corresponding"),
        ([USER, _assistant(FOUND, SEARCH)], "block before it"),
        ([{"role": "system", "content": "Be brief."}], "unexpected role"),
    ],
    "GEMINI": [
        ([MODEL, {"role": "user", "parts": [GAVE]}], "immediately after a user turn"),
        ([ASKED, MODEL], "without response parts"),
        ([ASKED, MODEL, ASKED], "the number of function response parts"),
        ([ASKED, MODEL, {"role": "user", "parts": [GAVE, GAVE]}], "the number of function response parts"),
        ([{"role": "user", "parts": [GAVE]}], "immediately after a function call turn"),
        ([{"role": "user", "parts": []}], "must not be empty"),
        ([{"role": "user", "parts": [{"text": ""}]}], "one initialized field"),
        ([{"role": "assistant", "parts": [{"text": "Hi"}]}], "valid role"),
    ],
    "BEDROCK": [
        ([_assistant({"text": "Hi"})], "must start with a user"),
        ([HELLO, HELLO], "must alternate"),
        ([HELLO, _assistant()], "is empty"),
        ([HELLO, _assistant({"text": " "})], "is blank"),
        ([HELLO, _assistant(BEDROCK_CALL), HELLO], "Expected toolResult"),
        ([_user(BEDROCK_RESULT)], "exceeds the number"),
        ([HELLO, _assistant(BEDROCK_CALL), _user(BEDROCK_RESULT, BEDROCK_RESULT)], "duplicate Ids"),
        ([_user({"text": "Hi"}, *[{"cachePoint": {"type": "default"}}] * 5)], "too many"),
    ],
}


@pytest.mark.parametrize("provider", REFUSED)
def test_what_a_provider_refuses_is_said(provider):
    for history, words in REFUSED[provider]:
        said = REFUSALS[provider](history)
        assert any(words in one for one in said), (words, said)
