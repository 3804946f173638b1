"""Histories with anything in any field, shapes that tell the least, and damage of one kind ten thousand times."""

from __future__ import annotations

import itertools
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import ContextTooSmallError, InvalidMessageError, Message
from session_manager.history import (
    ANTHROPIC,
    BEDROCK,
    BY_SHAPE,
    GEMINI,
    OPENAI_RESPONSES,
    STRICT_TEMPLATES,
    Empty,
    Rules,
    Shape,
    SystemPlace,
    Unique,
    Where,
    fit,
    problems,
    register_shape,
    repair,
    turns,
)
from session_manager.history import call_ids as call_ids_module
from session_manager.history import roles as roles_module
from session_manager.history.cuts import cut
from session_manager.history.pairing import is_users
from session_manager.history.shapes import BLOCKS, UNKNOWN, Call, Result, shape_of, unregister_shape
from tests.support.broken_objects import broken_history
from tests.support.laws import examples
from tests.support.ruled import RULES, check

#: Rules that ask for everything at once.
STRICTEST = Rules(
    name="STRICTEST",
    alternate=True,
    user_first=True,
    system=SystemPlace.FIRST,
    unique_ids=Unique.HISTORY,
    id_pattern="[a-zA-Z0-9]{9}",
    calls_last=True,
    results_first=True,
    blank_is_empty=True,
    drop_empty_parts=(True, True),
    empty_assistant=Empty.DROP,
    empty_user=Empty.PLACEHOLDER,
    may_end_with_assistant=False,
    may_end_empty=False,
    max_cache_marks=0,
)
ASKED = {"role": "user", "content": "What time is it?"}


def history_of(*objects):
    return [Message.from_dict(one) for one in objects]


def mended(objects, rules=BY_SHAPE):
    return [one.to_dict() for one in check(history_of(*objects), rules)]


# Anything in any field


#: An object that is no message, and reasoning that led to nothing.
_MAY_GO = ("session_manager.item", "reasoning")


@pytest.mark.parametrize("rules", [*RULES, STRICTEST], ids=lambda rules: rules.name)
@examples(6, many=400)
@given(st.integers(0, 2**64))
def test_whatever_is_in_a_message_a_repair_is_valid(rules, seed):
    """No JSON value raises, or makes a repair that never ends; what no shape owns stays the same object."""
    rng = random.Random(seed)
    history = _stored(broken_history(rng))
    repaired = check(history, rules)
    kept = set(map(id, repaired))
    foreign = [one for one in history if shape_of(one) is UNKNOWN and one._object["type"] not in _MAY_GO]
    assert all(id(one) in kept for one in foreign)
    assert [one for turn in turns(history, rules) for one in turn] == history
    cut(history, rng.randint(1, 5))
    _fits(history, rng.randint(0, 6), rules, has_user=any(map(is_users, repaired)))


def _stored(objects):
    history = []
    for one in objects:
        try:
            history.append(Message.from_dict(one))
        except InvalidMessageError:
            continue
    return history


def _fits(history, bound, rules, *, has_user):
    def fitted(bound):
        return fit(history, bound, lambda message: 1, rules)

    try:
        kept = fitted(bound)
    except ContextTooSmallError as error:
        kept, bound = fitted(error.needed), error.needed
        with pytest.raises(ContextTooSmallError):
            fitted(error.needed - 1)
    assert len(kept) <= bound
    assert problems(kept, rules) == []
    assert any(map(is_users, kept)) or not has_user


@pytest.mark.parametrize(
    "value",
    [
        {"role": "assistant", "content": ["Look:", {"type": "text", "text": "12"}], "function_call": {"name": "now"}},
        {"role": "assistant", "content": [{"type": "text", "text": "Hm."}], "tool_calls": [{"id": "a"}, {"id": "b"}]},
        {
            "role": "assistant",
            "blocks": [{"block_type": "text", "text": "Hm."}],
            "additional_kwargs": {"tool_calls": [{"id": "a"}, {"id": "b"}]},
        },
        {"type": "ai", "content": [{"type": "text", "text": "Hm."}], "tool_calls": [{"id": "a"}, {"id": "b"}]},
    ],
    ids=["function", "chat", "llama_index", "langchain"],
)
def test_calls_listed_beside_the_content_are_no_parts_of_it(value):
    """With `calls_last` they were looked for in the content: an IndexError, or parts that moved at each repair."""
    assert mended([ASKED, value], attrs.evolve(BY_SHAPE, calls_last=True))[1] == value


