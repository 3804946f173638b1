"""JSON values: what is copied, what is refused and where, what is equal to what."""

from __future__ import annotations

import collections
import decimal
import enum
import json
import types
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.errors import InvalidMessageError
from session_manager.model import json_value
from session_manager.model.json_value import MAX_LEVELS, checked_copy, checked_text, copy_value, same
from tests.support.strategies import NASTY_FLOATS, NASTY_INTS, NASTY_TEXTS, json_values, nasty_text

PAIR = "a surrogate pair given as two characters is not JSON: give the character itself"


class Level(enum.IntEnum):
    HIGH = 3


class Role(str, enum.Enum):
    USER = "user"


class Text(str):
    __slots__ = ("note",)


class Number(float):
    pass


class Items(list):
    def __iter__(self):
        return iter(["not what is there"])


class Fields(dict):
    def items(self):
        return {"not": "what is there"}.items()


def containers(value: Any) -> Iterator[Any]:
    """Every dict and list in a value."""
    if isinstance(value, dict | list):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


def types_in(value: Any) -> set[type]:
    """The types of a value, of everything in it, and of its keys."""
    found = {type(value)}
    if isinstance(value, dict):
        found.update(*(types_in(key) | types_in(item) for key, item in dict.items(value)))
    elif isinstance(value, list):
        found.update(*map(types_in, list(value)))
    return found


def refusal(value: object, root: str = "") -> tuple[str, str]:
    with pytest.raises(InvalidMessageError) as caught:
        checked_copy(value, root)
    return caught.value.path, caught.value.reason


@pytest.mark.parametrize("copied", [checked_copy, copy_value])
@given(value=json_values())
def test_a_copy_is_exact_and_shares_nothing(copied, value):
    copy = copied(value)
    assert repr(copy) == repr(value)
    assert same(copy, value)
    assert {id(one) for one in containers(copy)}.isdisjoint(id(one) for one in containers(value))


@pytest.mark.parametrize("value", [*NASTY_INTS, *NASTY_FLOATS, *NASTY_TEXTS], ids=lambda value: ascii(value)[:30])
def test_the_borders_of_json_are_inside(value):
    given = {"a": [value, {"b": value}]}
    assert repr(checked_copy(given)) == repr(given)
    assert repr(json.loads(json.dumps(checked_copy(given)))) == repr(given)


BASED = [
    (Level.HIGH, 3),
    (Role.USER, "user"),
    (Text("é"), "é"),
    (Text("a"), "a"),
    (Number(1.5), 1.5),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (collections.defaultdict(list, a=[1]), {"a": [1]}),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (Items([1, 2]), [1, 2]),
    (Fields(a=1), {"a": 1}),
    ({Role.USER: 1, Text("é"): 2}, {"user": 1, "é": 2}),
]


@pytest.mark.parametrize(("given", "expected"), BASED, ids=[type(given).__name__ for given, _ in BASED])
def test_subclasses_are_copied_to_the_base_types(given, expected):
    for value, copy in [(given, expected), ([given], [expected]), ({"a": {"b": given}}, {"a": {"b": expected}})]:
        checked = checked_copy(value)
        assert repr(checked) == repr(copy)
        assert types_in(checked) <= {dict, list, str, int, float}


