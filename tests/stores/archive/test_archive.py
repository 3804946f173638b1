"""The archive: what truncation and summaries drop is kept, once and in order, and nothing else is."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import attrs
import pytest

from session_manager import (
    CorruptSessionError,
    Message,
    SaveError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    UnsupportedFormatError,
)
from session_manager.model.archive import is_kept, kept
from session_manager.model.changes import Clear, Summarize, digest
from session_manager.stores import copy
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import Clock, FaultyStore, crash
from tests.support.faulty_files import FaultyFiles
from tests.support.processes import python, run_python
from tests.support.strategies import facts

KEY = "telegram:42"
ARCHIVE = "telegram~3a42.archive.jsonl"
CANARY = "CANARY-7f3a"
FILES = {"snapshot": SnapshotStore, "log": LogStore}
KINDS = ["memory", "snapshot", "log", "sqlite"]


def opener(kind, path):
    """Return a callable that opens the same storage each time; `None` is RAM only."""
    if kind == "ram":
        return None
    if kind == "memory":
        disk = MemoryStore()
        return lambda: disk
    if kind == "sqlite":
        return lambda: SQLiteStore(path / "chats.db")
    return lambda: FILES[kind](path / "chats")


@attrs.define(eq=False)
class Place:
    """A storage, and the manager that is open on it."""

    open_store: object
    clock: Clock = attrs.field(factory=Clock)
    archive: bool = True
    m: SessionManager = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.open()

    def open(self):
        store = [] if self.open_store is None else [self.open_store()]
        self.m = SessionManager(*store, clock=self.clock, archive=self.archive)

    def close(self):
        store = self.m._residents.store
        self.m.close(save=False)
        if store is not None:
            store.close()

    def reopen(self, *, archive=True):
        self.m.save_all()
        self.close()
        self.archive = archive
        self.open()
        return self.m


@pytest.fixture(params=[*KINDS, "ram"])
def place(request, tmp_path):
    place = Place(opener(request.param, tmp_path))
    yield place
    place.close()


@pytest.fixture(params=KINDS)
def stored(request, tmp_path):
    place = Place(opener(request.param, tmp_path))
    yield place
    place.close()


@pytest.fixture(params=FILES)
def filed(request, tmp_path):
    place = Place(opener(request.param, tmp_path))
    yield place
    place.close()


def beside(place):
    """Open a second manager on the storage. On a directory it stands for another program, for a second manager is refused."""
    store = place.m._residents.store
    store.detach(place.m._residents)
    return SessionManager(store, clock=place.clock, archive=True)


def say(m, *texts, key=KEY):
    for text in texts:
        m.add_message(key, "user", text)


def texts(messages):
    return [message.content for message in messages]


def archive(m, key=KEY):
    return texts(m.get_archive(key))


def fold(m, first, count, key=KEY):
    """Put a summary in the place of some messages, wherever they stand."""

    def make(session):
        some = session.messages[first : first + count]
        if not some:
            return None
        start, stop = some[0].position, some[-1].position + 1
        return Summarize(at=m._incoming.now(), summary="s", start=start, stop=stop, digest=digest(session, start, stop))

    m._residents.change(key, make)


# What goes there, and what does not


def test_a_truncation_archives_what_it_drops_as_it_was(place):
    m = place.m
    m.add(
        KEY,
        Message.from_dict(
            {"role": "user", "content": None, "n": 2**70, "漢": "\ud800"},
            created_at=place.clock() - timedelta(days=9),
            metadata={"a": [1.0, True]},
            ref="tg:1",
        ),
    )
    with m.turn(KEY, ref="tg:2") as turn:
        turn.add_message("user", "b")
    say(m, "c")
    before = [facts(message) for message in m.get_history(KEY)]
    assert before[1] != before[2]
    m.save(KEY)
    assert m.truncate_history(KEY, 1) == 2
    for _ in range(2):
        assert [facts(message) for message in m.get_archive(KEY)] == before[:2]
        assert [facts(message) for message in m.get_history(KEY)] == before[2:]
        m.save(KEY)
    if place.open_store is not None:
        m = place.reopen()
        assert [facts(message) for message in m.get_archive(KEY)] == before[:2]
        assert m.verify() == []


def test_a_summary_archives_its_messages_and_leading_system_messages_stay(place):
    m = place.m
    m.add_message(KEY, "system", "be brief")
    for number in range(3):
        m.add_message(KEY, "user", f"u{number}")
        m.add_message(KEY, "assistant", f"a{number}")
    done = m.summarize(KEY, lambda old, new: "+".join(texts(new)), keep_last=2)
    assert done.summary == "u0+a0+u1+a1"
    assert archive(m) == ["u0", "a0", "u1", "a1"]
    assert texts(m.get_history(KEY)) == ["be brief", "u2", "a2"]
    assert m.truncate_history(KEY, 1) == 2
    assert archive(m) == ["be brief", "u0", "a0", "u1", "a1", "u2"]
    assert [one.position for one in m.get_archive(KEY)] == [0, 1, 2, 3, 4, 5]
    m.save(KEY)
    assert archive(m) == ["be brief", "u0", "a0", "u1", "a1", "u2"]


@pytest.mark.parametrize("saved", [True, False])
def test_what_else_is_dropped_is_not_archived(place, saved):
    m = place.m
    say(m, "a", "b", "c")
    m.save(KEY)
    m.truncate_history(KEY, 2)
    if saved:
        m.save(KEY)
    m.remove_last(KEY)
    m.update_last(KEY, {"role": "user", "content": "edited"})
    assert archive(m) == ["a"]
    m.set_history(KEY, [{"role": "user", "content": "new"}])
    assert archive(m) == ["a"]
    m.save(KEY)
    assert archive(m) == ["a"]
    m.truncate_history(KEY, 0)
    m.save(KEY)
    assert archive(m) == ["a", "new"]


def test_an_edited_message_is_archived_as_it_was_at_last(place):
    m = place.m
    say(m, "a", "b", "c", "d")
    m.save(KEY)
    m.update_message(KEY, 1, {"role": "user", "content": "edited"})
    m.truncate_history(KEY, 2)
    m.save(KEY)
    assert archive(m) == ["a", "edited"]
    assert m.update_message(KEY, 1, {"role": "user", "content": "again"}) is False


def test_messages_that_were_never_saved_are_archived_too(place):
    m = place.m
    say(m, "a", "b", "c")
    m.truncate_history(KEY, 1)
    say(m, "d")
    m.truncate_history(KEY, 1)
    assert archive(m) == ["a", "b", "c"]
    m.save(KEY)
    assert archive(m) == ["a", "b", "c"]
    assert texts(m.get_history(KEY)) == ["d"]


def test_without_archive_nothing_is_kept_and_an_old_archive_is_left_alone(stored):
    m = stored.m
    say(m, "a", "b", "c", "d")
    m.truncate_history(KEY, 3)
    m = stored.reopen(archive=False)
    m.truncate_history(KEY, 2)
    assert archive(m) == ["a"]
    m.save(KEY)
    m = stored.reopen()
    m.truncate_history(KEY, 1)
    m.save(KEY)
    assert archive(m) == ["a", "c"]
    m = stored.reopen(archive=False)
    m.clear(KEY)
    assert archive(m) == []
    m.save(KEY)
    assert archive(m) == []


def test_of_two_clears_each_spares_what_the_other_spares_as_well():
    """The positions that the first one took are gone, whatever the second one spares."""

    def clear(spare):
        return Clear(at=Clock()(), generation="new", spare=spare)

    assert kept([clear((2, 9)), clear((4, 20))]) == (4, 9)
    assert kept([clear((4, 20)), clear(None), clear((4, 20))]) == (4, 0)
    assert not is_kept(5, kept([clear(None), clear((4, 20))]))


@pytest.mark.parametrize("saved", [True, False])
def test_clear_empties_it_and_it_begins_anew(place, saved):
    m = place.m
    say(m, "a", "b", "c")
    m.truncate_history(KEY, 1)
    if saved:
        m.save(KEY)
    m.clear(KEY)
    assert archive(m) == []
    if saved:
        m.save(KEY)
    say(m, "d", "e")
    m.truncate_history(KEY, 1)
    for _ in range(2):
        assert archive(m) == ["d"]
        m.save(KEY)
    assert m.verify() == []


def test_delete_takes_it_and_a_new_session_has_none(place):
    m = place.m
    say(m, "a", "b")
    m.truncate_history(KEY, 1)
    m.save(KEY)
    assert m.delete(KEY)
    assert archive(m) == []
    say(m, "c")
    m.save(KEY)
    assert archive(m) == []


def test_a_fork_begins_without_one(place):
    m = place.m
    say(m, "a", "b")
    m.truncate_history(KEY, 1)
    m.fork(KEY, "copy")
    assert (archive(m, "copy"), archive(m)) == ([], ["a"])


def test_there_is_none_of_a_missing_session(place):
    assert archive(place.m) == []


def test_unsaved_drops_are_given_up_by_a_crash_and_by_reload(stored):
    m = stored.m
    say(m, "a", "b")
    m.save(KEY)
    m.truncate_history(KEY, 1)
    m.reload(KEY)
    assert (archive(m), texts(m.get_history(KEY))) == ([], ["a", "b"])
    m.truncate_history(KEY, 1)
    crash(m)
    stored.open()
    assert (archive(stored.m), texts(stored.m.get_history(KEY))) == ([], ["a", "b"])


def test_a_store_that_keeps_none_is_refused_when_the_manager_is_made():
    class Forgetful(MemoryStore):
        archives = False

    with pytest.raises(ValueError, match=r"Store\.archives"):
        SessionManager(Forgetful(), archive=True)
    with pytest.raises(TypeError, match="archive must be True or False"):
        SessionManager(archive="yes")
    SessionManager(Forgetful()).close()
    assert FaultyStore(Forgetful()).archives is False


# Searching and copying


@pytest.mark.parametrize("when", ["unsaved", "saved", "reopened"])
def test_what_is_archived_is_found(place, when):
    m = place.m
    say(m, "an apple", "a pear", "an apple pie", "plum")
    m.add_message("other", "user", "apple")
    m.save_all()
    assert len(m.search("apple")) == 3
    m.truncate_history(KEY, 1)
    if when != "unsaved":
        m.save(KEY)
    if when == "reopened" and place.open_store is not None:
        m = place.reopen()
    assert [(hit.key, hit.position) for hit in m.search("apple")] == [("other", 0), (KEY, 0), (KEY, 2)]
    hits = m.search("apple", key=KEY)
    assert [hit.position for hit in hits] == [0, 2]
    assert all(m.get(KEY).at(hit.position) is None for hit in hits)
    m.clear(KEY)
    m.save(KEY)
    assert [hit.key for hit in m.search("apple")] == ["other"]
    assert m.verify() == []


@pytest.mark.parametrize("target", KINDS)
def test_copy_moves_it(stored, target, tmp_path):
    m = stored.m
    say(m, "a", "b", "c", "d")
    m.add_message("other", "user", "x")
    fold(m, 1, 1)
    m.save_all()
    m.truncate_history(KEY, 1)
    m.save(KEY)
    (tmp_path / "target").mkdir(mode=0o700)
    there = opener(target, tmp_path / "target")()
    source = m._residents.store
    m.close()
    assert copy(source, there).copied == ("other", KEY)
    assert list(map(facts, there.archive(KEY))) == list(map(facts, source.archive(KEY)))
    assert texts(there.archive(KEY)) == ["a", "b", "c"]
    assert copy(source, there).present == ("other", KEY)
    with SessionManager(source, archive=True) as m:
        m.truncate_history(KEY, 0)
        m.save(KEY)
    assert copy(source, there).different == (KEY,)
    there.close()


def test_a_copy_to_a_store_that_keeps_none_says_so():
    class Forgetful(MemoryStore):
        archives = False

        def archive(self, key):
            return iter(())

    source = MemoryStore()
    m = SessionManager(source, archive=True)
    say(m, "a", "b")
    m.truncate_history(KEY, 1)
    m.save(KEY)
    assert copy(source, Forgetful()).different == (KEY,)


# Several writers


def test_two_managers_on_one_storage_archive_each_message_once(stored):
    m = stored.m
    say(m, "a", "b", "c", "d")
    m.save(KEY)
    with beside(stored) as other:
        other.get(KEY)
        m.truncate_history(KEY, 2)
        other.truncate_history(KEY, 1)
        say(other, "e")
        m.save(KEY)
        other.save(KEY)
        assert texts(m._residents.store.archive(KEY)) == ["a", "b", "c"]
        assert archive(other) == ["a", "b", "c"]
        assert texts(other.get_history(KEY)) == ["d", "e"]
        assert other.verify() == []


def test_a_clear_spares_what_it_did_not_see_in_the_archive_too(stored):
    m = stored.m
    say(m, "a", "b", "c")
    m.truncate_history(KEY, 2)
    m.save(KEY)
    with beside(stored) as other:
        other.get(KEY)
        other.clear(KEY)
        say(m, "unseen", "unseen, too")
        m.truncate_history(KEY, 1)
        m.save(KEY)
        other._saving.save(KEY)
        assert texts(other.get_history(KEY)) == ["unseen, too"]
        assert archive(other) == ["unseen"]
        assert texts(other._residents.store.archive(KEY)) == ["unseen"]
        assert other.verify() == []
        other.truncate_history(KEY, 0)
        other.save(KEY)
        assert archive(other) == ["unseen", "unseen, too"]
    m = stored.reopen()
    assert archive(m) == ["unseen", "unseen, too"]


def test_processes_archive_into_one_database(tmp_path):
    path = tmp_path / "chats.db"
    script = f"""