def test_a_user_who_wrote_while_a_tool_ran_is_the_first_if_no_other_is():
    """The repair under `user_first` left out the only question that there was."""
    call, output = {"type": "function_call", "call_id": "a"}, {"type": "function_call_output", "call_id": "a"}
    assert mended([call, ASKED, output], attrs.evolve(BY_SHAPE, user_first=True)) == [ASKED]


def test_without_a_question_nothing_fits_where_the_user_is_first():
    """The end of such a history fitted, and started with the assistant."""
    history = history_of({"type": "alien"}, {"role": "assistant", "content": "Hi"})
    assert repair(history, STRICT_TEMPLATES) == history
    assert fit(history, 1, lambda _: 1, STRICT_TEMPLATES) == []
    assert fit(history, 1, lambda _: 1) == history[1:]


def test_a_question_behind_results_is_kept_without_them():
    """A cut kept the message with both, and its results had no call any more."""
    use = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "now", "input": {}}}]}
    got = {"toolResult": {"toolUseId": "a", "content": [{"text": "12:00"}]}}
    history = history_of({"type": "alien"}, use, {"role": "user", "content": [got, {"text": "Well?"}]})
    kept = fit(history, 1, lambda _: 1, BEDROCK)
    assert [one.to_dict() for one in kept] == [{"role": "user", "content": [{"text": "Well?"}]}]


# System messages of several shapes


def test_system_messages_of_several_shapes_are_one():
    """The text of another shape's system message got lost."""
    given = [
        {"role": "system", "content": "Be brief."},
        ASKED,
        {"type": "system", "data": {"type": "system", "content": "Be kind."}},
        {"role": "system", "parts": [{"text": "Be true."}]},
    ]
    told = {"role": "system", "content": "Be brief.\n\nBe kind.\n\nBe true."}
    assert mended(given, STRICT_TEMPLATES) == [told, ASKED]


def test_langchains_system_message_becomes_the_users_in_both_places():
    """LangChain reads the type outside and inside of `data`, and refuses two different ones."""
    system = {"type": "system", "data": {"type": "system", "content": "Be kind."}}
    asked = {"type": "human", "data": {"type": "human", "content": "Hi"}}
    apart = attrs.evolve(BY_SHAPE, system=SystemPlace.APART)
    assert mended([system, asked, system], apart) == [
        asked,
        {"type": "human", "data": {**asked["data"], "content": "Be kind."}},
    ]


# Ids


def test_a_pattern_with_few_words_ends_the_search_for_another_id():
    """The search for an id went on for ever."""
    rules = Rules(name="few", unique_ids=Unique.HISTORY, id_pattern="a|a_2")
    sent = mended(
        [{"type": "function_call", "call_id": "a"}, {"type": "function_call_output", "call_id": "a"}] * 3, rules
    )
    assert [one["call_id"] for one in sent] == ["a", "a", "a_2", "a_2", "a", "a"]


# Shapes that tell the least


class Least(Shape):
    """A bot's own shape, which says where calls and results are, and nothing else."""

    name = "least"

    def owns(self, message):
        return "least" in message

    def calls(self, message):
        return (
            [Call(self, message.get("asks"), 0, (("least", message["asks"]),), Where.NEXT)] if "asks" in message else []
        )

    def results(self, message):
        return [Result(self, message["told"], 0, (("least", message["told"]),))] if "told" in message else []


@pytest.fixture
def least():
    shape = Least()
    register_shape(shape)
    yield shape
    unregister_shape(shape)


@pytest.mark.parametrize("rules", [*RULES, STRICTEST], ids=lambda rules: rules.name)
def test_a_shape_that_tells_the_least_is_repaired(rules, least):
    """A repair went on for ever: the shape changed nothing of what was wrong."""
    asks = {"role": "assistant", "content": ["Hm.", "Hm."], "least": 1, "asks": "a b"}
    told = {"role": "user", "content": ["12:00", "12:01"], "least": 1, "told": "a b"}
    system = {"role": "system", "content": [7], "least": 1}
    for parts in itertools.permutations([ASKED, asks, told, asks, system], 4):
        check(history_of(*parts), rules)
    valid = history_of(ASKED, asks, told, asks, told)
    assert [id(one) for one in repair(valid, rules)] == [id(one) for one in valid]


class Speaking(Shape):
    """A shape that does not say how another one speaks."""

    def owns(self, message):
        return "speaker" in message

    def role(self, message):
        return str(message["speaker"])


