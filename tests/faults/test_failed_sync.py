"""A sync that fails once, and "succeeds" the next time: only what survives a power cut was ever acknowledged."""

from __future__ import annotations

import contextlib
import random
import tempfile
from functools import partial
from pathlib import Path

import pytest

from session_manager import SaveFailedError, SaveOutcomeUnknownError, SessionManager, StorageError
from tests.faults.expected import Ledgers, digest, shown
from tests.faults.forgetful import Disk, ForgetfulFiles, StubbornFiles
from tests.faults.worker import FILES, KEYS, WEIGHTS, Hand

#: How many walks of calls there are, each with a power cut at its end.
WALKS = (10, 200, 5000)
#: How many it may take until a mistake is seen.
PATIENCE = 100
CALLS = 60
#: The sessions that are worked on.
MINE = (0, 1, 2)


class Lines:
    """Takes what is said."""

    def __init__(self):
        self.said = []

    def say(self, *lines):
        self.said += lines


class Walk:
    """Calls on a disk whose syncs fail now and then, by processes that are killed now and then."""

    def __init__(self, kind, seed, path, files):
        self.kind, self.path, self.files = kind, path, files
        self.chance = random.Random(seed)
        self.disk, self.lines = Disk(), Lines()
        self.failures = self.kills = 0
        self.chats, self.numbers = [None] * len(KEYS), [0] * len(KEYS)
        path.mkdir(0o700)
        self.open()

    def open(self):
        self.store = FILES[self.kind](self.path, files=partial(self.files, disk=self.disk))
        self.m = SessionManager(self.store, archive=True)
        self.hand = Hand(self.m, self.lines, self.chance, MINE, self.chats, self.numbers, archives=True)

    def ledgers(self):
        ledgers = Ledgers([None] * len(KEYS))
        ledgers.take(self.lines.said)
        return ledgers

    def play(self):
        for name in self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=CALLS):
            number = self.chance.choice(MINE)
            if self.disk.fuse < 0:
                self.disk.fuse = self.chance.randrange(8)
            self.call(name if self.chats[number] is not None else "add", number)
            if self.chance.random() < 0.05:
                self.kill()

    def call(self, name, number):
        """Make one call; if it fails, each session is as it was or as it was to be."""
        before = [digest(chat) for chat in self.chats]
        try:
            getattr(self.hand, f"do_{name}")(number, KEYS[number])
        except StorageError:
            self.failures += 1
            for other in MINE:
                found = self.look(other)
                assert digest(found) in {before[other], digest(self.chats[other])}, (
                    f"a failed {name}: neither old nor new"
                )
                self.found(other, found)

    def look(self, number):
        """Look at a session: what cannot be made durable is not shown, until it can be."""
        for _ in range(20):
            with contextlib.suppress(StorageError):
                return shown(self.m, KEYS[number])
        raise AssertionError("it cannot be read any more")

    def found(self, number, chat):
        if digest(chat) != digest(self.chats[number]):
            self.chats[number] = chat
            self.hand.about(number, "found")

    def kill(self):
        """Leave everything as it is, and begin with that: the disk has not lost its power. What is shown then is durable."""
        self.kills += 1
        self.leave()
        for _ in range(20):
            self.disk.recall()  # whoever opens it cannot know what was told to somebody else
            with contextlib.suppress(StorageError):
                self.open()
                break
        for number in MINE:
            found = self.look(number)
            assert self.ledgers().contradicted(number, found) == ""
            self.found(number, found)
            self.hand.begin(number)
            self.hand.done(number)

    def leave(self):
        self.store._files.killed = True
        self.m.close(save=False)
        self.store.close()

    def cut(self, after):
        """Cut the power, and look at what is there then."""
        self.disk.fuse = -1
        self.disk.remount(after)
        ledgers = self.ledgers()
        with SessionManager(f"{self.kind}:{after}") as m:
            found = [shown(m, key) for key in KEYS]
        wrong = [text for number, chat in enumerate(found) if (text := ledgers.contradicted(number, chat))]
        assert wrong == [], (self.disk.failed, wrong)
        return ledgers.acknowledged


