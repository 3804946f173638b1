"""picoclaw's sessions of two files come in by the letter of its format."""

from __future__ import annotations

import codecs
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.importers import import_sessions
from session_manager.importers.picoclaw_jsonl import read
from session_manager.importers.reading import Flaw, ImportedSession
from session_manager.stores.files.recognition import format_of, metas_in
from session_manager.stores.memory import MemoryStore
from tests.support.go_files import KEY, go_lines, go_meta
from tests.support.laws import examples
from tests.support.source_files import WRITTEN, GivenFile
from tests.support.strategies import CANARY, keys, message_objects

NAME, META = "telegram_42.jsonl", "telegram_42.meta.json"
THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


def found(
    lines: bytes, meta: bytes | None = go_meta(), name: str = NAME
) -> tuple[list[ImportedSession], list[tuple[int | None, str]]]:
    """Return the sessions in two files, and what is wrong with them."""
    beside = {} if meta is None else {META: meta}
    all_found = list(read(GivenFile(name, lines, beside, piece=10)))
    sessions = [one for one in all_found if isinstance(one, ImportedSession)]
    return sessions, [(one.line, one.reason) for one in all_found if isinstance(one, Flaw)]


def session_in(lines: bytes, meta: bytes = go_meta()) -> ImportedSession:
    (session,), flaws = found(lines, meta)
    assert flaws == []
    return session


def texts(session: ImportedSession) -> tuple[list[Any], list[Any]]:
    return [one.content for one in session.archived], [one.content for one in session.messages]


def test_all_that_the_files_say_comes_along() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {
            "role": "user",
            "content": "<see>",
            "media": ["media://1"],
            "created_at": "2026-01-01T00:00:00.123456789+01:00",
        },
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
    ]
    scope = {"version": 1, "channel": "telegram", "values": {"chat": "direct:42"}}
    meta = go_meta(summary="So far.", count=3, scope=scope, aliases=["agent:main:main"], history_revision=4)
    session = session_in(go_lines(messages), meta)
    assert [one.to_dict() for one in session.messages] == messages
    assert (session.key, session.summary, session.created, session.updated) == (KEY, "So far.", THEN, THEN)
    assert dict(session.metadata) == {"scope": scope, "aliases": ["agent:main:main"], "history_revision": 4}
    assert session.messages[0].created_at == datetime(2025, 12, 31, 23, 0, 0, 123456, timezone.utc)


@pytest.mark.parametrize(
    ("skip", "archived", "kept"), [(0, "", "abc"), (-1, "", "abc"), (2, "ab", "c"), (3, "abc", ""), (9, "abc", "")]
)
def test_what_lies_before_skip_is_archived(skip: int, archived: str, kept: str) -> None:
    session = session_in(go_lines(said("a", "b", "c")), go_meta(skip=skip, count=1))
    assert texts(session) == (list(archived), list(kept))


def test_skip_counts_lines_that_are_not_empty_and_damaged_ones_too() -> None:
    lines = b'\n{"role":"us\n\r\n' + go_lines(said("a")) + b"\n" + go_lines(said("b"))
    (session,), flaws = found(lines, go_meta(skip=2))
    assert texts(session) == (["a"], ["b"])
    assert flaws == [(2, "is not JSON")]
    spaces = b" \n" + go_lines(said("a", "b"))  # Go's scanner counts a line of spaces
    (session,), flaws = found(spaces, go_meta(skip=2))
    assert (texts(session), [line for line, _ in flaws]) == ((["a"], ["b"]), [1])


def test_a_stale_count_does_not_matter() -> None:
    for count in (0, 1, 99):
        assert texts(session_in(go_lines(said("a", "b")), go_meta(count=count, skip=1))) == (["a"], ["b"])


def test_a_line_that_a_crash_cut_off_costs_itself_alone() -> None:
    lines = go_lines(said("a")) + b'{"role":"user","content":"' + CANARY.encode()
    (session,), flaws = found(lines)
    assert (texts(session), flaws) == (([], ["a"]), [(2, "is not JSON")])
    middle = go_lines(said("a")) + b'{"role":"us' + go_lines(said("b", "c"))  # the next append follows on the same line
    (session,), flaws = found(middle)
    assert (texts(session), flaws) == (([], ["a", "c"]), [(2, "is not JSON")])


@pytest.mark.parametrize("meta", [None, b"", b"{", b"[]", go_meta(""), go_meta(None), go_meta(5), b'{"skip":0}'])
def test_without_a_key_nothing_is_filed_under_the_stem(meta: bytes | None) -> None:
    sessions, flaws = found(go_lines(said(CANARY)), meta)
    assert sessions == []
    assert [reason.startswith("its key is not known: telegram_42.meta.json") for _, reason in flaws] == [True]
    assert CANARY not in flaws[0][1]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"skip": "1"}, "skip"),
        ({"summary": [CANARY]}, "summary"),
        ({"created_at": "x"}, "created_at"),
        ({"count": 1.5}, "count"),
    ],
)
def test_a_wrong_field_of_the_metadata_costs_itself_alone(fields: dict[str, Any], place: str) -> None:
    (session,), flaws = found(go_lines(said("a")), go_meta(**fields))
    assert texts(session) == ([], ["a"])
    assert [reason.partition(":")[0] for _, reason in flaws] == [place]


