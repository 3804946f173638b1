"""The values: what goes into a message comes out of it, and nothing else gets in."""

from __future__ import annotations

import collections
import copy
import enum
import json
import pickle
import traceback
import types
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Commit, InvalidMessageError, Item, Message, Session, SessionInfo, Version
from session_manager.model import changes, utc
from session_manager.model.batch import Batch
from session_manager.model.json_value import same
from session_manager.model.read_only import ReadOnlyDict
from session_manager.model.view import View
from tests.support.laws import examples
from tests.support.strategies import (
    CANARY,
    NASTY_FLOATS,
    NASTY_INTS,
    NASTY_TEXTS,
    aware_times,
    facts,
    held_text,
    json_objects,
    json_values,
    message_objects,
    messages,
    nasty_text,
    sessions,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc)
KINDLESS = "a message needs a non-empty string role, or a type; Item(object) keeps any other JSON object"
PAIR = "a surrogate pair given as two characters is not JSON: give the character itself"


def refusal(build: Any, *args: Any, **kwargs: Any) -> tuple[str, str]:
    with pytest.raises(InvalidMessageError) as caught:
        build(*args, **kwargs)
    return caught.value.path, caught.value.reason


# Promise 5: lossless


@given(message_objects())
def test_an_object_comes_back_exactly_as_a_whole_and_by_its_fields(given):
    before = repr(given)
    message = Message.from_dict(given)
    assert repr(message.to_dict()) == before
    assert repr(given) == before
    assert Message.from_dict(message.to_dict()) == message
    assert repr(json.loads(json.dumps(message.to_dict(), allow_nan=False))) == before
    fields = ("role", "content", "name", "tool_calls", "tool_call_id")
    assert repr([getattr(message, field) for field in fields]) == repr([given.get(field) for field in fields])
    assert repr(message.extra) == repr({key: value for key, value in given.items() if key not in fields})


@pytest.mark.parametrize(
    "value", [*NASTY_INTS, *NASTY_FLOATS, *NASTY_TEXTS, None, True], ids=lambda value: ascii(value)[:30]
)
def test_the_borders_of_json_come_back_exactly(value):
    given = {"role": "user", "content": value, "deep": [{"x": value}]}
    assert repr(Message.from_dict(given).to_dict()) == repr(given)
    if isinstance(value, str):
        assert repr(Message.from_dict({"type": "t", value: [value]}).to_dict()) == repr({"type": "t", value: [value]})


# The constructor


@given(
    role=st.sampled_from(["user", "é"]),
    content=st.one_of(st.just(...), json_values(max_leaves=4)),
    options=st.fixed_dictionaries(
        {},
        optional={
            "name": st.one_of(st.none(), nasty_text(max_size=3)),
            "tool_calls": st.one_of(st.none(), st.just([{"id": "1"}]), st.just([])),
            "tool_call_id": st.one_of(st.none(), nasty_text(max_size=3)),
        },
    ),
    extra=st.one_of(st.none(), st.dictionaries(st.sampled_from(["type", "x", "", "é"]), json_values(max_leaves=3))),
)
def test_the_constructor_puts_only_the_given_fields_into_the_object(role, content, options, extra):
    given = () if content is ... else (content,)
    message = Message(role, *given, extra=extra, **options)
    expected = {"role": role}
    expected.update({"content": content} if content is not ... else {})
    expected.update({field: value for field, value in options.items() if value is not None})
    expected.update(extra or {})
    assert same(message.to_dict(), expected)
    assert (message.metadata, message.ref, message.position, message.turn) == ({}, None, None, None)


def test_content_is_absent_or_null_or_empty_as_it_was_given():
    assert Message("user").to_dict() == {"role": "user"}
    assert Message("user", None).to_dict() == {"role": "user", "content": None}
    assert Message("user", "").to_dict() == {"role": "user", "content": ""}
    assert len({Message("user"), Message("user", None), Message("user", "")}) == 3


