"""Neutral conversations, and converters that write one in the shape of each provider and framework.

A neutral conversation is a list of steps: what the user said (`Asked`), what the assistant said (`Answered`), and calls with
their results (`Called`). `SHAPES` has a converter for each shape. Each gives JSON objects as that provider's SDK, or that
framework, serializes them; `Message.from_dict` takes all of them. The system prompt is no step: many providers take it apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import attrs
from hypothesis import strategies as st

from tests.support.places import CHATS
from tests.support.shape_items import CALL_ITEMS, function_items

__all__ = [
    "PROVIDER_SHAPES",
    "SHAPES",
    "Answered",
    "Asked",
    "Called",
    "ToolCall",
    "airline_conversations",
    "in_shape",
    "neutral_conversations",
    "texts_of",
]

Object = dict[str, Any]


@attrs.frozen
class Asked:
    """What the user said."""

    text: str


@attrs.frozen
class Answered:
    """What the assistant said."""

    text: str


@attrs.frozen
class ToolCall:
    """One call, and the text that it gave."""

    id: str
    name: str
    arguments: Object
    result: str


@attrs.frozen
class Called:
    """Parallel calls of the assistant, what it said beside them (maybe nothing), and their results."""

    text: str
    calls: tuple[ToolCall, ...]


Step = Asked | Answered | Called


def in_shape(shape: str, steps: list[Step]) -> list[Object]:
    """Return a conversation in one of `SHAPES`."""
    return SHAPES[shape](steps)


def texts_of(steps: list[Step]) -> list[str]:
    """Return all texts of a conversation, in order, without empty ones. Every shape holds each of them."""
    texts = []
    for step in steps:
        texts.append(step.text)
        if isinstance(step, Called):
            texts += [call.result for call in step.calls]
    return [text for text in texts if text]


# OpenAI chat


def _each(steps, asked, answered, called):
    """Write each step by its own function, which gives a list of messages."""
    written = {Asked: asked, Answered: answered, Called: called}
    return [message for step in steps for message in written[type(step)](step)]


def _said(role):
    return lambda step: [{"role": role, "content": step.text}]


def _chat(steps):
    return _each(steps, _said("user"), _said("assistant"), _chat_called)


def _chat_called(step):
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
        for call in step.calls
    ]
    results = [{"role": "tool", "tool_call_id": call.id, "content": call.result} for call in step.calls]
    return [{"role": "assistant", "content": step.text or None, "tool_calls": calls}, *results]


def _function(steps):
    return _each(steps, _said("user"), _said("assistant"), _function_called)


def _function_called(step):
    """Write the calls one after another: this shape has no parallel ones."""
    messages = []
    for number, call in enumerate(step.calls):
        made = {"name": call.name, "arguments": json.dumps(call.arguments)}
        text = step.text if number == 0 else ""
        messages.append({"role": "assistant", "content": text or None, "function_call": made})
        messages.append({"role": "function", "name": call.name, "content": call.result})
    return messages


# Anthropic


def _blocks(steps):
    def called(step):
        uses = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in step.calls]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": call.result} for call in step.calls]
        return [
            {"role": "assistant", "content": [*_text_block(step.text), *uses]},
            {"role": "user", "content": results},
        ]

    return _each(steps, _said("user"), lambda step: [_assistant(_text_block(step.text))], called)


def _text_block(text):
    return [{"type": "text", "text": text}] if text else []


def _assistant(content):
    return {"role": "assistant", "content": content}


# Gemini


def _gemini(*, camel, ids):
    """Gemini contents as the SDK dumps them: by alias or not, with the ids of the calls or without."""
    call_field, result_field = ("functionCall", "functionResponse") if camel else ("function_call", "function_response")
    signature = "thoughtSignature" if camel else "thought_signature"

    def called(step):
        named = [({"id": call.id} if ids else {}, call) for call in step.calls]
        calls = [{call_field: {**own, "name": call.name, "args": call.arguments}} for own, call in named]
        calls[0][signature] = "AQID"
        results = [
            {result_field: {**own, "name": call.name, "response": {"result": call.result}}} for own, call in named
        ]
        return [{"role": "model", "parts": [*_text_part(step.text), *calls]}, {"role": "user", "parts": results}]

    def said(role):
        return lambda step: [{"role": role, "parts": _text_part(step.text)}]

    return lambda steps: _each(steps, said("user"), said("model"), called)


def _text_part(text):
    return [{"text": text}] if text else []


# Bedrock Converse


def _converse(steps):
    def called(step):
        uses = [{"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}} for call in step.calls]
        results = [
            {"toolResult": {"toolUseId": call.id, "content": _text_part(call.result), "status": "success"}}
            for call in step.calls
        ]
        return [_assistant([*_text_part(step.text), *uses]), {"role": "user", "content": results}]

    def said(role):
        return lambda step: [{"role": role, "content": _text_part(step.text)}]

    return _each(steps, said("user"), said("assistant"), called)


# The AI SDK


def _ai_sdk(steps):
    """Write messages for the model (``ModelMessage``)."""

    def called(step):
        calls = [
            {"type": "tool-call", "toolCallId": call.id, "toolName": call.name, "input": call.arguments}
            for call in step.calls
        ]
        results = [
            {
                "type": "tool-result",
                "toolCallId": call.id,
                "toolName": call.name,
                "output": {"type": "text", "value": call.result},
            }
            for call in step.calls
        ]
        return [_assistant([*_text_block(step.text), *calls]), {"role": "tool", "content": results}]

    return _each(steps, _said("user"), lambda step: [_assistant(_text_block(step.text))], called)


def _ai_sdk_ui(steps):
    """Write messages for the page (``UIMessage``): a call holds its result, an answer all steps up to the next question."""
    messages: list[Object] = []
    for step in steps:
        role = "user" if isinstance(step, Asked) else "assistant"
        if role == "user" or not messages or messages[-1]["role"] == "user":
            messages.append({"id": f"msg-{len(messages)}", "role": role, "parts": []})
        parts = messages[-1]["parts"]
        if role == "assistant":
            parts.append({"type": "step-start"})
        parts += _text_block(step.text)
        if isinstance(step, Called):
            parts += [_ui_part(call, dynamic=number % 2 == 1) for number, call in enumerate(step.calls)]
    return messages


def _ui_part(call, *, dynamic):
    kind = {"type": "dynamic-tool", "toolName": call.name} if dynamic else {"type": f"tool-{call.name}"}
    said = {"state": "output-available", "input": call.arguments, "output": call.result}
    return {**kind, "toolCallId": call.id, **said}


# LlamaIndex, Haystack, LangChain


def _llama(role, blocks, **more):
    return {"role": role, "additional_kwargs": more, "blocks": blocks}


def _llama_text(text):
    return [{"block_type": "text", "text": text}]


def _llama_results(step):
    return [_llama("tool", _llama_text(call.result), tool_call_id=call.id, name=call.name) for call in step.calls]


def _llama_index(*, blocks):
    """LlamaIndex chat messages: calls are blocks, or OpenAI's in ``additional_kwargs``."""

    def called(step):
        if not blocks:
            calls = _chat_called(step)[0]["tool_calls"]
            return [_llama("assistant", _llama_text(step.text), tool_calls=calls), *_llama_results(step)]
        calls = [
            {"block_type": "tool_call", "tool_call_id": call.id, "tool_name": call.name, "tool_kwargs": call.arguments}
            for call in step.calls
        ]
        said = _llama_text(step.text) if step.text else []
        return [_llama("assistant", [*said, *calls]), *_llama_results(step)]

    def said(role):
        return lambda step: [_llama(role, _llama_text(step.text))]

    return lambda steps: _each(steps, said("user"), said("assistant"), called)


