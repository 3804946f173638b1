"""Valid histories: every cut and every damage, in every shape, against a checker that knows nothing of the library."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from session_manager import ContextTooSmallError, Message
from session_manager.history import (
    Problem,
    call_ids,
    cuts,
    fit,
    head,
    pairing,
    problems,
    repair,
    safe_start,
    tool_calls,
    turns,
)
from session_manager.history.item_ids import ITEM_IDS
from session_manager.history.pairing import is_users, pair
from session_manager.history.rules import BY_SHAPE
from session_manager.history.shapes import INTERRUPTED, results
from session_manager.model.view import View
from tests.support.histories import SHAPES, conversations, damaged, is_refused, refusals
from tests.support.laws import examples
from tests.support.places import CHATS
from tests.support.strategies import CANARY, facts, message_objects


@pytest.fixture(autouse=True, scope="module")
def _tails_of_short_histories():
    """The end of a history is looked at on its own, and here also that of one that is short."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cuts, "_FIRST_TAIL", 1)
        yield


def history_of(objects):
    return [Message.from_dict(one)._placed(number, None) for number, one in enumerate(objects)]


def objects_of(messages):
    return [message.to_dict() for message in messages]


def same_objects(given, other):
    return len(given) == len(other) and all(one is two for one, two in zip(given, other, strict=True))


any_history = st.one_of(conversations(), damaged(), damaged(("items",)), damaged(("blocks",)), damaged(("chat",)))
junk = st.lists(message_objects(), max_size=6)


# What is wrong


@given(conversations())
def test_a_valid_conversation_has_no_problems(objects):
    assert refusals(objects) == []
    assert problems(history_of(objects)) == []


@examples(12)
@given(any_history)
def test_problems_are_found_exactly_where_a_provider_refuses(objects):
    found = problems(history_of(objects))
    assert bool(found) == is_refused(objects), (found, refusals(objects))
    assert [one.index for one in found] == sorted(one.index for one in found)
    assert all(one.position == one.index for one in found)


@given(conversations())
def test_every_cut_and_every_removal_is_judged_as_a_provider_does(objects):
    for at in range(len(objects)):
        for part in (objects[at:], objects[:at], objects[:at] + objects[at + 1 :]):
            assert bool(problems(history_of(part))) == is_refused(part)


CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "content": "12:00", "tool_call_id": "call_1"}
ASKED = {"role": "user", "content": "What time is it?"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
GOT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:00"}
TEXT = {"type": "text", "text": "Hm."}
USING = {"role": "assistant", "content": [USE]}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
ITEM = {"type": "function_call", "call_id": "call_1", "name": "now", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "12:00"}
LOST = "Interrupted: this call has no result."


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([ASKED, CALLING], [(1, "tool call 1 of 1 has no result")]),
        ([ASKED, CALLING, ASKED], [(1, "tool call 1 of 1 has no result")]),
        ([TOLD, ASKED], [(0, "a tool result without its call")]),
        ([ASKED, CALLING, TOLD, TOLD], [(3, "a second result for one tool call")]),
        ([ASKED, CALLING, ASKED, TOLD], [(3, "a tool result late for its call in message 1")]),
        ([ASKED, USING, {"role": "user", "content": [TEXT, GOT]}], [(2, "a tool result behind other parts")]),
        (
            [ASKED, USING, ASKED, {"role": "user", "content": [GOT]}],
            [(3, "a tool result late for its call in message 1")],
        ),
        ([ASKED, THOUGHT, ASKED], [(1, "a reasoning item without the item that it led to")]),
        ([ASKED, THOUGHT], [(1, "a reasoning item without the item that it led to")]),
        ([ASKED, ITEM, THOUGHT, OUTPUT], [(2, "a reasoning item without the item that it led to")]),
        ([ASKED, THOUGHT, ITEM, ASKED], [(2, "tool call 1 of 1 has no result")]),
        ([ASKED, OUTPUT], [(1, "a tool result without its call")]),
        (
            [ASKED, {**CALLING, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}, TOLD, ASKED],
            [(1, "tool call 2 of 2 has no result")],
        ),
    ],
)
def test_problems_say_what_is_wrong(objects, expected):
    assert problems(history_of(objects)) == [Problem(index, index, reason) for index, reason in expected]