import sys
from session_manager import SessionManager
with SessionManager("sqlite:{path}", archive=True) as m:
    for number in range(30):
        m.add_message({KEY!r}, "user", f"{{sys.argv[1]}}-{{number}}")
        m.save({KEY!r})
        m.truncate_history({KEY!r}, 3)
        m.save({KEY!r})
"""
    run = [python("-c", script, name) for name in "ab"]
    assert [process.wait(60) for process in run] == [0, 0]
    with SessionManager(f"sqlite:{path}", archive=True) as m:
        found = [*archive(m), *texts(m.get_history(KEY))]
        assert sorted(found) == sorted(f"{name}-{number}" for name in "ab" for number in range(30))
        for name in "ab":
            mine = [text for text in found if text.startswith(name)]
            assert mine == [f"{name}-{number}" for number in range(30)]
        assert m.verify() == []


# Walks


@attrs.define(eq=False)
class Model:
    """What a session is, by what was called."""

    history: list = attrs.field(factory=list)
    archive: dict = attrs.field(factory=dict)

    def copy(self):
        return Model(list(self.history), dict(self.archive))

    def drop(self, gone):
        self.archive.update({message.position: facts(message) for message in gone})


STEPS = {
    "add": 6,
    "truncate": 3,
    "fold": 2,
    "remove": 1,
    "edit": 1,
    "replace": 0.7,
    "clear": 0.4,
    "delete": 0.2,
    "save": 4,
    "crash": 1,
    "reopen": 0.5,
    "compact": 0.5,
    "verify": 0.5,
    "fail": 1,
}


@attrs.define(eq=False)
class Walk:
    place: Place
    chance: random.Random
    now: Model = attrs.field(factory=Model)
    durable: Model = attrs.field(factory=Model)
    number: int = 0

    def run(self, steps):
        for name in self.chance.choices(list(STEPS), list(STEPS.values()), k=steps):
            getattr(self, name)()
            self.check()

    def check(self):
        m = self.place.m
        history, archived = m.get_history(KEY), list(m.get_archive(KEY))
        assert [facts(message) for message in history] == [facts(message) for message in self.now.history]
        assert {message.position: facts(message) for message in archived} == self.now.archive
        assert [message.position for message in archived] == sorted(self.now.archive)
        assert not {message.position for message in history} & set(self.now.archive)

    def changed(self):
        self.now.history = self.place.m.get_history(KEY)

    def add(self):
        for _ in range(self.chance.randrange(1, 4)):
            self.number += 1
            say(self.place.m, f"{self.number} é漢" * self.chance.choice([1, 1, 400]))
        self.changed()

    def truncate(self):
        keep = self.chance.randrange(6)
        gone = self.now.history[: max(len(self.now.history) - keep, 0)]
        assert self.place.m.truncate_history(KEY, keep) == len(gone)
        self.now.drop(gone)
        self.changed()

    def fold(self):
        first, count = self.chance.randrange(3), self.chance.randrange(1, 4)
        self.now.drop(self.now.history[first : first + count])
        fold(self.place.m, first, count)
        self.changed()

    def remove(self):
        self.place.m.remove_last(KEY)
        self.changed()

    def edit(self):
        if self.now.history:
            self.number += 1
            where = self.chance.choice(self.now.history).position
            assert self.place.m.update_message(KEY, where, {"role": "user", "content": f"edited {self.number}"})
            self.changed()

    def replace(self):
        self.number += 1
        self.place.m.set_history(KEY, [{"role": "user", "content": f"{self.number}"}])
        self.changed()

    def clear(self):
        if KEY in self.place.m:
            self.place.m.clear(KEY)
            self.now = Model()

    def delete(self):
        self.place.m.delete(KEY)
        self.now, self.durable = Model(), Model()

    def save(self):
        self.place.m.save(KEY)
        self.durable = self.now.copy()

    def fail(self):
        files = getattr(self.place.m._residents.store, "_files", None)
        if isinstance(files, FaultyFiles):
            kind = self.chance.choice([OSError(5, "EIO"), KeyboardInterrupt()])
            files.fail(
                self.chance.randrange(1, 30), kind, sticky=self.chance.random() < 0.3, after=self.chance.random() < 0.3
            )
            try:
                self.place.m.save(KEY)
                self.durable = self.now.copy()
            except (SaveError, KeyboardInterrupt):
                pass
            files.heal()

    def crash(self):
        m = self.place.m
        entry = m._residents.peek(KEY)
        if self.place.open_store is None or (entry is not None and entry.unknown is not None):
            return  # either state would be right
        crash(m)
        self.place.open()
        self.now = self.durable.copy()

    def reopen(self):
        if self.place.open_store is not None:
            self.place.reopen()
            self.durable = self.now.copy()

    def compact(self):
        self.place.m.compact(KEY)

    def verify(self):
        assert self.place.m.verify() == []


@pytest.mark.parametrize("kind", [*KINDS, "ram"])
def test_walks_drop_nothing_twice_and_lose_nothing(kind, size, tmp_path):
    for seed in range(size.of(3, 8, 100)):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        place = Place(opener(kind, folder))
        Walk(place, random.Random(seed)).run(80)
        place.close()


@pytest.mark.parametrize("kind", FILES)
def test_walks_with_failing_files_drop_nothing_twice_and_lose_nothing(kind, size, tmp_path):
    for seed in range(size.of(5, 15, 200)):
        walk_with_failing_files(kind, seed, tmp_path / f"{seed}")


def walk_with_failing_files(kind, seed, tmp_path):
    place = Place(lambda: FILES[kind](tmp_path / "chats", files=FaultyFiles))
    walk = Walk(place, random.Random(seed))
    walk.run(80)
    place.m.save(KEY)
    place.reopen()
    walk.check()
    place.close()


# Files: what a crash leaves


def path_of(tmp_path):
    return tmp_path / "chats" / ARCHIVE


@pytest.fixture(params=FILES)
def faulty(request, tmp_path):
    """Opens managers in directories of their own, with one message archived and one about to be."""
    places = []

    def open_one(name):
        place = Place(lambda: FILES[request.param](tmp_path / name, files=FaultyFiles))
        places.append(place)
        m = place.m
        say(m, "a", "b", "c")
        m.truncate_history(KEY, 2)
        m.save(KEY)
        m.truncate_history(KEY, 1)
        say(m, "d")
        return place, m._residents.store._files

    yield open_one
    for place in places:
        place.close()


def test_a_session_that_a_power_cut_brings_back_has_its_archive(faulty):
    """Its deletion was not synced; then a new session removed the archive, and one sync was for both."""
    place, files = faulty("one")
    m = place.m
    m.save(KEY)
    real, files.sync_directory = files.sync_directory, lambda: (_ for _ in ()).throw(OSError(5, "EIO"))
    with pytest.raises(SaveOutcomeUnknownError):
        m.delete(KEY)
    files.sync_directory = real
    say(m, "new")
    files.fail(0, None)
    m.save(KEY)
    assert files.log.index("sync_directory") < files.log.index("unlink")
    assert (archive(m), texts(m.get_history(KEY))) == ([], ["new"])


@pytest.mark.parametrize("then", ["save", "compact"])
def test_lines_are_cut_off_only_when_their_session_cannot_come_back(tmp_path, then):
    """A failed append was cut off, but not durably; its lines went, then the power: the message was in neither file."""
    place = Place(lambda: LogStore(tmp_path / "chats", files=FaultyFiles))
    m, files = place.m, place.m._residents.store._files
    say(m, "a", "b")
    m.save(KEY)
    m.truncate_history(KEY, 1)
    with pytest.MonkeyPatch.context() as patched:

        def broken(*_):
            raise OSError(5, "EIO")

        real = files.open_new
        patched.setattr(files, "sync_data", broken)
        patched.setattr(files, "open_new", lambda name: broken() if files.log[-1] == "close" else real(name))
        files.fail(0, None)
        with pytest.raises(SaveFailedError):
            m.save(KEY)
    assert path_of(tmp_path).exists()
    changed = []
    for name in ("rename", "unlink"):
        real = getattr(files, name)
        setattr(files, name, lambda *names, real=real: (changed.append(names[-1]), real(*names)))
    m.save(KEY) if then == "save" else m.compact(KEY)
    names = [name for name in changed if name.startswith("telegram")]
    assert names[0].endswith(".session.jsonl")
    m.save(KEY)
    assert (archive(m), texts(m.get_history(KEY))) == (["a"], ["b"])
    place.close()


CALLS = {
    "once": {},
    "sticky": {"sticky": True},
    "after": {"after": True},
}


@pytest.mark.parametrize("landed", [True, False])
def test_what_is_truncated_of_a_fork_of_unknown_outcome_is_archived(landed):
    """It was nowhere: what the calls after the fork dropped was looked for in a session without messages."""
    store = FaultyStore(MemoryStore())
    with SessionManager(store, archive=True) as m:
        m.add("k", *({"role": "user", "content": text} for text in "abc"))
        m.save("k")
        if landed:
            store.lose_ack_next()
        else:
            store.fail_next(SaveOutcomeUnknownError("fork", "on purpose"))
        with pytest.raises(SaveOutcomeUnknownError):
            m.fork("k", "fork")
        m.truncate_history("fork", 1)
        assert [message.content for message in m.get_archive("fork")] == ["a", "b"]
        m.save("fork")
        assert [message.content for message in m.get_archive("fork")] == ["a", "b"]
    assert [message.content for message in store.archive("fork")] == ["a", "b"]
    assert [message.content for message in store.load("fork").messages] == ["c"]


@pytest.mark.parametrize("when", CALLS)
@pytest.mark.parametrize("kind", [OSError(5, "EIO"), KeyboardInterrupt()], ids=["EIO", "interrupt"])
@pytest.mark.parametrize("action", ["save", "clear"])
def test_a_fault_at_any_call_of_a_save_neither_loses_nor_doubles_a_message(faulty, kind, when, action):
    number, struck = 0, True
    while struck:
        number += 1
        assert number < 60
        place, files = faulty(f"{number}")
        m = place.m
        if action == "clear":
            m.clear(KEY)
            say(m, "e", "f")
            m.truncate_history(KEY, 1)
        now = (["a", "b"], ["c", "d"]) if action == "save" else (["e"], ["f"])
        files.fail(number, kind, **CALLS[when])
        failure = None
        try:
            m.save(KEY)
        except (SaveError, KeyboardInterrupt) as error:
            failure = error
        struck = files.struck
        files.heal()
        if isinstance(failure, SaveFailedError):
            assert texts(m._residents.store.archive(KEY)) == ["a"]
        if number % 2:
            assert (archive(m), texts(m.get_history(KEY))) == now
            m.save(KEY)
            assert (texts(m._residents.store.archive(KEY)), archive(m)) == (now[0], now[0])
            m = place.reopen()
            assert (archive(m), texts(m.get_history(KEY))) == now
        else:
            crash(m)
            place.open()
            m = place.m
            assert (archive(m), texts(m.get_history(KEY))) in (now, (["a"], ["b", "c"]))
            say(m, "later")
            m.truncate_history(KEY, 0)
            m.save(KEY)
            m = place.reopen()
            assert archive(m) in ([*now[0], *now[1], "later"], ["a", "b", "c", "later"])
        assert m.verify() == []


@pytest.mark.parametrize("then", ["a plain save", "remove_last", "set_history", "another truncation", "clear"])
@pytest.mark.parametrize("here", [True, False], ids=["here", "after a crash"])
@pytest.mark.parametrize("dropped_by", ["truncate", "fold"])
def test_what_a_failed_save_archived_does_not_count_after_another_save(filed, then, here, dropped_by):
    m = filed.m
    say(m, "a", "b", "c", "d")
    m.save(KEY)
    store = m._residents.store
    entry = m._residents.peek(KEY)
    drop = m.truncate_history if dropped_by == "truncate" else None
    if drop:
        m.truncate_history(KEY, 2)
    else:
        fold(m, 1, 2)
    commit = m._residents.peek(KEY).commit("token", archive=True)
    store._archives.prepare(commit, lambda: entry.durable.version)
    assert len(Path(store.path, ARCHIVE).read_bytes().splitlines()) == 3
    assert texts(store.archive(KEY)) == []
    m.reload(KEY)
    if not here:
        crash(m)
        filed.open()
        m = filed.m
    expected = []
    if then == "a plain save":
        say(m, "e")
    elif then == "remove_last":
        m.remove_last(KEY)
    elif then == "set_history":
        m.set_history(KEY, [{"role": "user", "content": "new"}])
    elif then == "clear":
        m.clear(KEY)
    else:
        m.truncate_history(KEY, 1)
        expected = ["a", "b", "c"]
    shown = texts(m.get_history(KEY))
    m.save(KEY)
    m = filed.reopen()
    assert (archive(m), texts(m.get_history(KEY))) == (expected, shown)
    m.truncate_history(KEY, 0)
    m.save(KEY)
    assert archive(m) == [*expected, *shown]
    assert m.verify() == []


KILLED = """
import os, signal, sys
from session_manager import SessionManager
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore

