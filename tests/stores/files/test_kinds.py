"""A directory belongs to one kind of store: a store that would not see the sessions in it is refused."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from session_manager import InvalidStorageError, SessionManager, StorageError, open_store
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore

STORES = {"snapshot": SnapshotStore, "log": LogStore}
OTHER = {"snapshot": "log", "log": "snapshot"}
SUFFIX = {"snapshot": ".session.json", "log": ".session.jsonl"}
NOUN = {"snapshot": "snapshots", "log": "logs"}


def fill(kind, path):
    """Save a session whose archive has a message."""
    with SessionManager(f"{kind}:{path}", archive=True) as m:
        for text in ("a", "b"):
            m.add_message("telegram:42", "user", text)
        m.truncate_history("telegram:42", keep_last=1)


def tree(path):
    return {name: (path / name).read_bytes() for name in os.listdir(path)}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", STORES)
def test_a_store_of_the_other_kind_is_refused(kind, read_only, tmp_path):
    """`SnapshotStore` on a directory of logs, or the other way round, opened it as empty, and removed its archives."""
    fill(kind, tmp_path / "chats")
    before = tree(tmp_path / "chats")
    assert any(name.endswith(".archive.jsonl") for name in before)
    with pytest.raises(InvalidStorageError) as caught:
        STORES[OTHER[kind]](tmp_path / "chats", read_only=read_only)
    assert caught.value.reason == f"is a directory of {NOUN[kind]}: open it as {kind}:{tmp_path / 'chats'}"
    assert tree(tmp_path / "chats") == before
    with SessionManager(tmp_path / "chats", archive=True) as m:
        assert [one.content for one in m.get_archive("telegram:42")] == ["a"]


@pytest.mark.parametrize("stray", ["a", "m", "zz", "Not-A-Key"])
@pytest.mark.parametrize("kind", STORES)
def test_one_stray_session_of_the_other_kind_is_refused(kind, stray, tmp_path):
    """The order of the directory decided which kind it was taken for, and all chats of the other one were empty."""
    path = tmp_path / "chats"
    with SessionManager(f"{kind}:{path}") as m:
        for number in range(5):
            m.add_message(f"chat {number}", "user", "hi")
    foreign = stray + SUFFIX[OTHER[kind]]
    (path / foreign).write_bytes(b"{}\n")
    before = tree(path)
    for url in (path, f"snapshot:{path}", f"log:{path}"):
        for read_only in (False, True):
            with pytest.raises(InvalidStorageError) as caught:
                open_store(url, read_only=read_only)
            for named in ("snapshots (", "logs (", foreign, "chat~200", "move one kind to a directory of its own"):
                assert named in caught.value.reason
    assert tree(path) == before
    (path / foreign).unlink()
    with SessionManager(path) as m:
        assert len(m) == 5


@pytest.mark.parametrize("hidden", [".quarantine-0123456789abcdef-a.session.json", ".a.session.json"])
def test_hidden_files_of_the_other_kind_are_no_sessions(hidden, tmp_path):
    fill("log", tmp_path / "chats")
    (tmp_path / "chats" / hidden).write_bytes(b"{}\n")
    with closing(open_store(tmp_path / "chats")) as store:
        assert (type(store), list(store.keys())) == (LogStore, ["telegram:42"])


@pytest.mark.parametrize("data", [b'{"theme": "dark"}', b"[]", b"not JSON"])
def test_json_of_other_programs_does_no_harm_to_logs(data, tmp_path):
    fill("log", tmp_path / "chats")
    (tmp_path / "chats" / "settings.json").write_bytes(data)
    with SessionManager(tmp_path / "chats") as m:
        assert list(m) == ["telegram:42"]


def test_a_reader_notices_that_a_writer_of_another_kind_came(tmp_path):
    """A bare path that was empty was opened for reading as snapshots, and never showed the logs that came."""
    path = tmp_path / "chats"
    with SessionManager(f"log:{path}") as writer, SessionManager(path, read_only=True) as reader:
        assert list(reader) == []
        writer.add_message("telegram:42", "user", "hi")
        writer.save_all()
        with pytest.raises(StorageError, match="is a directory of logs: open it as log:"):
            list(reader)


def test_what_a_crash_leaves_of_the_first_session_opens_again(tmp_path):
    """Its archive is marked as garbage, so that no session is missing."""
    store = LogStore(tmp_path / "chats")
    m = SessionManager(store, archive=True)
    for text in ("a", "b"):
        m.add_message("telegram:42", "user", text)
    m.truncate_history("telegram:42", keep_last=1)
    commit = m._residents.peek("telegram:42").commit("token", archive=True)
    store._archives.prepare(commit, lambda: None)  # then it was killed
    m.close(save=False)
    store.close()
    assert (tmp_path / "chats" / "telegram~3a42.archive.jsonl").exists()
    with SessionManager(tmp_path / "chats") as m:
        assert (list(m), m.verify()) == ([], [])


def test_archives_alone_open_under_the_name_of_a_kind(tmp_path):
    """A bare path does not tell of which kind their sessions are."""
    fill("log", tmp_path / "chats")
    (tmp_path / "chats" / "telegram~3a42.session.jsonl").rename(tmp_path / "aside")
    with pytest.raises(InvalidStorageError, match="holds archives"):
        open_store(tmp_path / "chats")
    with SessionManager(f"log:{tmp_path / 'chats'}") as m:
        assert len(m.verify()) == 1


def test_a_database_beside_sessions_does_no_harm(tmp_path):
    """A bare path is refused only where the sessions could be in the database alone."""
    fill("snapshot", tmp_path / "chats")
    with SessionManager(f"sqlite:{tmp_path / 'chats' / 'backup.db'}") as m:
        m.add_message("telegram:42", "user", "hi")
    with SessionManager(tmp_path / "chats") as m:
        assert list(m) == ["telegram:42"]
    (tmp_path / "data").mkdir()
    with SessionManager(f"sqlite:{tmp_path / 'data' / 'chats.db'}") as m:
        m.add_message("telegram:42", "user", "hi")
    with pytest.raises(InvalidStorageError, match="give sqlite:"):
        open_store(tmp_path / "data")
    with SessionManager(f"snapshot:{tmp_path / 'data'}") as m:
        assert list(m) == []
