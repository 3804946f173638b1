"""Figures, checks and compaction of a whole storage: `stats`, `verify`, `compact`."""

from __future__ import annotations

import importlib
import os
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest

from session_manager import (
    CorruptSessionError,
    InvalidKeyError,
    SessionManager,
    SessionNotFoundError,
    StorageError,
    StorageLockedError,
    converter,
    open_store,
    operations,
)
from session_manager.operations import CompactReport, Group, Stats, compact, stats, verify
from session_manager.stores.memory import MemoryStore
from session_manager.testing import Clock

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
KINDS = ("snapshot", "log", "sqlite")


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    """A storage with three sessions, of which one has an archive."""
    url = f"{request.param}:{tmp_path / 'chats'}"
    clock = Clock(AT)
    with SessionManager(url, archive=True, clock=clock) as m:
        for key, count in (("telegram:1", 9), ("telegram:2", 1), ("slack", 2)):
            for number in range(count):
                m.add_message(key, "user", f"message {number} " + "x" * 500)
        m.set_summary("slack", "s")
        m.set_expiry("telegram:2", timedelta(days=9))
        m.save_all()
        m.truncate_history("telegram:1", 3)
        clock.advance(60)
        m.add_message("telegram:1", "user", "last " + "x" * 500)
    return url


def damage(url, key):
    """Damage a session's last message."""
    if url.startswith("sqlite"):
        import sqlite3

        with closing(sqlite3.connect(url.partition(":")[2])) as db, db:
            db.execute("UPDATE sessions SET state = state || ' ' WHERE key = ?", (key,))
        return
    directory = url.partition(":")[2]
    (name,) = (n for n in os.listdir(directory) if n.startswith(key) and ".session." in n)
    with open(os.path.join(directory, name), "r+b") as file:
        file.seek(20)
        file.write(b"\0\0\0")


# Figures


def test_figures_of_a_storage(url):
    found = stats(url)
    assert (found.sessions, found.damaged, found.messages) == (3, 0, 7)
    assert (found.summaries, found.expiring) == (1, 1)
    assert found.oldest >= AT
    assert found.latest == AT + timedelta(minutes=1)
    assert {name: (group.sessions, group.messages) for name, group in found.groups.items()} == {
        "": (1, 2),
        "telegram": (2, 5),
    }
    assert sum(group.bytes for group in found.groups.values()) == found.bytes
    assert found.groups["telegram"].bytes > 10 * 500, "the archive counts"
    assert 12 * 500 < found.bytes <= found.total_bytes
    assert converter.structure(found.to_dict(), Stats) == found


def test_figures_of_a_prefix(url):
    found = stats(url, prefix="tele")
    assert (found.sessions, found.messages, list(found.groups)) == (2, 5, ["telegram"])
    assert stats(url, prefix="nobody").groups == {}


def test_a_damaged_session_is_counted_as_such(url):
    damage(url, "slack")
    found = stats(url)
    assert (found.sessions, found.damaged, found.messages) == (3, 1, 5)


def test_figures_of_an_empty_storage(tmp_path):
    SessionManager(tmp_path / "chats").close()
    found = stats(tmp_path / "chats")
    assert (found.sessions, found.bytes, found.oldest, found.latest, found.groups) == (0, 0, None, None, {})


def test_a_store_that_cannot_tell_sizes_says_none():
    store = MemoryStore()
    with SessionManager(store) as m:
        m.add_message("a:1", "user", "hi")
    found = stats(store)
    assert (found.bytes, found.total_bytes) == (None, None)
    assert found.groups == {"a": Group(sessions=1, messages=1)}


def test_figures_beside_a_writer(url):
    """The writer keeps its lock, and its unsaved messages are its own."""
    with SessionManager(url) as m:
        m.add_message("telegram:1", "user", "unsaved")
        assert stats(url).messages == 7
        m.save_all()
        assert stats(url).messages == 8


def test_sizes_are_those_of_the_files(tmp_path):
    url = f"snapshot:{tmp_path / 'chats'}"
    with SessionManager(url) as m:
        m.add_message("k" * 300, "user", "x" * 1000)
        m.add_message("a", "user", "hi")
    with closing(open_store(url, read_only=True)) as store:
        sizes = store.sizes()
        assert sizes.keys() == {"a", "k" * 300}
        files = [p.stat().st_size for p in (tmp_path / "chats").glob("*.session.json")]
        assert sorted(sizes.values()) == sorted(files)
        assert store.sizes("a") == {"a": sizes["a"]}


