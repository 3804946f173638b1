"""Random walks of three managers on one store, against an observer that knows every message.

Hypothesis' own search is weak here: it takes long runs of saves that cross. So the walks are seeded, and a failure names
its seed: ``pytest tests/test_walks.py --walks=1 --first-walk=SEED``.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import attrs
import pytest

from session_manager import ConflictError, Message, SaveFailedError, SaveOutcomeUnknownError, SessionManager, rebase
from session_manager.changes import Append
from session_manager.errors import SaveError
from session_manager.stores.memory import MemoryStore

KEY = "telegram:42"


class FlakyStore(MemoryStore):
    """Loses acknowledgements, and writes, by chance."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.trouble = 0.3

    def write(self, commit):
        roll = self.chance.random()
        if roll < self.trouble / 3:
            raise SaveFailedError(commit.session.key, "injected")
        if roll < self.trouble * 2 / 3:
            raise SaveOutcomeUnknownError(commit.session.key, "injected, did not land")
        super().write(commit)
        if roll < self.trouble:
            raise SaveOutcomeUnknownError(commit.session.key, "injected, landed")


@attrs.define(eq=False)
class Walk:
    seed: int
    chance: random.Random = attrs.field(init=False)
    store: FlakyStore = attrs.field(init=False)
    writers: list[SessionManager] = attrs.field(init=False)
    time: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    number: int = 0
    #: What each writer added, in order.
    added: list[list[int]] = attrs.field(init=False)
    #: What somebody who saw it dropped, or gave up, or deleted.
    dropped: set[int] = attrs.field(factory=set)
    answered: dict[str, set[int]] = attrs.field(factory=dict)
    log: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self):
        self.chance = random.Random(self.seed)
        self.store = FlakyStore(self.chance)
        self.writers = [self.manager() for _ in range(3)]
        self.added = [[] for _ in self.writers]

    def manager(self):
        return SessionManager(self.store, clock=self.tick, random_id=lambda: f"{self.chance.getrandbits(64):x}")

    def tick(self):
        self.time += timedelta(seconds=1)
        return self.time

    def new(self, who):
        self.number += 1
        self.added[who].append(self.number)
        return {"role": "user", "content": str(self.number)}

    def shown(self, who):
        entry = self.writers[who]._residents.entry(KEY)
        return ids(entry.session.messages) if entry else []

    def stored(self):
        session = self.store.load(KEY)
        return ids(session.messages) if session else []

    def step(self):
        who = self.chance.randrange(3)
        name = self.chance.choices(
            [
                "add",
                "turn",
                "save",
                "truncate",
                "remove",
                "edit",
                "replace",
                "clear",
                "note",
                "delete",
                "reload",
                "crash",
            ],
            [8, 4, 8, 2, 2, 2, 1, 1, 1, 0.4, 0.5, 0.5],
        )[0]
        self.log.append(f"{who} {name}")
        if name not in ("crash", "save"):
            self.writers[who].get(KEY)
        before = set(self.shown(who))
        getattr(self, name)(who, self.writers[who])
        if name in ("truncate", "remove", "replace", "clear"):
            self.dropped |= before - set(self.shown(who))
        self.check_positions()

    def add(self, who, m):
        m.add(KEY, *[self.new(who) for _ in range(self.chance.randrange(1, 4))])

    def turn(self, who, m):
        ref = f"ref{self.chance.randrange(12)}"
        session = m.get_or_create(KEY)
        guard = session.generation if self.chance.random() < 0.5 else None
        if guard and self.chance.random() < 0.3:
            return
        message = Message.of(self.new(who))
        change = Append(at=self.tick(), messages=(message,), turn=ref, guard=guard)
        m._residents.change(KEY, lambda _: change)
        self.answered.setdefault(ref, set()).add(self.number)

    def save(self, who, m):
        try:
            if m.save(KEY) and m.get(KEY).version == self.store.version(KEY):
                assert self.shown(who) == self.stored(), "shown after a save is not what is stored"
        except SaveError:
            pass
        except ConflictError:
            self.reload(who, m)

    def truncate(self, who, m):
        m.truncate_history(KEY, self.chance.randrange(0, 6))

    def remove(self, who, m):
        m.remove_last(KEY)

    def edit(self, who, m):
        shown = self.writers[who]._residents.entry(KEY)
        if shown and shown.session.messages:
            message = self.chance.choice(shown.session.messages.to_list())
            edited = {**message.to_dict(), "edited": self.chance.randrange(1000)}
            assert m.update_message(KEY, message.position, edited)

    def replace(self, who, m):
        if m.get(KEY) is not None:
            m.set_history(KEY, [self.new(who) for _ in range(self.chance.randrange(3))])

    def clear(self, who, m):
        m.clear(KEY)

    def note(self, who, m):
        m.set_summary(KEY, f"summary {self.number}")
        m.update_metadata(KEY, {"n": self.number})

    def delete(self, who, m):
        self.dropped |= set(self.stored()) | set(self.shown(who))
        m.delete(KEY)

    def reload(self, who, m):
        before = set(self.shown(who))
        m.reload(KEY)
        self.dropped |= before - set(self.stored())

    def crash(self, who, m):
        before = set(self.shown(who))
        self.dropped |= before - set(self.stored())
        m.close(save=False)
        self.writers[who] = self.manager()

    def check_positions(self):
        session = self.store.load(KEY)
        if session is None:
            return
        positions = [message.position for message in session.messages]
        assert positions == sorted(set(positions))
        assert not positions or positions[-1] < session.end

    def gone(self):
        """Return what is dropped and in nobody's RAM: it must never be stored again."""
        alive = set().union(*(self.shown(who) for who in range(3)), self.stored())
        return self.dropped - alive

    def finish(self):
        self.store.trouble = 0
        for _ in range(2):
            for who, m in enumerate(self.writers):
                self.save(who, m)
                entry = m._residents.entry(KEY)
                assert entry is None or not entry.dirty


