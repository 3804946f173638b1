"""What each provider accepts, rule by rule: small histories that were judged wrongly, or that only one rule judges."""

from __future__ import annotations

import attrs
import pytest

from session_manager import ContextTooSmallError, InvalidMessageError, Item, Message, SessionManager
from session_manager.history import (
    ANTHROPIC,
    BEDROCK,
    BY_SHAPE,
    GEMINI,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    STRICT_TEMPLATES,
    Empty,
    Rules,
    Shape,
    SystemPlace,
    Unique,
    Where,
    estimate_tokens,
    problems,
    register_shape,
    repair,
    shape_of,
    turns,
)
from session_manager.history.context import SUMMARY_PREFACE
from session_manager.history.shapes import INTERRUPTED, Call, Result, unregister_shape

KEY = "telegram:42"
ASKED = {"role": "user", "content": "What time is it?"}
TEXT = {"type": "text", "text": "Hm."}
EMPTY_TEXT = {"type": "text", "text": ""}


def said(text):
    return {"role": "assistant", "content": text}


def use(name, id_="t1"):
    return {"type": "tool_use", "id": id_, "name": name, "input": {}}


def got(id_="t1"):
    return {"type": "tool_result", "tool_use_id": id_, "content": "12:00"}


def thinking(text):
    return {"type": "thinking", "thinking": text, "signature": "Eq=="}


def model(*blocks):
    return {"role": "assistant", "content": [*blocks]}


def user(*blocks):
    return {"role": "user", "content": [*blocks]}


def messages_of(objects):
    return [Message.from_dict(one)._placed(number, None) for number, one in enumerate(objects)]


def mended(objects, rules=BY_SHAPE):
    """The repaired history, which has no problems and stays as it is; a valid one is the same objects."""
    given = messages_of(objects)
    done = repair(given, rules=rules)
    assert problems(done, rules=rules) == []
    again = repair(done, rules=rules)
    assert len(again) == len(done)
    assert all(one is two for one, two in zip(again, done, strict=True))
    if not problems(given, rules=rules):
        assert len(done) == len(given)
        assert all(one is two for one, two in zip(given, done, strict=True))
    return [message.to_dict() for message in done]


def stays(objects, rules=BY_SHAPE):
    return problems(messages_of(objects), rules=rules) == [] and mended(objects, rules) == objects


# Signed thinking


def test_interleaved_thinking_is_not_reordered():
    """The repair put both thoughts before both calls; Anthropic refuses changed thinking."""
    calling = model(thinking("one"), use("a", "A"), thinking("two"), use("b", "B"))
    assert stays([ASKED, calling, user(got("A"), got("B"))])
    assert stays([ASKED, calling, user(got("A"), got("B"))], ANTHROPIC)


@pytest.mark.parametrize("rules", [BY_SHAPE, ANTHROPIC, attrs.evolve(ANTHROPIC, calls_last=True)])
def test_a_signed_message_is_given_back_as_it_is_whatever_is_beside_it(rules):
    calling = model(thinking("one"), EMPTY_TEXT, use("a", "A"), {**TEXT})
    assert mended([ASKED, calling, ASKED], rules)[1] == calling
    redacted = model({"type": "redacted_thinking", "data": "Eq=="}, use("a", "x:1"), TEXT)
    assert mended([ASKED, redacted, user(got("x:1"))], rules)[1] == redacted


def test_a_signed_message_that_must_lose_a_call_loses_its_thoughts_too():
    lone = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    assert mended([ASKED, model(thinking("one"), TEXT, lone), ASKED]) == [ASKED, model(TEXT), ASKED]
    assert mended([ASKED, model(thinking("one"), lone), ASKED]) == [ASKED, ASKED]
    reasoned = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "Eq=="}}}
    twice = [{"toolUse": {"toolUseId": "t1", "name": "now", "input": {}}}] * 2
    told = {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "12:00"}]}}]}
    assert mended([ASKED, model(reasoned, *twice), told]) == [ASKED, model(twice[0]), told]


def test_calls_come_last_where_a_rule_says_so():
    objects = [ASKED, model(use("a"), TEXT), user(got())]
    assert stays(objects)
    assert mended(objects, attrs.evolve(ANTHROPIC, calls_last=True))[1] == model(TEXT, use("a"))


def test_results_come_first_where_a_rule_says_so():
    objects = [ASKED, model(use("a")), user(TEXT, got())]
    assert mended(objects)[2] == user(got(), TEXT)
    assert stays(objects, OPENAI_CHAT)


# One call, one result


@pytest.mark.parametrize(
    "shape",
    [
        lambda count, results: [model(*[use("a")] * count), user(*[got()] * results)],
        lambda count, results: [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}] * count},
            *[{"role": "tool", "tool_call_id": "c", "content": "12:00"}] * results,
        ],
        lambda count, results: [
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c", "name": "now", "input": {}}}] * count},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "c", "content": []}}] * results},
        ],
        lambda count, results: [
            *[{"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"}] * count,
            *[{"type": "function_call_output", "call_id": "c", "output": "12:00"}] * results,
        ],
    ],
)
@pytest.mark.parametrize("rules", [BY_SHAPE, ANTHROPIC, BEDROCK, STRICT_TEMPLATES])
def test_a_call_that_was_stored_twice_is_one_call_with_one_result(shape, rules):
    """The repair kept both calls, and added a second result."""
    once = [ASKED, *shape(1, 1)]
    assert mended([ASKED, *shape(2, 1)], rules) == once
    assert mended([ASKED, *shape(1, 2)], rules) == once
    if "function_call" not in str(once):
        assert mended([ASKED, *shape(2, 2)], rules) == once


