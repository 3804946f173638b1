"""picoclaw's sessions of one file come in with all that they say."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.importers.picoclaw_json import read
from session_manager.importers.reading import Flaw, ImportedSession
from session_manager.stores.files.recognition import format_of
from tests.support.go_files import GOLDEN, KEY, SAID, go_file
from tests.support.laws import examples
from tests.support.source_files import WRITTEN, GivenFile
from tests.support.strategies import CANARY, keys, message_objects

CREATED = datetime(2026, 1, 2, 2, 4, 5, 123456, timezone.utc)
UPDATED = datetime(2026, 1, 2, 6, 4, 6, 999999, timezone.utc)
ASKED = "Is 1 < 2 && 2 > 1?\u2028漢字 é 👩‍👩‍👧"


def found(data: bytes) -> tuple[list[ImportedSession], list[str]]:
    """Return the sessions in a file, and what is wrong with it."""
    all_found = list(read(GivenFile("telegram_42.json", data)))
    sessions = [one for one in all_found if isinstance(one, ImportedSession)]
    return sessions, [one.reason for one in all_found if isinstance(one, Flaw)]


def session_in(data: bytes) -> ImportedSession:
    (session,), reasons = found(data)
    assert reasons == []
    return session


def test_the_golden_file_is_read_for_ever() -> None:
    session = session_in(GOLDEN)
    arguments = '{"expression":"1<2","big":18446744073709551616}'
    call = {"id": "call_1", "type": "function", "function": {"name": "calculate", "arguments": arguments}}
    assert [message.to_dict() for message in session.messages] == [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "true\t\ufffd", "tool_call_id": "call_1"},
    ]
    assert [message.created_at for message in session.messages] == [UPDATED] * 3
    assert (session.key, session.summary, dict(session.metadata)) == (KEY, "They <b>love</b> maths.", {})
    assert (session.created, session.updated) == (CREATED, UPDATED)


def test_the_key_is_that_in_the_file_and_not_in_its_name() -> None:
    assert session_in(go_file("a/b:c")).key == "a/b:c"
    for key in ("", None, ...):
        whole = json.loads(go_file(key if key is not ... else "x"))
        if key is ...:
            del whole["key"]
        sessions, reasons = found(json.dumps(whole).encode())
        assert (sessions, len(reasons)) == ([], 1)
        assert reasons[0].startswith("key: ")


TIMES = {
    "2026-01-02T03:04:05Z": "2026-01-02T03:04:05+00:00",
    "2026-01-02T03:04:05.1Z": "2026-01-02T03:04:05.100000+00:00",
    "2026-01-02T03:04:05.123456999Z": "2026-01-02T03:04:05.123456+00:00",
    "2026-01-02T03:04:05.000000999Z": "2026-01-02T03:04:05+00:00",
    "2026-01-02T03:04:05+05:45": "2026-01-01T21:19:05+00:00",
    "2026-01-02T03:04:05.5-09:30": "2026-01-02T12:34:05.500000+00:00",
    "2024-02-29T23:59:59.999999999-00:01": "2024-03-01T00:00:59.999999+00:00",
    "0001-01-02T00:00:00Z": "0001-01-02T00:00:00+00:00",
    "9999-12-31T23:59:59.999999999Z": "9999-12-31T23:59:59.999999+00:00",
}


@pytest.mark.parametrize(("text", "expected"), TIMES.items())
def test_a_time_of_go_is_cut_to_microseconds_in_utc(text: str, expected: str) -> None:
    session = session_in(go_file(created=text, updated=text))
    for time in (session.created, session.updated, session.messages[0].created_at):
        assert time is not None
        assert time.isoformat() == expected
        assert time.tzinfo is timezone.utc


ZEROS = ["0001-01-01T00:00:00Z", "0001-01-01T00:53:28+00:53", "0000-12-31T16:07:02-07:52", None]


@pytest.mark.parametrize("zero", ZEROS)
def test_an_unknown_time_is_the_other_one_or_else_the_files(zero: str | None) -> None:
    known, then = "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    for created, updated, expected in ((zero, known, then), (known, zero, then), (zero, zero, WRITTEN)):
        session = session_in(go_file(created=created, updated=updated))
        assert (session.created, session.updated, session.messages[0].created_at) == (expected, expected, expected)


@pytest.mark.parametrize("text", ["yesterday", 5, "2026-01-02", "2026-02-30T00:00:00Z", "2026-01-02T03:04:05+1:00"])
def test_a_time_that_is_none_is_told_and_unknown(text: Any) -> None:
    for field in ("created", "updated"):
        (session,), reasons = found(go_file(**{field: text}))
        assert [reason.partition(":")[0] for reason in reasons] == [field]
        assert session.created == session.updated == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def test_a_message_has_its_own_time_or_that_of_the_next_one_with_a_time() -> None:
    early, late = "2026-01-01T00:00:00.000000001Z", "2026-01-01T10:00:00+02:00"
    messages = [SAID, {**SAID, "created_at": early}, SAID, {**SAID, "created_at": late}, SAID]
    session = session_in(go_file(messages=messages))
    assert [message.created_at.strftime("%d %H") for message in session.messages] == [
        "01 00",
        "01 00",
        "01 08",
        "01 08",
        "02 03",
    ]
    assert [message.to_dict() for message in session.messages] == messages


@pytest.mark.parametrize("messages", [None, []])
@pytest.mark.parametrize("fields", [{}, {"summary": ""}, {"summary": None}])
def test_no_messages_and_no_summary_are_an_empty_session(messages: Any, fields: dict[str, Any]) -> None:
    session = session_in(go_file(messages=messages, **fields))
    assert (session.messages, session.summary) == ([], "")


def test_fields_that_are_not_known_become_metadata() -> None:
    assert dict(session_in(go_file(model="m", scopes={"a": [1]})).metadata) == {"model": "m", "scopes": {"a": [1]}}


@given(keys(), st.lists(message_objects(), max_size=3), st.text(max_size=20))
@examples(30)
def test_what_picoclaw_writes_is_read(key: str, objects: list[Any], summary: str) -> None:
    session = session_in(json.dumps({"key": key, "messages": objects, "summary": summary}).encode())
    assert (session.key, session.summary) == (key, summary)
    assert [repr(message.to_dict()) for message in session.messages] == [repr(one) for one in objects]


# Damage

DAMAGED = {
    "a message is a text": (go_file(messages=(SAID, CANARY, SAID)), "messages[1]: ", 2),
    "a message without a role": (go_file(messages=(SAID, {"content": CANARY})), "messages[1].role: ", 1),
    "a message with role null": (go_file(messages=({"role": None, "content": CANARY}, SAID)), "messages[0].role: ", 1),
    "a time of a message": (go_file(messages=({**SAID, "created_at": CANARY},)), "messages[0].created_at: ", 1),
    "the messages are a text": (go_file(messages=CANARY), "messages: ", 0),
    "the summary is a list": (go_file(summary=[CANARY]), "summary: ", 1),
}


@pytest.mark.parametrize(("data", "place", "count"), DAMAGED.values(), ids=DAMAGED)
def test_damage_costs_its_own_place_alone(data: bytes, place: str, count: int) -> None:
    (session,), reasons = found(data)
    assert (session.key, len(session.messages)) == (KEY, count)
    assert [reason.startswith(place) for reason in reasons] == [True]
    assert CANARY not in reasons[0]


NOTHING = {
    "empty": b"",
    "zeros": bytes(4096),
    "cut off": go_file(messages=({"role": "user", "content": CANARY},))[:-30],
    "NaN": b'{"key": "telegram:42", "messages": [NaN]}',
    "not UTF-8": b'{"key": "telegram:42", "messages": ["\xff' + CANARY.encode() + b'"]}',
    "two documents": go_file() * 2,
    "key of an int": go_file(5, (CANARY,)),
    "a list": b"[]",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("data", NOTHING.values(), ids=NOTHING)
def test_a_file_that_is_no_session_is_told(data: bytes) -> None:
    sessions, reasons = found(data)
    assert (sessions, len(reasons)) == ([], 1)
    assert CANARY not in reasons[0]


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda at, byte: GOLDEN[:at] + byte + GOLDEN[at + 1 :], st.integers(0, len(GOLDEN)), st.binary(max_size=1)
    )
)
@examples(60)
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    sessions, reasons = found(data)
    assert sessions or reasons


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("telegram_42.json", GOLDEN, "picoclaw-json"),
        ("telegram_42.json", GOLDEN[:500], "picoclaw-json"),
        ("a.json", go_file(messages=None), "picoclaw-json"),
        ("a.json.migrated", GOLDEN, None),
        ("a.meta.json", go_file(), None),
        ("a.jsonl", json.dumps(json.loads(GOLDEN)).encode(), None),
        ("package.json", b'{"name": "bot", "version": "1.0.0"}', None),
        ("key.json", b'{"key": "telegram:42"}', None),
        ("list.json", b"[" + GOLDEN + b"]", None),
        ("a.session.json", b'{"format":"session_manager/1","key":"a","messages":[]}', None),
    ],
)
def test_its_files_are_recognized(name: str, data: bytes, expected: str | None) -> None:
    assert format_of(name, data) == expected
