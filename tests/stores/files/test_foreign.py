"""A directory with another program's sessions is never shown as empty, and a file beside ours does not stop a bot."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from session_manager import InvalidStorageError, SessionManager, StorageError, open_store
from session_manager.operations import backup, verify
from session_manager.stores import copy
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.foreign_files import Example, examples
from tests.support.go_files import GOLDEN, go_file, go_lines, go_meta

EXPORT = b'{"messages": [{"role": "user", "content": "hi"}]}\n'
DIRECTORIES = {
    "picoclaw-json": {"telegram_42.json": GOLDEN, "slack_1.json": go_file("slack:1"), "notes.json": b"{}"},
    "picoclaw-jsonl": {
        "telegram_42.jsonl": go_lines(),
        "telegram_42.meta.json": go_meta(),
        "new.meta.json": go_meta("new"),
        "old.json.migrated": GOLDEN,
    },
    "openai": {"export.jsonl": EXPORT, "b.json": EXPORT},
}
OPENINGS: dict[str, Callable[[Path], object]] = {
    "a bare path": open_store,
    "a bare path, read-only": lambda path: open_store(path, read_only=True),
    "snapshots": SnapshotStore,
    "logs": LogStore,
    "snapshots, read-only": lambda path: SnapshotStore(path, read_only=True),
    "logs, read-only": lambda path: LogStore(path, read_only=True),
    "a manager": SessionManager,
    "verify": verify,
    "copy": lambda path: copy(path, MemoryStore()),
    "backup": lambda path: backup(path, f"{path}-backup"),
}


def filled(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(0o700, exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def ours(path: Path, kind: str) -> Path:
    with SessionManager(f"{kind}:{path}") as m:
        m.add_message("telegram:42", "user", "ours")
    return path


def tree(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in os.listdir(path)}


@pytest.mark.parametrize("known", DIRECTORIES)
@pytest.mark.parametrize("opening", OPENINGS)
def test_other_programs_sessions_are_not_shown_as_an_empty_storage(known: str, opening: str, tmp_path: Path) -> None:
    """A directory of picoclaw's JSONL opened as empty, `verify` was ``[]``, and `copy` said that all was well."""
    path = filled(tmp_path / "chats", DIRECTORIES[known])
    with pytest.raises(InvalidStorageError) as caught:
        OPENINGS[opening](path)
    for told in ("holds 2 files of sessions", known, "adopt(" if known != "openai" else "import_sessions("):
        assert told in str(caught.value)
    assert tree(path) == DIRECTORIES[known]
    assert os.listdir(tmp_path) == ["chats"]


@pytest.mark.parametrize("kind", ["snapshot", "log"])
@pytest.mark.parametrize("read_only", [False, True])
def test_picoclaws_sessions_beside_ours_are_refused(kind: str, *, read_only: bool, tmp_path: Path) -> None:
    path = filled(ours(tmp_path / "chats", kind), {"old_1.json": go_file("old:1")})
    with pytest.raises(
        InvalidStorageError, match="are not adopted, or not to the end: stop that program, and call adopt"
    ):
        open_store(path, read_only=read_only)
    (path / "old_1.json.migrated").write_bytes(go_file("old:1"))
    with pytest.raises(InvalidStorageError, match=r"has written old_1.json again since it was adopted"):
        open_store(path, read_only=read_only)
    (path / "old_1.json").unlink()
    with SessionManager(path, read_only=read_only) as m:
        assert (list(m), m.verify()) == (["telegram:42"], [])


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_a_file_beside_ours_does_not_stop_a_bot_and_is_named(kind: str, tmp_path: Path) -> None:
    path = filled(ours(tmp_path / "chats", kind), {"export.jsonl": EXPORT})
    with SessionManager(path) as m:
        assert list(m) == ["telegram:42"]
        (finding,) = m.verify()
        assert (finding.key, os.path.basename(finding.path)) == (None, "export.jsonl")
        assert (
            finding.reason
            == "holds sessions in the format openai, which are not shown: import them, or move the file elsewhere"
        )
        assert m.delete("telegram:42")
    with SessionManager(path, read_only=True) as m:  # no session of ours is left
        assert (list(m), len(m.verify())) == ([], 1)
    backup(path, tmp_path / "backup")
    assert os.listdir(tmp_path / "backup") == ["backup.manifest"]


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_what_picoclaw_writes_beside_an_open_store_is_named(kind: str, tmp_path: Path) -> None:
    path = ours(tmp_path / "chats", kind)
    with SessionManager(path) as m, SessionManager(path, read_only=True) as reader:
        assert list(reader) == ["telegram:42"]
        filled(path, {"old_1.json": go_file("old:1")})
        assert [finding.reason for finding in m.verify()] == [
            "holds sessions in the format picoclaw-json, which are not shown: adopt them"
        ]
        with pytest.raises(StorageError, match="picoclaw-json"):
            list(reader)