# Messages that say nothing


@pytest.mark.parametrize("rules", [BY_SHAPE, OPENAI_CHAT, ANTHROPIC, GEMINI, BEDROCK, STRICT_TEMPLATES])
@pytest.mark.parametrize(
    "empty",
    [
        said(None),
        said(""),
        said([]),
        {"role": "assistant"},
        model(EMPTY_TEXT),
        model(EMPTY_TEXT, EMPTY_TEXT),
        {**said(None), "tool_calls": [], "refusal": None},
        {"role": "assistant", "id": "msg_1", "model": "m", "content": [], "stop_reason": "end_turn"},
        {"role": "model", "parts": []},
        {"role": "model", "parts": [{"text": ""}]},
        {"role": "assistant", "content": [{"text": ""}], "meta": {}, "name": None},
        {"type": "ai", "content": "", "tool_calls": []},
        {"role": "assistant", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": ""}]},
    ],
)
def test_an_empty_answer_is_left_out(empty, rules):
    """It passed, and the provider refused the history for good."""
    found = problems(messages_of([ASKED, empty, ASKED]), rules=rules)
    assert (1, "a message that says nothing") in [(one.index, one.reason) for one in found]
    assert empty not in mended([ASKED, empty, ASKED], rules)
    assert len(mended([ASKED, said("Noon."), empty, {"role": "user", "content": "And now?"}], rules)) == 3


def test_the_last_message_may_be_empty_where_the_model_goes_on_in_it():
    assert stays([ASKED, said("")])
    assert stays([ASKED, said("")], ANTHROPIC)
    assert mended([ASKED, said(None)]) == [ASKED]
    assert mended([ASKED, said("")], BEDROCK) == [ASKED]


@pytest.mark.parametrize(
    "value",
    [
        {**said(None), "refusal": "No."},
        {**said(None), "audio": {"id": "audio_1"}},
        {**said(""), "reasoning_content": "Hm."},
        {**said(""), "something": {"else": 1}},
        {**said(None), "tool_calls": "malformed"},
        {"role": "assistant", "parts": [{"type": "step-start"}, {"type": "text", "text": "Hi"}]},
        {"role": "model", "parts": [{"text": "", "thoughtSignature": "Eq=="}]},
        {"role": "critic", "content": ""},
        {"role": "system", "content": ""},
        {"role": "tool", "content": ""},
    ],
)
def test_a_message_that_may_say_something_stays(value):
    assert stays([ASKED, value, ASKED])


def test_an_empty_text_beside_other_parts_is_left_out():
    assert mended([ASKED, model(EMPTY_TEXT, TEXT), ASKED])[1] == model(TEXT)
    assert mended([ASKED, model(EMPTY_TEXT, use("a")), user(got())])[1] == model(use("a"))
    assert stays([user(EMPTY_TEXT, TEXT), said("Hi.")])
    assert mended([user(EMPTY_TEXT, TEXT), said("Hi.")], ANTHROPIC)[0] == user(TEXT)
    assert stays([user({"type": "text", "text": " \n"}, TEXT)], ANTHROPIC)
    assert mended([ASKED, model({"type": "text", "text": " \n"}, use("a")), user(got())], ANTHROPIC)[1] == model(
        use("a")
    )


def test_a_user_who_said_nothing_says_so_where_that_is_refused():
    assert stays([{"role": "user", "content": ""}, said("Hi.")])
    assert mended([{"role": "user", "content": " "}], ANTHROPIC) == [{"role": "user", "content": "(empty)"}]
    assert mended([user(EMPTY_TEXT)], ANTHROPIC) == [user({"type": "text", "text": "(empty)"})]
    assert mended([{"role": "user", "parts": []}], GEMINI) == [{"role": "user", "parts": [{"text": "(empty)"}]}]
    rules = attrs.evolve(ANTHROPIC, empty_user=Empty.DROP, user_first=False)
    assert mended([{"role": "user", "content": ""}, said("Hi.")], rules) == [said("Hi.")]


# Ids


def chat_pair(id_):
    call = {"id": id_, "type": "function", "function": {"name": "now", "arguments": "{}"}}
    return [{**said(None), "tool_calls": [call]}, {"role": "tool", "tool_call_id": id_, "content": "12:00"}]


def test_ids_that_come_again_are_renamed_with_their_results():
    """Servers restart their ids at ``terminal:0`` in each turn."""
    objects = [ASKED, *chat_pair("terminal:0"), ASKED, *chat_pair("terminal:0"), ASKED, *chat_pair("terminal:0")]
    assert stays(objects)
    assert stays(objects, OPENAI_CHAT)
    sent = mended(objects, ANTHROPIC)
    ids = [call["id"] for message in sent for call in message.get("tool_calls", ())]
    assert ids == ["terminal_0", "terminal_0_2", "terminal_0_3"]
    told = [(message["tool_call_id"], message["content"]) for message in sent if message["role"] == "tool"]
    assert told == [(its, "12:00") for its in ids]
    only_unique = attrs.evolve(OPENAI_CHAT, unique_ids=Unique.HISTORY)
    sent = mended(objects, only_unique)
    assert sent[:3] == objects[:3]
    assert sent[4]["tool_calls"][0]["id"] == sent[5]["tool_call_id"] == "terminal_0"


def test_blocks_with_ids_that_come_again_are_renamed():
    objects = [ASKED, model(use("a")), user(got()), ASKED, model(use("b")), user(got())]
    assert stays(objects)
    sent = mended(objects, ANTHROPIC)
    assert (sent[4]["content"][0]["id"], sent[5]["content"][0]["tool_use_id"]) == ("t1_2", "t1_2")
    assert sent[:4] == objects[:4]


def test_two_calls_of_one_id_in_a_message_are_told_apart():
    objects = [ASKED, model(use("a"), use("b")), user(got(), got())]
    sent = mended(objects)
    assert [block["id"] for block in sent[1]["content"]] == ["t1", "t1_2"]
    assert [block["tool_use_id"] for block in sent[2]["content"]] == ["t1", "t1_2"]


def test_ids_get_the_form_that_a_rule_asks_for():
    mistral = attrs.evolve(STRICT_TEMPLATES, id_pattern="[a-zA-Z0-9]{9}")
    sent = mended([ASKED, *chat_pair("call_1"), ASKED, *chat_pair("call_2")], mistral)
    ids = [call["id"] for message in sent for call in message.get("tool_calls", ())]
    assert len(set(ids)) == 2
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    impossible = attrs.evolve(STRICT_TEMPLATES, id_pattern="never")
    assert stays([ASKED, *chat_pair("call_1")], impossible)


# Items of OpenAI's Responses


ITEM_PAIRS = [
    ({"type": "function_call", "call_id": "c"}, {"type": "function_call_output", "call_id": "c"}),
    ({"type": "custom_tool_call", "call_id": "c"}, {"type": "custom_tool_call_output", "call_id": "c"}),
    ({"type": "local_shell_call", "id": "lsh", "call_id": "c"}, {"type": "function_call_output", "call_id": "c"}),
    ({"type": "local_shell_call", "id": "lsh", "call_id": "c"}, {"type": "local_shell_call_output", "id": "lsh"}),
    ({"type": "local_shell_call", "id": "lsh", "call_id": "c"}, {"type": "local_shell_call_output", "id": "c"}),
    ({"type": "shell_call", "call_id": "c"}, {"type": "shell_call_output", "call_id": "c"}),
    ({"type": "apply_patch_call", "call_id": "c"}, {"type": "apply_patch_call_output", "call_id": "c"}),
    ({"type": "computer_call", "call_id": "c"}, {"type": "computer_call_output", "call_id": "c"}),
    ({"type": "tool_search_call", "call_id": "c"}, {"type": "tool_search_output", "call_id": "c"}),
    ({"type": "mcp_approval_request", "id": "m"}, {"type": "mcp_approval_response", "approval_request_id": "m"}),
]


@pytest.mark.parametrize("rules", [BY_SHAPE, OPENAI_RESPONSES])
@pytest.mark.parametrize(("call", "output"), ITEM_PAIRS)
def test_an_output_of_any_kind_answers_its_call(call, output, rules):
    """The output of a local shell's call was deleted."""
    assert stays([ASKED, call, output, said("Done.")], rules)
    assert stays([ASKED, call, ASKED, output], rules)
    assert mended([ASKED, output, ASKED], rules) == [ASKED, ASKED]
    assert len(turns(messages_of([ASKED, call, ASKED, output, ASKED]), rules)) == 2
    sent = mended([ASKED, call, ASKED], rules)
    makeable = call["type"] not in ("computer_call", "tool_search_call", "mcp_approval_request")
    assert len(sent) == (4 if makeable else 2)
    assert not makeable or INTERRUPTED in str(sent[2])


def test_outputs_of_several_turns_answer_the_calls_of_their_name():
    call, output = ITEM_PAIRS[0]
    assert stays([ASKED, call, ASKED, call, output, output])
    assert stays([ASKED, call, output, ASKED, call, output])
    assert mended([ASKED, call, output, output]) == [ASKED, call, output]


SAID = {
    "type": "message",
    "id": "msg_4",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Noon.", "annotations": []}],
}


@pytest.mark.parametrize("rules", [BY_SHAPE, OPENAI_RESPONSES])
def test_an_item_that_was_stored_twice_is_sent_once(rules):
    """A retried turn was stored again, and "Duplicate item found with id" came for good."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "now", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "12:00"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    turn = [thought, call, output, SAID]
    assert stays([ASKED, *turn, ASKED], rules)
    assert mended([ASKED, *turn, ASKED, *turn], rules) == [ASKED, *turn, ASKED]
    request = {"type": "mcp_approval_request", "id": "m", "name": "now", "arguments": "{}", "server_label": "s"}
    answer = {"type": "mcp_approval_response", "approval_request_id": "m", "approve": True}
    assert mended([ASKED, request, answer, request, answer], rules) == [ASKED, request, answer]


def test_another_item_with_the_same_id_gets_another_one():
    """A client counted its answers, ``msg_4``, as the provider does."""
    other = {**SAID, "content": [{**SAID["content"][0], "text": "Midnight."}]}
    assert mended([ASKED, SAID, ASKED, other])[3] == {**other, "id": "msg_4_2"}
    assert mended([ASKED, SAID, {**SAID, "id": "msg_4_2"}, other])[3]["id"] == "msg_4_3"
    assert stays([ASKED, SAID, ASKED, other], OPENAI_CHAT)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [TEXT]},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "something", "id": "msg_1"},
        {"type": "ai", "id": "run-1", "content": "Noon."},
        {"role": "assistant", "id": "msg_1", "content": "Noon."},
        {"role": "assistant", "id": ["msg_1"], "content": "Noon."},
    ],
)
def test_ids_that_are_no_ids_of_items_may_come_again(value):
    assert stays([ASKED, value, ASKED, value])
    assert stays([ASKED, value, ASKED, value], OPENAI_RESPONSES)


def test_a_search_for_tools_by_the_server_stands_alone():
    own = [{"type": "tool_search_call", "call_id": None}, {"type": "tool_search_output", "call_id": None, "tools": []}]
    assert stays([ASKED, *own, said("Done.")])
    assert stays([ASKED, own[1], said("Done.")])


@pytest.mark.parametrize("kind", ["web_search_call", "mcp_call", "image_generation_call", "item_reference", "unknown"])
def test_an_item_with_its_result_in_itself_stands_alone(kind):
    assert stays([ASKED, {"type": kind, "id": "x"}, ASKED])


def test_reasoning_needs_its_follower_where_a_rule_says_so():
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert mended([ASKED, thought, ASKED]) == [ASKED, ASKED]
    assert stays([ASKED, thought, ASKED], attrs.evolve(OPENAI_RESPONSES, reasoning_leads=False))


# Shapes that were half understood


def test_a_tool_message_that_names_no_call_is_passed_on():
    """It was deleted, and its call got a result that was made up."""
    call = {"function": {"name": "now", "arguments": {}}}
    ollama = {"role": "tool", "tool_name": "now", "content": "12:00"}
    assert stays([ASKED, {**said(""), "tool_calls": [call]}, ollama, said("Noon.")])
    assert stays([ASKED, {**said(""), "tool_calls": [{**call, "id": "a"}]}, ollama, said("Noon.")])
    assert stays([ASKED, {"role": "tool", "toolCallId": "a", "content": "12:00"}, ASKED])
    two = [{"id": "a"}, {"id": "b"}]
    assert stays([ASKED, {**said(""), "tool_calls": two}, ollama, {"role": "tool", "tool_call_id": "a"}, ASKED])


GEMINI_CALL = {"role": "model", "parts": [{"functionCall": {"name": "now", "args": {}}}]}
GEMINI_RESULT = {"role": "user", "parts": [{"functionResponse": {"name": "now", "response": {"time": "12:00"}}}]}
GEMINI_ASKED = {"role": "user", "parts": [{"text": "What time is it?"}]}
BEDROCK_CALL = model({"toolUse": {"toolUseId": "t1", "name": "now", "input": {}}})
BEDROCK_RESULT = user({"toolResult": {"toolUseId": "t1", "content": [{"text": "12:00"}]}})
BEDROCK_ASKED = user({"text": "What time is it?"})


@pytest.mark.parametrize(
    ("asked", "call", "result", "rules"),
    [
        (GEMINI_ASKED, GEMINI_CALL, GEMINI_RESULT, GEMINI),
        (BEDROCK_ASKED, BEDROCK_CALL, BEDROCK_RESULT, BEDROCK),
    ],
)
def test_gemini_and_bedrock_are_cut_between_turns(asked, call, result, rules):
    """A bound parted call and result, and a message with results alone started a turn."""
    history = [asked, call, result, *[asked] * 2]
    for given in (BY_SHAPE, rules):
        assert [len(turn) for turn in turns(messages_of(history), given)] == [3, 1, 1]
    with SessionManager(rules=rules) as m:
        m.add(KEY, *history[:3])
        assert m.get_context(KEY, max_messages=3) == history[:3]
        m.add(KEY, *history[:3])
        assert m.get_context(KEY, max_messages=3) == history[:3]
        assert m.truncate_history(KEY, 2, whole_turns=True) == 3
        assert [one.to_dict() for one in m.get_history(KEY)] == history[:3]


def test_all_responses_of_geminis_calls_are_in_the_next_content():
    calls = {"role": "model", "parts": [{"functionCall": {"id": name, "name": "now"}} for name in "ab"]}
    one, other = ({"functionResponse": {"id": name, "name": "now", "response": {}}} for name in "ab")
    assert mended([GEMINI_ASKED, calls, {"role": "user", "parts": [one]}, {"role": "user", "parts": [other]}]) == [
        GEMINI_ASKED,
        calls,
        {"role": "user", "parts": [one, other]},
    ]
    lost = {"functionResponse": {"id": "b", "name": "now", "response": {"error": INTERRUPTED}}}
    assert mended([GEMINI_ASKED, calls, {"role": "user", "parts": [one]}])[2] == {"role": "user", "parts": [one, lost]}


# Neighbours, the first and the last message


def test_neighbours_are_merged_only_by_rules_that_ask_for_it():
    history = [ASKED, {"role": "user", "content": "Well?"}, said("Noon."), said("Or so.")]
    for rules in (BY_SHAPE, OPENAI_CHAT, ANTHROPIC, GEMINI):
        assert stays(history, rules)
    for rules in (BEDROCK, STRICT_TEMPLATES):
        assert mended(history, rules) == [
            {"role": "user", "content": "What time is it?\n\nWell?"},
            said("Noon.\n\nOr so."),
        ]
    assert mended([BEDROCK_ASKED, BEDROCK_ASKED], BEDROCK) == [user(*BEDROCK_ASKED["content"] * 2)]
    assert mended([ASKED, BEDROCK_ASKED], BEDROCK) == [user({"text": "What time is it?"}, {"text": "What time is it?"})]
    assert mended([ASKED, said("Let me look."), *chat_pair("a")], STRICT_TEMPLATES) == [
        ASKED,
        {**chat_pair("a")[0], "content": "Let me look."},
        chat_pair("a")[1],
    ]


def test_geminis_calls_come_right_behind_the_user():
    """It refuses words of the model before them; other neighbours stay."""
    said_it, calling = {"role": "model", "parts": [{"text": "Let me look."}]}, {"functionCall": {"name": "now"}}
    told = {"role": "user", "parts": [{"functionResponse": {"name": "now", "response": {}}}]}
    signed = {"role": "model", "parts": [{**calling, "thoughtSignature": "Eq=="}]}
    history = [GEMINI_ASKED, said_it, signed, told, GEMINI_ASKED, GEMINI_ASKED]
    assert stays(history)
    assert mended(history, GEMINI) == [
        GEMINI_ASKED,
        {"role": "model", "parts": [*said_it["parts"], *signed["parts"]]},
        told,
        GEMINI_ASKED,
        GEMINI_ASKED,
    ]
    assert stays([GEMINI_ASKED, said_it, said_it], GEMINI)
    assert stays([GEMINI_ASKED, signed, told, signed, told], GEMINI)


def test_geminis_results_with_ids_answer_no_other_call_of_the_name():
    """The result of another call was taken, and the right one was left out."""

    def calling(**its):
        return {"role": "model", "parts": [{"functionCall": {"name": "now", **its}}]}

    def told(**its):
        return {"role": "user", "parts": [{"functionResponse": {"name": "now", "response": {}, **its}}]}

    history = [GEMINI_ASKED, calling(id="a"), told(id="b"), told(id="a"), calling(id="b"), told(id="b")]
    assert mended(history) == [GEMINI_ASKED, calling(id="a"), told(id="a"), calling(id="b"), told(id="b")]
    for call, result in [({"id": "a"}, {}), ({}, {"id": "a"}), ({}, {})]:
        assert stays([GEMINI_ASKED, calling(**call), told(**result)])


def test_a_question_between_a_cut_call_and_its_result_stays():
    """No turn starts there, so everything was left out, and the question with it."""
    call, output = ITEM_PAIRS[0]
    history = [call, ASKED, output]
    assert stays(history)
    assert mended(history, attrs.evolve(OPENAI_RESPONSES, user_first=True)) == [ASKED]


def test_a_greeting_is_left_out_only_by_rules_that_ask_for_it():
    history = [said("Hello!"), ASKED]
    assert stays(history)
    assert stays(history, OPENAI_CHAT)
    for rules in (ANTHROPIC, GEMINI, BEDROCK, STRICT_TEMPLATES):
        assert mended(history, rules) == [ASKED]
    assert problems(messages_of(history), user_first=True)
    assert problems(messages_of(history), ANTHROPIC, user_first=False) == []
    unknown = {"something": 1, "role": "narrator"}
    assert mended([unknown, *history], ANTHROPIC) == [unknown, *history]


def test_the_end_is_the_users_where_a_rule_says_so():
    rules = attrs.evolve(ANTHROPIC, may_end_with_assistant=False)
    assert mended([ASKED, said("Noon."), said("Or so.")], rules) == [ASKED]
    assert stays([ASKED, model(use("a")), user(got())], rules)
    assert stays([ASKED, said("Noon.")], ANTHROPIC)


def test_the_place_of_results_can_be_a_rule():
    late = [ASKED, *chat_pair("a")[:1], said("Wait."), chat_pair("a")[1]]
    assert stays(late, attrs.evolve(OPENAI_CHAT, results=Where.AFTER))
    assert not stays(late, OPENAI_CHAT)
    item = [ASKED, ITEM_PAIRS[0][0], ASKED, ITEM_PAIRS[0][1]]
    assert mended(item, attrs.evolve(OPENAI_RESPONSES, results=Where.BEHIND)) == [item[0], item[1], item[3], item[2]]


def test_results_in_several_user_messages_are_right_for_anthropic():
    """Anthropic joins neighbours; the repair moved the second result."""
    both = [ASKED, model(use("a", "A"), use("b", "B")), user(got("A")), user(got("B"), TEXT)]
    assert stays(both)
    assert stays([ASKED, model(use("a")), said("Wait."), user(got())])
    assert not stays([ASKED, model(use("a", "A"), use("b", "B")), user(got("A"), TEXT), user(got("B"))])


# System messages and summaries


def test_system_messages_go_where_the_rules_say():
    one, two = {"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be kind."}
    history = [one, ASKED, said("Noon."), two, ASKED]
    assert stays(history)
    assert mended(history, STRICT_TEMPLATES) == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        ASKED,
        said("Noon."),
        ASKED,
    ]
    assert mended([{**one, "role": "developer"}, ASKED], STRICT_TEMPLATES)[0] == one
    for rules in (ANTHROPIC, GEMINI):
        assert mended(history, rules) == [ASKED, said("Noon."), {**two, "role": "user"}, ASKED]


@pytest.fixture
def m():
    with SessionManager() as one:
        yield one


def test_prompt_and_summary_are_one_system_message(m):
    """Qwen's template refuses a second one."""
    m.add(KEY, ASKED)
    m.set_summary(KEY, "They met.")
    one = {"role": "system", "content": f"Be brief.\n\n{SUMMARY_PREFACE}They met."}
    for rules in (None, BY_SHAPE, OPENAI_CHAT, OPENAI_RESPONSES, STRICT_TEMPLATES):
        assert m.get_context(KEY, system="Be brief.", rules=rules) == [one, ASKED]
    apart = m.get_context(KEY, system="Be brief.", summary_role="user")
    assert [message["role"] for message in apart] == ["system", "user", "user"]


def test_a_prompt_in_parts_keeps_them_and_the_summary_comes_behind(m):
    m.add(KEY, ASKED)
    m.set_summary(KEY, "They met.")
    parts = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    [one, _] = m.get_context(KEY, system={"role": "system", "content": parts})
    assert one["content"] == [*parts, {"type": "text", "text": f"{SUMMARY_PREFACE}They met."}]


@pytest.mark.parametrize(
    ("rules", "asked", "summary"),
    [
        (ANTHROPIC, ASKED, {"role": "user", "content": f"{SUMMARY_PREFACE}They met."}),
        (GEMINI, GEMINI_ASKED, {"role": "user", "parts": [{"text": f"{SUMMARY_PREFACE}They met."}]}),
        (BY_SHAPE, GEMINI_ASKED, {"role": "user", "parts": [{"text": f"{SUMMARY_PREFACE}They met."}]}),
        (BY_SHAPE, BEDROCK_ASKED, user({"text": f"{SUMMARY_PREFACE}They met."})),
    ],
)
def test_the_prompt_goes_apart_and_the_summary_leads(m, rules, asked, summary):
    m.add(KEY, {"role": "system", "content": "stored"}, asked)
    assert m.get_context(KEY, system="Be brief.", rules=rules) == [asked]
    m.set_summary(KEY, "They met.")
    assert m.get_context(KEY, system="Be brief.", rules=rules) == [summary, asked]


def test_bedrocks_summary_is_joined_with_the_question(m):
    m.add(KEY, BEDROCK_ASKED)
    m.set_summary(KEY, "They met.")
    [one] = m.get_context(KEY, rules=BEDROCK)
    assert one == user({"text": f"{SUMMARY_PREFACE}They met."}, {"text": "What time is it?"})


def test_a_greeting_may_follow_a_users_summary(m):
    m.add(KEY, said("Hello!"), ASKED)
    m.set_summary(KEY, "They met.")
    assert [one["role"] for one in m.get_context(KEY, rules=ANTHROPIC)] == ["user", "assistant", "user"]


# Bounds


def rounds(count):
    return [one for number in range(count) for one in chat_pair(f"call_{number}")]


def test_a_turn_over_the_bound_is_cut_in_itself(m):
    """With ``max_messages=50``, an agent sent 50 messages at step 24, and the prompt alone at step 25."""
    m.add(KEY, {"role": "user", "content": "Before."}, said("Yes."), ASKED, *rounds(30))
    for bound in range(3, 64):
        context = m.get_context(KEY, system="p", max_messages=bound)[1:]
        assert len(context) <= bound
        assert context[-1] == rounds(30)[-1]
        assert ASKED in context
        assert problems([Message.from_dict(one) for one in context]) == []
        assert bound - len(context) < 2 or bound == 63
    for bound in (0, 1, 2):
        with pytest.raises(ContextTooSmallError, match="needs 3: "):
            m.get_context(KEY, max_messages=bound)


def test_a_question_over_the_bound_is_an_error_that_says_by_how_much(m):
    m.add(KEY, said("Hello!"), {"role": "user", "content": "x " * 1_000})
    with pytest.raises(ContextTooSmallError) as caught:
        m.get_context(KEY, max_tokens=100)
    assert m.get_context(KEY, max_tokens=caught.value.needed)[-1]["role"] == "user"
    with pytest.raises(ContextTooSmallError):
        m.get_context(KEY, max_tokens=caught.value.needed - 1)


def test_a_question_beside_results_may_stay_alone(m):
    """It was sent with a result without its call."""
    history = [model(use("a")), user(got(), TEXT)]
    m.add(KEY, *history)
    assert m.get_context(KEY, max_messages=2) == history
    assert m.get_context(KEY, max_messages=1) == [user(TEXT)]


def test_without_a_user_a_bound_may_leave_nothing(m):
    m.add(KEY, said("Hello!"))
    assert m.get_context(KEY, max_messages=0) == []


def test_a_compaction_stays_in_the_context_and_in_the_history(m):
    """It was cut away by a bound, and with it everything that it stands for."""
    older, compaction = ({"type": "compaction", "id": f"cmp_{at}", "encrypted_content": "gAAA="} for at in range(2))
    m.add(KEY, ASKED, older, said("Yes."), compaction, *[ASKED, said("Noon.")] * 100)
    assert m.get_context(KEY, max_messages=2) == [compaction, ASKED, said("Noon.")]
    assert m.get_context(KEY)[3] == compaction
    m.truncate_history(KEY, 100)
    assert [one.to_dict() for one in m.get_history(KEY)] == [compaction, *[ASKED, said("Noon.")] * 50]
    assert m.truncate_history(KEY, 100) == 0
    m.truncate_history(KEY, 3, whole_turns=True)
    assert [one.to_dict() for one in m.get_history(KEY)] == [compaction, *[ASKED, said("Noon.")] * 2]
    assert m.truncate_history(KEY, 3, whole_turns=True) == 0


def test_a_compaction_that_comes_twice_is_sent_once(m):
    """The repair had left the second one out, or given it another id, and it was taken for one that a bound had cut."""
    compaction = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA="}
    m.add(KEY, compaction, ASKED, said("Noon."), compaction, ASKED)
    other = {**compaction, "encrypted_content": "gBBB="}
    m.add("telegram:43", compaction, ASKED, said("Noon."), other, ASKED)
    for bounds in ({}, {"max_messages": 9}, {"max_tokens": 999}):
        for rules in (BY_SHAPE, OPENAI_RESPONSES):
            assert m.get_context(KEY, rules=rules, **bounds) == [compaction, ASKED, said("Noon."), ASKED]
            sent = m.get_context("telegram:43", rules=rules, **bounds)
            assert sent == [compaction, ASKED, said("Noon."), {**other, "id": "cmp_1_2"}, ASKED]


@pytest.mark.parametrize(
    "block", [use("now", "t 1"), {**TEXT, "cache_control": {"type": "ephemeral"}}], ids=["an id", "a cache mark"]
)
def test_a_repaired_message_with_a_compaction_is_sent_once(m, block):
    marked = {**TEXT, "cache_control": {"type": "ephemeral"}}
    answers = [user(got("t 1"))] if block["type"] == "tool_use" else []
    m.add(KEY, ASKED, model({"type": "compaction", "content": "They met."}, block), *answers, *[user(marked)] * 4)
    sent = m.get_context(KEY, rules=ANTHROPIC)
    assert [one["role"] for one in sent].count("assistant") == 1
    assert problems([Message.from_dict(one) for one in sent], ANTHROPIC) == []


def test_a_compaction_that_a_bound_cut_comes_without_its_calls(m):
    """Its call came without the result, which had been cut: "`tool_use` ids were found without `tool_result` blocks"."""
    compaction = {"type": "compaction", "content": "They met."}
    m.add(KEY, ASKED, model(compaction, TEXT, use("now")), user(got()), said("Noon."), ASKED)
    for rules in (BY_SHAPE, ANTHROPIC):
        sent = m.get_context(KEY, rules=rules, max_messages=1)
        assert sent == [model(compaction), ASKED]
        assert problems([Message.from_dict(one) for one in sent], rules) == []


def test_a_compaction_in_the_turn_stays_in_its_context(m):
    compaction = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA="}
    with m.turn(KEY) as turn:
        turn.add(ASKED, compaction, *rounds(4))
        sent = turn.get_context(rules=OPENAI_RESPONSES, max_messages=4)
        assert sent[:2] == [compaction, ASKED]
    assert m.get_context(KEY, rules=OPENAI_RESPONSES, max_messages=4) == sent


def test_a_history_may_start_with_a_compaction():
    """A truncation leaves such a history. A repair left the compaction out, and with it all that it stands for."""
    compacted = model({"type": "compaction", "content": "They met."}, use("now"))
    history = [Message.from_dict(one) for one in (compacted, user(got()), said("Noon."), ASKED)]
    assert problems(history, ANTHROPIC) == []
    assert repair([Message("assistant", "Hello!"), *history], ANTHROPIC) == history


def test_a_compaction_before_a_long_turn_stays_as_its_question_does(m):
    compaction = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA="}
    m.add(KEY, ASKED, compaction, ASKED, *rounds(30))
    m.truncate_history(KEY, 5, whole_turns=True)
    m.truncate_history(KEY, 5, whole_turns=True)
    kept = [one.to_dict() for one in m.get_history(KEY)]
    assert kept[:2] == [compaction, ASKED]
    assert kept[2:] == rounds(30)[-6:]


def test_a_truncation_keeps_reasoning_with_its_call(m):
    thoughts = [{"type": "reasoning", "id": f"rs_{at}", "summary": []} for at in range(2)]
    call, output = ({**one, "name": "now"} for one in ITEM_PAIRS[0])
    m.add(KEY, ASKED, *thoughts, call, output, said("Noon."))
    assert m.truncate_history(KEY, 3) == 1
    assert [one.to_dict() for one in m.get_history(KEY)] == [*thoughts, call, output, said("Noon.")]


# The provider's own tools


SERVER = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
MCP = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "find", "server_name": "s", "input": {}}
MCP_FOUND = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "content": []}


