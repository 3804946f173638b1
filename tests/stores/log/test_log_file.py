"""Every status of a log file, and every transition that its docstring names: walked at random, with faults and power cuts."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from session_manager import SaveError, SaveFailedError, SessionManager, StorageError
from session_manager.stores.log import LogStore
from session_manager.stores.log.file import LogFile
from session_manager.stores.log.replay import decode
from session_manager.testing import crash
from tests.support.laws import examples
from tests.support.power_cut import PowerFiles

KEY = "telegram:42"
NAME = "telegram~3a42.session.jsonl"
STATUSES = ("unread", "clean", "torn", "spent", "suspect", "doubtful")
STEPS = (
    "looked_at",
    "read",
    "distrust",
    "appending",
    "appended",
    "cutting",
    "cut",
    "cut_back",
    "link_found",
    "replacing",
    "undone",
    "replaced",
    "doubt",
    "gone",
)
BREAKABLE = (
    "open_new",
    "open_append",
    "fstat",
    "write",
    "sync",
    "sync_data",
    "truncate",
    "rename",
    "unlink",
    "sync_directory",
)
EMPTY = ([], [])


class Interrupt(BaseException):
    """Stands for Ctrl-C."""


class PowerCut(BaseException):
    """Raised by every operation from the cut on."""


def documented():
    """Return the table of transitions in the docstring: the steps, and from which status to which each may lead."""
    table = {}
    for line in inspect.cleandoc(LogFile.__doc__).split("\n"):
        found = re.match(r"([a-z]+(?: [a-z]+)?)  +([a-z, ]+?)  +(.+)$", line)
        step = found.group(1).replace(" ", "_") if found else None
        if step not in STEPS:
            continue
        before = STATUSES if found.group(2) == "any" else found.group(2).split(", ")
        words = [word for word in re.findall(r"[a-z]+", found.group(3)) if word in STATUSES]
        after = None if "the one before" in found.group(3) else words
        for one in before:
            table.setdefault((step, one), set()).update([one] if "the same" in found.group(3) else after or STATUSES)
    return table


def noting(seen, name, real):
    def step(file, *arguments, **options):
        before = file.status
        result = real(file, *arguments, **options)
        seen.add((name, before, file.status))
        return result

    return step


@contextmanager
def watched(seen):
    """Note each step that any file takes, as (step, status before, status after)."""
    with pytest.MonkeyPatch.context() as patched:
        for name in STEPS:
            patched.setattr(LogFile, name, noting(seen, name, getattr(LogFile, name)))
        patched.setattr("session_manager.stores.log.file._COMPACT_FROM", 3000)
        yield


#: Failures that leave a file in each of the worse statuses, as (what fails).
WORSE = (
    {"sync_data", "open_new"},
    {"sync_data", "truncate", "open_new"},
    {"sync_data", "truncate", "sync_directory"},
    {"write", "truncate", "rename"},
    {"sync_directory"},
    {"sync"},
    {"truncate"},
    {"unlink"},
    {"rename"},
)
#: Changes before a save. The first one creates the session, if there is none.
kinds = st.lists(st.sampled_from(["truncate", "note", "clear", "add", "add large"]), max_size=2).map(
    lambda some: ["add", *some]
)
faults = st.one_of(
    st.none(),
    st.sampled_from(WORSE).map(frozenset),
    st.sampled_from(WORSE).map(frozenset),
    st.frozensets(st.sampled_from(BREAKABLE), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {
            "number": st.integers(1, 20),
            "error": st.sampled_from([OSError(5, "EIO"), Interrupt()]),
            "sticky": st.booleans(),
            "after": st.booleans(),
        }
    ),
)


#: The operation at which a save ends: an append has five, a whole write some more.
moments = st.one_of(st.integers(1, 6), st.integers(1, 25))
syncs = st.just(frozenset({"sync"}))
chances = st.one_of(st.none(), st.integers(0, 1000))


class LogFileMachine(RuleBasedStateMachine):
    """Writes, reads, fails, and loses its power, with one session; what is found must be what was acknowledged, or was being written."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name)
        self.places = 0
        #: What each backup holds.
        self.backups = {}
        self.number = 0
        #: What may be found after a power cut: (history, archive).
        self.allowed = [EMPTY]
        self.open()

    def open(self, killed=None):
        """Open the store.

        :param killed: the files of the process that was killed there: what it did not sync, the power may still take.
        """

        def opened(path):
            files = PowerFiles(path)
            if killed is not None:
                files._inodes, files._targets = killed._inodes, killed._targets
            return files

        self.place = self.path / f"{self.places}"
        self.place.mkdir(mode=0o700, exist_ok=True)
        self.store = LogStore(self.place, files=opened)
        self.files = self.store._files
        self.m = SessionManager(self.store, archive=True)

    def teardown(self):
        self.files.heal()
        crash(self.m)
        self.directory.cleanup()

    def shown(self):
        history, archive = self.m.get_history(KEY), list(self.m.get_archive(KEY))
        return [one.content for one in history], [one.content for one in archive]

    @contextmanager
    def broken(self, fault):
        if isinstance(fault, frozenset):
            self.files.broken = fault
        elif fault is not None:
            self.files.fail(**fault)
        try:
            yield
        finally:
            self.files.broken = frozenset()
            self.files.heal()

    def found(self):
        found = self.shown()
        assert found in self.allowed, (found, self.allowed)
        self.allowed = [found]

    # What a program does

    @rule(kinds=kinds)
    def change(self, kinds):
        for kind in kinds:
            self.number += 1
            if kind.startswith("add"):
                self.m.add_message(KEY, "user", f"{self.number} " + "x" * 1500 * (kind == "add large"))
            elif kind == "truncate":
                self.m.truncate_history(KEY, self.number % 3)
            elif kind == "note":
                self.m.update_metadata(KEY, {"number": self.number})
            else:
                self.m.clear(KEY)

    @rule(kinds=kinds, attempts=st.lists(faults, min_size=1, max_size=3))
    def save(self, kinds, attempts):
        self.change(kinds)
        wanted = self.shown()
        for fault in attempts:
            try:
                with self.broken(fault):
                    self.m.save(KEY)
                self.allowed = [wanted]
            except SaveFailedError:
                pass
            except (SaveError, StorageError, Interrupt):
                self.allowed.append(wanted)

    @rule(fault=faults)
    def reload(self, fault):
        try:
            with self.broken(fault):
                self.m.reload(KEY)
        except (SaveError, StorageError, Interrupt):
            return
        self.found()

    @rule(fault=faults, name=st.sampled_from(["compact", "verify"]))
    def look_after(self, fault, name):
        findings = None
        with contextlib.suppress(SaveError, StorageError, Interrupt), self.broken(fault):
            findings = getattr(self.m, name)(KEY)
        assert fault or not findings or ["torn record" in one.reason for one in findings] == [True]

    @rule(kinds=kinds, before=faults, fault=faults)
    def delete(self, kinds, before, fault):
        self.save(kinds, [before])
        with contextlib.suppress(SaveError, StorageError, Interrupt), self.broken(fault):
            self.m.delete(KEY)
        self.m.delete(KEY)
        self.allowed = [EMPTY]
        self.found()

    @rule()
    def release(self):
        self.store.release(KEY)

    # What other programs do

    @rule()
    def link(self):
        """Make a backup of hard links."""
        file = self.place / NAME
        if file.exists():
            backup = self.path / f"backup-{len(self.backups)}"
            os.link(file, backup)
            self.backups[backup] = backup.read_bytes()

    @rule()
    def copy_over(self):
        """Put another file of the same content there."""
        if (self.place / NAME).exists():
            fd = self.files.open_new("copy")
            self.files.write(fd, [(self.place / NAME).read_bytes()])
            self.files.sync(fd)
            self.files.close(fd)
            self.files.rename("copy", NAME)
            self.files.sync_directory()

    # How it ends

    @rule()
    def close(self):
        self.m.close(save=False)
        self.store.close()
        self.open()
        self.found()

    @rule(
        kinds=kinds,
        number=moments,
        torn=st.booleans(),
        fault=st.one_of(faults, syncs),
        cut=chances,
    )
    def kill(self, kinds, number, torn, fault, cut):
        """Kill the process, most often in the middle of a save; what is found then must not go with the power."""
        self.change(kinds)
        self.end_in_a_save(number)
        if torn and (self.place / NAME).exists() and (self.place / NAME).stat().st_nlink == 1:
            fd = self.files.open_append(NAME)
            self.files.write(fd, [b'{"changes":['])
            self.files.close(fd)
        self.m.close(save=False)
        self.store._directory.close()
        self.open(killed=self.files)
        with contextlib.suppress(StorageError, Interrupt), self.broken(fault):
            self.m.get(KEY)
        self.found()
        if cut is not None:
            self.lose_power(cut)

    @rule(kinds=kinds, number=moments, chance=st.integers(0, 1000))
    def cut(self, kinds, number, chance):
        """Cut the power, most often in the middle of a save."""
        self.change(kinds)
        self.end_in_a_save(number)
        self.lose_power(chance)

    @rule(chance=st.integers(0, 1000))
    def lose_power(self, chance):
        self.places += 1
        place = self.path / f"{self.places}"
        place.mkdir(mode=0o700)
        self.files.cut(place, random.Random(chance))
        crash(self.m)
        self.open()
        self.found()

    def end_in_a_save(self, number):
        """Save, and do nothing any more from some operation on."""
        wanted = self.shown()
        self.files.fail(number, PowerCut(), sticky=True)
        try:
            self.m.save(KEY)
            self.allowed = [wanted]
        except PowerCut:
            self.allowed.append(wanted)
        self.files.heal()

    # What is known is true

    @invariant()
    def the_table_holds_what_there_is_to_remember(self):
        assert set(self.store._logs) <= {KEY}
        for file in self.store._logs.values():
            assert file.status in STATUSES[1:]
            assert file.commit is None or file.status == "doubtful"
            assert file.status != "clean" or file.facts is not None

    @invariant()
    def backups_are_as_they_were_made(self):
        assert {backup: backup.read_bytes() for backup in self.backups} == self.backups

    @invariant()
    def the_facts_are_those_of_the_file(self):
        file, path = self.store._logs.get(KEY), self.place / NAME
        facts = None if file is None else file.facts
        if facts is None or not path.exists() or not self.store._reader.is_still(NAME, facts.signature):
            return
        log = decode(path.read_bytes(), NAME)
        assert (log.session.version, log.fingerprint, log.torn) == (facts.version, facts.fingerprint, facts.torn)
        assert log.session.metadata == dict(facts.metadata)


