"""Replay recorded conversations through a `SessionManager` whose process is killed again and again.

::

    python replay.py ../shared/data/airline_chats.jsonl --storage DIR --threads 8 --kills 20

A child process, the worker, adds the messages of all conversations to one manager, from several threads, saves after each
message, and then acknowledges it over a pipe: "so many messages of this session are durable". This process kills the
worker at random moments, checks that a fresh manager finds everything that was acknowledged, and starts the worker
again, which goes on where each session ends. At the end every history must be its conversation, message by message.

A file has one conversation a line, ``{"key": ..., "messages": [...]}``. Without one, a few built-in conversations are
played. The last line says what came of it; the exit status is 1 if a message was lost or is there twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from session_manager import Message, SessionManager, SessionManagerError

#: The messages of each conversation, by the key of its session.
Conversations = dict[str, list[Message]]

#: How long a kill is put off at random, in seconds: about the time of a few saves.
DELAY = 0.005

#: How long a worker that may not go on waits for its end, in seconds.
PATIENCE = 60

FLIGHT: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "find_flights", "arguments": '{"to": "OSL"}'},
}
DIALOGUES: dict[str, list[dict[str, Any]]] = {
    "travel": [
        {"role": "system", "content": "You help people to travel."},
        {"role": "user", "content": "How do I get to Oslo tomorrow?"},
        {"role": "assistant", "content": None, "tool_calls": [FLIGHT]},
        {"role": "tool", "tool_call_id": "call_1", "content": '[{"flight": "X1", "at": "7:40"}]'},
        {"role": "assistant", "content": "X1 leaves at 7:40."},
        {"role": "user", "content": "So early? 😴"},
        {"role": "assistant", "content": "It is the only one."},
    ],
    "kitchen": [
        {"role": "user", "content": "Was koche ich mit Grünkohl und Süßkartoffeln?"},
        {"role": "assistant", "content": "Einen Eintopf:\n\n1. schälen\n2. würfeln\n3. kochen"},
        {"role": "user", "content": [{"type": "text", "text": "And in Chinese, please: 炖菜"}]},
        {"role": "assistant", "content": "红薯羽衣甘蓝炖菜"},
    ],
    "echo": [
        {"role": "user", "content": "yes"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "yes"},
        {"role": "assistant", "content": "yes?"},
    ],
}


class ReplayError(Exception):
    """The replay could not be done as it was asked for."""


def read_conversations(path: str | None) -> Conversations:
    """Return the conversations in a file, or the built-in ones.

    :raises ReplayError: if it is not such a file.
    """
    if path is None:
        return {
            f"{name}:{chat}": [Message.from_dict(message) for message in dialogue]
            for chat in range(20)
            for name, dialogue in DIALOGUES.items()
        }
    conversations: Conversations = {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                recorded = json.loads(line)
                if recorded["key"] in conversations:
                    raise ReplayError(f"{path}: {recorded['key']} is there twice")
                conversations[recorded["key"]] = [Message.from_dict(message) for message in recorded["messages"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ReplayError(f"{path}: {type(error).__name__}: {error}") from error
    return conversations


# The worker, which is killed


def work(conversations: Conversations, storage: str, threads: int, limit: int) -> None:
    """Go on with every conversation where its session ends.

    :param limit: how many messages may be added; then wait to be killed.
    """
    permits = threading.Semaphore(limit)

    def play(key: str) -> None:
        saved = len(manager.get_history(key))
        for count, message in enumerate(conversations[key][saved:], saved + 1):
            if not permits.acquire(timeout=PATIENCE):
                raise ReplayError("this worker should have been killed long ago")
            manager.add(key, message)
            manager.save(key)
            # A short write to a pipe is atomic: neither a kill nor another thread tears the line apart.
            os.write(sys.stdout.fileno(), json.dumps([key, count]).encode() + b"\n")

    with SessionManager(storage) as manager, ThreadPoolExecutor(threads) as pool:
        list(pool.map(play, conversations))


# The check


@dataclass
class Tally:
    """What is in the storage, compared with what should be."""

    sessions: int = 0
    messages: int = 0
    lost: int = 0
    duplicated: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all that must be there is there, once."""
        return not self.problems


def check(storage: str, conversations: Conversations, acknowledged: dict[str, int]) -> Tally:
    """Compare what a fresh manager reads with the conversations.

    Each session must hold the first messages of its conversation, at least those that were acknowledged.
    """
    with SessionManager(storage) as manager:
        stored = {key: manager.get_history(key) for key in manager}
    tally = Tally(len(stored), sum(len(history) for history in stored.values()))
    for key in sorted(stored.keys() | conversations.keys()):
        history = stored.get(key, [])
        lost, duplicated = compare(conversations.get(key, []), history, acknowledged.get(key, 0))
        tally.lost += lost
        tally.duplicated += duplicated
        if lost or duplicated:
            tally.problems.append(f"{key}: {len(history)} messages, {lost} lost, {duplicated} duplicated")
    return tally


