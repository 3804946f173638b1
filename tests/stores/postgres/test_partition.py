"""Machines that are cut off from the server while they write: nothing is lost, doubled or torn, and the others go on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing

import pytest

from session_manager.model.changes import Append
from tests.support.fleet import DEADLINE, Said, Worker, check
from tests.support.network import Network, has_connection
from tests.support.places import ROOT
from tests.support.postgres import Place, Server, needs_driver, needs_programs
from tests.support.small_sessions import AT, message
from tests.support.sqlite_saves import write, write_new

psycopg = needs_driver()

pytestmark = [pytest.mark.once, pytest.mark.long]

#: A machine that hears nothing gives up within some two seconds.
QUICK = "connect_timeout=2&tcp_user_timeout=1000&keepalives_idle=1&keepalives_interval=1&keepalives_count=1"
#: How long the server keeps the locks of a machine that stands still between two requests, in seconds.
LOCKS = 1
#: A process that locks the rows of all sessions, and stands still behind a request, behind some that it sent together, or in the middle of one.
HOLD = """
import sys, time
from session_manager.stores.postgres import PostgresStore
store = PostgresStore(sys.argv[1], schema=sys.argv[2], statement_timeout=int(sys.argv[3]))
with store._connections.use() as handle:
    handle.run("BEGIN")
    handle.run("SELECT * FROM {s}.sessions FOR UPDATE")
    if sys.argv[4] != "behind one":
        with handle.pipeline():
            handle.run("SELECT 1")
            if sys.argv[4] == "in one":
                print("held", flush=True)
                sys.stdin.read()
    print("held", flush=True)
    sys.stdin.read()
"""
#: So many that a chat has fewer than 256 turns while a machine is cut off: it remembers so many refs.
CHATS = 20


@pytest.fixture
def network():
    one = Network.made(3)
    yield one
    one.remove()


@pytest.fixture
def server(network):
    needs_programs()
    one = Server({"listen_addresses": f"127.0.0.1,{network.address}"})
    with open(os.path.join(one.data, "pg_hba.conf"), "a", encoding="ascii") as file:
        file.write(f"host all all {network.address}/24 trust\n")
    yield one.start()
    one.remove()


@pytest.fixture
def place(server):
    one = Place(server.url)
    one.open().close()
    return one


@pytest.fixture
def said(tmp_path):
    return Said(tmp_path / "acknowledged")


@pytest.fixture
def options(request):
    """Options of the workers."""
    return {"statement_timeout": LOCKS, "chats": CHATS, **getattr(request, "param", {})}


@pytest.fixture
def workers(network, server, place, said, options):
    """One worker on each machine, ended at the end."""
    url = url_of(network, server)
    with ExitStack() as stack, open(said.path, "ab") as output:
        started = []
        for number, machine in enumerate(network.machines):
            worker = Worker(f"w{number}:", place.schema, url, output=output, command=machine.command, **options)
            stack.callback(worker.kill)
            started.append(worker)
        yield started


def url_of(network, server):
    return f"postgresql://tester@{network.address}:{server.port}/postgres?{QUICK}"


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.01)


def count_of_turns(place):
    return place.run("SELECT count(*) FROM {s}.messages")[0][0] // 2


def test_a_machine_is_cut_off_before_the_answer_arrives(network, server, place, said, workers):
    """A commit waits for a lock of ours; behind its back the network goes; then it is made, and its answer is lost."""
    machine, worker = network.machines[0], workers[0]
    for one in workers[1:]:
        one.kill()
    said.wait_for(CHATS, by="w0:")
    with psycopg.connect(place.url) as locking:
        locking.execute(f"SELECT * FROM {place.schema}.sessions FOR UPDATE")
        wait_until(lambda: place.run("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        machine.cut_off()
        before, acknowledged = count_of_turns(place), len(said.refs())
    wait_until(lambda: count_of_turns(place) == before + 1)
    wait_until(lambda: not has_connection(worker.process.pid, server.port))
    assert len(said.refs()) == acknowledged
    machine.heal()
    said.wait_for(5, by="w0:")
    worker.end()
    check(place.open(), said.refs())


def test_a_machine_is_cut_off_before_its_request_arrives(network, server, place, said, workers):
    """It stands still while the network goes, and writes into the void when it moves again."""
    machine, worker = network.machines[0], workers[0]
    said.wait_for(5, by="w0:")
    worker.process.send_signal(signal.SIGSTOP)
    machine.cut_off()
    worker.process.send_signal(signal.SIGCONT)
    wait_until(lambda: not has_connection(worker.process.pid, server.port))
    acknowledged = len([ref for ref in said.refs() if ref.startswith("w0:")])
    for number in (1, 2):
        said.wait_for(5, by=f"w{number}:")
    assert len([ref for ref in said.refs() if ref.startswith("w0:")]) == acknowledged
    machine.heal()
    said.wait_for(5, by="w0:")
    for one in workers:
        one.end()
    check(place.open(), said.refs())


@pytest.mark.parametrize("where", ["behind one", "behind some", "in one"])
def test_locks_of_a_machine_that_vanished_are_given_up(network, server, place, where):
    """The timeouts of the server are off in the middle of a request, and behind some that were sent together, which end with a Flush.

    So its end of the connection must have bounds of its own.
    """
    with closing(place.open()) as store:
        before = write_new(store)
        machine = network.machines[0]
        program = [sys.executable, "-c", HOLD, url_of(network, server), place.schema, str(3 * LOCKS), where]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(machine.command(*program), cwd=ROOT, **pipes) as holder:
            assert holder.stdout.readline() == b"held\n"
            assert place.run("SELECT 1 FROM {s}.sessions FOR UPDATE SKIP LOCKED") == []
            machine.cut_off()
            start = time.monotonic()
            write(store, before, Append(at=AT, messages=(message("new"),)))
            holder.kill()
    assert time.monotonic() - start < 15 * LOCKS


@pytest.mark.parametrize("options", [{}, {"lease": 0.5}], indirect=True, ids=["without leases", "with leases"])
def test_machines_are_cut_off_at_random_and_heal(network, server, place, said, workers, size):
    """Sometimes before they notice it, sometimes long after; the others go on all the time.

    Now and then one is cut off while it has locked a chat, and none of the server's timeouts runs. The chat then stayed locked, until
    the server gave the machine up, after two hours.
    """
    chance = random.Random(11)
    for number in range(size.of(6, 20, 60)):
        said.wait_for(chance.randrange(5, 40))
        which = chance.randrange(len(workers))
        network.machines[which].cut_off()
        said.wait_for(10, by=f"w{(which + 1) % len(workers)}:")
        if number % 2 == 0:
            wait_until(lambda pid=workers[which].process.pid: not has_connection(pid, server.port))
        network.machines[which].heal()
    for number in range(len(workers)):
        said.wait_for(5, by=f"w{number}:")
    for one in workers:
        one.end()
    check(place.open(), said.refs())
