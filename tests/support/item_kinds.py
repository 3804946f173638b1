"""The kinds of OpenAI Responses items that are calls, and the kinds that answer them; from the types of ``openai``."""

from __future__ import annotations

__all__ = ["ANSWERS", "CALL_IDS", "RESULT_IDS"]

#: The field with the id of each kind of call.
CALL_IDS = {
    "function_call": "call_id",
    "custom_tool_call": "call_id",
    "local_shell_call": "call_id",
    "shell_call": "call_id",
    "apply_patch_call": "call_id",
    "computer_call": "call_id",
    "mcp_approval_request": "id",
    "tool_search_call": "call_id",
    "program": "call_id",
}

#: The kinds of calls that each kind of result answers.
ANSWERS = {
    "function_call_output": ("function_call", "local_shell_call"),
    "custom_tool_call_output": ("custom_tool_call",),
    "local_shell_call_output": ("local_shell_call",),
    "shell_call_output": ("shell_call",),
    "apply_patch_call_output": ("apply_patch_call",),
    "computer_call_output": ("computer_call",),
    "mcp_approval_response": ("mcp_approval_request",),
    "tool_search_output": ("tool_search_call",),
    "program_output": ("program",),
}

#: The fields that name the call, the first that is there.
RESULT_IDS = {
    **dict.fromkeys(ANSWERS, ("call_id",)),
    "local_shell_call_output": ("call_id", "id"),
    "mcp_approval_response": ("approval_request_id",),
}
