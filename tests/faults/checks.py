"""Checks of the library that are small enough to be made with each mistake of `tests.faults.mutants`: without one, each passes."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from functools import partial

import pytest

from session_manager import CorruptSessionError, SessionManager, StorageLockedError, UnsupportedFormatError
from session_manager.stores.files import directory_lock
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from tests.faults import calls, injection
from tests.faults.crashes import explore
from tests.faults.disk import simulation
from tests.support.sizes import Size

__all__ = ["CHECKS"]

KEY = "telegram:42"


def crashes(kind, seed, steps, only, _):
    """Every disk that a power cut may leave."""
    explore(kind, seed, steps, only=only)


def every_call(kind, name, situation, _):
    """An error at every operation of a call."""
    with simulation():
        injection.loop(injection.Place(kind), name, situation, Size.FULL)


def short_writes(kind, _):
    """Writes that write a few bytes."""
    with simulation():
        injection.short_writes(injection.Place(kind), calls.CALLS["save"], calls.SITUATIONS["truncated"], ends=False)


def add(m, *texts):
    for text in texts:
        m.add_message(KEY, "user", text)
    m.save(KEY)


def texts(m):
    return [message.content for message in m.get_history(KEY)]


def flipped_bits(kind, tmp_path):
    """Every bit of a file flipped: damage, or the same, or, of a log, all but the last save."""
    store_class = {"snapshot": SnapshotStore, "log": LogStore}[kind]
    with closing(store_class(tmp_path / "chats")) as store:
        add(SessionManager(store), "first")
        add(SessionManager(store), "second")
    (path,) = (tmp_path / "chats").glob("*.session.json*")
    good = path.read_bytes()
    for place in range(0, len(good), 3):
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 7)]) + good[place + 1 :])
        opened = closing(store_class(tmp_path / "chats", read_only=True))
        with opened as store, suppress(CorruptSessionError, UnsupportedFormatError):
            assert texts(SessionManager(store)) in (["first", "second"], ["first"] if kind == "log" else None)


def two_openers(tmp_path):
    """A second process opens the directory while the first one writes: it is refused, and nothing is touched."""
    with closing(SnapshotStore(tmp_path / "chats")) as store:
        add(SessionManager(store), "a")
        half_written = tmp_path / "chats" / ".tmp-0123456789abcdef"
        half_written.write_bytes(b"half")
        with pytest.raises(StorageLockedError):
            SnapshotStore(tmp_path / "chats").close()
        assert half_written.exists(), "what the other one is writing is gone"
    inode = os.stat(tmp_path / "chats" / ".lock").st_ino
    SnapshotStore(tmp_path / "chats").close()
    assert os.stat(tmp_path / "chats" / ".lock").st_ino == inode, "two could hold a lock each"


def handed_over(tmp_path):
    """Another process saves a session and ends, just before we get the lock: we see that session."""
    acquire = directory_lock.WriterLock.acquire
    with pytest.MonkeyPatch.context() as patched:

        def after_another(lock, *arguments, **options):
            patched.undo()
            with closing(SnapshotStore(tmp_path / "chats")) as store:
                add(SessionManager(store), "theirs")
            return acquire(lock, *arguments, **options)

        patched.setattr(directory_lock.WriterLock, "acquire", after_another)
        with closing(SnapshotStore(tmp_path / "chats")) as store:
            m = SessionManager(store)
            assert (list(m), texts(m)) == ([KEY], ["theirs"])


def another_program(kind, tmp_path):
    """Another program puts a newer file in the place of ours: both messages are there after the next save."""
    store_class = {"snapshot": SnapshotStore, "log": LogStore}[kind]
    with closing(store_class(tmp_path / "ours")) as store:
        m = SessionManager(store)
        add(m, "a")
        (path,) = (tmp_path / "ours").glob("*.session.json*")
        with closing(store_class(tmp_path / "theirs")) as other:
            (tmp_path / "theirs" / path.name).write_bytes(path.read_bytes())
            other._directory.listed()
            add(SessionManager(other), "theirs")
        os.replace(tmp_path / "theirs" / path.name, path)
        add(m, "ours")
        m.reload(KEY)
        assert texts(m) == ["a", "theirs", "ours"]


def sqlite_commits(tmp_path):
    """Each commit of a database is synced before it is acknowledged; one whose acknowledgement is lost is not done twice."""

    class Losing(sqlite3.Connection):
        loses = False

        def execute(self, statement, *parameters):
            cursor = super().execute(statement, *parameters)
            if statement == "COMMIT" and Losing.loses:
                Losing.loses = False
                raise sqlite3.OperationalError("disk I/O error")
            return cursor

    with closing(SQLiteStore(tmp_path / "chats.db", connect=partial(sqlite3.connect, factory=Losing))) as store:
        m = SessionManager(store)
        add(m, "a")
        assert store._database.writer.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert store._database.writer.execute("PRAGMA journal_mode").fetchone()[0] == b"wal"
        Losing.loses = True
        m.add_message(KEY, "user", "b")
        with suppress(Exception):
            m.save(KEY)
        m.save(KEY)
        assert texts(m) == ["a", "b"]
        assert len(store.load(KEY).messages) == 2


def crash_of(kind, seed=1, steps=30, only=None):
    return partial(crashes, kind, seed, steps, only)


CHECKS = {
    "crash states (snapshot)": crash_of("snapshot", 1, 60),
    "crash states (log)": crash_of("log", 2, 40),
    "crash states (snapshot, killed)": crash_of("snapshot", 3, 30, ("kill", "reopen")),
    "crash states (log, killed)": crash_of("log", 3, 24, ("kill", "reopen")),
    "crash states (snapshot, errors)": crash_of("snapshot", 4, 50, ("add", "error")),
    "crash states (snapshot, bursts)": crash_of("snapshot", 6, 20, ("burst", "error")),
    "crash states (log, bursts)": crash_of("log", 6, 20, ("burst", "error")),
    "crash states (log, errors)": crash_of("log", 4, 24, ("error",)),
    "crash states (snapshot, removals)": crash_of("snapshot", 5, 24, ("add", "remove", "delete")),
    "crash states (snapshot, archives)": crash_of("snapshot", 7, 40, ("add unsaved", "truncate", "delete")),
    "every call (snapshot, save)": partial(every_call, "snapshot", "save", "appended"),
    "every call (log, save)": partial(every_call, "log", "save", "appended"),
    "short writes (snapshot)": partial(short_writes, "snapshot"),
    "flipped bits (snapshot)": partial(flipped_bits, "snapshot"),
    "flipped bits (log)": partial(flipped_bits, "log"),
    "two openers": two_openers,
    "a lock that is handed over": handed_over,
    "another program (snapshot)": partial(another_program, "snapshot"),
    "another program (log)": partial(another_program, "log"),
    "SQLite's commits": sqlite_commits,
}