@pytest.mark.parametrize("field", ["role", "content", "name", "tool_calls", "tool_call_id"])
def test_an_extra_field_that_is_an_argument_is_refused(field):
    path, reason = refusal(Message, "user", "hi", extra={"x": 1, field: "assistant"})
    assert (path, reason) == (f"extra.{field}", "give it as an argument, or use Message.from_dict")


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({}, "role", KINDLESS),
        ({"content": "hi"}, "role", KINDLESS),
        ({"role": ""}, "role", "must not be empty"),
        ({"role": None}, "role", "must be a string, not NoneType"),
        ({"role": None, "type": "message"}, "role", "must be a string, not NoneType"),
        ({"role": "", "type": "message"}, "role", "must not be empty"),
        ({"role": 1}, "role", "must be a string, not int"),
        ({"role": ["user"]}, "role", "must be a string, not list"),
        ({"type": ""}, "type", "must not be empty"),
        ({"type": None}, "type", "must be a string, not NoneType"),
        ({"type": {}}, "type", "must be a string, not dict"),
        ([], "", "must be a JSON object, not list"),
        ("user", "", "must be a JSON object, not str"),
        (None, "", "must be a JSON object, not NoneType"),
        ([("role", "user")], "", "must be a JSON object, not list"),
    ],
)
def test_an_object_without_a_role_or_type_is_refused(value, path, reason):
    assert refusal(Message.from_dict, value) == (path, reason)


@pytest.mark.parametrize("role", [None, "", 5, b"user", ["user"]])
def test_the_constructor_wants_a_role(role):
    path, _ = refusal(Message, role, "hi", extra={"type": "message"})
    assert path == "role"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"content": [{"image": {"data": b"x"}}]}, "content[0].image.data"),
        ({"content": {1: 2}}, "content"),
        ({"name": b"Ada"}, "name"),
        ({"tool_calls": ({"id": "1"},)}, "tool_calls"),
        ({"tool_calls": [{"function": {"arguments": {"x": float("nan")}}}]}, "tool_calls[0].function.arguments.x"),
        ({"tool_call_id": {1}}, "tool_call_id"),
        ({"extra": {"usage": {"cost": float("inf")}}}, "usage.cost"),
        ({"extra": {"x": 10**4300}}, "x"),
        ({"extra": [1]}, "extra"),
        ({"metadata": {"a": [b""]}}, "metadata.a[0]"),
        ({"metadata": {1: 2}}, "metadata"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": "x"}, "metadata"),
        ({"ref": ""}, "ref"),
        ({"ref": 5}, "ref"),
        ({"ref": "\ud83d\ude00"}, "ref"),
        ({"created_at": "2026-01-01T00:00:00Z"}, "created_at"),
        ({"created_at": 0}, "created_at"),
        ({"created_at": datetime(2026, 1, 1)}, "created_at"),  # noqa: DTZ001 - naive, that is the point
        ({"created_at": NOW.date()}, "created_at"),
    ],
)
def test_what_is_wrong_is_refused_at_the_call_and_its_place_is_named(fields, path):
    assert refusal(Message, "user", **fields)[0] == path


def test_the_places_of_what_is_not_json_are_those_of_the_object_given():
    circular: list[Any] = [{"text": "hi"}]
    circular.append({"parts": circular})
    assert refusal(Message, "user", circular) == ("content[1].parts", "a circular value is not JSON")
    pair = {"role": "user", "content": ["\ud83d\ude00"]}
    assert refusal(Message.from_dict, pair) == ("content[0]", PAIR)
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    path, reason = refusal(Message, "user", deep)
    assert (path[:10], path[-1], reason) == ("content[0]", "…", "more than 200 levels")


def test_subclasses_of_the_types_of_json_are_kept_as_the_types_of_json():
    class Kind(enum.IntEnum):
        ONE = 1

    class Text(str):
        __slots__ = ()

    given = collections.OrderedDict(
        role=Text("user"), content=collections.defaultdict(list, x=[Kind.ONE]), name=Text("é")
    )
    message = Message.from_dict(given, metadata=collections.OrderedDict(a=Kind.ONE), ref=Text("r"))
    assert repr(message.to_dict()) == "{'role': 'user', 'content': {'x': [1]}, 'name': 'é'}"
    kinds = [message.to_dict(), message.content, message.role, message.name, message.metadata, message.ref]
    assert [type(value) for value in kinds] == [dict, dict, str, str, ReadOnlyDict, str]
    assert type(message.content["x"][0]) is type(message.metadata["a"]) is int


def test_any_mapping_is_an_object():
    given = types.MappingProxyType({"role": "user", "content": "hi"})
    expected = Message("user", "hi", extra={"x": 1}, metadata={"a": 1})
    assert Message.from_dict(given) == Message.of(given) == Message("user", "hi")
    chained = collections.ChainMap({"x": 1}, dict(given))
    assert Message.from_dict(chained, metadata=types.MappingProxyType({"a": 1})) == expected


