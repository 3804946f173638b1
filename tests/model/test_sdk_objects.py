"""What an SDK answers can be stored and sent back, by the types of the real packages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import product
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from session_manager import InvalidMessageError, Message, SessionManager
from session_manager.model.json_value import same
from tests.support.canary import CANARY

NEEDED = ("pydantic", "openai", "anthropic")
pytestmark = pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason=f"needs {', '.join(NEEDED)}")
google = pytest.mark.skipif(not find_spec("google") or not find_spec("google.genai"), reason="needs google-genai")
langchain = pytest.mark.skipif(not find_spec("langchain_core"), reason="needs langchain-core")

#: The classes of a union that are tried.
VARIANTS = 8
USAGE = {"input_tokens": 12, "output_tokens": 34}


def refusal(value: object) -> str:
    with pytest.raises(InvalidMessageError) as caught:
        Message.of(value)
    assert caught.value.path == ""
    return caught.value.reason


# The types of the packages: what they take, and one object of each of their classes


def plain(kind: Any) -> Any:
    """Return a type without what only says something about it."""
    while get_origin(kind) is Annotated or hasattr(kind, "__value__"):
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind.__value__
    return kind


def members(kind: Any) -> list[Any]:
    """Return the members of a union of classes."""
    kind = plain(kind)
    if get_origin(kind) is Union or type(kind).__name__ == "UnionType":
        return [one for member in get_args(kind) for one in members(member)]
    return [kind]


@cache
def inputs(package: str) -> list[Any]:
    """Return the typed dicts that a package takes: messages or items, or Anthropic's blocks of content."""
    import pydantic
    from anthropic.types import ContentBlockParam
    from anthropic.types.beta import BetaContentBlockParam
    from openai.types.chat import ChatCompletionAssistantMessageParam
    from openai.types.responses import ResponseInputItemParam

    kinds = {
        "anthropic": ContentBlockParam,
        "beta": BetaContentBlockParam,
        "chat": ChatCompletionAssistantMessageParam,
        "items": ResponseInputItemParam,
    }
    return [one for one in members(kinds[package]) if not issubclass(one, pydantic.BaseModel)]


