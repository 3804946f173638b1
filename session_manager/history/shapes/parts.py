"""Shapes in which calls and results are parts of a message's content: Anthropic, Gemini, Bedrock, AI SDK, Haystack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from session_manager.history.shapes.shape import INTERRUPTED, Call, Object, Result, Shape, Where, text_of

__all__ = [
    "AI_SDK",
    "BEDROCK",
    "BLOCKS",
    "GEMINI",
    "HAYSTACK",
    "AISDKShape",
    "BedrockShape",
    "BlocksShape",
    "GeminiShape",
    "HaystackShape",
    "Part",
    "PartsShape",
    "of_parts",
]

Part = Mapping[str, Any]


class PartsShape(Shape):
    """A shape whose calls are parts of the model's messages, and whose results are parts of messages behind."""

    where = Where.NEXT
    #: The role of a message that brings results.
    answers = "user"

    def owns(self, message: Object) -> bool:
        return "role" in message and of_parts(message) is self

    def calls(self, message: Object) -> list[Call]:
        if self.role(message) != "assistant":
            return []
        return [
            Call(self, name, slot, keys, where)
            for slot, part in enumerate(self.parts(message) or ())
            if isinstance(part, dict) and (call := self._call(part)) is not None
            for name, keys, where in (call,)
        ]

    def results(self, message: Object) -> list[Result]:
        role = self.role(message)
        return [
            Result(self, name, slot, keys)
            for slot, part in enumerate(self.parts(message) or ())
            if isinstance(part, dict) and (result := self._result(part, role)) is not None
            for name, keys in (result,)
        ]

    def call_at(self, message: Object, slot: int) -> Any:
        return (self.parts(message) or ())[slot]

    def without_calls(self, message: Object, slots: set[int]) -> dict[str, Any] | None:
        """Return the message without these parts, and without thoughts if it was signed: see `is_signed`."""
        gone = slots | (set(self._thoughts(message)) if self.is_signed(message) else set())
        left = [part for slot, part in enumerate(self.parts(message) or ()) if slot not in gone]
        return self.with_content(message, left) if left else None

    def without_results(self, message: Object, slots: set[int]) -> dict[str, Any] | None:
        return self.without_calls(message, slots)

    def bringing(self, parts: list[Any]) -> dict[str, Any]:
        return {"role": self.answers, self.field: parts}

    def is_signed(self, message: Object) -> bool:
        return any(self._is_signed(part) for part in self.parts(message) or () if isinstance(part, dict))

    def unsigned(self, message: Object) -> dict[str, Any] | None:
        gone = set(self._thoughts(message))
        left = [part for slot, part in enumerate(self.parts(message) or ()) if slot not in gone]
        return self.with_content(message, left) if left else None

    def _thoughts(self, message: Object) -> list[int]:
        return [slot for slot, part in enumerate(self.parts(message) or ()) if self._is_thought(part)]

    def _is_signed(self, part: Part) -> bool:
        """Say whether a part is a thought with a signature."""
        return False

    def _is_thought(self, part: Any) -> bool:
        return False

    def _with_part(self, message: Object, slot: int, part: Part) -> dict[str, Any]:
        parts = list(self.parts(message) or ())
        parts[slot] = part
        return self.with_content(message, parts)

    def _call(self, part: Part) -> tuple[str | None, tuple[tuple[str, str | None], ...], Where] | None:
        """Return a call's id, its keys, and where its result is; `None` if the part is no call."""
        raise NotImplementedError

    def _result(self, part: Part, role: str | None) -> tuple[str | None, tuple[tuple[str, str | None], ...]] | None:
        """Return a result's id and keys; `None` if the part is no result that this role brings."""
        raise NotImplementedError