# Nothing mutable is shared


def spoil(value: Any) -> None:
    """Change every container in a value."""
    if isinstance(value, dict):
        for item in list(value.values()):
            spoil(item)
        value["spoilt"] = True
    elif isinstance(value, list):
        for item in list(value):
            spoil(item)
        value.append("spoilt")


@given(message_objects(), json_objects())
def test_no_mutable_object_is_shared_with_a_caller_in_either_direction(given, notes):
    message = Message.from_dict(given, metadata=notes, created_at=NOW)
    before = facts(message)
    spoil(given)
    spoil(notes)
    assert facts(message) == before
    for read in ("content", "name", "tool_calls", "tool_call_id", "extra"):
        spoil(getattr(message, read))
    spoil(message.to_dict())
    spoil(copy.deepcopy(message.metadata))
    assert facts(message) == before


def test_no_argument_is_shared():
    parts, calls, extra, notes = [{"text": "hi"}], [{"id": "1"}], {"x": [1]}, {"a": [1]}
    message = Message("user", parts, tool_calls=calls, extra=extra, metadata=notes)
    before = facts(message)
    for value in (parts, calls, extra, notes):
        spoil(value)
    assert facts(message) == before


def test_the_metadata_of_a_session_is_not_shared():
    notes = {"a": [1]}
    session = Session(key="k", generation="g", created=NOW, updated=NOW, metadata=notes)
    info = SessionInfo.of(session)
    spoil(notes)
    spoil(copy.deepcopy(session.metadata))
    spoil(copy.deepcopy(info.metadata))
    assert session.metadata == info.metadata == {"a": [1]}


def test_a_message_and_a_session_cannot_be_changed():
    message = Message("user", "hi")
    session = Session(key="k", generation="g", created=NOW, updated=NOW)
    for value, field in [(message, "ref"), (message, "content"), (message, "new"), (session, "key"), (session, "new")]:
        with pytest.raises(AttributeError):
            setattr(value, field, "x")
    for value in (message, session):
        assert not hasattr(value, "__dict__")


# Message.of


class Dumped:
    """What an SDK's object looks like (those of real packages: `tests.model.test_sdk_objects`)."""

    def __init__(self, value: object) -> None:
        self.value = value

    def model_dump(self, *, mode: str, by_alias: bool, exclude_none: bool, warnings: bool) -> object:
        assert (mode, by_alias, exclude_none, warnings) == ("json", True, True, False)
        return self.value


def test_of_returns_a_message_as_it_is():
    message = Message("user", "hi", ref="7")
    assert Message.of(message, created_at=NOW) is message


@given(message_objects())
def test_of_takes_a_mapping_as_it_is(given):
    for value in (given, collections.OrderedDict(given)):
        message = Message.of(value, created_at=NOW)
        assert repr(message.to_dict()) == repr(given)
        assert message.created_at == NOW
        assert (message.ref, message.metadata) == (None, {})


@pytest.mark.parametrize("value", [None, "hi", 5, [], [{"role": "user"}], object(), Dumped, Message, b"{}"])
def test_of_refuses_what_is_no_message(value):
    path, reason = refusal(Message.of, value)
    assert path == ""
    assert reason == f"must be a Message, a mapping or an SDK's object, not {type(value).__name__}"


@pytest.mark.parametrize("value", [None, [], "hi", {}, {"role": b"x"}, {"content": "hi"}])
def test_of_refuses_an_sdks_object_that_dumps_no_message(value):
    refusal(Message.of, Dumped(value))


# Times


@given(aware_times())
def test_an_aware_time_is_kept_in_utc(given):
    kept = Message("user", created_at=given).created_at
    assert kept == given
    assert type(kept) is datetime
    assert kept.tzinfo is timezone.utc


class Moment(datetime):
    pass


class Homeless(tzinfo):
    def utcoffset(self, moment):
        return None