def ids(messages):
    return [int(message.content) for message in messages]


def walk(seed, steps=60):
    one = Walk(seed)
    try:
        check(one, steps)
    finally:
        for m in one.writers:
            m.close(save=False)


def check(one, steps):
    gone: set[int] = set()
    for _ in range(steps):
        one.step()
        assert not gone & set(one.stored()), "a dropped message came back"
        gone |= one.gone()
    one.finish()
    final = one.stored()
    assert len(final) == len(set(final)), "a message is there twice"
    turns = set().union(*one.answered.values())
    for mine in one.added:
        kept = [number for number in final if number in mine]
        assert kept == sorted(kept), "a writer's order is lost"
        lost = set(mine) - set(final) - one.dropped - turns
        assert not lost, f"{lost} lost"
    for ref, numbers in one.answered.items():
        assert len(numbers & set(final)) <= 1, f"{ref} was answered twice"


def failures(first, count):
    """Return the walks that failed, and how."""
    found = {}
    for seed in range(first, first + count):
        try:
            walk(seed)
        except Exception as error:
            found[seed] = f"{type(error).__name__}: {error}"
    return found


def test_nothing_is_lost_or_doubled_or_comes_back(request):
    options = request.config
    assert failures(options.getoption("--first-walk"), options.getoption("--walks")) == {}


def spare_nothing(monkeypatch):
    monkeypatch.setattr(rebase._Rebase, "_spare", lambda self, earlier: None)


def forget_own_positions(monkeypatch):
    monkeypatch.setattr(rebase._Rebase, "_own_start", lambda self, start: start)


def take_unknown_for_failed(monkeypatch):
    monkeypatch.setattr(FlakyStore, "landed", lambda self, commit: False)


def take_unknown_for_landed(monkeypatch):
    monkeypatch.setattr(FlakyStore, "landed", lambda self, commit: True)


def ignore_versions(monkeypatch):
    monkeypatch.setattr(FlakyStore, "version", lambda self, key: None)
    original = FlakyStore.write
    monkeypatch.setattr(FlakyStore, "write", lambda self, commit: original(self, attrs.evolve(commit, base=None)))


@pytest.mark.parametrize(
    "sabotage", [spare_nothing, forget_own_positions, take_unknown_for_failed, take_unknown_for_landed, ignore_versions]
)
def test_the_observer_notices_a_broken_rule(monkeypatch, sabotage):
    sabotage(monkeypatch)
    assert failures(0, 150)