class Killed(Files):
    left = None

    def _count(self):
        if Killed.left is not None:
            Killed.left -= 1
            if Killed.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

for name in ("write", "sync", "sync_data", "rename", "unlink", "sync_directory", "truncate", "close"):
    def operate(self, *arguments, name=name):
        self._count()
        return getattr(Files, name)(self, *arguments)
    setattr(Killed, name, operate)

kind, path, number = sys.argv[1:]
m = SessionManager({"snapshot": SnapshotStore, "log": LogStore}[kind](path, files=Killed), archive=True)
m.get("telegram:42")
m.truncate_history("telegram:42", 1)
Killed.left = int(number)
m.save("telegram:42")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.long
@pytest.mark.parametrize("number", range(1, 10))
def test_a_kill_at_any_moment_leaves_each_message_in_one_place(filed, number, tmp_path):
    say(filed.m, "a", "b", "c")
    filed.m.truncate_history(KEY, 2)
    filed.m.save(KEY)
    kind = "log" if isinstance(filed.m._residents.store, LogStore) else "snapshot"
    filed.close()
    run_python("-c", KILLED, kind, tmp_path / "chats", number)
    filed.open()
    m = filed.m
    state = archive(m), texts(m.get_history(KEY))
    assert state in ((["a"], ["b", "c"]), (["a", "b"], ["c"]))
    say(m, "d")
    m.save(KEY)
    m.truncate_history(KEY, 1)
    m = filed.reopen()
    assert (archive(m), texts(m.get_history(KEY))) == (["a", "b", "c"], ["d"])
    assert m.verify() == []


