"""A fleet of workers that share the chats of one storage, get deliveries twice, and are killed: nothing is lost or answered twice.

Try ``python fleet.py --demo`` first, then a server of yours::

    python fleet.py --store postgresql://bot@db.internal/chats    # without --store: a temporary database of SQLite
    python fleet.py --store URL --routing chat                    # all deliveries of a chat to one worker
    python fleet.py --store URL --leases                          # one turn of a chat at a time, in the whole fleet

Each worker is a process with a manager of its own, as if it were on a machine of its own. This process stands for the
platform and its balancer: it gives each delivery to a worker, some of them to two at once, and kills workers with SIGKILL. A
delivery that no worker has acknowledged is delivered again. At the end it reads all chats, and says

* what was lost (acknowledged, and not there), doubled (there more than once), torn (a question without its answer behind it),
  or answered twice (with two texts): all of it must be 0;
* how many model calls were paid twice, and how many of these a kill had cut short;
* how many answers were blind: their model had not been shown all turns before.

Blind answers, and calls that are paid twice, are the price of workers that do not know each other. Routing by chat avoids
them for free; leases avoid them, too, wherever a delivery goes. What a kill has cut short is paid twice in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from session_manager import Lease, LeaseLostError, SessionManager, SessionManagerError, StorageError, Turn

#: How many deliveries each worker has in hand at most, each in a thread.
THREADS = 4
#: How many of 100 deliveries come twice, at the same time.
TWICE = 20
#: How long a worker waits before it gives up a delivery that it could not save, in seconds.
PAUSE = 0.05
#: How long the chat of a killed worker waits with ``--leases``, in seconds. In earnest it is a minute.
LEASE = 1.0
#: How long nothing may happen, in seconds.
PATIENCE = 60


class Delivery(NamedTuple):
    """A message of a user, as the platform delivers it: until a worker acknowledges it."""

    chat: str
    number: int


class FleetError(Exception):
    """The run could not be done as it was asked for."""


# A worker, which is killed


def work(storage: str, thinking: float, *, leases: bool) -> None:
    """Answer deliveries that come in as lines of JSON, several at once, until no more come."""
    lease = Lease(seconds=LEASE) if leases else None
    with SessionManager(storage, lease=lease) as manager, ThreadPoolExecutor(THREADS) as pool:
        for line in sys.stdin:
            pool.submit(answer, manager, Delivery(*json.loads(line)), thinking).add_done_callback(end_if_broken)


def end_if_broken(done: Future[None]) -> None:
    """End the worker if answering has failed in a way that nobody expects: the platform notices that."""
    error = done.exception()
    if error is not None:
        traceback.print_exception(error)
        os._exit(1)


def answer(manager: SessionManager, delivery: Delivery, thinking: float) -> None:
    """Answer a delivery in a turn, and acknowledge it when the turn is durable."""
    try:
        with manager.turn(delivery.chat, ref=f"delivery:{delivery.number}") as turn:
            if not turn.done:
                report("asked", delivery)
                turn.add_message("user", f"question {delivery.number}")
                turn.add_message("assistant", ask_model(turn, delivery.number, thinking))
        # Another worker may have answered it meanwhile: then these are its messages.
        report("answered", delivery, turn.messages[-1].content)
    except StorageError:  # such as a server that cannot be reached: the delivery comes again
        time.sleep(PAUSE)
        report("failed", delivery)
    except LeaseLostError:  # this worker stood still for too long, and another one has the chat now
        report("failed", delivery)


def ask_model(turn: Turn, number: int, thinking: float) -> str:
    """Ask the model, which is slow, and gives another answer each time. It says how many turns it was shown."""
    shown = sum(message["role"] == "user" for message in turn.get_context())
    time.sleep(thinking)
    return f"answer {secrets.token_hex(4)} to {number}, after {shown - 1} turns"


def report(what: str, delivery: Delivery, text: str = "") -> None:
    """Tell the platform. A short write to a pipe is atomic: neither a kill nor another thread tears the line apart."""
    os.write(sys.stdout.fileno(), json.dumps([what, *delivery, text]).encode() + b"\n")


# The platform


@dataclass
class Tally:
    """What workers have told, and what is in the chats at the end."""

    #: How often a model was asked, by the number of the delivery.
    asked: Counter[int] = field(default_factory=Counter)
    kills: int = 0
    #: How many calls of a model were cut short by a kill.
    cut_short: int = 0
    #: What each delivery was answered.
    answers: dict[int, set[str]] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    blind: int = 0

    @property
    def answered_twice(self) -> int:
        """How many deliveries were answered with more than one text."""
        return sum(len(texts) > 1 for texts in self.answers.values())

    @property
    def paid_twice(self) -> int:
        """How many calls of a model there were beyond one for each delivery."""
        return self.asked.total() - len(self.asked)

    @property
    def good(self) -> bool:
        """Whether the fleet has kept what it has acknowledged."""
        return not (self.lost or self.doubled or self.torn or self.answered_twice)

    def __str__(self) -> str:
        return (
            f"{len(self.answers)} deliveries acknowledged: {self.lost} lost, {self.doubled} doubled, {self.torn} torn, "
            f"{self.answered_twice} answered twice; {self.paid_twice} model calls paid twice "
            f"({self.cut_short} cut short by a kill), {self.blind} answers blind"
        )


class Worker:
    """A worker's process.

    :param command: its command line.
    :param reports: where a thread puts what it reports, and `None` when it has ended.
    """

    def __init__(self, command: Sequence[str], reports: queue.Queue[tuple[Worker, list[Any] | None]]) -> None:
        self._reports = reports
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - this very program
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.is_killed = False
        #: What it was given, and has not acknowledged.
        self.open: list[Delivery] = []
        #: The deliveries for which it has asked a model, and has no durable answer yet.
        self.thinking: set[Delivery] = set()

    def give(self, delivery: Delivery) -> None:
        """Give it a delivery. It may be dead already: then `reports` says so soon."""
        assert self._process.stdin is not None
        self.open.append(delivery)
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(delivery).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it by SIGKILL, whatever it is doing."""
        self.is_killed = True
        self._process.kill()

    def end(self) -> int:
        """Let it come to its end, and return its exit status."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._reader.join()
        return self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._reports.put((self, json.loads(line)))
        self._reports.put((self, None))


class Fleet:
    """Workers on one storage.

    :param command: the command line of a worker.
    :param size: how many workers there are.
    :param by_chat: whether all deliveries of a chat go to one worker, instead of to any.
    :param chance: decides where a delivery goes, and who is killed when.
    """

    def __init__(self, command: Sequence[str], size: int, chance: random.Random, *, by_chat: bool) -> None:
        self._command, self._chance, self._by_chat = command, chance, by_chat
        self._reports: queue.Queue[tuple[Worker, list[Any] | None]] = queue.Queue()
        self._workers = [self._start() for _ in range(size)]
        self._waiting: deque[Delivery] = deque()
        self._tally = Tally()

    def run(self, deliveries: Sequence[Delivery], kills: int) -> Tally:
        """Have all deliveries answered.

        :param kills: how many workers are killed meanwhile, each when some more deliveries were acknowledged.
        :returns: what the workers have told.
        """
        self._waiting.extend(deliveries)
        moments = sorted(self._chance.choices(range(1, len({*deliveries})), k=kills))
        while self._waiting or any(worker.open for worker in self._workers):
            self._give()
            self._take_in(*self._next())
            alive = [worker for worker in self._workers if not worker.is_killed]
            if alive and self._tally.kills < kills and moments[self._tally.kills] <= len(self._tally.answers):
                self._chance.choice(alive).kill()
                self._tally.kills += 1
        return self._tally

    def _next(self) -> tuple[Worker, list[Any] | None]:
        try:
            return self._reports.get(timeout=PATIENCE)
        except queue.Empty:
            raise FleetError(f"no worker has done anything for {PATIENCE} seconds") from None

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End all workers behind a block: gently, unless it fails."""
        try:
            yield
            for worker in self._workers:
                if worker.end() > 0:
                    raise FleetError("a worker has failed: see above")
        finally:
            for worker in self._workers:
                worker.kill()
                worker.end()

    def _start(self) -> Worker:
        return Worker(self._command, self._reports)

    def _give(self) -> None:
        """Give deliveries to workers, as long as these are not all busy."""
        while self._waiting and sum(len(worker.open) for worker in self._workers) < THREADS * len(self._workers):
            delivery = self._waiting.popleft()
            chosen = zlib.crc32(delivery.chat.encode()) if self._by_chat else self._chance.randrange(10**6)
            self._workers[chosen % len(self._workers)].give(delivery)

    def _take_in(self, worker: Worker, told: list[Any] | None) -> None:
        """Take in what a worker reports, or its end."""
        if told is None:
            self._replace(worker)
            return
        what, chat, number, text = told
        delivery = Delivery(chat, number)
        if what == "asked":
            self._tally.asked[number] += 1
            worker.thinking.add(delivery)
            return
        worker.open.remove(delivery)
        worker.thinking.discard(delivery)
        if what == "failed":
            self._waiting.append(delivery)
        else:
            self._tally.answers.setdefault(number, set()).add(text)

    def _replace(self, worker: Worker) -> None:
        """Start a new worker in the place of a dead one, and deliver again what this one has not acknowledged."""
        if worker.end() >= 0:
            raise FleetError("a worker has failed: see above")
        self._workers[self._workers.index(worker)] = self._start()
        self._waiting.extend(worker.open)
        self._tally.cut_short += len(worker.thinking)