def compare(conversation: list[Message], history: list[Message], acknowledged: int) -> tuple[int, int]:
    """Return how many messages a history lacks, and how many it has too many.

    :param acknowledged: how many messages of the conversation it must have.
    """
    if history == conversation[: len(history)]:
        return max(acknowledged - len(history), 0), 0
    matcher = SequenceMatcher(None, conversation, history, autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    there = sum(block.size for block in blocks)
    reached = max([acknowledged, *(block.a + block.size for block in blocks)])
    return reached - there, len(history) - there


# The replay


class Progress:
    """One line that is rewritten on a terminal; elsewhere, a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._interval = 0.1 if self._terminal else 1.0
        self._next = 0.0

    def show(self, text: str) -> None:
        """Show the line, unless one was shown a moment ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval
            print(f"\r{text:<70}" if self._terminal else text, end="" if self._terminal else "\n", flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._terminal:
            print(f"\r{'':<70}\r", end="", flush=True)


class Replay:
    """Runs workers, kills all of them but the last, and checks what each one left.

    :param command: the command line of a worker, but for the limit of its messages.
    :param storage: where the sessions are kept.
    :param conversations: what is replayed.
    :param chance: decides when a worker is killed.
    """

    def __init__(self, command: list[str], storage: str, conversations: Conversations, chance: random.Random) -> None:
        self._command = command
        self._storage = storage
        self._conversations = conversations
        self._chance = chance
        self._total = self._left = sum(len(messages) for messages in conversations.values())
        self._acknowledged: dict[str, int] = {}
        self._progress = Progress()
        #: How many workers were killed.
        self.kills = 0

    def run(self, kills: int) -> Tally:
        """Replay what the storage does not hold yet; stop early if something is lost or duplicated.

        :param kills: how many workers are killed.
        :raises ReplayError: if there is too little left to replay for so many kills.
        """
        tally = self._check()
        if tally.good and kills and self._left <= kills:
            raise ReplayError(f"{self._left} messages are left to replay, too few for {kills} kills")
        while tally.good and self.kills < kills:
            self._run_killed(kills - self.kills)
            tally = self._check()
        if tally.good:
            self._run_to_the_end()
            tally = self._check()
        self._progress.end()
        return tally

    def _check(self) -> Tally:
        tally = check(self._storage, self._conversations, self._acknowledged)
        self._left = self._total - tally.messages
        return tally

    def _run_killed(self, kills: int) -> None:
        """Run a worker, and kill it at a random moment; it always leaves something to do for the kills after this one.

        :param kills: how many are to come, with this one: fewer than messages.
        """
        limit = self._left - kills
        kill_after = self._chance.randint(1, min(limit, 2 * self._left // (kills + 1)))
        with self._start(limit) as worker:
            try:
                for count in self._acknowledgements(worker):
                    if count == kill_after:
                        time.sleep(self._chance.uniform(0, DELAY))
                        worker.kill()
            finally:
                worker.kill()
        if worker.returncode != -signal.SIGKILL:
            raise ReplayError(f"the worker ended by itself, with exit status {worker.returncode}")
        self.kills += 1

    def _run_to_the_end(self) -> None:
        """Run a worker until it has done all that is left."""
        with self._start(self._left) as worker:
            try:
                for _ in self._acknowledgements(worker):
                    pass
                worker.wait()
            finally:
                worker.kill()
        if worker.returncode != 0:
            raise ReplayError(f"the worker failed, with exit status {worker.returncode}")
        self._acknowledged = {key: len(messages) for key, messages in self._conversations.items()}

    def _start(self, limit: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._command, str(limit)], stdout=subprocess.PIPE)  # noqa: S603 - this very program

    def _acknowledgements(self, worker: subprocess.Popen[bytes]) -> Iterator[int]:
        """Take down what a worker acknowledges, and count it, until the worker ends."""
        assert worker.stdout is not None
        for acknowledged, line in enumerate(worker.stdout, 1):
            key, count = json.loads(line)
            self._acknowledged[key] = count
            done = self._total - self._left + acknowledged
            self._progress.show(f"{done} of {self._total} messages, {self.kills} kills")
            yield acknowledged


# The command line


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Replay conversations through a manager that is killed all the time.")
    parser.add_argument("chats", nargs="?", metavar="CHATS.jsonl", help="the conversations (default: built-in ones)")
    parser.add_argument("--storage", help="where the sessions are kept (default: for as long as all is well)")
    parser.add_argument("--threads", type=int, default=8, help="how many conversations go on at once (default: 8)")
    parser.add_argument("--kills", type=int, default=20, help="how often the worker is killed (default: 20)")
    parser.add_argument("--seed", type=int, help="what decides when it is killed (default: a new one each time)")
    parser.add_argument("--worker", type=int, metavar="LIMIT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads < 1 or options.kills < 0:
        parser.error("--threads must be 1 or more, --kills 0 or more")
    return options


def replay(options: argparse.Namespace, conversations: Conversations) -> bool:
    """Run the replay, print what came of it, and return whether all is well."""
    seed = random.randrange(10**6) if options.seed is None else options.seed
    storage = options.storage or tempfile.mkdtemp(prefix="replay-")
    print(f"{len(conversations)} conversations, {options.threads} threads, seed {seed}, storage {storage}", flush=True)
    command = [sys.executable, __file__, "--storage", storage, "--threads", str(options.threads)]
    command += [options.chats] if options.chats else []
    run = Replay([*command, "--worker"], storage, conversations, random.Random(seed))
    tally = run.run(options.kills)
    if tally.good and not options.storage:
        shutil.rmtree(storage)
    print(*tally.problems, sep="\n", end="\n" if tally.problems else "")
    print(
        f"{tally.sessions} sessions, {tally.messages} messages, {run.kills} kills, "
        f"{tally.lost} lost, {tally.duplicated} duplicated"
    )
    return tally.good


def main() -> None:
    """Run the command line."""
    options = arguments()
    try:
        conversations = read_conversations(options.chats)
        if options.worker is not None:
            work(conversations, options.storage, options.threads, options.worker)
        elif not replay(options, conversations):
            sys.exit(1)
    except (ReplayError, SessionManagerError) as error:
        sys.exit(f"replay: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
