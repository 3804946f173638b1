"""What is found, in which order, what is shown of it; and that a manager finds all that it shows, wherever that is."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import (
    CorruptSessionError,
    InvalidKeyError,
    InvalidMessageError,
    Message,
    SessionManager,
    open_store,
)
from session_manager.history.search import SearchHit, best, case_fold, merged, searched_text
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.evicting import evict
from tests.support.laws import examples
from tests.support.strategies import CANARY, messages, nasty_text

EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
KEY = "telegram:42"


def placed(*contents, key="k"):
    """Messages of a session, a second apart."""
    return [
        (key, Message("user", content, created_at=EPOCH + timedelta(seconds=number))._placed(number, None))
        for number, content in enumerate(contents)
    ]


def positions(text, *contents, limit=100):
    return [hit.position for hit in best(text, placed(*contents), limit)]


def contents(m, text, **where):
    """What the messages say that a manager finds, in no order."""
    hits = m.search(text, **where)
    return sorted(m.get(hit.key).at(hit.position).content for hit in hits)


# Folding


def test_each_character_is_folded_to_one_character_whatever_is_beside_it():
    """`str.lower` makes two characters of a dotted capital I, and looks around a capital sigma."""
    beyond = 0x20000  # where no character has a case
    for number in range(beyond):
        folded = case_fold(chr(number))
        assert len(folded) == 1
        assert case_fold(folded) == folded
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert case_fold(everything[beyond:]) == everything[beyond:]
    everything = everything[:beyond]
    assert case_fold(everything) == "".join(map(case_fold, everything))
    for text in ("ΟΔΟΣ", "ΣΣ", "Σ Σ", "αΣ.", "İİ"):
        assert case_fold(text) == "".join(map(case_fold, text))


@given(nasty_text(), nasty_text())
def test_folding_is_per_character(one, other):
    assert case_fold(one) + case_fold(other) == case_fold(one + other)
    assert len(case_fold(one)) == len(one)


# Matching


@given(nasty_text(min_size=1, max_size=3), st.lists(messages(), max_size=4))
def test_a_message_is_found_exactly_if_its_text_contains_the_query(query, given_messages):
    """Both are compared without regard to case."""
    pairs = [("k", message._placed(number, None)) for number, message in enumerate(given_messages)]
    expected = {message.position for _, message in pairs if case_fold(query) in case_fold(searched_text(message))}
    assert {hit.position for hit in best(query, pairs, 100)} == expected


@given(nasty_text(max_size=60), nasty_text(min_size=1), nasty_text(max_size=60))
def test_the_snippet_is_the_first_match_between_marks_in_its_context(before, query, after):
    text = before + query + after
    try:
        pairs = placed(text)
    except InvalidMessageError:
        return  # two halves of a surrogate pair came together
    (hit,) = best(query, pairs, 1)
    place = case_fold(text).index(case_fold(query))
    end = place + len(query)
    left, right = text[max(0, place - 40) : place], text[end : end + 40]
    dots = "…" * (place > 40), "…" * (end + 40 < len(text))
    assert hit.snippet == f"{dots[0]}{left}**{text[place:end]}**{right}{dots[1]}"
    assert 0 < hit.score < 1


def test_a_long_text_is_cut_on_both_sides():
    (hit,) = best("Needle", placed("a" * 100 + "nEEdle" + "b" * 100), 1)
    assert hit.snippet == "…" + "a" * 40 + "**nEEdle**" + "b" * 40 + "…"


OPERATORS = ['"', '"a b"', "a OR b", "NOT", "a*", "*", "%", "_", "-", "^a", "(", "NEAR(a b)", "a:b", "'", "\\"]
CHARACTERS = ["漢", "漢字", "한", "👩\u200d👩\u200d👧", "👩", "\u200d", "\ud800", "\udc80", "e\u0301", "ß", "\ufeff"]
SPACES = [" ", "  ", "\t", "\n", "\u2028", "\x00", "a\x00b"]


@pytest.mark.parametrize("query", [*OPERATORS, *CHARACTERS, *SPACES])
def test_every_query_is_just_text(query):
    others = ["", "hay", "O", "x1y"]
    m = SessionManager(MemoryStore())
    m.add(KEY, *[{"role": "user", "content": content} for content in [f"x{query}y", query, *others]])
    assert contents(m, query) == sorted([f"x{query}y", query])
    m.save_all()
    again = SessionManager(m._residents.store)
    assert contents(again, query) == sorted([f"x{query}y", query])


def test_letters_are_compared_without_case_one_by_one():
    assert positions("STRASSE", "Strasse", "Straße") == [0]
    assert positions("straße", "STRAßE", "STRASSE", "STRAẞE") == [2, 0]
    assert positions("ΟΔΟΣ", "οδος", "οδοσ", "ὁδός") == [1, 0]
    assert positions("istanbul", "İSTANBUL", "Istanbul", "\u0131stanbul") == [1, 0]
    assert positions("é", "e\u0301", "É") == [1]


# What of a message is searched

SHAPES = {
    "a string": {"role": "user", "content": "needle"},
    "parts": {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "needle"}]},
    "bare strings in a list": {"role": "user", "content": ["hay", "needle"]},
    "a tool's result": {"role": "tool", "content": "needle", "tool_call_id": "c"},
    "nested tool results": {
        "role": "user",
        "content": [{"type": "tool_result", "content": [{"type": "text", "text": "a needle"}]}],
    },
    "a tool result's string": {"role": "user", "content": [{"type": "tool_result", "content": "needle"}]},
    "thinking": {"role": "assistant", "content": [{"type": "thinking", "thinking": "needle", "signature": "x"}]},
    "a refusal among the parts": {"role": "assistant", "content": [{"type": "refusal", "refusal": "needle"}]},
    "a refusal beside null": {"role": "assistant", "content": None, "refusal": "needle"},
    "a Responses message": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "needle"}]},
    "a Responses output": {"type": "function_call_output", "call_id": "c", "output": "needle"},
    "an output in parts": {"type": "function_call_output", "output": [{"type": "input_text", "text": "needle"}]},
    "an item's text": {"type": "summary_text", "text": "needle"},
    "arguments of a call": {"role": "assistant", "content": None, "tool_calls": [{"arguments": '{"x": "needle"}'}]},
    "arguments, escaped": {"type": "function_call", "call_id": "1", "arguments": '{"x": "n\\u0065edle"}'},
    "arguments, as an object": {"role": "assistant", "content": [{"type": "tool_use", "input": {"x": ["needle"]}}]},
    "a result named like a label": {
        "role": "user",
        "parts": [{"functionResponse": {"response": {"status": "needle"}}}],
    },
    "a text beside a content": {"role": "user", "content": "hay", "text": "needle"},
    "an unknown field": {"role": "user", "content": 12, "x": [{"y": "needle"}]},
    "an item": {"type": "session_manager.item", "item": {"type": "needle"}},
}

UNREAD = {
    "a signature": {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "needle"}]},
    "an URL": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "needle"}}]},
    "a label": {"type": "needle", "id": "needle", "status": "needle", "call_id": "needle", "output": ""},
    "encrypted": {"type": "reasoning", "summary": [], "encrypted_content": "needle"},
    "encoded": {"role": "user", "content": [{"type": "input_file", "file_data": "needle"}]},
    "metadata": {"role": "user", "content": "", "metadata": {"x": "needle"}, "usage": {"x": "needle"}},
    "a tool": {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "needle", "arguments": "{}"}}],
    },
    "a schema": {"type": "mcp_list_tools", "tools": [{"name": "x", "input_schema": {"type": "needle"}}]},
    "a name": {"role": "user", "content": "", "name": "needle"},
    "a role": {"role": "needle"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_person_reads_is_found(shape):
    message = Message.from_dict(SHAPES[shape])
    (hit,) = best("NEEDLE", [("k", message._placed(0, None))], 1)
    assert hit.role == message.role
    assert "**needle**" in hit.snippet


@pytest.mark.parametrize("shape", UNREAD)
def test_what_nobody_reads_is_not(shape):
    assert best("needle", [("k", Message.from_dict(UNREAD[shape])._placed(0, None))], 1) == []


def test_a_content_of_many_levels_is_searched_without_recursion():
    value = "needle"
    for _ in range(190):
        value = [value]
    assert positions("needle", value) == [0]


# The order


def test_many_matches_in_a_short_text_come_first_then_the_newest():
    assert positions("x", "x", "x x x", "x" + " " * 500, "x") == [1, 3, 0, 2]


def test_equals_of_one_time_come_by_key_and_position():
    pairs = [(key, Message("user", "x", created_at=EPOCH)._placed(n, None)) for key in "ba" for n in (1, 0)]
    assert [(hit.key, hit.position) for hit in best("x", pairs, 9)] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


@given(st.lists(st.text("xy ", max_size=8), max_size=12), st.integers(1, 12), st.integers(0, 12))
def test_a_limit_takes_the_best_and_parts_can_be_merged(texts, limit, cut):
    pairs = placed(*texts)
    everything = best("x", pairs, 100)
    assert best("x", pairs, limit) == everything[:limit]
    parts = [*best("x", pairs[:cut], limit), *best("x", pairs[cut:], limit)]
    assert merged(parts, limit) == everything[:limit]


def test_a_hit_tells_where_it_is_and_its_repr_holds_no_text():
    message = Message("user", f"a {CANARY} b", created_at=EPOCH)._placed(7, None)
    (hit,) = best("CANARY", [(KEY, message)], 1)
    assert (hit.key, hit.position, hit.role, hit.created_at) == (KEY, 7, "user", EPOCH)
    assert hit.snippet == "a xyzzy-**CANARY**-plugh b"
    assert "CANARY" not in repr(hit)
    assert hit == SearchHit(key=KEY, position=7, role="user", created_at=EPOCH, snippet=hit.snippet, score=hit.score)


# The manager


@pytest.fixture(params=["ram", "memory store", "snapshot", "log", "sqlite"])
def m(request, tmp_path):
    """A manager on each kind of storage."""
    storages = {"ram": "memory:", "memory store": MemoryStore()}
    storage = storages.get(request.param, f"{request.param}:{tmp_path / 'chats'}")
    manager = SessionManager(storage)
    yield manager
    manager.close(save=False)


@pytest.mark.parametrize("text", [None, 1, b"x", True, "", "\ud83d\ude00"])
def test_a_query_is_a_text_that_is_not_empty(m, text):
    m.add_message(KEY, "user", "None 1 True")
    with pytest.raises(ValueError, match="text"):
        m.search(text)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (None, TypeError)])
def test_a_limit_is_an_int_from_1(m, limit, error):
    with pytest.raises(error, match="limit"):
        m.search("x", limit=limit)
    with pytest.raises(TypeError, match="limit"):
        m.search("x", limit=2.0)


def test_a_key_and_a_prefix_are_checked(m):
    m.add_message(KEY, "user", "x")
    for key in ("", 42, "\ud800"):
        with pytest.raises(InvalidKeyError):
            m.search("x", key=key)
    for prefix in (None, b"", ("t",), 1):
        with pytest.raises(TypeError, match="prefix"):
            m.search("x", prefix=prefix)


def test_a_subclass_of_str_is_a_text_whatever_it_overrides(m):
    class Odd(str):
        __slots__ = ()

        def lower(self):
            return "odd"

        def replace(self, *_):
            return self

        def __len__(self):
            return 99

    m.add_message(KEY, "user", "a needle b")
    assert [hit.snippet for hit in m.search(Odd("NEEDLE"))] == ["a **needle** b"]


def test_what_is_unsaved_is_found_and_what_was_removed_is_not(m):
    m.add(KEY, {"role": "user", "content": "old"}, {"role": "user", "content": "needle one"})
    m.save(KEY)
    m.add_message(KEY, "user", "needle two")
    assert contents(m, "needle") == ["needle one", "needle two"]
    m.remove_last(KEY)
    assert contents(m, "needle") == ["needle one"]
    m.truncate_history(KEY, 0)
    assert m.search("needle") == m.search("old") == []
    m.save(KEY)
    assert m.search("needle") == []
    m.delete(KEY)
    assert m.search("old", key=KEY) == []


def test_an_edited_message_is_found_by_its_new_text_only(m):
    m.add_message(KEY, "user", "before")
    m.save(KEY)
    m.update_last(KEY, {"role": "user", "content": "after"})
    assert (contents(m, "before"), contents(m, "after")) == ([], ["after"])
    m.save(KEY)
    assert (contents(m, "before"), contents(m, "after")) == ([], ["after"])


def test_a_key_and_a_prefix_bound_what_is_searched(m):
    for key in ("a:1", "a:2", "b:1"):
        m.add_message(key, "user", f"needle {key}")
    m.save_all()
    m.add_message("a:3", "user", "needle a:3")
    assert contents(m, "needle") == ["needle a:1", "needle a:2", "needle a:3", "needle b:1"]
    assert contents(m, "needle", key="a:2") == ["needle a:2"]
    assert contents(m, "needle", key="a:3") == ["needle a:3"]
    assert contents(m, "needle", prefix="a:") == ["needle a:1", "needle a:2", "needle a:3"]
    assert contents(m, "needle", key="a:2", prefix="a") == ["needle a:2"]
    assert m.search("needle", key="missing") == m.search("needle", prefix="c") == []
    assert len(m.search("needle", limit=2)) == 2


@pytest.mark.parametrize("state", ["unsaved", "resident", "stored"])
def test_a_key_that_the_prefix_excludes_gives_nothing(tmp_path, state):
    """The store was asked for the key whatever the prefix, and told what had been edited in RAM since."""
    store = SnapshotStore(tmp_path / "chats")
    m = SessionManager(store)
    m.add_message("a", "user", "needle")
    if state != "unsaved":
        m.save("a")
    if state == "stored":
        m.close()
        m = SessionManager(store)
    assert m.search("needle", key="a", prefix="b") == []
    assert len(m.search("needle", key="a", prefix="a")) == 1
    m.close()
    store.close()


@pytest.mark.parametrize("data", [b"", b'{"format":"session_manager/2"}\n'])
def test_a_damaged_session_is_left_out_with_a_warning_or_raises_by_name(tmp_path, caplog, data):
    """A search of all sessions warns; a search of this session raises."""
    with SessionManager(tmp_path / "chats") as m:
        for key in ("good", "bad"):
            m.add_message(key, "user", CANARY)
    (tmp_path / "chats" / "bad.session.json").write_bytes(data)
    with SessionManager(tmp_path / "chats") as m:
        with caplog.at_level(logging.WARNING, "session_manager"):
            assert [hit.key for hit in m.search("canary")] == ["good"]
        (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "bad" in record.getMessage()
        assert CANARY not in record.getMessage()
        with pytest.raises(Exception, match="bad") as raised:
            m.search("canary", key="bad")
        assert isinstance(raised.value, CorruptSessionError) is (data == b"")
        assert len(m.search("canary", key="good")) == 1


def test_a_store_left_alone_searches_as_a_manager_does(tmp_path, caplog):
    store = SnapshotStore(tmp_path / "chats")
    m = SessionManager(store)
    for key in ("a:1", "a:2", "b:1", "b:2"):
        m.add(key, {"role": "user", "content": "x"}, {"role": "user", "content": "y x x"})
    m.close()
    (tmp_path / "chats" / "b~3a2.session.json").write_bytes(b"damaged")
    m = SessionManager(store)
    assert store.search("x", limit=5) == m.search("x", limit=5)
    assert store.search("x", prefix="a:", limit=3) == m.search("x", prefix="a:", limit=3)
    assert store.search("x", key="a:1") == m.search("x", key="a:1")
    assert {hit.key for hit in store.search("x", skip=["a:1"])} == {"a:2", "b:1"}
    with pytest.raises(CorruptSessionError):
        store.search("x", key="b:2")
    assert all("b:2" in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    store.close()


@pytest.mark.parametrize("kind", ["memory", "snapshot", "log", "sqlite", "reader"])
def test_what_is_found_is_the_best_of_all_that_is_shown(tmp_path_factory, kind):
    """Wherever a session is: saved, resident, unsaved, evicted; on a store that somebody else writes to, too."""
    step = st.tuples(
        st.sampled_from(["add", "add", "save", "edit", "remove", "evict", "truncate", "delete", "replace"]),
        st.sampled_from(["a:1", "a:2", "b:1"]),
        st.text("xyX ", max_size=6),
    )

    @examples(15)
    @given(st.lists(step, max_size=14), st.text("xyX ", min_size=1, max_size=2), st.integers(1, 6))
    def check(steps, query, limit):
        path = tmp_path_factory.mktemp("chats")
        url = f"{'snapshot' if kind == 'reader' else kind}:{path / 'chats'}"
        store = open_store("memory:" if kind == "memory" else url)
        m = SessionManager(store)
        for call, key, text in steps:
            if call == "add":
                m.add_message(key, "user", text)
            elif call == "save":
                m.save(key)
            elif call == "edit":
                m.update_last(key, {"role": "assistant", "content": text})
            elif call == "remove":
                m.remove_last(key)
            elif call == "truncate":
                m.truncate_history(key, 1)
            elif call == "delete":
                m.delete(key)
            elif call == "replace":
                m.set_history(key, [{"role": "user", "content": text}] * 2)
            elif m.save(key) or not m.health().dirty:
                evict(m, key)
        if kind == "reader":
            m.save_all()
            shown = SessionManager(url, read_only=True)
            shown.get("a:1")
        else:
            shown = m
        # What there is, without making it resident.
        before = shown.health().resident
        found = {one: shown.search(query, limit=limit, prefix=one) for one in ("", "a:", "b:1")}
        by_key = {key: shown.search(query, key=key, limit=limit) for key in ("a:1", "a:2", "b:1")}
        assert shown.health().resident == before
        everything = [(key, message) for key in shown for message in shown.get_history(key)]
        for prefix, hits in found.items():
            assert hits == best(query, [pair for pair in everything if pair[0].startswith(prefix)], limit)
        for key, hits in by_key.items():
            assert hits == best(query, [pair for pair in everything if pair[0] == key], limit)
        shown.close(save=False)
        store.close()

    check()


def test_a_reader_beside_a_writer_finds_what_was_saved_last(tmp_path):
    with SessionManager(tmp_path / "chats") as writer:
        writer.add_message(KEY, "user", "needle one")
        writer.save(KEY)
        with SessionManager(tmp_path / "chats", read_only=True) as reader:
            assert contents(reader, "needle") == ["needle one"]
            writer.update_last(KEY, {"role": "user", "content": "needle two"})
            assert contents(reader, "needle", key=KEY) == ["needle one"]
            writer.save(KEY)
            assert contents(reader, "needle") == ["needle two"]
            writer.delete(KEY)
            assert reader.search("needle") == []
