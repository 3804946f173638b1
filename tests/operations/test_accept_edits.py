"""Edits by hand that are signed anew: `accept_edits`."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest

from session_manager import (
    CorruptSessionError,
    InvalidKeyError,
    SessionManager,
    SessionNotFoundError,
    StorageLockedError,
    UnsupportedFormatError,
    converter,
)
from session_manager.operations import AcceptedEdits, accept_edits, quarantine
from session_manager.stores.memory import MemoryStore

FILES = {"snapshot": "k.session.json", "log": "k.session.jsonl"}
KINDS = (*FILES, "sqlite")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def made(kind, path):
    """Make a storage with a session of six messages, three of them archived; return its URL."""
    url = f"{kind}:{path}"
    with SessionManager(url, archive=True) as m:
        for number in range(6):
            m.add_message("k", "user", f"text {number}")
            m.save("k")
        m.truncate_history("k", 3)
        m.save("k")
        m.set_summary("k", "summary")
        m.update_metadata("k", {"a": 1})
    return url


def edit(kind, path, old, new):
    """Replace a text in the session and in its archive."""
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            for table, column in (("messages", "line"), ("archive", "line"), ("sessions", "state")):
                db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))  # noqa: S608
        return
    for name in (FILES[kind], "k.archive.jsonl"):
        file = path / name
        file.write_text(file.read_text().replace(old, new))


def test_edited_texts_are_signed_and_the_edited_bytes_are_kept(kind, tmp_path):
    url = made(kind, tmp_path / "c")
    edit(kind, tmp_path / "c", "text ", "a longer text ")
    edit(kind, tmp_path / "c", 'summary":"summary', 'summary":"another')
    with SessionManager(url, archive=True) as m, pytest.raises(CorruptSessionError):
        m.get_history("k")
    done = accept_edits(url, "k")
    assert (done.key, done.messages, done.archived, done.signed) == ("k", 3, 3, True)
    assert {one.name for one in quarantine.list(url)} == {*done.quarantined}
    assert b"a longer text 5" in b"".join(quarantine.show(url, name) for name in done.quarantined)
    assert converter.structure(done.to_dict(), AcceptedEdits) == done
    with SessionManager(url, archive=True) as m:
        assert [one.content for one in m.get_history("k")] == [f"a longer text {number}" for number in (3, 4, 5)]
        assert [one.content for one in m.get_archive("k")] == [f"a longer text {number}" for number in (0, 1, 2)]
        assert m.get_summary("k") == ("summary" if kind == "log" else "another")
        assert m.verify() == []
        assert m.add_message("k", "user", "more").position == 6
        m.save("k")
    assert not accept_edits(url, "k").signed


def test_only_the_archive_was_edited(kind, tmp_path):
    url = made(kind, tmp_path / "c")
    edit(kind, tmp_path / "c", "text 1", "edited")
    done = accept_edits(url, "k")
    assert done.signed
    with SessionManager(url, archive=True) as m:
        assert [one.content for one in m.get_archive("k")] == ["text 0", "edited", "text 2"]
        assert len(m.get_history("k")) == 3


def test_a_snapshot_may_have_any_layout_and_other_messages(tmp_path):
    url = made("snapshot", tmp_path / "c")
    file = tmp_path / "c" / FILES["snapshot"]
    value = json.loads(file.read_text())
    del value["messages"][1], value["crc32"]
    value["messages"].append({**value["messages"][0], "position": 9})
    file.write_text(json.dumps(value, indent=4))
    assert accept_edits(url, "k").messages == 3
    with SessionManager(url, archive=True) as m:
        assert [one.position for one in m.get_history("k")] == [3, 5, 9]
        assert m.add_message("k", "user", "more").position == 10


def test_rows_of_a_database_may_be_deleted(tmp_path):
    url = made("sqlite", tmp_path / "c")
    with contextlib.closing(sqlite3.connect(tmp_path / "c")) as db, db:
        db.execute("DELETE FROM messages WHERE position = 5")
    assert accept_edits(url, "k").messages == 2
    with SessionManager(url) as m:
        assert [one.position for one in m.get_history("k")] == [3, 4]
        assert m.verify() == []
        assert m.add_message("k", "user", "more").position == 6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"role":"user"', '"role":""'),
        ('"position":4', '"position":3'),
        ('{"position":4', '{"position":4,,'),
        ('"k"', '"j"'),
    ],
)
def test_what_is_no_session_is_refused_and_stays(kind, tmp_path, old, new):
    url = made(kind, tmp_path / "c")
    edit(kind, tmp_path / "c", old, new)
    if kind == "sqlite" and old == '"position":4':
        new = old  # the column tells
    place = tmp_path / "c"
    before = None if kind == "sqlite" else (place / FILES[kind]).read_bytes()
    if kind == "log" and old not in ('"role":"user"', '"k"'):
        return  # messages in records have no positions
    with pytest.raises(CorruptSessionError):
        accept_edits(url, "k")
    assert before is None or (place / FILES[kind]).read_bytes() == before
    assert quarantine.list(url) == ()


def test_a_number_in_a_log_must_still_agree(tmp_path):
    url = made("log", tmp_path / "c")
    file = tmp_path / "c" / FILES["log"]
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(CorruptSessionError, match="does not follow"):
        accept_edits(url, "k")
    file.write_bytes(data[:-2] + b"\n")
    with pytest.raises(CorruptSessionError):
        accept_edits(url, "k")


@pytest.mark.parametrize("kind", FILES)
def test_a_newer_version_is_refused(kind, tmp_path):
    url = made(kind, tmp_path / "c")
    edit(kind, tmp_path / "c", "session_manager/1", "session_manager/2")
    edit(kind, tmp_path / "c", "session_manager-log/1", "session_manager-log/2")
    with pytest.raises(UnsupportedFormatError):
        accept_edits(url, "k")


def test_mistakes(kind, tmp_path):
    url = made(kind, tmp_path / "c")
    with pytest.raises(InvalidKeyError):
        accept_edits(url, "")
    with pytest.raises(SessionNotFoundError):
        accept_edits(url, "nobody")
    if kind != "sqlite":
        with SessionManager(url), pytest.raises(StorageLockedError):
            accept_edits(url, "k")


def test_another_manager_of_a_database_notices(tmp_path):
    url = made("sqlite", tmp_path / "c")
    with SessionManager(url) as m:
        assert len(m.get_history("k")) == 3
        edit("sqlite", tmp_path / "c", "text ", "edited ")
        accept_edits(url, "k")
        assert [one.content for one in m.get_history("k")] == ["edited 3", "edited 4", "edited 5"]


def test_a_store_without_checksums_has_nothing_to_sign():
    store = MemoryStore()
    with SessionManager(store) as m:
        m.add_message("k", "user", "hi")
    assert not accept_edits(store, "k").signed
    assert store.accept_edits("k") == []
