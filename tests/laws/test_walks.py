"""Random walks of three managers on one store, against an observer that knows every message.

Hypothesis' own search is weak here: it takes long runs of saves that cross. So the walks are seeded, each step by a seed
of its own, and a walk that fails is shrunk to the steps that matter and printed. Its seed replays it:
``pytest tests/laws/test_walks.py --walks=1 --first-walk=SEED``.
"""

from __future__ import annotations

import itertools
import random
from datetime import datetime, timedelta, timezone

import attrs
import pytest

from session_manager import (
    ANY,
    LAST,
    ConflictError,
    Message,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    TurnNotFoundError,
)
from session_manager.errors import SaveError
from session_manager.model import rebase
from session_manager.model.changes import Append
from session_manager.stores.contract import Store
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.evicting import evict
from tests.support.postgres import Place, shared_url

KEY = "telegram:42"
CHUNKS, DATABASE_CHUNKS, SERVER_WALKS = 10, 5, 2


class Flaky:
    """Loses acknowledgements, and writes, by chance: mixed into a store."""

    walk: Walk
    trouble = 0.3

    def attach(self, manager):
        """Take several managers, shared or not: if not, they stand for programs whose writes a read may miss."""

    def write_many(self, commits):
        return Store.write_many(self, commits)

    def write(self, commit):
        roll = self.walk.chance.random()
        if roll < self.trouble / 3:
            raise SaveFailedError(commit.session.key, "injected")
        if roll < self.trouble * 2 / 3:
            raise SaveOutcomeUnknownError(commit.session.key, "injected, did not land")
        super().write(commit)
        if roll < self.trouble:
            raise SaveOutcomeUnknownError(commit.session.key, "injected, landed")


class FlakyStore(Flaky, MemoryStore):
    pass


class FlakyDatabase(Flaky, SQLiteStore):
    pass


#: The calls and how often each is made.
CALLS = {
    "add": 8,
    "turn": 4,
    "block": 3,
    "undo": 0.7,
    "save": 7,
    "save_all": 1,
    "truncate": 2,
    "remove": 2,
    "edit": 2,
    "edit_last": 1,
    "replace": 1,
    "clear": 1,
    "note": 1,
    "retain": 0.5,
    "delete": 0.4,
    "expire": 0.2,
    "fork": 0.2,
    "look": 1,
    "evict": 1,
    "reload": 0.5,
    "crash": 0.5,
}
DROPPING = ("truncate", "remove", "replace", "clear", "undo")
ERASING = ("remove", "replace", "clear", "undo")


@attrs.frozen
class Step:
    who: int
    name: str
    seed: int


def plan(seed, steps=60):
    """Return the steps of a walk."""
    chance = random.Random(seed)
    names = chance.choices(list(CALLS), list(CALLS.values()), k=steps)
    return [Step(chance.randrange(3), name, chance.getrandbits(32)) for name in names]


