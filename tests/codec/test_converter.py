"""The converter: every public value as JSON-ready data and back, with errors that name the field and no value."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

import session_manager
from session_manager import (
    ConflictError,
    CopyReport,
    CorruptSessionError,
    Finding,
    Health,
    Item,
    Message,
    SearchHit,
    Session,
    SessionInfo,
    SessionManager,
    Summarized,
    Version,
    converter,
    errors,
)
from session_manager.codec.converter import ForeignError
from session_manager.errors import InvalidDataError, SessionManagerError
from session_manager.history import Problem
from session_manager.model.json_value import JsonObject, same
from session_manager.model.view import View
from session_manager.testing import keys, messages, nasty_text, sessions
from session_manager.testing.strategies import json_objects, refs, utc_times
from tests.support.error_examples import EXAMPLES

SECRET = "the launch code is 7431"

numbers = st.integers(0, 2**70)
texts = nasty_text()
versions = st.builds(Version, st.text("0123456789abcdef", min_size=1), numbers)
maybe = lambda strategy: st.one_of(st.none(), strategy)  # noqa: E731
findings = st.builds(Finding, maybe(keys()), texts, maybe(numbers), texts)
library_errors = st.sampled_from([error for error, _, _ in EXAMPLES])
foreign_errors = st.one_of(
    st.builds(OSError, texts), st.builds(ValueError, texts), st.builds(ForeignError, texts, texts)
)
any_errors = st.one_of(library_errors, foreign_errors)
placed = st.builds(lambda one, position, turn: one._placed(position, turn), messages(), maybe(numbers), maybe(refs()))
infos = st.builds(
    SessionInfo,
    key=keys(),
    count=numbers,
    created=maybe(utc_times()),
    updated=maybe(utc_times()),
    last_message_at=maybe(utc_times()),
    start=numbers,
    end=numbers,
    has_summary=st.booleans(),
    metadata=json_objects().map(JsonObject),
    version=maybe(versions),
    error=maybe(library_errors),
)
VALUES = {
    Message: placed,
    Item: placed.map(lambda one: Item(one.to_dict(), created_at=one.created_at)._placed(one.position, one.turn)),
    Session: st.builds(lambda one, archived: one._with(_archived=archived), sessions(), numbers),
    SessionInfo: infos,
    Version: versions,
    Finding: findings,
    SearchHit: st.builds(
        SearchHit,
        key=keys(),
        position=numbers,
        role=maybe(texts),
        created_at=utc_times(),
        snippet=texts,
        score=st.floats(0, 1),
    ),
    Summarized: st.builds(Summarized, st.booleans(), texts, numbers, texts),
    Problem: st.builds(Problem, numbers, maybe(numbers), texts),
    CopyReport: st.builds(
        CopyReport,
        copied=st.lists(keys(), max_size=2).map(tuple),
        present=st.lists(keys(), max_size=2).map(tuple),
        different=st.lists(keys(), max_size=2).map(tuple),
        damaged=st.dictionaries(keys(), any_errors, max_size=2),
    ),
    Health: st.builds(
        Health,
        store=texts,
        resident=numbers,
        dirty=st.lists(keys(), max_size=2).map(tuple),
        failures=st.dictionaries(keys(), any_errors, max_size=2),
        repairs=st.lists(findings, max_size=2).map(tuple),
    ),
    SessionManagerError: library_errors,
    Exception: any_errors,
}
WITH_TO_DICT = [kind for kind in VALUES if hasattr(kind, "to_dict") and not issubclass(kind, Message)]


def parts(value: Any) -> Any:
    """All that counts of a value, to compare: also what `==` leaves out."""
    if isinstance(value, Message):
        return [
            (name, parts(getattr(value, name)))
            for name in ("_object", "created_at", "_metadata", "ref", "position", "turn")
        ]
    if isinstance(value, ForeignError) or (isinstance(value, Exception) and not isinstance(value, SessionManagerError)):
        return ["error", getattr(value, "type", type(value).__name__), str(value)]
    if isinstance(value, Exception):
        return [type(value), str(value), [parts(argument) for argument in value.args]]
    if attrs.has(type(value)):
        fields = [field.name for field in attrs.fields(type(value)) if field.init]  # a token stays in the process
        return [type(value), [(name, parts(getattr(value, name))) for name in fields]]
    if isinstance(value, dict):
        return [type(value), [(key, parts(one)) for key, one in value.items()]]
    if isinstance(value, View | tuple | list):
        return [type(value), [parts(one) for one in value]]
    return [type(value), value]


def is_plain(value: Any) -> bool:
    """Whether a value is made of JSON's own types only, so that no encoder has to guess."""
    if type(value) is dict:
        return all(type(key) is str and is_plain(one) for key, one in value.items())
    if type(value) is list:
        return all(map(is_plain, value))
    return type(value) in (str, int, float, bool, type(None))


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_value_comes_back_from_its_json(kind, data):
    value = data.draw(VALUES[kind])
    written = converter.unstructure(value)
    assert is_plain(written)
    again = converter.structure(json.loads(json.dumps(written)), kind)
    assert parts(again) == parts(value)
    assert same(json.loads(json.dumps(converter.unstructure(again))), json.loads(json.dumps(written)))


