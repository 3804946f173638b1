"""Laws that hold for every format: what is recognized, and what damage costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Item, SessionManager
from session_manager.errors import StorageError
from session_manager.history import problems
from session_manager.importers import FORMATS, import_sessions
from session_manager.importers.reading import Flaw, ImportedSession
from session_manager.stores.files import recognition
from session_manager.stores.files.recognition import HEAD, Head, format_of
from session_manager.stores.memory import MemoryStore
from session_manager.testing.strategies import json_values
from tests.support.foreign_files import Example, examples, plain, read_all
from tests.support.laws import examples as tries
from tests.support.sizes import Size

EXAMPLES = examples()
LINES = [one for one in EXAMPLES if one.is_lines]
#: Formats whose examples are in modules of their own.
ELSEWHERE = {"session_manager", "picoclaw-json", "picoclaw-jsonl"}
DAMAGE = (b"", b"\0", b"{", b'"', b"\xff", b"[" * 300, b'{"role":1}')


def ids(found: Sequence[Example]) -> list[str]:
    return [f"{one.format}-{one.name}" for one in found]


def objects(sessions: Sequence[ImportedSession]) -> Counter[str]:
    """Return the messages of sessions, archived ones too, and how often each of them is there."""
    return Counter(
        json.dumps(message.to_dict(), sort_keys=True) for one in sessions for message in (*one.archived, *one.messages)
    )


def read_or_refused(example: Example, data: bytes) -> tuple[list[ImportedSession], list[Flaw]]:
    """Read a file; a database that is none, or damaged, may be refused as a whole."""
    if example.name.endswith(".db"):
        with suppress(StorageError):
            return read_all(example.format, example.name, data)
        return [], []
    return read_all(example.format, example.name, data)


def test_each_format_has_an_example_and_a_name() -> None:
    assert {one.format for one in EXAMPLES} == set(FORMATS) - ELSEWHERE
    assert set(recognition.FORMATS) | set(recognition.TABLES) == set(FORMATS)


@pytest.mark.parametrize("example", EXAMPLES, ids=ids(EXAMPLES))
def test_an_example_is_its_own_format_and_no_other(example: Example) -> None:
    head = Head.of(example.name, example.data[:HEAD])
    if head.is_database:
        fitting = [name for name, tables in recognition.TABLES.items() if tables <= head.tables]
    else:
        fitting = [name for name, fits in recognition.FORMATS.items() if fits(head)]
    assert fitting == [example.format]


@pytest.mark.parametrize("example", EXAMPLES, ids=ids(EXAMPLES))
def test_an_example_is_recognized_by_its_start(example: Example) -> None:
    """A file that is longer than what is looked at is cut anywhere."""
    if not example.name.endswith(".db"):
        cut = len(example.data) - 7 if example.is_lines else len(example.data) // 2
        assert format_of(example.name, example.data[:cut]) == example.format


@pytest.mark.parametrize("example", LINES, ids=ids(LINES))
def test_an_example_is_recognized_beside_damage(example: Example) -> None:
    """A power cut leaves zeros at the end of a file. Such a file was left out, and no report named it."""
    assert format_of(example.name, example.data + b"\0" * 512) == example.format
    for damage in (b"\0" * 512, b'half of a line"}', b"\xff"):
        assert format_of(example.name, damage + b"\n" + example.data) == example.format


def test_a_file_with_zeros_at_its_end_is_imported(tmp_path: Path) -> None:
    line = b'{"messages": [{"role": "user", "content": "Hi"}]}\n'
    (tmp_path / "whole.jsonl").write_bytes(line)
    (tmp_path / "torn.jsonl").write_bytes(line + b"\0" * 512)
    found = {one.name: one for one in import_sessions(tmp_path, MemoryStore()).files}
    assert [one.sessions for one in found.values()] == [1, 1]
    assert [(one.line, one.reason) for one in found["torn.jsonl"].skipped] == [(2, "is not JSON")]


@given(
    value=st.one_of(json_values(), st.dictionaries(st.sampled_from(["role", "content", "id", "type"]), json_values()))
)
@tries(20, many=200)
def test_no_other_json_is_recognized(value: Any) -> None:
    for name in ("a.json", "a.jsonl", "a.txt", "a"):
        for data in (json.dumps(value), json.dumps([value, value]), f"{json.dumps(value)}\n" * 3):
            assert format_of(name, data.encode()) is None or _is_plain_chat(data)


def _is_plain_chat(data: str) -> bool:
    """Say whether each line is a role that is known and a text: that is what one of the formats is."""
    lines = [json.loads(line) for line in data.splitlines()]
    return all(isinstance(one, dict) and isinstance(one.get("content"), str) and "role" in one for one in lines)


@pytest.mark.parametrize("url", ["snapshot:{}/chats", "log:{}/chats", "sqlite:{}/chats.db"])
def test_our_own_files_are_not_recognized(tmp_path: Path, url: str) -> None:
    with SessionManager(url.format(tmp_path), archive=True) as manager:
        for index in range(3):
            manager.add("a:1", {"role": "user", "content": f"{index}"}, {"role": "assistant", "content": "x"})
            manager.save("a:1")
        manager.truncate_history("a:1", 1)
        manager.save("a:1")
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert format_of(path.name, path.read_bytes()[:HEAD]) is None, path.name


@pytest.mark.parametrize("format", sorted(FORMATS))
@given(
    data=st.one_of(st.binary(), st.text().map(str.encode), json_values().map(lambda value: json.dumps(value).encode()))
)
@tries(10, many=100)
def test_no_bytes_make_a_reader_raise(format: str, data: bytes) -> None:
    for name in ("a.json", "a.jsonl", "a.db"):
        with suppress(StorageError):
            read_all(format, name, data)


@pytest.mark.parametrize("example", EXAMPLES, ids=ids(EXAMPLES))
def test_damage_at_any_place_makes_no_reader_raise(example: Example, size: Size) -> None:
    step = max(1, len(example.data) // size.of(8, 1_000, 1_000_000))
    for at in range(0, len(example.data), step):
        for damaged in (example.data[:at], example.data[:at] + b"\xff" + example.data[at + 1 :]):
            read_or_refused(example, damaged)


@pytest.mark.parametrize("example", LINES, ids=ids(LINES))
def test_a_damaged_line_costs_no_more_than_a_missing_one(example: Example, size: Size) -> None:
    lines = example.data.split(b"\n")
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        missing = objects(read_all(example.format, example.name, _with(lines, index, b""))[0])
        damages = [*DAMAGE, line[:-1], line[: len(line) // 2]]
        for number in range(size.of(2, len(damages), len(damages))):
            damage = damages[(index + number) % len(damages)]
            damaged, flaws = read_all(example.format, example.name, _with(lines, index, damage))
            assert objects(damaged) >= missing, (index, damage)
            assert not damage.strip() or any(one.line == index + 1 for one in flaws), (index, damage)


def _with(lines: list[bytes], index: int, line: bytes) -> bytes:
    return b"\n".join([*lines[:index], line, *lines[index + 1 :]])


@pytest.mark.parametrize("example", EXAMPLES, ids=ids(EXAMPLES))
def test_the_size_of_the_pieces_makes_no_difference(example: Example) -> None:
    if not example.name.endswith(".db"):
        whole = read_all(example.format, example.name, example.data)
        assert read_all(example.format, example.name, example.data, pieces=7) == whole


@pytest.mark.parametrize("example", EXAMPLES, ids=ids(EXAMPLES))
def test_a_provider_accepts_what_was_imported(example: Example) -> None:
    sessions, _ = read_all(example.format, example.name, example.data)
    assert sessions
    for session in sessions:
        sent = [message for message in session.messages if not isinstance(message, Item)]
        assert problems(sent) == [], session.key
        assert all(message.created_at.tzinfo is not None for message in session.messages)


def test_a_directory_of_all_formats_comes_in_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for example in EXAMPLES:
        (source / example.format).mkdir(parents=True, exist_ok=True)
        (source / example.format / example.name).write_bytes(example.data)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    store = MemoryStore()
    report = import_sessions(source, store)
    assert {file.name.partition("/")[0]: file.format for file in report.files} == {
        one.format: one.format for one in EXAMPLES
    }
    read = [read_all(one.format, one.name, one.data)[0] for one in EXAMPLES]
    assert report.sessions == sum(map(len, read)) == len(list(store.keys()))
    for sessions in read:
        for session in sessions:
            there = store.load(session.key)
            assert there is not None
            assert [message.to_dict() for message in there.messages] == plain(session)
    assert import_sessions(source, store).present == report.sessions
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
