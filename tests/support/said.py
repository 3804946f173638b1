"""Messages in all shapes, by the shape and what is particular, and what each says."""

from __future__ import annotations

import base64

from session_manager.history.text import Attachment, Data, Name

__all__ = ["ARGUMENTS", "FILE", "GET", "GIVEN", "ONE", "PNG", "SAID", "TWO", "X"]

ONE, TWO = "It leaves at ten.", "Two seats are left."
ARGUMENTS = {"city": "Lisbon", "nights": [2, {"max": 97.5, "late": True, "note": None}]}
GIVEN = Data(ARGUMENTS)
GET = Name("get")
#: What stands in labels, ids, signatures and encrypted data: nothing of it may be seen.
X = "XXXX" * 200
PNG = base64.b64encode(b"\x89PNG" + bytes(300)).decode()
FILE = Attachment(1000)

#: By shape: the object of a message, and what it says.
SAID = {
    # OpenAI chat, and servers that speak its protocol
    "chat": ({"role": "user", "content": ONE, "name": "anna"}, [ONE, Name("anna")]),
    "chat: parts": ({"role": "user", "content": [{"type": "text", "text": ONE}, TWO]}, [ONE, TWO]),
    "chat: result": ({"role": "tool", "tool_call_id": X, "content": ONE}, [ONE]),
    "chat: calls": (
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": X, "type": "function", "function": {"name": "get", "arguments": '{"city": "Lisbon"}'}}
            ],
        },
        [GET, Data('{"city": "Lisbon"}')],
    ),
    "chat: custom call": (
        {"role": "assistant", "tool_calls": [{"id": X, "type": "custom", "custom": {"name": "get", "input": ONE}}]},
        [GET, ONE],
    ),
    "chat: refusal": ({"role": "assistant", "content": None, "refusal": ONE}, [ONE]),
    "chat: annotations": (
        {
            "role": "assistant",
            "content": ONE,
            "annotations": [
                {"type": "url_citation", "url_citation": {"title": TWO, "url": "https://a", "start_index": 1}}
            ],
        },
        [ONE, TWO, "https://a"],
    ),
    "chat: audio": (
        {"role": "assistant", "audio": {"id": X, "data": X, "transcript": ONE, "expires_at": 1}},
        [ONE, FILE],
    ),
    "chat: audio by its id": ({"role": "assistant", "content": None, "audio": {"id": "audio_1"}}, [FILE]),
    "chat: reasoning": ({"role": "assistant", "content": ONE, "reasoning_content": TWO}, [ONE, TWO]),
    "chat: parsed by the SDK": ({"role": "assistant", "content": ONE, "parsed": {"text": ONE}}, [ONE]),
    "OpenRouter": (
        {
            "role": "assistant",
            "content": ONE,
            "reasoning": TWO,
            "reasoning_details": [
                {"type": "reasoning.text", "text": TWO, "signature": X, "id": X, "format": "f", "index": 0},
                {"type": "reasoning.encrypted", "data": X},
            ],
        },
        [ONE, TWO],
    ),
    "LiteLLM": (
        {
            "role": "assistant",
            "content": ONE,
            "reasoning_content": TWO,
            "thinking_blocks": [{"type": "thinking", "thinking": TWO, "signature": X}],
            "provider_specific_fields": {"thinking_blocks": X},
        },
        [ONE, TWO],
    ),
    "Ollama": (
        {"role": "user", "content": ONE, "images": [PNG], "created_at": X, "model": X, "thinking": TWO},
        [ONE, FILE, TWO],
    ),
    # OpenAI Responses
    "items: message": (
        {
            "type": "message",
            "role": "assistant",
            "id": X,
            "status": "completed",
            "phase": "final_answer",
            "content": [
                {"type": "output_text", "text": ONE, "annotations": [], "logprobs": [{"token": X, "bytes": [1]}]}
            ],
        },
        [ONE],
    ),
    "items: call": (
        {"type": "function_call", "id": X, "call_id": X, "name": "get", "arguments": '{"a": 1}', "status": "completed"},
        [GET, Data('{"a": 1}')],
    ),
    "items: output": ({"type": "function_call_output", "call_id": X, "output": ONE}, [ONE]),
    "items: output in blocks": (
        {
            "type": "function_call_output",
            "call_id": X,
            "output": [{"type": "input_text", "text": ONE}, {"type": "input_image", "image_url": "https://a/b.png"}],
        },
        [ONE, FILE],
    ),
    "items: custom call": ({"type": "custom_tool_call", "call_id": X, "name": "get", "input": ONE}, [GET, ONE]),
    "items: reasoning": (
        {
            "type": "reasoning",
            "id": X,
            "summary": [{"type": "summary_text", "text": ONE}],
            "content": [{"type": "reasoning_text", "text": TWO}],
            "encrypted_content": X,
        },
        [ONE, TWO],
    ),
    "items: code": (
        {
            "type": "code_interpreter_call",
            "id": X,
            "container_id": X,
            "code": ONE,
            "outputs": [{"type": "logs", "logs": TWO}, {"type": "image", "url": "https://a/b.png"}],
        },
        [ONE, TWO, FILE],
    ),
    "items: local shell": (
        {
            "type": "local_shell_call",
            "call_id": X,
            "action": {"type": "exec", "command": ["ls", ONE], "env": {"A": TWO}},
        }
        | {"status": "completed"},
        ["ls", ONE, TWO],
    ),
    "items: local shell's output": ({"type": "local_shell_call_output", "id": X, "output": ONE}, [ONE]),
    "items: shell": ({"type": "shell_call", "call_id": X, "action": {"commands": [ONE, TWO]}}, [ONE, TWO]),
    "items: shell's output": (
        {
            "type": "shell_call_output",
            "call_id": X,
            "output": [{"stdout": ONE, "stderr": TWO, "outcome": {"type": "exit", "exit_code": 0}}],
        },
        [ONE, TWO],
    ),
    "items: patch": (
        {
            "type": "apply_patch_call",
            "call_id": X,
            "status": "completed",
            "operation": {"type": "update_file", "path": ONE, "diff": TWO},
        },
        [ONE, TWO],
    ),
    "items: patch's output": ({"type": "apply_patch_call_output", "call_id": X, "status": X, "output": ONE}, [ONE]),
    "items: screenshot": (
        {
            "type": "computer_call_output",
            "call_id": X,
            "output": {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PNG}"},
        },
        [FILE],
    ),
    "items: computer": (
        {
            "type": "computer_call",
            "call_id": X,
            "id": X,
            "action": {"type": "type", "text": ONE},
            "status": "completed",
        },
        [ONE],
    ),
    "items: MCP": (
        {"type": "mcp_call", "id": X, "server_label": "shop", "name": "get", "arguments": "{}", "output": ONE},
        [Name("shop"), GET, Data("{}"), ONE],
    ),
    "items: MCP's tools": (
        {
            "type": "mcp_list_tools",
            "id": X,
            "server_label": "shop",
            "tools": [{"name": "get", "description": ONE, "input_schema": {"type": "object"}, "annotations": None}],
        },
        [Name("shop"), GET, ONE, Name('{"type": "object"}')],
    ),
    "items: web search": (
        {"type": "web_search_call", "id": X, "status": "completed", "action": {"type": "search", "query": ONE}},
        [ONE],
    ),
    "items: file search": (
        {
            "type": "file_search_call",
            "id": X,
            "queries": [ONE],
            "results": [{"file_id": X, "filename": "a.txt", "score": 0.9, "text": TWO, "attributes": {"year": 2026}}],
        },
        [ONE, "a.txt", TWO, Data({"year": 2026})],
    ),
    "items: image": (
        {
            "type": "image_generation_call",
            "id": X,
            "status": X,
            "revised_prompt": ONE,
            "result": PNG,
            "quality": X,
            "size": X,
        },
        [ONE, FILE],
    ),
    "items: program": ({"type": "program", "id": X, "call_id": X, "code": ONE, "fingerprint": X}, [ONE]),
    "items: compaction": ({"type": "compaction", "id": X, "encrypted_content": X}, []),
    "items: file": (
        {"type": "message", "role": "user", "content": [{"type": "input_file", "filename": ONE, "file_data": PNG}]},
        [ONE, FILE],
    ),
    # Anthropic
    "blocks": (
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": ONE, "signature": X},
                {"type": "redacted_thinking", "data": X},
                {"type": "text", "text": TWO, "citations": [{"type": "char_location", "cited_text": X, "file_id": X}]},
                {"type": "tool_use", "id": X, "name": "get", "input": ARGUMENTS, "caller": {"type": "direct"}},
            ],
        },
        [ONE, TWO, GET, GIVEN],
    ),
    "blocks: results": (
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": X,
                    "content": ONE,
                    "cache_control": {"type": "ephemeral", "ttl": "5m"},
                },
                {"type": "tool_result", "tool_use_id": X, "content": [{"type": "text", "text": TWO}], "is_error": True},
            ],
        },
        [ONE, TWO],
    ),
    "blocks: bash": (
        {
            "role": "assistant",
            "content": [
                {"type": "server_tool_use", "id": X, "name": "get", "input": ARGUMENTS},
                {
                    "type": "bash_code_execution_tool_result",
                    "tool_use_id": X,
                    "content": {"type": "bash_code_execution_result", "stdout": ONE, "stderr": TWO, "return_code": 0},
                },
            ],
        },
        [GET, GIVEN, ONE, TWO],
    ),
    "blocks: web search": (
        {
            "role": "assistant",
            "content": [
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": X,
                    "content": [
                        {"type": "web_search_result", "title": ONE, "url": "https://a", "encrypted_content": X}
                    ],
                }
            ],
        },
        [ONE, "https://a"],
    ),
    "blocks: image and document": (
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": X}},
                {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
                {"type": "document", "title": ONE, "source": {"type": "text", "media_type": "text/plain", "data": TWO}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": ONE}]}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": X}},
                {"type": "document", "source": {"type": "file", "file_id": X}, "citations": {"enabled": True}},
            ],
        },
        [FILE, FILE, ONE, TWO, ONE, FILE, FILE],
    ),
    # Gemini
    "parts": (
        {
            "role": "model",
            "parts": [
                {"text": ONE, "thought": True, "thoughtSignature": X},
                {"functionCall": {"id": X, "name": "get", "args": ARGUMENTS}, "thoughtSignature": X},
                {"executableCode": {"language": "PYTHON", "code": TWO}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": ONE}},
            ],
        },
        [ONE, GET, GIVEN, TWO, ONE],
    ),
    "parts: result": (
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": X, "name": "get", "response": ARGUMENTS}},
                {"inlineData": {"mimeType": "image/png", "data": X}},
                {"fileData": {"mimeType": "video/mp4", "fileUri": "https://a/b.mp4"}},
            ],
        },
        [GET, GIVEN, FILE, FILE],
    ),
    "parts: snake": (
        {
            "role": "model",
            "parts": [
                {"function_call": {"name": "get", "args": ARGUMENTS, "id": None}, "thought_signature": X, "text": None},
                {"executable_code": {"language": "PYTHON", "code": TWO}},
                {"code_execution_result": {"outcome": "OUTCOME_OK", "output": ONE}},
                {"function_response": {"name": "get", "response": ARGUMENTS}},
                {"inline_data": {"mime_type": "image/png", "data": X}},
                {"file_data": {"mime_type": "video/mp4", "file_uri": "https://a/b.mp4"}},
            ],
        },
        [GET, GIVEN, TWO, ONE, GET, GIVEN, FILE, FILE],
    ),
    "parts: a text file": (
        {
            "role": "user",
            "parts": [{"inlineData": {"mimeType": "text/csv", "data": base64.b64encode(ONE.encode()).decode()}}],
        },
        [ONE],
    ),
    # Bedrock Converse
    "converse": (
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": ONE, "signature": X}}},
                {"reasoningContent": {"redactedContent": X}},
                {"text": TWO},
                {"toolUse": {"toolUseId": X, "name": "get", "input": ARGUMENTS}},
                {"cachePoint": {"type": "default"}},
            ],
        },
        [ONE, TWO, GET, GIVEN],
    ),
    "converse: results": (
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": X, "content": [{"json": ARGUMENTS}, {"text": ONE}], "status": "success"}},
                {"image": {"format": "png", "source": {"bytes": X}}},
                {"document": {"format": "pdf", "name": TWO, "source": {"bytes": X}}},
                {"document": {"format": "txt", "source": {"text": ONE}}},
                {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://a/b.mp4"}}}},
            ],
        },
        [GIVEN, ONE, FILE, TWO, FILE, ONE, FILE],
    ),
    # Frameworks
    "ai-sdk": (
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "text": ONE, "providerOptions": {"anthropic": {"signature": X}}},
                {"type": "tool-call", "toolCallId": X, "toolName": "get", "input": ARGUMENTS},
                {"type": "file", "data": X, "mediaType": "application/pdf"},
            ],
        },
        [ONE, GET, GIVEN, FILE],
    ),
    "ai-sdk: results": (
        {
            "role": "tool",
            "content": [
                {"type": "tool-result", "toolCallId": X, "toolName": "get", "output": {"type": "text", "value": ONE}},
                {
                    "type": "tool-result",
                    "toolCallId": X,
                    "toolName": "get",
                    "output": {"type": "json", "value": ARGUMENTS},
                },
                {
                    "type": "tool-result",
                    "toolCallId": X,
                    "toolName": "get",
                    "output": {
                        "type": "content",
                        "value": [
                            {"type": "text", "text": ONE},
                            {"type": "media", "data": X, "mediaType": "image/png"},
                        ],
                    },
                },
                {"type": "tool-result", "toolCallId": X, "toolName": "get", "result": ARGUMENTS},
            ],
        },
        [GET, ONE, GET, GIVEN, GET, ONE, FILE, GET, GIVEN],
    ),
    "ai-sdk: ui": (
        {
            "id": X,
            "role": "assistant",
            "content": TWO,
            "metadata": {"model": X},
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": ONE, "state": "done", "providerMetadata": {"openai": {"itemId": X}}},
                {
                    "type": "tool-get",
                    "toolCallId": X,
                    "state": "output-available",
                    "input": ARGUMENTS,
                    "output": ARGUMENTS,
                },
                {"type": "text", "text": TWO, "state": "done"},
                {"type": "file", "mediaType": "image/png", "url": f"data:image/png;base64,{PNG}"},
            ],
        },
        [ONE, GIVEN, GIVEN, TWO, FILE],
    ),
    "llama-index": (
        {
            "role": "assistant",
            "additional_kwargs": {"tool_calls": [{"id": X, "function": {"name": "get", "arguments": "{}"}}]},
            "blocks": [
                {"block_type": "text", "text": ONE},
                {"block_type": "tool_call", "tool_call_id": X, "tool_name": "get", "tool_kwargs": ARGUMENTS},
                {"block_type": "image", "image": PNG, "url": None, "image_mimetype": "image/png"},
            ],
        },
        [GET, Data("{}"), ONE, FILE],
    ),
    "haystack": (
        {
            "role": "assistant",
            "meta": {"model": X},
            "name": None,
            "content": [
                {"reasoning": {"reasoning_text": ONE, "extra": {}}},
                {"tool_call": {"tool_name": "get", "arguments": ARGUMENTS, "id": X, "extra": None}},
                {"image": {"base64_image": PNG, "mime_type": "image/png", "detail": None, "meta": {"page": X}}},
            ],
        },
        [ONE, GET, GIVEN, FILE],
    ),
    "haystack: result": (
        {
            "role": "tool",
            "content": [
                {
                    "tool_call_result": {
                        "result": ONE,
                        "origin": {"tool_name": X, "arguments": {"a": X}},
                        "error": False,
                    }
                },
                {
                    "tool_call_result": {
                        "result": [{"text": TWO}, {"image": {"base64_image": PNG, "mime_type": "image/png"}}],
                        "error": False,
                    }
                },
            ],
        },
        [ONE, Data({"text": TWO}), FILE],
    ),
    "langchain: each call three times": (
        {
            "type": "ai",
            "id": X,
            "content": [
                {"type": "text", "text": ONE},
                {"type": "tool_use", "id": X, "name": "get", "input": ARGUMENTS},
            ],
            "additional_kwargs": {"tool_calls": [{"id": X, "function": {"name": "get", "arguments": "{}"}}]},
            "tool_calls": [{"id": X, "name": "get", "args": ARGUMENTS, "type": "tool_call"}],
            "response_metadata": {"model_name": X},
            "usage_metadata": {"details": X},
        },
        [ONE, GET, GIVEN],
    ),
    "langchain: data": ({"type": "human", "data": {"type": "human", "content": ONE, "id": X}}, [ONE]),
    "langchain: result": (
        {"type": "tool", "content": ONE, "tool_call_id": X, "artifact": {"rows": X}, "status": "success"},
        [ONE],
    ),
    "MCP": (
        {
            "role": "tool",
            "content": [
                {"type": "image", "data": X, "mimeType": "image/png"},
                {"type": "resource", "resource": {"uri": ONE, "mimeType": "text/plain", "text": TWO}},
            ],
        },
        [FILE, ONE, TWO],
    ),
    # Shapes of nobody
    "a result as an object": ({"role": "tool", "tool_call_id": X, "content": {"id": ONE}}, [Data({"id": ONE})]),
    "an item": (
        {"type": "session_manager.item", "item": {"type": "vote", "id": ONE}},
        [Data({"type": "vote", "id": ONE})],
    ),
    "an unknown field": ({"role": "user", "content": ONE, "details": {"lines": [TWO, {"more": ONE}]}}, [ONE, TWO, ONE]),
    "an unknown item": (
        {"type": "weather_report", "id": X, "report": ONE, "chart": f"data:image/png;base64,{PNG}"},
        [ONE, FILE],
    ),
}