def test_metadata_alone_are_a_session_without_messages() -> None:
    (session,), flaws = found(go_meta(summary="s", scope={"a": 1}), None, META)
    assert (session.key, session.summary, session.messages, flaws) == (KEY, "s", [], [])
    (session,), flaws = found(go_meta(count=3), None, META)
    assert flaws == [(None, "its messages are missing: telegram_42.jsonl is not there")]


def test_zero_times_are_unknown() -> None:
    zero = "0001-01-01T00:00:00Z"
    session = session_in(go_lines(said("a")), go_meta(created_at=zero, updated_at=zero))
    assert (session.created, session.updated, session.messages[0].created_at) == (None, WRITTEN, WRITTEN)


@given(keys(), st.lists(message_objects(), max_size=4), st.integers(0, 5), st.text(max_size=20))
@examples(30)
def test_what_picoclaw_writes_is_read(key: str, objects: list[Any], skip: int, summary: str) -> None:
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in objects)
    session = session_in(lines, json.dumps({"key": key, "skip": skip, "summary": summary}).encode())
    assert (session.key, session.summary) == (key, summary)
    assert [repr(one.to_dict()) for one in session.archived] == [repr(one) for one in objects[:skip]]
    assert [repr(one.to_dict()) for one in session.messages] == [repr(one) for one in objects[skip:]]


@given(
    st.lists((st.binary(max_size=12) | st.just(codecs.BOM_UTF8)).map(lambda one: one.replace(b"\n", b"")), max_size=4),
    st.data(),
)
@examples(60)
def test_damaged_lines_cost_themselves_alone(damaged: list[bytes], data: st.DataObject) -> None:
    whole = [b'{"role":"user","content":"%d"}' % number for number in range(3)]
    lines = data.draw(st.permutations([*((one, False) for one in damaged), *((one, True) for one in whole)]))
    (session,), flaws = found(b"\n".join(line for line, _ in lines))
    expected = [json.loads(line)["content"] for line, is_whole in lines if is_whole]
    assert [one.content for one in session.messages] == expected
    first, *others = lines
    read = [(first[0].removeprefix(codecs.BOM_UTF8), first[1]), *others]
    assert len(flaws) == sum(1 for line, is_whole in read if not is_whole and line.removesuffix(b"\r"))


@given(st.binary(max_size=100), st.binary(max_size=100) | st.just(go_meta()))
@examples(60)
def test_no_bytes_make_the_reader_raise(lines: bytes, meta: bytes) -> None:
    for name in (NAME, META):
        sessions, flaws = found(lines, meta, name)
        assert sessions or flaws


def test_its_files_are_recognized() -> None:
    metas = metas_in([META, NAME])
    line = go_lines()
    for name, data, around, expected in (
        (NAME, line, metas, "picoclaw-jsonl"),
        (NAME, b"", metas, "picoclaw-jsonl"),
        (NAME, b"\0\0", metas, "picoclaw-jsonl"),
        ("other.jsonl", line, metas, "picoclaw-jsonl"),
        ("other.jsonl", b"", metas, None),
        (f"{NAME}.migrated", line, metas, None),
        (META, go_meta(), metas, "picoclaw-jsonl"),
        (META, b"{}", metas, None),
        ("other.jsonl", b'{"type":"user","role":"user"}\n', metas, None),
    ):
        assert format_of(name, data, around) == expected, name


def test_a_directory_is_imported_and_reported_by_its_messages(tmp_path: Path) -> None:
    files = {
        NAME: go_lines(said("a", "b", "c")),
        META: go_meta(skip=1, count=3),
        "orphan.jsonl": go_lines(said("x")),
        "new.meta.json": go_meta("new"),
        "damaged.jsonl": b"\0",
        "damaged.meta.json": go_meta("damaged"),
        "old.json.migrated": b'{"key":"old","messages":[]}',
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    store = MemoryStore()
    report = import_sessions(tmp_path, store)
    assert [(one.name, one.format, one.sessions, len(one.skipped)) for one in report.files] == [
        ("damaged.jsonl", "picoclaw-jsonl", 1, 1),
        ("new.meta.json", "picoclaw-jsonl", 1, 0),
        ("old.json.migrated", None, 0, 0),
        ("orphan.jsonl", "picoclaw-jsonl", 0, 1),
        (NAME, "picoclaw-jsonl", 1, 0),
    ]
    session = store.load(KEY)
    assert session is not None
    assert [one.content for one in session.messages] == ["b", "c"]
    assert [one.content for one in store.archive(KEY)] == ["a"]
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert import_sessions(tmp_path / NAME, MemoryStore()).sessions == 1
    report = import_sessions(tmp_path / META, MemoryStore())
    assert (report.sessions, report.files[0].skipped[0].reason.partition(":")[0]) == (
        0,
        "has the metadata of a session whose messages are in a .jsonl",
    )