def test_a_problem_of_a_message_without_a_position_has_none():
    assert problems([Message.from_dict(TOLD)])[0].position is None


@pytest.mark.parametrize("first", [CALLING, {"role": "assistant", "content": "Hello!"}])
def test_a_history_that_starts_otherwise_is_a_problem_if_asked(first):
    objects = [{"role": "system"}, {"role": "developer"}, first, *([TOLD] if first is CALLING else []), ASKED]
    reason = "the history does not start with a user message"
    assert problems(history_of(objects)) == []
    assert problems(history_of(objects), user_first=True) == [Problem(2, 2, reason)]
    assert objects_of(repair(history_of(objects), user_first=True)) == [*objects[:2], ASKED]
    assert objects_of(repair(history_of(objects[:-1]), user_first=True)) == objects[:2]


def test_no_message_text_is_in_a_problem():
    objects = [
        {"role": "user", "content": [{**GOT, "tool_use_id": CANARY, "content": CANARY}]},
        {"role": "assistant", "content": CANARY, "tool_calls": [{"id": CANARY}]},
        {"role": "assistant", "content": [{**USE, "id": CANARY}, {"type": "text", "text": CANARY}]},
        {"role": CANARY},
    ]
    found = problems(history_of(objects), user_first=True)
    assert len(found) == 4
    assert CANARY not in repr(found)


# Repair


def check_repaired(objects, given, mended):
    """What holds of every repair, and needs no checker."""
    assert problems(mended) == []
    assert same_objects(repair(mended), mended)
    if not problems(given):
        assert same_objects(mended, given)
    assert objects_of(given) == objects
    first = repair(given, user_first=True)
    assert problems(first, user_first=True) == []
    assert same_objects(repair(first, user_first=True), first)


@examples(12)
@given(any_history)
def test_a_repaired_history_is_accepted(objects):
    given = history_of(objects)
    mended = repair(given)
    check_repaired(objects, given, mended)
    assert refusals(objects_of(mended)) == []


@given(st.one_of(junk, st.tuples(junk, damaged(), junk).map(lambda parts: [*parts[0], *parts[1], *parts[2]])))
def test_anything_at_all_is_repaired(objects):
    given = history_of(objects)
    check_repaired(objects, given, repair(given))


@examples(12)
@given(any_history)
def test_a_repair_drops_only_strays_and_adds_only_interruptions(objects):
    def facts_of(messages):
        """Return what is said and called, each with what else its message says; not messages that say nothing."""
        pieces = []
        for value in objects_of(messages):
            rest = {field: one for field, one in value.items() if field not in ("content", "tool_calls")}
            content = value.get("content")
            parts = [*(content if isinstance(content, list) else [content]), *(value.get("tool_calls") or ())]
            pieces += [json.dumps({**rest, "part": part}, sort_keys=True) for part in parts if part or len(rest) > 1]
        return pieces

    given = history_of(objects)
    mended = repair(given)
    before, after = Counter(facts_of(given)), Counter(facts_of(mended))
    for piece, count in after.items():
        assert count <= before[piece] or INTERRUPTED in piece
    for piece, count in before.items():
        lost = '"role": "tool"', '"role": "function"', '"tool_result"', '_output"', '"type": "reasoning"'
        # A call that was stored twice is one call. Its message loses what was signed, too.
        calls = '"tool_use"', '"type": "thinking"', '_call"', '"type": "function"'
        is_once = after[piece] > 0 and any(kind in piece for kind in calls)
        assert count == after[piece] or is_once or any(kind in piece for kind in lost)


