"""SDK objects: what of a provider's answer its next request takes, and what is only about the answer.

==========================  =====================================================  ======================================
package                     taken                                                  the rest, for a message's metadata
==========================  =====================================================  ======================================
``anthropic``               `Message`, `BetaMessage`: ``role``, ``content``        id, model, stop reason, usage, …
``openai``, chat            `ChatCompletionMessage`: all but the rest              annotations, the data of audio
``openai``, Responses       an item of ``response.output``: all but the rest       ``created_by``, reasoning's ``status``
``google-genai``            `Content`, under its names in JSON (``functionCall``)  nothing
``langchain-core``          a message: all of it                                   nothing
any                         an object with a role and nothing but chat's fields    nothing
==========================  =====================================================  ======================================

Classes are known by their package and name, and no package is imported. Null fields are left out, but for those that an
input must have. A package's own parse of a text (``parsed``) is left out, for it is in the text. Every rule has its source
beside it; "types" are the package's own types of input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from session_manager.errors import InvalidMessageError, raise_alone
from session_manager.frozen import Frozen

__all__ = ["split"]


class _At(Frozen, frozen=True):
    """Fields of the objects at one place. A list on the way stands for each of its items."""

    place: tuple[str, ...]
    fields: tuple[str, ...]
    #: The ``type`` that an object must have to be meant.
    kind: str | None = None
    #: The ``type`` of the item that it is in.
    item: str | None = None


class _Form(Frozen, frozen=True):
    """What a request takes of one kind of object."""

    #: The only fields that it takes; `None` for all but the rest.
    taken: frozenset[str] | None = None
    #: Fields that it refuses.
    rest: tuple[_At, ...] = ()
    #: Fields that repeat others, for the package's own use.
    derived: tuple[_At, ...] = ()
    #: Fields that it wants, null or not.
    wanted: tuple[_At, ...] = ()
    #: Its lists that it refuses when they are empty.
    filled: tuple[str, ...] = ()


#: Of a text, and of a text in an MCP tool's result.
_CITATIONS: Final = (("content", "citations"), ("content", "content", "citations"))
_TITLES: Final = {
    "char_location": "document_title",
    "page_location": "document_title",
    "content_block_location": "document_title",
    "web_search_result_location": "title",
    "search_result_location": "title",
}

#: anthropic 2.14: `Message.to_param` sends role and content. Types: citations have no ``file_id``, and need their title; a
#: sent ``file_id`` is "Extra inputs are not permitted" (https://github.com/langchain-ai/langchain/pull/32592).
_ANTHROPIC: Final = _Form(
    taken=frozenset(("role", "content")),
    rest=tuple(_At(place, ("file_id",)) for place in _CITATIONS),
    derived=(_At(("content",), ("parsed_output",)),),
    wanted=tuple(_At(place, (title,), kind) for place in _CITATIONS for kind, title in _TITLES.items()),
)

#: openai 3.57, types: `ChatCompletionAssistantMessageParam` has no annotations, and of audio only the id. Fields that the
#: types do not know are other providers': DeepSeek's ``reasoning_content`` and Gemini's signatures must come back
#: (https://api-docs.deepseek.com/guides/thinking_mode, https://ai.google.dev/gemini-api/docs/openai).
#: No calls are "Expected an array with minimum length 1" (https://github.com/openai/openai-node/pull/1341).
_CHAT: Final = _Form(
    rest=(_At((), ("annotations",)), _At(("audio",), ("data", "expires_at", "transcript"))),
    derived=(_At((), ("parsed",)), _At(("tool_calls", "function"), ("parsed_arguments",))),
    filled=("tool_calls",),
)

#: openai 3.57, types: no `ResponseInputItemParam` has ``created_by``. Reasoning's ``status`` is "Unknown parameter"
#: (https://github.com/BerriAI/litellm/issues/13420, https://github.com/Oaklight/llm-rosetta/pull/569).
_RESPONSES: Final = _Form(
    rest=(
        _At((), ("created_by",)),
        _At(("output",), ("created_by",)),
        _At((), ("status",), "reasoning"),
        _At((), ("status",), "custom_tool_call_output"),
    ),
    derived=(_At((), ("parsed_arguments",)), _At(("content",), ("parsed",))),
    wanted=(
        _At((), ("code", "outputs"), "code_interpreter_call"),
        _At((), ("result",), "image_generation_call"),
        _At(("error",), ("code", "param"), item="image_generation_call"),
        _At(("action",), ("keys",), "double_click"),
        _At(("actions",), ("keys",), "double_click"),
        _At(("tools",), ("parameters", "strict"), "function"),
    ),
)

_ALL: Final = _Form()

#: By package and name of the class; ``*`` for the packages that have the same generator as OpenAI's.
_FORMS: Final = {
    ("anthropic", "Message"): _ANTHROPIC,
    ("anthropic", "BetaMessage"): _ANTHROPIC,
    ("*", "ChatCompletionMessage"): _CHAT,
    ("google", "Content"): _ALL,
    ("langchain_core", "BaseMessage"): _ALL,
}

_STREAM: Final = "a piece of a stream: add the message when the stream has ended"
_PART: Final = "a part of a message: add the message that holds it"

#: What to add instead of an object.
_INSTEAD: Final = {
    ("*", "ChatCompletion"): "a whole answer: add its .choices[0].message",
    ("*", "ChatCompletionChunk"): _STREAM,
    ("openai", "Choice"): "a choice: add its .message",
    ("openai", "Response"): "a whole answer: add each item of its .output, by add(key, *response.output)",
    ("google", "GenerateContentResponse"): "a whole answer: add its .candidates[0].content",
    ("google", "Candidate"): "a candidate: add its .content",
    ("anthropic", "BaseModel"): "a part of an answer: add the whole Message",
    ("google", "BaseModel"): "a part of an answer: add the Content that holds it",
    ("langchain_core", "BaseMessageChunk"): "a piece of a stream: add message_chunk_to_message(…) of their sum",
    ("langchain_core", "RemoveMessage"): "an instruction to LangGraph, not a message",
    ("langchain_core", "ChatGeneration"): "a generation: add its .message",
}

_ITEMS: Final = "openai.types.responses."
#: Types of the content of items, in the same module.
_PARTS: Final = ("output_text", "refusal", "reasoning_text", "summary_text", "input_text", "input_image", "input_file")
#: The fields that chat takes of every role (openai 3.57, types).
_CHAT_FIELDS: Final = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio")
)
_UNKNOWN: Final = (
    "no SDK's message that is known to be taken back: give what you send, a mapping such as"
    " its model_dump(mode='json', exclude_none=True)"
)


def split(value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of an SDK's object can be sent back, and the rest, each by the path at which it stood.

    :param value: an object with ``model_dump``, as pydantic has it.
    :raises InvalidMessageError: if it is not known that the provider takes it back. The error says what to add instead.
    """
    names = [(str(base.__module__).partition(".")[0], base.__name__) for base in type(value).__mro__]
    known = [key for package, name in names for key in ((package, name), ("*", name))]
    found = next((key for key in known if key in _FORMS or key in _INSTEAD), None)
    if found in _INSTEAD:
        raise InvalidMessageError("", _INSTEAD[found])
    given = _dumped(value)
    form = _form_of(value, given) if found is None else _FORMS[found]
    for _, owner, field in _found(given, form.derived):
        owner.pop(field, None)
    for _, owner, field in _found(given, form.wanted):
        owner.setdefault(field, None)
    for name in form.filled:
        if given.get(name) == []:
            del given[name]
    rest = {path: owner.pop(field) for path, owner, field in _found(given, form.rest) if field in owner}
    if form.taken is not None:
        rest.update((field, given.pop(field)) for field in set(given) - form.taken)
    return given, {path: rest[path] for path in sorted(rest) if rest[path] not in ([], {})}


