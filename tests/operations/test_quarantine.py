"""Quarantine: what is in it, its bytes, its removal, and the count in `health()`."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from session_manager import (
    Health,
    InvalidKeyError,
    SaveFailedError,
    SessionManager,
    StorageError,
    StorageLockedError,
    converter,
    operations,
)
from session_manager.operations import quarantine
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import FaultyStore
from tests.support.faulty_files import FaultyFiles

KINDS = ("snapshot", "log", "sqlite")
CANARY = b"a canary"


def damaged(kind, path, key="telegram:42"):
    """Make a storage with one damaged session; return its URL."""
    url = f"{kind}:{path}"
    with SessionManager(url) as m:
        m.add_message(key, "user", CANARY.decode())
        m.add_message("other", "user", "hi")
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE messages SET line = line || ' ' WHERE line LIKE '%canary%'")
        return url
    (file,) = (one for one in Path(path).iterdir() if one.name.startswith("telegram") and ".session." in one.name)
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    if kind == "log":
        file.write_bytes(bytes(data) + data[-300:])
    return url


def all_bytes(path):
    path = Path(path)
    there = path.parent.glob(f"{path.name}*") if path.is_file() else path.iterdir()
    return b"".join(one.read_bytes() for one in there)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_damaged_session_is_listed_shown_and_purged(kind, tmp_path):
    url = damaged(kind, tmp_path / "c")
    assert quarantine.list(url) == ()
    with SessionManager(url) as m:
        assert m.health().quarantined == 0
        m.delete("telegram:42")
        assert m.health().quarantined == 1
        (one,) = quarantine.list(url)  # beside the bot
        assert one.key == "telegram:42"
        assert CANARY in quarantine.show(url, one.name)
        assert converter.structure(m.health().to_dict(), Health).quarantined == 1
    assert quarantine.list(url, key="other") == ()
    assert quarantine.list(url, key="telegram:42") == (one,)
    assert CANARY in all_bytes(tmp_path / "c")
    assert quarantine.purge(url, older_than=timedelta(days=1)) == ()
    assert quarantine.purge(url, key="other") == ()
    assert quarantine.purge(url, one.name) == (one,)
    assert quarantine.list(url) == ()
    assert CANARY not in all_bytes(tmp_path / "c")
    with SessionManager(url) as m:
        assert m.health().quarantined == 0
        assert m.get_history("other")


@pytest.mark.parametrize("kind", KINDS)
def test_two_of_one_session_are_purged_one_by_one(kind, tmp_path):
    url = damaged(kind, tmp_path / "c")
    operations.salvage(url, write=True)
    with SessionManager(url) as m:
        m.delete("telegram:42")
    damaged(kind, tmp_path / "c")
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(tmp_path / "c")) as db, db:
            db.execute("UPDATE quarantine SET moved = '2026-01-01T00:00:00Z'")
    with SessionManager(url) as m:
        m.delete("telegram:42")
        assert m.health().quarantined == 2
    first, second = quarantine.list(url)
    assert first.moved <= second.moved
    assert quarantine.purge(url, second.name) == (second,)
    assert quarantine.list(url) == (first,)
    assert quarantine.purge(url, older_than=timedelta()) == (first,)


def test_the_torn_end_of_a_log_is_listed(tmp_path):
    with SessionManager(f"log:{tmp_path / 'c'}") as m:
        m.add_message("k", "user", "1")
    with open(tmp_path / "c" / "k.session.jsonl", "ab") as file:
        file.write(b'{"changes":[{"chan')
    with SessionManager(f"log:{tmp_path / 'c'}") as m:
        m.add_message("k", "user", "2")
        m.save("k")
        assert m.health().quarantined == 1
    (one,) = quarantine.list(f"log:{tmp_path / 'c'}")
    assert (one.key, quarantine.show(f"log:{tmp_path / 'c'}", one.name)) == ("k", b'{"changes":[{"chan')


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_none_of_quarantine_is_refused(kind, tmp_path):
    """Neither a session nor a file elsewhere can be read or removed so."""
    url = damaged(kind, tmp_path / "c")
    names = ("k.session.json", "../c", "/etc/passwd", ".lock", "", "1-9", f".quarantine-{'0' * 16}-../../x", "1; DROP")
    for name in names:
        with pytest.raises(StorageError, match="in quarantine"):
            quarantine.show(url, name)
        with pytest.raises(StorageError, match="in quarantine"):
            quarantine.purge(url, name)


def test_a_link_in_quarantine_is_not_followed(tmp_path):
    url = damaged("snapshot", tmp_path / "c")
    (tmp_path / "secret").write_text("secret")
    name = f".quarantine-{'0' * 16}-k.session.json"
    os.symlink(tmp_path / "secret", tmp_path / "c" / name)
    assert quarantine.list(url) == ()
    with pytest.raises(StorageError):
        quarantine.show(url, name)


def test_mistakes(tmp_path):
    url = damaged("snapshot", tmp_path / "c")
    for call, error in (
        (lambda: quarantine.list(url, key=""), InvalidKeyError),
        (lambda: quarantine.show(url, 1), TypeError),
        (lambda: quarantine.purge(url, 1), TypeError),
        (lambda: quarantine.purge(url, older_than=1), TypeError),
        (lambda: quarantine.purge(url, older_than=-timedelta(1)), ValueError),
    ):
        with pytest.raises(error):
            call()
    with SessionManager(url), pytest.raises(StorageLockedError):
        quarantine.purge(url)


def test_a_removal_that_fails_says_so(tmp_path):
    url = damaged("snapshot", tmp_path / "c")
    with SessionManager(url) as m:
        m.delete("telegram:42")
    store = SnapshotStore(tmp_path / "c", files=FaultyFiles)
    store._files.unlink = broken
    with pytest.raises(SaveFailedError):
        quarantine.purge(store)
    store.close()
    assert len(quarantine.list(url)) == 1


def broken(_):
    raise OSError(5, "EIO")


def test_a_store_without_a_quarantine_has_an_empty_one():
    store = FaultyStore(MemoryStore())
    assert quarantine.list(store) == quarantine.purge(store) == ()
    with pytest.raises(StorageError):
        quarantine.show(store, "1-2")
    with SessionManager(store) as m:
        assert m.health().quarantined == 0