def agents_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY)")
        connection.execute("CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, session_id TEXT, message_data TEXT)")
        connection.executemany("INSERT INTO agent_sessions VALUES (?)", [("a",), ("b",)])
        connection.commit()


@pytest.mark.parametrize("url", ["{}/c.db", "sqlite:{}/c.db", "{}"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_another_program_is_named(url: str, *, read_only: bool, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    agents_database(tmp_path / "c.db")
    before = tree(tmp_path)
    with pytest.raises(
        InvalidStorageError, match=r"holds 2 sessions in the format openai-agents: import them with import_sessions\("
    ):
        open_store(url.format(tmp_path), read_only=read_only)
    assert tree(tmp_path) == before


def test_a_database_of_another_program_beside_ours_does_not_stop_a_bot(tmp_path: Path) -> None:
    path = ours(tmp_path / "chats", "log")
    agents_database(path / "c.db")
    with SessionManager(path) as m:
        assert list(m) == ["telegram:42"]
    agents_database(tmp_path / "d.db")
    open_store(f"snapshot:{tmp_path}").close()  # which was asked for by name


def test_what_only_reads_a_directory_looks_below_it(tmp_path: Path) -> None:
    """`copy` of a directory with a directory for each project, or each day, said that all was well."""
    filled(tmp_path / "chats", {"notes.txt": b""})
    (tmp_path / "chats" / ".git").mkdir()
    filled(tmp_path / "chats" / ".git", {"a.json": EXPORT})
    open_store(tmp_path / "chats", read_only=True).close()
    (tmp_path / "chats" / "2026" / "01").mkdir(parents=True)
    filled(tmp_path / "chats" / "2026" / "01", {"a.jsonl": EXPORT})
    for read in (verify, lambda path: copy(path, MemoryStore()), lambda path: backup(path, tmp_path / "b")):
        with pytest.raises(InvalidStorageError, match=r"openai \(such as 2026.01.a.jsonl\)"):
            read(tmp_path / "chats")
    with SessionManager(tmp_path / "chats") as m:
        assert list(m) == []
    open_store(tmp_path / "chats", read_only=True).close()  # ours now


OTHERS = {
    "package.json": b'{"name": "bot", "version": "1.0.0", "dependencies": {}}',
    "tsconfig.json": b"[]",
    "key.json": b'{"key": "telegram:42"}',
    "null.json": b"null",
    "broken.json": b"{",
    "empty.json": b"",
    ".hidden.json": go_file(),
    "old.json.migrated": go_file(),
    "telegram_42.json.bak": go_file(),
    "telegram_42.JSON": go_file(),
    "events.jsonl": b'{"event": "start"}\n',
    "notes.txt": go_file(),
}


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_files_that_hold_no_sessions_are_left_alone(kind: str, tmp_path: Path) -> None:
    path = filled(tmp_path / "chats", OTHERS)
    (path / "cache.json").mkdir()
    (path / "link.json").symlink_to(tmp_path / "outside.json")
    (tmp_path / "outside.json").write_bytes(go_file())
    with SessionManager(f"{kind}:{path}") as m:
        assert (list(m), m.verify()) == ([], [])
        m.add_message("package", "user", "hi")
        m.save_all()
        m.delete("package")
    assert {name: (path / name).read_bytes() for name in OTHERS} == OTHERS


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_a_users_own_files_are_nobodys_sessions(kind: str, tmp_path: Path) -> None:
    """Greetings in ``messages``, and ids in ``conversations``, kept a new bot from its directory."""
    files = {
        "greetings.json": b'{"messages": ["Hello!", "Welcome back"], "language": "en"}',
        "active.json": b'{"conversations": ["c1", "c2"]}',
        "lint.json": b'[{"filePath": "a.js", "messages": [{"ruleId": "semi", "line": 1}]}]',
        "package.json": b'{"name": "bot", "version": "1.0.0"}',
        "notes.json": b'[{"title": "milk"}]',
        "events.jsonl": b'{"type": "start", "message": "hi"}\n',
    }
    with SessionManager(f"{kind}:{filled(tmp_path / 'chats', files)}") as m:
        assert (list(m), m.verify()) == ([], [])


@pytest.mark.parametrize(
    "example", [one for one in examples() if not one.name.endswith(".db")], ids=lambda one: f"{one.format}-{one.name}"
)
@pytest.mark.parametrize("kind", ["", "snapshot:", "log:"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_directory_of_any_format_is_refused(example: Example, kind: str, *, read_only: bool, tmp_path: Path) -> None:
    path = filled(tmp_path / "chats", {example.name: example.data})
    with pytest.raises(InvalidStorageError, match=example.format):
        SessionManager(f"{kind}{path}", read_only=read_only)
    assert tree(path) == {example.name: example.data}