BAD = {
    "NaN": (float("nan"), "NaN and infinities are not JSON"),
    "infinity": (float("inf"), "NaN and infinities are not JSON"),
    "minus infinity": (float("-inf"), "NaN and infinities are not JSON"),
    "NaN of a subclass": (Number("nan"), "NaN and infinities are not JSON"),
    "bytes": (b"x", "bytes is not JSON"),
    "bytearray": (bytearray(b"x"), "bytearray is not JSON"),
    "set": ({1}, "set is not JSON"),
    "frozenset": (frozenset(), "frozenset is not JSON"),
    "tuple": ((), "tuple is not JSON"),
    "named tuple": (collections.namedtuple("Point", "x")(1), "Point is not JSON"),  # noqa: PYI024 - a tuple, too
    "object": (object(), "object is not JSON"),
    "type": (dict, "type is not JSON"),
    "datetime": (datetime(2026, 1, 1, tzinfo=timezone.utc), "datetime is not JSON"),
    "decimal": (decimal.Decimal(1), "Decimal is not JSON"),
    "complex": (1j, "complex is not JSON"),
    "uuid": (uuid.UUID(int=0), "UUID is not JSON"),
    "generator": ((i for i in [1]), "generator is not JSON"),
    "mapping": (types.MappingProxyType({}), "mappingproxy is not JSON"),
    "user dict": (collections.UserDict(), "UserDict is not JSON"),
    "ellipsis": (..., "ellipsis is not JSON"),
    "int of 4,301 digits": (10**4300, "an integer of more than 4,300 digits"),
    "negative int of 4,301 digits": (-(10**4300), "an integer of more than 4,300 digits"),
    "pair": ("a\ud83d\ude00b", PAIR),
    "pair at the border": ("\udbff\udfff", PAIR),
    "pair of a subclass": (Text("\ud83d\ude00"), PAIR),
    "int key": ({1: "x"}, "an object key of type int is not JSON"),
    "None key": ({"a": "x", None: "x"}, "an object key of type NoneType is not JSON"),
    "bytes key": ({b"a": "x"}, "an object key of type bytes is not JSON"),
    "tuple key": ({("a",): "x"}, "an object key of type tuple is not JSON"),
    "pair in a key": ({"\ud83d\ude00": "x"}, f"in an object key, {PAIR}"),
}

#: Steps into a value, and how an error's path shows them.
STEPS: list[tuple[int | str, str]] = [
    (0, "[0]"),
    (2, "[2]"),
    ("content", ".content"),
    ("a_b", ".a_b"),
    ("_A9", "._A9"),
    ("$ref", ".$ref"),
    ("x-y", ".x-y"),
    ("", "['']"),
    ("0", "['0']"),
    ("a b", "['a b']"),
    ("a[0]", "['a[0]']"),
    ("'", '["\'"]'),
    ("é\n", "['\\xe9\\n']"),
    ("\ud800", "['\\ud800']"),
    ("k" * 64, "." + "k" * 64),
    ("k" * 65, f"['{'k' * 40}'…]"),
]


def nested(steps: list[int | str], value: object) -> object:
    for step in reversed(steps):
        value = (
            {"before": [{}], step: value, "after": None} if isinstance(step, str) else [*[[0]] * step, value, {"z": 1}]
        )
    return value


@given(steps=st.lists(st.sampled_from(STEPS), max_size=6))
def test_what_is_not_json_is_refused_with_its_exact_path(steps):
    shown = "".join(text for _, text in steps)
    for value, reason in BAD.values():
        given = nested([step for step, _ in steps], value)
        assert refusal(given) == (shown.removeprefix("."), reason)
        assert refusal(given, "metadata") == (f"metadata{shown}", reason)


@pytest.mark.parametrize(("value", "reason"), BAD.values(), ids=BAD)
def test_what_is_not_json_is_refused_in_an_object_of_nothing_but_text(value, reason):
    assert refusal({"role": "user", "content": value, "name": "Ada"}) == ("content", reason)


def test_an_object_of_nothing_but_text_is_copied():
    given = {"role": "user", "content": "hi"}
    copy = checked_copy(given)
    given["content"] = "changed"
    assert copy == {"role": "user", "content": "hi"}


def test_the_first_thing_that_is_not_json_is_named():
    assert refusal({"a": [1, {"b": (), "c": b""}], "d": b""})[0] == "a[1].b"


def deep(levels: int, *, of: str = "list") -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if of == "list" else {"a": value}
    return value


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_200_levels_are_json_and_201_are_not(kind):
    value = deep(MAX_LEVELS, of=kind)
    assert checked_copy(value) == value
    path, reason = refusal(deep(MAX_LEVELS + 1, of=kind))
    assert path.endswith("…")
    assert len(path) < 50
    assert reason == "more than 200 levels"


def test_a_value_of_100_000_levels_is_refused_without_a_stack_overflow():
    assert refusal(deep(100_000))[1] == "more than 200 levels"


CIRCULAR = [
    (["list"], "list"),
    (["list", 2], "list[2]"),
    ([0], "[0]"),
    (["a", "b", 0, "c"], "a.b[0].c"),
    (["x y", 1], "['x y'][1]"),
]


@pytest.mark.parametrize(("steps", "shown"), CIRCULAR)
@pytest.mark.parametrize("before", [[], ["outer", 0]])
def test_a_circular_value_is_refused_where_it_comes_round(before, steps, shown):
    loop = nested(steps, None)
    inner: Any = loop
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = loop
    whole = f"outer[0]{'' if shown.startswith('[') else '.'}{shown}" if before else shown
    assert refusal(nested(before, loop)) == (whole, "a circular value is not JSON")