@attrs.define(eq=False)
class Walk:
    #: Whether reads see what others have saved.
    shared: bool
    store: Flaky = attrs.field(factory=FlakyStore)
    chance: random.Random = attrs.field(factory=lambda: random.Random(0))
    writers: list[SessionManager] = attrs.field(init=False)
    time: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    number: int = 0
    ids: int = 0
    #: What each writer added, in order.
    added: list[list[int]] = attrs.field(init=False)
    #: What somebody who saw it dropped, or gave up, or deleted.
    dropped: set[int] = attrs.field(factory=set)
    #: What was dropped and is in nobody's RAM: it must never be stored again.
    gone: set[int] = attrs.field(factory=set)
    #: What somebody erased who saw it in the session or in the archive; and of that, what is in nobody's RAM any more.
    erased: set[int] = attrs.field(factory=set)
    forgotten: set[int] = attrs.field(factory=set)
    answered: dict[str, set[int]] = attrs.field(factory=dict)
    #: What turns added that may still be unsaved: it goes with the generation that they were bound to.
    bound: set[int] = attrs.field(factory=set)

    def __attrs_post_init__(self):
        self.store.walk = self
        self.store.shared = self.shared
        self.writers = [self.manager() for _ in range(3)]
        self.added = [[] for _ in self.writers]

    def manager(self):
        return SessionManager(
            self.store, clock=self.tick, random_id=self.new_id, max_resident_bytes=10**9, archive=True
        )

    def new_id(self):
        self.ids += 1
        return f"id{self.ids}"

    def tick(self):
        self.time += timedelta(seconds=1)
        return self.time

    def new(self, who):
        self.number += 1
        self.added[who].append(self.number)
        return {"role": "user", "content": str(self.number)}

    def entry(self, who):
        return self.writers[who]._residents.peek(KEY)

    def shown(self, who):
        entry = self.entry(who)
        return ids(entry.session.messages) if entry else []

    def stored(self):
        session = self.store.load(KEY)
        return ids(session.messages) if session else []

    def kept(self, who):
        """Return what a writer has, in the session or in the archive."""
        archive = ids(self.writers[who].get_archive(KEY))
        assert len(archive) == len(set(archive)), "a message is archived twice"
        return {*self.shown(who), *archive}

    def is_current(self, who):
        """Say whether a writer's picture is of what is stored: else what others archived may have its provisional positions."""
        entry = self.entry(who)
        return entry is not None and entry.unknown is None and entry.durable.version == self.store.version(KEY)

    def all_stored(self):
        return {*self.stored(), *ids(self.store.archive(KEY))}

    def step(self, step):
        self.chance = random.Random(step.seed)
        m = self.writers[step.who]
        if step.name not in ("crash", "save", "save_all"):
            shown = m.get(KEY)
            assert shown is None or ids(shown.messages) == self.shown(step.who)
        before, kept = set(self.shown(step.who)), self.kept(step.who) if step.name in DROPPING else set()
        getattr(self, step.name)(step.who, m)
        if step.name in DROPPING:
            self.dropped |= before - set(self.shown(step.who))
            left = self.kept(step.who)
            if step.name in ERASING:
                self.erased |= kept - left
            elif self.is_current(step.who):
                assert kept <= left, "a truncation lost a message"
        self.check()

    def add(self, who, m):
        messages = [self.new(who) for _ in range(self.chance.randrange(1, 4))]
        if len(messages) == 1:
            m.add_message(KEY, **messages[0])
        else:
            m.add(KEY, *messages)

    def turn(self, who, m):
        ref = f"ref{self.chance.randrange(12)}"
        session = m.get_or_create(KEY)
        guard = session.generation if self.chance.random() < 0.5 else None
        message = Message.of(self.new(who))
        change = Append(at=self.tick(), messages=(message,), turn=ref, guard=guard)
        m._residents.change(KEY, change)
        self.answered.setdefault(ref, set()).add(self.number)

    def block(self, who, m):
        """Take a turn that changes the session, while another writer adds and saves."""
        keep, version = self.chance.random() < 0.5, ANY
        if self.chance.random() < 0.3:
            session = m.get(KEY)
            keep, version = False, None if session is None else session.version
        replacing = LAST if self.chance.random() < 0.2 else None
        first, base = self.number, None
        try:
            with m.turn(KEY, keep=keep, expected=version, replacing=replacing) as turn:
                for verb in self.chance.choices(["add", "edit", "remove", "truncate", "replace", "note"], k=3):
                    self.verb(who, turn, verb)
                base = turn._draft.base
                mine = set(self.added[who]) & set(range(first + 1, self.number + 1))
                if self.chance.random() < 0.5:
                    other = (who + 1) % 3
                    self.add(other, self.writers[other])
                    self.save(other, self.writers[other])
        except ConflictError:
            self.left(who, base, set(range(first + 1, self.number + 1)) & set(self.added[who]))
            self.reload(who, m)
        except TurnNotFoundError:
            pass
        except SaveError as error:
            mine = set(range(first + 1, self.number + 1)) & set(self.added[who])
            is_taken_back = not (keep and replacing is None) and isinstance(error, SaveFailedError)
            assert base is None or not (is_taken_back and mine & set(self.shown(who))), "it was not taken back"
            self.left(who, base, mine)
        else:
            self.left(who, base, mine)

    def verb(self, who, turn, verb):
        shown = turn._draft.session
        positions = [one.position for one in shown.messages] if shown is not None else [0]
        where = self.chance.choice(positions) if positions else 0
        if verb == "add":
            turn.add(self.new(who))
        elif verb == "edit":
            message = shown.at(where) if shown is not None else None
            if message is not None:
                turn.edit(where, self.edited(message))
        elif verb == "remove":
            turn.remove(where)
        elif verb == "truncate":
            turn.truncate(self.chance.randrange(6))
        elif verb == "replace":
            turn.replace_history([self.new(who)])
        else:
            turn.set_metadata({"n": self.number})

    def undo(self, who, m):
        ref = self.chance.choice([None, f"undo{self.number}"])
        turn = m._turn(m._undoing(KEY, self.chance.randrange(1, 3), ref, None))
        try:
            with turn:
                pass
        except SaveError:
            pass
        except ConflictError:
            self.reload(who, m)
        self.left(who, turn._draft.base, set())

    def left(self, who, base, mine):
        """Note what a block has dropped: of what it saw and added, and nothing else."""
        self.bound |= mine
        seen = mine | (set() if base is None else set(ids(base.messages)))
        self.dropped |= seen - set(self.shown(who))
        self.erased |= seen - self.kept(who)

    def save(self, who, m):
        try:
            if m.save(KEY) and m._residents.peek(KEY).durable.version == self.store.version(KEY):
                assert self.shown(who) == self.stored(), "shown after a save is not what is stored"
        except SaveError:
            pass
        except ConflictError:
            self.reload(who, m)

    def save_all(self, who, m):
        try:
            m.save_all()
        except SaveFailedError as error:
            if any(isinstance(one, ConflictError) for one in error.failures.values()):
                self.reload(who, m)

    def truncate(self, who, m):
        m.truncate_history(KEY, self.chance.randrange(0, 6))

    def remove(self, who, m):
        m.remove_last(KEY)

    def edited(self, message):
        return {**message.to_dict(), "edited": self.chance.randrange(1000)}

    def edit(self, who, m):
        if self.shown(who):
            message = self.chance.choice(self.entry(who).session.messages.to_list())
            assert m.update_message(KEY, message.position, self.edited(message))

    def edit_last(self, who, m):
        if self.shown(who):
            assert m.update_last(KEY, self.edited(self.entry(who).session.messages[-1]))

    def replace(self, who, m):
        if m.get(KEY) is not None:
            m.set_history(KEY, [self.new(who) for _ in range(self.chance.randrange(3))])

    def clear(self, who, m):
        m.clear(KEY)

    def note(self, who, m):
        m.set_summary(KEY, f"summary {self.number}")
        m.update_metadata(KEY, {"n": self.number})

    def retain(self, who, m):
        m.set_expiry(KEY, self.chance.choice([None, timedelta(seconds=1 + self.chance.randrange(60))]))

    def delete(self, who, m):
        self.dropped |= set(self.stored()) | set(self.shown(who))
        self.erased |= self.all_stored() | self.kept(who)
        m.delete(KEY)

    def expire(self, who, m):
        both, all_of_it = set(self.stored()) | set(self.shown(who)), self.all_stored() | self.kept(who)
        age = self.chance.choice([None, timedelta(seconds=self.chance.randrange(60))])
        if m.expire(age, prefix=KEY):
            self.dropped |= both
            self.erased |= all_of_it

    def fork(self, who, m):
        shown = self.shown(who)
        try:
            if self.entry(who) is not None:
                assert ids(m.fork(KEY, "copy").messages) == shown
                assert ids(self.store.load("copy").messages) == shown
        except SaveError:
            pass
        m.delete("copy")

    def look(self, who, m):
        shown = set(self.shown(who))
        wanted = [number for number in range(max(self.number - 5, 1), self.number + 1) if number in shown]
        found = {hit.position for number in wanted for hit in m.search(str(number), key=KEY, limit=1000)}
        session = m.get(KEY)
        positions = {one.position for one in session.messages if int(one.content) in wanted} if session else set()
        assert positions <= found
        (info,) = [info for info in m.list_sessions() if info.key == KEY] or [None]
        count = info.count if info else 0
        # A clean session is listed as it is stored; a manager that may miss what others save shows an older picture.
        assert count == len(shown) or (not self.shared and count == len(self.stored()))

    def evict(self, who, m):
        """Make everything that is clean go out of RAM."""
        entry, budget = self.entry(who), m._residents._budget
        budget.limit = 0
        try:
            m.get_or_create("other")
            other = m._residents.peek("other")
            with m._residents.lock.checked:
                m._residents.put("other", other)
        finally:
            budget.limit = 10**9
        assert (entry is None or entry.dirty) == (self.entry(who) is not None) or entry is None
        evict(m, "other")

    def reload(self, who, m):
        before, kept = set(self.shown(who)), self.kept(who)
        m.reload(KEY)
        self.dropped |= before - set(self.stored())
        self.erased |= kept - self.all_stored()

    def crash(self, who, m):
        before = set(self.shown(who))
        self.dropped |= before - set(self.stored())
        self.erased |= self.kept(who) - self.all_stored()
        m.close(save=False)
        self.writers[who] = self.manager()

    def check(self):
        session = self.store.load(KEY)
        stored = ids(session.messages) if session else []
        assert not self.gone & set(stored), "a dropped message came back"
        if session is not None:
            positions = [message.position for message in session.messages]
            assert positions == sorted(set(positions))
            assert not positions or positions[-1] < session.end
        alive = set(stored).union(*(self.shown(who) for who in range(3)))
        self.gone |= self.dropped - alive
        archive = ids(self.store.archive(KEY))
        assert len(archive) == len(set(archive)), "a message is archived twice"
        assert not set(archive) & set(stored), "a message is in the session and in its archive"
        assert not self.forgotten & set(archive), "an erased message came back"
        self.forgotten |= self.erased - alive.union(archive, *(self.kept(who) for who in range(3)))

    def finish(self):
        self.store.trouble = 0
        for _ in range(2):
            for who, m in enumerate(self.writers):
                self.save(who, m)
                assert self.entry(who) is None or not self.entry(who).dirty
            assert m.health().went_back == (), "another writer's work was taken for a storage that went back"
        final = self.stored()
        assert len(final) == len(set(final)), "a message is there twice"
        turns = self.bound.union(*self.answered.values())
        for mine in self.added:
            kept = [number for number in final if number in mine]
            assert kept == sorted(kept), "a writer's order is lost"
            lost = set(mine) - set(final) - self.dropped - turns
            assert not lost, f"{lost} lost"
            lost = set(mine) - self.all_stored() - self.erased - turns
            assert not lost, f"{lost} lost, and not archived"
            archive = [number for number in ids(self.store.archive(KEY)) if number in mine]
            assert archive == sorted(archive), "the archive is out of order"
        for ref, numbers in self.answered.items():
            assert len(numbers & set(final)) <= 1, f"{ref} was answered twice"


