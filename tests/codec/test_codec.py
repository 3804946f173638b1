"""The codec: messages and states in JSON bytes, and back."""

from __future__ import annotations

import inspect
import json
import sys
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message
from session_manager.codec.json import DecodeError, decode_json, encode_json
from session_manager.codec.lines import decode_messages, encode_message, encoded_size, size_bound
from session_manager.codec.state import decode_state, encode_state, session_of
from session_manager.model.json_value import MAX_LEVELS
from session_manager.model.view import View
from tests.support.laws import examples
from tests.support.strategies import (
    CANARY,
    NASTY_FLOATS,
    NASTY_INTS,
    NASTY_TEXTS,
    facts,
    held_text,
    json_values,
    sessions,
    written,
)
from tests.support.threads import alive

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def lines_of(messages) -> bytes:
    return b"[\n" + b",\n".join(map(encode_message, messages)) + b"\n]"


# One line for a message

LINES = [
    (
        Message("user", "hi", created_at=AT)._placed(0, None),
        '{"position":0,"created_at":"2026-01-02T03:04:05Z","message":{"role":"user","content":"hi"}}',
    ),
    (
        Message("user", None, created_at=AT + timedelta(microseconds=6), metadata={"b": 1, "a": []}, ref="7")._placed(
            2**53, "update-1"
        ),
        (
            '{"position":9007199254740992,"created_at":"2026-01-02T03:04:05.000006Z",'
            '"message":{"role":"user","content":null},"metadata":{"b":1,"a":[]},"ref":"7","turn":"update-1"}'
        ),
    ),
    (
        Message.from_dict({"type": "t", "é\u2028\x7f": '漢👩"\\/\n\x00'}, created_at=AT)._placed(1, None),
        (
            '{"position":1,"created_at":"2026-01-02T03:04:05Z",'
            '"message":{"type":"t","é\u2028\x7f":"漢👩\\"\\\\/\\n\\u0000"}}'
        ),
    ),
    (
        Message("user", ["\ud800é", -0.0, 5e-324, 10**30], created_at=AT, metadata={"x": 1}, ref="r")._placed(3, "t"),
        (
            '{"position":3,"created_at":"2026-01-02T03:04:05Z","message":{"role":"user","content":'
            '["\\ud800\\u00e9",-0.0,5e-324,1000000000000000000000000000000]},"metadata":{"x":1},"ref":"r","turn":"t"}'
        ),
    ),
    (
        Message("user", "é", created_at=AT + timedelta(microseconds=120), ref="\udfff")._placed(4, None),
        (
            '{"position":4,"created_at":"2026-01-02T03:04:05.000120Z",'
            '"message":{"role":"user","content":"\\u00e9"},"ref":"\\udfff"}'
        ),
    ),
]


@pytest.mark.parametrize(("message", "line"), LINES, ids=range(len(LINES)))
def test_a_message_is_this_line(message, line):
    encoded = encode_message(message)
    assert encoded == line.encode()
    (decoded,) = decode_messages(b"[\n" + encoded + b"\n]")
    assert facts(decoded) == facts(message)


@examples(7)
@given(sessions())
def test_messages_come_back_exactly_each_from_a_line_of_its_own(session):
    data = lines_of(session.messages)
    assert data.count(b"\n") == max(len(session.messages) - 1, 0) + 2
    assert list(map(facts, decode_messages(data))) == list(map(facts, session.messages))
    assert list(map(facts, decode_messages(memoryview(data)))) == list(map(facts, session.messages))
    for message, line in zip(session.messages, data[2:-2].split(b",\n"), strict=bool(session.messages)):
        said = json.loads(line)
        assert repr(said["message"]) == repr(written(message))
        assert [said.get(name) for name in ("position", "metadata", "ref", "turn")] == [
            message.position,
            message.metadata or None,
            message.ref,
            message.turn,
        ]


def test_an_empty_array_is_no_message():
    assert decode_messages(b"[\n]") == []


# Any value


@given(json_values())
def test_a_value_comes_back_exactly_in_one_line(value):
    data = encode_json(value)
    assert b"\n" not in data
    assert repr(decode_json(data)) == repr(decode_json(memoryview(data))) == repr(json.loads(data)) == repr(value)


@pytest.mark.parametrize("value", [*NASTY_INTS, *NASTY_FLOATS, *NASTY_TEXTS], ids=lambda value: ascii(value)[:30])
def test_the_borders_of_json_come_back_also_beside_a_lone_surrogate(value):
    for whole in ([value], [value, "\ud800"], {"é": value}):
        assert repr(decode_json(encode_json(whole))) == repr(whole)