# A check of everything


def test_nothing_is_found_in_a_sound_storage(url):
    assert verify(url) == verify(url, "slack") == verify(url, "nobody") == []


def test_damage_is_found_among_sound_sessions(url):
    damage(url, "slack")
    (finding,) = verify(url)
    assert finding.key == "slack"
    assert verify(url, "slack") == [finding]
    assert verify(url, "telegram:1") == []


def test_what_lies_beside_sessions_is_found(tmp_path):
    with SessionManager(f"log:{tmp_path / 'chats'}") as m:
        m.add_message("k", "user", "hi")
    (tmp_path / "chats" / "Not A Key.session.jsonl").write_text("{}")
    (finding,) = verify(tmp_path / "chats")
    assert finding.key is None
    assert finding.path.endswith("Not A Key.session.jsonl")


@pytest.mark.parametrize("call", [verify, stats, compact])
def test_progress_ends_with_all_sessions(url, call):
    told = []
    call(url, progress=lambda *one: told.append(one))
    assert told[-1][:2] == (3, 3)
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})
    if not url.startswith("sqlite"):
        assert told == [(1, 3, "slack"), (2, 3, "telegram:1"), (3, 3, "telegram:2")]


# Compaction


@pytest.mark.parametrize("key", [None, "telegram:1"])
def test_compaction_gives_space_back(tmp_path, key):
    for kind in ("log", "sqlite"):
        url = f"{kind}:{tmp_path / kind}"
        with SessionManager(url) as m:
            for number in range(20):
                m.add_message("telegram:1", "user", f"{number}" + "x" * 5000)
            m.add_message("b", "user", "hi")
            m.save_all()
            m.truncate_history("telegram:1", 12)
            m.save_all()
            before = m.get("telegram:1")
        report = compact(url, key)
        assert report.sessions == (2 if key is None else 1)
        assert report.damaged == {}
        assert report.after < report.before - 5 * 5000
        with SessionManager(url, read_only=True) as m:
            assert m.get("telegram:1") == before
        assert verify(url) == []


def test_a_damaged_session_is_reported_and_the_others_compacted(tmp_path):
    url = f"log:{tmp_path / 'chats'}"
    with SessionManager(url) as m:
        for key in "abc":
            m.add_message(key, "user", "hi")
    damage(url, "b")
    report = compact(url)
    assert report.sessions == 2
    assert report.damaged.keys() == {"b"}
    assert isinstance(report.damaged["b"], CorruptSessionError)
    assert converter.structure(report.to_dict(), CompactReport).damaged.keys() == {"b"}
    with pytest.raises(CorruptSessionError):
        compact(url, "b")


def test_a_missing_session_is_not_compacted(url):
    with pytest.raises(SessionNotFoundError):
        compact(url, "nobody")


def test_a_storage_that_is_open_is_not_compacted(tmp_path):
    with SessionManager(f"log:{tmp_path / 'chats'}"), pytest.raises(StorageLockedError):
        compact(tmp_path / "chats")


# Arguments


@pytest.mark.parametrize("call", [stats, verify, compact])
def test_wrong_arguments_open_nothing(tmp_path, call):
    with pytest.raises(TypeError, match="progress"):
        call(tmp_path / "chats", progress=1)
    with pytest.raises((TypeError, InvalidKeyError)):
        call(tmp_path / "chats", **{"prefix" if call is stats else "key": 3})
    assert not (tmp_path / "chats").exists()


@pytest.mark.parametrize("call", [stats, verify])
def test_what_reads_creates_nothing(tmp_path, call):
    with pytest.raises(StorageError):
        call(tmp_path / "chats")
    assert not (tmp_path / "chats").exists()


@pytest.mark.parametrize("call", [stats, verify, compact])
def test_a_store_stays_open_and_is_given_back(tmp_path, call):
    with closing(open_store(f"log:{tmp_path / 'chats'}")) as store:
        call(store)
        with SessionManager(store) as m:
            m.add_message("k", "user", "hi")
            with pytest.raises(StorageLockedError):
                call(store)


def test_every_name_of_the_room_is_its_homes():
    for name, home in operations._HOMES.items():
        assert getattr(operations, name) is getattr(importlib.import_module(f"session_manager.{home}"), name)
    assert dir(operations)
    with pytest.raises(AttributeError, match="nothing"):
        operations.nothing  # noqa: B018 - asked for