@pytest.mark.parametrize("rules", [BY_SHAPE, ANTHROPIC])
@pytest.mark.parametrize(("call", "result"), [(SERVER, FOUND), (MCP, MCP_FOUND)])
def test_a_lone_call_of_the_providers_tool_is_left_out(call, result, rules):
    assert stays([ASKED, model(TEXT, call, result, TEXT), ASKED], rules)
    for lone in (call, result):
        found = problems(messages_of([ASKED, model(TEXT, lone), ASKED]), rules)
        assert [one.index for one in found] == [1]
        assert mended([ASKED, model(TEXT, lone), ASKED], rules) == [ASKED, model(TEXT), ASKED]
        assert mended([ASKED, model(lone), ASKED], rules) == [ASKED, ASKED]


def test_a_call_that_the_provider_is_still_working_on_stays():
    """The stop reason ``pause_turn``: the answer is sent back as it is, and goes on."""
    assert stays([ASKED, model(TEXT, SERVER)])
    assert stays([ASKED, model(SERVER, use("a")), user(got())])
    assert stays([ASKED, model(SERVER, use("a")), user(got()), model(FOUND, TEXT), ASKED])


# Cache marks


def marked(text):
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


def test_only_the_newest_cache_marks_are_sent(m):
    history = [user(marked(str(number))) for number in range(6)]
    m.add(KEY, *history)
    sent = m.get_context(KEY)
    assert ["cache_control" in message["content"][0] for message in sent] == [False, False, True, True, True, True]
    assert sent[2:] == history[2:]
    assert [message["content"][0]["text"] for message in sent] == list("012345")
    prompt = {"role": "system", "content": [marked("p")]}
    context = m.get_context(KEY, system=prompt)
    assert sum("cache_control" in message["content"][0] for message in context) == 4
    assert stays(history, OPENAI_RESPONSES)
    nested = user({**got(), "content": [marked("1"), marked("2")]}, marked("3"))
    [_, _, one] = mended([ASKED, model(use("a")), nested], attrs.evolve(BY_SHAPE, max_cache_marks=1))
    assert [str(block).count("cache_control") for block in one["content"]] == [0, 1]