def test_a_subclass_of_datetime_becomes_a_datetime():
    kept = utc(Moment(2026, 1, 2, 3, 4, 5, 6, timezone.utc), "t")
    assert (kept, type(kept)) == (NOW, datetime)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime(2026, 1, 1), "a naive datetime: give it a timezone"),  # noqa: DTZ001
        (datetime(2026, 1, 1, tzinfo=Homeless()), "a naive datetime: give it a timezone"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "out of range in UTC"),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=1))), "out of range in UTC"),
        ("2026-01-01", "must be a datetime, not str"),
        (None, "must be a datetime, not NoneType"),
        (1767225600, "must be a datetime, not int"),
    ],
)
def test_a_time_that_is_none_in_utc_is_refused(value, reason):
    assert refusal(utc, value, "created_at") == ("created_at", reason)


def test_the_time_is_stamped_when_it_is_missing():
    before = datetime.now(timezone.utc)
    stamped = [Message("user"), Message.from_dict({"role": "user"}), Message.of({"role": "user"})]
    after = datetime.now(timezone.utc)
    for message in stamped:
        assert before <= message.created_at <= after
        assert message.created_at.tzinfo is timezone.utc


# Equality, hashes, copies


@given(message_objects(), message_objects())
def test_messages_are_equal_exactly_if_their_objects_are(one, other):
    a, b = Message.from_dict(one, created_at=NOW, ref="1"), Message.from_dict(other, metadata={"x": 1})
    assert (a == b) == (b == a) == same(one, other)
    assert (a != b) == (not same(one, other))
    if a == b:
        assert hash(a) == hash(b)
    twin = Message.from_dict(one, metadata={"x": 1})._placed(3, "turn")
    assert a == twin
    assert hash(a) == hash(twin)


@pytest.mark.parametrize(("one", "other"), [(True, 1), (1, 1.0), (None, ""), ([], {}), ([1], [True]), (0.0, False)])
def test_messages_whose_values_differ_in_type_are_not_equal(one, other):
    assert Message("user", one) != Message("user", other)


def test_a_message_equals_nothing_but_messages():
    message = Message("user", "hi")
    assert message != {"role": "user", "content": "hi"}
    assert message != None  # noqa: E711 - the operator is what is tested
    assert (message == object()) is False


COPIES = [copy.copy, copy.deepcopy, *(lambda value, n=n: pickle.loads(pickle.dumps(value, n)) for n in range(2, 6))]


@examples(10)
@given(session=sessions(max_messages=2))
def test_pickled_and_copied_values_hold_the_same_facts(session):
    before = facts(session)
    for copied in COPIES:
        again = copied(session)
        assert facts(again) == before
        assert again == session
        assert hash(again) == hash(session)
        for one, other in zip(again.messages, session.messages, strict=True):
            assert type(one) is type(other)
            assert one == other
            assert facts(copied(other)) == facts(other)
        again.messages.appended([Message("user")])
        assert facts(again) == before


@pytest.mark.parametrize("metadata", [None, {}, {"x": 1}])
@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_of_a_message_knows_whether_it_was_given_metadata(copied, metadata):
    """An edit by a message without metadata of its own keeps that of the old one, also if it came from another process."""
    old = Message("user", "a", metadata={"old": True})
    given = Message("user", "b", metadata=metadata)
    edited = copied(given)._in_place_of(old, keep_time=False)
    assert edited.metadata == given._in_place_of(old, keep_time=False).metadata
    assert edited.metadata == ({"old": True} if metadata is None else metadata)


# What a repr shows

TALKATIVE = Message(
    "user",
    [{"text": CANARY, CANARY: [CANARY]}],
    name=CANARY,
    tool_calls=[{"function": {"name": CANARY, "arguments": CANARY}}],
    tool_call_id=CANARY,
    extra={"refusal": CANARY, CANARY: CANARY},
    metadata={CANARY: CANARY},
    created_at=NOW,
)
SAYING = [
    TALKATIVE,
    TALKATIVE._placed(3, "turn"),
    Message("user", CANARY),
    Message("user", {CANARY: CANARY}),
    Message.from_dict({"type": "reasoning", "text": CANARY}),
    Item({"role": CANARY, "type": CANARY, CANARY: [CANARY]}, metadata={CANARY: CANARY}),
]
SESSION = Session(
    key="telegram:42",
    generation="9f",
    created=NOW,
    updated=NOW,
    messages=View([message._placed(number, None) for number, message in enumerate(SAYING)]),
    summary=CANARY,
    metadata={CANARY: [CANARY]},
    end=len(SAYING),
    revision=3,
)
CHANGES = [
    changes.Append(at=NOW, messages=tuple(SAYING), turn="t", guard="9f"),
    changes.Truncate(at=NOW, start=1),
    changes.Remove(at=NOW, position=1),
    changes.Edit(at=NOW, position=1, message=TALKATIVE),
    changes.Replace(at=NOW, messages=tuple(SAYING)),
    changes.Clear(at=NOW, generation="a0"),
    changes.Summarize(at=NOW, summary=CANARY, start=0, stop=2, digest=changes.digest(SESSION, 0, 2)),
    changes.SetSummary(at=NOW, text=CANARY),
    changes.UpdateMetadata(at=NOW, items={CANARY: CANARY}, removed=(CANARY,)),
    Batch(at=NOW, changes=(changes.SetSummary(at=NOW, text=CANARY),), ref=CANARY),
]
COMMIT = Commit(SESSION, tuple(CHANGES), Version("9f", 2), tuple(enumerate(SAYING)), "token")


