"""Options that a constructor refuses: nothing is left in the storage that it would have opened."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest

from session_manager import AsyncSessionManager, Autosave, Lease, SessionManager
from session_manager.manager.options import OPTIONS_OF_MANAGER

STORAGES = ("chats", Path("chats"), "snapshot:chats", "log:chats", "log:new/chats", "sqlite:new/chats.db")
WITHOUT_LEASES = STORAGES[:-1]
REFUSED = [
    {"clock": 1},
    {"random_id": 1},
    {"max_message_bytes": 0},
    {"max_resident_bytes": 0},
    {"autosave": True},
    {"expire_every": timedelta(0)},
    {"read_only": 1},
    {"read_only": True, "autosave": Autosave()},
    {"read_only": True, "expire_every": timedelta(1)},
    {"read_only": True, "lease": Lease()},
    {"archive": 1},
    {"roles": "narrator"},
    {"rules": "openai"},
    {"lease": 60},
    {"on_event": 1},
    {"slow_save": -1},
]


async def opened(make, storage, options):
    async with make(storage, **options):
        pass


def open_soon(make):
    return lambda storage, **options: asyncio.run(opened(make, storage, options))


WAYS = {
    "sync": SessionManager,
    "shared": SessionManager.shared,
    "async": open_soon(AsyncSessionManager),
    "async shared": open_soon(AsyncSessionManager.shared),
}


def test_each_option_is_refused_here():
    assert {name for options in REFUSED for name in options} == set(OPTIONS_OF_MANAGER)


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_option_leaves_nothing(way, tmp_path, monkeypatch):
    """A lease was refused when a directory for files, which keep none, had been created."""
    monkeypatch.chdir(tmp_path)
    cases = [(storage, options) for storage in STORAGES for options in REFUSED]
    cases += [(storage, {"lease": Lease()}) for storage in WITHOUT_LEASES]
    for storage, options in cases:
        with pytest.raises((TypeError, ValueError)):
            WAYS[way](storage, **options)
        assert os.listdir() == [], (storage, options)


@pytest.mark.parametrize("way", WAYS)
def test_a_lease_of_files_that_are_there_is_refused_and_they_stay(way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SessionManager("log:chats") as m:
        m.add_message("k", "user", "x")
    before = sorted(os.listdir("chats"))
    with pytest.raises(ValueError, match="lease needs a store that keeps leases"):
        WAYS[way]("chats", lease=Lease())
    assert sorted(os.listdir("chats")) == before
    with SessionManager("log:chats") as again:
        assert [message.content for message in again.get_history("k")] == ["x"]
