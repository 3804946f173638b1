"""An export in JSON, read back: the same session, in every field."""

from __future__ import annotations

import io
import json
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Commit, InvalidDataError, Item, Message, SessionManager, open_store
from session_manager.codec.exported import Exported, document, line, of_document, of_line
from session_manager.codec.json import decode_json
from session_manager.exporters import export, export_sessions
from session_manager.importers import import_sessions
from session_manager.model.json_value import same
from session_manager.model.view import View
from session_manager.stores.memory import MemoryStore
from session_manager.testing import Clock, strategies
from tests.support.laws import examples

FIELDS = ("key", "generation", "revision", "created", "updated", "end", "summary", "refs", "expires_after")
PLACE = ("position", "created_at", "ref", "turn")


def assert_alike(one, other):
    """Compare two exported sessions in everything, types included."""
    assert [getattr(one.session, name) for name in FIELDS] == [getattr(other.session, name) for name in FIELDS]
    assert same(dict(one.session._metadata), dict(other.session._metadata))
    assert (one.archive is None) == (other.archive is None)
    for here, there in ((one.session.messages, other.session.messages), (one.archive or (), other.archive or ())):
        assert len(here) == len(there)
        for message, again in zip(here, there, strict=True):
            assert message == again
            assert type(message) is type(again)
            assert [getattr(message, name) for name in PLACE] == [getattr(again, name) for name in PLACE]
            assert same(dict(message._metadata), dict(again._metadata))


@st.composite
def exported(draw):
    """Any session, of which any messages are in the archive, or without an archive."""
    session = draw(strategies.sessions())
    session = session._with(expires_after=draw(st.none() | st.timedeltas(timedelta(microseconds=1), timedelta(9999))))
    archived = draw(st.none() | st.sets(st.sampled_from(session.messages.to_list() or [None])))
    if archived is None:
        return Exported(session)
    archive = [one for one in session.messages if one in archived]
    return Exported(
        session._with(messages=View(one for one in session.messages if one not in archived)), tuple(archive)
    )


FORMS = {"document": (document, of_document), "line": (line, of_line)}


@pytest.mark.parametrize("form", FORMS)
@examples(12, many=150)
@given(exported())
def test_what_is_written_is_read_back(form, given):
    write, read = FORMS[form]
    data = b"".join(write(given))
    assert_alike(read(decode_json(data)), given)
    assert json.loads(data), "other programs read it, too"
    assert b"\n" not in data or form == "document", "a session is a line"


@pytest.fixture
def store():
    """A store with a session that has everything."""
    store, clock = MemoryStore(), Clock()
    with SessionManager(store, archive=True, clock=clock) as m:
        m.add_message("telegram:42", "user", "first", ref="update-1", metadata={"n": 1})
        m.save("telegram:42")
        clock.advance(60)
        m.set_summary("telegram:42", "They said hello.")
        m.truncate_history("telegram:42", 0)
        with m.turn("telegram:42", ref="update-2") as turn:
            turn.add_message("user", "second")
            turn.add(Item({"event": "vote"}))
            turn.add(Message.from_dict({"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"}))
            turn.add_message("assistant", "third")
        m.update_metadata("telegram:42", {"language": "de"})
        m.set_expiry("telegram:42", timedelta(days=30))
        m.add_message("slack:1", "user", "oi")
    return store


def stored(store, key="telegram:42"):
    return Exported(store.load(key), tuple(store.archive(key)))


def test_an_export_has_all_of_a_session(store):
    value = json.loads(export(store, "telegram:42", "json"))
    assert next(iter(value)) == "session_manager", "by which a reader knows it"
    assert [one["message"].get("content") for one in value["messages"]] == ["second", None, None, "third"]
    assert [one["message"]["content"] for one in value["archive"]] == ["first"]
    assert (value["summary"], value["metadata"], value["refs"]) == (
        "They said hello.",
        {"language": "de"},
        ["update-2"],
    )
    assert value["expires_after"] == "P30D"
    assert_alike(of_document(value), stored(store))


def test_a_line_is_the_fine_tuning_form(store):
    (text,) = export(store, "telegram:42", "jsonl").splitlines()
    value = json.loads(text)
    assert list(value) == ["messages", "session_manager"]
    assert value["messages"] == [
        {"role": "user", "content": "first"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "third"},
    ]
    notes = value["session_manager"]["messages"]
    assert [note.get("archived", False) for note in notes] == [True, False, False, False, False]
    assert notes[2]["message"]["item"] == {"event": "vote"}, "no model sees an item"
    assert_alike(of_line(value), stored(store))


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_without_its_archive_a_session_says_so(store, form):
    value = json.loads(export(store, "telegram:42", form, archive=False))
    found = of_document(value) if form == "json" else of_line(value)
    assert_alike(found, Exported(store.load("telegram:42")))


