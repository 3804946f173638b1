"""Leases between processes that are killed, stand still, or get the same deliveries."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import pytest

from session_manager import Lease, SessionManager
from tests.support import lease_worker
from tests.support.lease_worker import KEY
from tests.support.leased import storage
from tests.support.processes import python

DEADLINE = 60


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    there = storage(request.param, tmp_path)
    yield there
    if hasattr(there, "remove"):
        there.remove()


@pytest.fixture
def store(place):
    one = place.opened()
    yield one
    one.close()


class Worker:
    """A process of `tests.support.lease_worker`."""

    def __init__(self, place, work, seconds):
        where = ["postgres", place.url, place.schema] if hasattr(place, "url") else ["sqlite", *map(str, place.paths)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = python("-m", "tests.support.lease_worker", work, seconds, *where, **pipes)

    def tell(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hears(self):
        return self.process.stdout.readline().strip()

    def lines(self):
        """Return all that it says until it ends."""
        said = self.process.stdout.read().split("\n")[:-1]
        self.end()
        return said

    def end(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(DEADLINE)


@pytest.fixture
def holders(place, store):
    """Processes that take turns when they are told: one with a lease of half a second, and one with a long lease."""
    workers = [Worker(place, "hold", seconds) for seconds in (0.5, 3600)]
    yield workers
    for worker in workers:
        worker.end()


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def open_turn(holder, text):
    holder.tell(text)
    assert holder.hears() == "open"


def leave(holder):
    """Leave the block of the holder's turn; return what became of it."""
    holder.tell("leave")
    return holder.hears()


def test_a_process_that_stands_still_or_is_killed_is_replaced(place, store, holders):
    """It stands still, and nobody else takes a turn; it stands still, and another process does; it is killed."""
    holder, patient = holders
    with SessionManager(store, lease=Lease()) as m:
        open_turn(holder, "kept")
        holder.process.send_signal(signal.SIGSTOP)
        place.jump(3600)  # its lease has run out
        holder.process.send_signal(signal.SIGCONT)
        assert leave(holder) == "applied"
        assert texts(m) == ["kept"]

        open_turn(holder, "lost")
        holder.process.send_signal(signal.SIGSTOP)
        with m.turn(KEY, timeout=DEADLINE) as turn:
            turn.add_message("user", "instead")
        holder.process.send_signal(signal.SIGCONT)
        assert leave(holder) == "lost"
        assert texts(m) == ["kept", "instead"]

        open_turn(holder, "again")
        assert leave(holder) == "applied"
        open_turn(patient, "killed")
        patient.end()
        with pytest.raises(TimeoutError), m.turn(KEY, timeout=0):
            pass
        place.jump(3600)
        with m.turn(KEY, timeout=DEADLINE) as turn:
            turn.add_message("user", "next")
        assert texts(m) == ["kept", "instead", "again", "next"]


@pytest.mark.parametrize(
    "kills", [0, pytest.param(1, marks=pytest.mark.long)], ids=["nobody is killed", "some are killed"]
)
def test_deliveries_that_two_processes_get_cost_one_model_call_each(place, store, size, kills):
    """Each model sees all turns before its own. A process that is killed in the middle of a call costs one call more."""
    deliveries, kills = size.of(15, 300, 2000), kills and size.of(1, 10, 60)
    running = [Worker(place, "deliver", 0.5 if kills else 30) for _ in range(2)]
    said, chance = [], random.Random(5)
    try:
        for worker in running:
            worker.tell(deliveries)
        for _ in range(kills):
            which = chance.randrange(2)
            heard = [running[which].hears() for _ in range(chance.randrange(1, 6))]
            running[which].process.kill()
            said += [*heard, *running[which].lines()]
            running[which] = Worker(place, "deliver", 0.5)
            running[which].tell(deliveries)
        said += [line for worker in running for line in worker.lines()]
    finally:
        for worker in running:
            worker.end()
    assert said.count("done") >= 2
    asked = [(int(number), int(seen)) for _, number, seen in map(str.split, filter(_is_asked, said))]
    with SessionManager(store) as m:
        order = {}
        for chat in range(lease_worker.CHATS):
            there = texts(m, f"chat:{chat}")
            assert there[::2] == there[1::2], "torn"
            order |= {int(text.split()[0]): 2 * place for place, text in enumerate(there[::2])}
    assert sorted(order) == list(range(deliveries)), "lost, or doubled"
    assert set(asked) >= set(order.items()), "a model did not see a turn that came before its own"
    lost = sum(line.startswith("lost") for line in said)
    print(f"{deliveries} deliveries to two processes, {kills} kills: {len(asked)} model calls, {lost} turns refused")
    assert len(asked) - deliveries <= kills + lost, "paid twice"
    assert kills or not lost


def _is_asked(line):
    return line.startswith("asked")


def test_a_waiting_process_asks_without_a_flush(place, store):
    """A hundred polls write nothing."""
    with SessionManager(store, lease=Lease()) as m, m.turn(KEY):
        other = place.opened()
        try:
            before = _written(place)
            began = time.monotonic()
            for _ in range(100):
                assert other.take_lease(KEY, "other", 60) is None
            assert time.monotonic() - began < DEADLINE
            assert _written(place) == before
        finally:
            other.close()


def _written(place):
    if hasattr(place, "url"):
        return place.run("SELECT ctid::text, xmin::text, xmax::text FROM {s}.leases")
    return [path.stat().st_size for path in place.paths], [
        (path.parent / f"{path.name}-wal").stat().st_size for path in place.paths
    ]
