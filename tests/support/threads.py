"""Threads that start together, and whose failures fail the test; and the threads that run."""

from __future__ import annotations

import threading

DEADLINE = 60


def run(*workers):
    """Run the workers behind a barrier, each in a thread, and raise what one of them raised."""
    barrier = threading.Barrier(len(workers))
    errors = []

    def work(worker):
        barrier.wait(DEADLINE)
        try:
            worker()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def alive():
    """Return the threads that run now: a set, because a thread of an earlier test may end at any moment, and counts then differ."""
    return set(threading.enumerate())