@given(conversations(greeting=False), st.data())
def test_of_a_cut_history_only_strays_at_the_edges_change(objects, data):
    start = data.draw(st.integers(0, len(objects)))
    stop = data.draw(st.integers(start, len(objects)))
    given = history_of(objects[start:stop])
    mended = repair(given)
    kept = [message for message in mended if any(message is one for one in given)]
    assert [message.position for message in kept] == sorted(message.position for message in kept)
    changed = [message for message in mended if not any(message is one for one in given)]
    assert all(INTERRUPTED in json.dumps(value) or value.get("role") == "user" for value in objects_of(changed))


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([TOLD, ASKED], [ASKED]),
        ([ASKED, CALLING, ASKED], [ASKED, CALLING, {**TOLD, "content": LOST}, ASKED]),
        ([ASKED, CALLING, ASKED, TOLD, ASKED], [ASKED, CALLING, TOLD, ASKED, ASKED]),
        ([ASKED, CALLING, TOLD, TOLD], [ASKED, CALLING, TOLD]),
        ([ASKED, CALLING, {"role": "system"}, TOLD], [ASKED, CALLING, TOLD, {"role": "system"}]),
        ([CALLING, CALLING, TOLD], [CALLING, {**TOLD, "content": LOST}, CALLING, TOLD]),
        (
            [{"role": "assistant", "function_call": {"name": "now"}}],
            [
                {"role": "assistant", "function_call": {"name": "now"}},
                {"role": "function", "name": "now", "content": LOST},
            ],
        ),
        (
            [ASKED, USING, ASKED],
            [ASKED, USING, {"role": "user", "content": [{**GOT, "content": LOST, "is_error": True}]}, ASKED],
        ),
        (
            [ASKED, USING, ASKED, {"role": "user", "content": [GOT]}],
            [ASKED, USING, {"role": "user", "content": [GOT]}, ASKED],
        ),
        (
            [ASKED, USING, ASKED, {"role": "user", "content": [GOT, TEXT]}],
            [ASKED, USING, {"role": "user", "content": [GOT]}, ASKED, {"role": "user", "content": [TEXT]}],
        ),
        (
            [ASKED, USING, {"role": "user", "content": [TEXT, GOT]}],
            [ASKED, USING, {"role": "user", "content": [GOT, TEXT]}],
        ),
        # Current models take text behind a call.
        (
            [{"role": "assistant", "content": [USE, TEXT]}, {"role": "user", "content": [GOT]}],
            [{"role": "assistant", "content": [USE, TEXT]}, {"role": "user", "content": [GOT]}],
        ),
        ([{"role": "user", "content": [GOT, TEXT]}], [{"role": "user", "content": [TEXT]}]),
        (
            [
                {"role": "assistant", "content": [USE, {**USE, "id": "toolu_2"}]},
                {"role": "user", "content": [{**GOT, "tool_use_id": "toolu_2"}, TEXT]},
            ],
            [
                {"role": "assistant", "content": [USE, {**USE, "id": "toolu_2"}]},
                {
                    "role": "user",
                    "content": [{**GOT, "tool_use_id": "toolu_2"}, {**GOT, "content": LOST, "is_error": True}, TEXT],
                },
            ],
        ),
        ([ASKED, THOUGHT, THOUGHT, ASKED], [ASKED, ASKED]),
        ([ASKED, THOUGHT, OUTPUT, ITEM, OUTPUT], [ASKED, THOUGHT, ITEM, OUTPUT]),
        # One call that was stored twice.
        ([ITEM, THOUGHT, ITEM, ASKED], [ITEM, {**OUTPUT, "output": LOST}, ASKED]),
        # OpenAI takes an output later.
        ([ASKED, ITEM, ASKED, OUTPUT], [ASKED, ITEM, ASKED, OUTPUT]),
        ([ASKED, ITEM, THOUGHT, OUTPUT], [ASKED, ITEM, OUTPUT]),
        ([{**CALLING, "content": [USE, TEXT]}], [{**CALLING, "content": [USE, TEXT]}, {**TOLD, "content": LOST}]),
        (
            [{"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"}],
            [
                {"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": LOST},
            ],
        ),
        ([CALLING, {"role": "tool", "content": "?", "tool_call_id": "call_2"}, TOLD], [CALLING, TOLD]),
        ([{**CALLING, "tool_calls": [{}]}], [{**CALLING, "tool_calls": [{}]}, {"role": "tool", "content": LOST}]),
        (
            [{**CALLING, "tool_calls": [{}]}, ASKED, {"role": "tool"}],
            [{**CALLING, "tool_calls": [{}]}, {"role": "tool", "content": LOST}, ASKED, {"role": "tool"}],
        ),
    ],
)
def test_the_least_change_is_made(objects, expected):
    given = history_of(objects)
    mended = repair(given)
    assert objects_of(mended) == expected
    assert objects_of(given) == objects
    assert problems(mended) == []


