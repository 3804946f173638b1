"""Power cuts at any moment, and disks that fail before: each message is in the session or in its archive, and in one of them."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import attrs
import pytest

from session_manager import SaveError, SaveFailedError, SaveOutcomeUnknownError, SessionManager, StorageError
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import crash
from tests.support.power_cut import PowerFiles

KEY = "telegram:42"
STORES = {"snapshot": SnapshotStore, "log": LogStore}
BREAKABLE = ("open_new", "open_append", "write", "sync", "sync_data", "truncate", "rename", "unlink", "sync_directory")


class PowerCut(BaseException):
    """Raised by every operation from the cut on."""


@attrs.define(eq=False)
class Walk:
    """Writes, fails and cuts at random, and knows what may be there after each cut: (history, archive)."""

    store: type
    path: Path
    chance: random.Random
    m: SessionManager = attrs.field(init=False)
    #: What may be found after a cut.
    allowed: list = attrs.field(factory=lambda: [([], [])])
    number: int = 0
    cuts: int = 0

    def __attrs_post_init__(self):
        self.open()

    @property
    def files(self):
        return self.m._residents.store._files

    def open(self):
        place = self.path / f"{self.cuts}"
        place.mkdir(mode=0o700, exist_ok=True)
        self.m = SessionManager(self.store(place, files=PowerFiles), archive=True)

    def shown(self):
        history, archive = self.m.get_history(KEY), list(self.m.get_archive(KEY))
        return [one.content for one in history], [one.content for one in archive]

    def run(self, steps):
        for _ in range(steps):
            self.change()
            name = self.chance.choices(["save", "fail", "cut", "crash"], [4, 4, 2, 1])[0]
            getattr(self, name)()
        self.files.heal()
        crash(self.m)

    def change(self):
        for _ in range(self.chance.randrange(3)):
            if self.chance.random() < 0.5:
                self.number += 1
                self.m.add_message(KEY, "user", f"{self.number}")
            elif self.chance.random() < 0.8:
                self.m.truncate_history(KEY, self.chance.randrange(4))
            elif self.chance.random() < 0.7:
                self.m.set_history(KEY, [])
            elif KEY in self.m:
                self.m.clear(KEY)

    def save(self):
        wanted = self.shown()
        self.m.save(KEY)
        if KEY in self.m:
            self.allowed = [wanted]

    def fail(self):
        """Save while something fails; give the changes up now and then."""
        wanted = self.shown()
        sticky, after = self.chance.random() < 0.3, self.chance.random() < 0.3
        if self.chance.random() < 0.5:
            self.files.fail(self.chance.randrange(1, 25), OSError(5, "EIO"), sticky=sticky, after=after)
        else:
            self.files.broken = frozenset(self.chance.sample(BREAKABLE, self.chance.randrange(1, 5)))
        try:
            self.m.save(KEY)
            self.allowed = [wanted] if KEY in self.m else self.allowed
        except SaveFailedError:
            pass
        except (SaveError, StorageError):
            self.allowed.append(wanted)
        self.files.heal()
        self.files.broken = frozenset()
        if self.chance.random() < 0.3:
            self.m.reload(KEY)
            assert self.shown() in self.allowed

    def cut(self):
        """Cut the power, most often in the middle of a save."""
        wanted = self.shown()
        self.files.fail(self.chance.randrange(1, 25), PowerCut(), sticky=True, after=self.chance.random() < 0.5)
        try:
            self.m.save(KEY)
            self.allowed = [wanted] if KEY in self.m else self.allowed
        except PowerCut:
            self.allowed.append(wanted)
        files, self.cuts = self.files, self.cuts + 1
        place = self.path / f"{self.cuts}"
        place.mkdir(mode=0o700)
        files.cut(place, self.chance)
        files.heal()
        crash(self.m)
        self.found()

    def crash(self):
        """Kill the process: what it wrote and did not sync is in the page cache, and may be lost yet."""
        crash(self.m)
        self.found()

    def found(self):
        self.open()
        found = self.shown()
        assert found in self.allowed, (found, self.allowed)
        assert [one for one in self.m.verify() if "torn record" not in one.reason] == []
        self.allowed = [found]


@pytest.mark.parametrize("kind", STORES)
def test_a_power_cut_leaves_each_message_in_one_place(kind, tmp_path, size):
    for seed in range(size.of(3, 40, 1000)):
        path = tmp_path / f"{seed}"
        path.mkdir()
        walk = Walk(STORES[kind], path, random.Random(seed))
        try:
            walk.run(60)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


class Oldest(random.Random):
    """Of everything, what was synced last."""

    def choice(self, seq):
        return seq[0]

    def randrange(self, *_):
        return 0


@attrs.define(eq=False)
class Bench:
    """A session with something archived in a store whose files fail, and what a power cut leaves of it."""

    store: type
    path: Path
    m: SessionManager = attrs.field(init=False)
    cuts: int = 0

    def __attrs_post_init__(self):
        self.open("0")

    def open(self, name):
        (self.path / name).mkdir(mode=0o700, exist_ok=True, parents=True)
        self.m = SessionManager(self.store(self.path / name, files=PowerFiles), archive=True)

    def say(self, *texts):
        for text in texts:
            self.m.add_message(KEY, "user", text)

    @property
    def files(self):
        return self.m._residents.store._files

    def fail(self, *operations, error=SaveFailedError):
        self.files.broken = frozenset(operations)
        with pytest.raises(error):
            self.m.save(KEY)
        self.files.broken = frozenset()

    def cut(self, chance):
        """Cut the power; return what is there then."""
        self.cuts += 1
        files, name = self.files, f"cut-{self.cuts}"
        (self.path / name).mkdir(mode=0o700)
        files.cut(self.path / name, chance)
        files.heal()
        crash(self.m)
        self.open(name)
        return self.shown()

    def shown(self):
        history, archive = self.m.get_history(KEY), list(self.m.get_archive(KEY))
        return [one.content for one in history], [one.content for one in archive]


@pytest.mark.parametrize("kind", STORES)
def test_an_archive_whose_replacement_might_be_lost_is_not_appended_to(kind, tmp_path):
    """What was appended to it by an acknowledged save was gone with it, when the power was cut."""
    bench = Bench(STORES[kind], tmp_path)
    bench.say("a", "b", "c", "d")
    bench.m.truncate_history(KEY, 3)
    bench.m.save(KEY)
    bench.m.truncate_history(KEY, 2)
    bench.fail("sync_data")
    bench.fail("sync_directory")
    bench.m.save(KEY)
    assert bench.cut(Oldest()) == (["c", "d"], ["a", "b"])
    crash(bench.m)


@pytest.mark.parametrize("kind", STORES)
def test_an_archive_whose_removal_might_be_lost_is_removed_again(kind, tmp_path):
    """It came back with the power, and what it had not to show was in the session and in the archive."""
    bench = Bench(STORES[kind], tmp_path)
    bench.say("a", "b")
    bench.m.save(KEY)
    crash(bench.m)
    bench.open("0")
    bench.m.truncate_history(KEY, 1)
    store = bench.m._residents.store
    commit = bench.m._residents.peek(KEY).commit("token", archive=True)
    store._archives.prepare(commit, lambda: commit.base)  # what a save did that failed then
    bench.m.reload(KEY)
    bench.say("c")
    bench.fail("sync_directory")
    bench.m.save(KEY)
    assert bench.cut(Oldest()) == (["a", "b", "c"], [])
    crash(bench.m)


@pytest.mark.long
@pytest.mark.parametrize("then", ["save", "reload"])
def test_an_archive_is_not_cut_before_a_failed_record_is_gone_for_good(then, tmp_path, monkeypatch):
    """A record that was cut off, and whose removal nobody synced, came back with the power, and what it archived did not."""
    number, struck = 0, True
    while struck:
        number += 1
        for seed in range(12):
            bench = Bench(LogStore, tmp_path / f"{number}-{seed}")
            bench.say("a", "b", "c")
            bench.m.truncate_history(KEY, 2)
            bench.m.save(KEY)
            bench.m.truncate_history(KEY, 1)
            with monkeypatch.context() as patched:
                _fail_from_the_second_sync_on(bench.files, patched)
                bench.fail(error=SaveOutcomeUnknownError)
            assert bench.m._residents.store._logs[KEY].status == "doubtful"
            bench.files.fail(number, PowerCut(), sticky=True)
            with contextlib.suppress(PowerCut):
                getattr(bench.m, then)(KEY)
            struck = bench.files.struck
            assert bench.cut(random.Random(seed)) in ((["b", "c"], ["a"]), (["c"], ["a", "b"]))
            crash(bench.m)
    assert number > 20


def _fail_from_the_second_sync_on(files, patched):
    """Let the archive be written, and nothing of the session, but for the truncation of its file."""
    sync_data, calls = files.sync_data, []

    def sync(fd):
        calls.append(fd)
        if len(calls) == 2:
            files.broken = frozenset({"sync", "sync_data", "open_new"})
        sync_data(fd)

    patched.setattr(files, "sync_data", sync)


def test_a_save_that_failed_does_not_come_back_after_a_power_cut(tmp_path):
    """The record was cut off, but that was not synced."""
    for seed in range(10):
        bench = Bench(LogStore, tmp_path / f"{seed}")
        bench.say("a")
        bench.m.save(KEY)
        bench.say("b")
        bench.fail("sync_data", "open_new")
        assert bench.cut(random.Random(seed)) == (["a"], [])
        crash(bench.m)