def test_what_a_shape_cannot_mend_is_left_out():
    """Anthropic takes no system message among the others, and the shape has no other role for it."""
    shape = Speaking()
    register_shape(shape)
    try:
        notice = {"role": "notice", "speaker": "system", "content": "Be brief."}
        assert mended([ASKED, notice, ASKED], ANTHROPIC) == [ASKED, ASKED]
    finally:
        unregister_shape(shape)


# Damage of one kind, many times


@pytest.fixture
def counted(monkeypatch):
    """Return a list that grows with each call of a function of a module."""

    def counting(owner, name):
        counts = []
        given = getattr(owner, name)

        def call(*arguments):
            counts.append(arguments)
            return given(*arguments)

        monkeypatch.setattr(owner, name, call)
        return counts

    return counting


def test_ids_that_come_again_are_renamed_in_one_walk(counted):
    """The search for a free id started anew for each call: 52 seconds for 5,000."""
    tried = counted(call_ids_module, "_matches")
    call = {"role": "assistant", "tool_calls": [{"id": "a"}]}
    history = history_of(ASKED, *[call, {"role": "tool", "tool_call_id": "a", "content": "12"}] * 200)
    repair(history, ANTHROPIC)
    assert len(tried) < 200 * 20


def test_item_ids_that_come_again_are_renamed_in_one_walk(monkeypatch):
    """The search for a free id started anew for each item, and an item that was given twice as one object passed."""
    counts = []
    monkeypatch.setattr(itertools, "count", lambda start: counts.append(start) or iter(range(start, 500)))
    history = history_of(*({"type": "web_search_call", "id": "ws_1", "action": {"at": at}} for at in range(200)))
    sent = repair([*history, history[0]], OPENAI_RESPONSES)
    assert [one._object["id"] for one in sent] == ["ws_1", *(f"ws_1_{number}" for number in range(2, 201))]
    assert counts == [2]


def test_a_message_is_asked_once_whether_it_is_signed(counted):
    """It was asked for each of its calls: 43 seconds for 10,000."""
    asked = counted(BLOCKS, "is_signed")
    uses = [{"type": "tool_use", "id": "a", "name": "now", "input": {"at": at}} for at in range(200)]
    problems(history_of(ASKED, {"role": "assistant", "content": uses}))
    assert len(asked) < 5


def test_neighbours_are_merged_by_halves(counted):
    """The text of all was copied for each of them: 34 seconds for 10,000 questions."""
    pairs = counted(roles_module, "joined")
    [one] = repair(history_of(*[ASKED] * 512), STRICT_TEMPLATES)
    assert one.content == "\n\n".join([ASKED["content"]] * 512)
    assert sum(len(first.content) + len(second.content) for first, second in pairs) < 20 * len(one.content)


def test_many_words_before_a_call_are_joined_by_halves(counted):
    """Each pass joined the last two: 2,000 messages took twenty seconds."""
    pairs = counted(roles_module, "joined")
    words = [{"role": "model", "parts": [{"text": f"word {at}"}]} for at in range(300)]
    call = {"role": "model", "parts": [{"functionCall": {"name": "now", "args": {}}}]}
    asked = {"role": "user", "parts": [{"text": "What time is it?"}]}
    history = history_of(asked, *words, call, *words)
    made = repair(history, GEMINI)
    assert made[1].to_dict()["parts"] == [*(part for one in words for part in one["parts"]), *call["parts"]]
    assert made[3:] == history[302:]
    assert sum(len(one._object["parts"]) + len(other._object["parts"]) for one, other in pairs) < 20 * len(words)


# A compaction between calls and their results


def test_a_cut_behind_a_compaction_parts_no_call_from_its_result():
    """The results behind the compaction were summarized, and their calls before it stayed."""
    items = [
        ASKED,
        {"type": "function_call", "call_id": "a"},
        {"type": "compaction", "encrypted_content": "gAAA"},
        {"type": "function_call_output", "call_id": "a", "output": "12:00"},
        {"role": "assistant", "content": "Noon."},
        ASKED,
    ]
    use = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "now", "input": {}}]}
    blocks = [
        ASKED,
        use,
        {"role": "assistant", "content": [{"type": "compaction", "content": "They met."}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "12:00"}]},
        {"role": "assistant", "content": "Noon."},
        ASKED,
    ]
    for objects in (items, blocks):
        history = history_of(*objects)
        made = cut(history, 1)
        assert (made.start, made.stop) == (4, 5)
        assert problems(history[: made.start] + history[made.stop :]) == problems(history) == []