def test_text_is_utf8_and_a_lone_surrogate_makes_its_line_ascii():
    assert encode_json(["é", "漢"]) == '["é","漢"]'.encode()
    assert encode_json(["é", "\ud800"]) == b'["\\u00e9","\\ud800"]'


@pytest.mark.parametrize("text", ['"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '["\\ud83d\\ude00"]'])
def test_an_escaped_surrogate_pair_is_the_character(text):
    assert "😀" in decode_json(text.encode())
    assert decode_json(b'["\\ud800", ' + text.encode() + b"]")[1] == json.loads(text)


@given(st.one_of(json_values(), st.just(None)), st.sampled_from(NASTY_TEXTS))
def test_the_size_of_a_message_is_that_of_its_object_and_metadata_encoded(value, text):
    message = Message("user", [value, text], metadata=None if value is None else {text: value})
    notes = len(encode_json(message.metadata)) if message.metadata else 0
    assert encoded_size(message) == len(encode_json(message.to_dict())) + notes


def nested_values():
    """JSON values of the costliest parts: an emoji beside a lone surrogate is twelve bytes, a float 24."""
    parts = [*NASTY_TEXTS, *NASTY_FLOATS, *NASTY_INTS, -(10**4000), "😀" * 50, "\x00\ud800", True, None, "", [], {}]
    leaves = st.sampled_from(parts)
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NASTY_TEXTS), inner))


@given(nested_values(), st.dictionaries(st.sampled_from(NASTY_TEXTS), nested_values()))
def test_no_message_is_larger_than_its_bound(value, metadata):
    message = Message("user", value, extra={"x😀\ud800": value}, metadata=metadata)
    assert encoded_size(message) <= size_bound(message)


@pytest.mark.parametrize("length", [0, 1, 1000])
@pytest.mark.parametrize(
    "make",
    [lambda n: "\x00" * n, lambda n: "\ud800" + "😀" * n, lambda n: [-2.2250738585072014e-308] * n, lambda n: [-7] * n],
)
def test_a_bound_is_not_far_from_the_largest_message(make, length):
    """It grows with the characters and the values, and with nothing else."""
    message = Message("user", make(length))
    assert encoded_size(message) <= size_bound(message) <= 16 * encoded_size(message) + 300


