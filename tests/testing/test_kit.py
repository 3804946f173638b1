"""The test kit's clock, faults, crash and state machine, and that it says what is not installed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from session_manager import (
    AsyncSessionManager,
    ClosedError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    SessionManagerError,
    StorageLockedError,
    testing,
)
from session_manager.model import changes
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import Clock, FaultyStore, SessionMachine, crash
from session_manager.testing.comparison import difference, message_difference, value_difference
from session_manager.testing.machine import some_key
from tests.support import broken_stores
from tests.support.places import ROOT
from tests.support.slow_store import SlowStore

pytest_plugins = ["pytester"]

KEY = "telegram:42"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def texts(m):
    return [message.content for message in m.get_history(KEY)]


@pytest.fixture
def faulty():
    store = FaultyStore(MemoryStore())
    with SessionManager(store) as m:
        m.add_message(KEY, "user", "a")
        yield store, m
        store.heal()


# The package


def test_every_name_of_the_kit_is_there_and_listed():
    for name in testing.__all__:
        assert getattr(testing, name) is not None
        assert name in dir(testing)
    with pytest.raises(AttributeError, match="no attribute 'Clok'"):
        testing.Clok  # noqa: B018


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_bots_own_environment_needs_nothing_else():
    code = """
import sys
sys.modules["hypothesis"] = sys.modules["pytest"] = None
from session_manager.testing import Clock, FaultyStore, crash
import session_manager.testing as kit
for name, missing in [("StoreContract", "pytest"), ("SessionMachine", "hypothesis"), ("keys", "hypothesis")]:
    try:
        getattr(kit, name)
    except ImportError as error:
        assert str(error) == (
            f"session_manager.testing.{name} needs {missing}: pip install 'chat-session-manager[testing]'"
        ), error
    else:
        raise AssertionError(name)
