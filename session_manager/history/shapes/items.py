"""Items of OpenAI's Responses: a call is an item, and its result another one.

Source of the table: the input items in https://platform.openai.com/docs/api-reference/responses/create. Left out are items that
have their result in themselves (``web_search_call``, ``mcp_call``) and searches for tools that the server makes (no ``call_id``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from session_manager.history.shapes.shape import INTERRUPTED, Call, Object, Result, Shape, Where, text_of
from session_manager.model.message import ITEM_TYPE

__all__ = [
    "CUSTOM",
    "ITEMS",
    "ItemShape",
    "is_compaction",
    "is_item",
    "is_of_the_model",
    "is_reasoning",
    "item_id",
    "may_rename",
]

#: The kinds of calls, and under which names each has an id.
_CALLS: Final[dict[str, tuple[str, ...]]] = {
    "function_call": ("call_id",),
    "local_shell_call": ("call_id", "id"),
    "shell_call": ("call_id",),
    "apply_patch_call": ("call_id",),
    "computer_call": ("call_id",),
    "tool_search_call": ("call_id",),
    "program": ("call_id",),
    "mcp_approval_request": ("id",),
}
#: The kinds of results: the names of the id, and the kinds of calls that it answers.
_RESULTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # Of a local shell the API's reference says `id`, and its server wants `call_id`; agents answer as for a function:
    # https://github.com/openai/openai-agents-python/pull/1855
    "function_call_output": (("call_id",), ("function_call", "local_shell_call")),
    "local_shell_call_output": (("call_id", "id"), ("local_shell_call",)),
    "shell_call_output": (("call_id",), ("shell_call",)),
    "apply_patch_call_output": (("call_id",), ("apply_patch_call",)),
    "computer_call_output": (("call_id",), ("computer_call",)),
    "tool_search_output": (("call_id",), ("tool_search_call",)),
    "program_output": (("call_id",), ("program",)),
    "mcp_approval_response": (("approval_request_id",), ("mcp_approval_request",)),
}
_CUSTOM_CALLS: Final = {"custom_tool_call": ("call_id",)}
_CUSTOM_RESULTS: Final = {"custom_tool_call_output": (("call_id",), ("custom_tool_call",))}
#: Items that stand alone without an id: the server searched by itself.
_OWN: Final = ("tool_search_call", "tool_search_output")
#: The parts of an answer.
_SAYS: Final = ("output_text", "refusal")
#: Other kinds of items that have an id of their own.
_OTHERS: Final = frozenset(
    (
        *("reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_call", "mcp_list_tools", "compaction"),
    )
)
#: What a result says beside its id, by the kind of the call. A screenshot, or a person's consent, cannot be made up.
_INTERRUPTED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "function_call": ("function_call_output", {"output": INTERRUPTED}),
    "local_shell_call": ("function_call_output", {"output": INTERRUPTED}),
    "custom_tool_call": ("custom_tool_call_output", {"output": INTERRUPTED}),
    "apply_patch_call": ("apply_patch_call_output", {"status": "failed", "output": INTERRUPTED}),
    "shell_call": (
        "shell_call_output",
        {"output": [{"stdout": "", "stderr": INTERRUPTED, "outcome": {"type": "exit", "exit_code": 1}}]},
    ),
}


class ItemShape(Shape):
    """OpenAI's Responses: items that have a ``type`` and mostly no role."""

    def __init__(
        self,
        name: str,
        calls: Mapping[str, tuple[str, ...]],
        results: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
    ) -> None:
        self.name = name
        self._calls = calls
        self._results = results

    def owns(self, message: Object) -> bool:
        kind = text_of(message, "type")
        return "role" not in message and (kind in self._calls or kind in self._results)

    def role(self, message: Object) -> str | None:
        return super().role(message) if "role" in message else None

    def calls(self, message: Object) -> list[Call]:
        kind = text_of(message, "type") or ""
        if "role" in message or kind not in self._calls:
            return []
        ids = [given for field in self._calls[kind] if (given := text_of(message, field))]
        if not ids and kind in _OWN:
            return []
        keys = tuple((kind, one) for one in ids or (None,))
        return [Call(self, ids[0] if ids else None, 0, keys, Where.AFTER)]

    def results(self, message: Object) -> list[Result]:
        kind = text_of(message, "type") or ""
        if "role" in message or kind not in self._results:
            return []
        fields, answered = self._results[kind]
        ids = [given for field in fields if (given := text_of(message, field))]
        if not ids and kind in _OWN:
            return []
        keys = tuple((one, given) for given in ids or (None,) for one in answered)
        return [Result(self, ids[0] if ids else None, 0, keys)]

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        kind, said = _INTERRUPTED.get(message["type"], (None, {}))
        return None if kind is None else {"type": kind, **({"call_id": call.id} if call.id else {}), **said}

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return {**message, self._calls[message["type"]][0]: id}

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        return {**message, self._results[message["type"]][0][0]: id}

    def text_part(self, text: str) -> dict[str, Any]:
        return {"type": "input_text", "text": text}


ITEMS: Final = ItemShape("items", _CALLS, _RESULTS)
CUSTOM: Final = ItemShape("custom", _CUSTOM_CALLS, _CUSTOM_RESULTS)


def is_item(message: Object) -> bool:
    """Say whether an object is stored beside the messages, and never sent to a model."""
    return message.get("type") == ITEM_TYPE and "role" not in message


def is_reasoning(message: Object) -> bool:
    """Say whether a message is a ``reasoning`` item."""
    return "role" not in message and message.get("type") == "reasoning"


def item_id(message: Object) -> str | None:
    """Return the id of an item, which no other item of a request may have; `None` if it has none.

    An answer is an item if it says its text as one: Anthropic's messages also have ids and the type ``message``.
    """
    kind = text_of(message, "type")
    if "role" in message:
        parts = message.get("content")
        says = isinstance(parts, list) and any(isinstance(one, dict) and one.get("type") in _SAYS for one in parts)
        return text_of(message, "id") if kind == "message" and says else None
    if kind == "local_shell_call_output":  # there it is the id of the call
        return None
    is_its = any(kind in kinds for kinds in (_CALLS, _RESULTS, _CUSTOM_CALLS, _CUSTOM_RESULTS, _OTHERS))
    return text_of(message, "id") if is_its else None


def may_rename(message: Object) -> bool:
    """Say whether an item may get another id: no result names it, and no words are bound to it."""
    return "role" in message or ("id" not in _CALLS.get(message["type"], ()) and not is_reasoning(message))


def is_compaction(message: Object) -> bool:
    """Say whether a message is a compaction, which stands for everything before it.

    OpenAI has an item for it, and Anthropic a block: https://platform.claude.com/docs/en/build-with-claude/compaction
    """
    if "role" not in message:
        return message.get("type") == "compaction"
    parts = message.get("content")
    return isinstance(parts, list) and any(
        isinstance(part, dict) and part.get("type") == "compaction" and part.get("content") for part in parts
    )


def is_of_the_model(message: Object) -> bool:
    """Say whether the model said, thought or did a message: such a message may follow a reasoning item."""
    if "role" in message:
        return bool(message["role"] == "assistant")
    kind = message.get("type")
    return (
        isinstance(kind, str) and kind not in ("mcp_approval_response", "compaction") and not kind.endswith("_output")
    )