def test_one_container_in_two_places_is_copied_twice():
    shared = [1]
    copy = checked_copy({"a": shared, "b": shared, "c": [shared, shared]})
    assert copy == {"a": [1], "b": [1], "c": [[1], [1]]}
    assert len({id(one) for one in containers(copy)}) == 6


@given(text=nasty_text(min_size=1))
def test_text_is_checked_as_it_is(text):
    assert checked_text(text, "summary") == text
    assert type(checked_text(Text(text), "summary")) is str


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"x", "must be a string, not bytes"),
        (None, "must be a string, not NoneType"),
        (5, "must be a string, not int"),
        ("", "must not be empty"),
        (Text(), "must not be empty"),
        ("\ud83d\ude00", PAIR),
    ],
)
def test_what_is_not_a_text_is_refused(value, reason):
    with pytest.raises(InvalidMessageError) as caught:
        checked_text(value, "ref", empty=False)
    assert (caught.value.path, caught.value.reason) == ("ref", reason)


def test_an_empty_text_is_refused_only_where_it_must_not_be():
    assert checked_text("", "summary") == ""


def sorted_text(value: Any) -> str:
    """The JSON text of a value, keys sorted; minus zero is zero."""
    return json.dumps(json.loads(json.dumps(value), parse_float=lambda text: float(text) + 0.0), sort_keys=True)


@given(one=json_values(max_leaves=4), other=json_values(max_leaves=4))
def test_two_values_are_the_same_exactly_if_their_types_and_json_texts_are(one, other):
    assert same(one, other) == same(other, one) == (sorted_text(one) == sorted_text(other))
    assert same(one, copy_value(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, 1),
        (1, 1.0),
        (0, False),
        (0, None),
        ("", None),
        ([], {}),
        ("1", 1),
        ([1], [True]),
        ([1, 2], [1]),
        ({"a": 1}, {"a": 1.0}),
        ({"a": None}, {}),
        ({"a": None}, {"b": None}),
        ([{"a": [0]}], [{"a": [False]}]),
        ("é", "e\u0301"),
    ],
)
def test_values_of_different_types_or_sizes_are_not_the_same(one, other):
    assert not same(one, other)
    assert not same(other, one)


def test_the_order_of_keys_does_not_matter():
    assert same({"a": 1, "b": 2}, {"b": 2, "a": 1})


@pytest.mark.parametrize("wide", [2, 1000])
def test_a_list_that_stands_many_times_over_is_refused_in_time(wide, monkeypatch):
    """Of 100 lists, each of which had the one before it twice, all 2^100 were to be copied."""
    monkeypatch.setattr(json_value, "_MAX_VALUES", 100_000)
    value = ["x"]
    for _ in range(100):
        value = [value] * wide
    with pytest.raises(InvalidMessageError, match="more than 100,000 values"):
        checked_copy({"content": value})


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"content": [LONG] * 1000}, "content"),
        pytest.param({"content": [{"text": LONG}] * 1000}, "content[268]", marks=pytest.mark.long),
        pytest.param({"content": {LONG[:1000]: 0}, "more": [{LONG: 0}] * 1000}, "more[268]", marks=pytest.mark.long),
        pytest.param({"content": {"parts": [["a"], [LONG] * 1000]}}, "content.parts[1]", marks=pytest.mark.long),
        pytest.param({str(number): LONG for number in range(1000)}, "", marks=pytest.mark.long),
        pytest.param({"content": [type("Text", (str,), {})(LONG)] * 1000}, "content", marks=pytest.mark.long),
        pytest.param({"content": [10**4000] * 100_000}, "content", marks=pytest.mark.long),
    ],
    ids=["texts", "objects", "keys", "deep", "fields", "subclasses", "numbers"],
)
def test_a_text_that_stands_a_thousand_times_over_is_refused_at_its_place(value, place):
    """A megabyte in RAM was a gigabyte once it was encoded, which it was before anybody looked at its size."""
    with pytest.raises(InvalidMessageError, match="more than 268,435,456 characters") as caught:
        checked_copy(value)
    assert caught.value.path == place
    checked_copy({"content": [LONG] * 200})
