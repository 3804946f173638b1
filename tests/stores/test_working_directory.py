"""Relative paths in a working directory that another program has removed."""

from __future__ import annotations

import asyncio
import os

import pytest

from session_manager import AsyncSessionManager, SessionManager, StorageError
from session_manager.exporters import export
from session_manager.operations import backup, compact, copy, holder, restore
from session_manager.stores import open_store
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows keeps a working directory")

URLS = ("chats", "log:chats", "snapshot:../chats", "log:.", "sqlite:chats.db")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A storage, and no working directory."""
    url = f"log:{tmp_path / 'source'}"
    with SessionManager(url) as m:
        m.add_message("k", "user", "x")
    place = tmp_path / "gone"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    return url


async def opened(make, url):
    async with make(url):
        pass


CALLS = {
    "a manager": lambda url, source: SessionManager(url),
    "a shared manager": lambda url, source: SessionManager.shared(url),
    "an async manager": lambda url, source: asyncio.run(opened(AsyncSessionManager, url)),
    "a shared async manager": lambda url, source: asyncio.run(opened(AsyncSessionManager.shared, url)),
    "open_store": lambda url, source: open_store(url),
    "compact": lambda url, source: compact(url),
    "holder": lambda url, source: holder(url),
    "copy": lambda url, source: copy(source, url),
    "backup": lambda url, source: backup(source, url),
    "restore": lambda url, source: restore(url, source),
    "export": lambda url, source: export(source, "k", "json", url),
    "a store": lambda url, source: {"log": LogStore, "sqlite": SQLiteStore}.get(url.partition(":")[0], SnapshotStore)(
        url
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_relative_path_without_a_working_directory_is_refused(name, source):
    """It was a bare `FileNotFoundError`, without the path."""
    for url in URLS:
        with pytest.raises(
            StorageError, match=r"is relative, and the working directory is gone: give an absolute path"
        ):
            CALLS[name](url, source)
    with SessionManager(source) as m:
        assert [message.content for message in m.get_history("k")] == ["x"]
