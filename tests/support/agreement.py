"""All stores in lock-step: the same calls, at the same times, with the same ids, must look the same in everything.

One manager on each store. What a manager does is its own business (`tests/laws/test_machine.py` knows what it must be); here the
stores must not differ: in results, errors, pictures, lists, versions, searches, also after crashes.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from contextlib import closing
from datetime import timedelta

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from session_manager import Commit, Message, Session, SessionInfo, SessionManager, SessionManagerError
from session_manager.model.changes import Append, Summarize, digest
from session_manager.stores import copy
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import Clock, crash, nasty_text, sessions
from session_manager.testing.known import NEARLY_EQUAL_KEYS
from session_manager.testing.strategies import json_objects, message_objects, refs
from tests.support.strategies import facts


def in_ram(_):
    """Return a store that is there again when it is opened again."""
    disk = MemoryStore()
    return lambda: disk


def in_a_directory(store):
    return lambda path: lambda: store(path)


def database(path):
    return SQLiteStore(os.path.join(path, "chats.db"))


#: How each store is opened in a directory of its own: a new store is added here.
STORES = {
    "memory": in_ram,
    "snapshot": in_a_directory(SnapshotStore),
    "log": in_a_directory(LogStore),
    "sqlite": in_a_directory(database),
}

KEYS = NEARLY_EQUAL_KEYS[:7]
keys = st.sampled_from(KEYS)
objects = message_objects()
WORDS = ["hello", "HELLO world", "a", "a b", "漢字", "", "x" * 3000]
QUERIES = ["hello", "L", "a", " ", "漢", "x", "%", '"', "llo w", "\ud800", "\x00", "é"]


@attrs.define(eq=False)
class World:
    """One store, and a manager on it."""

    open_store: object
    clock: Clock
    ids: itertools.count = attrs.field(factory=itertools.count)
    seen: dict[str, str] = attrs.field(factory=dict)
    manager: SessionManager = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.open()

    def open(self):
        self.manager = SessionManager(
            self.open_store(), clock=self.clock, random_id=lambda: f"id-{next(self.ids)}", archive=True
        )

    def numbered(self, text):
        """Return a text with the ids in it by the order in which they were seen: some stores need more ids than others."""
        return re.sub(r"\bid-\d+\b", lambda one: self.seen.setdefault(one[0], f"#{len(self.seen)}"), text)

    @property
    def store(self):
        return self.manager._residents.store


def carry(open_source, open_target):
    """Copy one storage to another; return the report. Both must hold the same then."""
    with closing(open_source()) as source, closing(open_target()) as target:
        report = copy(source, target)
        assert report.ok
        assert {key: facts(source.load(key)) for key in source.keys()} == {  # noqa: SIM118 - a store, not a dict
            key: facts(target.load(key))
            for key in target.keys()  # noqa: SIM118
        }
        return report


def comparable(value):
    """Return a result as text that tells everything."""
    if isinstance(value, Message | Session):
        return facts(value)
    if isinstance(value, SessionInfo):
        return repr((value, value.metadata, value.version))
    if isinstance(value, list | tuple):
        return [comparable(one) for one in value]
    return repr(value)


def outcome(call, world):
    """Return what a call returns or raises, as text."""
    try:
        found = comparable(call(world))
    except SessionManagerError as error:
        found = type(error), str(error)
    return world.numbered(repr(found))


class Agreement(RuleBasedStateMachine):
    """All stores that `stores` names."""

    stores = STORES

    def __init__(self):
        super().__init__()
        self.path = tempfile.mkdtemp()
        self.clock = Clock()
        self.places = itertools.count()
        self.worlds = {name: World(self.new_storage(name), self.clock) for name in self.stores}

    def teardown(self):
        for world in self.worlds.values():
            crash(world.manager)
        shutil.rmtree(self.path)

    def new_storage(self, name):
        """Return what opens a storage of a kind, at a place of its own."""
        return self.stores[name](os.path.join(self.path, f"{name}-{next(self.places)}"))

    def all(self, call):
        """Make a call in every world; the outcomes must be one."""
        outcomes = {name: outcome(call, world) for name, world in self.worlds.items()}
        first = next(iter(outcomes))
        for name, one in outcomes.items():
            assert one == outcomes[first], f"{name} differs from {first}"

    # In RAM

    @rule(seconds=st.integers(-3, 10))
    def time_passes(self, seconds):
        self.clock.set(self.clock() + timedelta(seconds=seconds))

    @rule(key=keys)
    def get_or_create(self, key):
        self.all(lambda world: world.manager.get_or_create(key))

    @rule(key=keys, content=st.sampled_from(WORDS) | nasty_text(), ref=st.none() | refs())
    def add_message(self, key, content, ref):
        self.all(lambda world: world.manager.add_message(key, "user", content, ref=ref))

    @rule(key=keys, values=st.lists(objects, max_size=4))
    def add(self, key, values):
        self.all(lambda world: world.manager.add(key, *values))

    @rule(key=keys, text=nasty_text())
    def set_summary(self, key, text):
        self.all(lambda world: world.manager.set_summary(key, text))

    @rule(key=keys, values=st.lists(objects, max_size=3))
    def set_history(self, key, values):
        self.all(lambda world: world.manager.set_history(key, values))

    @rule(key=keys, keep_last=st.integers(0, 6))
    def truncate_history(self, key, keep_last):
        self.all(lambda world: world.manager.truncate_history(key, keep_last))

    @rule(key=keys)
    def remove_last(self, key):
        self.all(lambda world: world.manager.remove_last(key))

    @rule(key=keys, value=objects)
    def update_last(self, key, value):
        self.all(lambda world: world.manager.update_last(key, value))

    @rule(key=keys, where=st.integers(0, 12) | refs(), value=objects)
    def update_message(self, key, where, value):
        self.all(lambda world: world.manager.update_message(key, where, value))

    @rule(key=keys, items=json_objects(), removed=st.lists(st.sampled_from(["a", "type", "text"]), max_size=2))
    def update_metadata(self, key, items, removed):
        self.all(lambda world: world.manager.update_metadata(key, items, removed))

    @rule(key=keys)
    def clear(self, key):
        self.all(lambda world: world.manager.clear(key))

    @rule(key=keys, text=nasty_text(), ref=refs())
    def turn(self, key, text, ref):
        change = Append(at=self.clock(), messages=(Message("user", text, created_at=self.clock()),), turn=ref)
        self.all(lambda world: world.manager._residents.change(key, lambda _: change))

    @rule(key=keys, summary=nasty_text(), first=st.integers(0, 2), count=st.integers(0, 4))
    def summarize(self, key, summary, first, count):
        def fold(session):
            start = session.start + first
            hexed = digest(session, start, start + count)
            return Summarize(at=self.clock(), summary=summary, start=start, stop=start + count, digest=hexed)

        self.all(lambda world: world.manager._residents.change(key, fold))

    # To the store

    @rule(key=keys)
    def save(self, key):
        self.all(lambda world: world.manager.save(key))

    @rule()
    def save_all(self):
        self.all(lambda world: world.manager.save_all())

    @rule(key=keys)
    def reload(self, key):
        self.all(lambda world: world.manager.reload(key))

    @rule(key=keys)
    def delete(self, key):
        self.all(lambda world: world.manager.delete(key))

    @rule(key=keys, new_key=keys)
    def fork(self, key, new_key):
        self.all(lambda world: world.manager.fork(key, new_key))

    @rule(key=keys, new_key=keys)
    def rename(self, key, new_key):
        self.all(lambda world: world.manager.rename(key, new_key))

    @rule(key=keys)
    def compact(self, key):
        self.all(lambda world: world.manager.compact(key))

    @rule(key=keys, session=sessions())
    def somebody_else_writes(self, key, session):
        """Write a session that no manager has, whole and at any revision."""
        commit = Commit(attrs.evolve(session, key=key), (), None, token="somebody's")
        self.all(lambda world: key in world.manager or world.store.write(commit))

    @rule()
    def reopen(self):
        self.all(lambda world: world.manager.close())
        self.crash_and_reopen()

    @rule()
    def crash_and_reopen(self):
        for world in self.worlds.values():
            crash(world.manager)
            world.open()

    @rule()
    def evict(self):
        """Forget all that is saved."""
        for world in self.worlds.values():
            residents = world.manager._residents
            for key, entry in residents.entries().items():
                if not entry.dirty:
                    with residents.lock.checked:
                        residents._drop(key)

    @rule()
    def copy_and_go_on_with_the_copy(self):
        """Copy each store to one of the next kind, and that to a new one of its own."""
        names = list(self.worlds)
        for world in self.worlds.values():
            crash(world.manager)

        def moved(name):
            world = self.worlds[name]
            between, target = self.new_storage(names[(names.index(name) + 1) % len(names)]), self.new_storage(name)
            reports = [carry(world.open_store, between), carry(between, target), carry(world.open_store, target)]
            world.open_store = target
            return reports

        outcomes = {name: moved(name) for name in names}
        for name in names:
            assert outcomes[name] == outcomes[names[0]], f"{name} differs from {names[0]}"
            self.worlds[name].open()

    @rule(age=st.timedeltas(timedelta(0), timedelta(seconds=20)), dry_run=st.booleans())
    def expire(self, age, dry_run):
        self.all(lambda world: world.manager.expire(age, prefix="telegram", dry_run=dry_run))

    # What must look the same

    @rule(text=st.sampled_from(QUERIES) | nasty_text(min_size=1, max_size=3), limit=st.integers(1, 30))
    def search(self, text, limit):
        for key in (None, KEYS[0]):
            self.all(lambda world, key=key: world.store.search(text, key=key, limit=limit))
        self.all(lambda world: world.store.search(text, prefix="telegram", skip=KEYS[:1], limit=limit))
        self.all(lambda world: world.manager.search(text, limit=limit))

    @rule(key=keys)
    def load(self, key):
        """Read what is stored: not after each step, for a store may keep what it wrote until it is read again."""
        self.all(lambda world: world.store.load(key))

    @rule(key=keys)
    def get(self, key):
        self.all(lambda world: world.manager.get(key))

    @rule(key=keys)
    def archive(self, key):
        self.all(lambda world: list(world.store.archive(key)))
        self.all(lambda world: list(world.manager.get_archive(key)))

    @rule()
    def verify(self):
        self.all(lambda world: world.manager.verify())

    @invariant()
    def everything_looks_the_same(self):
        self.all(lambda world: list(world.manager))
        self.all(lambda world: world.manager.list_sessions())
        self.all(lambda world: world.manager.health().dirty)
        self.all(lambda world: sorted(world.store.keys("t")))
        for key in KEYS:
            self.all(lambda world, key=key: world.store.version(key))
            self.all(lambda world, key=key: world.store.describe(key))
            self.all(lambda world, key=key: resident(world.manager, key))


def resident(manager, key):
    """Return what is in RAM of a session; what is not, is read when a rule touches it."""
    entry = manager._residents.peek(key)
    return None if entry is None else (entry.session, entry.durable, len(entry.pending))