@pytest.mark.parametrize("number", range(1, 9))
def test_an_interrupted_sync_is_not_taken_for_a_sync(number):
    """A killed save was read, Ctrl-C came before the sync, and the next reading took it for durable."""
    machine = LogFileMachine()
    try:
        machine.cut(kinds=["add"], number=8, chance=0)
        fault = {"number": 2, "error": Interrupt(), "sticky": False, "after": False}
        machine.kill(kinds=["add"], number=number, torn=False, fault=fault, cut=0)
    finally:
        machine.teardown()


def walk(examples, number):
    """Return the steps that random walks took."""
    seen = set()
    machine = seed(number)(type("Walk", (LogFileMachine,), {}))
    options = {"deadline": None, "database": None, "phases": (Phase.generate, Phase.shrink), "derandomize": False}
    with watched(seen):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples, stateful_step_count=40, suppress_health_check=list(HealthCheck), **options
            ),
        )
    table = documented()
    assert {
        (step, before, after) for step, before, after in seen if after not in table.get((step, before), ())
    } == set()
    return {(step, before) for step, before, _ in seen}


@pytest.mark.hypothesis
def test_every_transition_is_in_the_table():
    """A file was in statuses that contradicted each other, until three `finally` blocks made them agree."""
    assert {step for step, _ in documented()} == set(STEPS)
    assert walk(examples(6, many=150).max_examples, 0)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_row_of_the_table_is_taken():
    """There is no status that nobody needs."""
    left, number = set(documented()), 0
    while left:
        number += 1
        left -= walk(100, number)
        assert number < 20, f"never seen: {left}"
