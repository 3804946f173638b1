"""What each provider refuses, of plain objects in its own shape: independent checkers, which know nothing of the library.

Each goes through a request's messages as the provider does, and returns what it would say, in its own words where they are
known. ``docs/history.md`` has the sources. Only what a provider refuses is here, not what it merely takes badly.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

from tests.support.item_kinds import ANSWERS, CALL_IDS, RESULT_IDS

__all__ = ["REFUSALS"]

Object = dict[str, Any]


def _content(message: Object, field: str = "content") -> list[Any]:
    value = message.get(field)
    return value if isinstance(value, list) else []


# OpenAI chat, and templates of open models


def _openai_chat(history: list[Object]) -> list[str]:
    said, wanted = [], Counter()
    for message in [*history, {"role": "user", "content": "The end."}]:
        role = message["role"]
        if role in ("tool", "function"):
            name = message.get("tool_call_id") if role == "tool" else ("function", message["name"])
            if not wanted[name]:
                said.append("messages with role 'tool' must be a response to a preceeding message with 'tool_calls'")
            wanted[name] -= 1
            continue
        if +wanted:
            said.append("'tool_calls' must be followed by tool messages responding to each 'tool_call_id'")
        wanted = Counter(call["id"] for call in message.get("tool_calls") or ())
        if message.get("tool_calls") == []:
            said.append("tool_calls: empty array. Expected an array with minimum length 1")
        if "function_call" in message:
            wanted["function", message["function_call"]["name"]] += 1
        if message.get("content") is None and not +wanted:
            said.append("Invalid value for 'content': expected a string, got null.")
        said += [f"two calls {name}" for name, times in wanted.items() if times > 1]
    return said


def _templates(history: list[Object]) -> list[str]:
    said = _openai_chat(history)
    if any(message["role"] == "system" for message in history[1:]):
        said.append("System message must be at the beginning.")
    if not any(message["role"] == "user" for message in history):
        said.append("No user query found in messages.")
    rest = history[1:] if history and history[0]["role"] == "system" else history
    if rest and rest[0]["role"] != "user":
        said.append("conversation roles must alternate user/assistant/user/assistant/...")
    for one, two in pairwise(rest):
        if one["role"] == two["role"] != "tool":
            said.append("conversation roles must alternate user/assistant/user/assistant/...")
    return said


# OpenAI Responses


def _openai_responses(history: list[Object]) -> list[str]:
    said, open_calls, ids = [], Counter(), Counter()
    for at, item in enumerate(history):
        kind = item.get("type", "message")
        ids[item.get("id")] += kind not in ("item_reference", "local_shell_call_output")
        if kind in CALL_IDS and item.get(CALL_IDS[kind]) is not None:
            open_calls[kind, item[CALL_IDS[kind]]] += 1
        elif kind in RESULT_IDS and (name := next(filter(None, map(item.get, RESULT_IDS[kind])), None)) is not None:
            call = next((one for one in ((answered, name) for answered in ANSWERS[kind]) if open_calls[one] > 0), None)
            if call is None:
                said.append(f"No tool call found for {kind} with call_id {name}.")
            else:
                open_calls[call] -= 1
        elif kind == "reasoning" and not _leads(history, at):
            said.append("Item of type 'reasoning' was provided without its required following item.")
    said += [f"No tool output found for {kind} {name}." for kind, name in +open_calls]
    return said + [f"Duplicate item found with id {name}." for name, times in ids.items() if name and times > 1]


def _leads(history: list[Object], at: int) -> bool:
    """Whether the item behind a reasoning item is the model's."""
    if at + 1 == len(history):
        return False
    item = history[at + 1]
    return item.get("role", "assistant") == "assistant" and item.get("type") not in RESULT_IDS


# Anthropic