def ids(messages):
    return [int(message.content) for message in messages]


def failure(steps, *, shared, open_store=FlakyStore):
    """Walk, and return what went wrong; `None` if nothing did."""
    walk = Walk(shared, open_store())
    try:
        for step in steps:
            walk.step(step)
        walk.finish()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        for m in walk.writers:
            m.close(save=False)
        walk.store.close()
    return None


def shrunk(steps, **how):
    """Return a shortest part of a failing walk that still fails, no single step of which can be left out."""
    size = len(steps) // 2
    while size:
        first = 0
        while first < len(steps):
            fewer = steps[:first] + steps[first + size :]
            if failure(fewer, **how) is not None:
                steps = fewer
            else:
                first += size
        size //= 2
    return steps


def failures(seeds):
    """Return the walks that failed, how, and their shrunk steps."""
    found = {}
    for seed in seeds:
        shared = seed % 2 == 1
        if failure(plan(seed), shared=shared) is not None:
            steps = shrunk(plan(seed), shared=shared)
            found[seed] = (failure(steps, shared=shared), shared, steps)
    return found


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost_or_doubled_or_comes_back(request, chunk):
    first, walks = (request.config.getoption(name) for name in ("--first-walk", "--walks"))
    assert failures(range(first + chunk, first + walks, CHUNKS)) == {}