def test_every_change_is_shown_here():
    assert {type(change) for change in CHANGES} == set(changes.Change.__subclasses__())


@pytest.mark.parametrize(
    "value",
    [*SAYING, SESSION, SESSION.messages, *CHANGES, COMMIT, SessionInfo.of(SESSION)],
    ids=lambda x: type(x).__name__,
)
def test_no_repr_shows_what_anybody_wrote(value):
    for shown in (repr(value), str(value), f"{value}", repr([value]), repr(attrs.evolve(COMMIT, changes=(value,)))):
        assert CANARY not in shown
        assert len(shown) < 2000


@pytest.mark.parametrize("bad", [b"", float("nan"), {1: 1}, {CANARY.encode()}, (CANARY,), "\ud83d\ude00"])
def test_no_error_shows_what_anybody_wrote(bad):
    given = {"role": "user", "content": CANARY, "parts": [CANARY, bad, CANARY]}
    for build in (
        Message.from_dict,
        Message.of,
        lambda given: Message("user", CANARY, extra={"parts": given["parts"]}),
    ):
        with pytest.raises(InvalidMessageError) as caught:
            build(given)
        assert CANARY not in held_text(caught.value)
        assert CANARY not in "".join(traceback.format_exception_only(caught.value))


def test_reprs_say_what_a_person_wants_to_know():
    assert repr(Message("user", "hi")) == "<Message 'user': 2 characters>"
    assert repr(TALKATIVE._placed(3, None)) == "<Message 'user': content list, position 3>"
    assert repr(Message.from_dict({"type": "reasoning"})) == "<Message 'reasoning': content NoneType>"
    assert repr(SESSION) == f"<Session 'telegram:42': 6 messages, summary of {len(CANARY)} characters, revision 3>"


# Session


def by_position(session: Session) -> dict[int | None, Message]:
    return {message.position: message for message in session.messages}


@examples(10)
@given(sessions())
def test_a_session_finds_its_messages_by_position_and_describes_itself(session):
    there = by_position(session)
    for position in range(-1, session.end + 2):
        assert session.at(position) is there.get(position)
        assert session.index(position) == sum(other < position for other in there)
    assert session.start == min(there, default=session.end)
    assert session.last_message_at == (session.messages[-1].created_at if there else None)
    assert session.version == Version(session.generation, session.revision)
    info = SessionInfo.of(session)
    fields = ("key", "created", "updated", "last_message_at", "start", "end", "version")
    assert [getattr(info, field) for field in fields] == [getattr(session, field) for field in fields]
    assert repr(info.metadata) == repr(session.metadata)
    assert (info.count, info.has_summary, info.error) == (len(session.messages), session.summary != "", None)


def test_an_empty_session_starts_at_its_end():
    session = Session(key="k", generation="g", created=NOW, updated=NOW, end=7)
    assert (session.start, session.at(6), session.index(9), session.last_message_at) == (7, None, 0, None)
    assert session.version is None
    assert (session.summary, session.metadata, session.refs, session.messages) == ("", {}, (), [])


@given(messages(), st.integers(0, 9), st.one_of(st.none(), st.just("turn")))
def test_a_placed_message_is_the_same_message_elsewhere(message, position, turn):
    placed = message._placed(position, turn, ref="given")
    assert repr(placed.to_dict()) == repr(message.to_dict())
    assert (placed.position, placed.turn, placed.ref) == (position, turn, message.ref or "given")
    assert (placed.created_at, repr(placed.metadata)) == (message.created_at, repr(message.metadata))