NOT_JSON = {
    "nothing": b"",
    "space": b" ",
    "NaN": b"NaN",
    "Infinity": b"[Infinity]",
    "-Infinity": b"-Infinity",
    "NaN beside a lone surrogate": b'["\\ud800", NaN]',
    "infinite float": b"1e999",
    "infinite float beside a lone surrogate": b'["\\ud800", -1e999]',
    "int of 4,301 digits": b"1" * 4301,
    "int of 4,301 digits beside a lone surrogate": b'["\\ud800", -' + b"1" * 4301 + b"]",
    "leading zero": b"01",
    "single quotes": b"'x'",
    "comment": b"/**/1",
    "trailing comma": b"[1,]",
    "two values": b"1 2",
    "raw control character": b'"a\x00b"',
    "raw line feed": b'"a\nb"',
    "Latin-1": b'"\xe9"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "UTF-16": "[1]".encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf[1]",
    "bad escape": b'"\\x41"',
    "half an escape": b'"\\u00e"',
    "cut off": b'{"a": [1, "x',
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "100,000 open levels": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_an_error_that_shows_nothing_of_it(data):
    data = data.replace(b"x", CANARY.encode())
    for given_ in (data, memoryview(data)):
        with pytest.raises(DecodeError) as caught:
            decode_json(given_)
        assert 0 <= caught.value.offset <= len(data)
        assert CANARY not in held_text(caught.value)


def test_the_place_of_an_error_is_counted_in_bytes():
    for text in ('["é漢👩", nul]', '["aaa", nul]'):
        with pytest.raises(DecodeError) as caught:
            decode_json(text.encode())
        assert caught.value.offset == text.encode().index(b"nul")


# Lines that are no messages

GOOD = (
    b'{"position":0,"created_at":"2026-01-02T03:04:05Z","message":{"role":"user","content":"' + CANARY.encode() + b'"}}'
)


def variant(old: bytes, new: bytes) -> bytes:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def nested(levels: int) -> bytes:
    return b"[" * levels + b'"' + CANARY.encode() + b'"' + b"]" * levels


CONTENT = b'"' + CANARY.encode() + b'"'
ROLE = b'"role":"user",'
BAD_LINES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "two in a line without a comma": GOOD + GOOD,
    "cut off": GOOD[:-1],
    "garbage behind": GOOD + b"x",
    "no position": variant(b'"position":0,', b""),
    "position null": variant(b":0,", b":null,"),
    "position true": variant(b":0,", b":true,"),
    "position of a float": variant(b":0,", b":0.0,"),
    "position of a string": variant(b":0,", b':"0",'),
    "negative position": variant(b":0,", b":-1,"),
    "no time": variant(b'"created_at":"2026-01-02T03:04:05Z",', b""),
    "time null": variant(b'"2026-01-02T03:04:05Z"', b"null"),
    "naive time": variant(b"05Z", b"05"),
    "time of another zone": variant(b"05Z", b"05+01:00"),
    "no time at all": variant(b"2026-01-02T03:04:05Z", b"yesterday"),
    "day that is none": variant(b"01-02", b"02-30"),
    "no message": variant(b'"message":', b'"massage":'),
    "message null": variant(b'{"role":"user","content":' + CONTENT + b"}", b"null"),
    "message of a list": variant(b'{"role":"user","content":' + CONTENT + b"}", b"[" + CONTENT + b"]"),
    "no role": variant(ROLE, b""),
    "role null": variant(ROLE, b'"role":null,'),
    "role null, with a type": variant(ROLE, b'"role":null,"type":"x",'),
    "empty role": variant(ROLE, b'"role":"",'),
    "role of an int": variant(ROLE, b'"role":1,'),
    "empty type": variant(ROLE, b'"type":"",'),
    "metadata of a list": GOOD[:-1] + b',"metadata":[]}',
    "ref of an int": GOOD[:-1] + b',"ref":7}',
    "turn of a list": GOOD[:-1] + b',"turn":[]}',
    "NaN": variant(CONTENT, b"[NaN," + CONTENT + b"]"),
    "infinite float": variant(CONTENT, b"[1e999," + CONTENT + b"]"),
    "huge int": variant(CONTENT, b"1" * 4301),
    "raw line feed in a string": variant(CONTENT, b'"a\nb"'),
    "not UTF-8": variant(CONTENT, CONTENT[:-1] + b'\xff"'),
    "one level too many": variant(CONTENT, nested(MAX_LEVELS)),
    "900 levels": variant(CONTENT, nested(900)),
    "50,000 levels": variant(CONTENT, nested(50_000)),
    "one level too many beside a lone surrogate": variant(CONTENT, b'["\\ud800",' + nested(MAX_LEVELS - 1) + b"]"),
    "one level too many in the metadata": GOOD[:-1] + b',"metadata":{"a":' + nested(MAX_LEVELS) + b"}}",
    "50,000 levels in an unknown field": GOOD[:-1] + b',"new":' + nested(50_000) + b"}",
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("surrogate", [False, True], ids=["", "beside a lone surrogate"])
def test_a_line_that_is_no_message_is_an_error_that_names_its_place(bad, surrogate):
    """The error shows nothing of the line's text."""
    first = GOOD.replace(b":0,", b":-0,").replace(CONTENT, b'"\\ud800"') if surrogate else GOOD
    before = b"[\n" + first + b",\n"
    data = before + bad.replace(b'"position":0', b'"position":1') + b",\n" + GOOD.replace(b":0,", b":2,") + b"\n]"
    with pytest.raises(DecodeError) as caught:
        decode_messages(data)
    assert len(before) <= caught.value.offset <= len(before) + len(bad)
    assert CANARY not in held_text(caught.value)


@pytest.mark.parametrize("positions", [[0, 0], [1, 0], [0, 2, 1], [5, 6, 6]])
def test_positions_that_do_not_increase_are_an_error_at_their_line(positions):
    lines = [GOOD.replace(b":0,", b":%d," % position) for position in positions]
    with pytest.raises(DecodeError) as caught:
        decode_messages(b"[\n" + b",\n".join(lines) + b"\n]")
    assert caught.value.reason == "positions do not increase"
    assert caught.value.offset == len(b"[\n" + b",\n".join(lines[:-1]) + b",\n")


def test_the_most_levels_that_a_message_may_have_come_back():
    value = "\ud800"
    for _ in range(MAX_LEVELS - 1):
        value = [value]
    for leaf in ("\ud800", "é"):
        value = leaf
        for _ in range(MAX_LEVELS - 1):
            value = [value]
        message = Message("user", value, created_at=AT, metadata={"a": value})._placed(0, None)
        (decoded,) = decode_messages(lines_of([message]))
        assert facts(decoded) == facts(message)


def test_fields_that_are_not_known_are_ignored():
    line = GOOD[:-1] + b',"reactions":[{"by":"\xc3\xa9"}],"x":null}'
    assert list(map(facts, decode_messages(b"[\n" + line + b"\n]"))) == list(
        map(facts, decode_messages(b"[\n" + GOOD + b"\n]"))
    )


# States


@examples(7)
@given(sessions())
def test_a_session_comes_back_from_its_state_and_its_messages(session):
    state = decode_state(encode_json(encode_state(session)))
    assert facts(session_of(state, session.messages)) == facts(session)
    assert state.last_message_at == session.last_message_at


STATE = {
    "key": "telegram:42",
    "generation": "9f",
    "revision": 1,
    "created": "2026-01-02T03:04:05Z",
    "updated": "2026-01-02T03:04:05Z",
    "last_message_at": None,
    "start": 0,
    "end": 2,
    "refs": [],
    "summary": CANARY,
    "metadata": {CANARY: CANARY},
    "count": 1,
}


def deep(levels: int) -> object:
    value: object = CANARY
    for _ in range(levels):
        value = [value]
    return value


BAD_FIELDS = [
    *[("key", value) for value in (None, 5, ["k"])],
    *[("generation", value) for value in (None, 5)],
    *[("revision", value) for value in (None, 0, -1, 1.0, True, "1")],
    *[("start", value) for value in (None, -1, 2, 0.0, "0")],
    *[("end", value) for value in (None, -1, 0, 2.5, True)],
    *[("count", value) for value in (None, -1, 3, 1.0)],
    *[("refs", value) for value in (None, CANARY, [1], [None], {})],
    *[("summary", value) for value in (None, 5, [CANARY])],
    *[("metadata", value) for value in (None, [], CANARY, {"a": deep(MAX_LEVELS)}, {"a": deep(900)})],
    *[
        (field, value)
        for field in ("created", "updated", "last_message_at")
        for value in (5, "yesterday", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05+01:00", [])
    ],
    ("created", None),
    ("updated", None),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=range(len(BAD_FIELDS)))
@pytest.mark.parametrize("generation", ["9f", "\ud800"])
def test_a_state_that_is_none_is_an_error_that_shows_nothing_of_it(field, value, generation):
    decode_state(json.dumps({**STATE, "generation": generation}).encode())
    with pytest.raises(DecodeError) as caught:
        decode_state(json.dumps({**STATE, "generation": generation, field: value}).encode())
    assert CANARY not in held_text(caught.value)


@pytest.mark.parametrize("field", sorted(STATE.keys() - {"last_message_at", "refs", "summary", "metadata"}))
def test_a_state_that_lacks_a_field_is_an_error(field):
    with pytest.raises(DecodeError):
        decode_state(json.dumps({name: value for name, value in STATE.items() if name != field}).encode())


@pytest.mark.parametrize(
    ("positions", "numbers"),
    [
        ([0], {"count": 2}),
        ([0, 1], {"count": 1}),
        ([], {"count": 1}),
        ([0], {"count": 0}),
        ([1], {"count": 1, "start": 0}),
        ([0, 4], {"count": 2, "end": 4}),
        ([], {"count": 0, "start": 1, "end": 2}),
    ],
)
def test_a_state_and_messages_that_do_not_belong_together_are_an_error(positions, numbers):
    state = decode_state(json.dumps({**STATE, "end": 9, **numbers}).encode())
    with pytest.raises(DecodeError):
        session_of(state, View([Message("user")._placed(position, None) for position in positions]))


# Deep values


def nested(levels):
    value = [CANARY]
    for _ in range(levels - 1):
        value = [value]
    return value


def with_frames_left(left, call):
    """Call a function when the stack of this thread is almost used up."""

    def deeper(depth):
        return deeper(depth - 1) if depth > 0 else call()

    return deeper(sys.getrecursionlimit() - left - len(inspect.stack(0)))


@pytest.mark.parametrize("left", [60, 100, 150, 199, 300])
@pytest.mark.parametrize("content", [nested(198), [*nested(197), "\ud800"]], ids=["plain", "surrogate"])
def test_a_deep_message_is_read_on_a_stack_that_is_almost_used_up(content, left):
    """Up to Python 3.11 it was told to be damaged: decoders share the recursion limit with the caller."""
    line = encode_message(Message("user", content, created_at=AT)._placed(0, None))
    threads = alive()
    (message,) = with_frames_left(left, lambda: decode_messages(b"[\n" + line + b"\n]"))
    assert encode_message(message) == line
    assert alive() <= threads


@pytest.mark.parametrize("data", [b"[" * 8_000_000, b'{"a":' * 1_600_000, b"[" * 100_000 + b"]" * 100_000])
def test_what_is_nested_without_end_is_no_json_and_takes_no_time(data):
    threads = alive()
    with pytest.raises(DecodeError) as raised:
        decode_json(data)
    assert raised.value.reason in ("is nested too deeply", "is not JSON")
    assert raised.value.__context__ is None
    assert alive() <= threads
