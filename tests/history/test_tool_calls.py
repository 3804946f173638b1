"""Reading calls and results out of messages, in each shape, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given

from session_manager import Message
from session_manager.history.pairing import pair
from session_manager.history.shapes import BLOCKS, CHAT, CUSTOM, FUNCTION, ITEMS, calls, results
from tests.support.strategies import json_values, message_objects


def read(value):
    message = Message.from_dict(value)
    return [(one.shape, one.id, one.slot) for one in [*calls(message), *results(message)]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]}, [(CHAT, "a", 0), (CHAT, "b", 1)]),
        ({"role": "assistant", "tool_calls": [7, {"id": "b"}, None]}, [(CHAT, "b", 1)]),
        ({"role": "assistant", "function_call": {"name": "now"}}, [(FUNCTION, None, 0)]),
        ({"role": "assistant", "content": [{"type": "text"}, {"type": "tool_use", "id": "a"}]}, [(BLOCKS, "a", 1)]),
        ({"type": "function_call", "call_id": "a", "id": "fc_1"}, [(ITEMS, "a", 0)]),
        ({"type": "custom_tool_call", "call_id": "a"}, [(CUSTOM, "a", 0)]),
        ({"role": "tool", "tool_call_id": "a"}, [(CHAT, "a", 0)]),
        ({"role": "function", "name": "now"}, [(FUNCTION, None, 0)]),
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}, {"type": "tool_result"}, "?"]},
            [(BLOCKS, "a", 0), (BLOCKS, None, 1)],
        ),
        ({"type": "function_call_output", "call_id": "a"}, [(ITEMS, "a", 0)]),
        ({"type": "custom_tool_call_output", "call_id": "a"}, [(CUSTOM, "a", 0)]),
    ],
)
def test_calls_and_results_are_read_in_every_shape(value, expected):
    assert read(value) == expected


@pytest.mark.parametrize("id_", [None, "", 7, True, ["a"], {"a": 1}])
def test_an_id_that_is_no_text_is_missing(id_):
    assert read({"role": "assistant", "tool_calls": [{"id": id_}]}) == [(CHAT, None, 0)]
    assert read({"role": "tool", "tool_call_id": id_}) == [(CHAT, None, 0)]
    assert read({"type": "function_call", "call_id": id_}) == [(ITEMS, None, 0)]
    assert read({"role": "assistant", "content": [{"type": "tool_use", "id": id_}]}) == [(BLOCKS, None, 0)]


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": "hi", "tool_calls": [{"id": "a"}]},
        {"role": "assistant", "tool_calls": {"id": "a"}},
        {"role": "assistant", "tool_calls": []},
        {"role": "assistant", "function_call": "now"},
        {"role": "assistant", "content": {"type": "tool_use"}},
        {"role": "assistant", "content": [{"type": ["tool_use"]}, {"type": "tool_result"}]},
        {"role": "user", "content": [{"type": "tool_use", "id": "a"}]},
        {"role": "assistant", "type": "function_call", "call_id": "a"},
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "message"},
        {"role": "critic", "content": [{"type": "tool_result"}]},
    ],
)
def test_what_is_no_call_is_just_a_message(value):
    assert read(value) == []


def test_a_message_is_read_in_one_shape():
    both = {"role": "assistant", "tool_calls": [{"id": "a"}], "content": [{"type": "tool_use", "id": "a"}]}
    assert read(both) == [(CHAT, "a", 0)]
    assert read({**both, "tool_calls": None}) == [(BLOCKS, "a", 0)]
    assert read({**both, "tool_calls": [7]}) == [(BLOCKS, "a", 0)]


@given(message_objects(), json_values(), json_values())
def test_anything_can_be_read_and_what_is_read_is_answered_in_its_shape(value, one, other):
    for field in ("content", "tool_calls", "function_call", "call_id", "tool_call_id", "parts", "blocks"):
        message = Message.from_dict({**value, field: [one, {"type": "tool_use", "id": other}]})
        for call in calls(message):
            made = call.shape.interrupted(message._object, call)
            brought = call.shape.bringing([made])
            [result] = results(Message.from_dict(made if brought is None else brought))
            assert (result.shape, result.id) == (call.shape, call.id)
            assert set(result.keys) <= set(call.keys)


@pytest.mark.parametrize("id_", [None, "", 7])
def test_a_call_that_names_nothing_gets_a_result_that_names_nothing(id_):
    message = Message("assistant", None, tool_calls=[{"id": id_}])
    assert CHAT.interrupted(message._object, calls(message)[0]) == {
        "role": "tool",
        "content": "Interrupted: this call has no result.",
    }


def pairs(*objects):
    pairing = pair([Message.from_dict(value) for value in objects])
    return pairing.answers, sorted(pairing.late), sorted(pairing.twice), sorted(pairing.orphans)


def calling(*ids):
    return {"role": "assistant", "tool_calls": [{"id": id_, "index": at} for at, id_ in enumerate(ids)]}


def told(id_):
    return {"role": "tool", "tool_call_id": id_, "content": "12:00"}


ASKED = {"role": "user", "content": "What time is it?"}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        # parallel calls in any order; two of one id, in turn
        ([calling("a", "b"), told("b"), told("a")], ({(1, 0): (0, 1), (2, 0): (0, 0)}, [], [], [])),
        ([calling("a", "a"), told("a"), told("a")], ({(1, 0): (0, 0), (2, 0): (0, 1)}, [], [], [])),
        # an id that comes again names the newest call
        ([calling("a"), ASKED, calling("a"), told("a")], ({(3, 0): (2, 0)}, [], [], [])),
        (
            [calling("a"), told("a"), calling("a"), ASKED, told("a")],
            ({(1, 0): (0, 0), (4, 0): (2, 0)}, [(4, 0)], [], []),
        ),
        # late, twice, orphan
        ([calling("a"), ASKED, told("a"), told("a")], ({(2, 0): (0, 0)}, [(2, 0)], [(3, 0)], [])),
        ([told("a"), calling("b"), told("a")], ({}, [], [], [(0, 0), (2, 0)])),
        # without an id: by its place, while the call is open; else it is no result
        ([calling(None), told(None), told(None)], ({(1, 0): (0, 0)}, [], [], [])),
        ([calling("a", "b"), told(None), told("a")], ({(1, 0): (0, 1), (2, 0): (0, 0)}, [], [], [])),
        ([calling(None), ASKED, told(None)], ({}, [], [], [])),
        # another shape is no answer
        (
            [calling("a"), {"type": "function_call_output", "call_id": "a"}, told("a")],
            ({(2, 0): (0, 0)}, [(2, 0)], [], [(1, 0)]),
        ),
    ],
)
def test_which_result_answers_which_call(objects, expected):
    assert pairs(*objects) == expected