def _haystack(steps):
    def message(role, content):
        return {"role": role, "meta": {}, "name": None, "content": content}

    def called(step):
        calls = [
            {"tool_name": call.name, "arguments": call.arguments, "id": call.id, "extra": None} for call in step.calls
        ]
        results = [
            message("tool", [{"tool_call_result": {"result": call.result, "origin": origin, "error": False}}])
            for call, origin in zip(step.calls, calls, strict=True)
        ]
        said = _text_part(step.text)
        return [message("assistant", [*said, *({"tool_call": call} for call in calls)]), *results]

    def said(role):
        return lambda step: [message(role, [{"text": step.text}])]

    return _each(steps, said("user"), said("assistant"), called)


def _langchain(steps):
    """Write messages as ``model_dump`` gives them: a type, and no role."""

    def message(kind, content, **more):
        own = {
            "content": content,
            "additional_kwargs": {},
            "response_metadata": {},
            "type": kind,
            "name": None,
            "id": None,
        }
        return {**own, **more}

    def answer(content, calls):
        return message("ai", content, tool_calls=calls, invalid_tool_calls=[], usage_metadata=None)

    def called(step):
        calls = [{"name": call.name, "args": call.arguments, "id": call.id, "type": "tool_call"} for call in step.calls]
        results = [
            message("tool", call.result, tool_call_id=call.id, artifact=None, status="success") for call in step.calls
        ]
        return [answer(step.text, calls), *results]

    return _each(
        steps,
        lambda step: [message("human", step.text)],
        lambda step: [answer(step.text, [])],
        called,
    )


