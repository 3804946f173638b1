"""What is told of a file without decoding it: never that it lacks a text which a search finds."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import CorruptSessionError, Message, SessionManager
from session_manager.codec.changes import encode_changes
from session_manager.history.search import best, merged, searched_text
from session_manager.history.shapes import Shape, register_shape, unregister_shape
from session_manager.model.changes import Append, Edit
from session_manager.model.session import Session
from session_manager.stores.files.needles import may_hold, may_score
from session_manager.stores.log import LogStore
from session_manager.stores.log.format import encode_first, encode_record
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


def scores(text, messages):
    return [hit.score for hit in best(text, [("k", one) for one in messages], 100)]


def log_of(*groups):
    """Return the bytes of a log: its first messages, and an append of each further group."""
    session = Session(key="k", generation="g", created=AT, updated=AT, messages=groups[0], end=len(groups[0]))
    appends = (Append(at=AT, messages=tuple(group)) for group in groups[1:])
    records = [b"".join(encode_record(encode_changes((append,)), b"{}")) for append in appends]
    return b"".join([*encode_first(session).buffers, *records])


plain = st.text('xXy \n"\\\t\u212aé漢\ud800', max_size=30).map(lambda text: Message("user", text, created_at=AT))


@given(st.lists(st.lists(st.one_of(plain, messages()), max_size=3), min_size=1, max_size=3), st.data())
@examples(40)
def test_no_message_has_a_higher_score_than_its_file_may_have(groups, data):
    said = "".join(searched_text(one) for group in groups for one in group)
    start = data.draw(st.integers(0, max(len(said) - 1, 0)))
    text = said[start : start + data.draw(st.integers(1, 4))] or "x"
    placed = [one._placed(number, None) for number, one in enumerate(one for group in groups for one in group)]
    first = placed[: len(groups[0])]
    for score in scores(text, placed)[:1]:
        assert may_score(log_of(first, *groups[1:]), text, score)


@pytest.mark.parametrize("text", ["x", "x y", "é", "漢", "\n", '"', "7", "k"])
@given(st.lists(st.text('xXyé漢 \n"\\\0007k\u212a', max_size=30), min_size=1, max_size=4))
@examples(20)
def test_messages_that_say_one_text_are_told_exactly(text, contents):
    placed = [Message("user", one, created_at=AT)._placed(number, None) for number, one in enumerate(contents)]
    found = scores(text, placed)
    least = found[0] if found else 0.001
    assert may_score(log_of(placed), text, least) == bool(found)
    assert not may_score(log_of(placed), text, min(least * 1.001, 0.999999))


@pytest.mark.parametrize("content", ["\ud800x x", "x" + "\n" * 100, "x" + '"\\' * 100, "x é" + "\n" * 100])
def test_escapes_make_no_score_too_low(content):
    message = Message("user", content, created_at=AT)._placed(0, None)
    (score,) = scores("x", [message])
    assert may_score(log_of([message]), "x", score)


@pytest.mark.parametrize("content", [b'"\\u0078"', b'["\\u0078"]'])
def test_an_escape_by_number_may_be_any_character(content):
    assert may_score(b'{"messages":[{"message":{"role":"user","content":%b}}]}' % content, "x", 0.5)


def test_an_edited_message_may_have_its_new_score():
    old, new = (Message("user", text, created_at=AT) for text in ("hay", "needle"))
    record = b"".join(encode_record(encode_changes((Edit(at=AT, position=0, message=new),)), b"{}"))
    assert may_score(log_of([old._placed(0, None)]) + record, "needle", *scores("needle", [new._placed(0, None)]))


def test_a_message_that_says_more_than_a_text_may_have_any_score():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Lisbon"}'}}
    called = Message("assistant", "plain", tool_calls=[call])._placed(0, None)
    blocks = Message("user", [{"type": "text", "text": "Lisbon"}])._placed(0, None)
    for one in (called, blocks):
        assert may_score(log_of([one]), "lisbon", 0.99)
        assert not may_score(log_of([one]), "porto", 0.01)


@pytest.mark.parametrize("line", [b"[]", b'{"messages":1}', b'{"messages":[{"message":{"content":"\xff"}}]}'])
def test_what_is_no_line_of_a_session_is_left_to_the_search(line):
    assert may_score(line, "x", 0.5)


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
def test_a_session_without_one_of_the_best_hits_is_not_decoded(tmp_path, kind, monkeypatch, caplog):
    """Its bytes tell that no message of it is good enough. They are read whole: damage is noticed."""
    with SessionManager(f"{kind}:{tmp_path}") as m:
        m.add_message("a", "user", "okapi okapi")
        m.add_message("b", "user", "An Okapi, and a text that goes on and on")
        m.add_message("c", "user", "okapi okapi")
        m.add_message("d", "user", "okapi okapi okapi")
        m.save("d")
        m.update_last("d", {"role": "user", "content": "okapi and no more"})
    with SessionManager(f"{kind}:{tmp_path}") as m:
        plain = [hit for key in "abcd" for hit in m.search("OKAPI", key=key)]
        read = []
        monkeypatch.setattr(m._residents.store, "search", counted(m._residents.store.search, read))
        assert m.search("OKAPI", limit=1) == merged(plain, 1)
        assert [options["key"] for options in read] == (["a", "c"] if kind == "snapshot" else ["a", "c", "d"])
    (path,) = tmp_path.glob("b.session.*")
    path.write_bytes(path.read_bytes().replace(b"goes", b"went"))
    with SessionManager(f"{kind}:{tmp_path}") as m:
        with caplog.at_level(logging.WARNING, logger="session_manager"):
            assert [hit.key for hit in m.search("okapi", limit=1)] == ["c"]
        assert "left out of a search" in caplog.text


def counted(search, read):
    return lambda text, **options: read.append(options) or search(text, **options)


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
