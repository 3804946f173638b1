"""A manager on a simulated disk, and what may be on that disk at each moment of its life.

A `Run` drives a manager by a seed. Between the manager and the store stands a `Witness`, which tells the run, before a
write is begun, what it is to leave, and after it what was acknowledged. At each change of the disk, and at each acknowledgement, the run
takes note of a `Point`: what a power cut could leave, and what each session may be then:

* what was acknowledged last, whole, or what a write leads to that was begun since then and was not acknowledged: there is no third;
* session and archive are one: the old session has the old archive, the new one the new archive. So no message is in both, and none in neither;
* what was read back, and shown, counts as acknowledged: it must not go away with the power.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading

import attrs

from session_manager import SaveFailedError, SaveOutcomeUnknownError, SessionManager, StorageError
from session_manager.model.changes import Clear
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import Clock, FaultyStore
from tests.faults.disk import Disk, FaultyDisk, Frozen, KilledError
from tests.support.strategies import facts

KINDS = {"snapshot": SnapshotStore, "log": LogStore}
KEYS = ("telegram:42", "Slack_C01", "k" * 250, "old:1")
#: A session that is not there, and has no archive.
NOTHING = (None, ())


def fact(session, archive):
    """Return all that a session and its archive hold."""
    return (None if session is None else facts(session), tuple(map(facts, archive)))


def ids(seed):
    """Return a source of random ids that are the same each time."""
    draw = random.Random(seed)
    return lambda: f"{draw.getrandbits(64):016x}"


@attrs.frozen
class Point:
    """A moment at which the power may go."""

    kind: str
    disk: Frozen
    #: What each session may be.
    allowed: dict[str, tuple]


class Process(SessionManager):
    """A manager whose process has ended, if nobody uses it any more: it does not warn of what is not saved."""

    def __del__(self):
        pass


class Witness(FaultyStore):
    """A store that says what is about to be written, what was, and what was read.

    :param store: the store.
    :param run: is told.
    """

    def __init__(self, store, run):
        super().__init__(store)
        self.run = run

    def write(self, commit):
        key = commit.session.key
        before = self.run.allowed[key]
        after = self.run.begin(key, commit)
        try:
            self.store.write(commit)
        except SaveFailedError:
            self.run.withdraw(key, before)
            raise
        self.run.acknowledge(key, after)

    def write_many(self, commits):
        before = self.run.allowed
        afters = [self.run.begin(commit.session.key, commit) for commit in commits]
        errors = self.store.write_many(commits)
        for commit, after, error in zip(commits, afters, errors, strict=True):
            if error is None:
                self.run.acknowledge(commit.session.key, after)
            elif isinstance(error, SaveFailedError):
                self.run.withdraw(commit.session.key, before[commit.session.key])
        return errors

    def write_together(self, commits):
        (commit,) = commits  # a directory writes one
        self.write(commit)

    def landed(self, commit):
        key = commit.session.key
        before = self.run.allowed[key]
        after = self.run.begin(key, commit)
        landed = self.store.landed(commit)
        if landed:
            self.run.acknowledge(key, after)
        elif landed is False:
            self.run.withdraw(key, (before[0], *(one for one in before[1:] if one != after)))
        return landed

    def delete(self, key, expected=None):
        before = self.run.allowed[key]
        self.run.attempt(key, NOTHING)
        try:
            deleted = self.store.delete(key, expected)
        except SaveOutcomeUnknownError:
            self.run.undeleted.add(key)
            raise
        except StorageError:
            self.run.withdraw(key, before)
            raise
        if deleted or expected is None:
            self.run.acknowledge(key, NOTHING)
        else:
            self.run.withdraw(key, before)
        return deleted

    def rename(self, key, new_key, expected):
        session = self.store.load(key)
        after = fact(attrs.evolve(session, key=new_key), self.store.archive(key))
        self.run.attempt(key, NOTHING)
        self.run.attempt(new_key, after)
        self.store.rename(key, new_key, expected)
        self.run.acknowledge(key, NOTHING)
        self.run.acknowledge(new_key, after)

    def load(self, key):
        session = self.store.load(key)
        self.run.read(key, session, self.store)
        return session


class Run:
    """A manager on a simulated disk, and what it has promised.

    :param kind: of which store.
    :param seed: of everything that is random.
    :param content: what is on the disk.
    :param known: what each session is, if that is known.
    """

    def __init__(self, kind, seed, content=None, known=None):
        self.kind, self.seed = kind, seed
        self.draw = random.Random(f"{kind} {seed}")
        self.clock = Clock()
        self.new_id = ids(seed)
        self.points = []
        self.records = True
        #: What each session may be: what was acknowledged last comes first.
        self.allowed = dict.fromkeys(KEYS, (NOTHING,)) if known is None else known
        #: The next position of each session, as it was shown last after a save.
        self.ends = {}
        #: What this process has deleted, without knowing whether that survives a power cut.
        self.undeleted = set()
        self.number = itertools.count(1)
        self.refs = itertools.count(1)
        #: After so many changes of the disk, what another thread does in the middle of the next one.
        self.meanwhile = None
        #: What that thread raised.
        self.raised = []
        self.put(content or {})

    # The disk

    def put(self, content):
        """Put a disk into the machine."""
        self.disk = Disk(content)
        self.disk.changed = self.changed

    def open(self, *, archive=True, point=True):
        """Open the storage that is on the disk."""
        if point:
            self.point()
        self.files, self.undeleted = None, set()

        def files(path):
            self.files = FaultyDisk(path, self.disk)
            return self.files

        self.store = Witness(KINDS[self.kind]("/simulated", files=files), self)
        self.m = Process(self.store, clock=self.clock, random_id=self.new_id, archive=archive)

    def changed(self):
        self.point()
        if self.meanwhile is not None:
            left, work = self.meanwhile
            self.meanwhile = (left - 1, work) if left else None
            if not left:
                thread = threading.Thread(target=self.guarded, args=(work,))
                thread.start()
                thread.join()

    def guarded(self, work):
        try:
            work()
        except BaseException as error:
            self.raised.append(error)

    def point(self):
        if self.records:
            self.points.append(Point(self.kind, self.disk.freeze(), self.allowed))

    def leave(self):
        """End the process: what is not on the disk is lost; what was not synced is still there, for the next process."""
        self.files.dead = True
        self.disk.descriptors.clear()
        with contextlib.suppress(KilledError):
            self.m.close(save=False)
        with contextlib.suppress(KilledError):
            self.store.close()

    # What is promised

    def expected(self, commit):
        """Return what a commit leads to."""
        last = self.allowed[commit.session.key][0][1]
        cleared = commit.base is None or any(isinstance(change, Clear) for change in commit.changes)
        kept = [] if cleared else [(int(position_in(one)), one) for one in last]
        kept += [(position, facts(message)) for position, message in commit.archived]
        return (facts(commit.session), tuple(one for _, one in sorted(kept)))

    def begin(self, key, commit):
        after = self.expected(commit)
        self.attempt(key, after)
        return after

    def attempt(self, key, after):
        if after not in self.allowed[key]:
            self.allowed = {**self.allowed, key: (*self.allowed[key], after)}

    def withdraw(self, key, before):
        """Take note that a write has certainly not happened: nothing may come of it, after a power cut either."""
        self.allowed = {**self.allowed, key: before}
        self.point()

    def acknowledge(self, key, after):
        if self.allowed[key] != (after,):
            self.allowed = {**self.allowed, key: (after,)}
        self.undeleted.discard(key)
        self.point()

    def read(self, key, session, store):
        """Take note of what was read: from now on it must not go away.

        Only a deletion of which nobody knows whether it survives a power cut shows no session, and promises nothing (`SessionManager.delete`).
        """
        there = fact(session, store.archive(key) if session is not None else ())
        assert there in self.allowed[key], f"read what was never written: {key}"
        if there != NOTHING or key not in self.undeleted:
            self.acknowledge(key, there)

    def check_ram(self, key):
        """Check that what was saved was told to the store, and is what the manager shows; and that no position is used twice."""
        if session := self.m.get(key):
            assert session.end >= self.ends.get((key, session.generation), 0), "a position is used twice"
            self.ends[key, session.generation] = session.end
        if key in self.m.health().dirty:
            return
        shown = fact(self.m.get(key), self.m.get_archive(key))
        if shown == NOTHING and key in self.undeleted:
            assert NOTHING in self.allowed[key]
            return
        assert self.allowed[key] == (shown,), f"saved, they say, but the store was told something else: {key}"


def position_in(text):
    """Return the position that is in the facts of a message."""
    return text.rstrip(")").rsplit(", ", 2)[1]