def _langchain_data(steps):
    """Write messages as ``messages_to_dict`` gives them."""
    return [{"type": message["type"], "data": message} for message in _langchain(steps)]


#: The shapes that a provider takes as its input, each with a name for it.
PROVIDER_SHAPES: dict[str, Callable[[list[Step]], list[Object]]] = {
    "chat": _chat,
    "function": _function,
    "blocks": _blocks,
    "items": function_items,
    **{f"items: {kind}": write for kind, write in CALL_ITEMS.items()},
    "parts": _gemini(camel=True, ids=False),
    "parts: snake": _gemini(camel=False, ids=True),
    "converse": _converse,
}

#: These and the shapes of frameworks.
SHAPES: dict[str, Callable[[list[Step]], list[Object]]] = {
    **PROVIDER_SHAPES,
    "ai-sdk": _ai_sdk,
    "ai-sdk: ui": _ai_sdk_ui,
    "llama-index": _llama_index(blocks=True),
    "llama-index: kwargs": _llama_index(blocks=False),
    "haystack": _haystack,
    "langchain": _langchain,
    "langchain: data": _langchain_data,
}


# Conversations


@cache
def neutral_conversations(*, max_turns: int = 3, alternating: bool = False) -> Any:
    """Conversations of whole turns: a question, up to two rounds of up to three parallel calls, an answer.

    Every text is another one, so that a test finds each again. Ids are unique.

    :param alternating: whether each turn has its answer; otherwise some have none, and questions follow each other.
    """
    return _neutral(max_turns, alternating)


@st.composite
def _neutral(draw, max_turns, alternating):
    steps: list[Step] = []
    texts, ids = count(), count()
    for _ in range(draw(st.integers(1, max_turns))):
        steps.append(Asked(f"Question {next(texts)}?"))
        for _ in range(draw(st.integers(0, 2))):
            text = f"Looking {next(texts)} …" if draw(st.booleans()) else ""
            names = draw(st.lists(st.sampled_from(["now", "book_flight", "find"]), min_size=1, max_size=3))
            made = [ToolCall(f"call_{next(ids)}", name, {"zone": "UTC"}, f"Result {next(texts)}") for name in names]
            steps.append(Called(text, tuple(made)))
        if alternating or draw(st.booleans()):
            steps.append(Answered(f"Answer {next(texts)}."))
    return steps


@cache
def airline_conversations() -> list[tuple[str, str, list[Step]]]:
    """Return the recorded conversations: key, system prompt, steps. None where the file is missing; a test skips then."""
    if not CHATS.exists():
        return []
    return [_airline(json.loads(line)) for line in CHATS.read_text().splitlines()]


def _airline(recorded):
    """Return one conversation. Ids come again in later turns in a quarter of them, so a result belongs to the call before it."""
    system, *said = recorded["messages"]
    steps: list[Step] = []
    for at, message in enumerate(said):
        text = message["content"] or ""
        if message["role"] == "user":
            steps.append(Asked(text))
        elif calls := message.get("tool_calls"):
            results = said[at + 1 : at + 1 + len(calls)]
            steps.append(Called(text, tuple(map(_airline_call, calls, results))))
        elif message["role"] == "assistant":
            steps.append(Answered(text))
    return recorded["key"], system["content"], steps


def _airline_call(call, result):
    function = call["function"]
    assert result["tool_call_id"] == call["id"]
    return ToolCall(call["id"], function["name"], json.loads(function["arguments"]), result["content"])