def test_an_append_of_lines_is_torn_if_a_power_cut_left_only_its_end(filed, size, tmp_path):
    """Zeros in the place of line feeds gave the lines behind them other numbers; the archive was called damaged."""
    m = filed.m
    say(m, "a", "b", "c", "d", "e", "f")
    m.truncate_history(KEY, 5)
    m.save(KEY)
    before, session = path_of(tmp_path).read_bytes(), None
    for path in (tmp_path / "chats").glob("*.session.json*"):
        session, old = path, path.read_bytes()
    m.truncate_history(KEY, 1)
    m.save(KEY)
    whole, new = path_of(tmp_path).read_bytes(), session.read_bytes()
    filed.close()
    length = len(whole) - len(before)
    for cut in range(1, length, size.of(7, 1, 1)):
        path_of(tmp_path).write_bytes(before + bytes(cut) + whole[len(before) + cut :])
        session.write_bytes(old)
        filed.open()
        assert (archive(filed.m), texts(filed.m.get_history(KEY))) == (["a"], ["b", "c", "d", "e", "f"])
        if cut % 50 == 0:
            say(filed.m, "g")
            filed.m.truncate_history(KEY, 1)
            filed.m.save(KEY)
            assert archive(filed.m) == ["a", "b", "c", "d", "e", "f"]
        filed.close()
        session.write_bytes(new)
        path_of(tmp_path).write_bytes(before + bytes(cut) + whole[len(before) + cut :])
        filed.open()
        if cut < length - 1 and b"\n" in whole[len(before) + cut : -1]:
            with pytest.raises(CorruptSessionError):  # these lines count: they were acknowledged
                archive(filed.m)
        filed.close()


