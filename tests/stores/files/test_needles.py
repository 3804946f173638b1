"""What is told of a file without decoding it: never that it lacks a text which a search finds."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import CorruptSessionError, Message, SessionManager
from session_manager.history.search import best, searched_text
from session_manager.history.shapes import Shape, register_shape, unregister_shape
from session_manager.model.session import Session
from session_manager.stores.files.needles import may_hold
from session_manager.stores.log import LogStore
from session_manager.stores.log.format import encode_first
from session_manager.stores.snapshot import SnapshotStore
from tests.support.laws import examples
from tests.support.strategies import messages

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
STORES = {"snapshot": SnapshotStore, "log": LogStore}


def file_of(message):
    """Return the bytes of a log with one message."""
    session = Session(key="k", generation="g", created=AT, updated=AT, messages=[message._placed(0, None)], end=1)
    return b"".join(encode_first(session).buffers)


def finds(text, message):
    return bool(best(text, [("k", message._placed(0, None))], 1))


@given(messages(), st.data())
@examples(60)
def test_no_text_that_a_search_finds_is_missed(message, data):
    said = searched_text(message)
    start = data.draw(st.integers(0, max(len(said) - 1, 0)))
    text = said[start : start + data.draw(st.integers(1, 12))] or "x"
    for one in (text, text.upper(), text.swapcase()):
        if finds(one, message):
            assert may_hold(file_of(message), one)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("kelvin", "300 \u212aelvin"),
        ("istanbul", "\u0130stanbul"),
        ("οδος", "ΟΔΟΣ"),
        ('say "hi"', 'Say "hi"'),
        ("c:\\users", "C:\\Users"),
        ("a/b", "a/b"),
        ("one\ntwo", "one\ntwo"),
        ("\ud800", "lone \ud800"),
        ("straße", "STRASSE straße"),
    ],
)
def test_what_json_writes_in_another_way_is_left_to_the_search(text, content):
    message = Message("user", content)
    assert finds(text, message)
    assert may_hold(file_of(message), text)


@pytest.mark.parametrize("text", ["caf\u00e9", "1000.0", "1e+16", "inf", "a/b"])
def test_arguments_are_searched_as_they_are_read(text):
    """A text of JSON inside of JSON: its escapes and numbers are not those of what is searched."""
    arguments = '{"a": "caf\\u00e9", "b": 1e3, "c": 10000000000000000.0, "d": 1e999, "e": "a\\/b"}'
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    message = Message("assistant", None, tool_calls=calls)
    assert json.loads(arguments)
    assert finds(text, message)
    assert may_hold(file_of(message), text)


def test_a_shape_of_yours_may_say_anything():
    class Backwards(Shape):
        name = "backwards"

        def owns(self, message):
            return "backwards" in message

        def texts(self, message):
            return iter([message["backwards"][::-1]])

    shape = Backwards()
    message = Message.from_dict({"role": "user", "backwards": "olleh"})
    assert not may_hold(file_of(message), "hello")
    register_shape(shape)
    try:
        assert finds("hello", message)
        assert may_hold(file_of(message), "hello")
    finally:
        unregister_shape(shape)


@pytest.mark.parametrize("kind", STORES)
def test_a_file_without_the_text_is_not_decoded(tmp_path, kind, monkeypatch):
    with SessionManager(f"{kind}:{tmp_path}") as m:
        m.add_message("a", "user", "An okapi")
        m.add_message("b", "user", "A zebra")
    decoded = []
    for module in ("stores.snapshot.store", "stores.log.reader"):
        name = f"session_manager.{module}.decode"
        real = __import__(f"session_manager.{module}", fromlist=["decode"]).decode
        monkeypatch.setattr(name, lambda data, path, real=real: decoded.append(path) or real(data, path))
    with SessionManager(f"{kind}:{tmp_path}") as m:
        assert [hit.key for hit in m.search("OKAPI")] == ["a"]
        assert len(decoded) == 1
        assert m.search("quagga") == []
        assert len(decoded) == 1


@pytest.mark.parametrize("kind", STORES)
def test_damage_is_noticed_where_the_text_is_not(tmp_path, kind, caplog):
    with SessionManager(f"{kind}:{tmp_path}") as m:
        m.add_message("a", "user", "A zebra")
    (path,) = tmp_path.glob("a.session.*")
    data = bytearray(path.read_bytes())
    data[data.index(b"zebra")] ^= 1
    path.write_bytes(bytes(data))
    with SessionManager(f"{kind}:{tmp_path}") as m:
        with caplog.at_level(logging.WARNING, logger="session_manager"):
            assert m.search("quagga") == []
        assert "left out of a search" in caplog.text
        with pytest.raises(CorruptSessionError):
            m.search("quagga", key="a")
