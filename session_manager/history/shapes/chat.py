"""Shapes in which each result is a message of its own: OpenAI chat, LangChain and LlamaIndex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from session_manager.history.shapes.shape import INTERRUPTED, Call, Object, Result, Shape, Where, text_of

__all__ = [
    "CHAT",
    "FUNCTION",
    "LANGCHAIN",
    "LLAMA_INDEX",
    "ChatShape",
    "FunctionShape",
    "LangChainShape",
    "LlamaIndexShape",
]


class ChatShape(Shape):
    """OpenAI chat: ``tool_calls`` of an assistant, answered by messages of role ``tool`` right behind.

    Everything that has a role and no other shape has this one. Source of the form:
    https://platform.openai.com/docs/api-reference/chat/create. Ollama's messages have no ids, and are paired by their place.
    """

    name = "chat"

    def calls(self, message: Object) -> list[Call]:
        if self.role(message) != "assistant":
            return []
        named = [(slot, self._id(one)) for slot, one in enumerate(self._made(message)) if self._is_call(one)]
        return [Call(self, its, slot, ((self.name, its),), Where.BEHIND) for slot, its in named]

    def results(self, message: Object) -> list[Result]:
        if self.role(message) != "tool":
            return []
        its = text_of(self._answering(message), "tool_call_id")
        return [Result(self, its, 0, ((self.name, its),), by_place=its is None)]

    def call_at(self, message: Object, slot: int) -> Any:
        return self._made(message)[slot]

    def with_calls(self, message: Object, one: Object, other: Object) -> dict[str, Any]:
        made = [*self._made(one), *self._made(other)]
        return self._with_made(message, made) if made else dict(message)

    def without_calls(self, message: Object, slots: set[int]) -> dict[str, Any] | None:
        left = self._with_made(message, [one for slot, one in enumerate(self._made(message)) if slot not in slots])
        return left if self.calls(left) or self._says(left) else None

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        return {"role": "tool", **({} if call.id is None else {"tool_call_id": call.id}), "content": INTERRUPTED}

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        made = list(self._made(message))
        made[slot] = self._renamed(made[slot], id)
        return self._with_made(message, made)

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return {**message, "tool_call_id": id}

    def _made(self, message: Object) -> Sequence[Any]:
        """Return the list that has the calls."""
        return _list(message, "tool_calls")

    def _with_made(self, message: Object, made: list[Any]) -> dict[str, Any]:
        if made:
            return {**message, "tool_calls": made}
        return {key: value for key, value in message.items() if key != "tool_calls"}

    def _is_call(self, one: Any) -> bool:
        return isinstance(one, dict)

    def _id(self, one: dict[str, Any]) -> str | None:
        return text_of(one, "id")

    def _renamed(self, one: dict[str, Any], id: str) -> dict[str, Any]:
        return {**one, "id": id}

    def _answering(self, message: Object) -> Object:
        """Return the object that names the answered call."""
        return message

    def _says(self, message: Object) -> bool:
        return bool(message.get(self.field))


class FunctionShape(Shape):
    """OpenAI chat before tools: ``function_call`` of an assistant, answered by role ``function`` with that ``name``."""

    name = "function"
    roles: Mapping[str, str] = {"developer": "system", "function": "tool"}  # noqa: RUF012  read only

    def owns(self, message: Object) -> bool:
        if message.get("role") == "function":
            return True
        return message.get("role") == "assistant" and isinstance(message.get("function_call"), dict)

    def calls(self, message: Object) -> list[Call]:
        made = message.get("function_call")
        if self.role(message) != "assistant" or not isinstance(made, dict):
            return []
        return [Call(self, None, 0, ((self.name, text_of(made, "name")),), Where.BEHIND)]

    def results(self, message: Object) -> list[Result]:
        return [Result(self, None, 0, ((self.name, text_of(message, "name")),))] if self.role(message) == "tool" else []

    def without_calls(self, message: Object, slots: set[int]) -> dict[str, Any] | None:
        left = {key: value for key, value in message.items() if key != "function_call"}
        return left if left.get("content") else None

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        name = text_of(message["function_call"], "name")
        return {"role": "function", **({} if name is None else {"name": name}), "content": INTERRUPTED}


class LangChainShape(ChatShape):
    """LangChain's messages: no role, but a ``type``; also in the form of ``messages_to_dict``, with everything in ``data``.

    Source: https://python.langchain.com/api_reference/core/messages.html
    """

    name = "langchain"
    is_whole = True

    def owns(self, message: Object) -> bool:
        kind = text_of(message, "type")
        return "role" not in message and kind in _LANGCHAIN_TYPES and ("content" in message or _has_data(message))

    def role(self, message: Object) -> str | None:
        return _LANGCHAIN_TYPES.get(message["type"])

    def with_role(self, message: Object, role: str) -> dict[str, Any]:
        kind = _LANGCHAIN_KINDS.get(role, role)
        return {**_outer(message, {**_inner(message), "type": kind}), "type": kind}

    def content(self, message: Object) -> Any:
        return super().content(_inner(message))

    def with_content(self, message: Object, content: Any) -> dict[str, Any]:
        return _outer(message, super().with_content(_inner(message), content))

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        result = {"type": "tool", "content": INTERRUPTED, "tool_call_id": call.id or "", "status": "error"}
        return {"type": "tool", "data": result} if _has_data(message) else result

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return _outer(message, super().with_result_id(_inner(message), slot, id))

    def made(self, role: str, text: str) -> dict[str, Any]:
        return {"type": _LANGCHAIN_KINDS.get(role, role), "content": text}

    def _made(self, message: Object) -> Sequence[Any]:
        return super()._made(_inner(message))

    def _with_made(self, message: Object, made: list[Any]) -> dict[str, Any]:
        inner = {**_inner(message), "tool_calls": made}
        if isinstance(parts := inner.get("content"), list):
            # The content of Anthropic's answers repeats the calls.
            ids = {self._id(one) for one in made if self._is_call(one)}
            inner["content"] = [part for part in parts if not _repeats(part) or part.get("id") in ids]
        return _outer(message, inner)

    def _answering(self, message: Object) -> Object:
        return _inner(message)

    def _says(self, message: Object) -> bool:
        return super()._says(_inner(message))


_LANGCHAIN_TYPES: Final = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
}


_LANGCHAIN_KINDS: Final = {"user": "human", "assistant": "ai"}


def _has_data(message: Object) -> bool:
    return isinstance(message.get("data"), dict) and "content" in message["data"]


def _inner(message: Object) -> Object:
    inner: Object = message["data"] if _has_data(message) else message
    return inner


def _outer(message: Object, inner: dict[str, Any]) -> dict[str, Any]:
    return {**message, "data": inner} if _has_data(message) else inner


def _repeats(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("tool_use", "tool_call")


class LlamaIndexShape(ChatShape):
    """LlamaIndex's `ChatMessage`: texts in ``blocks``; calls there, or in ``additional_kwargs``, which has a result's id.

    Source: https://docs.llamaindex.ai/en/stable/api_reference/prompts/
    """

    name = "llama_index"
    is_whole = True
    field = "blocks"
    roles: Mapping[str, str] = {  # noqa: RUF012  read only
        "developer": "system",
        "function": "tool",
        "chatbot": "assistant",
        "model": "assistant",
    }

    def owns(self, message: Object) -> bool:
        return isinstance(message.get("role"), str) and isinstance(message.get("blocks"), list)

    def is_text(self, part: Any) -> bool:
        return isinstance(part, dict) and part.get("block_type") == "text" and isinstance(part.get("text"), str)

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        return {**self.made("tool", INTERRUPTED), "additional_kwargs": {"tool_call_id": call.id} if call.id else {}}

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return {**message, "additional_kwargs": {**_further(message), "tool_call_id": id}}

    def made(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "additional_kwargs": {}, "blocks": [self.text_part(text)]}

    def text_part(self, text: str) -> dict[str, Any]:
        return {"block_type": "text", "text": text}

    def _made(self, message: Object) -> Sequence[Any]:
        if any(_is_llama_call(block) for block in message["blocks"]):
            blocks: list[Any] = message["blocks"]
            return blocks
        return _list(_further(message), "tool_calls")

    def _with_made(self, message: Object, made: list[Any]) -> dict[str, Any]:
        further, blocks = _further(message), message["blocks"]
        if any(_is_llama_call(block) for block in blocks):
            # The further arguments repeat the calls.
            ids, blocks = {self._id(one) for one in made if _is_llama_call(one)}, made
            made = [one for one in _list(further, "tool_calls") if isinstance(one, dict) and one.get("id") in ids]
        if "tool_calls" in further:
            further = {**further, "tool_calls": made}
        return {**message, "additional_kwargs": further, "blocks": blocks}

    def _is_call(self, one: Any) -> bool:
        return _is_llama_call(one) or (isinstance(one, dict) and "block_type" not in one)

    def _id(self, one: dict[str, Any]) -> str | None:
        return text_of(one, "tool_call_id" if _is_llama_call(one) else "id")

    def _renamed(self, one: dict[str, Any], id: str) -> dict[str, Any]:
        return {**one, "tool_call_id" if _is_llama_call(one) else "id": id}

    def _answering(self, message: Object) -> Object:
        return _further(message)


def _is_llama_call(block: Any) -> bool:
    return isinstance(block, dict) and block.get("block_type") == "tool_call"


def _further(message: Object) -> Object:
    further = message.get("additional_kwargs")
    return further if isinstance(further, dict) else {}


def _list(value: Object, field: str) -> Sequence[Any]:
    given = value.get(field)
    return given if isinstance(given, list) else ()


CHAT: Final = ChatShape()
FUNCTION: Final = FunctionShape()
LANGCHAIN: Final = LangChainShape()
LLAMA_INDEX: Final = LlamaIndexShape()