"""
    assert python(code).stderr == ""


def test_the_library_does_not_import_its_test_kit():
    code = "import sys, session_manager; print([m for m in sys.modules if 'testing' in m or 'hypothesis' in m])"
    assert python(code).stdout == "[]\n"


# Clock


def test_a_clock_stands_still_until_it_is_told_to_go_on():
    clock = Clock()
    assert clock() == clock() == START
    assert clock.advance(1.5) == clock() == START + timedelta(seconds=1.5)
    assert clock.advance(timedelta(days=1)) == clock() == START + timedelta(days=1, seconds=1.5)
    assert clock.advance(0) == clock()
    assert repr(clock) == "<Clock 2026-01-02T00:00:01.500000+00:00>"


def test_a_clock_goes_back_only_when_it_is_set():
    clock = Clock()
    for step in (-1, -0.001, timedelta(microseconds=-1)):
        with pytest.raises(ValueError, match="time does not go back"):
            clock.advance(step)
    assert clock() == START
    clock.set(START - timedelta(hours=1))
    assert clock() == START - timedelta(hours=1)


def test_a_clock_shows_utc_and_takes_only_aware_times():
    clock = Clock(datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))))
    assert clock().isoformat() == "2026-01-01T10:00:00+00:00"
    for naive in (datetime(2026, 1, 1), "2026"):  # noqa: DTZ001
        with pytest.raises(ValueError, match="datetime"):
            Clock(naive)
        with pytest.raises(ValueError, match="datetime"):
            clock.set(naive)


def test_many_threads_may_advance_a_clock():
    clock = Clock()
    threads = [threading.Thread(target=lambda: [clock.advance(1) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == START + timedelta(seconds=2000)


def test_a_manager_takes_its_time_from_a_clock():
    clock = Clock()
    with SessionManager(clock=clock) as m:
        m.add_message(KEY, "user", "a")
        clock.advance(60)
        m.add_message(KEY, "user", "b")
        assert [message.created_at for message in m.get_history(KEY)] == [START, START + timedelta(seconds=60)]


# FaultyStore


@pytest.mark.parametrize("save", [lambda m: m.save(KEY), lambda m: m.save_all()], ids=["save", "save_all"])
def test_the_next_write_fails_and_writes_nothing(faulty, save):
    store, m = faulty
    full = OSError(errno.ENOSPC, "No space left on device")
    store.fail_next(full)
    with pytest.raises(SaveFailedError) as raised:
        save(m)
    failed = raised.value.failures.get(KEY, raised.value)
    assert failed.__cause__ is full
    assert (failed.key, store.load(KEY)) == (KEY, None)
    assert m.health().dirty == (KEY,)
    assert save(m)
    assert texts(m) == ["a"] == [message.content for message in store.load(KEY).messages]


def test_an_error_of_the_library_or_an_interrupt_is_raised_as_it_is(faulty):
    store, m = faulty
    for error in (SaveOutcomeUnknownError(KEY, "on purpose"), KeyboardInterrupt(), SaveFailedError(KEY, "on purpose")):
        store.fail_next(error)
        with pytest.raises(type(error)) as raised:
            m.save(KEY)
        assert raised.value is error
        assert store.load(KEY) is None
    assert m.save(KEY) is True


def test_a_lost_acknowledgement_is_of_a_write_that_happened(faulty):
    store, m = faulty
    store.lose_ack_next()
    with pytest.raises(SaveOutcomeUnknownError):
        m.save(KEY)
    assert [message.content for message in store.load(KEY).messages] == ["a"]
    assert m.health().dirty == (KEY,)
    m.add_message(KEY, "user", "b")
    assert m.save(KEY) is True
    assert [message.content for message in store.load(KEY).messages] == ["a", "b"]


def test_faults_come_in_the_order_asked_for_and_heal_forgets_them(faulty):
    store, m = faulty
    for number in range(3):
        m.add_message(f"chat:{number}", "user", "a")
    store.fail_next(OSError("first"))
    store.lose_ack_next()
    with pytest.raises(SaveFailedError) as raised:
        m.save_all()
    assert {key: type(error) for key, error in raised.value.failures.items()} == {
        "chat:0": SaveFailedError,
        "chat:1": SaveOutcomeUnknownError,
    }
    store.fail_next(OSError("never"))
    store.delay = 1000
    store.heal()
    assert m.save_all() == 2


def test_each_write_takes_longer_by_the_delay(faulty):
    store, m = faulty
    store.delay = 0.05
    m.add_message("chat:1", "user", "a")
    start = time.monotonic()
    assert m.save_all() == 2
    assert time.monotonic() - start >= 0.1


# crash


@pytest.mark.parametrize("given", ["path", "store"])
def test_after_a_crash_the_storage_can_be_opened_again_with_what_was_saved(tmp_path, given):
    path = tmp_path / "chats"
    m = SessionManager(path if given == "path" else SnapshotStore(path))
    m.add_message(KEY, "user", "saved")
    m.save(KEY)
    m.add_message(KEY, "user", "not saved")
    with pytest.raises(StorageLockedError):
        SessionManager(path)
    crash(m)
    crash(m)
    with pytest.raises(ClosedError):
        m.get(KEY)
    with SessionManager(path) as again:
        assert texts(again) == ["saved"]


def test_a_crash_says_nothing_of_what_is_lost(recwarn):
    for m in (SessionManager(), SessionManager(MemoryStore())):
        m.add_message(KEY, "user", "lost")
        crash(m)
        del m
    assert [str(warning.message) for warning in recwarn] == []


def test_a_crash_waits_for_a_write_that_is_under_way():
    store = SlowStore()
    m = SessionManager(store)
    m.add_message(KEY, "user", "a")
    store.is_slow = True
    saving, crashing = threading.Thread(target=m.save, args=(KEY,)), threading.Thread(target=crash, args=(m,))
    saving.start()
    assert store.waiting.acquire(timeout=30)
    crashing.start()
    crashing.join(0.05)
    assert crashing.is_alive()
    store.heal()
    for thread in (saving, crashing):
        thread.join(30)
    assert store.load(KEY) is not None


# Comparison


def test_the_comparison_tells_everything_apart():
    with SessionManager(clock=Clock(), random_id=lambda: "id") as m:
        m.add(KEY, {"role": "user", "content": 1, "b": {"x": 1, "y": 2}})
        session = m.get(KEY)
        m.update_last(KEY, {"role": "user", "b": {"y": 2, "x": 1}, "content": 1})
        assert difference(session, m.get(KEY)) == ""
        m.update_last(KEY, {"role": "user", "content": 1.0, "b": {"x": 1, "y": 2}})
        after = m.get(KEY)._with(revision=session.revision)
        assert difference(session, after).startswith("messages[0].to_dict(): ")
        assert message_difference(session.messages[0], session.messages[0]._placed(0, "t")) == "turn: None, not 't'"
    assert difference(None, None) == ""
    assert difference(None, session) != "" != difference(session, None)
    for one, other in [(True, 1), (1, 1.0), (0.0, -0.0), ([], {}), ({"a": 1}, {}), ("x" * 999, "y" * 999)]:
        assert value_difference("place", [one], [other]).startswith("place: ")
    assert len(value_difference("place", "x" * 999, "y")) < 300


# The state machine


class InRam(SessionMachine):
    archive = True
    kind: type = MemoryStore

    def __init__(self):
        super().__init__()
        self.disk = self.kind()

    def open_store(self):
        return self.disk


found = settings(
    max_examples=500,
    stateful_step_count=40,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
)


@pytest.mark.parametrize(
    "broken",
    [
        broken_stores.FoldsCase,
        broken_stores.NumbersMessagesAnew,
        *(
            pytest.param(slowly_found, marks=pytest.mark.long)
            for slowly_found in (
                broken_stores.TakesColonsForUnderscores,
                broken_stores.LosesRefs,
                broken_stores.EditsNothing,
                broken_stores.CountsPositions,
                broken_stores.CompactsTooMuch,
                broken_stores.KeepsNoArchive,
                broken_stores.AlwaysDeletes,
            )
        ),
    ],
    ids=lambda broken: broken.__name__,
)
def test_the_state_machine_notices_a_broken_store(broken):
    class Broken(InRam):
        kind = broken
        if broken not in (broken_stores.TakesColonsForUnderscores, broken_stores.FoldsCase):
            session_keys = ("a:1",)  # one session meets more calls

    with pytest.raises((AssertionError, SessionManagerError)):
        run_state_machine_as_test(Broken, settings=found)


@pytest.mark.long
def test_the_kits_asserts_show_their_values(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("""
import pytest
from session_manager.stores.memory import MemoryStore
from session_manager.testing import StoreContract