def test_a_changed_message_keeps_our_fields_a_new_one_has_its_calls_time():
    calling = Message.from_dict(USING)._placed(4, "turn-1")
    said = Message.from_dict({"role": "user", "content": [TEXT, GOT]}, metadata={"a": 1}, ref="tg:1")
    mended = repair([calling, said._placed(5, "turn-2")])
    assert mended[0] is calling
    assert facts(mended[1]) == facts(
        Message.from_dict(
            {"role": "user", "content": [GOT, TEXT]}, created_at=said.created_at, metadata={"a": 1}, ref="tg:1"
        )._placed(5, "turn-2")
    )
    made = repair([calling])[1]
    assert (made.created_at, made.position, made.ref, made.turn) == (calling.created_at, None, None, None)


def test_a_late_message_that_is_moved_whole_is_the_same_message():
    for call, result in ((USING, {"role": "user", "content": [GOT]}), (CALLING, TOLD)):
        given = history_of([ASKED, call, ASKED, result])
        assert same_objects(repair(given), [given[0], given[1], given[3], given[2]])


def test_nothing_that_was_given_is_changed_through_what_comes_back():
    given = history_of([USING, {"role": "user", "content": [TEXT, GOT]}])
    before = [facts(message) for message in given]
    for message in repair(given):
        message.to_dict()["content"].clear()
    assert [facts(message) for message in given] == before


def test_ten_thousand_open_calls_are_repaired_in_one_go(size):
    count = size.of(2_000, 10_000, 10_000)
    items = [Message.from_dict({**ITEM, "call_id": f"call_{number}"}) for number in range(count)]
    mended = repair(items)
    assert len(mended) == 2 * count
    assert problems(mended) == []


# Turns and cuts


def cuts_of(objects):
    """Where a valid history can be cut so that a user's words come first: by trying."""
    return [
        at
        for at, value in enumerate(objects)
        if value.get("role") == "user" and not is_refused(objects[at:]) and not results(Message.from_dict(value))
    ]


@given(conversations())
def test_turns_start_wherever_a_valid_history_can_be_cut(objects):
    given = history_of(objects)
    found = turns(given)
    assert [message for turn in found for message in turn] == given
    starts = [turn[0].position for turn in found]
    cuts = cuts_of(objects)
    assert starts == (cuts if not objects or cuts[:1] == [0] else [0, *cuts])
    assert all(found)


@given(conversations(), st.integers(-1, 20))
def test_a_safe_start_leaves_the_shortest_valid_history_of_whole_turns(objects, keep_last):
    start = safe_start(history_of(objects), keep_last)
    if keep_last <= 0:
        assert start == len(objects)
    else:
        fitting = [at for at in cuts_of(objects) if len(objects) - at >= keep_last]
        assert start == max(fitting, default=0)
    assert problems(history_of(objects)[start:]) == []


@examples(12)
@given(any_history, st.integers(0, 20))
def test_a_cut_makes_no_new_problem_and_parts_no_turn(objects, keep_last):
    given = history_of(objects)
    start = safe_start(given, keep_last)
    before = {problem.position for problem in problems(given)}
    assert {problem.position for problem in problems(given[start:])} <= before
    assert start in {0, len(given)} | {turn[0].position for turn in turns(given)}
    mended = repair(given)
    assert problems(mended[safe_start(mended, keep_last) :]) == []


def test_turns_of_a_picture_are_views_of_it():
    messages = View(history_of([ASKED, CALLING, TOLD, ASKED]))
    assert [type(turn) for turn in turns(messages)] == [View, View]
    assert turns(View()) == []


