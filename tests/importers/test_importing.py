"""Importing: sessions come in once, whole, and what cannot come in is named."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from session_manager import SessionManager
from session_manager.errors import InvalidStorageError, SessionExistsError, StorageError
from session_manager.importers import import_sessions
from session_manager.stores.memory import MemoryStore

STORAGES = ("snapshot:{}/chats", "log:{}/chats", "sqlite:{}/chats.db")


@pytest.fixture(params=STORAGES, ids=[one.partition(":")[0] for one in STORAGES])
def into(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url: str = request.param.format(tmp_path)
    return url


def conversation(*texts: str, **fields: Any) -> str:
    messages = [
        {"role": "user" if index % 2 == 0 else "assistant", "content": text} for index, text in enumerate(texts)
    ]
    return json.dumps({"messages": messages, **fields})


def written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def texts(url: str, key: str) -> list[Any]:
    with SessionManager(url, read_only=True) as manager:
        assert manager.verify() == []
        return [message.content for message in manager.get_history(key)]


def test_a_session_comes_in_once(tmp_path: Path, into: str) -> None:
    source = written(tmp_path / "chats.jsonl", [conversation("hi", "hello", topic="x"), conversation("again")])
    before = source.read_bytes()
    report = import_sessions(source, into)
    assert (report.sessions, report.messages, report.ok) == (2, 3, True)
    assert texts(into, "chats:1") == ["hi", "hello"]
    with SessionManager(into, read_only=True) as manager:
        session = manager.get("chats:1")
        assert session is not None
        assert session.metadata["topic"] == "x"
        assert session.metadata["imported"]["format"] == "openai"
    for on_conflict in ("skip", "replace", "append", "fail"):
        again = import_sessions(source, into, on_conflict=on_conflict)
        assert (again.sessions, again.present, again.ok) == (0, 2, True), on_conflict
    assert source.read_bytes() == before


def test_damage_costs_its_line_alone(tmp_path: Path, into: str) -> None:
    lines = [
        conversation("one"),
        '{"messages": [',
        '{"messages": 5}',
        conversation("two"),
        '{"messages": [{"role": 1}, {"role": "user"}]}',
    ]
    report = import_sessions(written(tmp_path / "a.jsonl", lines), into)
    found = [(one.line, one.reason) for one in report.files[0].skipped]
    assert found == [
        (2, "is not JSON"),
        (3, "messages: must be a list, not int"),
        (5, "messages[0].role: must be a string, not int"),
    ]
    assert report.sessions == 3
    assert texts(into, "a:4") == ["two"]
    assert not report.ok


def test_a_grown_source_is_appended_once(tmp_path: Path, into: str) -> None:
    source = written(tmp_path / "a.jsonl", [conversation("one", "two")])
    import_sessions(source, into)
    with SessionManager(into) as manager:
        manager.add_message("a:1", "user", "ours")
    written(source, [conversation("one", "two", "three")])
    assert import_sessions(source, into).files[0].skipped[0].reason == "it has grown since it was imported"
    for expected in (1, 0):
        assert import_sessions(source, into, on_conflict="append").messages == expected
    assert texts(into, "a:1") == ["one", "two", "ours", "three"]


def test_append_adds_to_a_session_of_ours_once(tmp_path: Path, into: str) -> None:
    with SessionManager(into) as manager:
        manager.add_message("a:1", "user", "ours")
    source = written(tmp_path / "a.jsonl", [conversation("one")])
    for expected in (1, 0):
        assert import_sessions(source, into, on_conflict="append").messages == expected
    assert texts(into, "a:1") == ["ours", "one"]


def test_append_refuses_a_source_that_was_rewritten(tmp_path: Path, into: str) -> None:
    source = written(tmp_path / "a.jsonl", [conversation("one")])
    import_sessions(source, into)
    written(source, [conversation("other", "two")])
    report = import_sessions(source, into, on_conflict="append")
    assert report.files[0].skipped[0].reason.startswith("it is no longer what was imported")
    assert texts(into, "a:1") == ["one"]


def test_replace_puts_it_in_place_of_the_other(tmp_path: Path, into: str) -> None:
    with SessionManager(into, archive=True) as manager:
        manager.add("a:1", *({"role": "user", "content": f"ours {n}"} for n in range(3)))
        manager.set_summary("a:1", "old")
        manager.update_metadata("a:1", {"old": 1})
        manager.truncate_history("a:1", 1)
    report = import_sessions(
        written(tmp_path / "a.jsonl", [conversation("one", topic="x")]), into, on_conflict="replace"
    )
    assert report.sessions == 1
    assert texts(into, "a:1") == ["one"]
    with SessionManager(into, read_only=True) as manager:
        session = manager.get("a:1")
        assert session is not None
        assert (session.summary, sorted(session.metadata)) == ("", ["imported", "topic"])
        assert list(manager.get_archive("a:1")) == []


def test_fail_raises_at_a_session_that_is_there(tmp_path: Path, into: str) -> None:
    with SessionManager(into) as manager:
        manager.add_message("a:1", "user", "ours")
    source = written(tmp_path / "a.jsonl", [conversation("one")])
    with pytest.raises(SessionExistsError, match="a:1"):
        import_sessions(source, into, on_conflict="fail")
    assert texts(into, "a:1") == ["ours"]


def test_a_dry_run_writes_nothing(tmp_path: Path, into: str) -> None:
    source = written(tmp_path / "a.jsonl", [conversation("one"), "{"])
    report = import_sessions(source, into, dry_run=True)
    assert (report.sessions, report.messages, report.skipped) == (1, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    import_sessions(source, into)
    assert import_sessions(source, into, dry_run=True).present == 1


def test_one_key_twice_in_a_source_is_named(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / "src" / name).mkdir(parents=True)
        written(tmp_path / "src" / name / "a.json", [conversation(name)])
    store = MemoryStore()
    report = import_sessions(tmp_path / "src", store, on_conflict="replace")
    assert [(file.sessions, [one.reason for one in file.skipped]) for file in report.files] == [
        (1, []),
        (0, ["another session of the source has the same key (openai)"]),
    ]
    session = store.load("a")
    assert session is not None
    assert session.messages[0].content == "x"


def test_what_is_in_no_known_format_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InvalidStorageError, match="no sessions of a format that is known"):
        import_sessions(tmp_path, MemoryStore())
    with pytest.raises(StorageError, match="is not there"):
        import_sessions(tmp_path / "none", MemoryStore())
    written(tmp_path / "a.json", [conversation("one")])
    report = import_sessions(tmp_path, MemoryStore())
    assert [(file.name, file.format) for file in report.files] == [("a.json", "openai"), ("notes.txt", None)]


def test_arguments_are_refused_at_the_call(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(ValueError, match="format must be one of"):
        import_sessions(tmp_path, store, format="word")
    with pytest.raises(ValueError, match="on_conflict must be one of skip, replace, append, fail"):
        import_sessions(tmp_path, store, on_conflict="merge")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timezone must be a tzinfo"):
        import_sessions(tmp_path, store, timezone="UTC")  # type: ignore[arg-type]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """A pipe without a writer is open for ever; one below a directory is left out."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    for known in (None, "openai"):
        with pytest.raises(StorageError, match="is no file"):
            import_sessions(tmp_path / "pipe.jsonl", MemoryStore(), format=known)
    written(tmp_path / "chats.jsonl", [conversation("hi")])
    assert import_sessions(tmp_path, MemoryStore()).sessions == 1


