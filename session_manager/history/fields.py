"""The fields of messages, by what they hold: which are labels, which are arguments and results, which are encoded.

A field that is in none of these tables holds text, or more fields. So an unknown shape is counted and searched as well.
The names come from the references of the providers and frameworks:

* OpenAI, chat and Responses: https://platform.openai.com/docs/api-reference/chat,
  https://platform.openai.com/docs/api-reference/responses
* Anthropic: https://docs.claude.com/en/api/messages
* Gemini: https://ai.google.dev/api/caching#Content
* Bedrock Converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html
* Ollama: https://docs.ollama.com/api/chat
* OpenRouter: https://openrouter.ai/docs/use-cases/reasoning-tokens
* MCP: https://modelcontextprotocol.io/specification/2025-06-18/server/tools
* AI SDK: https://ai-sdk.dev/docs/reference/ai-sdk-core/model-message,
  https://ai-sdk.dev/docs/reference/ai-sdk-core/ui-message
* LangChain: https://reference.langchain.com/python/langchain_core/messages/
* LlamaIndex: https://developers.llamaindex.ai/python/framework-api-reference/prompts/
* Haystack: https://docs.haystack.deepset.ai/docs/chatmessage
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ENCODED", "Holds", "holds", "holds_otherwise", "is_block", "kind_of", "known"]


class Holds(enum.Enum):
    """What a field holds."""

    #: Text, or objects with more fields.
    TEXT = "text"
    #: A word of the format, an id, a signature, encrypted text. Its strings are left out; an object in it is read.
    LABEL = "label"
    #: What no provider gives to a model, such as the usage of tokens. It is left out, whatever is in it.
    ASIDE = "aside"
    #: The name of a tool or a speaker. It is counted, and not searched.
    NAME = "name"
    #: A JSON schema. It is counted, and not searched.
    SCHEMA = "schema"
    #: Arguments or results: everything in it is the user's own, names and numbers too.
    GIVEN = "given"
    #: Arguments that may be the text of a JSON object.
    ARGUMENTS = "arguments"
    #: Base64, if it is a string.
    ENCODED = "encoded"
    #: An image or a file, if it is an object.
    ATTACHED = "attached"


_FIELDS: Final[Mapping[Holds, tuple[str, ...]]] = {
    Holds.LABEL: (
        # Discriminators. LlamaIndex has `block_type`, LangChain's dumps have `lc`.
        *("type", "role", "object", "block_type", "status", "state", "phase", "outcome", "execution", "scheduling"),
        # Ids without the usual ending.
        *("id", "ids", "fingerprint", "system_fingerprint"),
        # Forms of data.
        *(
            "format",
            "language",
            "media_type",
            "mediaType",
            "mime_type",
            "mimeType",
            "image_mimetype",
            "document_mimetype",
        ),
        # What the model was, and why it stopped.
        *("model", "model_name", "finish_reason", "finishReason", "stop_reason", "stop_sequence", "service_tier"),
        # Times.
        *("created_at", "createdAt", "created", "created_by", "timestamp", "expires_at", "ttl"),
        # Encrypted or opaque. Bedrock has `redactedContent`.
        *("encrypted_content", "encrypted_index", "encrypted_stdout", "reasoningEncryptedContent", "redactedContent"),
        # "`cited_text` is not counted towards input tokens": https://docs.claude.com/en/docs/build-with-claude/citations
        "cited_text",
    ),
    Holds.ASIDE: (
        *("usage", "usage_metadata", "response_metadata", "logprobs", "avgLogprobs", "safetyRatings"),
        *("metadata", "meta", "part_metadata", "partMetadata", "videoMetadata", "video_metadata"),
        # AI SDK; LiteLLM.
        *("providerOptions", "providerMetadata", "callProviderMetadata", "provider_specific_fields"),
        *("cache_control", "cachePoint", "prompt_cache_breakpoint"),
        # LangChain: "not meant to be sent to the model". Haystack: the call, once more. OpenAI's SDK: the text, once more.
        *("artifact", "origin", "parsed", "parsed_arguments"),
    ),
    Holds.NAME: (
        *("name", "tool_name", "toolName", "server_name", "serverName", "mcp_server_name", "toolset_name"),
        *("server_label", "namespace", "author"),
    ),
    Holds.SCHEMA: ("input_schema", "inputSchema", "output_schema", "json_schema"),
    Holds.GIVEN: ("input", "args", "parameters", "response", "json", "result", "output", "value", "attributes"),
    Holds.ARGUMENTS: ("arguments", "tool_kwargs"),
    Holds.ENCODED: (
        *("b64_json", "base64", "base64_image", "base64_data", "image_data", "audio_data", "bytes", "blob", "images"),
        "file_data",
    ),
    Holds.ATTACHED: ("inlineData", "inline_data", "fileData", "image", "document", "video", "audio", "file"),
}
_HOLDS: Final = {name: what for what, names in _FIELDS.items() for name in names}
#: Fields that have base64, whatever object they are in.
ENCODED: Final = frozenset(_FIELDS[Holds.ENCODED])
_LABEL_ENDINGS: Final = ("_id", "Id", "_ids", "Ids", "signature", "Signature")

#: Fields that hold something else in an object of one type.
_OTHERS: Final[Mapping[str, Mapping[str, Holds]]] = {
    "redacted_thinking": {"data": Holds.LABEL},
    "reasoning.encrypted": {"data": Holds.LABEL},
    "image_generation_call": {
        "result": Holds.ENCODED,
        **dict.fromkeys(("action", "background", "output_format", "quality", "size"), Holds.LABEL),
    },
    # A list of objects with `stdout`, `stderr` and `outcome`.
    "shell_call_output": {"output": Holds.TEXT},
    # A tool's definition; in a call, `parameters` are arguments.
    "function": {"parameters": Holds.SCHEMA},
}
_OF_TYPE: Final = {kind: {**_HOLDS, **others} for kind, others in _OTHERS.items()}

#: Types of the objects of which results are made. In a result every other object is the user's own.
_BLOCKS: Final = frozenset(
    (
        *("input_text", "output_text", "input_image", "input_file", "image_url", "computer_screenshot", "input_audio"),
        *("error-text", "error-json", "execution-denied", "image-data", "image-url", "file-data", "file-url"),
        *("search_result", "tool_reference"),
    )
)
#: Types that a user's own object may have as well: with one of these fields it is taken for a block.
_LIKELY_BLOCKS: Final = {
    "text": ("text", "value"),
    "json": ("value",),
    "content": ("value",),
    "resource": ("resource",),
    **dict.fromkeys(("image", "audio", "video", "file", "document", "media"), ("data", "source", "image", "base64")),
}


def kind_of(value: Mapping[str, Any]) -> str:
    """Return the type of an object; an empty text if it has none."""
    kind = value.get("type") or value.get("block_type")
    return kind if isinstance(kind, str) else ""


def holds(field: str, kind: str = "") -> Holds:
    """Return what a field holds.

    :param kind: the type of the object that has the field.

    >>> holds("stdout"), holds("tool_call_id"), holds("data", "redacted_thinking")
    (<Holds.TEXT: 'text'>, <Holds.LABEL: 'label'>, <Holds.LABEL: 'label'>)
    """
    return known(kind).get(field) or holds_otherwise(field)


def known(kind: str) -> Mapping[str, Holds]:
    """Return what the fields of an object of a type hold, as far as the tables tell."""
    return _OF_TYPE.get(kind, _HOLDS)


def holds_otherwise(field: str) -> Holds:
    """Return what a field holds that is in no table."""
    return Holds.LABEL if field.endswith(_LABEL_ENDINGS) else Holds.TEXT


def is_block(value: object) -> bool:
    """Say whether a value in a result is a block of the format, and not the user's own object."""
    if not isinstance(value, dict):
        return False
    kind = kind_of(value)
    if kind == "":  # Haystack's images have no type
        return len(value) == 1 and isinstance(image := value.get("image"), dict) and "base64_image" in image
    return kind in _BLOCKS or any(field in value for field in _LIKELY_BLOCKS.get(kind, ()))
