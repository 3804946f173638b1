"""Conversations in every shape, whole and damaged, and an independent checker of them, on plain objects.

The checker knows nothing of the library. It goes through a history as each provider's own check does, with the rules that
the top of ``session_manager/history/flaws.py`` lists.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import count, groupby
from typing import Any

from hypothesis import strategies as st

from session_manager.model.json_value import copy_value

__all__ = ["SHAPES", "conversations", "damaged", "is_refused", "refusals"]

SHAPES = ("chat", "function", "blocks", "items")

Object = dict[str, Any]


# Valid conversations


@cache
def conversations(shapes: tuple[str, ...] = SHAPES, *, max_turns: int = 3, greeting: bool = True) -> Any:
    """Valid conversations: parallel calls answered in any order, ids that repeat or are missing, reasoning, mixed text."""
    return _conversations(shapes, max_turns, greeting)


@st.composite
def _conversations(draw, shapes, max_turns, greeting):
    roles = draw(st.sampled_from([(), (), ("system",), ("system", "developer")]))
    history: list[Object] = [{"role": role, "content": "Be brief."} for role in roles]
    if greeting and draw(st.integers(0, 5)) == 0:
        history.append({"role": "assistant", "content": "Hello! How can I help?"})
    ids = draw(st.sampled_from(["unique", "unique", "repeated", "missing"]))
    unique = count()
    shape = draw(st.sampled_from(shapes))
    for _ in range(draw(st.integers(0, max_turns))):
        if draw(st.integers(0, 4)) == 0:
            shape = draw(st.sampled_from(shapes))
        history.append({"role": "user", "content": _user_content(draw, shape)})
        per_turn = count()
        for _ in range(draw(st.integers(0, 2))):
            number = 1 if shape == "function" else draw(st.integers(1, 3))
            names = [_name_of(ids, unique, per_turn) for _ in range(number)]
            history += _ROUNDS[shape](draw, names)
        if draw(st.booleans()):
            if shape == "items" and draw(st.booleans()):
                history.append(_reasoning())
            history.append(_answer(draw, shape))
    for number, item in enumerate(one for one in history if one.get("type") == "reasoning"):
        item["id"] = f"rs_{number}"
    return history


def _name_of(ids, unique, per_turn):
    return {"unique": f"call_{next(unique)}", "repeated": f"call_{next(per_turn)}", "missing": None}[ids]


def _user_content(draw, shape):
    if draw(st.booleans()):
        return "What time is it?"
    return [{"type": "input_text" if shape == "items" else "text", "text": "What time is it?"}]


def _answer(draw, shape):
    if shape == "blocks" and draw(st.booleans()):
        return {"role": "assistant", "content": [{"type": "text", "text": "It is noon."}]}
    return {"role": "assistant", "content": "It is noon."}


def _reasoning():
    return {"type": "reasoning", "id": "", "summary": [], "encrypted_content": "gAAA="}


def _with(field, name, value):
    return value if name is None else {**value, field: name}


def _chat_round(draw, names):
    function = {"name": "now", "arguments": "{}"}
    made = [_with("id", name, {"type": "function", "function": function}) for name in names]
    content = draw(st.sampled_from([None, "", "Let me look."]))
    told = [_with("tool_call_id", name, {"role": "tool", "content": "12:00"}) for name in draw(st.permutations(names))]
    return [{"role": "assistant", "content": content, "tool_calls": made}, *told]


def _function_round(draw, names):
    name = draw(st.sampled_from(["now", "then"]))
    call = {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": "{}"}}
    return [call, {"role": "function", "name": name, "content": "12:00"}]


def _blocks_round(draw, names):
    said = draw(st.lists(st.sampled_from([{"type": "text", "text": "Let me look."}, _thinking()]), max_size=2))
    made = [_with("id", name, {"type": "tool_use", "name": "now", "input": {"tz": "UTC"}}) for name in names]
    told = [
        _with("tool_use_id", name, {"type": "tool_result", "content": "12:00"}) for name in draw(st.permutations(names))
    ]
    more = draw(st.sampled_from([[], [], [{"type": "text", "text": "And be quick."}]]))
    return [{"role": "assistant", "content": [*said, *made]}, {"role": "user", "content": [*told, *more]}]


def _thinking():
    return {"type": "thinking", "thinking": "Hm.", "signature": "Eq=="}


def _items_round(draw, names):
    history = [_reasoning()] if draw(st.booleans()) else []
    kind = draw(st.sampled_from([("function_call", "arguments"), ("custom_tool_call", "input")]))
    made = [_with("call_id", name, {"type": kind[0], "name": "now", kind[1]: "{}"}) for name in names]
    told = [_with("call_id", name, {"type": f"{kind[0]}_output", "output": "12:00"}) for name in names]
    if draw(st.booleans()):
        for call, result in zip(made, told, strict=True):
            history += [call, result]
        return history
    between = draw(st.sampled_from([[], [], [{"role": "assistant", "content": "Wait …"}]]))
    return [*history, *made, *between, *draw(st.permutations(told))]


_ROUNDS = {"chat": _chat_round, "function": _function_round, "blocks": _blocks_round, "items": _items_round}


# Damage


@cache
def damaged(shapes: tuple[str, ...] = SHAPES, *, blocks: bool = True) -> Any:
    """Conversations that were cut, and whose messages, and blocks, were removed, doubled and shuffled."""
    return _damaged(shapes, blocks)


_DAMAGES = ("cut", "end", "remove", "remove", "double", "move", "move", "say", "block", "block")


@st.composite
def _damaged(draw, shapes, blocks):
    history = copy_value(draw(conversations(shapes)))
    for _ in range(draw(st.integers(1, 4))):
        if not history:
            break
        at, to = draw(st.integers(0, len(history) - 1)), draw(st.integers(0, len(history) - 1))
        match draw(st.sampled_from(_DAMAGES if blocks else _DAMAGES[:-2])):
            case "cut":
                history = history[at:]
            case "end":
                history = history[: at + 1]
            case "remove":
                del history[at]
            case "double":
                history.insert(to, copy_value(history[at]))
            case "move":
                history.insert(to, history.pop(at))
            case "say":
                history.insert(to, {"role": draw(st.sampled_from(["user", "assistant", "system"])), "content": "Oh!"})
            case "block":
                _damage_blocks(draw, history)
    return history


def _damage_blocks(draw, history):
    """Remove, double or move a block of one of the messages, or an entry of its tool calls."""
    lists = [
        value
        for message in history
        for value in (message.get("content"), message.get("tool_calls"))
        if isinstance(value, list) and value
    ]
    if not lists:
        return
    one = draw(st.sampled_from(lists))
    other = draw(st.sampled_from(lists))
    block = one[draw(st.integers(0, len(one) - 1))]
    if draw(st.booleans()):
        one.remove(block)
    if draw(st.booleans()):
        other.insert(draw(st.integers(0, len(other))), copy_value(block))


# The checker


def is_refused(history: list[Object]) -> bool:
    """Whether a provider refuses a history."""
    return bool(refusals(history))


def refusals(history: list[Object]) -> list[str]:
    """Return what the providers say, each of its own shape."""
    return [*_openai_chat(history), *_anthropic(history), *_openai_responses(history), *_empty(history)]


def _openai_chat(history):
    said, wanted, unnamed = [], Counter(), 0
    for message in [*history, {"role": "user", "content": "The end."}]:
        role = message.get("role")
        if role in ("tool", "function"):
            name = message.get("tool_call_id") if role == "tool" else ("function", message.get("name"))
            if name is None:
                unnamed += 1
            elif not wanted[name]:
                said.append("messages with role 'tool' must be a response to a preceeding message with 'tool_calls'")
            wanted[name] -= name is not None
            continue
        if (+wanted).total() > unnamed:
            said.append("'tool_calls' must be followed by tool messages responding to each 'tool_call_id'")
        wanted, unnamed = Counter(), 0
        if role == "assistant":
            made = [call for call in message.get("tool_calls") or () if isinstance(call, dict)]
            wanted.update(call.get("id") for call in made)
            said += ["Duplicate value for 'tool_call_id'"] * _has_doubles(made)
            if message.get("function_call") and not made:
                wanted["function", message["function_call"].get("name")] += 1
    return said


def _has_doubles(made):
    names = [call["id"] for call in made if "id" in call]
    return len(names) != len(set(names))


def _anthropic(history):
    """Neighbours of one role are one message, as the API has it."""
    said, wanted = [], Counter()
    for role, group in groupby([*history, {"role": "user", "content": "The end."}], _speaker):
        content = [block for message in group for block in _blocks(message)]
        kinds = [block.get("type") for block in content]
        results = [block for block in content if block.get("type") == "tool_result" and role == "user"]
        told = Counter(block.get("tool_use_id") for block in results)
        if wanted - told:
            said.append("`tool_use` ids were found without `tool_result` blocks immediately after")
        if told - wanted:
            said.append("unexpected `tool_use_id` found in `tool_result` blocks")
        if results and kinds[: len(results)] != ["tool_result"] * len(results):
            said.append("tool_result blocks must come first")
        wanted = Counter()
        if role == "assistant":
            made = [block for block in content if block.get("type") == "tool_use"]
            wanted.update(block.get("id") for block in made)
            said += ["`tool_use` ids must be unique"] * _has_doubles(made)
    return said


def _speaker(message):
    role = message.get("role")
    return role if role in ("user", "assistant") and not message.get("tool_calls") else object()


def _blocks(message):
    content = message.get("content")
    if message.get("tool_calls") or message.get("function_call"):
        return []
    return content if isinstance(content, list) and content else [{"type": "text", "text": content}]


def _openai_responses(history):
    said, wanted = [], Counter()
    for at, message in enumerate(history):
        kind = "" if "role" in message else message["type"]
        if kind in ("function_call", "custom_tool_call"):
            wanted[kind, message.get("call_id")] += 1
        elif kind.endswith("_call_output"):
            name = kind.removesuffix("_output"), message.get("call_id")
            if not wanted[name]:
                said.append("No tool call found for function call output")
            wanted[name] -= 1
        elif kind == "reasoning":
            follower = history[at + 1] if at + 1 < len(history) else {"role": "user"}
            if follower.get("role", "assistant") != "assistant" or follower.get("type", "").endswith("_output"):
                said.append("Item of type 'reasoning' was provided without its required following item")
    thoughts = [item["id"] for item in history if item.get("type") == "reasoning"]
    said += ["Duplicate item found with id"] * (len(set(thoughts)) < len(thoughts))
    return [*said, "No tool output found for function call"] if +wanted else said


def _empty(history):
    said = []
    for at, message in enumerate(history):
        if message.get("role") != "assistant" or message.get("tool_calls") or message.get("function_call"):
            continue
        content = message.get("content")
        is_last = at == len(history) - 1 and content is not None
        if content in (None, "", []) and not is_last:
            said.append("all messages must have non-empty content except for the optional final assistant message")
    return said