def test_every_public_value_is_tested_here():
    """A public attrs class that is neither a rule for a call nor a commit of a store."""
    settings = {"Autosave", "Commit", "Lease", "SummaryPolicy", "Write"}
    public = {
        name for name in session_manager.__all__ if attrs.has(getattr(session_manager, name)) and name not in settings
    }
    tested = {kind.__name__ for kind in VALUES}
    live = {"Autosaver", "Turn", "AsyncTurn"}
    assert public - live <= tested


@pytest.mark.parametrize("kind", WITH_TO_DICT, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_to_dict_is_the_converters(kind, data):
    value = data.draw(VALUES[kind])
    assert same(value.to_dict(), converter.unstructure(value))


def test_all_values_but_messages_have_to_dict():
    """A message's own `to_dict` is the provider's object."""
    assert len(WITH_TO_DICT) == len(VALUES) - 4
    assert Message("user", "hi").to_dict() == {"role": "user", "content": "hi"}


@pytest.mark.parametrize(("error", "_carried", "_said"), EXAMPLES, ids=lambda one: type(one).__name__)
def test_every_error_carries_its_attributes(error, _carried, _said):
    written = converter.unstructure(error)
    assert (written["type"], written["message"]) == (type(error).__name__, str(error))
    again = converter.structure(json.loads(json.dumps(written)), SessionManagerError)
    assert parts(again) == parts(error)


def test_all_kinds_of_errors_are_among_the_examples():
    assert {type(error).__name__ for error, _, _ in EXAMPLES} >= set(errors.__all__) - {"SessionManagerError"}


@pytest.mark.parametrize("key", [b"x", float("nan"), 5, None, True])
def test_an_invalid_key_of_any_type_becomes_json(key):
    written = converter.unstructure(errors.InvalidKeyError(key, "must be a string"))
    assert json.dumps(written, allow_nan=False)
    assert isinstance(converter.structure(written, errors.InvalidKeyError), errors.InvalidKeyError)


def test_times_are_written_as_the_formats_write_them():
    time = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    assert converter.unstructure(time) == "2026-01-02T03:04:05.000006Z"
    assert converter.structure("2026-01-02T05:04:05.000006+02:00", datetime) == time
    assert converter.structure("2026-01-02T05:04:05.000006+02:00", datetime).tzinfo is timezone.utc


@pytest.mark.parametrize("time", ["2026-01-02", "2026-01-02T03:04:05", "0001-01-01T00:00:00+01:00", 5, SECRET, None])
def test_a_time_without_an_offset_is_refused(time):
    with pytest.raises(InvalidDataError) as raised:
        converter.structure({"key": "k", "created": {"": time}, "updated": None}, SessionInfo)
    assert raised.value.path == "created"
    with pytest.raises(InvalidDataError):
        converter.structure(time, datetime)


def a_session() -> dict[str, Any]:
    with SessionManager() as manager:
        manager.add_message("k", "user", SECRET, metadata={"a": [1]})
        manager.add_message("k", "assistant", SECRET, ref="7")
        session = manager.get("k")
    assert session is not None
    return session.to_dict()


class Gone(enum.Enum):
    GONE = 0


@pytest.mark.parametrize(
    ("where", "value", "path"),
    [
        (("unknown",), 1, "unknown"),
        (("key",), Gone.GONE, "key"),
        (("key",), "", "key"),
        (("key",), 5, "key"),
        (("created",), SECRET, "created"),
        (("end",), "2", "end"),
        (("end",), True, "end"),
        (("end",), 1, "messages[1].position"),
        (("revision",), -1, "revision"),
        (("archived",), -1, "archived"),
        (("refs",), "abc", "refs"),
        (("refs",), ["a", 5], "refs[1]"),
        (("metadata",), {"a": {"b": float("inf")}}, "metadata.a.b"),
        (("metadata",), SECRET, "metadata"),
        (("messages",), {"0": {}}, "messages"),
        (("messages", 1), SECRET, "messages[1]"),
        (("messages", 1, SECRET * 3), 1, None),
        (("messages", 1, "position"), 0, "messages[1].position"),
        (("messages", 1, "position"), None, "messages[1].position"),
        (("messages", 1, "position"), -1, "messages[1].position"),
        (("messages", 1, "created_at"), Gone.GONE, "messages[1].created_at"),
        (("messages", 1, "message"), {"content": SECRET}, "messages[1].message.role"),
        (("messages", 1, "message", "content"), [{"x": {1}}], "messages[1].message.content[0].x"),
        (("messages", 1, "metadata"), [SECRET], "messages[1].metadata"),
        (("messages", 1, "ref"), "", "messages[1].ref"),
    ],
)
def test_what_does_not_belong_is_refused_with_its_place(where, value, path):
    data: Any = a_session()
    inner: Any = data
    for step in where[:-1]:
        inner = inner[step]
    if value is Gone.GONE:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    with pytest.raises(InvalidDataError) as raised:
        converter.structure(data, Session)
    if path is not None:
        assert raised.value.path == path
        assert SECRET not in str(raised.value)
    assert len(str(raised.value)) < 200
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"type": "NoSuchError", "message": SECRET}, "error.type"),
        ({"type": "OSError", "message": SECRET}, "error.type"),
        ({"message": SECRET}, "error.type"),
        ({"type": "ClosedError", "x": SECRET}, "error.x"),
        ({"type": "SessionNotFoundError"}, "error.key"),
        ({"type": "SessionBusyError", "key": "k", "waiting": SECRET}, "error.waiting"),
        (
            {"type": "ConflictError", "key": "k", "expected": {"generation": "9f"}, "actual": None},
            "error.expected.revision",
        ),
    ],
)
def test_an_error_that_is_none_of_ours_is_refused(data, path):
    with pytest.raises(InvalidDataError) as raised:
        converter.structure({"key": "k", "error": data}, SessionInfo)
    assert raised.value.path == path
    assert SECRET not in str(raised.value)


