"""The guard and the keyed locks."""

from __future__ import annotations

import threading

import pytest

from session_manager import ReentrantCallError, SessionManager
from session_manager.manager.cache.locks import Guard, KeyedLocks

DEADLINE = 10


def nothing():
    pass


def alive(locks):
    return [key for key, reference in locks._locks.items() if reference() is not None]


def test_locks_that_nobody_uses_any_more_are_forgotten():
    locks = KeyedLocks(Guard())
    for number in range(1000):
        locks.run([str(number)], nothing, nothing)
    assert len(locks._locks) < 50


def test_the_guard_refuses_a_call_from_within():
    guard = Guard()
    with pytest.raises(ReentrantCallError):
        guard.run(guard.run, int)
    assert guard.run(int) == 0


def test_a_manager_that_is_called_from_within_one_of_its_calls_says_so_and_goes_on():
    m = SessionManager()
    with pytest.raises(ReentrantCallError, match="set a flag"):
        m._residents.guard.run(m.add_message, "k", "user", "from a signal handler")
    m.add_message("k", "user", "a")
    assert len(m.get_history("k")) == 1


def test_the_guard_is_free_again_after_an_error():
    guard = Guard()
    with pytest.raises(ZeroDivisionError):
        guard.run(lambda: 1 // 0)
    assert guard.run(int) == 0


def test_a_keyed_lock_excludes_other_threads_for_its_key_only():
    locks = KeyedLocks(Guard())
    entered, leave, order = threading.Event(), threading.Event(), []

    def hold():
        entered.set()
        assert leave.wait(DEADLINE)
        order.append("first")

    first = threading.Thread(target=locks.run, args=(["a"], nothing, hold))
    second = threading.Thread(target=locks.run, args=(["a"], nothing, lambda: order.append("second")))
    first.start()
    assert entered.wait(DEADLINE)
    second.start()
    locks.run(["b"], nothing, lambda: order.append("other key"))
    leave.set()
    first.join(DEADLINE)
    second.join(DEADLINE)
    assert order == ["other key", "first", "second"]
    assert not alive(locks)


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_thread_that_holds_a_key_cannot_ask_for_any(key):
    """A signal handler that asked for another key could wait for a thread that waited for the first."""
    locks = KeyedLocks(Guard())
    for nested in (lambda: locks.run([key], nothing, nothing), locks.drain):
        with pytest.raises(ReentrantCallError):
            locks.run(["a"], nothing, nested)
    locks.drain()
    assert not alive(locks)


def test_the_check_is_made_when_the_lock_is_held():
    locks = KeyedLocks(Guard())
    with pytest.raises(ZeroDivisionError):
        locks.run(["a"], lambda: 1 // 0, lambda: pytest.fail("not to be called"))
    locks.run(["a"], nothing, nothing)


def test_several_keys_are_taken_in_order_whatever_order_they_are_given_in():
    locks = KeyedLocks(Guard())

    def take(keys):
        for _ in range(300):
            locks.run(keys, nothing, nothing)

    threads = [threading.Thread(target=take, args=(keys,), daemon=True) for keys in (["a", "b", "b"], ["b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads)


def test_a_thread_that_waits_for_the_first_key_holds_no_later_one():
    """Two threads that hold a key each and wait for that of the other would wait for ever."""
    locks = KeyedLocks(Guard())
    entered, leave = threading.Event(), threading.Event()

    def hold():
        entered.set()
        assert leave.wait(DEADLINE)

    holder = threading.Thread(target=locks.run, args=(["a"], nothing, hold))
    waiting = threading.Thread(target=locks.run, args=(["b", "a"], nothing, nothing))
    holder.start()
    assert entered.wait(DEADLINE)
    waiting.start()
    others = threading.Thread(target=lambda: [locks.run(["b"], nothing, nothing) for _ in range(50_000)], daemon=True)
    others.start()
    others.join(DEADLINE)
    assert not others.is_alive()
    assert waiting.is_alive()
    leave.set()
    holder.join(DEADLINE)
    waiting.join(DEADLINE)


def test_a_lock_that_is_held_survives_the_sweep_of_those_that_are_not():
    locks = KeyedLocks(Guard())
    order = []

    def use_others():
        for number in range(100):
            other = threading.Thread(target=locks.run, args=([f"other {number}"], nothing, nothing))
            other.start()
            other.join(DEADLINE)
        assert alive(locks) == ["a"]
        second.start()
        order.append("first")

    second = threading.Thread(target=locks.run, args=(["a"], nothing, lambda: order.append("second")))
    locks.run(["a"], nothing, use_others)
    second.join(DEADLINE)
    assert order == ["first", "second"]


def test_drain_waits_for_whoever_holds_a_lock():
    locks = KeyedLocks(Guard())
    entered, leave, drained = threading.Event(), threading.Event(), threading.Event()

    def hold():
        entered.set()
        assert leave.wait(DEADLINE)

    holder = threading.Thread(target=locks.run, args=(["a"], nothing, hold))
    holder.start()
    assert entered.wait(DEADLINE)
    drainer = threading.Thread(target=lambda: (locks.drain(), drained.set()))
    drainer.start()
    assert not drained.wait(0.05)
    leave.set()
    assert drained.wait(DEADLINE)
    holder.join(DEADLINE)
    drainer.join(DEADLINE)
