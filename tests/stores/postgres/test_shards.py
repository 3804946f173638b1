"""Three servers as one store, of which one is killed: its own chats wait, the others go on, and nothing is lost, doubled or torn."""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest

from session_manager import SessionManager, StorageError
from session_manager.stores.sharded import ShardedStore, shard_of
from tests.support.fleet import Said, Worker, check
from tests.support.postgres import Place, Server, needs_programs

pytestmark = [pytest.mark.once, pytest.mark.long]

NAMES = ["0", "1", "2"]
SCHEMA = "fleet"
#: Chats by their shards.
CHATS = {
    name: [f"chat:{number}" for number in range(60) if shard_of(f"chat:{number}", NAMES) == name] for name in NAMES
}


@pytest.fixture
def servers():
    needs_programs()
    with ExitStack() as stack:
        started = []
        for _ in NAMES:
            one = Server()
            stack.callback(one.remove)
            started.append(one.start())
        yield started


def opened(servers):
    return ShardedStore({name: Place(one.url, SCHEMA).open() for name, one in zip(NAMES, servers, strict=True)})


def test_a_server_that_is_killed_harms_its_own_sessions_alone(servers, size, tmp_path):
    """Two workers for the chats of each shard."""
    chance = random.Random(5)
    said = Said(tmp_path / "acknowledged")
    opened(servers).close()
    with ExitStack() as stack, open(said.path, "ab") as output:
        workers = []
        for number in range(6):
            name = NAMES[number % 3]
            urls = [one.url for one in servers]
            worker = Worker(f"{name}:w{number}", SCHEMA, *urls, output=output, chats=CHATS[name][:4])
            stack.callback(worker.kill)
            workers.append(worker)
        for name in NAMES:
            said.wait_for(5, by=f"{name}:")
        for _ in range(size.of(2, 10, 200)):
            which = chance.randrange(3)
            servers[which].kill()
            for name in {*NAMES} - {NAMES[which]}:
                said.wait_for(20, by=f"{name}:")
            servers[which].start()
            said.wait_for(10, by=f"{NAMES[which]}:")
        for worker in workers:
            worker.end()
    check(opened(servers), said.refs())


def test_what_a_manager_says_while_a_shard_is_down(servers):
    """Sessions of the others can be read and written; what is about all of them raises, and so does what is about its own."""
    store = opened(servers)
    with SessionManager(store) as m:
        for name in NAMES:
            m.add_message(CHATS[name][0], "user", "hi")
        m.save_all()
        servers[0].kill()
        for name in NAMES[1:]:
            with m.turn(CHATS[name][0]) as turn:
                turn.add_message("user", "there?")
            assert [one.content for one in m.get_history(CHATS[name][0])] == ["hi", "there?"]
        for call in (m.list_sessions, lambda: m.search("hi"), lambda: m.get_history(CHATS["0"][0])):
            with pytest.raises(StorageError):
                call()
        servers[0].start()
        with m.turn(CHATS["0"][0]) as turn:
            turn.add_message("user", "there?")
        assert len(m.list_sessions()) == len(m.search("there?")) == 3
    store.close()