# The check


ANSWER = re.compile(r"answer \w+ to (\d+), after (\d+) turns")


def check(storage: str, chats: Sequence[str], tally: Tally) -> None:
    """Read all chats, and count what is lost, doubled, torn, or blind."""
    with SessionManager(storage) as manager:
        judge([[message.content for message in manager.get_history(chat)] for chat in chats], tally)


def judge(histories: Sequence[Sequence[str]], tally: Tally) -> None:
    """Count what is lost, doubled, torn, or blind in the texts of some chats."""
    times = Counter(text for history in histories for text in history)
    questions = [text for text in times if text.startswith("question")]
    tally.doubled = sum(times[question] - 1 for question in questions)
    for number, answers in tally.answers.items():
        tally.lost += not all(times[text] for text in (f"question {number}", *answers))
    for history in histories:
        whole = [turn for turn in map(read_turn, history, [*history[1:], ""]) if turn is not None]
        tally.torn += sum(text.startswith("question") for text in history) - len(whole)
        tally.blind += sum(shown < place for place, shown in enumerate(whole))


def read_turn(question: str, text: str) -> int | None:
    """Return how many turns the model was shown, if a text is its answer to a question."""
    found = ANSWER.fullmatch(text)
    return int(found[2]) if found and question == f"question {found[1]}" else None