@pytest.mark.parametrize("tail", [b'{"number":1,"gener', b"\0\0\0\0", b"\0\0\n", b"\0" * 5000 + b"x\n"])
def test_a_torn_end_is_normal_and_goes_to_quarantine_with_the_next_save(filed, tail, tmp_path):
    say(filed.m, "a", "b", "c")
    filed.m.truncate_history(KEY, 2)
    filed.m.save(KEY)
    filed.close()
    whole = path_of(tmp_path).read_bytes()
    path_of(tmp_path).write_bytes(whole + tail)
    filed.open()
    m = filed.m
    assert archive(m) == ["a"]
    assert m.verify() == []
    assert path_of(tmp_path).read_bytes() == whole + tail
    say(m, "d")
    m.save(KEY)
    assert path_of(tmp_path).read_bytes() == whole
    kept = [path.read_bytes() for path in (tmp_path / "chats").glob(".quarantine-*.archive.jsonl")]
    assert kept == [tail]
    m.truncate_history(KEY, 1)
    m.save(KEY)
    assert archive(m) == ["a", "b", "c"]


def test_what_a_clear_left_when_it_was_killed_does_not_count_and_goes(filed, tmp_path):
    say(filed.m, CANARY, "b")
    filed.m.truncate_history(KEY, 1)
    filed.m.save(KEY)
    left = path_of(tmp_path).read_bytes()
    filed.m.clear(KEY)
    filed.m.save(KEY)
    assert not path_of(tmp_path).exists()
    filed.close()
    path_of(tmp_path).write_bytes(left)
    filed.open()
    assert archive(filed.m) == []
    assert filed.m.verify() == []
    filed.m.compact(KEY)
    assert not path_of(tmp_path).exists()