@pytest.mark.parametrize("chunk", range(DATABASE_CHUNKS))
def test_nor_in_a_database(request, tmp_path, chunk):
    first, walks = (request.config.getoption(name) for name in ("--first-walk", "--walks"))
    numbers = itertools.count()

    def open_store():
        return FlakyDatabase(tmp_path / f"{next(numbers)}.db")

    for seed in range(first + chunk, first + max(walks // 200, DATABASE_CHUNKS), DATABASE_CHUNKS):
        steps, shared = plan(seed), seed % 2 == 1
        if failure(steps, shared=shared, open_store=open_store) is not None:
            steps = shrunk(steps, shared=shared, open_store=open_store)
            pytest.fail(f"walk {seed}: {failure(steps, shared=shared, open_store=open_store)}: {steps}")


@pytest.mark.once
def test_nor_on_a_server(request):
    """Each walk has a schema of its own in PostgreSQL."""
    url = shared_url()
    from session_manager.stores.postgres import PostgresStore

    class FlakyServer(Flaky, PostgresStore):
        pass

    places = []

    def open_store():
        places.append(Place(url))
        return FlakyServer(url, schema=places[-1].schema)

    first, walks = (request.config.getoption(name) for name in ("--first-walk", "--walks"))
    try:
        for seed in range(first, first + max(walks // 200, SERVER_WALKS)):
            steps, shared = plan(seed), seed % 2 == 1
            if failure(steps, shared=shared, open_store=open_store) is not None:
                steps = shrunk(steps, shared=shared, open_store=open_store)
                pytest.fail(f"walk {seed}: {failure(steps, shared=shared, open_store=open_store)}: {steps}")
    finally:
        for place in places:
            place.remove()


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
    assert any(failure(plan(seed), shared=seed % 2 == 1) for seed in range(300))


def test_a_failing_walk_is_shrunk_to_the_steps_that_matter(monkeypatch):
    take_unknown_for_landed(monkeypatch)
    seed = next(seed for seed in range(0, 600, 2) if failure(plan(seed), shared=False))
    steps = shrunk(plan(seed), shared=False)
    assert len(steps) < 10
    assert failure(steps, shared=False)
