"""What a repaired history is to the types and validators of the providers' own packages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import ContextTooSmallError, Message, SessionManager
from session_manager.history import repair
from tests.support.histories import damaged, is_refused
from tests.support.laws import examples
from tests.support.places import CHATS
from tests.support.provider_types import check_types, typed
from tests.support.shapes import PROVIDER_SHAPES, in_shape, neutral_conversations

IDS = {
    "tool": "tool_call_id",
    "function": "id",
    "tool_use": "id",
    "tool_result": "tool_use_id",
    **dict.fromkeys(("function_call", "function_call_output"), "call_id"),
    **dict.fromkeys(("custom_tool_call", "custom_tool_call_output"), "call_id"),
}


def is_typed(shape, value):
    """Whether the types know a message that the strategies draw: its ids are there, and its role is the provider's."""
    content = value.get("content")
    pieces = [value, *(content if isinstance(content, list) else ()), *(value.get("tool_calls") or ())]
    for piece in pieces:
        field = IDS.get(piece.get("type") or piece.get("role"))
        if field is not None and field not in piece:
            return False
    if content == "" or (content is None and "role" in value and "tool_calls" not in value):
        return "function_call" in value or bool(value.get("tool_calls"))
    return shape != "blocks" or value["role"] in ("user", "assistant")


@pytest.mark.parametrize("shape", typed("chat", "function", "blocks", "items"))
def test_the_types_accept_what_repair_gives(shape):
    checked = []

    @examples(10)
    @given(damaged((shape,), blocks=False))
    def accepted(objects):
        mended = [message.to_dict() for message in repair([Message.from_dict(value) for value in objects])]
        typed = [value for value in mended if is_typed(shape, value)]
        check_types(shape, typed)
        checked.extend(typed)

    accepted()
    assert checked


@pytest.mark.parametrize("shape", typed("chat", "function", "blocks", "items"))
def test_the_types_accept_whole_contexts(shape):
    """For Anthropic the summary comes in a user message, and the system prompt goes to the SDK."""
    checked = []
    own = {"summary_role": "user"} if shape == "blocks" else {"system": "Be brief."}

    @examples(10)
    @given(damaged((shape,), blocks=False), st.booleans(), st.none() | st.integers(0, 20))
    def accepted(objects, summarized, bound):
        typed = [value for value in objects if is_typed(shape, value)]
        with SessionManager() as m:
            m.get_or_create("k")
            m.add("k", *typed)
            m.set_summary("k", "They met." if summarized else "")
            try:
                context = m.get_context("k", max_messages=bound, **own)
            except ContextTooSmallError:
                return
        check_types(shape, context)
        assert not is_refused(context)
        checked.extend(context)

    accepted()
    assert checked


@pytest.mark.parametrize("shape", typed("chat"))
def test_the_types_accept_the_contexts_of_recorded_conversations(shape, size):
    if not CHATS.exists():
        pytest.skip("../shared/data/airline_chats.jsonl is not here")
    for line in CHATS.read_text().splitlines()[:: size.of(3, 1, 1)]:
        with SessionManager() as m:
            m.add("k", *json.loads(line)["messages"])
            m.set_summary("k", "They met.")
            for keep_last in (30, 11, 5):
                m.truncate_history("k", keep_last)
                check_types(shape, m.get_context("k", system="Be brief."))
                check_types(shape, m.get_context("k", max_messages=6))


MALFORMED = {
    "chat": [{"role": "tool", "content": "12:00"}, {"role": "assistant", "tool_calls": [{"id": 7}]}],
    "blocks": [{"role": "user", "content": [{"type": "tool_result", "content": 7}]}],
    "items": [{"type": "function_call", "call_id": 7}],
    "parts": [{"role": "user", "parts": [{"functionCall": 7}]}, {"role": "user", "content": "Hi"}],
    "converse": [{"role": "user", "content": "Hi"}, {"role": "user", "content": [{"text": "Hi", "toolUse": {}}]}],
}


@pytest.mark.parametrize("shape", typed(*MALFORMED))
def test_the_types_refuse_what_is_malformed(shape):
    for value in MALFORMED[shape]:
        with pytest.raises((ValueError, AssertionError)):
            check_types(shape, [value])


#: OpenAI's types call the field another name than its server does.
TYPED_SHAPES = [shape for shape in PROVIDER_SHAPES if shape != "items: local_shell_call by call_id"]


@pytest.mark.parametrize("shape", typed(*TYPED_SHAPES))
def test_the_types_accept_the_conversations_of_these_tests(shape):
    @examples(5)
    @given(neutral_conversations())
    def accepted(steps):
        check_types(shape, in_shape(shape, steps))

    accepted()
