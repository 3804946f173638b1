"""Four processes in the same chats, of which some are killed, and so is the server: nothing acknowledged is lost, and nothing is torn or doubled."""

from __future__ import annotations

import random

import pytest

from tests.support.fleet import Said, Worker, check
from tests.support.postgres import Place, Server, needs_programs

pytestmark = [pytest.mark.once, pytest.mark.long]


@pytest.fixture
def server():
    needs_programs()
    one = Server().start()
    yield one
    one.remove()


def test_nothing_acknowledged_is_lost_and_nothing_is_torn_or_doubled(server, size, tmp_path):
    place = Place(server.url)
    chance = random.Random(7)
    said = Said(tmp_path / "acknowledged")
    with open(said.path, "ab") as output:
        workers = [Worker(f"w{number}", place.schema, place.url, output=output) for number in range(4)]
        try:
            for number in range(size.of(2, 20, 400)):
                said.wait_for(chance.randrange(10, 60))
                if number % 2 == 0:
                    server.kill()
                    server.start()
                else:
                    which = chance.randrange(4)
                    workers[which].kill()
                    workers[which] = Worker(f"again{number}", place.schema, place.url, output=output)
            said.wait_for(40)
            while workers:
                workers.pop().end()
        finally:
            for one in workers:
                one.kill()
    check(place.open(), said.refs())
