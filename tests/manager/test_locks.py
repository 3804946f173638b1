"""The lock of what is in RAM, and the keyed locks."""

from __future__ import annotations

import threading

import pytest

from session_manager import ReentrantCallError, SessionExistsError, SessionManager
from session_manager.manager.cache.locks import KeyedLocks, RamLock

DEADLINE = 10


@pytest.fixture
def locks():
    return KeyedLocks(RamLock())


def alive(locks):
    """Return the keys whose locks are in use, once this thread has let go of the lock that it was given last."""
    locks._thread.last = None
    return [key for key, reference in locks._locks.items() if reference() is not None]


def take(locks, *keys, then=lambda: None):
    """Take the locks of some keys, as callers do, and call a function."""
    take_all(locks.locks_of(keys), then)


def take_all(found, then):
    if not found:
        return then()
    with found[0]:
        return take_all(found[1:], then)


def holder_of(locks, key):
    """Return a thread that holds the lock of a key, and the event that lets it go on."""
    entered, leave = threading.Event(), threading.Event()

    def hold():
        entered.set()
        assert leave.wait(DEADLINE)

    holder = threading.Thread(target=take, args=(locks, key), kwargs={"then": hold})
    holder.start()
    assert entered.wait(DEADLINE)
    return holder, leave


def test_locks_that_nobody_uses_any_more_are_forgotten(locks):
    for number in range(1000):
        take(locks, str(number))
    assert len(locks._locks) < 50


def test_a_thread_makes_one_lock_for_all_its_uses_of_a_key(locks):
    take(locks, "a")
    (first,) = locks._locks.values()
    take(locks, "a")
    assert locks._locks["a"] is first
    assert alive(locks) == []


def test_the_lock_is_refused_to_a_thread_that_holds_it():
    lock = RamLock()
    with lock.checked:
        assert lock.is_mine
        with pytest.raises(ReentrantCallError):
            lock.checked  # noqa: B018 - it checks
    assert not lock.is_mine
    with lock.checked:
        pass


def test_a_manager_called_within_one_of_its_calls_says_so_and_goes_on():
    m = SessionManager()
    with m._residents.lock.checked, pytest.raises(ReentrantCallError, match="set a flag"):
        m.add_message("k", "user", "from a signal handler")
    m.add_message("k", "user", "a")
    assert len(m.get_history("k")) == 1


def test_a_keyed_lock_excludes_other_threads_for_its_key_only(locks):
    order = []
    first, leave = holder_of(locks, "a")
    second = threading.Thread(target=take, args=(locks, "a"), kwargs={"then": lambda: order.append("second")})
    second.start()
    with locks.locks_of("b")[0]:
        order.append("other key")
    leave.set()
    first.join(DEADLINE)
    second.join(DEADLINE)
    assert order == ["other key", "second"]
    assert not alive(locks)


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_thread_that_holds_a_key_cannot_ask_for_any(locks, key):
    """A signal handler that asked for another key could wait for a thread that waited for the first."""
    for nested in (
        lambda: locks.locks_of([key]),
        lambda: locks.locks_of([key, "c"]),
        locks.check_none_is_mine,
        locks.drain,
    ):
        with locks.locks_of("a")[0], pytest.raises(ReentrantCallError):
            nested()
    locks.drain()
    assert not alive(locks)


def test_several_keys_are_taken_in_order_whatever_order_they_are_given_in(locks):
    def repeat(keys):
        for _ in range(300):
            take(locks, *keys)

    threads = [threading.Thread(target=repeat, args=(keys,), daemon=True) for keys in (["a", "b", "b"], ["b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads)


def test_a_thread_that_waits_for_the_first_key_holds_no_later_one(locks):
    """Two threads that hold a key each and wait for that of the other would wait for ever."""
    holder, leave = holder_of(locks, "a")
    waiting = threading.Thread(target=take, args=(locks, "b", "a"))
    waiting.start()
    others = threading.Thread(target=lambda: [take(locks, "b") for _ in range(50_000)], daemon=True)
    others.start()
    others.join(DEADLINE)
    assert not others.is_alive()
    assert waiting.is_alive()
    leave.set()
    holder.join(DEADLINE)
    waiting.join(DEADLINE)


def test_a_lock_that_is_held_survives_the_sweep_of_those_that_are_not(locks):
    order = []
    second = threading.Thread(target=take, args=(locks, "a"), kwargs={"then": lambda: order.append("second")})
    with locks.locks_of("a")[0]:
        for number in range(100):
            other = threading.Thread(target=take, args=(locks, f"other {number}"))
            other.start()
            other.join(DEADLINE)
        assert alive(locks) == ["a"]
        second.start()
        order.append("first")
    second.join(DEADLINE)
    assert order == ["first", "second"]


def test_drain_waits_for_whoever_holds_a_lock(locks):
    drained = threading.Event()
    holder, leave = holder_of(locks, "a")
    drainer = threading.Thread(target=lambda: (locks.drain(), drained.set()))
    drainer.start()
    assert not drained.wait(0.05)
    leave.set()
    assert drained.wait(DEADLINE)
    holder.join(DEADLINE)
    drainer.join(DEADLINE)


def test_a_fork_to_its_own_key_is_refused_and_leaves_no_lock():
    """Its two keys are one, whose lock is taken twice."""
    m = SessionManager()
    m.add_message("k", "user", "a")
    with pytest.raises(SessionExistsError):
        m.fork("k", "k")
    assert not alive(m._residents.keyed)