@cache
def fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the fields of a typed dict, each with its type, and whether it is required."""
    fields = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        required = "NotRequired" not in str(hint) and name in kind.__required_keys__
        while str(get_origin(hint)).endswith("Required") or get_origin(hint) is Annotated:
            required = required or str(get_origin(hint)).endswith(".Required")
            name = next((one.alias for one in get_args(hint)[1:] if getattr(one, "alias", None)), name)
            hint = get_args(hint)[0]
        fields[name] = hint, required
    return fields


def flaws(value: Any, kinds: list[Any]) -> list[str]:
    """Say why a value is none of some types: fields that they do not know, and fields that they miss.

    (Validation by pydantic says less: it takes any value for an ``Iterable`` until that is walked.)
    """
    from typing_extensions import is_typeddict

    if value is None:
        return [] if type(None) in kinds else ["null"]
    if isinstance(value, list):
        items = [one for kind in kinds if get_origin(kind) not in (None, dict) for one in members(get_args(kind)[0])]
        return [flaw for one in value for flaw in flaws(one, items)]
    typed = [one for one in kinds if is_typeddict(one)]
    if not isinstance(value, dict) or not typed or object in kinds:
        return []
    return min(([*_flaws_of(value, one)] for one in typed), key=len)


def _flaws_of(value: dict[str, Any], kind: Any) -> Iterator[str]:
    fields = fields_of(kind)
    types = get_args(fields["type"][0]) if "type" in fields else ()
    if types and value.get("type", types[0]) not in types:
        yield from ["another type"] * 99
    for name, (_, required) in fields.items():
        if required and name not in value:
            yield f"{kind.__name__}: no {name}"
    for name, one in value.items():
        if name not in fields:
            yield f"{kind.__name__}: unknown {name}"
        else:
            yield from (f"{kind.__name__}.{name}: {flaw}" for flaw in flaws(one, members(fields[name][0])))


def is_leaf(kind: Any) -> bool:
    """Say whether a type has no class of the package in it."""
    import pydantic

    kinds = [plain(one) for one in (kind, *get_args(kind))]
    classes = [one for one in kinds if isinstance(one, type) and issubclass(one, pydantic.BaseModel)]
    return not classes and all(map(is_leaf, get_args(kind)))


def made(kind: Any, nulls: str, which: int = 0) -> Any:
    """Return JSON of a type.

    :param nulls: whether values that may be null are: all, leaves (those with no object in them) or none.
    :param which: which class of a union is taken.
    """
    import pydantic

    kinds = members(kind)
    there = [one for one in kinds if one is not type(None)]
    if not there or (there != kinds and (nulls == "all" or (nulls == "leaves" and all(map(is_leaf, there))))):
        return None
    kind = there[which % len(there)]
    origin = get_origin(kind)
    if origin is Literal:
        return "developer" if "developer" in get_args(kind) else get_args(kind)[0]
    if origin in (list, tuple):
        return [made(get_args(kind)[0], nulls, which)]
    if origin is dict and get_args(kind)[1] is not object:
        return {"a": made(get_args(kind)[1], nulls, which)}
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        fields = kind.model_fields.items()
        return {field.alias or name: made(field.annotation, nulls, which) for name, field in fields}
    known: dict[Any, Any] = {str: "text", int: 1, float: 1.0, bool: True}
    return known.get(kind, {"a": None, "b": [None]})


def classes(which: str) -> list[Any]:
    """Return the classes of what a package answers with: items, or blocks of content."""
    from anthropic.types import ContentBlock
    from anthropic.types.beta import BetaContentBlock
    from openai.types.responses import ResponseOutputItem

    return members({"anthropic": ContentBlock, "beta": BetaContentBlock, "items": ResponseOutputItem}[which])


def anthropic_message(*content: Any, beta: bool = False) -> Any:
    from anthropic.types import Message as Answer
    from anthropic.types.beta import BetaMessage

    fields = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "usage": USAGE}
    ended = {"stop_reason": "tool_use", "stop_sequence": None}
    return (BetaMessage if beta else Answer).model_validate({**fields, **ended, "content": list(content)})


# Every class of each package


@pytest.mark.parametrize("nulls", ["all", "leaves", "none"])
def test_every_output_item_is_accepted_as_input(nulls):
    """`created_by`, reasoning's `status` and `async_` were sent back; null code and outputs were missing."""
    for kind, which in product(classes("items"), range(VARIANTS)):
        item = kind.model_validate(made(kind, nulls, which))
        message = Message.of(item)
        assert flaws(message.to_dict(), inputs("items")) == []
        assert message.to_dict()["type"] == item.type


@pytest.mark.parametrize("nulls", ["all", "leaves", "none"])
@pytest.mark.parametrize("package", ["anthropic", "beta"])
def test_every_block_is_accepted_as_input(package, nulls):
    for kind, which in product(classes(package), range(VARIANTS)):
        answer = anthropic_message(made(kind, nulls, which), beta=package == "beta")
        message = Message.of(answer)
        assert [flaw for block in message.content for flaw in flaws(block, inputs(package))] == []
        assert message.to_dict()["content"][0]["type"] == answer.content[0].type


@pytest.mark.parametrize("nulls", ["all", "leaves", "none"])
def test_every_chat_message_is_accepted_as_input(nulls):
    from openai.types.chat import ChatCompletionMessage

    for which in range(2):
        given = made(ChatCompletionMessage, nulls, which)
        message = Message.of(ChatCompletionMessage.model_validate(given))
        assert flaws(message.to_dict(), inputs("chat")) == []


# Anthropic


