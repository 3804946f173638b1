"""What becomes of an imported session in a store: its archive, its place, and what is there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone

import attrs
import pytest

from session_manager import SessionManager
from session_manager.importers.reading import ImportedSession
from session_manager.importers.writing import MARK, Origin, Outcome, Writer
from session_manager.model import Message
from session_manager.stores.contract import Store
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore

AT = datetime(2025, 5, 1, tzinfo=timezone.utc)
ORIGIN = Origin("openai", "a.json")


class WithoutArchive(MemoryStore):
    archives = False


def said(*texts: str) -> list[Message]:
    return [Message("user", text, created_at=AT + timedelta(minutes=n)) for n, text in enumerate(texts)]


ONE = ImportedSession(
    key="k",
    archived=said("a", "b"),
    messages=said("c", "d"),
    summary="so far",
    metadata={"topic": "x", MARK: "theirs"},
    created=AT - timedelta(days=1),
    line=7,
)


@pytest.fixture(params=[MemoryStore, SnapshotStore, LogStore, SQLiteStore], ids=lambda one: one.__name__)
def store(request: pytest.FixtureRequest, tmp_path) -> Iterator[Store]:
    opened = request.param() if request.param is MemoryStore else request.param(tmp_path / "chats")
    yield opened
    opened.close()


def put(store: Store, one: ImportedSession, on_conflict: str = "skip") -> Outcome:
    return Writer(store, on_conflict, is_dry=False).write([(one, ORIGIN)])[0]  # type: ignore[arg-type]


def shown(store: Store) -> tuple[list[object], list[object]]:
    session = store.load("k")
    assert session is not None
    assert store.verify("k") == []
    return [one.content for one in session.messages], [one.content for one in store.archive("k")]


def test_what_was_dropped_from_a_history_goes_to_the_archive(store: Store) -> None:
    assert put(store, ONE) == Outcome(is_written=True, messages=4)
    assert shown(store) == (["c", "d"], ["a", "b"])
    session = store.load("k")
    assert session is not None
    assert (session.summary, session.created, session.updated) == (
        "so far",
        AT - timedelta(days=1),
        AT + timedelta(minutes=1),
    )
    assert (session.start, session.end) == (2, 4)
    assert session.metadata["topic"] == "x"
    assert session.metadata[MARK]["metadata"] == "theirs"
    assert put(store, ONE) == Outcome(is_present=True)


def test_a_replacement_brings_its_archive_and_takes_the_old_one(store: Store) -> None:
    with SessionManager(store, archive=True) as m:
        m.add("k", *({"role": "user", "content": f"ours {n}"} for n in range(5)))
        m.save("k")
        m.truncate_history("k", 2)
    assert put(store, ONE, "replace") == Outcome(is_written=True, messages=4)
    assert shown(store) == (["c", "d"], ["a", "b"])
    session = store.load("k")
    assert session is not None
    assert session.summary == "so far"
    shorter = attrs.evolve(ONE, archived=(), messages=said("z"), summary="")
    assert put(store, shorter, "replace").is_written
    assert shown(store) == (["z"], [])


def test_a_store_without_archives_says_what_it_left_out() -> None:
    store = WithoutArchive()
    outcome = put(store, ONE)
    assert (outcome.is_written, outcome.messages) == (True, 2)
    assert [(one.key, one.line, one.reason) for one in outcome.skipped] == [
        ("k", 7, "2 messages that were dropped from the history: the storage keeps no archive")
    ]
    session = store.load("k")
    assert session is not None
    assert [one.content for one in session.messages] == ["c", "d"]


def test_dropped_messages_are_not_appended_to_a_session_of_ours(store: Store) -> None:
    with SessionManager(store) as m:
        m.add_message("k", "user", "ours")
    outcome = put(store, ONE, "append")
    assert outcome.messages == 2
    assert "2 messages that were dropped from the history" in outcome.skipped[0].reason
    assert shown(store) == (["ours", "c", "d"], [])
    assert put(store, ONE, "append") == Outcome(is_present=True)


def test_a_key_that_is_none_and_one_that_comes_twice_are_left_out() -> None:
    store = MemoryStore()
    outcomes = Writer(store, "skip", is_dry=False).write(
        [(attrs.evolve(ONE, key=key), ORIGIN) for key in ("", "k", "k", "x" * 2000)]
    )
    assert [one.is_written for one in outcomes] == [False, True, False, False]
    assert [one.skipped[0].reason for one in outcomes if one.skipped] == [
        "its key is empty or a directory's name",
        "another session of the source has the same key (openai)",
        "its key is 2,000 bytes in UTF-8, more than 1,024",
    ]


def test_a_session_that_cannot_be_read_is_left_alone(tmp_path) -> None:
    with closing(SnapshotStore(tmp_path / "chats")) as opened:
        put(opened, ONE)
    (file,) = (tmp_path / "chats").glob("*.session.json")
    file.write_bytes(file.read_bytes()[:-9])
    before = file.read_bytes()
    with closing(SnapshotStore(tmp_path / "chats")) as opened:
        for on_conflict in ("skip", "replace", "append", "fail"):
            outcome = put(opened, ONE, on_conflict)
            assert outcome.skipped[0].reason == "the session that is there cannot be read"
    assert file.read_bytes() == before
