"""What a picture shows of the user's notes is a dict that refuses to be changed."""

from __future__ import annotations

import copy
import json
import pickle

import msgspec
import pytest

from session_manager import Message, SessionManager, converter

KEY = "telegram:1"
NOTES = {"model": "gpt", "n": 1, "tags": ["a", {"b": [1.0, True, None]}], "nested": {"deep": {"x": []}}}


@pytest.fixture(params=["session", "message", "info", "listed"])
def shown(request):
    with SessionManager() as m:
        m.add_message(KEY, "user", "hi", metadata=NOTES)
        m.update_metadata(KEY, NOTES)
        yield {
            "session": m.get(KEY).metadata,
            "message": m.get_history(KEY)[0].metadata,
            "info": m.list_sessions()[0].metadata,
            "listed": m.get(KEY).messages[0].metadata,
        }[request.param]


CHANGES = [
    lambda d: d.__setitem__("a", 1),
    lambda d: d.__delitem__("n"),
    lambda d: d.__ior__({"a": 1}),
    lambda d: d.update(a=1),
    lambda d: d.setdefault("a", 1),
    lambda d: d.pop("n"),
    lambda d: d.popitem(),
    lambda d: d.clear(),
    lambda d: d["nested"].__setitem__("a", 1),
    lambda d: d["nested"]["deep"].update(x=1),
    lambda d: d["nested"]["deep"]["x"].append(1),
    lambda d: d["tags"].append("b"),
    lambda d: d["tags"].extend("b"),
    lambda d: d["tags"].insert(0, "b"),
    lambda d: d["tags"].remove("a"),
    lambda d: d["tags"].pop(),
    lambda d: d["tags"].clear(),
    lambda d: d["tags"].reverse(),
    lambda d: d["tags"].sort(key=str),
    lambda d: d["tags"].__setitem__(0, "b"),
    lambda d: d["tags"].__setitem__(slice(0, 1), []),
    lambda d: d["tags"].__delitem__(0),
    lambda d: d["tags"].__iadd__(["b"]),
    lambda d: d["tags"].__imul__(2),
    lambda d: d["tags"][1].clear(),
    lambda d: d["tags"][1]["b"].append(1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_refused(change, shown):
    """`session.metadata["a"] = 1` changed a copy, in silence."""
    with pytest.raises(TypeError, match=r"update_metadata\(\)"):
        change(shown)
    assert shown == NOTES


def test_no_method_that_changes_a_dict_or_list_is_left_out(shown):
    kept = {"__init__", "__class_getitem__", "__getattribute__", "__new__", "__reversed__", "copy", "fromkeys"}
    for value, base in ((shown, dict), (shown["tags"], list)):
        reading = {"get", "items", "keys", "values", "count", "index", "copy", "fromkeys"}
        public = {name for name in vars(base) if not name.startswith("_")} - reading - kept
        for name in public:
            with pytest.raises(TypeError, match="picture"):
                getattr(value, name)()


def test_it_is_a_dict_for_everybody_who_reads(shown):
    assert shown == NOTES
    assert shown == NOTES
    assert isinstance(shown, dict)
    assert isinstance(shown["tags"], list)
    assert json.loads(json.dumps(shown)) == NOTES
    assert json.loads(json.dumps(shown, indent=1, sort_keys=True)) == NOTES
    assert msgspec.json.decode(msgspec.json.encode(shown)) == NOTES
    assert {**shown} == dict(shown) == NOTES
    assert repr(shown) == repr(NOTES)
    assert shown | {"a": 1} == {**NOTES, "a": 1}
    assert shown["tags"] + ["b"] == [*NOTES["tags"], "b"]


def test_copies_can_be_changed(shown):
    for mine in (copy.deepcopy(shown), json.loads(json.dumps(shown))):
        mine["tags"][1]["b"].append(1)
        mine["nested"]["deep"]["y"] = 1
        assert mine != NOTES
    for mine in (dict(shown), shown.copy(), copy.copy(shown), shown | {}):
        mine["a"] = 1
        assert mine == {**NOTES, "a": 1}
    assert copy.copy(shown["tags"]) + shown["tags"].copy() == [*NOTES["tags"], *NOTES["tags"]]
    assert shown == NOTES


def test_it_is_pickled_as_it_is(shown):
    again = pickle.loads(pickle.dumps(shown))
    assert again == NOTES
    assert type(again) is type(shown)
    with pytest.raises(TypeError, match="picture"):
        again["tags"][1]["b"].append(1)


@pytest.mark.parametrize("kind", ["memory:", "snapshot:chats", "log:chats", "sqlite:chats.db"])
def test_it_may_be_given_back(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SessionManager(kind) as m:
        m.add_message(KEY, "user", "hi", metadata=NOTES)
        m.update_metadata(KEY, NOTES)
        m.update_metadata(KEY, m.get(KEY).metadata)
        m.update_metadata(KEY, {"again": m.get(KEY).metadata})
        m.add_message(KEY, "user", "hi", metadata=m.get_history(KEY)[0].metadata)
        m.add(KEY, {"role": "user", "content": m.get(KEY).metadata["tags"]})
        m.save(KEY)
        assert m.get(KEY).metadata == {**NOTES, "again": NOTES}
        message = m.get_history(KEY)[1]
        assert converter.structure(converter.unstructure(message), Message).metadata == NOTES
        assert type(message.to_dict()) is dict
        m.get_history(KEY)[2].to_dict()["content"].append("a fresh copy")