class Broken(MemoryStore):
    def load(self, key):
        return None


class TestBroken(StoreContract):
    durable = False

    @pytest.fixture
    def open_store(self):
        return Broken
""")
    result = pytester.runpytest_subprocess("-k", "large_message", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["E*None, not <Session *"])


def test_a_subclass_adds_rules_of_its_own_and_switches_others_off():
    called = []

    class Mine(InRam):
        fork = None
        session_keys = ("a", "b")

        @rule(key=some_key(), text=st.text(max_size=3))
        def bot_answers(self, key, text):
            stored = self.manager.add(key, {"role": "user", "content": text}, {"role": "assistant"})
            called.append(key)
            self.did(key, changes.Append(at=self.clock(), messages=tuple(stored)))

    run_state_machine_as_test(Mine, settings=settings(found, max_examples=3))
    assert called
    assert set(called) <= {"a", "b"}


def test_a_machine_without_a_store_asks_for_one():
    with pytest.raises(NotImplementedError, match="override open_store or open"):
        SessionMachine().open()


@pytest.mark.long
def test_a_fresh_checkout_has_no_slow_first_draw(tmp_path):
    """Hypothesis built its tables at the first draw of `nasty_text()`, and its health check failed the first run."""
    script = """
        from hypothesis import HealthCheck, settings
        from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
        from session_manager import SessionManager
        from session_manager.testing import nasty_text

        class Machine(RuleBasedStateMachine):
            @rule(text=nasty_text())
            def writes(self, text):
                pass

        m = SessionManager()  # and its finalizer runs when the modules are being emptied
        strict = settings(max_examples=5, database=None, deadline=None)
        run_state_machine_as_test(Machine, settings=strict)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / ".hypothesis").exists()


async def _killed_in_a_turn(m):
    async with m.turn("k") as turn:
        turn.add_message("user", "never")
        crash(m)


@pytest.mark.anyio
async def test_crash_ends_an_async_manager():
    disk = MemoryStore()
    m = AsyncSessionManager(disk)
    await m.add_message("k", "user", "saved")
    await m.save("k")
    await m.add_message("k", "user", "unsaved")
    with pytest.raises(ClosedError):
        await _killed_in_a_turn(m)
    crash(m)
    with pytest.raises(ClosedError):
        await m.get("k")
    async with AsyncSessionManager(disk) as again:
        assert [message.content for message in await again.get_history("k")] == ["saved"]


@pytest.mark.anyio
async def test_crash_ends_an_async_manager_that_wraps_another(tmp_path):
    manager = SessionManager(tmp_path / "chats")
    m = AsyncSessionManager.wrap(manager)
    await m.add_message("k", "user", "unsaved")
    crash(m)
    with pytest.raises(ClosedError):
        manager.get("k")
    with SessionManager(tmp_path / "chats") as again:
        assert list(again) == []


@pytest.mark.anyio
async def test_crash_of_an_async_manager_that_was_never_opened(tmp_path):
    m = AsyncSessionManager(tmp_path / "chats")
    crash(m)
    with pytest.raises(ClosedError):
        await m.get("k")
    assert not (tmp_path / "chats").exists()


def test_only_a_manager_crashes():
    with pytest.raises(TypeError, match="manager must be a SessionManager or an AsyncSessionManager, not MemoryStore"):
        crash(MemoryStore())


@pytest.mark.parametrize("name", ["SessionManager", "AsyncSessionManager"])
@pytest.mark.parametrize("kind", ["snapshot", "sqlite"])
def test_no_finalizer_complains_at_the_end(name, kind, tmp_path):
    """`Exception ignored in: SessionManager.__del__` stood at the end of each run."""
    script = f"""
        import asyncio, sys
        import session_manager
        kept = session_manager.{name}("{kind}:chats")
        got = kept.get("k")
        if asyncio.iscoroutine(got):
            asyncio.run(got)
        sys.modules["kept"] = kept  # so it goes late
        cycle = [kept]
        cycle.append(cycle)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
