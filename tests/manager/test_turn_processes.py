"""Turns and summaries in several processes, which are killed: whole or not at all, once, and nothing lost."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter

import pytest

from session_manager import SessionManager
from tests.support.processes import python
from tests.support.turn_worker import CHATS, KEY, PARTS

DEADLINE = 60


class Worker:
    """A process of `tests.support.turn_worker`, and what it has said."""

    def __init__(self, work, storage, who, *arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = python("-m", "tests.support.turn_worker", work, storage, who, *arguments, **pipes)
        self.said = []
        self._errors = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.said)),
            threading.Thread(target=self._read, args=(self.process.stderr, self._errors)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines):
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    def kill(self):
        self.process.kill()
        self.wait()

    def wait(self):
        self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)

    def finish(self):
        """Wait until it has done all it should."""
        self.wait()
        assert (self.process.returncode, self.said[-1:]) == (0, ["done"]), "\n".join(self._errors)

    def hear(self, lines):
        """Wait until it has said so many lines, or has ended."""
        end = time.monotonic() + DEADLINE
        while len(self.said) < lines and self.process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.0005)


def texts(storage, key=KEY):
    with SessionManager(storage) as m:
        return [message.content for message in m.get_history(key)]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["snapshot", "log", "sqlite"])
def test_a_kill_at_any_moment_leaves_no_turn_or_a_whole_one(tmp_path, scheme):
    storage = f"{scheme}:{tmp_path / 'chats'}"
    chance = random.Random()
    acknowledged = -1
    for _ in range(7):
        worker = Worker("turns", storage, "a")
        worker.hear(max(acknowledged, 0) + chance.randrange(2, 15))
        time.sleep(chance.random() * 0.004)
        worker.kill()
        assert worker.process.returncode == -9, worker._errors
        said = [int(line) for line in worker.said]
        assert said == list(range(len(said))), "a delivery that was answered is done"
        with SessionManager(storage) as m:
            session, archive = m.get(KEY), list(m.get_archive(KEY))
            assert [one.reason for one in m.verify() if "torn record" not in one.reason] == [], (
                "what a log shows of a kill"
            )
        assert 0 < len(session.messages) <= 13 * PARTS
        parts = [tuple(map(int, message.content.split()[:2])) for message in [*archive, *session.messages]]
        assert parts == [(number, part) for number in range(session.end // PARTS) for part in range(PARTS)], (
            "each message is in the session or in its archive, and in one of them"
        )
        assert len(session.refs) == session.end // PARTS
        acknowledged = max([acknowledged, *said])
        assert acknowledged < len(session.refs)


def test_two_processes_with_the_same_deliveries_store_each_turn_once(tmp_path, size):
    storage, (deliveries, kills) = f"sqlite:{tmp_path / 'chats.db'}", size.of((150, 2), (450, 6), (4500, 60))
    chance = random.Random()
    running = {who: Worker("deliver", storage, who, deliveries) for who in "ab"}
    for _ in range(kills):
        who = chance.choice("ab")
        time.sleep(0.2 + chance.random() * 0.2)
        if running[who].process.poll() is None:
            running[who].kill()
            running[who] = Worker("deliver", storage, who, deliveries)
    for worker in running.values():
        worker.finish()
    answered = Counter()
    for chat in range(CHATS):
        said = texts(storage, f"chat:{chat}")
        assert said[::2] == said[1::2], "a turn is in one piece, of one process"
        answered.update(int(text.split()[0]) for text in said[::2])
    assert answered == dict.fromkeys(range(deliveries), 1)


@pytest.mark.parametrize("call", ["clear", "delete"])
def test_a_reset_by_another_process_during_a_turn(tmp_path, call):
    storage = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(storage) as m:
        with m.turn(KEY, "old") as turn:
            turn.add_message("user", "old")
        with m.turn(KEY, "late") as turn:
            turn.add_message("user", "late")
            Worker("once", storage, "a", call).finish()
        assert not turn.applied
        assert not turn.done
        assert m.get_history(KEY) == []
    assert texts(storage) == []


def test_a_session_created_and_cleared_by_another_process_during_a_turn(tmp_path):
    """The turn had seen no session, and was written after the reset."""
    storage = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(storage) as m:
        with m.turn(KEY, "late") as turn:
            turn.add_message("user", "late")
            Worker("visit", storage, "a", "clear").finish()
        assert not turn.applied
        assert not turn.done
        assert m.get_history(KEY) == []
    assert texts(storage) == []


@pytest.mark.parametrize("call", ["clear", "delete"])
def test_a_session_seen_and_then_reset_by_another_process_during_a_turn(tmp_path, call):
    storage = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(storage) as m:
        with m.turn(KEY) as turn:
            turn.add_message("user", "late")
            with SessionManager(storage) as other:
                other.add_message(KEY, "user", "theirs")
            assert [message.content for message in m.get_history(KEY)] == ["theirs"]
            assert [message["content"] for message in turn.get_context()] == ["theirs", "late"]
            Worker("once", storage, "a", call).finish()
        assert not turn.applied
        assert m.get_history(KEY) == []


def test_resets_at_any_moment_leave_only_whole_applied_turns(tmp_path):
    storage = f"sqlite:{tmp_path / 'chats.db'}"
    applied = {}
    with SessionManager(storage) as m:
        worker = Worker("reset", storage, "a", 60)
        number = 0
        while worker.process.poll() is None:
            with m.turn(KEY, f"r{number}") as turn:
                turn.add({"role": "user", "content": f"{number}"}, {"role": "assistant", "content": f"{number}"})
                time.sleep(0.001)
            assert not turn.done
            applied[f"{number}"] = turn.applied
            number += 1
            said = [message.content for message in m.get_history(KEY)]
            assert said[::2] == said[1::2]
            assert all(applied[text] for text in said)
        worker.finish()
        assert set(applied.values()) == {True, False}


def wait_for_a_summary(storage):
    """Wait for the processes that summarize: on a busy machine, those that talk may be done before."""
    deadline = time.monotonic() + 60
    with SessionManager(storage, read_only=True) as m:
        while not m.get_summary(KEY):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_summaries_of_killed_processes_lose_and_double_nothing(tmp_path, size):
    storage, (amount, kills) = f"sqlite:{tmp_path / 'chats.db'}", size.of((40, 2), (120, 6), (1200, 60))
    chance = random.Random()

    def begin(who):
        return Worker("talk", storage, who, amount) if who in "ab" else Worker("summarize", storage, who, 12)

    running = {who: begin(who) for who in "abcd"}
    ended = []
    for _ in range(kills):
        who = chance.choice("abcd")
        time.sleep(0.15 + chance.random() * 0.2)
        if running[who].process.poll() is None:
            running[who].kill()
            ended.append(running[who])
            running[who] = begin(who)
    for who in "ab":
        running[who].finish()
    wait_for_a_summary(storage)
    for who in "cd":
        running[who].kill()  # it would wait for more to summarize
        assert running[who].process.returncode == -9 or running[who].said == ["done"], running[who]._errors
    lines = [line for worker in [*ended, *running.values()] for line in worker.said]
    saved = {line.split()[1] for line in lines if line.startswith("saved ")}
    dropped = {line.split()[1] for line in lines if line.startswith("dropped ")}
    with SessionManager(storage) as m:
        history, summarized = texts(storage), m.get_summary(KEY).split()
        archive = [message.content for message in m.get_archive(KEY)]
        assert m.verify() == []
    there = Counter([*history, *summarized])
    assert summarized
    assert set(there.values()) == {1}, "a message is there twice"
    assert saved - dropped <= set(there), "a message is lost"
    assert archive == summarized, "what was summarized is archived, once and in order"
    assert len(saved) >= 2 * amount
