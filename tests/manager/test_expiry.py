"""Expiry deletes what is old, and nothing that became active meanwhile; what it cannot delete stays as it was."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_manager import (
    ClosedError,
    CorruptSessionError,
    InvalidMessageError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    StorageError,
)
from session_manager.errors import SaveError
from session_manager.manager import retention
from session_manager.manager.retention import is_older
from session_manager.model.times import utc_now
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.clocks import Clock
from tests.support.evicting import evict
from tests.support.managers import texts
from tests.support.strategies import CANARY

DEADLINE = 60
DAY = timedelta(days=1)
LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["ram", "memory store", "snapshot", "log", "sqlite"])
def m(request, tmp_path, clock):
    """A manager on each kind of storage."""
    storages = {"ram": "memory:", "memory store": MemoryStore()}
    storage = storages.get(request.param, f"{request.param}:{tmp_path / 'chats'}")
    manager = SessionManager(storage, clock=clock)
    yield manager
    manager.close(save=False)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_session_with_an_open_turn_does_not_expire(m, clock, dry_run):
    """Its user came back, and the model was thinking: the chat was deleted, and the turn not written."""
    m.add_message("old", "user", "x")
    m.save("old")
    clock.advance(days=31)
    with m.turn("old") as turn:
        turn.add_message("user", "y")
        assert m.expire(30 * DAY, dry_run=dry_run) == []
    assert turn.applied
    assert texts(m, "old") == ["x", "y"]
    clock.advance(days=31)
    assert m.expire(30 * DAY, dry_run=dry_run) == ["old"]


def old_and_new(m, clock):
    """Add ``old``, of today; ``new``, of two days later; and two without messages."""
    m.add_message("old", "user", "x")
    m.get_or_create("empty:old")
    clock.advance(days=2)
    m.add_message("new", "user", "x")
    m.get_or_create("empty:new")


# What is old


@pytest.mark.parametrize("saved", [True, False])
def test_the_last_message_counts_and_without_messages_the_last_change(m, clock, saved):
    old_and_new(m, clock)
    m.set_summary("old", "later, but not a message")
    if saved:
        m.save_all()
    assert m.expire(DAY) == ["empty:old", "old"]
    assert list(m) == ["empty:new", "new"]
    assert m.expire(DAY) == []


def test_a_session_that_lost_all_messages_counts_from_that_moment(m, clock):
    m.get_or_create("k")
    clock.advance(days=2)
    m.add_message("k", "user", "x")
    m.truncate_history("k", 0)
    assert m.expire(DAY) == []
    clock.advance(days=2)
    assert m.expire(DAY) == ["k"]


def test_the_time_of_the_message_counts_not_that_of_the_call(m, clock):
    m.add_message("imported", "user", "x", created_at=LONG_AGO)
    m.add_message("future", "user", "x", created_at=clock.time + 300 * DAY)
    assert m.expire(DAY) == ["imported"]


def test_exactly_that_old_is_not_older(m, clock):
    m.add_message("k", "user", "x")
    added = clock.time
    clock.advance(days=1)
    assert m.expire(DAY) == []
    assert m.expire(added) == []
    assert m.expire(added.astimezone(timezone(timedelta(hours=9)))) == []
    clock.advance(microseconds=1)
    assert m.expire(DAY, dry_run=True) == ["k"]
    assert m.expire(added + timedelta(microseconds=1)) == ["k"]


def test_a_moment_may_be_in_any_timezone_but_must_have_one(m, clock):
    m.add_message("k", "user", "x")
    with pytest.raises(InvalidMessageError, match="naive"):
        m.expire(datetime(2030, 1, 1))  # noqa: DTZ001
    assert m.expire(datetime(2030, 1, 1, tzinfo=timezone(-timedelta(hours=5)))) == ["k"]


@pytest.mark.parametrize("age", [90, 1.5, "90 days", True])
def test_an_age_is_a_timedelta(m, age):
    m.add_message("k", "user", "x", created_at=LONG_AGO)
    with pytest.raises(TypeError, match="older_than"):
        m.expire(age)
    assert "k" in m


def test_a_negative_age_is_refused(m):
    """It made a moment to come, and deleted everything."""
    m.add_message("k", "user", "x")
    with pytest.raises(ValueError, match="negative"):
        m.expire(-DAY)
    assert "k" in m


def test_nothing_is_older_than_the_longest_age(m):
    """The moment overflowed."""
    m.add_message("k", "user", "x", created_at=LONG_AGO)
    assert m.expire(timedelta.max) == []


def test_a_dry_run_and_a_prefix(m, clock):
    for key in ("a:1", "a:2", "b:1"):
        m.add_message(key, "user", "x")
    clock.advance(days=2)
    assert m.expire(DAY, dry_run=True) == ["a:1", "a:2", "b:1"]
    assert m.expire(DAY, prefix="a:", dry_run=True) == ["a:1", "a:2"]
    assert len(m) == 3
    assert m.expire(DAY, prefix="a:") == ["a:1", "a:2"]
    assert list(m) == ["b:1"]
    with pytest.raises(TypeError, match="prefix"):
        m.expire(DAY, prefix=None)


class Flaky:
    """Loses an acknowledgement when it is told to: mixed into a store."""

    lost = False

    def write(self, commit):
        super().write(commit)
        if self.lost:
            self.lost = False
            raise SaveOutcomeUnknownError(commit.session.key, "injected")


class FlakyMemory(Flaky, MemoryStore):
    pass


class FlakySnapshots(Flaky, SnapshotStore):
    pass


class FlakyLogs(Flaky, LogStore):
    pass


class FlakyDatabase(Flaky, SQLiteStore):
    pass


FLAKY = (FlakyMemory, FlakySnapshots, FlakyLogs, FlakyDatabase)
STEPS = [
    "add",
    "dated",
    "remove",
    "clear",
    "truncate",
    "save",
    "lose",
    "evict",
    "reload",
    "delete",
    "elsewhere",
    "wait",
    "retain",
    "keep",
]


class Expiring:
    """A manager of two sessions on a store; steps change what is in RAM, and what is stored."""

    def __init__(self, kind, place):
        self.clock = Clock()
        self.store = kind() if kind is FlakyMemory else kind(place)
        self.m = SessionManager(self.store, clock=self.clock)

    def close(self):
        self.m.close(save=False)
        self.store.close()

    def step(self, name, key):
        match name:
            case "add":
                self.m.add_message(key, "user", "x")
            case "dated":
                self.m.add_message(key, "user", "x", created_at=LONG_AGO)
            case "remove":
                self.m.remove_last(key)
            case "clear":
                self.m.clear(key)
            case "truncate":
                self.m.truncate_history(key, 1)
            case "retain":
                self.m.set_expiry(key, DAY)
                self.m.update_metadata(key, {"tier": "free"})
            case "keep":
                self.m.set_expiry(key, None)
            case "delete":
                self.m.delete(key)
            case "reload":
                self.m.reload(key)
            case "wait":
                self.clock.advance(days=1)
            case "evict":
                entry = self.m._residents.peek(key)
                if entry is not None and not entry.dirty:
                    evict(self.m, key)
            case "elsewhere":
                if self.store.shared:
                    with SessionManager(self.store, clock=self.clock) as other:
                        other.add_message(key, "user", "theirs")
            case _:
                self.store.lost = name == "lose"
                with contextlib.suppress(SaveError):
                    self.m.save(key)
                self.store.lost = False


@pytest.mark.parametrize("kind", FLAKY)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(["a", "b"])), max_size=12),
    age=st.none() | st.integers(0, 3).map(lambda days: days * DAY),
    options=st.sampled_from([{}, {}, {"key": "a"}, {"prefix": "b"}, {"where": {"tier": "free"}}]),
    in_turn=st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_dry_run_names_what_expire_then_deletes(tmp_path, kind, steps, age, options, in_turn):
    """It named a session that was kept: its newest message was removed in RAM only."""
    state = Expiring(kind, tempfile.mkdtemp(dir=tmp_path) + "/chats")
    try:
        for name, key in steps:
            state.step(name, key)
        with state.m.turn("a") if in_turn else contextlib.nullcontext():
            told = state.m.expire(age, **options, dry_run=True)
            assert told == state.m.expire(age, **options, dry_run=True), "a dry run changes nothing"
            before = list(state.m)
            assert state.m.expire(age, **options) == told
            assert sorted(state.m) == sorted(set(before) - set(told))
    finally:
        state.close()


@pytest.mark.parametrize("kind", FLAKY)
def test_a_session_whose_newest_message_is_removed_in_ram_only_stays(tmp_path, kind):
    state = Expiring(kind, tmp_path / "chats")
    state.m.add_message("a", "user", "old", created_at=LONG_AGO)
    state.m.add_message("a", "user", "new")
    state.m.save("a")
    state.m.remove_last("a")
    assert state.m.expire(DAY, dry_run=True) == state.m.expire(DAY) == []
    state.m.save("a")
    assert state.m.expire(DAY, dry_run=True) == state.m.expire(DAY) == ["a"]
    state.close()


def test_a_dry_run_does_not_name_a_damaged_session(tmp_path, clock):
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        m.add_message("k", "user", CANARY)
    path = tmp_path / "chats" / "k.session.json"
    path.write_bytes(path.read_bytes().replace(b"CANARY", b"CANARX"))
    clock.advance(days=2)
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        assert m.expire(DAY, dry_run=True) == m.expire(DAY) == []


# Where it is


def test_dirty_resident_and_stored_sessions_expire_durably(tmp_path, clock):
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        for key in ("stored", "resident", "changed"):
            m.add_message(key, "user", "x")
    m = SessionManager(tmp_path / "chats", clock=clock)
    m.get("resident")
    m.set_summary("changed", "s")
    m.add_message("unsaved", "user", "x")
    clock.advance(days=2)
    assert m.expire(DAY) == ["changed", "resident", "stored", "unsaved"]
    assert len(m) == m.health().resident == 0
    assert m.save_all() == 0
    m.close()
    with SessionManager(tmp_path / "chats") as again:
        assert list(again) == []


def test_an_unsaved_message_keeps_a_session_that_is_stored_as_old(tmp_path, clock):
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        m.add_message("k", "user", "stored")
        m.save("k")
        clock.advance(days=2)
        m.add_message("k", "user", "unsaved")
        assert m.expire(DAY) == []
    with SessionManager(tmp_path / "chats") as again:
        assert texts(again, "k") == ["stored", "unsaved"]


def test_an_expired_session_starts_anew(m, clock):
    m.add_message("k", "user", "old")
    m.save("k")
    generation = m.get("k").generation
    clock.advance(days=2)
    assert m.expire(DAY) == ["k"]
    assert m.add_message("k", "user", "new").position == 0
    m.save("k")
    assert m.get("k").generation != generation
    assert texts(m, "k") == ["new"]


@pytest.mark.parametrize("what", ["header", "messages"])
def test_damaged_sessions_stay_and_do_not_keep_others(tmp_path, clock, caplog, what):
    """One whose header was whole stopped every expiry at its key with an error."""
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        for key in ("a", "b", "c"):
            m.add_message(key, "user", CANARY)
    path = tmp_path / "chats" / "b.session.json"
    data = path.read_bytes()
    path.write_bytes(b"" if what == "header" else data.replace(b"CANARY", b"CANARX"))
    before = path.read_bytes()
    clock.advance(days=2)
    with SessionManager(tmp_path / "chats", clock=clock) as m, caplog.at_level(logging.WARNING, "session_manager"):
        assert m.expire(DAY) == ["a", "c"]
        with pytest.raises(CorruptSessionError):
            m.get("b")
    assert path.read_bytes() == before
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["'b'" in text for text in messages] == [True] * (what == "messages")
    assert "plugh" not in "".join(messages)


def test_a_manager_that_is_closed_or_only_reads_expires_nothing(tmp_path, clock):
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        m.add_message("k", "user", "x")
    with pytest.raises(ClosedError):
        m.expire(DAY)
    with SessionManager(tmp_path / "chats", read_only=True) as reader:
        with pytest.raises(RuntimeError, match="read-only"):
            reader.expire(DAY)
        assert "k" in reader


def test_a_dry_run_is_made_beside_the_writer(tmp_path, clock):
    """An operator asks what would be deleted while the bot runs."""
    with SessionManager(tmp_path / "chats", clock=clock) as m:
        m.add_message("k", "user", "x")
        m.save("k")
        clock.advance(days=2)
        with SessionManager(tmp_path / "chats", clock=clock, read_only=True) as reader:
            assert reader.expire(DAY, dry_run=True) == reader.delete_prefix("k", dry_run=True) == ["k"]
            assert "k" in reader
            with pytest.raises(RuntimeError, match="read-only"):
                reader.delete_prefix("k")


# What becomes active meanwhile


class Waiting(MemoryStore):
    """Waits in a deletion until it is told to go on; then fails with an error, if it has one.

    It has one manager: with a shared store, a look at a session that is being deleted waits for the deletion.
    """

    shared = False

    def __init__(self, error=None):
        super().__init__()
        self.deleting = threading.Event()
        self.go_on = threading.Event()
        self.error = error
        self.before_deleting = lambda: None

    def delete(self, key, expected=None):
        self.deleting.set()
        assert self.go_on.wait(DEADLINE)
        self.before_deleting()
        if isinstance(self.error, SaveOutcomeUnknownError):
            super().delete(key, expected)
        if self.error is not None:
            raise self.error
        return super().delete(key, expected)


def start(function):
    """Call a function in a thread; return the thread, and a list that gets its result or error."""
    results = []

    def work():
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, results


def finish(*threads):
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def wait_until_closing(m):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            m.health()
        except ClosedError:
            return
        time.sleep(0)
    raise AssertionError("nobody closes it")


def expiring(error=None, *, resident=True, unsaved=False):
    """A manager that is in the middle of deleting an old session, in a thread."""
    store, clock = Waiting(error), Clock()
    m = SessionManager(store, clock=clock)
    m.add_message("k", "user", "old")
    m.save("k")
    if unsaved:
        m.add_message("k", "user", "old, unsaved")
    if not resident:
        m.close()
        m = SessionManager(store, clock=clock)
    clock.advance(days=2)
    thread, results = start(lambda: m.expire(DAY))
    assert store.deleting.wait(DEADLINE)
    return m, store, thread, results


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("error", [None, SaveFailedError("k", "no"), SaveOutcomeUnknownError("k", "?")])
def test_a_message_that_comes_while_the_store_deletes_is_not_lost(resident, error):
    m, store, expirer, expired = expiring(error, resident=resident)
    adder, added = start(lambda: m.add_message("k", "user", "meanwhile"))
    reader, read = start(lambda: texts(m, "k"))
    store.go_on.set()
    finish(expirer, adder, reader)
    assert added[0].content == "meanwhile"
    kept = ["old"] if isinstance(error, SaveFailedError) else []
    assert texts(m, "k") == [*kept, "meanwhile"]
    assert read[0] in (kept, [*kept, "meanwhile"])
    assert expired == ([["k"]] if error is None else [error])
    m.save("k")
    assert [message.content for message in store.load("k").messages] == [*kept, "meanwhile"]


def test_other_sessions_do_not_wait_for_a_deletion():
    m, store, expirer, _ = expiring()
    m.add_message("other", "user", "x")
    assert texts(m, "other") == ["x"]
    assert m.save("other")
    store.go_on.set()
    finish(expirer)


@pytest.mark.parametrize("unsaved", [True, False])
def test_a_deletion_that_fails_leaves_everything_as_it_was(unsaved):
    m, store, expirer, expired = expiring(SaveFailedError("k", "no"), unsaved=unsaved)
    store.go_on.set()
    finish(expirer)
    assert isinstance(expired[0], SaveFailedError)
    assert texts(m, "k") == ["old"] + ["old, unsaved"] * unsaved
    assert m.health().dirty == ("k",) * unsaved
    assert m.save("k") is unsaved
    assert len(store.load("k").messages) == 1 + unsaved
    store.error = None
    assert m.expire(DAY) == ["k"]


class Interrupting(MemoryStore):
    """Deletes, and then Ctrl-C comes; or before."""

    after = True

    def delete(self, key, expected=None):
        if self.after:
            super().delete(key, expected)
        raise KeyboardInterrupt


@pytest.mark.parametrize("unsaved", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_an_interrupted_deletion_is_all_or_nothing(after, unsaved, clock):
    """What was unsaved of a session that had been deleted already began a new one with the next save."""
    store = Interrupting()
    store.after = after
    m = SessionManager(store, clock=clock)
    m.add_message("k", "user", "old")
    m.save("k")
    if unsaved:
        m.add_message("k", "user", "old, unsaved")
    clock.advance(days=2)
    with pytest.raises(KeyboardInterrupt):
        m.expire(DAY)
    m.save_all()
    assert texts(m, "k") == ([] if after else ["old"] + ["old, unsaved"] * unsaved)
    assert list(store.keys()) == ([] if after else ["k"])


def test_an_interrupt_keeps_unsaved_changes_of_a_session_deleted_elsewhere(clock, monkeypatch):
    """A session that is not old is not asked for: it is gone from the store, and stays in RAM."""
    store = MemoryStore()
    m = SessionManager(store, clock=clock)
    m.add_message("k", "user", "old")
    m.save("k")
    clock.advance(days=2)
    m.add_message("k", "user", "new, unsaved")
    store.delete("k")
    peek = m._residents.peek

    def interrupted(key):
        monkeypatch.setattr(m._residents, "peek", peek)
        raise KeyboardInterrupt

    monkeypatch.setattr(m._residents, "peek", interrupted)
    with pytest.raises(KeyboardInterrupt):
        m._removal.expire("k", lambda info: is_older(info, clock.time - DAY))
    m.save("k")
    assert texts(m, "k") == ["new, unsaved"]


def test_an_unsaved_change_is_found_and_saved_during_a_failing_deletion():
    """It was out of RAM meanwhile: a search told the older state, and `save_all` did not save it."""
    m, store, expirer, _ = expiring(SaveFailedError("k", "no"), unsaved=True)
    assert m.health().dirty == ("k",)
    assert len(m.search("unsaved")) == 1
    assert [info.count for info in m.list_sessions()] == [2]
    assert "k" in m
    savers = [start(m.save_all), start(lambda: m.save("k"))]
    store.go_on.set()
    finish(expirer, *[thread for thread, _ in savers])
    assert sorted(int(results[0]) for _, results in savers) == [0, 1]
    assert len(store.load("k").messages) == 2


def test_close_saves_unsaved_changes_although_a_deletion_fails_meanwhile():
    """Put back after `close` had looked for what is dirty, they were lost."""
    m, store, expirer, _ = expiring(SaveFailedError("k", "no"), unsaved=True)
    closer, closed = start(m.close)
    wait_until_closing(m)
    store.go_on.set()
    finish(expirer, closer)
    assert closed == [None]
    assert len(store.load("k").messages) == 2


def test_a_session_created_while_the_manager_is_being_closed_is_saved():
    """`close` looked for what is dirty before it waited for the calls that ran."""

    class Slow(MemoryStore):
        shared = False
        loads = 0

        def load(self, key):
            self.loads += 1
            if self.loads == 2:
                creating.set()
                assert go_on.wait(DEADLINE)
            return super().load(key)

    creating, go_on = threading.Event(), threading.Event()
    store = Slow()
    m = SessionManager(store)
    creator, created = start(lambda: m.get_or_create("k"))
    assert creating.wait(DEADLINE)
    closer, _ = start(m.close)
    wait_until_closing(m)
    go_on.set()
    finish(creator, closer)
    assert store.load("k").generation == created[0].generation


class BetweenListingAndDeleting(MemoryStore):
    """Another writer saves a session just before it is deleted."""

    shared = True
    other = None

    def delete(self, key, expected=None):
        if self.other is not None:
            self.other.add_message(key, "user", "from the other")
            self.other.save(key)
        return super().delete(key, expected)


@pytest.mark.parametrize("state", ["resident", "stored", "changed"])
def test_another_writers_save_between_listing_and_deletion_keeps_a_session(clock, state):
    store = BetweenListingAndDeleting()
    m, other = SessionManager(store, clock=clock), SessionManager(store, clock=clock)
    m.add_message("k", "user", "old")
    m.save("k")
    if state == "changed":
        m.set_summary("k", "s")
    if state == "stored":
        m = SessionManager(store, clock=clock)
    clock.advance(days=2)
    store.other = other
    assert m.expire(DAY) == []
    assert texts(m, "k") == ["old", "from the other"]
    m.save_all()
    assert texts(other, "k") == ["old", "from the other"]
    assert m.get_summary("k") == "s" * (state == "changed")


def test_a_deletion_of_unknown_outcome_is_raised_and_the_session_is_gone(tmp_path, clock):
    m, store, expirer, expired = expiring(SaveOutcomeUnknownError("k", "?"), unsaved=True)
    store.go_on.set()
    finish(expirer)
    assert isinstance(expired[0], SaveOutcomeUnknownError)
    assert (texts(m, "k"), m.health().dirty) == ([], ())


def test_a_write_of_unknown_outcome_keeps_a_session(clock):
    class Unsure(MemoryStore):
        def write(self, commit):
            super().write(commit)
            raise SaveOutcomeUnknownError(commit.session.key, "?")

        def landed(self, commit):
            if is_away:
                raise StorageError("memory:", "is away")
            return super().landed(commit)

    store, is_away = Unsure(), True
    m = SessionManager(store, clock=clock)
    m.add_message("k", "user", "x")
    with pytest.raises(SaveOutcomeUnknownError):
        m.save("k")
    clock.advance(days=2)
    assert m.expire(DAY) == []
    is_away = False
    m.save("k")
    assert m.expire(DAY) == ["k"]


def test_the_ones_before_a_failure_are_gone_and_the_ones_after_it_stay(clock):
    class Stubborn(MemoryStore):
        def delete(self, key, expected=None):
            if key == "b":
                raise SaveFailedError(key, "no")
            return super().delete(key, expected)

    m = SessionManager(Stubborn(), clock=clock)
    for key in "abc":
        m.add_message(key, "user", "x")
    m.save_all()
    clock.advance(days=2)
    with pytest.raises(SaveFailedError) as raised:
        m.expire(DAY)
    assert raised.value.key == "b"
    assert list(m) == ["b", "c"]


def test_threads_that_add_and_save_while_others_expire_lose_nothing(tmp_path):
    """Only what is alone and old may go, at any moment; what was added last is there."""
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    store = SnapshotStore(tmp_path / "chats")
    m = SessionManager(store, clock=lambda: now)
    m.add_message("k", "user", "x", created_at=LONG_AGO)
    m.save("k")
    stop = threading.Event()

    def expire():
        while not stop.is_set():
            m.expire(DAY)

    expirer, results = start(expire)
    for number in range(60):
        m.add_message("k", "user", str(number))
        if number % 2:
            m.save("k")
        assert texts(m, "k")[-1] == str(number)
        last = m.remove_last("k") if number % 3 == 2 else None
        if last is not None:
            m.delete("k")
            m.add_message("k", "user", "x", created_at=LONG_AGO)
            m.save("k")
    stop.set()
    finish(expirer)
    assert results == [None]
    m.close()
    store.close()


class Elsewhere(MemoryStore):
    """A store on a server whose clock is an hour ahead of this machine's."""

    def now(self):
        return utc_now() + timedelta(hours=1)