def walk(kind, seed, files, tmp_path):
    """Walk, and cut the power; return the walk, and how much was acknowledged."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as path:
        one = Walk(kind, seed, Path(path, "chats"), files)
        try:
            one.play()
            return one, one.cut(Path(path, "after"))
        except BaseException:
            print(f"{kind}, seed {seed}: it ended here")
            raise
        finally:
            one.leave()
            one.disk.throw_away()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", FILES)
def test_only_what_survives_was_acknowledged(kind, tmp_path, size, record_property):
    seen = dict.fromkeys(
        ("power cuts", "kills", "failed syncs", "of directories", "of archives", "raised", "acknowledged"), 0
    )
    for seed in range(size.of(*WALKS)):
        one, acknowledged = walk(kind, seed, ForgetfulFiles, tmp_path)
        failed = one.disk.failed
        seen["power cuts"] += 1
        seen["kills"] += one.kills
        seen["failed syncs"] += len(failed)
        seen["of directories"] += failed.count(".")
        seen["of archives"] += sum(name.endswith(".archive.jsonl") for name in failed)
        seen["raised"] += one.failures
        seen["acknowledged"] += acknowledged
    record_property("seen", seen)
    print(f"{kind}: {seen}")
    cuts = seen["power cuts"]
    assert seen["failed syncs"] > 3 * cuts
    assert seen["of directories"] > cuts
    assert seen["of archives"] > size.of(-1, 5, 5)
    assert seen["raised"] > cuts
    assert seen["acknowledged"] > 5 * cuts


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_synced_again_is_noticed(kind, tmp_path):
    def walk_on():
        for seed in range(PATIENCE):
            walk(kind, seed, StubbornFiles, tmp_path)

    with pytest.raises((AssertionError, StorageError)) as raised:
        walk_on()
    assert "was durable" in str(raised.value) or "damaged" in str(raised.value)


@pytest.mark.parametrize("kind", FILES)
def test_a_deletion_after_a_save_of_unknown_outcome_takes_the_session(kind, tmp_path):
    """It settled that save first; when that failed, too, it said that the session was gone, and the store had it."""
    one = Walk(kind, 1, tmp_path / "chats", ForgetfulFiles)
    one.m.add_message("k", "user", "one")
    one.disk.fuse = 1
    with pytest.raises(SaveOutcomeUnknownError):
        one.m.save("k")
    one.m.add_message("k", "user", "two")
    one.disk.fuse = 1
    with contextlib.suppress(SaveOutcomeUnknownError):
        one.m.delete("k")
    assert one.m.get("k") is None
    one.disk.fuse = -1
    one.m.delete("k")
    one.disk.remount(tmp_path / "after")
    one.leave()
    one.disk.throw_away()
    with SessionManager(f"{kind}:{tmp_path / 'after'}") as again:
        assert list(again) == []


@pytest.mark.parametrize("kind", FILES)
def test_an_archive_whose_replacement_is_in_doubt_is_replaced_again(kind, tmp_path):
    """It was appended to, under a name that a power cut took back: acknowledged messages were nowhere any more."""
    one = Walk(kind, 1, tmp_path / "chats", ForgetfulFiles)
    one.m.add("k", *({"role": "user", "content": str(number)} for number in range(6)))
    one.m.truncate_history("k", 4)
    one.m.save("k")
    one.m.truncate_history("k", 2)
    for fuse in (0, 1):  # of the lines that are appended; then of the directory, after these were cut off again
        one.disk.fuse = fuse
        with pytest.raises(SaveFailedError):
            one.m.save("k")
    assert [name.rpartition(".archive")[1] or name for name in one.disk.failed] == [".archive", "."]
    assert one.m.save("k")
    one.disk.remount(tmp_path / "after")
    one.leave()
    one.disk.throw_away()
    with SessionManager(f"{kind}:{tmp_path / 'after'}") as again:
        there = [*again.get_archive("k"), *again.get_history("k")]
    assert [message.content for message in there] == list("012345")