class BlocksShape(PartsShape):
    """Anthropic: ``tool_use`` blocks, answered by ``tool_result`` blocks of the user.

    Tools that Anthropic runs itself (``server_tool_use``, ``mcp_tool_use``) are answered by a block of the model.
    Source: https://platform.claude.com/docs/en/api/messages
    """

    name = "blocks"
    where = Where.JOINED

    def _is_signed(self, part: Part) -> bool:
        return self._is_thought(part) and bool(part.get("signature") or part.get("type") == "redacted_thinking")

    def _is_thought(self, part: Any) -> bool:
        return isinstance(part, dict) and part.get("type") in ("thinking", "redacted_thinking")

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        if call.where is Where.OWN:
            return None
        named = {} if call.id is None else {"tool_use_id": call.id}
        return {"type": "tool_result", **named, "content": INTERRUPTED, "is_error": True}

    def result_parts(self, part: Any) -> Sequence[Any] | None:
        inner = part.get("content") if isinstance(part, dict) and part.get("type") == "tool_result" else None
        return inner if isinstance(inner, list) else None

    def with_result_parts(self, part: Any, parts: list[Any]) -> Any:
        return {**part, "content": parts}

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return self._with_part(message, slot, {**message[self.field][slot], "id": id})

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return self._with_part(message, slot, {**message[self.field][slot], "tool_use_id": id})

    def _call(self, part: Part) -> tuple[str | None, tuple[tuple[str, str | None], ...], Where] | None:
        kind = part.get("type")
        if kind not in ("tool_use", "server_tool_use", "mcp_tool_use"):
            return None
        its = text_of(part, "id")
        return (its, (("blocks", its),), self.where) if kind == "tool_use" else (its, (("own blocks", its),), Where.OWN)

    def _result(self, part: Part, role: str | None) -> tuple[str | None, tuple[tuple[str, str | None], ...]] | None:
        kind, its = part.get("type"), text_of(part, "tool_use_id")
        if kind == "tool_result":
            return (its, (("blocks", its),)) if role == "user" else None
        if role != "assistant" or not isinstance(kind, str) or not kind.endswith("_tool_result"):
            return None
        return its, (("own blocks", its),)