def test_bedrocks_cache_points_are_left_out():
    point = {"cachePoint": {"type": "default"}}
    history = [user({"text": "a"}, point), model({"text": "b"}, point), user({"text": "c"}, point)]
    sent = mended(history, attrs.evolve(BEDROCK, max_cache_marks=1))
    assert sent == [user({"text": "a"}), model({"text": "b"}), history[2]]


# Objects that are no messages, and shapes of your own


def test_an_item_is_never_sent_and_parts_nothing(m):
    note = Item({"state": 7})
    m.add(KEY, note, BEDROCK_ASKED, note, BEDROCK_CALL, note, BEDROCK_RESULT, note)
    history = [BEDROCK_ASKED, BEDROCK_CALL, BEDROCK_RESULT]
    for bounds in ({}, {"max_messages": 3}, {"max_tokens": 1_000}, {"rules": BEDROCK}):
        assert m.get_context(KEY, **bounds) == history
    found = problems(m.get_history(KEY))
    assert [(one.index, one.reason) for one in found] == [(at, "an object that is no message") for at in (0, 2, 4, 6)]
    assert repair(m.get_history(KEY)) == [Message.from_dict(one) for one in history]
    assert [len(turn) for turn in turns(m.get_history(KEY))] == [1, 6]
    with pytest.raises(InvalidMessageError, match="system: an Item is never sent"):
        m.get_context(KEY, system=note)


