"""The guard and the keyed locks."""

from __future__ import annotations

import threading

import pytest

from session_manager import ReentrantCallError, SessionManager
from session_manager.locks import Guard, KeyedLocks

DEADLINE = 10


def test_the_guard_refuses_a_call_from_within():
    guard = Guard()
    with pytest.raises(ReentrantCallError):
        guard.run(guard.run, int)
    assert guard.run(int) == 0


def test_a_manager_that_is_called_from_within_one_of_its_calls_says_so_and_goes_on():
    m = SessionManager()
    with pytest.raises(ReentrantCallError, match="set a flag"):
        m._residents._guard.run(m.add_message, "k", "user", "from a signal handler")
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
        with locks.hold("a"):
            entered.set()
            assert leave.wait(DEADLINE)
            order.append("first")

    def wait():
        with locks.hold("a"):
            order.append("second")

    first, second = threading.Thread(target=hold), threading.Thread(target=wait)
    first.start()
    assert entered.wait(DEADLINE)
    second.start()
    with locks.hold("b"):
        order.append("other key")
    leave.set()
    first.join(DEADLINE)
    second.join(DEADLINE)
    assert order == ["other key", "first", "second"]
    assert not locks._slots


def test_a_thread_that_holds_a_key_cannot_ask_for_it_again():
    locks = KeyedLocks(Guard())
    with locks.hold("a"):
        with pytest.raises(ReentrantCallError), locks.hold("a"):
            pass
        with pytest.raises(ReentrantCallError):
            locks.drain()
    locks.drain()
    assert not locks._slots


def test_several_keys_are_taken_in_order_whatever_order_they_are_given_in():
    locks = KeyedLocks(Guard())
    rounds = 300

    def take(keys):
        for _ in range(rounds):
            with locks.hold_all(keys):
                pass

    threads = [threading.Thread(target=take, args=(keys,), daemon=True) for keys in (["a", "b", "b"], ["b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads)


def test_drain_waits_for_whoever_holds_a_lock():
    locks = KeyedLocks(Guard())
    entered, leave, drained = threading.Event(), threading.Event(), threading.Event()

    def hold():
        with locks.hold("a"):
            entered.set()
            assert leave.wait(DEADLINE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(DEADLINE)
    drainer = threading.Thread(target=lambda: (locks.drain(), drained.set()))
    drainer.start()
    assert not drained.wait(0.05)
    leave.set()
    assert drained.wait(DEADLINE)
    holder.join(DEADLINE)
    drainer.join(DEADLINE)