# Damage


@pytest.fixture
def damaged(filed, tmp_path):
    """A closed storage with archived messages; opens it with the archive's bytes changed."""
    say(filed.m, "a", "b", CANARY, "d", "e")
    filed.m.truncate_history(KEY, 2)
    filed.m.save(KEY)
    filed.close()

    def change(how):
        data = path_of(tmp_path).read_bytes()
        path_of(tmp_path).write_bytes(how(data))
        filed.open()
        return filed.m

    return change


def without_line(number, data):
    lines = data.splitlines(keepends=True)
    return b"".join(lines[:number] + lines[number + 1 :])


DAMAGES = {
    "a flipped letter": lambda data: data.replace(CANARY.encode(), CANARY.lower().encode()),
    "a lost line": partial(without_line, 2),
    "a lost header": partial(without_line, 0),
    "a line of another session": lambda data: data.replace(b'"telegram:42"', b'"telegram:43"'),
    "a doubled line": lambda data: data + data.splitlines(keepends=True)[-1],
    "a line that is none": lambda data: data.replace(b'"position":1', b"\0\0\0"),
    "another file": lambda data: b"what is this?",
    "an empty file": lambda data: b"",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_raises_and_is_found_and_the_session_is_readable(damaged, name, tmp_path, caplog):
    m = damaged(DAMAGES[name])
    with pytest.raises(CorruptSessionError) as raised:
        m.get_archive(KEY)
    assert raised.value.path == str(path_of(tmp_path))
    assert CANARY not in str(raised.value) + repr(vars(raised.value))
    (finding,) = m.verify()
    assert (finding.key, finding.path, finding.reason) == (KEY, str(path_of(tmp_path)), raised.value.reason)
    assert texts(m.get_history(KEY)) == ["d", "e"]
    assert [hit.position for hit in m.search("d")] == [3]
    assert "left out of a search" in caplog.text
    with pytest.raises(CorruptSessionError):
        m.search("d", key=KEY)


@pytest.mark.parametrize("name", DAMAGES)
def test_saves_go_on_behind_damage_and_overwrite_nothing(damaged, name, filed, tmp_path):
    m = damaged(DAMAGES[name])
    before = path_of(tmp_path).read_bytes()
    m.truncate_history(KEY, 1)
    m.save(KEY)
    after = path_of(tmp_path).read_bytes()
    assert after.startswith(before)
    assert b'"content":"d"' in after.splitlines()[-1]
    m = filed.reopen()
    with pytest.raises(CorruptSessionError):
        m.get_archive(KEY)
    m.clear(KEY)
    m.save(KEY)
    assert archive(m) == []
    assert not path_of(tmp_path).exists()


def test_a_newer_format_is_refused_and_left_alone(damaged, tmp_path):
    m = damaged(lambda data: data.replace(b"archive/1", b"archive/2"))
    before = path_of(tmp_path).read_bytes()
    with pytest.raises(UnsupportedFormatError):
        m.get_archive(KEY)
    m.truncate_history(KEY, 1)
    with pytest.raises(UnsupportedFormatError):
        m.save(KEY)
    assert path_of(tmp_path).read_bytes() == before


def test_what_is_no_regular_file_is_not_followed(damaged, tmp_path):
    m = damaged(bytes)
    elsewhere = tmp_path / "elsewhere"
    path_of(tmp_path).rename(elsewhere)
    path_of(tmp_path).symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(CorruptSessionError, match="link"):
        m.get_archive(KEY)
    m.truncate_history(KEY, 1)
    with pytest.raises(CorruptSessionError):
        m.save(KEY)
    assert texts(m.get_history(KEY)) == ["e"]
    assert elsewhere.read_bytes() == before


def test_a_damaged_session_goes_to_quarantine_with_its_archive(damaged, tmp_path):
    m = damaged(bytes)
    (session,) = (tmp_path / "chats").glob("*.session.json*")
    session.write_bytes(b"{" + session.read_bytes())
    with pytest.raises(CorruptSessionError):
        m.get_archive(KEY)
    assert m.delete(KEY)
    assert not path_of(tmp_path).exists()
    assert len(list((tmp_path / "chats").glob(".quarantine-*.archive.jsonl"))) == 1


def test_a_damaged_row_of_an_archive_is_found(tmp_path):
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}", archive=True) as m:
        say(m, "a", "b", "c")
        m.truncate_history(KEY, 1)
    with closing(sqlite3.connect(tmp_path / "chats.db")) as connection, connection:
        connection.execute("UPDATE archive SET line = replace(line, 'b', 'x') WHERE position = 1")
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}", archive=True) as m:
        with pytest.raises(CorruptSessionError):
            m.get_archive(KEY)
        assert "archive" in m.verify()[0].reason
        assert texts(m.get_history(KEY)) == ["c"]
        m.clear(KEY)
        m.save(KEY)
        assert (archive(m), m.verify()) == ([], [])


