"""A state machine drives a manager on the snapshot store against the fold of `changes.apply`."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from datetime import datetime, timedelta, timezone

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from session_manager import Message, Session, SessionExistsError, SessionManager, SessionNotFoundError, changes
from session_manager.json_value import same
from tests.strategies import json_objects, message_objects, nasty_text, refs

KEYS = [
    "telegram:42",
    "telegram_42",
    "Telegram:42",
    "caf\u00e9",
    "cafe\u0301",
    "CON",
    "a\0b\u2028c\u0085",
    "../\u202eup\U0001f600",
    "long" * 200,
    "long" * 200 + "x",
]
keys = st.sampled_from(KEYS)
objects = message_objects()
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


FIELDS = ("key", "generation", "created", "updated", "summary", "start", "end", "refs", "revision")
MESSAGE_FIELDS = ("created_at", "ref", "position", "turn")


def agree(one, other):
    """Say whether two sessions, or `None`, are the same in everything, types told apart."""
    if one is None or other is None:
        return one is other
    return (
        all(getattr(one, field) == getattr(other, field) for field in FIELDS)
        and same(one.metadata, other.metadata)
        and len(one.messages) == len(other.messages)
        and all(map(agree_message, one.messages, other.messages))
    )


def agree_message(one, other):
    return (
        one == other
        and all(getattr(one, field) == getattr(other, field) for field in MESSAGE_FIELDS)
        and same(one.metadata, other.metadata)
    )


@attrs.define(eq=False)
class Known:
    """The model of one session: its durable state, and the calls since then."""

    durable: Session
    pending: list = attrs.field(factory=list)

    @property
    def session(self):
        return changes.fold(self.durable, self.pending)

    @property
    def dirty(self):
        return bool(self.pending) or self.durable.revision == 0

    def did(self, change):
        if not agree(changes.apply(self.session, change), self.session):
            self.pending.append(change)

    def saved(self):
        self.durable = attrs.evolve(self.session, revision=self.durable.revision + 1)
        self.pending = []


class ManagerMachine(RuleBasedStateMachine):
    """Each rule makes a call, and does to the model what `apply` says that the call means."""

    def __init__(self):
        super().__init__()
        self.path = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.ids = itertools.count()
        self.time = EPOCH
        self.known: dict[str, Known] = {}
        self.generations: set[str] = set()
        self.touched: set[str] = set()
        self.m = self.open()

    def open(self):
        return SessionManager(self.path, clock=self.now, random_id=lambda: f"id{next(self.ids)}")

    def now(self):
        return self.time

    def teardown(self):
        self.m.close(save=False)
        shutil.rmtree(self.path)

    @initialize(seconds=st.integers(0, 5))
    def start(self, seconds):
        self.time += timedelta(seconds=seconds)

    @rule(seconds=st.integers(-3, 10))
    def time_passes(self, seconds):
        self.time += timedelta(seconds=seconds)

    # The model

    def model(self, key, *, create=False):
        self.touched.add(key)
        if key not in self.known and create:
            shown = self.m.get(key)
            assert shown.generation not in self.generations
            self.generations.add(shown.generation)
            blank = Session(key=key, generation=shown.generation, created=self.time, updated=self.time)
            self.known[key] = Known(blank)
        return self.known.get(key)

    # The calls

    @rule(key=keys)
    def get_or_create(self, key):
        shown = self.m.get_or_create(key)
        assert agree(shown, self.model(key, create=True).session)

    @rule(key=keys, content=st.one_of(nasty_text(), st.just("x" * 10_000), st.none()), ref=st.none() | refs())
    def add_message(self, key, content, ref):
        message = self.m.add_message(key, "user", content, ref=ref)
        change = changes.Append(at=self.time, messages=(Message("user", content, created_at=self.time, ref=ref),))
        known = self.model(key, create=True)
        known.did(change)
        assert message.position == known.session.messages[-1].position

    @rule(key=keys, values=st.lists(objects, max_size=4), metadata=json_objects())
    def add(self, key, values, metadata):
        given = [Message.from_dict(value, created_at=self.time, metadata=metadata) for value in values]
        stored = self.m.add(key, *given)
        known = self.model(key, create=True)
        known.did(changes.Append(at=self.time, messages=tuple(given)))
        assert [one.position for one in stored] == [
            one.position for one in known.session.messages[len(known.session.messages) - len(given) :]
        ]

    @rule(key=keys, text=nasty_text())
    def set_summary(self, key, text):
        known = self.model(key)
        assert self.m.set_summary(key, text) == (known is not None)
        if known:
            known.did(changes.SetSummary(at=self.time, text=text))

    @rule(key=keys, values=st.lists(objects, max_size=3))
    def set_history(self, key, values):
        known = self.model(key)
        assert self.m.set_history(key, values) == (known is not None)
        if known:
            new = tuple(Message.from_dict(value, created_at=self.time) for value in values)
            known.did(changes.Replace(at=self.time, messages=new))

    @rule(key=keys, keep_last=st.integers(-1, 6))
    def truncate_history(self, key, keep_last):
        known = self.model(key)
        messages = known.session.messages.to_list() if known else []
        kept = messages[len(messages) - keep_last :] if 0 < keep_last <= len(messages) else messages * (keep_last > 0)
        assert self.m.truncate_history(key, keep_last) == len(messages) - len(kept)
        if len(kept) < len(messages):
            start = kept[0].position if kept else known.session.end
            known.did(changes.Truncate(at=self.time, start=start))

    @rule(key=keys)
    def remove_last(self, key):
        known = self.model(key)
        last = known.session.messages[-1] if known and known.session.messages else None
        assert self.m.remove_last(key) == last
        if last is not None:
            known.did(changes.Remove(at=self.time, position=last.position))

    @rule(key=keys, value=objects)
    def update_last(self, key, value):
        known = self.model(key)
        last = known.session.messages[-1] if known and known.session.messages else None
        assert self.m.update_last(key, value) == (last is not None)
        self.edited(known, last, value)

    @rule(key=keys, value=objects, data=st.data())
    def update_message(self, key, value, data):
        known = self.model(key)
        messages = known.session.messages.to_list() if known else []
        wheres = [one.position for one in messages] + [one.ref for one in messages if one.ref] + [10**6, "no such ref"]
        where = data.draw(st.sampled_from(wheres))
        target = next((one for one in reversed(messages) if where in (one.position, one.ref)), None)
        assert self.m.update_message(key, where, value) == (target is not None)
        self.edited(known, target, value)

    def edited(self, known, target, value):
        if target is not None:
            message = Message.from_dict(value, created_at=target.created_at)
            known.did(changes.Edit(at=self.time, position=target.position, message=message))

    @rule(key=keys, items=json_objects(), removed=st.lists(st.sampled_from(["a", "type", "text"]), max_size=2))
    def update_metadata(self, key, items, removed):
        known = self.model(key)
        assert self.m.update_metadata(key, items, removed) == (known is not None)
        if known:
            known.did(changes.UpdateMetadata(at=self.time, items=items, removed=tuple(removed)))

    @rule(key=keys)
    def clear(self, key):
        known = self.model(key)
        assert self.m.clear(key) == (len(known.session.messages) if known else 0)
        if known:
            generation = self.m.get(key).generation
            assert generation not in self.generations
            self.generations.add(generation)
            known.did(changes.Clear(at=self.time, generation=generation))

    @rule(key=keys)
    def delete(self, key):
        assert self.m.delete(key) == (key in self.known)
        self.known.pop(key, None)
        self.touched.add(key)

    @rule(key=keys, new_key=keys)
    def fork(self, key, new_key):
        self.touched |= {key, new_key}
        if key not in self.known:
            with pytest.raises(SessionNotFoundError):
                self.m.fork(key, new_key)
        elif new_key in self.known:
            with pytest.raises(SessionExistsError):
                self.m.fork(key, new_key)
        else:
            shown = self.m.fork(key, new_key)
            self.generations.add(shown.generation)
            copy = attrs.evolve(
                self.known[key].session,
                key=new_key,
                generation=shown.generation,
                created=self.time,
                updated=self.time,
                revision=1,
            )
            self.known[new_key] = Known(copy)

    @rule(key=keys)
    def save(self, key):
        known = self.model(key)
        assert self.m.save(key) == (known is not None and known.dirty)
        if known and known.dirty:
            known.saved()
        assert not self.m.save(key)

    @rule()
    def save_all(self):
        dirty = [known for known in self.known.values() if known.dirty]
        assert self.m.save_all() == len(dirty)
        for known in dirty:
            known.saved()

    @rule(key=keys)
    def reload(self, key):
        known = self.model(key)
        assert self.m.reload(key) == (known.pending if known else [])
        if known:
            self.forget(key, known)

    @rule()
    def reopen(self):
        self.m.close()
        for known in self.known.values():
            if known.dirty:
                known.saved()
        self.touched = set(KEYS)
        self.m = self.open()

    @rule()
    def crash_and_reopen(self):
        self.m.close(save=False)
        for key, known in list(self.known.items()):
            self.forget(key, known)
        self.touched = set(KEYS)
        self.m = self.open()

    def forget(self, key, known):
        known.pending = []
        if known.durable.revision == 0:
            del self.known[key]

    # What always holds

    @invariant()
    def manager_shows_the_model(self):
        for key in self.touched:
            known = self.known.get(key)
            assert agree(self.m.get(key), known.session if known else None)
            assert (key in self.m) == (known is not None)
        assert list(self.m) == sorted(self.known)
        assert self.m.health().dirty == tuple(sorted(key for key, known in self.known.items() if known.dirty))
        self.touched = set()

    @rule()
    def all_sessions_are_as_they_were(self):
        self.touched = set(KEYS)

    @invariant()
    def what_is_shown_is_the_fold_of_the_pending_changes(self):
        for entry in self.m._residents.entries().values():
            assert agree(entry.session, changes.fold(entry.durable, entry.pending))

    @invariant()
    def positions_are_never_used_twice(self):
        for known in self.known.values():
            positions = [message.position for message in known.session.messages]
            assert positions == sorted(set(positions))

    @invariant()
    def no_temporary_file_is_left(self):
        assert not [name for name in os.listdir(self.path) if name.startswith(".tmp")]

    @precondition(lambda self: self.known)
    @rule()
    def listed_most_recent_first(self):
        infos = self.m.list_sessions()
        assert {info.key: info.count for info in infos} == {
            key: len(known.session.messages) for key, known in self.known.items()
        }
        times = [info.last_message_at or info.created for info in infos]
        assert times == sorted(times, reverse=True)


TestManager = ManagerMachine.TestCase
TestManager.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=40)
