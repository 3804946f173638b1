"""Four processes in the same chats, of which some are killed, and so is the server: nothing acknowledged is lost, and nothing is torn or doubled."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import pytest

from tests.support import fleet_worker
from tests.support.places import ROOT
from tests.support.postgres import Place, Server, needs_programs

DEADLINE = 60

pytestmark = [pytest.mark.once, pytest.mark.long]


@pytest.fixture
def server():
    needs_programs()
    one = Server().start()
    yield one
    one.remove()


class Worker:
    def __init__(self, place, who, output):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fleet_worker", place.url, place.schema, who],
            stdin=subprocess.PIPE,
            stdout=output,
            cwd=ROOT,
        )

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE)
        self.process.stdin.close()

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(DEADLINE) == 0


def test_nothing_acknowledged_is_lost_and_nothing_is_torn_or_doubled(server, size, tmp_path):
    place = Place(server.url)
    chance = random.Random(7)
    with open(tmp_path / "acknowledged", "ab") as output:

        def acknowledged():
            return (tmp_path / "acknowledged").read_text().split()

        def wait_for(more):
            end, wanted = time.monotonic() + DEADLINE, len(acknowledged()) + more
            while len(acknowledged()) < wanted:
                assert time.monotonic() < end, "no turn is acknowledged any more"
                time.sleep(0.01)

        workers = [Worker(place, f"w{number}", output) for number in range(4)]
        try:
            for number in range(size.of(2, 20, 400)):
                wait_for(chance.randrange(10, 60))
                if number % 2 == 0:
                    server.kill()
                    server.start()
                else:
                    which = chance.randrange(4)
                    workers[which].kill()
                    workers[which] = Worker(place, f"again{number}", output)
            wait_for(40)
            while workers:
                workers.pop().end()
        finally:
            for one in workers:
                one.kill()
    told = acknowledged()
    assert len(set(told)) == len(told)
    with closing(place.open()) as store:
        there = Counter()
        for number in range(fleet_worker.CHATS):
            key = f"chat:{number}"
            messages = [*store.archive(key), *store.load(key).messages]
            pairs = list(zip(messages[::2], messages[1::2], strict=True))
            assert [(user.role, answer.role) for user, answer in pairs] == [("user", "assistant")] * len(pairs), "torn"
            assert all(user.content == answer.content for user, answer in pairs), "torn"
            there.update(user.content for user, _ in pairs)
            assert store.verify(key) == []
        print(f"{len(told):,} turns acknowledged, {sum(there.values()):,} stored")
        assert [ref for ref, times in there.items() if times > 1] == [], "doubled"
        assert [ref for ref in told if ref not in there] == [], "lost"
        assert store.strays() == []