def test_several_sessions_are_an_array_or_lines(store):
    for form in ("json", "jsonl"):
        file = io.BytesIO()
        report = export_sessions(store, file, form)
        assert (report.exported, report.messages, report.ok) == (("slack:1", "telegram:42"), 6, True)
        text = file.getvalue()
        if form == "json":
            found = [of_document(one) for one in json.loads(text)]
        else:
            found = [of_line(json.loads(one)) for one in text.splitlines()]
        for one in found:
            assert_alike(one, stored(store, one.session.key))


def test_no_sessions_are_an_empty_array(store):
    file = io.BytesIO()
    assert export_sessions(store, file, "json", prefix="nobody").exported == ()
    assert json.loads(file.getvalue()) == []


# Data that other programs have changed


def small():
    """A session of one message, whose first one is gone."""
    store = MemoryStore()
    with SessionManager(store) as m:
        m.add_message("k", "user", "a")
        m.add_message("k", "user", "b")
        m.save("k")
        m.truncate_history("k", 1)
    return store.load("k")


def changed(change):
    """A document and a line that a program has changed, each as its reader takes it."""
    session = Exported(small(), (Message("user", "a")._placed(0, None),))
    value = {"document": json.loads(b"".join(document(session))), "line": json.loads(b"".join(line(session)))}
    change(value)
    return value


def edited(path, new):
    """A change of one field, by its path."""

    def change(value):
        *way, last = path
        for step in way:
            value = value[step]
        if new is None:
            del value[last]
        else:
            value[last] = new

    return change


@pytest.mark.parametrize(
    ("path", "new", "place"),
    [
        (["document", "session_manager"], 2, "session_manager"),
        (["document", "session_manager"], True, "session_manager"),
        (["document", "key"], None, "key"),
        (["document", "key"], "..", "key"),
        (["document", "extra"], 1, "extra"),
        (["document", "archived"], 1, "archived"),
        (["document", "messages", 0, "created_at"], "yesterday", "messages[0].created_at"),
        (["document", "messages", 0, "message", "role"], 5, "messages[0].message.role"),
        (["document", "archive"], 5, "archive"),
        (["document", "archive", 0, "message"], 5, "archive[0].message"),
        (["document", "archive", 0, "position"], 1, "archive"),
        (["document", "archive", 0, "position"], 7, "archive"),
        (["line", "messages"], 5, "messages"),
        (["line", "messages", 0], None, "session_manager.messages"),
        (["line", "session_manager"], 5, "session_manager"),
        (["line", "session_manager", "format"], 9, "session_manager.format"),
        (["line", "session_manager", "archive"], 5, "session_manager.archive"),
        (["line", "session_manager", "messages"], 5, "session_manager.messages"),
        (["line", "session_manager", "messages", 0, "archived"], 5, "session_manager.messages[0].archived"),
        (["line", "session_manager", "messages", 0, "ref"], "", "session_manager.messages[0].ref"),
    ],
)
def test_a_changed_field_is_named(path, new, place):
    value = changed(edited(path, new))
    read = of_document if path[0] == "document" else of_line
    with pytest.raises(InvalidDataError) as caught:
        read(value[path[0]])
    assert caught.value.path == place
    assert caught.value.__context__ is None


# By the calls that people use


@pytest.mark.parametrize("scheme", ["snapshot", "log", "sqlite"])
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_storage_goes_out_and_comes_in(store, tmp_path, scheme, form):
    file = tmp_path / f"chats.{form}"
    export_sessions(store, file, form)
    into = f"{scheme}:{tmp_path / 'chats'}"
    report = import_sessions(file, into)
    assert (report.sessions, report.messages, report.ok) == (2, 6, True)
    with closing(open_store(into)) as there:
        for key in ("slack:1", "telegram:42"):
            assert_alike(stored(there, key), stored(store, key))
            assert there.verify(key) == []
    again = import_sessions(file, into)
    assert (again.sessions, again.present) == (0, 2)


@pytest.mark.parametrize("form", ["json", "jsonl"])
@examples(8, many=60)
@given(given=exported())
def test_any_session_goes_out_and_comes_in(tmp_path_factory, form, given):
    file = tmp_path_factory.mktemp("out") / f"chat.{form}"
    store, there = MemoryStore(), MemoryStore()
    archived = tuple((one.position, one) for one in given.archive or ())
    session = given.session._with(_archived=len(archived))
    store.write(Commit(session, (), None, archived=archived))
    export(store, session.key, form, file)
    assert import_sessions(file, there).ok
    assert_alike(stored(there, session.key), stored(store, session.key))


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_one_session_goes_out_and_comes_in(store, tmp_path, form):
    file, there = tmp_path / "chat.json", MemoryStore()
    export(store, "telegram:42", form, file)
    assert import_sessions(file, there).sessions == 1
    assert_alike(stored(there), stored(store))


def test_damage_costs_its_session_alone(store, tmp_path):
    file, there = tmp_path / "chats.json", MemoryStore()
    export_sessions(store, file, "json")
    file.write_text(file.read_text().replace('"archive"', '"archives"', 1))
    report = import_sessions(file, there)
    assert (report.sessions, list(there.keys())) == (1, ["telegram:42"])
    (skipped,) = report.files[0].skipped
    assert (skipped.line, skipped.reason) == (2, "archives: there is no such field")
