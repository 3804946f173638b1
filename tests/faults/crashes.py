"""Every disk that a power cut may leave of a workload, opened with the library and checked.

`explore` runs a workload (`tests.faults.workload`), builds the disks of each of its points (`tests.faults.disk`), and checks of each that
the sessions are what they may be then.

* What the library says of a session is remembered by the bytes of its files. A disk is opened if it has a session with new bytes. It is
  opened twice, and must be the same again. Temporary files and ``.holder`` count by their names only: the simulated disk
  refuses to read them.
* Some of the other disks, chosen by their content, are read as a whole, and must say the same. Then a message is saved to each session,
  and must be there.
* Of some more, recovery and the saves after it are a workload of their own, whose points are explored as well: a power cut in the middle
  of recovery.
"""

from __future__ import annotations

import random
import zlib
from time import perf_counter

import attrs

from session_manager.stores.files.kinds import deletion_mark
from session_manager.stores.files.names import file_name
from tests.faults.disk import Disk, SimulatedFiles, simulation
from tests.faults.promises import KEYS, KINDS, NOTHING, Process, Run, fact
from tests.faults.workload import Workload

#: Of so many disks that differ one is read whole, and saved to.
READ_OF = 40
#: So many disks of a workload are recovered with power cuts in between; where writes are torn at every byte, so many.
RECOVERED, RECOVERED_FINE = 12, 1


class ViolationError(AssertionError):
    """A promise was broken."""


