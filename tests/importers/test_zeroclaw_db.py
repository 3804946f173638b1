"""zeroclaw's database: of any version, with its branches, and only read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from session_manager.importers import import_sessions
from session_manager.stores.memory import MemoryStore
from tests.support.foreign_files import database_of, examples, plain, read_all

LATER, EARLY = (
    next(one for one in examples() if (one.format, one.name) == ("zeroclaw-db", name))
    for name in ("sessions.db", "early.db")
)
SCHEMA = (Path(__file__).parent / "files" / "zeroclaw-db" / "early.sql").read_text().partition("INSERT")[0]


def test_what_is_known_of_a_session_comes_along() -> None:
    sessions, flaws = read_all("zeroclaw-db", LATER.name, LATER.data)
    session = {one.key: one for one in sessions}["telegram:43"]
    assert session.metadata == {
        "name": "Trip",
        "state": "running",
        "turn_id": "t1",
        "agent_alias": "clamps",
        "channel_id": "telegram.clamps",
    }
    assert session.created == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc)
    assert session.updated == datetime(2026, 1, 3, 1, 4, 5, tzinfo=timezone.utc)
    assert [message["role"] for message in plain(session)] == ["user", "assistant", "tool", "assistant"]
    assert "tool_calls" in plain(session)[1]
    assert [(one.line, one.reason) for one in flaws] == [(5, "created_at: is not a time")]
    assert session.messages[3].created_at == session.messages[2].created_at


def test_messages_without_metadata_are_a_session() -> None:
    sessions, _ = read_all("zeroclaw-db", LATER.name, LATER.data)
    assert plain({one.key: one for one in sessions}["cron"]) == [{"role": "user", "content": "no metadata"}]


def test_the_active_branch_is_the_session() -> None:
    sessions, _ = read_all("zeroclaw-db", LATER.name, LATER.data)
    found = {one.key: [message["content"] for message in plain(one)] for one in sessions if one.key.startswith("tree")}
    assert found == {"tree": ["root", "second try"], "tree:m4": ["root", "first try", "to the first"]}
    other = next(one for one in sessions if one.key == "tree:m4")
    assert (other.metadata["branch_of"], other.messages[0].metadata["node_meta"]) == ("tree", '{"x":1}')


def test_later_columns_may_be_missing() -> None:
    sessions, flaws = read_all("zeroclaw-db", EARLY.name, EARLY.data)
    assert [(one.key, dict(one.metadata), plain(one)) for one in sessions] == [
        ("old", {}, [{"role": "user", "content": "hi"}])
    ]
    assert flaws == []


def test_a_damaged_row_costs_itself_alone() -> None:
    rows = "INSERT INTO sessions VALUES (1, 'a', 'user', 'one', ''), (2, 'a', x'ff', 'two', ''), (3, 'a', 'user', CAST(x'ff' AS TEXT), ''), (4, 'a', 'user', 'four', '');"
    about = "INSERT INTO session_metadata VALUES ('a', 'x', '2026-01-01T00:00:00Z', 1), (x'00', '', '', 1);"
    sessions, flaws = read_all("zeroclaw-db", "a.db", database_of(SCHEMA + rows + about))
    assert [message["content"] for message in plain(sessions[0])] == ["one", "four"]
    assert [(one.line, one.reason) for one in flaws] == [
        (None, "created_at: is not a time"),
        (2, "role: must be a string, not bytes"),
        (3, "content: must be a string, not bytes"),
        (None, "session_key: is not text"),
    ]


def test_tables_of_another_program_are_refused() -> None:
    for script in (
        "CREATE TABLE sessions (id, x); CREATE TABLE session_metadata (session_key);",
        "CREATE TABLE x (y);",
    ):
        sessions, flaws = read_all("zeroclaw-db", "a.db", database_of(script))
        assert (sessions, [one.reason for one in flaws]) == ([], ["the table sessions is not zeroclaw's"])


def test_a_database_in_use_is_read_and_left_alone(tmp_path: Path) -> None:
    """zeroclaw keeps its database open in WAL mode; what it has committed is in the log beside it."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "sessions.db").write_bytes(EARLY.data)
    with closing(sqlite3.connect(source / "sessions.db")) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("INSERT INTO sessions (session_key, role, content, created_at) VALUES ('new', 'user', 'hi', '')")
        writer.commit()
        store = MemoryStore()
        report = import_sessions(source, store)
        assert (report.sessions, sorted(store.keys())) == (2, ["new", "old"])
    before = (source / "sessions.db").read_bytes()
    import_sessions(source, MemoryStore())
    assert [path.name for path in source.iterdir()] == ["sessions.db"]
    assert (source / "sessions.db").read_bytes() == before