# Privacy


@pytest.mark.parametrize("how", ["clear", "delete", "set_history and clear"])
def test_clear_and_delete_leave_no_text_in_any_file(stored, how, tmp_path):
    m = stored.m
    say(m, CANARY, f"{CANARY} 2", "c")
    m.save(KEY)
    m.truncate_history(KEY, 1)
    m.save(KEY)
    m.search("c")
    m = stored.reopen()
    assert len(m.search(CANARY)) == 2
    m.delete(KEY) if how == "delete" else m.clear(KEY)
    if how.startswith("set"):
        say(m, "x")
    m.save_all()
    assert m.search(CANARY) == []
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_files_are_private(filed, tmp_path):
    old = os.umask(0)
    try:
        say(filed.m, "a", "b", "c")
        filed.m.truncate_history(KEY, 2)
        filed.m.save(KEY)
        filed.m.truncate_history(KEY, 1)
        filed.m.save(KEY)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path_of(tmp_path).stat().st_mode) == 0o600


# The rest


def test_an_archive_changed_at_the_last_moment_is_not_written_to(filed, tmp_path):
    """Lines behind another program's would not be in order; the save fails, and the messages stay in the session."""
    m = filed.m
    say(m, *"abcd")
    m.truncate_history(KEY, 3)
    m.save(KEY)
    m.truncate_history(KEY, 2)
    files = m._residents.store._files
    open_append = files.open_append

    def changed(name):
        if name == ARCHIVE:
            with path_of(tmp_path).open("ab") as theirs:
                theirs.write(b"theirs")
        return open_append(name)

    files.open_append = changed
    with pytest.raises(SaveFailedError):
        m.save(KEY)
    files.open_append = open_append
    assert path_of(tmp_path).read_bytes().endswith(b"theirs")
    assert m.save(KEY)
    assert (archive(m), texts(m.get_history(KEY)), m.verify()) == (["a", "b"], ["c", "d"], [])