def _dumped(value: Any) -> dict[str, Any]:
    try:
        dumped = value.model_dump(mode="json", by_alias=True, exclude_none=True, warnings=False)
    except Exception as error:  # noqa: BLE001 - a class of somebody else's raises anything, with the value in it
        raise_alone(InvalidMessageError("", f"its model_dump failed with {type(error).__name__}"))
    if not isinstance(dumped, Mapping):
        raise InvalidMessageError("", _UNKNOWN)
    return dict(dumped)


def _form_of(value: object, given: dict[str, Any]) -> _Form:
    """Return the form of an object that has no class of the table."""
    kind = given.get("type")
    if isinstance(kind, str) and any(str(base.__module__).startswith(_ITEMS) for base in type(value).__mro__):
        if kind.startswith("response."):
            raise InvalidMessageError("", _STREAM)
        if kind in _PARTS:
            raise InvalidMessageError("", _PART)
        return _RESPONSES
    if "role" in given and _CHAT_FIELDS.issuperset(given):
        return _CHAT
    raise InvalidMessageError("", _UNKNOWN)


def _found(value: dict[str, Any], rules: tuple[_At, ...]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield each field that the rules mean, there or not: its path, the object that has it, and its name."""
    for at in rules:
        for path, owner in _owners(value, at):
            for field in at.fields:
                yield f"{path}{field}", owner, field


def _owners(value: dict[str, Any], at: _At) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects at a place, each with its path."""
    owners = [("", value)] if at.item in (None, value.get("type")) else []
    for step in at.place:
        owners = [found for path, owner in owners for found in _inner(f"{path}{step}", owner.get(step))]
    return ((path, owner) for path, owner in owners if at.kind in (None, owner.get("type")))


def _inner(path: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield f"{path}.", value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict):
                yield f"{path}[{number}].", item