@pytest.mark.parametrize(
    ("objects", "sizes"),
    [
        ([ASKED, ASKED, ASKED], [1, 1, 1]),
        ([ASKED, CALLING, ASKED, TOLD, ASKED], [4, 1]),
        ([ASKED, USING, {"role": "user", "content": [GOT, TEXT]}, ASKED], [3, 1]),
        ([CALLING, TOLD, ASKED], [2, 1]),
        ([{"role": "system"}, ASKED, {"role": "system"}, ASKED], [1, 2, 1]),
        ([{"role": "assistant"}], [1]),
        ([{"role": "user", "content": [GOT]}, ASKED], [1, 1]),
        ([{"role": "user", "content": []}, {"role": "user"}], [1, 1]),
    ],
)
def test_what_a_turn_is(objects, sizes):
    assert [len(turn) for turn in turns(history_of(objects))] == sizes


@pytest.mark.parametrize(
    ("objects", "keep_last", "expected"),
    [
        ([], 3, 0),
        ([ASKED] * 5, 2, 3),
        ([ASKED] * 5, 5, 0),
        ([ASKED] * 5, 9, 0),
        ([ASKED] * 5, -1, 5),
        ([{"role": "assistant"}] * 5, 2, 0),
        ([ASKED, *[CALLING, TOLD] * 20], 2, 0),
        ([ASKED, ASKED, *[CALLING, TOLD] * 20], 2, 1),
        ([{"role": "system"}, ASKED, CALLING, TOLD], 4, 0),
        ([{"role": "system"}, ASKED, CALLING, TOLD], 3, 1),
    ],
)
def test_where_a_cut_is_safe(objects, keep_last, expected):
    assert safe_start(history_of(objects), keep_last) == expected


def test_the_head_is_what_leads_in_system_and_developer_messages():
    assert head([]) == 0
    assert head(history_of([{"role": "system"}, {"role": "developer"}, ASKED, {"role": "system"}])) == 2
    assert head(history_of([{"role": "system"}])) == 1


# Fit


def fitted(messages, budget, *count):
    """The messages that fit, or what the error says that is needed."""
    try:
        return fit(messages, budget, *count)
    except ContextTooSmallError as error:
        needed, bound = error.needed, error.bound
    assert needed > bound == budget
    return needed


@given(any_history, st.integers(-1, 40), st.data())
def test_what_fits_is_valid_within_the_budget_and_the_longest_such_end(objects, budget, data):
    mended = repair(history_of(objects))
    # A question that loses the result of a call which is cut away is a new message, of one token.
    sizes = defaultdict(lambda: 1, {id(message): data.draw(st.integers(0, 9)) for message in mended})
    asked = []

    def count(message):
        asked.append(id(message))
        return sizes[id(message)]

    fitting = fitted(mended, budget, count)
    if isinstance(fitting, int):
        assert fitting <= sum(sizes[id(message)] for message in turns(mended)[-1])
        return
    assert len(asked) == len(set(asked))
    assert problems(fitting) == []
    assert sum(sizes[id(message)] for message in fitting) <= max(budget, 0)
    is_end = same_objects(fitting, mended[len(mended) - len(fitting) :])
    assert is_end or same_objects(fitting[1:], mended[len(mended) - len(fitting) + 1 :])
    assert any(is_users(message) for message in fitting) or not any(is_users(message) for message in mended)
    starts = {0, *cuts_of(objects_of(mended))}
    longer = [mended[at:] for at in starts if at < len(mended) - len(fitting)]
    assert all(sum(sizes[id(message)] for message in end) > budget for end in longer)


def test_an_end_that_brings_a_result_of_an_earlier_turn_is_not_read_alone(monkeypatch):
    """Read alone, it had one result too many, which was not counted, and the budget was exceeded."""
    monkeypatch.setattr(cuts, "_FIRST_TAIL", 1)
    said = {"role": "assistant", "content": "It is noon."}
    given = history_of([ITEM, ASKED, ITEM, OUTPUT, OUTPUT, said, said, ASKED, said])
    assert problems(given) == []

    def count(message):
        return 100 if message.position == 4 else 1

    assert same_objects(fit(given, 107, count), given[-2:])
    assert same_objects(fit(given, 108, count), given)


