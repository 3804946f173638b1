"""OpenAI Responses items: a neutral conversation with its calls as each kind of item that is answered by an output."""

from __future__ import annotations

import json
from itertools import count

__all__ = ["CALL_ITEMS", "function_items"]


def _written(steps, call, result):
    """Write the steps as items; `call` and `result` write one call and its result, each from the call and a number."""
    items, numbers = [], count()
    for step in steps:
        kind = type(step).__name__
        if kind == "Asked":
            items.append({"role": "user", "content": [{"type": "input_text", "text": step.text}]})
            continue
        if step.text:
            items.append(_output_message(step.text, next(numbers)))
        if kind == "Called":
            numbered = [(one, next(numbers)) for one in step.calls]
            items += [call(*one) for one in numbered]
            items += [result(*one) for one in numbered]
    return items


def _output_message(text, number):
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": content}


def _writer(kind, own, answer, *, call_id="call_id", result_id="call_id", result_kind=None):
    """Return a converter for one kind of call.

    :param own: the fields of a call beside its type and its id.
    :param answer: the fields of its result beside its type and the id.
    :param call_id: the field of the call with the id; ``id`` is the item's own, which no other item has.
    """

    def id_of(one, number):
        return f"mcpr_{number}" if call_id == "id" else one.id

    def call(one, number):
        return {"type": kind, call_id: id_of(one, number), **own(one, number)}

    def result(one, number):
        return {"type": result_kind or f"{kind}_output", result_id: id_of(one, number), **answer(one, number)}

    return lambda steps: _written(steps, call, result)


def _output(one, number):
    return {"output": one.result}


def _function(one, number):
    return {"id": f"fc_{number}", "name": one.name, "arguments": json.dumps(one.arguments), "status": "completed"}


def _local_shell(one, number):
    action = {"type": "exec", "command": [one.name, json.dumps(one.arguments)], "env": {}}
    return {"id": f"lsh_{number}", "action": action, "status": "completed"}


def _shell_output(one, number):
    outcome = {"type": "exit", "exit_code": 0}
    return {"output": [{"stdout": one.result, "stderr": "", "outcome": outcome}]}


def _tool_search_output(one, number):
    tool = {"type": "function", "name": one.name, "description": one.result, "parameters": {}, "strict": False}
    return {"execution": "client", "status": "completed", "tools": [tool]}


function_items = _writer("function_call", _function, _output)

#: A converter for each other kind of call, by its name.
CALL_ITEMS = {
    "custom_tool_call": _writer(
        "custom_tool_call",
        lambda one, number: {"id": f"ctc_{number}", "name": one.name, "input": json.dumps(one.arguments)},
        _output,
    ),
    # OpenAI's types name the id of the call `id` here, and its server `call_id`; some programs answer as to a function.
    "local_shell_call": _writer("local_shell_call", _local_shell, _output, result_id="id"),
    "local_shell_call by call_id": _writer("local_shell_call", _local_shell, _output),
    "local_shell_call as function": _writer(
        "local_shell_call", _local_shell, _output, result_kind="function_call_output"
    ),
    "shell_call": _writer(
        "shell_call",
        lambda one, number: {
            "id": f"sh_{number}",
            "action": {"commands": [f"{one.name} {json.dumps(one.arguments)}"]},
            "status": "completed",
        },
        _shell_output,
    ),
    "apply_patch_call": _writer(
        "apply_patch_call",
        lambda one, number: {
            "id": f"apc_{number}",
            "operation": {"type": "create_file", "path": one.name, "diff": json.dumps(one.arguments)},
            "status": "completed",
        },
        lambda one, number: {"status": "completed", "output": one.result},
    ),
    "computer_call": _writer(
        "computer_call",
        lambda one, number: {
            "id": f"cu_{number}",
            "action": {"type": "type", "text": json.dumps(one.arguments)},
            "pending_safety_checks": [],
            "status": "completed",
        },
        lambda one, number: {
            "output": {"type": "computer_screenshot", "file_id": f"file-{number}"},
            "acknowledged_safety_checks": [{"id": f"cu_sc_{number}", "message": one.result}],
        },
    ),
    "mcp_approval_request": _writer(
        "mcp_approval_request",
        lambda one, number: {"name": one.name, "arguments": json.dumps(one.arguments), "server_label": "clock"},
        lambda one, number: {"approve": True, "reason": one.result},
        call_id="id",
        result_id="approval_request_id",
        result_kind="mcp_approval_response",
    ),
    "tool_search_call": _writer(
        "tool_search_call",
        lambda one, number: {"arguments": one.arguments, "execution": "client", "status": "completed"},
        _tool_search_output,
        result_kind="tool_search_output",
    ),
    "program": _writer(
        "program",
        lambda one, number: {"id": f"prog_{number}", "code": json.dumps(one.arguments), "fingerprint": "f1"},
        lambda one, number: {"id": f"po_{number}", "result": one.result, "status": "completed"},
    ),
}