@pytest.mark.parametrize("hidden", ["b.jsonl", "sub"])
def test_what_may_not_be_read_costs_itself_alone(tmp_path: Path, hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    source = Path("source")
    (source / "sub").mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl", "sub/c.jsonl"):
        written(source / name, [conversation("hi")])
    (source / hidden).chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        report = import_sessions(source, MemoryStore())
        with pytest.raises(StorageError, match="Permission denied"):
            import_sessions(source / hidden, MemoryStore())
    finally:
        os.seteuid(user)
    lost = {file.name: [one.reason for one in file.skipped] for file in report.files if file.skipped}
    assert (report.sessions, lost, report.ok) == (2, {hidden: ["cannot be read: Permission denied"]}, False)


def test_a_long_line_is_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small pieces, copying all of a line for each of them would take minutes."""
    monkeypatch.setattr("session_manager.importers.source._PIECE", 1_024)
    source = written(tmp_path / "long.jsonl", [conversation("hi"), conversation("x" * 16_000_000), conversation("ho")])
    begin = time.process_time()
    store = MemoryStore()
    assert import_sessions(source, store).messages == 3
    assert time.process_time() - begin < 10
    found = [store.load(key) for key in ("long:1", "long:2", "long:3")]
    assert [len(str(one.messages[0].content)) for one in found if one] == [2, 16_000_000, 2]