def test_a_budget_of_any_size_is_filled_and_never_exceeded():
    given = history_of([ASKED] * 700)
    for budget in [*range(3, 12), *range(90, 130), 255, 256, 257, 511, 512, 513, 699, 700, 701, 5000]:
        assert len(fit(given, budget, count=lambda message: 1)) == min(budget, 700)
        assert len(fit(given, budget, count=lambda message: 3)) == min(budget // 3, 700)


@examples(12)
@given(any_history, st.integers(0, 20), st.integers(0, 30))
def test_a_long_history_is_cut_as_a_short_one(objects, keep_last, budget):
    def answers(first_tail):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cuts, "_FIRST_TAIL", first_tail)
            found = fitted(given, budget, lambda message: 1 + len(message.role or ""))
            return safe_start(given, keep_last), found if isinstance(found, int) else objects_of(found)

    given = history_of(objects)
    assume(not ITEM_IDS.find(given, BY_SHAPE))  # the later copy of an item stays if the first one is cut off: see below
    assert answers(1) == answers(2) == answers(1000)


def test_an_item_stays_whose_first_copy_was_cut_off(monkeypatch):
    """A history of both loses the later one, as the provider asks."""
    monkeypatch.setattr(cuts, "_FIRST_TAIL", 5)
    reasoning = {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": "gAAA="}
    turn = [{"role": "user", "content": "Well?"}, reasoning, {"role": "assistant", "content": "It is noon."}]
    given = history_of([*turn, turn[0], turn[2], *turn])
    assert objects_of(fit(given, 4, count=lambda message: 1)) == turn
    assert objects_of(fit(given, 8, count=lambda message: 1)) == [*turn, *[turn[0], turn[2]] * 2]


def test_the_end_of_a_history_costs_the_same_however_long_it_is(monkeypatch):
    monkeypatch.setattr(cuts, "_FIRST_TAIL", 64)
    read = []
    for module in (cuts, pairing, tool_calls, call_ids):
        monkeypatch.setattr(module, "pair", lambda messages, *rules: (read.append(len(messages)), pair(messages))[1])
    given = history_of([ASKED, CALLING, TOLD] * 3_000)
    assert safe_start(given, 50) == 8_949
    assert len(fit(given, 50, count=lambda message: 1)) == 48
    assert sum(read) < 500


@given(damaged(), st.integers(0, 400))
def test_what_fits_is_valid_whatever_was_given(objects, budget):
    found = fitted(history_of(objects), budget)
    assert isinstance(found, int) or refusals(objects_of(found)) == []


# Real conversations


@pytest.fixture(scope="module")
def recorded():
    if not CHATS.exists():
        pytest.skip("../shared/data/airline_chats.jsonl is not here")
    return [history_of(json.loads(line)["messages"]) for line in CHATS.read_text().splitlines()]


def test_recorded_conversations_cut_anywhere_are_repaired(recorded, size):
    """Every beginning and every length of each conversation is tried."""
    cuts, some = 0, recorded[:: size.of(12, 1, 1)]
    for chat in some:
        assert problems(chat) == []
        assert same_objects(repair(chat), chat)
        for at in range(len(chat) + 1):
            for part in (chat[at:], chat[:at]):
                mended = repair(part)
                assert problems(mended) == []
                assert not is_refused([message._object for message in mended])
                cuts += 1
    assert cuts == 2 * sum(len(chat) + 1 for chat in some) > 400


def test_recorded_conversations_truncated_to_every_length_stay_valid(recorded, size):
    for chat in recorded[:: size.of(12, 1, 1)]:
        for keep_last in range(len(chat) + 1):
            kept = chat[safe_start(chat, keep_last) :]
            assert len(kept) >= keep_last
            assert problems(kept) == []
            assert kept == chat or not kept or kept[0].role == "user"


def test_recorded_conversations_fit_every_budget(recorded, size):
    for chat in recorded[: size.of(6, 20, 20)]:
        for budget in range(0, 12_000, 500):
            found = fitted(chat, budget)
            if isinstance(found, int):
                assert budget < 500
                continue
            assert problems(found, user_first=True) == []
            assert any(message.role == "user" for message in found)


def test_the_shapes_are_all_drawn():
    assert SHAPES == ("chat", "function", "blocks", "items")