def test_an_anthropic_answer_is_its_role_and_content():
    """It was sent back with id, usage and stop_reason, which Anthropic refuses."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {"zone": None, "more": [None]}}
    message = Message.of(anthropic_message({"type": "text", "text": "Hm.", "citations": None}, use))
    assert message.to_dict() == {"role": "assistant", "content": [{"type": "text", "text": "Hm."}, use]}
    assert message.metadata["usage"] == USAGE
    about = {"id": "msg_1", "model": "claude", "stop_reason": "tool_use", "type": "message", "usage": USAGE}
    assert message.metadata == about


def test_a_citation_goes_back_without_its_file_and_with_its_title():
    place = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None}
    cited = {**place, "start_char_index": 0, "end_char_index": 1, "file_id": "file_1"}
    message = Message.of(anthropic_message({"type": "text", "text": "x", "citations": [cited]}))
    (citation,) = message.content[0]["citations"]
    assert "file_id" not in citation
    assert citation["document_title"] is None
    assert message.metadata["content[0].citations[0].file_id"] == "file_1"


def test_what_a_model_wrote_is_not_taken_for_a_part_of_the_answer():
    """Rules are for the places of the package's fields, not for fields of the same name in a tool's input."""
    free = {"citations": [{"file_id": "1"}], "created_by": "me", "parsed": 1, "type": "reasoning", "status": "x"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": free}
    assert Message.of(anthropic_message(use)).content == [use]


def test_a_parsed_answer_is_stored_once():
    from anthropic.types.parsed_message import ParsedMessage, ParsedTextBlock

    block = ParsedTextBlock.model_construct(type="text", text="{}", parsed_output={"a": 1})
    parsed = ParsedMessage.model_construct(id="1", type="message", role="assistant", content=[block])
    assert Message.of(parsed).content == [{"type": "text", "text": "{}"}]
    older = anthropic_message({"type": "text", "text": "{}", "parsed_output": {"a": 1}})  # an older package dumps it
    assert Message.of(older).content == [{"type": "text", "text": "{}"}]


def test_a_block_of_an_answer_is_refused_by_itself():
    answer = anthropic_message({"type": "text", "text": CANARY})
    assert refusal(answer.content[0]) == "a part of an answer: add the whole Message"
    assert refusal(answer.usage) == "a part of an answer: add the whole Message"


# OpenAI, chat


def chat_message(**fields: Any) -> Any:
    from openai.types.chat import ChatCompletionMessage

    return ChatCompletionMessage.model_validate({"role": "assistant", **fields})


def test_a_chat_answer_goes_back_without_its_annotations():
    cited = {"type": "url_citation", "url_citation": {"url": "x:", "title": "x", "start_index": 0, "end_index": 1}}
    message = Message.of(chat_message(content="hi", refusal=None, annotations=[cited]))
    assert message.to_dict() == {"role": "assistant", "content": "hi"}
    assert message.metadata == {"annotations": [cited]}
    assert Message.of(chat_message(content="hi", annotations=[])).metadata == {}


def test_the_audio_of_an_answer_goes_back_as_its_id():
    audio = {"id": "audio_1", "data": "UklG", "expires_at": 1, "transcript": "hi"}
    message = Message.of(chat_message(content=None, audio=audio))
    assert message.to_dict() == {"role": "assistant", "audio": {"id": "audio_1"}}
    assert message.metadata == {"audio.data": "UklG", "audio.expires_at": 1, "audio.transcript": "hi"}


def test_fields_of_other_providers_stay_in_a_chat_message():
    """DeepSeek, Gemini and others want their reasoning back; the package does not know these fields."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"a": None}}
    given = {"reasoning_content": "hm", "reasoning_details": [{"type": "x", "data": None}], "tool_calls": [call]}
    assert same(Message.of(chat_message(content=None, **given)).to_dict(), {"role": "assistant", **given})


def test_a_chat_answer_without_calls_has_no_list_of_them():
    """Some servers answer with an empty list, and OpenAI refuses one."""
    assert Message.of(chat_message(content="hi", tool_calls=[])).to_dict() == {"role": "assistant", "content": "hi"}


def test_a_parsed_chat_answer_is_stored_once():
    from openai.types.chat import ParsedChatCompletionMessage
    from pydantic import BaseModel

    class Weather(BaseModel):
        degrees: int

    function = {"name": "f", "arguments": '{"a": 1}', "parsed_arguments": {"a": 1}}
    call = {"id": "1", "type": "function", "function": function}
    answer = ParsedChatCompletionMessage[Weather](role="assistant", content='{"degrees": 7}', tool_calls=[call])
    answer.parsed = Weather(degrees=7)
    message = Message.of(answer)
    assert message.content == '{"degrees": 7}'
    assert message.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert set(message.to_dict()) == {"role", "content", "tool_calls"}
    assert message.metadata == {}