def test_a_conflict_has_its_versions():
    error = ConflictError("k", Version("9f", 1), None)
    written = converter.unstructure(error)
    assert written["expected"] == {"generation": "9f", "revision": 1}
    assert converter.structure(written, ConflictError).expected == Version("9f", 1)


def test_what_is_written_is_a_fresh_copy():
    """The empty metadata is one object that all sessions share."""
    first = a_session()
    first["metadata"]["a"] = first["messages"][1]["metadata"]["b"] = 1
    assert a_session()["metadata"] == {}
    assert Message("user").metadata == {}


def _positive(_: object, attribute: Any, value: int) -> None:
    if value < 0:
        raise ValueError(f"{attribute.name} is {value}: {SECRET}")


@attrs.frozen
class Record:
    """A record of another program, with names of its own."""

    chat_id: int = attrs.field(alias="chatId", validator=_positive)
    lines: Sequence[Message] = ()
    notes: dict[str, list[float]] = attrs.field(factory=dict)
    at: datetime | None = None


def test_a_class_that_it_does_not_know_is_structured():
    message = Message("user", "hi", created_at=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    record = Record(5, [message], {"a": [1.5]}, message.created_at)
    assert converter.structure(json.loads(json.dumps(converter.unstructure(record))), Record) == record


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({}, "chatId"),
        ({"chatId": SECRET}, "chatId"),
        ({"chat_id": 5}, "chatId"),
        ({"chatId": -5}, ""),
        ({"chatId": 5, "notes": {"a b": [1, SECRET]}}, "notes['a b'][1]"),
        ({"chatId": 5, "notes": {5: []}}, "notes"),
        ({"chatId": 5, "lines": [{"message": {}}]}, "lines[0].created_at"),
    ],
)
def test_a_record_of_another_program_is_refused_by_its_own_names(data, path):
    with pytest.raises(InvalidDataError) as raised:
        converter.structure(data, Record)
    assert raised.value.path == path
    assert SECRET not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_web_handler_returns_what_to_dict_gives(tmp_path):
    app = FastAPI()
    (tmp_path / "damaged.session.jsonl").write_bytes(b"nonsense\n")
    with SessionManager(f"log:{tmp_path}") as manager:
        manager.add_message("telegram:42", "user", "hi é", metadata={"from": "Ada"})
        manager.save_all()

        @app.get("/chats")
        def chats() -> list[dict[str, Any]]:
            return [info.to_dict() for info in manager.list_sessions()]

        @app.get("/chats/{key}")
        def chat(key: str) -> dict[str, Any]:
            session = manager.get(key)
            assert session is not None
            return session.to_dict()

        @app.get("/health")
        def health() -> dict[str, Any]:
            return manager.health().to_dict()

        client = TestClient(app)
        infos = converter.structure(client.get("/chats").json(), list[SessionInfo])
        assert parts(infos) == parts(manager.list_sessions())
        assert isinstance(infos[-1].error, CorruptSessionError)
        assert parts(converter.structure(client.get("/chats/telegram:42").json(), Session)) == parts(
            manager.get("telegram:42")
        )
        assert parts(converter.structure(client.get("/health").json(), Health)) == parts(manager.health())