def test_sessions_expire_by_the_clock_of_the_storage():
    """Two machines whose clocks differ would not agree on what is old."""
    with SessionManager(Elsewhere()) as m:
        m.add_message("k", "user", "x")
        m.set_expiry("k", timedelta(minutes=30))
        m.save("k")
        assert m.expire(timedelta(minutes=90), dry_run=True) == []
        assert m.expire(timedelta(minutes=30), dry_run=True) == ["k"]
        assert m.expire() == ["k"]


def test_a_clock_that_the_manager_was_given_counts_first():
    with SessionManager(Elsewhere(), clock=lambda: utc_now() + timedelta()) as m:
        m.add_message("k", "user", "x")
        m.save("k")
        assert m.expire(timedelta(minutes=30)) == []


def test_a_large_storage_is_looked_through_by_pages(tmp_path, clock, monkeypatch):
    """All sessions of a server came in one answer, which took longer than a statement may: so nothing ever expired."""
    monkeypatch.setattr(retention, "_PAGE", 3)
    asked = []

    class Paged(SQLiteStore):
        def infos(self, prefix="", **options):
            asked.append(options["limit"])
            return super().infos(prefix, **options)

    store = Paged(tmp_path / "chats.db")
    with SessionManager(store, clock=clock) as m:
        for number in range(10):
            m.add_message(f"k{number}", "user", "x")
        m.save_all()
        clock.advance(days=1)
        for key in ("k2", "k5"):  # one saved, one unsaved
            m.add_message(key, "user", "y")
        m.save("k2")
        gone = [f"k{number}" for number in range(10) if number not in (2, 5)]
        assert m.expire(DAY / 2, dry_run=True) == gone
        assert None not in asked
        assert m.expire(DAY / 2) == gone
        assert [info.key for info in m.list_sessions()] == ["k2", "k5"]
    store.close()