def test_a_whole_chat_completion_is_refused_with_a_hint():
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": CANARY}}
    fields = {"id": "1", "created": 1, "model": "gpt"}
    whole = ChatCompletion.model_validate({**fields, "object": "chat.completion", "choices": [choice]})
    piece = {"index": 0, "delta": {"content": CANARY}}
    chunk = ChatCompletionChunk.model_validate({**fields, "object": "chat.completion.chunk", "choices": [piece]})
    assert refusal(whole).endswith("add its .choices[0].message")
    assert refusal(whole.choices[0]).endswith("add its .message")
    assert refusal(chunk).endswith("add the message when the stream has ended")
    with SessionManager() as m:
        m.add("k", whole.choices[0].message)
        assert m.get_context("k") == [{"role": "assistant", "content": CANARY}]


# OpenAI, Responses


def test_the_output_of_a_response_goes_back_item_by_item():
    from openai.types.responses import Response

    said = {"type": "output_text", "text": "hi", "annotations": [], "logprobs": None}
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "status": "completed", "encrypted_content": "gAAA"},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "async": True},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]},
    ]
    response = Response.model_construct(id="resp_1", object="response", output=output)
    assert refusal(response).endswith("add each item of its .output, by add(key, *response.output)")
    items = [
        kind.model_validate(one)
        for one in output
        for kind in classes("items")
        if plain(kind.model_fields["type"].annotation) == Literal[one["type"]]
    ]
    with SessionManager() as m:
        m.add("k", *items)
        history = m.get_history("k")
    assert [one.to_dict() for one in history] == [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        output[1],
        {**output[2], "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
    ]
    assert [one.metadata for one in history] == [{"status": "completed"}, {}, {}]


def test_a_parsed_response_is_stored_once():
    from openai.types.responses import (
        ParsedResponseFunctionToolCall,
        ParsedResponseOutputMessage,
        ParsedResponseOutputText,
    )

    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    parsed = ParsedResponseFunctionToolCall.model_construct(**call, parsed_arguments={"a": 1})
    assert Message.of(parsed).to_dict() == call
    text = ParsedResponseOutputText.model_construct(type="output_text", text="{}", annotations=[], parsed={"a": 1})
    fields = {"type": "message", "id": "1", "role": "assistant", "status": "completed"}
    message = ParsedResponseOutputMessage.model_construct(**fields, content=[text])
    content = [{"type": "output_text", "text": "{}", "annotations": []}]
    assert Message.of(message).to_dict() == {**fields, "content": content}


def test_events_and_parts_of_a_response_are_refused():
    from openai.types.responses import ResponseOutputText, ResponseTextDeltaEvent

    event = ResponseTextDeltaEvent.model_construct(type="response.output_text.delta", delta=CANARY)
    assert refusal(event).endswith("add the message when the stream has ended")
    text = ResponseOutputText(type="output_text", text=CANARY, annotations=[])
    assert refusal(text) == "a part of a message: add the message that holds it"


# Google


@google
def test_a_google_content_comes_back_to_the_package():
    from google.genai import types

    call = types.FunctionCall(id="1", name="f", args={"a": None, "snake_case": [None]})
    blob = types.Blob(mime_type="image/png", data=b"\xfb\xff\xfe")
    parts = [
        types.Part(text="hm", thought=True),
        types.Part(function_call=call, thought_signature=b"\xfb\xff\xfe\x00"),
        types.Part(inline_data=blob),
    ]
    content = types.Content(role="model", parts=parts)
    message = Message.of(content)
    assert message.role == "model"
    assert message.to_dict()["parts"][1]["functionCall"]["args"] == {"a": None, "snake_case": [None]}
    assert types.Content.model_validate_json(json.dumps(message.to_dict())) == content
    assert Message.of(types.UserContent("hi")).to_dict() == {"role": "user", "parts": [{"text": "hi"}]}


@google
def test_a_whole_google_answer_is_refused_with_a_hint():
    from google.genai import types

    content = types.Content(role="model", parts=[types.Part(text=CANARY)])
    answer = types.GenerateContentResponse(candidates=[types.Candidate(content=content)])
    assert refusal(answer).endswith("add its .candidates[0].content")
    assert refusal(answer.candidates[0]).endswith("add its .content")
    assert refusal(content.parts[0]).endswith("add the Content that holds it")
    assert refusal(types.FunctionCall(name="f")).endswith("add the Content that holds it")


# LangChain


@langchain
def test_a_langchain_message_comes_back_to_the_package():
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    call = {"name": "f", "args": {"a": None}, "id": "c1", "type": "tool_call"}
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    given = [
        SystemMessage("s"),
        HumanMessage("hello", name="Ada"),
        AIMessage("hi", tool_calls=[call], usage_metadata=usage, response_metadata={"model": "x", "n": None}),
        ToolMessage("12", tool_call_id="c1", artifact={"x": [None]}),
    ]
    for message in given:
        stored = Message.of(message).to_dict()
        assert None not in stored.values()
        assert type(message).model_validate(stored) == message


@langchain
def test_a_piece_of_a_langchain_stream_is_refused():
    from langchain_core.messages import AIMessageChunk, RemoveMessage

    assert "message_chunk_to_message" in refusal(AIMessageChunk(CANARY))
    assert "not a message" in refusal(RemoveMessage(id="1"))


# Any other class


def test_an_object_with_nothing_but_a_chat_messages_fields_is_taken():
    import pydantic

    class Own(pydantic.BaseModel):
        role: str
        content: str | None = None
        name: str | None = None

    assert Message.of(Own(role="user", content="hi")).to_dict() == {"role": "user", "content": "hi"}
    assert Message.of(Own(role="user", content="hi"), created_at=None).metadata == {}


def test_an_object_that_nobody_knows_to_be_taken_back_is_refused():
    """A row of a database, with its id and time, was stored, and sent to the model as it was."""
    import pydantic

    class Row(pydantic.BaseModel):
        role: str
        content: str
        database_id: int

    row = Row(role="user", content=CANARY, database_id=7)
    assert "model_dump(mode='json', exclude_none=True)" in refusal(row)
    with SessionManager() as m, pytest.raises(InvalidMessageError, match="no SDK's message"):
        m.add("k", row)
    assert Message.of(row.model_dump()).to_dict() == {"role": "user", "content": CANARY, "database_id": 7}


def test_an_answer_that_its_package_did_not_check_gives_no_warning():
    """Packages build answers unchecked, and pydantic warns of each value of another type than the class says."""
    from openai.types.chat import ChatCompletionMessage

    answer = ChatCompletionMessage.model_construct(role="assistant", content=[{"type": "text", "text": "hi"}])
    assert Message.of(answer).content == [{"type": "text", "text": "hi"}]


def test_an_object_whose_dump_is_no_object_is_refused():
    class Listed:
        def model_dump(self, **_: object) -> list[str]:
            return [CANARY]

    assert "no SDK's message" in refusal(Listed())


def test_the_error_of_a_failing_dump_shows_no_text():
    class Failing:
        def model_dump(self, **_: object) -> None:
            raise ValueError(CANARY)

    assert refusal(Failing()) == "its model_dump failed with ValueError"


def test_metadata_of_an_answer_takes_the_place_of_older_metadata():
    answer = anthropic_message({"type": "text", "text": "hi"})
    with SessionManager() as m:
        m.add_message("k", "assistant", "h", metadata={"own": 1})
        m.update_last("k", answer)
        (message,) = m.get_history("k")
        assert message.metadata["usage"] == USAGE
        assert "own" not in message.metadata


def test_a_mapping_of_an_answer_is_kept_as_it_is():
    """Promise 5: only objects of a package are parted, a mapping never."""
    given = anthropic_message({"type": "text", "text": "hi"}).model_dump(mode="json")
    assert same(Message.of(given).to_dict(), given)
