"""Hypothesis strategies for stores and bots: valid data, as nasty as valid data can be."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, ParamSpec, TypeVar, cast

from hypothesis import HealthCheck, Phase, currently_in_test_context, find, settings
from hypothesis import strategies as st

from session_manager.model.json_value import copy_value
from session_manager.model.key import MAX_KEY_BYTES
from session_manager.model.message import ITEM_TYPE, Item, Message
from session_manager.model.session import Session
from session_manager.model.view import View

__all__ = [
    "NASTY_FLOATS",
    "NASTY_INTS",
    "NASTY_TEXTS",
    "aware_times",
    "json_objects",
    "json_values",
    "keys",
    "message_objects",
    "messages",
    "nasty_text",
    "refs",
    "sessions",
    "utc_times",
]

P = ParamSpec("P")
R = TypeVar("R")

NASTY_TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\n",
    "\r\n",
    "\\",
    '"',
    "\\u0041",
    "</script>",
    "\u2028\u2029",
    "\x7f\x80\x9f",
    "\ufeff",
    "\ufffd\uffff",
    "é",
    "e\u0301",
    "漢字かなカナ한국어",
    "👩‍👩‍👧‍👦🇩🇪",
    "\U0010ffff",
    "\ud800",
    "\udfff",
    "\udc80 lone, low first \ud83d",
    "null",
    "NaN",
    "],",
    "},\n{",
    '],"crc32":"00000000"}\n',
    "x" * 300,
)
"""Texts that break naive encoders, framers and escapers."""

NASTY_INTS = (
    0,
    -1,
    2**31,
    2**53 + 1,
    -(2**53) - 1,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    2**64 - 1,
    2**64,
    10**40,
    10**4300 - 1,
    -(10**4300) + 1,
)
"""Integers at the borders of what encoders hold, up to 4,300 digits."""

NASTY_FLOATS = (0.0, -0.0, 1.0, -1.5, 0.1, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e16, 1e22)

_PAIR = re.compile("([\ud800-\udbff])(?=[\udc00-\udfff])")


def _unpaired(text: str) -> str:
    """Separate surrogates that chance has put side by side: a pair written as two characters is no JSON."""
    return _PAIR.sub(r"\1-", text)


@functools.cache
def _warm_up() -> None:
    """Let hypothesis build its tables now: it takes seconds, once in each checkout.

    Otherwise the first draw would build them, and fail the health check as too slow.
    """
    if not currently_in_test_context():
        health = list(HealthCheck)
        quietly = settings(
            max_examples=1, phases=[Phase.generate], database=None, derandomize=True, suppress_health_check=health
        )
        find(st.tuples(st.text(), st.text(st.characters()), st.integers()), lambda _: True, settings=quietly)


def _once(function: Callable[P, R]) -> Callable[P, R]:
    """Build each strategy once: building costs hypothesis more than drawing."""
    return cast("Callable[P, R]", functools.cache(function))


@_once
def nasty_text(*, min_size: int = 0, max_size: int = 30) -> st.SearchStrategy[str]:
    """Draw any text that JSON can hold: lone surrogates, NUL, line separators, CJK, emoji.

    :param min_size, max_size: in characters, roughly (a nasty piece counts as one).
    """
    _warm_up()
    texts = [text for text in NASTY_TEXTS if text or not min_size]
    anything = st.text(st.characters(), min_size=min_size, max_size=max_size)
    joined = st.builds("{}{}{}".format, anything, st.sampled_from(texts), st.sampled_from(NASTY_TEXTS))
    plain = st.text(min_size=min_size, max_size=max_size)
    return st.one_of(st.sampled_from(texts), plain, anything, joined).map(_unpaired)


@_once
def keys(*, max_size: int = 40) -> st.SearchStrategy[str]:
    """Draw valid session keys: conventional ones, those that nearly collide, long ones, any other text.

    :param max_size: of the last kind, in characters.
    """
    channel = st.sampled_from(["telegram", "Telegram", "discord", "slack", "CON", "nul", "a"])
    number = st.integers(-(10**13), 10**13).map(str)
    chat = st.one_of(number, st.sampled_from(["C01", "c01", "x y", "a/b", "ü", "u\u0308"]))
    conventional = st.builds("{}{}{}".format, channel, st.sampled_from([":", "_", "/", "\\", "__"]), chat)
    anything = st.text(min_size=1, max_size=max_size)
    long = st.builds(lambda head, tail: head * 200 + tail, st.sampled_from("aA_:"), st.text("aAbB", max_size=3))
    return st.one_of(conventional, anything, long).filter(
        lambda key: key not in (".", "..") and len(key.encode()) <= MAX_KEY_BYTES
    )


@_once
def refs() -> st.SearchStrategy[str]:
    """Draw channels' own ids of messages and deliveries: non-empty texts."""
    return st.one_of(st.integers(0, 99).map("update-{}".format), nasty_text(min_size=1, max_size=8))