@attrs.define
class Report:
    """What was explored."""

    points: int = 0
    #: Disks that were built and checked, each as often as a point may leave it.
    states: int = 0
    #: Of these, those that a power cut in the middle of recovery leaves.
    recovering: int = 0
    #: Disks of these that differ.
    disks: int = 0
    #: How often the library opened one.
    openings: int = 0
    seconds: float = 0.0

    def add(self, other):
        for name in ("points", "states", "recovering", "disks", "openings", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def explore(kind, seed, steps, *, fine=False, only=None):
    """Run a workload, and check every disk that it may leave.

    :param kind: the store: ``"snapshot"`` or ``"log"``.
    :param steps: how many steps it has.
    :param fine: tear writes at every byte.
    :param only: the names of the steps; all by default.
    :raises ViolationError: or any other error: something is wrong.
    """
    begun = perf_counter()
    report = Report()
    with simulation():
        checkers = {one: Checker(one, report, fine) for one in KINDS}
        run = Workload(kind, seed)
        for point in run.work(steps, only):
            checkers[point.kind].check(point)
        for checker in checkers.values():
            checker.recover()
    report.seconds = perf_counter() - begun
    return report


def found_in(kind, disk, keys=KEYS, *, save=None):
    """Open a disk, and return what some sessions are; close it.

    :param save: then add a message to each session, and save it; the message.
    """
    store = KINDS[kind]("/simulated", files=lambda path: SimulatedFiles(path, disk))
    m = Process(store, archive=True)
    found = {key: fact(m.get(key), m.get_archive(key)) for key in keys}
    if alone := store._archives.alone():
        raise ViolationError(f"an archive was left without its session, and is not known to be garbage: {alone}")
    if save is not None:
        if sorted(m) != sorted(key for key, there in found.items() if there != NOTHING):
            raise ViolationError("the list of sessions and the sessions differ")
        for key in keys:
            m.add_message(key, "user", save)
        m.save_all()
    m.close()
    store.close()
    return found


def owners(kind):
    """Return whose each name of a file is."""
    suffix = ".session.json" if kind == "snapshot" else ".session.jsonl"
    owned = {file_name(key, end): key for key in KEYS for end in (suffix, ".archive.jsonl")}
    marks = {deletion_mark(file_name(key, ".archive.jsonl")): key for key in KEYS}
    return {**owned, **marks}


@attrs.define(eq=False)
class Checker:
    """Checks points of one kind of store, and remembers what it found on which disk.

    :param kind: of store.
    :param report: counts.
    """

    kind: str
    report: Report
    fine: bool = False
    #: What each session is, by the disk that was checked.
    checked: dict = attrs.field(factory=dict)
    #: What a session is, by its files.
    known: dict = attrs.field(factory=dict)
    #: Disks to recover with power cuts in between, and what each session may be on them.
    left: list = attrs.field(factory=list)
    owners: dict = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.owners = owners(self.kind)

    def check(self, point):
        """Check every disk that a point may leave."""
        report, seen = self.report, set()
        report.points += 1
        for content in point.disk.disks(fine=self.fine):
            report.states += 1
            key = tuple([pair if pair[0][0] != "." or pair[0] in self.owners else pair[0][:5] for pair in content])
            if key in seen:
                continue
            seen.add(key)
            found = self.checked.get(key)
            if found is None:
                report.disks += 1
                found = self.checked[key] = self.found(content, point.allowed)
            for session, there in found.items():
                if there not in point.allowed[session]:
                    raise ViolationError(said(session, there, point, content))

    def found(self, content, allowed):
        """Return what each session on a disk is."""
        parts = {key: [] for key in KEYS}
        for name, data in content:
            if name in self.owners:
                parts[self.owners[name]].append((name, data))
        clean = any(name == ".clean" for name, _ in content)
        parts = {key: (key, clean, *part) for key, part in parts.items()}
        new = [key for key, part in parts.items() if part not in self.known]
        if new:
            for key, there in self.opened(content, new).items():
                self.known[parts[key]] = there
            self.left.append((content, allowed))
        found = {key: self.known[part] for key, part in parts.items()}
        if zlib.crc32(repr(content).encode()) % READ_OF == 0:
            self.saved(found, content)
        return found

    def opened(self, content, keys):
        """Open a disk, twice, and return what some sessions are."""
        self.report.openings += 2
        disk = Disk(dict(content))
        found = found_in(self.kind, disk, keys)
        if any(name.startswith((".tmp-", ".deleted-")) for name in disk.names) or disk.descriptors:
            raise ViolationError(f"recovery left {list(disk.names)}, {disk.descriptors}")
        if found_in(self.kind, disk, keys) != found:
            raise ViolationError("the second opening found something else")
        return found

    def saved(self, known, content):
        """Read a disk whole, save a message to each session, and look whether it was added, and nothing else has changed."""
        self.report.openings += 2
        text = "after the power cut"
        disk = Disk(dict(content))
        if found_in(self.kind, disk, save=text) != known:
            raise ViolationError(f"what is known of the sessions is not so on {content}")
        after = found_in(self.kind, disk)
        for key in KEYS:
            session, archive = known[key]
            lines = [] if session is None else session.split("\n")[2:]
            there = (after[key][0] or "").split("\n")[2:]
            if there[:-1] != lines or text not in there[-1] or after[key][1] != archive:
                raise ViolationError(f"{key}: {known[key]} and a message became {after[key]}")

    def recover(self):
        """Recover some of the disks, and check every disk that a power cut in the middle of that may leave."""
        report, before = self.report, self.report.states
        draw = random.Random(len(self.left))
        most = RECOVERED_FINE if self.fine else RECOVERED
        for number, (content, allowed) in enumerate(draw.sample(self.left, min(len(self.left), most))):
            run = Run(self.kind, number, dict(content), allowed)
            run.open()
            for key in KEYS:
                run.m.get(key)
            key = KEYS[number % len(KEYS)]
            run.m.add_message(key, "user", "after the power cut")
            run.m.truncate_history(key, 2)
            run.m.save(key)
            run.m.close()
            run.store.close()
            for point in run.points:
                self.check(point)
        report.recovering += report.states - before


def said(session, there, point, content):
    """Say what is wrong with a session on a disk."""
    allowed = "\n   or ".join(map(str, point.allowed[session]))
    return f"{session} is\n      {there}\n   not {allowed}\n on {content}"
