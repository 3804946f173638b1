"""Histories in every shape that were broken: messages lost, moved, doubled, and any JSON value in any field."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from tests.support.shapes import SHAPES, Answered, Asked, Called, Step, ToolCall

__all__ = ["broken_history"]

Object = dict[str, Any]

#: Values of every type, among them those that look like parts.
_JUNK: tuple[Any, ...] = (
    *(None, True, 0, 1.5, "", "x", " ", [], {}, [None], [1, "a"], [[]], [{}], {"a": 1}),
    *({"type": "text", "text": ""}, {"type": "tool_use"}, [{"type": 5}], [{"type": []}], [{"text": ""}]),
    *([{"text": None}], {"id": None}),
)
_WORDS = ("user", "assistant", "tool", "function", "system", "ai", "human", "alien", "message")


def _thought(call_id: str) -> list[Object]:
    return [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "tool_use", "id": call_id, "name": "now", "input": {}},
    ]


#: Messages that interrupt a conversation.
_FURTHER: tuple[Object, ...] = (
    *({"role": "assistant", "content": value} for value in (None, "", [], [{"type": "text", "text": ""}])),
    *({"role": "user", "content": value} for value in ("", [], " ")),
    *({"role": "assistant", "content": "x", "tool_calls": value} for value in ([], None)),
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": "Be kind."},
    {"role": "system", "content": [{"type": "text", "text": "Be true.", "cache_control": {"type": "ephemeral"}}]},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "compaction", "encrypted_content": "gAAA"},
    {"type": "item_reference", "id": "msg_1"},
    {"type": "session_manager.item", "item": {"a": 1}},
    {"role": "alien", "content": "Hi"},
    {"type": "alien"},
    {"role": "tool", "foo": 1},
    {"role": "tool", "content": "12:00"},
    {"role": "assistant", "content": [*_thought("c0"), *_thought("c1")]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "c0", "name": "now", "input": {}}] * 2},
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c0", "content": [{"type": "text", "text": ""}]},
            {"type": "text", "text": "Well?", "cache_control": {}},
        ],
    },
    {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}]},
    {"role": "assistant", "content": [{"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}]},
    {"role": "user", "content": [{"type": "text", "text": "m", "cache_control": {"type": "ephemeral"}}]},
    {"role": "user", "content": [{"text": "m"}, {"cachePoint": {"type": "default"}}]},
    {"role": "assistant", "content": [{"cachePoint": {"type": "default"}}]},
    {
        "role": "assistant",
        "content": [
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
            {"toolUse": {"toolUseId": "c0", "name": "now", "input": {}}},
        ],
    },
    {"role": "user", "content": [{"toolResult": {"toolUseId": "c0", "content": [{"text": ""}]}}]},
    *(
        {"role": "model", "parts": parts}
        for parts in ([], [{}], [{"text": ""}], [{"text": "", "thoughtSignature": "A"}])
    ),
    {"parts": [{"text": "no role"}], "role": None},
    {"role": "model", "parts": [{"text": None, "function_call": None, "thought": None}]},
    {"role": "user", "parts": [{"text": None, "function_response": {"name": "now", "response": None}}]},
    {"type": "ai", "content": "", "tool_calls": []},
    {"type": "human", "content": ""},
    {"type": "tool", "content": "x", "tool_call_id": "c0"},
    {"type": "ai", "data": {"content": "", "tool_calls": [{"id": "c0", "name": "now", "args": {}}]}},
    {
        "role": "tool",
        "content": [
            {"type": "tool-result", "toolCallId": "c0", "output": {}},
            {"type": "tool-approval-response", "approvalId": "a"},
        ],
    },
    {"role": "assistant", "meta": {}, "name": None, "content": []},
    {"role": "tool", "meta": {}, "content": [{"tool_call_result": {"result": "1", "origin": {"tool_name": "now"}}}]},
    *(
        {"role": "assistant", "additional_kwargs": {}, "blocks": blocks}
        for blocks in ([], [{"block_type": "text", "text": ""}])
    ),
    {"role": "assistant", "content": None, "function_call": {"name": "now"}},
    {"role": "function", "name": "now", "content": "1"},
    {"type": "local_shell_call", "call_id": "c0", "id": "lsh_0"},
    {"type": "function_call_output", "call_id": "c0", "output": ""},
    {"type": "computer_call", "call_id": "c1", "id": "cu_1"},
    {"type": "mcp_approval_request", "id": "mcpr_1"},
)


def broken_history(rng: Random) -> list[Object]:
    """Return a conversation in one shape, or in two, with damage."""
    history = [
        one for shape in rng.sample(sorted(SHAPES), rng.choice([1, 1, 1, 2])) for one in SHAPES[shape](_steps(rng))
    ]
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        history.insert(rng.randint(0, len(history)), copy.deepcopy(rng.choice(_FURTHER)))
    for _ in range(rng.choice([0, 1, 2])):
        history = _moved(history, rng)
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        if history:
            at = rng.randrange(len(history))
            history[at] = _changed(history[at], rng, top=True)
    return history


def _steps(rng: Random) -> list[Step]:
    """Return up to three turns; an id comes again now and then."""
    steps: list[Step] = []
    for turn in range(rng.randint(1, 3)):
        steps.append(Asked(f"Question {turn}?"))
        for _ in range(rng.choice([0, 1, 1, 2])):
            ids = [f"c{rng.randint(0, 20)}" for _ in range(rng.randint(1, 3))]
            made = [ToolCall(its, rng.choice(["now", "find"]), {"a": 1}, "12:00") for its in ids]
            steps.append(Called(rng.choice(["", "Looking …"]), tuple(made)))
        if rng.random() < 0.7:
            steps.append(Answered(f"Answer {turn}."))
    return steps


def _moved(history: list[Object], rng: Random) -> list[Object]:
    if not history:
        return history
    at, to = rng.randrange(len(history)), rng.randint(0, len(history))
    one = history[at]
    without = history[:at] + history[at + 1 :]
    return rng.choice([without, [*without[:to], one, *without[to:]], [*history[:to], one, *history[to:]], history[at:]])


def _changed(value: Any, rng: Random, *, top: bool = False) -> Any:
    """Return a value with one change somewhere in it: a field or a part that is gone, doubled, or junk."""
    if isinstance(value, dict) and value and rng.random() < 0.75:
        field = rng.choice(list(value))
        if top and field in ("role", "type") and rng.random() < 0.5:
            return {**value, field: rng.choice(_WORDS)}
        if rng.random() < 0.25:
            return {name: one for name, one in value.items() if name != field}
        return {**value, field: _changed(value[field], rng)}
    if isinstance(value, list) and value and rng.random() < 0.75:
        at = rng.randrange(len(value))
        before, one, behind = value[:at], value[at], value[at + 1 :]
        changed = ([], [one, one], [one, copy.deepcopy(rng.choice(_JUNK))], [_changed(one, rng)])
        return [*before, *rng.choice(changed), *behind]
    return copy.deepcopy(rng.choice(_JUNK))