@_once
def _leaves() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.sampled_from([None, True, False, *NASTY_INTS, *NASTY_FLOATS]),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        nasty_text(max_size=12),
    )


@_once
def _names() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(["type", "text", "id", "role", "a", "", "A", "a.b", "0"]), nasty_text(max_size=6))


@_once
def json_values(*, max_leaves: int = 8) -> st.SearchStrategy[Any]:
    """Draw any JSON value, as `json.loads` may return it."""
    return st.recursive(
        _leaves(),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_names(), inner, max_size=4)),
        max_leaves=max_leaves,
    )


@_once
def json_objects(*, max_size: int = 3, max_leaves: int = 5) -> st.SearchStrategy[dict[str, Any]]:
    """Draw any JSON object."""
    return st.dictionaries(_names(), json_values(max_leaves=max_leaves), max_size=max_size)


_TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": '{"tz": "UTC"}'}}

_REAL = (
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [_TOOL_CALL]},
    {"role": "tool", "content": "12:00", "tool_call_id": "call_1"},
    {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x:"}}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA="},
    {"type": "function_call_output", "call_id": "call_1", "output": "12:00"},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "Eq=="}], "refusal": None},
    {"type": ITEM_TYPE, "item": {"type": ITEM_TYPE, "item": {"a": [None]}}},
    {"type": ITEM_TYPE, "item": {}},
    {"type": ITEM_TYPE, "item": []},
)


@_once
def message_objects() -> st.SearchStrategy[dict[str, Any]]:
    """Draw any JSON object that is a message: with a role, or without one and with a type."""
    kind = nasty_text(min_size=1, max_size=6)
    role = st.one_of(st.sampled_from(["user", "assistant", "system", "tool", "developer"]), kind)
    text = nasty_text(max_size=6)
    calls = st.builds(lambda: [copy_value(_TOOL_CALL)])
    fields = st.fixed_dictionaries(
        {"role": role},
        optional={"content": json_values(max_leaves=5), "name": text, "tool_calls": calls, "tool_call_id": text},
    )
    extra = json_objects()
    with_role = st.builds(lambda rest, given: {**rest, **given}, extra, fields)
    with_type = st.builds(lambda rest, type_: {**_without_role(rest), "type": type_}, extra, kind)
    real = st.sampled_from(_REAL).map(copy_value)
    return st.one_of(
        real, with_role, with_type, st.builds(lambda said: {"role": "user", "content": said}, nasty_text())
    )


def _without_role(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "role"}


@_once
def aware_times() -> st.SearchStrategy[datetime]:
    """Draw aware datetimes of any offset that UTC can hold, microseconds included."""
    offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    zones = st.one_of(st.just(timezone.utc), offsets)
    first, last = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001 - of any zone
    return st.datetimes(first, last, timezones=zones)


@_once
def utc_times() -> st.SearchStrategy[datetime]:
    """Draw aware datetimes in UTC, from the first microsecond to the last; with and without a fraction."""
    start = datetime.min.replace(tzinfo=timezone.utc)
    last = (datetime.max.replace(tzinfo=timezone.utc) - start) // timedelta(microseconds=1)
    micros = st.one_of(st.integers(0, last), st.integers(0, last // 10**6).map(lambda seconds: seconds * 10**6))
    return micros.map(lambda count: start + timedelta(microseconds=count))


@_once
def messages() -> st.SearchStrategy[Message]:
    """Draw messages as a caller builds them: without a position; most with nasty content, some with metadata and a ref.

    One in eight is an `Item`.
    """
    kinds = st.sampled_from([Message] * 7 + [Item])
    return st.builds(
        lambda build, value, time, metadata, ref: build.from_dict(value, created_at=time, metadata=metadata, ref=ref),
        kinds,
        message_objects(),
        utc_times(),
        st.one_of(st.none(), json_objects(max_size=2, max_leaves=3)),
        st.one_of(st.none(), refs()),
    )


_Placed = tuple[int, Message, str | None]


def _session(start: int, parts: Sequence[_Placed], **state: Any) -> Session:
    placed, position = [], start
    for gap, message, turn in parts:
        placed.append(message._placed(position, turn))
        position += gap
    return Session(messages=View(placed), end=position, **state)


@_once
def sessions(*, max_messages: int = 4) -> st.SearchStrategy[Session]:
    """Draw any session that a store may be given: positions with gaps, turns, refs, a summary, metadata, a revision.

    :param max_messages: how many messages it has at most.
    """
    part = st.tuples(st.integers(1, 3), messages(), st.one_of(st.none(), refs()))
    return st.builds(
        _session,
        st.integers(0, 3),
        st.lists(part, max_size=max_messages),
        key=keys(),
        generation=st.integers(0, 2**128 - 1).map("{:032x}".format),
        created=utc_times(),
        updated=utc_times(),
        summary=nasty_text(),
        metadata=json_objects(max_size=2, max_leaves=4),
        refs=st.lists(refs(), max_size=3).map(tuple),
        revision=st.integers(1, 2**40),
    )