def _anthropic(history: list[Object]) -> list[str]:
    said = _anthropic_words(history)
    turns = _joined(history)
    if turns and turns[0]["role"] != "user":
        said.append('messages: first message must use the "user" role')
    wanted: Counter[str] = Counter()
    for turn in [*turns, {"role": "user" if not turns or turns[-1]["role"] == "assistant" else "", "content": []}]:
        content = turn["content"]
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        told = Counter(results)
        if wanted - told:
            said.append("`tool_use` ids were found without `tool_result` blocks immediately after")
        if set(told) - set(wanted):
            said.append("unexpected `tool_use_id` found in `tool_result` blocks")
        if max(told.values(), default=0) > 1:
            said.append("each tool_use must have a single result")
        if any(block["type"] == "tool_result" for block in content[len(results) :]):
            said.append("text before tool_result")
        wanted = Counter(block["id"] for block in content if block["type"] == "tool_use")
        said += _anthropic_tools(content)
    used = Counter(block["id"] for turn in turns for block in turn["content"] if block["type"] == "tool_use")
    if max(used.values(), default=0) > 1:
        said.append("`tool_use` ids must be unique")
    if not all(re.fullmatch("[a-zA-Z0-9_-]+", name) for name in used):
        said.append("tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    return said


def _anthropic_words(history: list[Object]) -> list[str]:
    said, marks = [], 0
    for at, message in enumerate(history):
        content, last = message["content"], at == len(history) - 1
        if message["role"] not in ("user", "assistant"):
            said.append("unexpected role")
        if content is None:
            said.append("content: Input should be a valid string")
        if not content and not (last and message["role"] == "assistant"):
            said.append("all messages must have non-empty content except for the optional final assistant message")
        words = [content] if isinstance(content, str) and content else []
        words += [block["text"] for block in _content(message) if block["type"] == "text"]
        if "" in words:
            said.append("messages: text content blocks must be non-empty")
        if words and not any(map(str.strip, words)):
            said.append("messages: text content blocks must contain non-whitespace text")
        marks += sum("cache_control" in block for block in _content(message))
    if marks > 4:
        said.append(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")
    return said


def _joined(history: list[Object]) -> list[Object]:
    """Return the turns: the provider joins neighbours of one role."""
    turns: list[Object] = []
    for message in history:
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": message["role"], "content": list(blocks)})
    return turns


def _anthropic_tools(content: list[Object]) -> list[str]:
    """Return what is said of the tools that the provider runs: a call, and behind it its result."""
    said, waiting = [], set()
    for block in content:
        if block["type"] in ("server_tool_use", "mcp_tool_use"):
            waiting.add(block["id"])
        elif block["type"].endswith("_tool_result") and block["tool_use_id"] not in waiting:
            said.append("unexpected `tool_use_id`: must have a corresponding `server_tool_use` block before it")
        elif block["type"].endswith("_tool_result"):
            waiting.discard(block["tool_use_id"])
    return said + ["tool use was found without a corresponding tool_result block"] * bool(waiting)


# Gemini

_DATA = ("text", "functionCall", "functionResponse", "inlineData", "fileData", "executableCode", "codeExecutionResult")


def _camel(part: Object) -> Object:
    return {re.sub("_([a-z])", lambda found: found[1].upper(), field): value for field, value in part.items()}


def _gemini(history: list[Object]) -> list[str]:
    said, calls, before = [], Counter(), ""
    for content in history:
        parts = list(map(_camel, content["parts"]))
        if content["role"] not in ("user", "model"):
            said.append("Please use a valid role: user, model.")
        if not parts:
            said.append("contents.parts must not be empty")
        if not all(_has_data(part) for part in parts):
            said.append("required oneof field 'data' must have one initialized field")
        told = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if told and before != "call":
            said.append("Please ensure that function response turn comes immediately after a function call turn.")
        if before == "call" and Counter(map(_gemini_name, told)) != calls:
            said.append("the number of function response parts is equal to the number of function call parts")
        calls = Counter(_gemini_name(part["functionCall"]) for part in parts if "functionCall" in part)
        if calls and before not in ("user", "response"):
            said.append("function call turn comes immediately after a user turn or after a function response turn")
        before = "response" if told else "call" if calls else content["role"]
    return said + ["function call parts without response parts"] * (before == "call")


def _has_data(part: Object) -> bool:
    given = [field for field in _DATA if part.get(field) is not None]
    return len(given) == 1 and (part.get("text") != "" or "thoughtSignature" in part)


def _gemini_name(one: Object) -> tuple[str | None, str]:
    return one.get("id"), one["name"]


# Bedrock


def _bedrock(history: list[Object]) -> list[str]:
    said, wanted = [], []
    if history and history[0]["role"] != "user":
        said.append("A conversation must start with a user message.")
    if any(one["role"] == two["role"] for one, two in pairwise(history)):
        said.append("A conversation must alternate between user and assistant roles.")
    for message in [*history, {"role": "user", "content": [{"text": "The end."}]}]:
        content = message["content"]
        if not content:
            said.append("The content field in the Message object is empty.")
        results = [block["toolResult"] for block in content if "toolResult" in block]
        inner = [part for result in results for part in result["content"]]
        if not all(part["text"].strip() for part in [*content, *inner] if "text" in part):
            said.append("The text field in the ContentBlock object is blank.")
        told = [result["toolUseId"] for result in results]
        if set(wanted) - set(told):
            said.append("Expected toolResult blocks for the following Ids")
        if set(told) - set(wanted) or len(told) > len(wanted):
            said.append("The number of toolResult blocks exceeds the number of toolUse blocks of previous turn.")
        wanted = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
        if len(set(wanted)) < len(wanted) or len(set(told)) < len(told):
            said.append("blocks contain duplicate Ids")
    if sum("cachePoint" in block for message in history for block in message["content"]) > 4:
        said.append("too many cache points")
    return said


#: The checker for the rules of each name.
REFUSALS = {
    "OPENAI_CHAT": _openai_chat,
    "OPENAI_RESPONSES": _openai_responses,
    "ANTHROPIC": _anthropic,
    "GEMINI": _gemini,
    "BEDROCK": _bedrock,
    "STRICT_TEMPLATES": _templates,
}