def test_shapes_may_be_mixed_in_one_history():
    """The result of a chat's call was put behind the output of an item, where it was late."""
    item, output = ({**one, "call_id": "call_0"} for one in ITEM_PAIRS[0])
    call, told = chat_pair("call_1")
    assert mended([ASKED, item, ASKED, call, output]) == [
        ASKED,
        item,
        ASKED,
        call,
        {**told, "content": INTERRUPTED},
        output,
    ]


class Fenced(Shape):
    """A bot's own shape: calls and results as words in a field."""

    name = "fenced"

    def owns(self, message):
        return "fenced" in message

    def calls(self, message):
        made = message.get("asks")
        return [Call(self, made, 0, (("fenced", made),), Where.BEHIND)] if isinstance(made, str) else []

    def role(self, message):
        return "tool" if "answers" in message else super().role(message)

    def results(self, message):
        told = message.get("answers")
        return [Result(self, told, 0, (("fenced", told),))] if isinstance(told, str) else []

    def interrupted(self, message, call):
        return {"role": "assistant", "fenced": INTERRUPTED, "answers": call.id}

    def texts(self, message):
        yield f"fenced in: {message['fenced']}"


def test_a_shape_of_your_own_is_understood_everywhere(m):
    shape = Fenced()
    ask = {"role": "assistant", "fenced": "Asking.", "asks": "a"}
    answer = {"role": "assistant", "fenced": "Answered.", "answers": "a"}
    assert stays([ASKED, ask, ASKED])
    register_shape(shape)
    register_shape(shape)
    try:
        assert shape_of(Message.from_dict(ask)) is shape
        assert stays([ASKED, ask, answer])
        assert mended([ASKED, ask, ASKED])[2]["fenced"] == INTERRUPTED
        assert mended([ASKED, answer]) == [ASKED]
        m.add(KEY, ASKED, *[ask, answer] * 10)
        assert m.get_context(KEY, max_messages=4) == [ASKED, ask, answer]
        assert len(m.search("fenced in: Asking", prefix=KEY)) == 10
        assert estimate_tokens(Message.from_dict(ask)) > 4 + len("Asking.") // 4
    finally:
        unregister_shape(shape)
    assert stays([ASKED, ask, ASKED])
    with pytest.raises(TypeError, match="must be a Shape, not str"):
        register_shape("fenced")