# The command line


def run(options: argparse.Namespace, storage: str, routing: str, *, leases: bool) -> bool:
    """Run a fleet, print what came of it, and return whether all is well."""
    chance = random.Random(options.seed)
    chats = [f"fleet-{secrets.token_hex(4)}:{number}" for number in range(options.chats)]
    deliveries = [Delivery(chance.choice(chats), number) for number in range(options.deliveries)]
    twice = chance.sample(deliveries, len(deliveries) * TWICE // 100)
    coming = [one for delivery in deliveries for one in [delivery] * (1 + (delivery in twice))]
    command = [sys.executable, __file__, "--worker", "--store", storage, "--thinking", str(options.thinking)]
    command += ["--leases"] if leases else []
    fleet = Fleet(command, options.workers, chance, by_chat=routing == "chat")
    with fleet.ending():
        tally = fleet.run(coming, options.kills)
    check(storage, chats, tally)
    told = f"routing {routing}{', leases' if leases else ''}, {len(twice)} delivered twice at once"
    print(f"{options.workers} workers, {tally.kills} kills, {told}")
    print(tally, flush=True)
    if tally.good:
        with SessionManager(storage) as manager:
            for chat in chats:
                manager.delete(chat)
    return tally.good


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Run workers that share chats, and are killed.")
    parser.add_argument("--demo", action="store_true", help="a small fleet, with each routing, and with leases")
    parser.add_argument("--store", metavar="URL", help="where the chats are (default: a temporary database of SQLite)")
    parser.add_argument("--workers", type=int, default=4, help="how many workers there are (default: 4)")
    parser.add_argument("--chats", type=int, default=6, help="how many chats there are (default: 6)")
    parser.add_argument("--deliveries", type=int, default=400, help="how many messages come in (default: 400)")
    parser.add_argument("--kills", type=int, default=10, help="how often a worker is killed (default: 10)")
    parser.add_argument("--routing", choices=["any", "chat"], default="any", help="who gets a delivery (default: any)")
    parser.add_argument("--leases", action="store_true", help="one turn of a chat at a time, in all workers")
    parser.add_argument("--thinking", type=float, default=0.05, help="how long the model takes (default: 0.05 s)")
    parser.add_argument("--seed", type=int, help="what decides where deliveries go (default: a new one each time)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.workers, options.chats, options.deliveries - 1) < 1 or min(options.kills, options.thinking) < 0:
        parser.error(
            "--workers and --chats must be 1 or more, --deliveries 2 or more, --kills and --thinking 0 or more"
        )
    if options.demo:
        options.workers, options.chats, options.deliveries, options.kills = 3, 3, 60, 3
    return options


def main() -> None:
    """Run the command line."""
    options = arguments()
    try:
        if options.worker:
            work(options.store, options.thinking, leases=options.leases)
            return
        with tempfile.TemporaryDirectory(prefix="fleet-") as directory:
            storage = options.store or f"sqlite:{os.path.join(directory, 'chats.db')}"
            ways = [("any", False), ("chat", False), ("any", True)]
            chosen = ways if options.demo else [(options.routing, options.leases)]
            done = [run(options, storage, routing, leases=leases) for routing, leases in chosen]
        sys.exit(0 if all(done) else 1)
    except (FleetError, SessionManagerError) as error:
        sys.exit(f"fleet: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
