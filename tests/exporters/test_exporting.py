"""The calls: where an export goes, beside a writer, and what can go wrong."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import stat
import sys
from contextlib import closing

import pytest

from session_manager import (
    CorruptSessionError,
    InvalidKeyError,
    InvalidStorageError,
    SessionManager,
    SessionNotFoundError,
    StorageError,
    StoreInUseError,
    open_store,
)
from session_manager.codec.exported import of_document
from session_manager.exporters import FORMATS, export, export_sessions
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.streaming import write_pieces
from session_manager.stores.memory import MemoryStore

KEY = "telegram:42"


def fill(url):
    with SessionManager(url, archive=True) as m:
        for number in range(4):
            m.add_message(KEY, "user", f"message {number}")
        m.save(KEY)
        m.truncate_history(KEY, 2)
        m.add_message("slack:1", "user", "oi")
    return url


@pytest.fixture(params=["snapshot", "log", "sqlite"])
def storage(request, tmp_path):
    return fill(f"{request.param}:{tmp_path / 'chats'}")


@pytest.fixture
def log(tmp_path):
    return fill(f"log:{tmp_path / 'chats'}")


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_a_text_or_goes_to_a_target(storage, form, tmp_path):
    text = export(storage, KEY, form)
    assert isinstance(text, str)
    for number in range(4):
        assert f"message {number}" in text
    path, file = tmp_path / "out", io.BytesIO()
    assert export(storage, KEY, form, path) is None
    assert export(storage, KEY, form, file) is None
    assert path.read_text() == file.getvalue().decode() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("form", FORMATS)
def test_archived_messages_are_left_out_if_you_like(storage, form):
    text = export(storage, KEY, form, archive=False)
    assert "message 1" not in text
    assert "message 2" in text


def test_an_export_is_made_beside_the_bot(storage):
    with SessionManager(storage, archive=True) as m:
        m.add_message(KEY, "user", "saved")
        m.save(KEY)
        m.add_message(KEY, "user", "not yet")
        text = export(storage, KEY, "text")
    assert "saved" in text
    assert "not yet" not in text


def test_a_message_that_is_archived_meanwhile_is_there_once(storage):
    """The session is read first; then the bot archives a part of it; then the archive is read."""
    with SessionManager(storage, archive=True) as m:

        class Meanwhile(MemoryStore):
            """The storage, in which the bot does something between the two reads."""

            def load(self, key):
                session = self.inner.load(key)
                m.add_message(KEY, "user", "later")
                m.save(KEY)
                m.truncate_history(KEY, 0)
                m.save(KEY)
                return session

            def archive(self, key):
                return self.inner.archive(key)

            def version(self, key):
                return self.inner.version(key)

        store = Meanwhile()
        store.inner = open_store(storage, read_only=True)
        try:
            found = of_document(json.loads(export(store, KEY, "json")))
        finally:
            store.inner.close()
    assert [one.content for one in found.archive] == ["message 0", "message 1"]
    assert [one.content for one in found.session.messages] == ["message 2", "message 3"]


# What can go wrong


def test_what_is_not_there_is_said(log, tmp_path):
    with pytest.raises(SessionNotFoundError):
        export(log, "nobody", "md")
    with pytest.raises(InvalidKeyError):
        export(log, "", "md")
    with pytest.raises(StorageError):
        export(f"log:{tmp_path / 'nowhere'}", KEY, "md")
    with pytest.raises(ValueError, match=r"format must be one of md, text, json, jsonl, html, not 'pdf'"):
        export(log, KEY, "pdf")
    with pytest.raises(TypeError, match="format must be a str"):
        export(log, KEY, None)
    with pytest.raises(TypeError, match="archive must be True or False"):
        export(log, KEY, "md", archive=1)
    with pytest.raises(ValueError, match=r"format 'html' has one session: json and jsonl have several"):
        export_sessions(log, tmp_path / "out", "html")
    with pytest.raises(TypeError, match="not None"):
        export_sessions(log, None, "json")
    with pytest.raises(TypeError, match="open it in mode 'wb'"):
        export(log, KEY, "md", io.StringIO())
    assert not (tmp_path / "out").exists()


def test_a_store_in_use_is_refused(log):
    with closing(open_store(log)) as store:
        with SessionManager(store), pytest.raises(StoreInUseError):
            export(store, KEY, "md")
        assert export(store, KEY, "md")


def test_damage_is_named_and_costs_one_session(log, tmp_path):
    path = tmp_path / "chats" / "telegram~3a42.session.jsonl"
    path.write_bytes(path.read_bytes().replace(b"message 2", b"massage 2"))
    with pytest.raises(CorruptSessionError):
        export(log, KEY, "md", tmp_path / "out.md")
    assert not (tmp_path / "out.md").exists()
    seen = []
    report = export_sessions(log, tmp_path / "out.json", "json", progress=lambda *step: seen.append(step))
    assert (report.exported, report.messages, report.ok) == (("slack:1",), 1, False)
    assert isinstance(report.damaged[KEY], CorruptSessionError)
    assert [one["key"] for one in json.loads((tmp_path / "out.json").read_text())] == ["slack:1"]
    assert seen == [(1, 2, "slack:1"), (2, 2, KEY)]


def test_a_damaged_archive_can_be_left_out(log, tmp_path):
    (path,) = (tmp_path / "chats").glob("*.archive.jsonl")
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(CorruptSessionError):
        export(log, KEY, "md")
    assert "message 3" in export(log, KEY, "md", archive=False)


@pytest.mark.parametrize("name", ["", "/telegram~3a42.session.jsonl", "/new.md"])
def test_no_export_is_written_into_the_storage(log, tmp_path, name):
    before = (tmp_path / "chats" / "telegram~3a42.session.jsonl").read_bytes()
    with pytest.raises(InvalidStorageError, match="lies in the storage"):
        export(log, KEY, "md", f"{tmp_path / 'chats'}{name}")
    assert (tmp_path / "chats" / "telegram~3a42.session.jsonl").read_bytes() == before


@pytest.mark.parametrize("ending", ["", "-wal"])
def test_no_export_is_written_over_a_database(tmp_path, ending):
    url = fill(f"sqlite:{tmp_path / 'chats.db'}")
    (tmp_path / "link").symlink_to(f"chats.db{ending}")
    for name in (f"chats.db{ending}", "link"):
        with pytest.raises(InvalidStorageError, match="lies in the storage"):
            export(url, KEY, "md", tmp_path / name)


# Files


def test_a_file_is_replaced_or_stays_as_it_is(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(0o644)

    def broken():
        yield b"new"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_pieces(str(path), broken())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"], "nothing is left behind"
    assert write_pieces(str(path), [b"new", b"", b"er"]) == 5
    assert path.read_text() == "newer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["open_new", "write", "sync", "rename"])
def test_a_full_disk_leaves_the_file_as_it_is(tmp_path, call):
    (tmp_path / "out").write_text("old")

    class Full(Files):
        """A disk that is full at one of the steps."""

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    setattr(Full, call, fail)
    files = Full(str(tmp_path))
    try:
        with pytest.raises(OSError, match="No space"):
            write_pieces(str(tmp_path / "out"), [b"new"], files)
    finally:
        files.close_directory()
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_a_link_stays_a_link(log, tmp_path):
    (tmp_path / "real.md").write_text("old")
    (tmp_path / "link.md").symlink_to("real.md")
    export(log, KEY, "md", tmp_path / "link.md")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.md").read_text().startswith("# telegram:42")


@pytest.mark.parametrize("place", ["fifo", "directory"])
def test_only_a_file_is_replaced(log, tmp_path, place):
    """An export to ``/dev/null`` by root would have taken it away from all programs."""
    path = tmp_path / place
    path.mkdir() if place == "directory" else os.mkfifo(path)
    with pytest.raises(StorageError, match="no regular file"):
        export(log, KEY, "md", path)
    assert stat.S_ISFIFO(path.stat().st_mode) or path.is_dir()


def test_a_missing_directory_is_named(log, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere.*No such file"):
        export(log, KEY, "md", tmp_path / "nowhere" / "out.md")


def test_a_missing_extra_is_named(log, monkeypatch):
    real = builtins.__import__

    def without_nh3(name, *arguments):
        if name == "nh3":
            raise ModuleNotFoundError("No module named 'nh3'", name="nh3")
        return real(name, *arguments)

    for name in ("html", "rich_text"):
        monkeypatch.delitem(sys.modules, f"session_manager.exporters.{name}", raising=False)
        monkeypatch.delattr(f"session_manager.exporters.{name}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_nh3)
    with pytest.raises(ImportError, match=r"html needs nh3: pip install 'chat-session-manager\[export\]'"):
        export(log, KEY, "html")
    assert export(log, KEY, "md")