def test_a_session_without_archive_costs_no_call(filed):
    say(filed.m, "a")
    filed.m.save(KEY)
    archives = filed.m._residents.store._archives
    say(filed.m, "b")
    assert not archives.concerns(filed.m._residents.peek(KEY).commit("token", archive=True))


def test_a_reader_beside_the_writer_sees_what_is_archived(filed, tmp_path):
    with (
        closing(
            FILES["log" if isinstance(filed.m._residents.store, LogStore) else "snapshot"](
                tmp_path / "chats", read_only=True
            )
        ) as store,
        SessionManager(store, read_only=True, archive=True) as reader,
    ):
        say(filed.m, "a", "b", "c")
        filed.m.truncate_history(KEY, 2)
        filed.m.save(KEY)
        assert archive(reader) == ["a"]
        filed.m.truncate_history(KEY, 1)
        filed.m.save(KEY)
        assert (archive(reader), texts(reader.get_history(KEY))) == (["a", "b"], ["c"])
        assert len(reader.search("a")) == 1
        filed.m.clear(KEY)
        filed.m.save(KEY)
        assert archive(reader) == []


def test_a_database_of_format_1_gets_its_archive(tmp_path):
    path = tmp_path / "chats.db"
    with SessionManager(f"sqlite:{path}") as m:
        say(m, "a", "b")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE archive")
        connection.execute("DROP INDEX sessions_by_place")
        connection.execute("DROP INDEX sessions_unplaced")
        connection.execute("ALTER TABLE sessions DROP COLUMN place")
        connection.execute("ALTER TABLE sessions DROP COLUMN placed")
        connection.execute("PRAGMA user_version = 1")
    with SessionManager(f"sqlite:{path}", archive=True) as m:
        m.truncate_history(KEY, 1)
        m.save(KEY)
        assert (archive(m), texts(m.get_history(KEY))) == (["a"], ["b"])


def test_a_lost_acknowledgement_doubles_nothing(tmp_path):
    for kind in KINDS:
        (tmp_path / kind).mkdir(mode=0o700)
        store = FaultyStore(opener(kind, tmp_path / kind)())
        m = SessionManager(store, archive=True)
        say(m, "a", "b", "c")
        m.save(KEY)
        m.truncate_history(KEY, 1)
        store.lose_ack_next()
        with pytest.raises(SaveOutcomeUnknownError):
            m.save(KEY)
        assert archive(m) == ["a", "b"]
        m.save(KEY)
        assert archive(m) == ["a", "b"]
        assert texts(store.archive(KEY)) == ["a", "b"]
        m.close()
        store.close()


def test_a_clear_after_a_deletion_takes_what_was_dropped_before_it(stored):
    m = stored.m
    say(m, "a")
    m.save(KEY)
    with beside(stored) as other:
        say(other, "b", "c")
        other.truncate_history(KEY, 1)
        m.delete(KEY)
        say(m, "theirs")
        m.save(KEY)
        entry = other._residents.peek(KEY)
        change = Clear(at=stored.clock(), generation="cleared")
        with other._residents.lock.checked:
            other._residents.put(KEY, entry.changed(change, keep=True))
        say(other, "d")
        other.save(KEY)
        assert (archive(other), texts(other.get_history(KEY))) == ([], ["theirs", "d"])
        assert texts(other._residents.store.archive(KEY)) == []