class GeminiShape(PartsShape):
    """Gemini: ``functionCall`` parts, answered by ``functionResponse`` parts in the next content.

    The names may be in camel case or in snake case. Ids are optional; without them a name stands for a call.
    Source: https://ai.google.dev/api/caching#Content
    """

    name = "gemini"
    is_whole = True
    field = "parts"
    roles: Mapping[str, str] = {"model": "assistant", "function": "user", "tool": "user"}  # noqa: RUF012  read only

    def owns(self, message: Object) -> bool:
        if message.get("role", "user") not in _GEMINI_ROLES or "content" in message or message.get("type"):
            return False
        parts = self.parts(message)
        return parts is not None and not any(isinstance(part, dict) and "type" in part for part in parts)

    def is_text(self, part: Any) -> bool:
        """Say whether a part is nothing but a text. One of null fields is an empty text."""
        if not isinstance(part, dict) or _signature(part) is not None:
            return False
        given = {field for field, value in part.items() if value is not None}
        return given <= {"text", "thought"} and isinstance(part.get("text") or "", str)

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        if call.where is Where.OWN:
            return None
        part = message[self.field][call.slot]
        field = "functionCall" if part.get("functionCall") else "function_call"
        named = {key: value for key in ("id", "name") if (value := text_of(part[field], key))}
        response = "functionResponse" if field == "functionCall" else "function_response"
        return {response: {**named, "response": {"error": INTERRUPTED}}}

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return self._with_id(message, slot, id, _GEMINI_CALLS)

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return self._with_id(message, slot, id, _GEMINI_RESULTS)

    def made(self, role: str, text: str) -> dict[str, Any]:
        return {"role": "model" if role == "assistant" else role, "parts": [{"text": text}]}

    def text_part(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _with_id(self, message: Object, slot: int, id: str, fields: Mapping[str, bool]) -> dict[str, Any]:
        part = message[self.field][slot]
        field = next(field for field in fields if isinstance(part.get(field), dict))
        return self._with_part(message, slot, {**part, field: {**part[field], "id": id}})

    def _call(self, part: Part) -> tuple[str | None, tuple[tuple[str, str | None], ...], Where] | None:
        for field, is_own in _GEMINI_CALLS.items():
            if isinstance(call := part.get(field), dict):
                return (*_named(call, is_own=is_own, is_call=True), Where.OWN if is_own else self.where)
        return None

    def _result(self, part: Part, role: str | None) -> tuple[str | None, tuple[tuple[str, str | None], ...]] | None:
        for field, is_own in _GEMINI_RESULTS.items():
            if role == ("assistant" if is_own else "user") and isinstance(result := part.get(field), dict):
                return _named(result, is_own=is_own, is_call=False)
        return None


_GEMINI_ROLES: Final = ("user", "model", "function", "tool", "system", None)
#: The fields of calls and results, and whether the tool is Google's own.
_GEMINI_CALLS: Final = {"functionCall": False, "function_call": False, "toolCall": True, "tool_call": True}
_GEMINI_RESULTS: Final = {
    "functionResponse": False,
    "function_response": False,
    "toolResponse": True,
    "tool_response": True,
}


def _signature(part: Part) -> Any:
    return part.get("thoughtSignature") or part.get("thought_signature")


def _named(one: Part, *, is_own: bool, is_call: bool) -> tuple[str | None, tuple[tuple[str, str | None], ...]]:
    """Return the id of a call or a result, and its keys: a name stands for a call where one of the two has no id."""
    its, name = text_of(one, "id"), text_of(one, "toolType" if is_own else "name")
    kind = "own gemini" if is_own else "gemini"
    by_id, without_id, any_call = (f"{kind} id", its), (f"{kind} without id", name), (f"{kind} name", name)
    if is_call:
        return its, (by_id if its else without_id, any_call)
    return its, (by_id, without_id) if its else (any_call,)


class BedrockShape(PartsShape):
    """Bedrock's Converse: ``toolUse`` blocks, answered by ``toolResult`` blocks in the next message.

    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html
    """

    name = "bedrock"
    is_whole = True

    def is_text(self, part: Any) -> bool:
        return isinstance(part, dict) and isinstance(part.get("text"), str) and "type" not in part

    def _is_signed(self, part: Part) -> bool:
        return self._is_thought(part)

    def _is_thought(self, part: Any) -> bool:
        return isinstance(part, dict) and isinstance(part.get("reasoningContent"), dict)

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        named = {} if call.id is None else {"toolUseId": call.id}
        return {"toolResult": {**named, "content": [{"text": INTERRUPTED}], "status": "error"}}

    def result_parts(self, part: Any) -> Sequence[Any] | None:
        result = part.get("toolResult") if isinstance(part, dict) else None
        inner = result.get("content") if isinstance(result, dict) else None
        return inner if isinstance(inner, list) else None

    def with_result_parts(self, part: Any, parts: list[Any]) -> Any:
        return {**part, "toolResult": {**part["toolResult"], "content": parts}}

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return self._with_part(message, slot, {"toolUse": {**message[self.field][slot]["toolUse"], "toolUseId": id}})

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return self._with_part(
            message, slot, {"toolResult": {**message[self.field][slot]["toolResult"], "toolUseId": id}}
        )

    def made(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"text": text}]}

    def text_part(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _call(self, part: Part) -> tuple[str | None, tuple[tuple[str, str | None], ...], Where] | None:
        if "type" in part or not isinstance(call := part.get("toolUse"), dict):
            return None
        its = text_of(call, "toolUseId")
        return its, (("bedrock", its),), self.where

    def _result(self, part: Part, role: str | None) -> tuple[str | None, tuple[tuple[str, str | None], ...]] | None:
        if role != "user" or "type" in part or not isinstance(result := part.get("toolResult"), dict):
            return None
        its = text_of(result, "toolUseId")
        return its, (("bedrock", its),)


class AISDKShape(PartsShape):
    """The AI SDK's `ModelMessage`: ``tool-call`` parts, answered by ``tool-result`` parts of role ``tool`` right behind.

    A tool that the provider runs has its result in the model's own message. Its `UIMessage` has call and result in one part,
    and needs no pairing. Source: https://ai-sdk.dev/docs/reference/ai-sdk-core/model-message
    """

    name = "ai_sdk"
    where = Where.BEHIND
    answers = "tool"

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        part = message[self.field][call.slot]
        if call.where is Where.OWN:
            return None
        named = {key: value for key in ("toolCallId", "toolName") if (value := text_of(part, key))}
        return {"type": "tool-result", **named, "output": {"type": "error-text", "value": INTERRUPTED}}

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return self._with_part(message, slot, {**message[self.field][slot], "toolCallId": id})

    with_result_id = with_call_id

    def _call(self, part: Part) -> tuple[str | None, tuple[tuple[str, str | None], ...], Where] | None:
        if part.get("type") != "tool-call":
            return None
        its = text_of(part, "toolCallId")
        if part.get("providerExecuted") is True:
            return its, (("own ai_sdk", its),), Where.OWN
        return its, (("ai_sdk", its),), self.where

    def _result(self, part: Part, role: str | None) -> tuple[str | None, tuple[tuple[str, str | None], ...]] | None:
        if part.get("type") != "tool-result" or role not in ("tool", "assistant"):
            return None
        its = text_of(part, "toolCallId")
        return its, (("ai_sdk" if role == "tool" else "own ai_sdk", its),)


class HaystackShape(PartsShape):
    """Haystack's `ChatMessage.to_dict`: ``tool_call`` parts, answered by ``tool_call_result`` parts of role ``tool``.

    Ids are optional; without them a tool's name stands for a call. Source: https://docs.haystack.deepset.ai/docs/chatmessage
    """

    name = "haystack"
    is_whole = True
    where = Where.BEHIND
    answers = "tool"

    def is_text(self, part: Any) -> bool:
        return isinstance(part, dict) and isinstance(part.get("text"), str) and len(part) == 1

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        origin = message[self.field][call.slot]["tool_call"]
        return {"tool_call_result": {"result": INTERRUPTED, "origin": origin, "error": True}}

    def bringing(self, parts: list[Any]) -> dict[str, Any]:
        return {"role": "tool", "meta": {}, "name": None, "content": parts}

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        part = message[self.field][slot]
        return self._with_part(message, slot, {**part, "tool_call": {**part["tool_call"], "id": id}})

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        part = message[self.field][slot]
        result = part["tool_call_result"]
        result = {**result, "origin": {**result["origin"], "id": id}}
        return self._with_part(message, slot, {**part, "tool_call_result": result})

    def made(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "meta": {}, "name": None, "content": [{"text": text}]}

    def text_part(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _call(self, part: Part) -> tuple[str | None, tuple[tuple[str, str | None], ...], Where] | None:
        call = part.get("tool_call")
        return None if "type" in part or not isinstance(call, dict) else (*_of_haystack(call), self.where)

    def _result(self, part: Part, role: str | None) -> tuple[str | None, tuple[tuple[str, str | None], ...]] | None:
        result = part.get("tool_call_result")
        if role != "tool" or not isinstance(result, dict) or not isinstance(result.get("origin"), dict):
            return None
        return _of_haystack(result["origin"])


def _of_haystack(call: Part) -> tuple[str | None, tuple[tuple[str, str | None], ...]]:
    its, name = text_of(call, "id"), text_of(call, "tool_name")
    return its, (("haystack id", its),) if its else (("haystack name", name),)


BLOCKS: Final = BlocksShape()
GEMINI: Final = GeminiShape()
BEDROCK: Final = BedrockShape()
AI_SDK: Final = AISDKShape()
HAYSTACK: Final = HaystackShape()

#: The shape of a message whose content has a part of this type.
_BY_TYPE: Final[Mapping[str, PartsShape]] = {
    **dict.fromkeys(("tool-call", "tool-result"), AI_SDK),
    **dict.fromkeys(
        ("tool_use", "tool_result", "server_tool_use", "mcp_tool_use", "thinking", "redacted_thinking"), BLOCKS
    ),
    **dict.fromkeys(("document", "search_result", "container_upload", "compaction"), BLOCKS),
}
#: The shape of a message whose content has a part without a type, but with this field.
_BY_FIELD: Final[Mapping[str, PartsShape]] = {
    **dict.fromkeys(("tool_call", "tool_call_result"), HAYSTACK),
    **dict.fromkeys(
        ("text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video", "audio"), BEDROCK
    ),
    **dict.fromkeys(("guardContent", "cachePoint", "citationsContent", "searchResult"), BEDROCK),
}


def of_parts(message: Object) -> PartsShape | None:
    """Return the shape that the parts of a message's ``content`` have; `None` if they are those of OpenAI chat, or of no shape.

    A message that lists its calls as OpenAI chat does is not read in its parts, which may repeat them.
    """
    parts, made = message.get("content"), message.get("tool_calls")
    if not isinstance(parts, list) or (isinstance(made, list) and any(isinstance(one, dict) for one in made)):
        return None
    if "meta" in message:
        return HAYSTACK
    for part in parts:
        if isinstance(part, dict) and (shape := _of_part(part)) is not None:
            return shape
    return None


def _of_part(part: Part) -> PartsShape | None:
    if "type" not in part:
        return next((_BY_FIELD[field] for field in part if field in _BY_FIELD), None)
    kind = part["type"]
    if not isinstance(kind, str):
        return None
    return BLOCKS if kind.endswith("_tool_result") else _BY_TYPE.get(kind)
