"""Workers of `tests.support.fleet_worker`, and what must hold of all that they have said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import attrs

from tests.support.places import ROOT

DEADLINE = 60


class Worker:
    """A worker's process.

    :param output: what it acknowledges is appended to this file.
    :param command: makes of a command line the one that runs it, such as on another machine.
    :param options: of `fleet_worker.main`.
    """

    def __init__(self, who, schema, *urls, output, command=lambda *one: one, **options):
        program = [sys.executable, "-m", "tests.support.fleet_worker", json.dumps(options)]
        self.process = subprocess.Popen(
            command(*program, who, schema, *urls),
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


@attrs.frozen
class Said:
    """What workers have acknowledged, in a file."""

    path: Path

    def refs(self):
        return self.path.read_text().split()

    def wait_for(self, more, by=""):
        """Wait for more turns, those of one worker or of all."""
        end, wanted = time.monotonic() + DEADLINE, self._count(by) + more
        while self._count(by) < wanted:
            assert time.monotonic() < end, "no turn is acknowledged any more"
            time.sleep(0.01)

    def _count(self, by):
        return sum(ref.startswith(by) for ref in self.refs())


def check(store, told):
    """Assert that no acknowledged turn is lost, and none is doubled or torn; close the store."""
    assert len(set(told)) == len(told)
    with closing(store):
        there = Counter()
        for key in list(store.keys()):
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