# The rules themselves


def test_the_managers_rules_are_the_default(m):
    with SessionManager(rules=ANTHROPIC) as other:
        other.add(KEY, said("Hello!"), ASKED)
        assert other.get_context(KEY) == [ASKED]
        assert other.get_context(KEY, rules=BY_SHAPE) == [said("Hello!"), ASKED]
        with other.turn(KEY) as turn:
            assert turn.get_context() == [ASKED]


@pytest.mark.parametrize("call", [problems, repair, turns])
def test_rules_that_are_none_are_refused(call, m):
    for wrong in ("anthropic", None, Rules):
        with pytest.raises(TypeError, match="rules: must be Rules"):
            call([], wrong)
    with pytest.raises(TypeError, match="rules: must be Rules, such as"):
        m.get_context(KEY, rules="anthropic")
    with pytest.raises(TypeError, match="rules: must be Rules, such as"):
        SessionManager(rules="anthropic")


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("user_first", "yes", TypeError),
        ("system", "first", TypeError),
        ("id_pattern", 7, TypeError),
        ("id_pattern", "(", ValueError),
        ("summary_role", "Be brief.", ValueError),
        ("max_cache_marks", -1, ValueError),
    ],
)
def test_a_rule_with_a_wrong_value_is_refused(field, value, error):
    with pytest.raises(error, match=field):
        attrs.evolve(ANTHROPIC, **{field: value})


def test_rules_are_values():
    assert attrs.evolve(ANTHROPIC, user_first=True) == ANTHROPIC != GEMINI
    assert attrs.evolve(ANTHROPIC, system=SystemPlace.FIRST) != ANTHROPIC
    assert "ANTHROPIC" in repr(ANTHROPIC)
